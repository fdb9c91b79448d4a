//! What is known about files by their build id, and about the mappings of processes. Nothing is read here: what is missing
//! becomes a [`Job`], and the reader puts the result here. So the lock around this is never held while a file or a process does
//! not answer.

use super::{
    UNKNOWN,
    frame::Frame,
    mapping::Inode,
    patience::Patience,
    shown,
    unread::{UnreadCounts, UnreadReason},
};
use crate::{elf::FileSymbols, sys::Identity};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    ffi::OsStr,
    fmt::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// Most files that are known; beyond it the oldest are forgotten.
const FILES: usize = 4096;
/// Most bytes of names of files: anybody may make many files with long names, which must not take all memory.
const PATHS: usize = 4 << 20;
/// Most processes whose mappings are remembered after they end, most files of one process, and of all.
const BEGUN: usize = 4096;
const PARTS: usize = 256;
const ALL_PARTS: usize = 1 << 16;
/// Memory for symbols, bytes; beyond it the symbols unused for the longest time are dropped, and read again when they are
/// needed.
const SYMBOLS_BYTES: usize = 24 << 20;
/// Most processes that are remembered for a file, to open it through one of them.
const FILE_MAPPINGS: usize = 4;
/// Most jobs that are not done yet.
const JOBS: usize = 4096;
/// How long the mappings of a process, and the absence of a build id, are taken as known.
const FRESH: Duration = Duration::from_secs(1);
const MISSING: Duration = Duration::from_secs(10);

/// A build id padded with zeros, as the kernel reports it.
pub(super) type BuildId = [u8; 20];

/// Identifies the symbols of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum SymbolsKey {
    BuildId(BuildId),
    /// A file without a build id, by its identity.
    File(Identity),
}

/// A file that a process has mapped.
#[derive(Clone, Debug)]
pub(super) struct FileMapping {
    pub(super) process: u32,
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) path: Arc<Path>,
    /// Device and inode of the file, as `stat` reports them, if the process was seen to share this process's root and mount
    /// namespace.
    pub(super) seen: Option<(u64, u64)>,
}

/// A file in the memory of a process.
#[derive(Clone, Debug)]
pub(super) struct MappedRange {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) offset: u64,
    pub(super) of: RangeContent,
}

/// What a range of memory maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RangeContent {
    File(SymbolsKey),
    /// A file that was mapped but not read yet. Its identity is unknown, because another file may have had its number before.
    Unseen(UnidentifiedFile),
    /// Such a file, by its name, whose process has ended or no longer maps it: its identity will stay unknown.
    Gone(Arc<Path>),
    /// `[vdso]` and its like.
    Kernel(Arc<str>),
    /// Code that a program generates while it runs.
    Nothing,
}

/// A mapped file for which the kernel reports no build id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnidentifiedFile {
    pub(super) inode: Inode,
    pub(super) path: Arc<Path>,
    /// When it was mapped, or a moment later.
    pub(super) told: SystemTime,
}

/// A request to the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Job {
    /// The mappings of every process.
    All,
    /// The mappings of processes that are new or execute another program than before.
    New,
    /// The process that has a file with this build id.
    Find(BuildId),
    /// The mappings of a process.
    Process(u32),
    /// The identity of a mapped file, as long as its process exists.
    See(SymbolsKey),
    /// The symbols of a file.
    Symbols(SymbolsKey),
}

/// The symbols of a file, and when they were last used.
#[derive(Debug)]
struct CachedSymbols {
    found: Result<Arc<FileSymbols>, UnreadReason>,
    used: u64,
}

/// A mapping that the kernel reported for a process, and when.
#[derive(Debug)]
struct ReportedMapping {
    at: SystemTime,
    part: MappedRange,
}

/// The mappings of a process when it was read.
#[derive(Debug)]
struct ProcessMappings {
    at: Instant,
    /// When the process began; `None` if that is unknown.
    began: Option<SystemTime>,
    parts: Vec<MappedRange>,
}

impl ProcessMappings {
    fn is_fresh(&self) -> bool {
        self.at.elapsed() < FRESH
    }

    /// Whether the report is about an earlier process with the same number.
    fn is_others(&self, told: &ReportedMapping) -> bool {
        self.began.is_some_and(|began| told.at < began)
    }
}

