//! Functions of programs by address and process.
//!
//! A scrape comes later than the event, and the process may have ended: its mappings are known from the kernel's reports, as for
//! stacks, and its files are read by the same rules. The address itself is never shown: it tells where the program is in memory.

use super::{Decode, Host, number::unsigned};
use crate::{
    container,
    symbol::{Frame, Symbols},
    topology::Topology,
};
use std::{collections::HashMap, fs, path::PathBuf, sync::Arc};

/// Most addresses whose text is remembered; of others it is made again at each scrape.
const TEXTS: usize = 1 << 16;
/// The first namespace of processes, whose numbers programs in the kernel see: `PROC_PID_INIT_INO` of `include/linux/proc_ns.h`.
const FIRST_NAMESPACE: &str = "pid:[4026531836]";

/// An address and a process.
type ProgramAddress = (u64, u32);

/// Functions by address and process.
#[derive(Debug)]
pub(super) struct UsymDecoder {
    symbols: Arc<Symbols>,
    /// Where processes are looked for; `None` if they have other numbers there than in the kernel, or are hidden.
    proc: Option<PathBuf>,
    /// Texts that will not change any more, until their rows have left the map.
    pub(super) texts: HashMap<ProgramAddress, String>,
    /// Whether each process has ended, as it was found since the last look.
    ended: HashMap<u32, bool>,
}

fn parts(raw: &[u8]) -> Option<ProgramAddress> {
    let (address, process) = raw.split_at_checked(8)?;
    Some((unsigned(address), u32::try_from(unsigned(process)).ok()?))
}

impl UsymDecoder {
    pub(super) fn new(host: &Host, symbols: &Arc<Symbols>) -> Self {
        symbols.want_files();
        // The namespace of the first process is not shown to everybody, and this process is in the same one or in one below.
        let is_first = |process: &str| {
            let link = fs::read_link(host.proc.join(process).join("ns/pid"));
            link.is_ok_and(|link| link.as_os_str() == FIRST_NAMESPACE)
        };
        let sees_all = container::directory(&host.proc, 1).exists() && (is_first("1") || is_first("self"));
        Self {
            symbols: symbols.clone(),
            proc: sees_all.then(|| host.proc.clone()),
            texts: HashMap::new(),
            ended: HashMap::new(),
        }
    }

    fn has_ended(&mut self, process: u32) -> bool {
        let Some(proc) = &self.proc else { return false };
        *self.ended.entry(process).or_insert_with(|| !container::directory(proc, process).exists())
    }
}

impl Decode for UsymDecoder {
    fn decode(&mut self, raw: &[u8]) -> Option<String> {
        let id @ (address, process) = parts(raw)?;
        if address == 0 {
            return Some("none".to_owned());
        }
        if let Some(text) = self.texts.get(&id) {
            return Some(text.clone());
        }
        let mut names = self.symbols.names(&[Frame::Address(address)], process);
        let text = names.list.pop()?;
        if names.are_final && self.texts.len() < TEXTS {
            self.texts.insert(id, text.clone());
        }
        Some(text)
    }

    fn refresh(&mut self, _: &Arc<Topology>) {
        self.symbols.refresh();
        self.look();
    }

    fn look(&mut self) {
        self.ended.clear();
    }

    /// The row of a process that has ended leaves the map once its text is final.
    fn is_gone(&mut self, raw: &[u8]) -> bool {
        let Some(id) = parts(raw) else { return false };
        (id.0 == 0 || self.texts.contains_key(&id)) && self.has_ended(id.1)
    }

    fn forget_gone(&mut self) {
        // Another process may get the number.
        let mut texts = std::mem::take(&mut self.texts);
        texts.retain(|(_, process), _| !self.has_ended(*process));
        self.texts = texts;
    }
}
