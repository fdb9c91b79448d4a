//! Files by build id, learnt from what processes have mapped, and their symbols.

use super::{
    UNKNOWN,
    mapping::{self, Inode, Mapping},
    shown,
};
use crate::{
    elf::{self, Symbols},
    sys::{Mapped, MappedFile, Mappings},
};
use aya::util::online_cpus;
use std::{
    collections::{HashMap, HashSet, VecDeque},
    ffi::OsStr,
    fmt::Write,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Most files known, and most processes followed; beyond it the oldest are forgotten.
const FILES: usize = 8192;
const PROCESSES: usize = 65_536;
/// Most processes that are remembered after they are gone, and most files of one.
const BEGUN: usize = 4096;
const PARTS: usize = 256;
/// Memory for symbols, bytes; beyond it those not used for the longest time are read again when they are needed.
const SYMBOLS_BYTES: usize = 64 << 20;
/// Most processes that are remembered to have a file, to open it where they see it.
const PLACES: usize = 4;

/// Build id with zeros behind it, as the kernel gives it.
type BuildId = [u8; 20];

/// What names a file's symbols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    BuildId(BuildId),
    /// A file without a build id.
    Inode(Inode),
}

/// A file that a process has mapped.
#[derive(Clone, Debug)]
struct Place {
    process: u32,
    from: u64,
    to: u64,
    path: PathBuf,
}

/// A file in the memory of a process.
#[derive(Clone, Copy, Debug)]
struct Part {
    from: u64,
    to: u64,
    offset: u64,
    key: Key,
}

/// Files, and what is known of them.
#[derive(Debug)]
pub(super) struct Files {
    proc: PathBuf,
    /// What the kernel tells of files that are mapped; `None` where it does not.
    told: Option<Mappings>,
    /// Where it does not: processes that were looked at, by what they run: after `exec` they are others.
    seen: HashMap<u32, PathBuf>,
    /// Files that were looked at.
    inodes: HashMap<Inode, Option<BuildId>>,
    places: HashMap<Key, Vec<Place>>,
    /// In the order they were found.
    order: VecDeque<Key>,
    symbols: HashMap<Key, Symbols>,
    /// The last used at the end.
    used: VecDeque<Key>,
    /// What processes have mapped since this runs, also those that are gone.
    begun: HashMap<u32, Vec<Part>>,
    begun_order: VecDeque<u32>,
    /// Build ids of which no process knows, for this scrape.
    missing: HashSet<BuildId>,
    /// What a process has mapped, while one stack of it is read.
    process: Option<(u32, Vec<Mapping>)>,
}

impl Files {
    /// Begins to follow what processes map: those that are there by looking at each, others as the kernel tells of them.
    pub(super) fn new(proc: PathBuf) -> Self {
        let cpus = online_cpus().map_err(|(_, error)| error);
        let told = cpus.and_then(|cpus| Mappings::open(&cpus));
        if let Err(error) = &told {
            tracing::warn!(%error, "programs that run for less than a second may stay unknown in stacks");
        }
        let mut files = Self {
            proc,
            told: told.ok(),
            seen: HashMap::new(),
            inodes: HashMap::new(),
            places: HashMap::new(),
            order: VecDeque::new(),
            symbols: HashMap::new(),
            used: VecDeque::new(),
            begun: HashMap::new(),
            begun_order: VecDeque::new(),
            missing: HashSet::new(),
            process: None,
        };
        if files.told.is_some() {
            files.look_at_all();
        }
        files
    }

    /// Takes in which files were mapped since the last time.
    pub(super) fn look(&mut self) {
        self.missing.clear();
        let Some(told) = &mut self.told else { return self.look_at_new() };
        let mut mapped = Vec::new();
        let lost = told.read(|one| mapped.push(one));
        for Mapped { process, from, to, offset, file, path } in mapped {
            let place = Place { process, from, to, path };
            let key = match file {
                MappedFile::BuildId(id) => {
                    let key = Key::BuildId(padded(&id));
                    self.add(key, place);
                    key
                }
                MappedFile::Inode(device, number) => self.look_at_file(Inode { device, number }, place),
            };
            self.remember(process, Part { from, to, offset, key });
        }
        if lost {
            self.look_at_all();
        }
    }

