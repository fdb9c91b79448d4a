//! Names of network interfaces by index, as each network namespace has them.
//!
//! An index means an interface within a namespace only. A value has the namespace's number above the index, 0 for the namespace of the
//! host's first process. What a namespace has is read from the procfs of a process in it, which takes no right to enter it: the
//! kernel has a file for each interface there (with IPv6), and lists of those that are up. A namespace that no process is in is
//! not seen.

use super::{Decode, Host, HostError, number::unsigned};
use crate::{container, host::require, name::escape, topology::Topology};
use std::{
    collections::HashMap,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
};
use tapster_ebpf::typed::Type;

/// Most interfaces that are read for a scrape, of all namespaces together.
const MOST_INTERFACES: usize = 1 << 16;
/// Most processes that are asked for their namespace.
const MOST_PROCESSES: usize = 1 << 16;
/// Most names that are kept of interfaces that may be gone; beyond it those that were unused for the longest time are forgotten.
const MOST_NAMES: usize = 4096;
/// Bits of a value that hold the index.
const INDEX_BITS: u32 = 32;

/// A namespace's number, 0 for the host's, and an index.
type InterfaceId = (u32, u32);

/// Interfaces by namespace and index.
#[derive(Debug)]
pub(super) struct InterfaceDecoder {
    proc: PathBuf,
    /// Whether values may name a namespace.
    has_namespaces: bool,
    /// What each namespace has, as this scrape read it.
    tables: HashMap<u32, HashMap<u32, String>>,
    /// Interfaces that this scrape may still read.
    left: usize,
    /// A process in each namespace, as it was found last, and whether this scrape has looked for them.
    processes: HashMap<u32, u32>,
    has_looked: bool,
    /// Names that were shown, and the scrape that last did so.
    names: HashMap<InterfaceId, (String, u64)>,
    scrape: u64,
    /// Most entries of `names`.
    pub(super) limit: usize,
}

impl InterfaceDecoder {
    /// Makes the decoder for a label of this type: in 32 bits there is room for an index only.
    pub(super) fn of(ty: &Type, host: &Host) -> Result<Self, HostError> {
        require("ifname", &first(&host.proc).join("net"))?;
        Ok(Self {
            proc: host.proc.clone(),
            has_namespaces: has_namespace(ty),
            tables: HashMap::new(),
            left: MOST_INTERFACES,
            processes: HashMap::new(),
            has_looked: false,
            names: HashMap::new(),
            scrape: 0,
            limit: MOST_NAMES,
        })
    }

    /// The name that an index has now; `None` if nothing has it, or the namespace cannot be read.
    fn present(&mut self, (namespace, index): InterfaceId) -> Option<String> {
        if !self.tables.contains_key(&namespace) {
            let table = self.read(namespace).unwrap_or_default();
            self.left = self.left.saturating_sub(table.len());
            self.tables.insert(namespace, table);
        }
        self.tables.get(&namespace)?.get(&index).cloned()
    }

    fn read(&mut self, namespace: u32) -> Option<HashMap<u32, String>> {
        if namespace == 0 {
            return Some(interfaces(&first(&self.proc).join("net"), self.left));
        }
        let process = self.process(namespace)?;
        let process = container::directory(&self.proc, process);
        let table = interfaces(&process.join("net"), self.left);
        // It may have ended meanwhile, and its number be that of a process elsewhere.
        (namespace_of(&process) == Some(namespace)).then_some(table)
    }

    /// A process in a namespace.
    fn process(&mut self, namespace: u32) -> Option<u32> {
        let is_in =
            |process: &u32| namespace_of(&container::directory(&self.proc, *process)) == Some(namespace);
        if let Some(process) = self.processes.get(&namespace).copied().filter(is_in) {
            return Some(process);
        }
        if !self.has_looked {
            self.has_looked = true;
            self.processes.clear();
            for process in container::processes(&self.proc).take(MOST_PROCESSES) {
                if let Some(of) = namespace_of(&container::directory(&self.proc, process)) {
                    self.processes.entry(of).or_insert(process);
                }
            }
        }
        self.processes.get(&namespace).copied()
    }