/// What is known of files and processes: identities, mappings, symbols; and the jobs that read more.
#[derive(Debug, Default)]
pub(super) struct SymbolCache {
    /// Files that were read, by the inode that each had last.
    inodes: HashMap<Inode, (Identity, Option<BuildId>)>,
    mappings: HashMap<SymbolsKey, Vec<FileMapping>>,
    /// The keys of `mappings` in the order in which they were found.
    order: VecDeque<SymbolsKey>,
    path_bytes: usize,
    tables: HashMap<SymbolsKey, CachedSymbols>,
    uses: u64,
    /// Reported mappings since this process began, also of processes that have ended.
    begun: HashMap<u32, Vec<ReportedMapping>>,
    begun_order: VecDeque<u32>,
    begun_parts: usize,
    /// Build ids that no process has mapped, and since when.
    missing: HashMap<BuildId, Instant>,
    /// When the identity of each file was last looked up: files of other roots are mapped again and again.
    sought: HashMap<SymbolsKey, Instant>,
    /// The present mappings of processes.
    processes: HashMap<u32, ProcessMappings>,
    /// Jobs in order of request. `asked` has these and the one being done.
    pub(super) jobs: VecDeque<Job>,
    asked: HashSet<Job>,
    pub(super) patience: Patience,
    pub(super) unread: UnreadCounts,
    /// Whether the reader is to end.
    pub(super) is_over: bool,
}

impl SymbolCache {
    /// Adds a job, unless it is already there.
    pub(super) fn ask(&mut self, job: Job) {
        if self.asked.len() < JOBS && self.asked.insert(job) {
            self.jobs.push_back(job);
        }
    }

    /// Removes a job that was done or never will be.
    pub(super) fn answered(&mut self, job: Job) {
        self.asked.remove(&job);
        if let Job::See(key) = job {
            self.sought.retain(|_, since| since.elapsed() < FRESH);
            self.sought.insert(key, Instant::now());
        }
    }

    /// Whether any job is for missing names.
    pub(super) fn is_lacking(&self) -> bool {
        let is_for_names = |job: &Job| matches!(job, Job::Find(_) | Job::Process(_) | Job::Symbols(_));
        !self.is_over && self.asked.iter().any(is_for_names)
    }

    /// The jobs that are missing to name frames.
    pub(super) fn lacking(&self, frames: &[Frame], process: u32) -> Vec<Job> {
        let mut lacking = Vec::new();
        for (depth, frame) in frames.iter().enumerate() {
            let job = match frame {
                Frame::Kernel(_) => None,
                Frame::File { build_id, .. } => self.lacking_of(SymbolsKey::BuildId(*build_id)),
                Frame::Address(address) => self.lacking_at(process, back(*address, depth)),
            };
            lacking.extend(job);
        }
        lacking.sort_unstable_by_key(|job| matches!(job, Job::Symbols(_)));
        lacking.dedup();
        lacking
    }

    fn lacking_of(&self, key: SymbolsKey) -> Option<Job> {
        if self.tables.contains_key(&key) {
            return None;
        }
        match key {
            SymbolsKey::BuildId(id) if !self.mappings.contains_key(&key) => {
                let is_missing = self.missing.get(&id).is_some_and(|since| since.elapsed() < MISSING);
                (!is_missing).then_some(Job::Find(id))
            }
            _ => Some(Job::Symbols(key)),
        }
    }

    fn lacking_at(&self, process: u32, address: u64) -> Option<Job> {
        if process == 0 {
            return None;
        }
        let of = self.part(process, address).map(|part| &part.of);
        match of {
            // Reading the process again would not help.
            Some(RangeContent::Gone(_)) => None,
            _ if !self.processes.get(&process).is_some_and(ProcessMappings::is_fresh) => {
                Some(Job::Process(process))
            }
            Some(RangeContent::File(key)) => self.lacking_of(*key),
            _ => None,
        }
    }