    /// Looks at processes that are new, or run something else than before.
    fn look_at_new(&mut self) {
        let mut seen = HashMap::with_capacity(self.seen.len());
        for process in processes(&self.proc).take(PROCESSES) {
            // Threads of the kernel run nothing.
            let Ok(runs) = fs::read_link(self.directory(process).join("exe")) else { continue };
            if self.seen.get(&process) != Some(&runs) {
                self.look_at(process);
            }
            seen.insert(process, runs);
        }
        self.seen = seen;
    }

    /// Looks at what every process has mapped by now: they load libraries as they run.
    fn look_at_all(&mut self) {
        for process in processes(&self.proc).take(PROCESSES) {
            self.look_at(process);
        }
    }

    fn directory(&self, process: u32) -> PathBuf {
        self.proc.join(process.to_string())
    }

    fn look_at(&mut self, process: u32) {
        for mapping in mappings(&self.directory(process)) {
            let Some(inode) = mapping.inode else { continue };
            let place = Place { process, from: mapping.from, to: mapping.to, path: mapping.path };
            self.look_at_file(inode, place);
        }
    }

    /// Remembers what a process has mapped for when it is gone.
    fn remember(&mut self, process: u32, part: Part) {
        if !self.begun.contains_key(&process) {
            if self.begun_order.len() >= BEGUN
                && let Some(oldest) = self.begun_order.pop_front()
            {
                self.begun.remove(&oldest);
            }
            self.begun_order.push_back(process);
        }
        let parts = self.begun.entry(process).or_default();
        // After `exec`, or in another process of that number, it is something else that is there.
        parts.retain(|known| known.to <= part.from || part.to <= known.from);
        if parts.len() >= PARTS {
            parts.remove(0);
        }
        parts.push(part);
    }

    fn look_at_file(&mut self, inode: Inode, place: Place) -> Key {
        let build_id = match self.inodes.get(&inode) {
            Some(known) => *known,
            None => {
                let build_id = self.open(&place).and_then(elf::build_id).map(|id| padded(&id));
                if self.inodes.len() >= FILES {
                    self.inodes.clear();
                }
                self.inodes.insert(inode, build_id);
                build_id
            }
        };
        let key = build_id.map_or(Key::Inode(inode), Key::BuildId);
        self.add(key, place);
        key
    }

    fn add(&mut self, key: Key, place: Place) {
        if !self.places.contains_key(&key) {
            if self.order.len() >= FILES
                && let Some(oldest) = self.order.pop_front()
            {
                self.places.remove(&oldest);
            }
            self.order.push_back(key);
        }
        let places = self.places.entry(key).or_default();
        if places.iter().any(|known| known.process == place.process) {
            return;
        }
        // The newest lives longest, most likely.
        if places.len() >= PLACES {
            places.remove(0);
        }
        places.push(place);
    }

    /// Opens a file where its process sees it: it may have another root, and the file may have been replaced.
    fn open(&self, place: &Place) -> Option<File> {
        let process = self.directory(place.process);
        let within = place.path.strip_prefix("/").unwrap_or(&place.path);
        let ways = [
            process.join("map_files").join(format!("{:x}-{:x}", place.from, place.to)),
            process.join("root").join(within),
            place.path.clone(),
        ];
        ways.iter().find_map(|path| {
            let file = File::open(path).ok()?;
            file.metadata().ok()?.is_file().then_some(file)
        })
    }

    /// The function at a place of a file; the file and the address where it has no symbol there.
    pub(super) fn name(&mut self, build_id: &BuildId, offset: u64) -> String {
        let key = Key::BuildId(*build_id);
        if !self.places.contains_key(&key) && self.missing.insert(*build_id) {
            self.look_at_all();
        }
        if !self.places.contains_key(&key) {
            if i64::try_from(offset).is_err() {
                return UNKNOWN.into();
            }
            let mut id = String::new();
            for byte in &build_id[..4] {
                let _ = write!(id, "{byte:02x}");
            }
            return format!("[{id}+{offset:#x}]");
        }
        self.name_at(key, offset)
    }