    /// Remembers the name of an interface for when it is gone.
    fn remember(&mut self, id: InterfaceId, name: &str) {
        if let Some(known) = self.names.get_mut(&id) {
            if known.0 != name {
                name.clone_into(&mut known.0);
            }
            known.1 = self.scrape;
            return;
        }
        if self.names.len() >= self.limit {
            let oldest = self.names.iter().min_by_key(|(_, (_, used))| *used).map(|(id, _)| *id);
            if let Some(oldest) = oldest {
                self.names.remove(&oldest);
            }
        }
        self.names.insert(id, (name.to_owned(), self.scrape));
    }
}

impl Decode for InterfaceDecoder {
    fn decode(&mut self, raw: &[u8]) -> Option<String> {
        let value = unsigned(raw);
        let index = u32::try_from(value & u64::from(u32::MAX)).ok()?;
        let namespace = if self.has_namespaces { u32::try_from(value >> INDEX_BITS).ok()? } else { 0 };
        if index == 0 {
            return Some("none".to_owned());
        }
        let id = (namespace, index);
        if let Some(name) = self.present(id) {
            self.remember(id, &name);
            return Some(name);
        }
        let scrape = self.scrape;
        Some(match self.names.get_mut(&id) {
            Some((name, used)) => {
                *used = scrape;
                name.clone()
            }
            None => index.to_string(),
        })
    }

    fn refresh(&mut self, _: &Arc<Topology>) {
        self.scrape += 1;
        self.tables.clear();
        self.left = MOST_INTERFACES;
        self.has_looked = false;
    }
}

/// Whether values of a type have room for a namespace above the index.
pub(super) fn has_namespace(ty: &Type) -> bool {
    !matches!(ty, Type::Int { bits: ..=32, .. })
}

/// The first process, whose namespace is the host's; this one where the first is hidden.
fn first(proc: &Path) -> PathBuf {
    let first = container::directory(proc, 1);
    if first.exists() { first } else { proc.join("self") }
}

/// The number of a process's network namespace.
fn namespace_of(process: &Path) -> Option<u32> {
    let link = fs::read_link(process.join("ns/net")).ok()?;
    link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

/// The interfaces of a namespace, at most this many, by the directory `net` of a process in it.
fn interfaces(net: &Path, most: usize) -> HashMap<u32, String> {
    let mut found = HashMap::new();
    for file in fs::read_dir(net.join("dev_snmp6")).into_iter().flatten().flatten().take(most) {
        // A name and the index within belong together: whatever is renamed meanwhile is another file.
        let index = fs::read_to_string(file.path()).ok().and_then(|text| {
            let mut words = text.lines().next()?.split_ascii_whitespace();
            words.next().filter(|word| *word == "ifIndex")?;
            words.next()?.parse().ok()
        });
        if let Some(index) = index {
            found.insert(index, escape(file.file_name().as_bytes()));
        }
    }
    // Without IPv6, and those whose packets are too small for it: each list has lines of an index and a name.
    for list in ["dev_mcast", "igmp"] {
        let text = fs::read(net.join(list)).unwrap_or_default();
        for line in text.split(|byte| *byte == b'\n') {
            let Some((index, name)) = listed(line) else { continue };
            if found.len() < most {
                found.entry(index).or_insert(name);
            }
        }
    }
    found
}

/// The index and the name in a line such as `2    eth0   1   0   01005e000001` or `2<tab>eth0      :  1  V3`.
fn listed(line: &[u8]) -> Option<(u32, String)> {
    let is_between = |byte: &u8| byte.is_ascii_whitespace() || *byte == b':';
    if line.first().is_none_or(is_between) {
        return None;
    }
    let mut words = line.split(is_between).filter(|word| !word.is_empty());
    let index = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
    Some((index, escape(words.next()?)))
}