    /// The name of a frame, and whether it is final.
    pub(super) fn name(&mut self, frame: &Frame, depth: usize, process: u32) -> Option<(String, bool)> {
        match frame {
            Frame::Kernel(_) => None,
            Frame::File { build_id, offset } => Some(self.name_of(build_id, back(*offset, depth))),
            Frame::Address(address) => {
                let address = back(*address, depth);
                let is_final = self.lacking_at(process, address).is_none();
                let unknown = || (UNKNOWN.to_owned(), is_final);
                let Some(part) = self.part(process, address).filter(|_| process != 0) else {
                    return Some(unknown());
                };
                let offset = (address - part.from).saturating_add(part.offset);
                Some(match part.of.clone() {
                    RangeContent::File(key) => self.name_at(key, offset),
                    // Reading the process again may help.
                    RangeContent::Unseen(UnidentifiedFile { path, .. }) => (in_file(&path, offset), false),
                    RangeContent::Gone(path) => (in_file(&path, offset), true),
                    RangeContent::Kernel(name) => (name.as_ref().to_owned(), true),
                    RangeContent::Nothing => unknown(),
                })
            }
        }
    }

    /// The mapping of a process at an address, or the last one there.
    fn part(&self, process: u32, address: u64) -> Option<&MappedRange> {
        let has = |part: &MappedRange| (part.from..part.to).contains(&address);
        let told = || self.begun.get(&process)?.iter().rev().find(|told| has(&told.part));
        let looked = self.processes.get(&process);
        let now = looked.and_then(|looked| Some((looked, looked.parts.iter().find(|part| has(part))?)));
        match (now, told()) {
            // Process numbers are reused: the reports of the new process would replace this one.
            (Some((looked, _)), Some(told)) if looked.is_others(told) => Some(&told.part),
            (Some((_, part)), _) => Some(part),
            (None, told) => told.map(|told| &told.part),
        }
    }

    /// The function at an offset in a file; the file and the address if it has no symbol there.
    fn name_of(&mut self, build_id: &BuildId, offset: u64) -> (String, bool) {
        let key = SymbolsKey::BuildId(*build_id);
        if self.mappings.contains_key(&key) || self.tables.contains_key(&key) {
            return self.name_at(key, offset);
        }
        let is_final = self.lacking_of(key).is_none();
        if i64::try_from(offset).is_err() {
            return (UNKNOWN.into(), is_final);
        }
        let mut id = String::new();
        for byte in &build_id[..4] {
            let _ = write!(id, "{byte:02x}");
        }
        (format!("[{id}+{offset:#x}]"), is_final)
    }

    fn name_at(&mut self, key: SymbolsKey, offset: u64) -> (String, bool) {
        self.uses += 1;
        let table = self.tables.get_mut(&key).map(|table| {
            table.used = self.uses;
            table.found.as_ref().map(Arc::clone).map_err(|reason| *reason)
        });
        // A late file may still be read.
        let is_final = !matches!(table, None | Some(Err(UnreadReason::Slow)));
        let symbols = table.and_then(Result::ok);
        if let Some(symbol) = symbols.as_ref().and_then(|symbols| symbols.at(offset)) {
            return (shown(symbol), true);
        }
        // If a program keeps no frame pointers, the kernel mistakes data for addresses, and reports them like these.
        let address = match &symbols {
            Some(symbols) => symbols.address(offset),
            None => i64::try_from(offset).is_ok().then_some(offset),
        };
        let Some(address) = address else { return (UNKNOWN.into(), is_final) };
        (in_file(&self.path(key), address), is_final)
    }

    /// The key of a file that was read, if its inode number still belongs to the same file.
    pub(super) fn looked_at(&self, inode: Inode, identity: Identity) -> Option<SymbolsKey> {
        let (_, build_id) = self.inodes.get(&inode).filter(|(known, _)| *known == identity)?;
        Some(build_id.map_or(SymbolsKey::File(identity), SymbolsKey::BuildId))
    }

    /// Notes a file that was read.
    pub(super) fn look_at(
        &mut self,
        inode: Inode,
        identity: Identity,
        build_id: Option<BuildId>,
    ) -> SymbolsKey {
        if self.inodes.len() >= FILES {
            self.inodes.clear();
        }
        self.inodes.insert(inode, (identity, build_id));
        build_id.map_or(SymbolsKey::File(identity), SymbolsKey::BuildId)
    }