    /// The function at an address of a process; `None` if that is gone or has nothing there.
    pub(super) fn name_in(&mut self, process: u32, address: u64) -> Option<String> {
        if process == 0 {
            return None;
        }
        if self.process.as_ref().is_none_or(|(known, _)| *known != process) {
            self.process = Some((process, mappings(&self.directory(process)).collect()));
        }
        let (_, mappings) = self.process.as_ref()?;
        if mappings.is_empty() {
            let parts = self.begun.get(&process)?;
            let part = *parts.iter().rev().find(|part| (part.from..part.to).contains(&address))?;
            return Some(self.name_at(part.key, address - part.from + part.offset));
        }
        let mapping = mappings.iter().find(|mapping| (mapping.from..mapping.to).contains(&address))?.clone();
        let offset = address - mapping.from + mapping.offset;
        let Some(inode) = mapping.inode else {
            // Memory without a name is code made as the program runs.
            return Some(mapping.path.to_str().filter(|name| name.starts_with('['))?.to_owned());
        };
        self.look_at(process);
        let build_id = self.inodes.get(&inode).copied().flatten();
        Some(self.name_at(build_id.map_or(Key::Inode(inode), Key::BuildId), offset))
    }

    /// Forgets what the last process has mapped: it may be another by the next stack.
    pub(super) fn forget_process(&mut self) {
        self.process = None;
    }

    fn name_at(&mut self, key: Key, offset: u64) -> String {
        self.read(key);
        let symbols = self.symbols.get(&key);
        if let Some(symbol) = symbols.and_then(|symbols| symbols.at(offset)) {
            return shown(symbol);
        }
        // Where a program keeps no frame pointers, the kernel takes data for addresses, and looks them up like these.
        let address = match symbols {
            Some(symbols) => symbols.address(offset),
            None => i64::try_from(offset).is_ok().then_some(offset),
        };
        let Some(address) = address else { return UNKNOWN.into() };
        let place = self.places.get(&key).and_then(|places| places.last());
        let file = place.and_then(|place| place.path.file_name()).map(OsStr::to_string_lossy);
        // A file that was replaced has this behind its name.
        let file = file.as_deref().unwrap_or("?").trim_end_matches(" (deleted)");
        format!("[{}+{address:#x}]", shown(file))
    }

    /// Makes sure that a file's symbols are at hand, if it can still be read.
    fn read(&mut self, key: Key) {
        self.used.retain(|used| *used != key);
        self.used.push_back(key);
        if self.symbols.contains_key(&key) {
            return;
        }
        let places = self.places.get(&key).cloned().unwrap_or_default();
        let is_it = |file: &File| match key {
            Key::BuildId(wanted) => {
                file.try_clone().ok().and_then(elf::build_id).is_some_and(|id| padded(&id) == wanted)
            }
            Key::Inode(inode) => file.metadata().is_ok_and(|found| found.ino() == inode.number),
        };
        let file = places.iter().rev().find_map(|place| self.open(place).filter(is_it));
        let Some(symbols) = file.and_then(|file| Symbols::read(file).ok()) else { return };
        self.symbols.insert(key, symbols);
        let mut bytes: usize = self.symbols.values().map(Symbols::memory).sum();
        while bytes > SYMBOLS_BYTES && self.used.len() > 1 {
            let Some(oldest) = self.used.pop_front() else { break };
            bytes -= self.symbols.remove(&oldest).map_or(0, |symbols| symbols.memory());
        }
    }
}

/// A build id as the kernel gives it.
fn padded(id: &[u8]) -> BuildId {
    let mut padded = BuildId::default();
    for (to, from) in padded.iter_mut().zip(id) {
        *to = *from;
    }
    padded
}

fn processes(proc: &Path) -> impl Iterator<Item = u32> + use<> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn mappings(process: &Path) -> impl Iterator<Item = Mapping> + use<> {
    let text: io::Result<Vec<u8>> = fs::read(process.join("maps"));
    let text = String::from_utf8_lossy(&text.unwrap_or_default()).into_owned();
    let found: Vec<Mapping> = text.lines().filter_map(mapping::parse).collect();
    found.into_iter()
}