    /// Notes that a process has mapped a file.
    pub(super) fn add(&mut self, key: SymbolsKey, mapping: FileMapping) {
        if let SymbolsKey::BuildId(id) = key {
            self.missing.remove(&id);
        }
        let is_gone =
            |table: &CachedSymbols| matches!(table.found, Err(UnreadReason::Gone | UnreadReason::Private));
        if self.tables.get(&key).is_some_and(is_gone) {
            self.tables.remove(&key);
        }
        if !self.mappings.contains_key(&key) {
            self.order.push_back(key);
        }
        let mappings = self.mappings.entry(key).or_default();
        if let Some(known) = mappings.iter_mut().find(|known| known.process == mapping.process) {
            known.seen = known.seen.or(mapping.seen);
            return;
        }
        self.path_bytes += bytes(&mapping.path);
        // The newest process probably lives longest; but one through which the file was identified stays.
        if mappings.len() >= FILE_MAPPINGS {
            let oldest = mappings.iter().position(|known| known.seen.is_none()).unwrap_or(0);
            self.path_bytes -= bytes(&mappings.remove(oldest).path);
        }
        mappings.push(mapping);
        while self.order.len() > FILES || self.path_bytes > PATHS && self.order.len() > 1 {
            let Some(oldest) = self.order.pop_front() else { break };
            let gone = self.mappings.remove(&oldest).unwrap_or_default();
            self.path_bytes -= gone.iter().map(|mapping| bytes(&mapping.path)).sum::<usize>();
        }
    }

    /// The processes that have mapped a file.
    pub(super) fn mappings(&self, key: SymbolsKey) -> Vec<FileMapping> {
        self.mappings.get(&key).cloned().unwrap_or_default()
    }

    /// Whether the identity of a file is still unknown and not looked up lately.
    pub(super) fn is_unseen(&self, key: SymbolsKey) -> bool {
        let is_seen = |mappings: &Vec<FileMapping>| mappings.iter().any(|mapping| mapping.seen.is_some());
        let is_sought = self.sought.get(&key).is_some_and(|since| since.elapsed() < FRESH);
        !is_sought
            && self.tables.get(&key).is_none_or(|table| table.found.is_err())
            && !self.mappings.get(&key).is_some_and(is_seen)
    }

    /// Notes the identity of a file.
    pub(super) fn see(&mut self, key: SymbolsKey, process: u32, file: (u64, u64)) {
        let mappings = self.mappings.get_mut(&key).into_iter().flatten();
        for mapping in mappings.filter(|mapping| mapping.process == process) {
            mapping.seen = Some(file);
        }
    }

    /// Remembers a mapping of a process for when it has ended, and the time of the report.
    pub(super) fn remember(&mut self, process: u32, part: MappedRange, at: SystemTime) {
        if !self.begun.contains_key(&process) {
            self.begun_order.push_back(process);
        }
        let parts = self.begun.entry(process).or_default();
        self.begun_parts -= parts.len();
        // After `exec`, or in another process with that number, other files are mapped there.
        parts.retain(|known| known.part.to <= part.from || part.to <= known.part.from);
        if parts.len() >= PARTS {
            parts.remove(0);
        }
        parts.push(ReportedMapping { at, part });
        self.begun_parts += parts.len();
        while self.begun_order.len() > BEGUN || self.begun_parts > ALL_PARTS {
            let Some(oldest) = self.begun_order.pop_front() else { break };
            self.begun_parts -= self.begun.remove(&oldest).map_or(0, |parts| parts.len());
        }
    }

    /// Whether mappings of a process are remembered.
    pub(super) fn is_remembered(&self, process: u32) -> bool {
        self.begun.contains_key(&process)
    }

    fn told(&mut self, process: u32) -> impl Iterator<Item = &mut ReportedMapping> {
        self.begun.get_mut(&process).into_iter().flatten()
    }

    /// Files that a process was reported to have mapped and whose identity is unknown.
    pub(super) fn unseen(&self, process: u32) -> Vec<UnidentifiedFile> {
        let told = self.begun.get(&process).into_iter().flatten();
        let unseen = |told: &ReportedMapping| match &told.part.of {
            RangeContent::Unseen(unseen) => Some(unseen.clone()),
            _ => None,
        };
        told.filter_map(unseen).collect()
    }

    /// Notes the identity of one of them.
    pub(super) fn settle(&mut self, process: u32, unseen: &UnidentifiedFile, key: SymbolsKey) {
        for ReportedMapping { part, .. } in self.told(process) {
            if part.of == RangeContent::Unseen(unseen.clone()) {
                part.of = RangeContent::File(key);
            }
        }
    }

    /// Ends the search for files that were reported before `looked`, when reading the mappings began, and were not found: the
    /// process has ended or no longer maps them.
    pub(super) fn end(&mut self, process: u32, looked: SystemTime) {
        for ReportedMapping { part, .. } in self.told(process) {
            if let RangeContent::Unseen(unseen) = &part.of
                && unseen.told <= looked
            {
                part.of = RangeContent::Gone(unseen.path.clone());
            }
        }
    }

    /// Notes the present mappings of a process, and when it began; no mappings if it has ended.
    pub(super) fn set_process(&mut self, process: u32, began: Option<SystemTime>, parts: Vec<MappedRange>) {
        self.processes.retain(|_, looked| looked.is_fresh());
        let looked = ProcessMappings { at: Instant::now(), began, parts };
        for told in self.told(process).filter(|told| !looked.is_others(told)) {
            let is_it = |part: &&MappedRange| part.from <= told.part.from && told.part.from < part.to;
            if let (RangeContent::Unseen(_) | RangeContent::Gone(_), Some(part)) =
                (&told.part.of, looked.parts.iter().find(is_it))
            {
                told.part.of = part.of.clone();
            }
        }
        self.processes.insert(process, looked);
    }

    /// Notes that no process has a file with this build id.
    pub(super) fn miss(&mut self, id: BuildId) {
        if self.missing.len() >= FILES {
            self.missing.clear();
        }
        if !self.mappings.contains_key(&SymbolsKey::BuildId(id)) {
            self.missing.insert(id, Instant::now());
        }
    }

    /// Notes the symbols of a file, or why there are none.
    pub(super) fn set_symbols(&mut self, key: SymbolsKey, found: Result<FileSymbols, UnreadReason>) {
        self.uses += 1;
        let why = match &found {
            Ok(symbols) => symbols.lacking.as_ref().map(UnreadReason::from),
            Err(reason) => Some(*reason),
        };
        if let Some(reason) = why {
            let path = self.path(key);
            self.unread.count(reason, &path);
        }
        if self.tables.len() >= FILES {
            self.tables.retain(|_, table| table.found.is_ok());
        }
        self.tables.insert(key, CachedSymbols { found: found.map(Arc::new), used: self.uses });
        let memory = |table: &CachedSymbols| table.found.as_ref().map_or(0, |symbols| symbols.memory());
        let mut bytes: usize = self.tables.values().map(memory).sum();
        while bytes > SYMBOLS_BYTES {
            let others = self.tables.iter().filter(|(other, table)| **other != key && table.found.is_ok());
            let Some(oldest) = others.min_by_key(|(_, table)| table.used).map(|(key, _)| *key) else { break };
            bytes -= self.tables.remove(&oldest).as_ref().map_or(0, memory);
        }
    }

    /// Notes that a file does not answer: until it does, it counts as slow.
    pub(super) fn give_up(&mut self, key: SymbolsKey) {
        let used = self.uses;
        self.tables.entry(key).or_insert(CachedSymbols { found: Err(UnreadReason::Slow), used });
    }

    /// The last known path of a file.
    pub(super) fn path(&self, key: SymbolsKey) -> Arc<Path> {
        let mapping = self.mappings.get(&key).and_then(|mappings| mappings.last());
        mapping.map_or_else(|| Path::new("?").into(), |mapping| mapping.path.clone())
    }
}

/// The text for an offset in a file that has no symbol there.
fn in_file(path: &Path, address: u64) -> String {
    let file = path.file_name().map(OsStr::to_string_lossy);
    // The kernel adds this to the name of a file that was replaced.
    let file = file.as_deref().unwrap_or("?").trim_end_matches(" (deleted)");
    format!("[{}+{address:#x}]", shown(file))
}

/// Steps back from a return address, which may be behind the end of the calling function. The innermost frame is none.
fn back(address: u64, depth: usize) -> u64 {
    address.saturating_sub(u64::from(depth > 0))
}

fn bytes(path: &Path) -> usize {
    path.as_os_str().len()
}

/// A build id padded with zeros, as the kernel reports it.
pub(super) fn padded(id: &[u8]) -> BuildId {
    let mut padded = BuildId::default();
    for (to, from) in padded.iter_mut().zip(id) {
        *to = *from;
    }
    padded
}

/// A path as it is kept: of one that is longer than `LONGEST`, only the file name.
pub(super) fn kept(path: PathBuf) -> Arc<Path> {
    const LONGEST: usize = 1024;
    if bytes(&path) <= LONGEST {
        return path.into();
    }
    path.file_name().map_or(Path::new("?").into(), |name| Path::new(name).into())
}
