//! Reads files and processes of others, on a thread that they may hold up: a user's file system may not answer, and
//! `/proc/PID/maps` waits for a lock of the process. What is late is left behind (`deadline`), and its result is used when it
//! comes.

use super::{
    cache::{
        BuildId, FileMapping, Job, MappedRange, RangeContent, SymbolCache, SymbolsKey, UnidentifiedFile,
        kept, padded,
    },
    lock,
    mapping::{Inode, Mapping, mappings},
    unread::UnreadReason,
};
use crate::{
    container,
    deadline::{self, HangingThreads, MayHang, Outcome},
    elf::{self, FileSymbols, ReadLimits},
    sys::{self, Foreign, ForeignError, hold_directory, look_at, open_foreign},
};
use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Most processes that are read.
const PROCESSES: usize = 65_536;
/// How long reading a process and its files may take.
const LOOK: deadline::TimeLimits =
    deadline::TimeLimits { first: Duration::from_secs(2), next: Duration::from_millis(250) };
/// How long reading symbols may take: a little longer than their budget, so that only files that hang are late.
const READ: deadline::TimeLimits = {
    let most = ReadLimits::STACK.time.saturating_add(Duration::from_secs(2));
    deadline::TimeLimits { first: most, next: most }
};
/// Most threads that are left behind, and most of them for files and processes of one user. Others of that user are not read
/// until one of those has answered.
const LEFT: usize = 32;
const LEFT_OF_ONE: usize = 4;
/// Size of symbols, in bytes, from which on memory is given back after reading.
const MUCH: usize = 1 << 20;

/// A thing that may not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum ReadTarget {
    /// A process: its mappings, and the files in them.
    Process(u32),
    /// The symbols of a file.
    Symbols(SymbolsKey),
    /// The identity of a file.
    See(SymbolsKey),
}

#[derive(Debug)]
struct LateRead {
    thing: ReadTarget,
    /// Its owner; `None` if that is no longer known.
    user: Option<u32>,
    left: HangingThreads,
}

impl MayHang for LateRead {
    fn left(&self) -> &HangingThreads {
        &self.left
    }
}

/// What is known, and the jobs that read more.
#[derive(Debug)]
pub(super) struct SymbolReader {
    proc: PathBuf,
    cache: Mutex<SymbolCache>,
    /// Notified when a job is added.
    asked: Condvar,
    /// Notified when a job is done.
    pub(super) answered: Condvar,
    /// Identifies the files that this process sees: its root, and its mount namespace.
    own: Option<(u64, u64, PathBuf)>,
    /// Processes that were read, with their executables: after `exec` they are read again.
    seen: Mutex<HashMap<u32, PathBuf>>,
    /// Files that are being opened: one that does not answer holds up only one thread.
    opening: Mutex<HashSet<Inode>>,
    /// Whether only the user who started this process, who may read the files as well, sees the names.
    pub(super) is_private: AtomicBool,
    /// Things that are late, as long as they are.
    left: Mutex<HashMap<ReadTarget, Arc<LateRead>>>,
}

impl SymbolReader {
    pub(super) fn new(proc: PathBuf) -> Self {
        let own = files_of(&proc.join("self"));
        Self {
            proc,
            cache: Mutex::default(),
            asked: Condvar::new(),
            answered: Condvar::new(),
            own,
            seen: Mutex::default(),
            opening: Mutex::default(),
            is_private: AtomicBool::new(false),
            left: Mutex::default(),
        }
    }

    /// Locks what is known; hold it only for moments.
    pub(super) fn cache(&self) -> MutexGuard<'_, SymbolCache> {
        lock(&self.cache)
    }

    /// Adds a job.
    pub(super) fn ask(&self, cache: &mut SymbolCache, job: Job) {
        cache.ask(job);
        self.asked.notify_one();
    }

    /// Ends the reader.
    pub(super) fn end(&self) {
        self.cache().is_over = true;
        self.asked.notify_all();
        self.answered.notify_all();
    }

    /// Does jobs until the reader is to end.
    pub(super) fn work(self: &Arc<Self>) {
        while let Some(job) = self.next_job() {
            self.answer(job);
            self.cache().answered(job);
            self.answered.notify_all();
        }
    }

    fn next_job(&self) -> Option<Job> {
        let mut cache = self.cache();
        loop {
            if cache.is_over {
                return None;
            }
            if let Some(job) = cache.jobs.pop_front() {
                return Some(job);
            }
            cache = self.asked.wait(cache).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn answer(self: &Arc<Self>, job: Job) {
        let all = || container::processes(&self.proc).take(PROCESSES);
        match job {
            Job::All => self.look_at(all()),
            Job::New => self.look_at_new(all()),
            Job::Find(id) => {
                self.look_at(all());
                self.cache().miss(id);
            }
            Job::Process(process) => self.look_at([process].into_iter()),
            Job::See(key) => self.each(LOOK, &[ReadTarget::See(key)]),
            Job::Symbols(key) => self.each(READ, &[ReadTarget::Symbols(key)]),
        }
    }

    /// Reads the mappings of processes, which change: they load libraries while they run.
    fn look_at(self: &Arc<Self>, processes: impl Iterator<Item = u32>) {
        self.each(LOOK, &processes.map(ReadTarget::Process).collect::<Vec<_>>());
    }

    /// Reads processes that are new or execute another program than before.
    fn look_at_new(self: &Arc<Self>, processes: impl Iterator<Item = u32>) {
        let runs = |process: u32| Some((process, fs::read_link(self.directory(process).join("exe")).ok()?));
        // Kernel threads have no executable.
        let now: HashMap<u32, PathBuf> = processes.filter_map(runs).collect();
        let before = std::mem::replace(&mut *lock(&self.seen), now.clone());
        let is_new = |(process, runs): &(u32, PathBuf)| before.get(process) != Some(runs);
        self.look_at(now.into_iter().filter(is_new).map(|(process, _)| process));
    }

    /// Reads each of these; goes on without those that are late.
    fn each(self: &Arc<Self>, limits: deadline::TimeLimits, things: &[ReadTarget]) {
        let asked = self.may_be_asked(things);
        let reader = self.clone();
        let outcomes =
            deadline::each(limits, asked.clone(), move |asked: &LateRead| reader.read(asked.thing));
        let mut left = lock(&self.left);
        let mut late = Vec::new();
        for (asked, outcome) in asked.into_iter().zip(outcomes) {
            if outcome == Outcome::Slow && left.insert(asked.thing, asked.clone()).is_none() {
                late.push(asked.thing);
            }
        }
        drop(left);
        for thing in late {
            self.is_late(thing);
        }
    }

    /// The things that may be read: not those that are late, nor those of an owner with too many late ones.
    fn may_be_asked(&self, things: &[ReadTarget]) -> Vec<Arc<LateRead>> {
        let mut left = lock(&self.left);
        left.retain(|_, asked| asked.left.is_any());
        let mut count_of: HashMap<Option<u32>, usize> = HashMap::new();
        for asked in left.values() {
            *count_of.entry(asked.user).or_default() += 1;
        }
        let mut asked = Vec::with_capacity(things.len());
        for thing in things {
            let user = self.user_of(*thing);
            let of_user = count_of.get(&user).copied().unwrap_or(0);
            if left.contains_key(thing) || left.len() >= LEFT || of_user >= LEFT_OF_ONE {
                self.do_without(*thing);
            } else {
                asked.push(Arc::new(LateRead { thing: *thing, user, left: HangingThreads::default() }));
            }
        }
        asked
    }

    fn user_of(&self, thing: ReadTarget) -> Option<u32> {
        let process = match thing {
            ReadTarget::Process(process) => process,
            ReadTarget::Symbols(key) | ReadTarget::See(key) => self.cache().mappings(key).last()?.process,
        };
        Some(fs::metadata(self.directory(process)).ok()?.uid())
    }

    /// Notes that something does not answer, and logs it once.
    fn is_late(&self, thing: ReadTarget) {
        let path: Arc<Path> = match thing {
            ReadTarget::Process(process) => self.directory(process).into(),
            ReadTarget::Symbols(key) | ReadTarget::See(key) => self.cache().path(key),
        };
        self.cache().unread.count(UnreadReason::Slow, &path);
        self.do_without(thing);
    }

    /// Goes on without it: nothing waits for it any more.
    fn do_without(&self, thing: ReadTarget) {
        match thing {
            ReadTarget::Process(process) => self.cache().set_process(process, None, Vec::new()),
            ReadTarget::Symbols(key) => self.cache().give_up(key),
            ReadTarget::See(_) => {}
        }
    }

    fn directory(&self, process: u32) -> PathBuf {
        container::directory(&self.proc, process)
    }

    fn read(&self, thing: ReadTarget) {
        if self.cache().is_over {
            return;
        }
        match thing {
            ReadTarget::Process(process) => {
                // The time is taken first: what is reported while the mappings are read may be missing from them.
                let looked = SystemTime::now();
                let began = self.began(process);
                let parts = self.parts(process);
                self.cache().set_process(process, began, parts);
                self.settle(process);
                self.cache().end(process, looked);
            }
            ReadTarget::See(key) => self.see(key),
            ReadTarget::Symbols(key) => {
                let read = self.symbols(key);
                let is_much = read.as_ref().is_ok_and(|symbols| symbols.memory() >= MUCH)
                    || matches!(read, Err(UnreadReason::TooLarge));
                self.cache().set_symbols(key, read);
                if is_much {
                    sys::release_memory();
                }
            }
        }
    }

    /// When a process began, or a little before; `None` if no mapping was reported that may belong to another process of its
    /// number.
    fn began(&self, process: u32) -> Option<SystemTime> {
        if !self.cache().is_remembered(process) {
            return None;
        }
        let stat = fs::read(self.directory(process).join("stat")).ok()?;
        let uptime = fs::read_to_string(self.proc.join("uptime")).ok()?;
        SystemTime::now().checked_sub(age(&stat, &uptime, procfs::ticks_per_second())?)
    }

    /// The executable mappings of a process, with the identity of each file.
    fn parts(&self, process: u32) -> Vec<MappedRange> {
        let directory = self.directory(process);
        let mapped = mappings(&directory);
        let is_ours = self.has_our_files(&directory);
        let part = |Mapping { from, to, offset, inode, path }| {
            let of = match inode {
                Some(inode) => self.look_at_file(process, (from, to), inode, path, is_ours),
                None => match path.to_str().filter(|name| name.starts_with('[')) {
                    Some(name) => RangeContent::Kernel(name.into()),
                    None => RangeContent::Nothing,
                },
            };
            MappedRange { from, to, offset, of }
        };
        mapped.into_iter().map(part).collect()
    }

    /// Whether a process sees the same files as this one.
    fn has_our_files(&self, directory: &Path) -> bool {
        self.own.is_some() && files_of(directory) == self.own
    }

    fn look_at_file(
        &self,
        process: u32,
        (from, to): (u64, u64),
        inode: Inode,
        path: PathBuf,
        is_ours: bool,
    ) -> RangeContent {
        let mapping = FileMapping { process, from, to, path: kept(path), seen: None };
        let unseen = UnidentifiedFile { inode, path: mapping.path.clone(), told: SystemTime::now() };
        // Another thread is opening it.
        if !lock(&self.opening).insert(inode) {
            return RangeContent::Unseen(unseen);
        }
        let found = self.identify(mapping, inode, is_ours);
        lock(&self.opening).remove(&inode);
        // It may be found through another process.
        found.map_or(RangeContent::Unseen(unseen), RangeContent::File)
    }

    /// The identity of a file that a process has mapped; `None` if it is not certain.
    fn identify(&self, mut mapping: FileMapping, inode: Inode, is_ours: bool) -> Option<SymbolsKey> {
        let (looked, is_mapped) = match self.hold_mapped(&mapping) {
            Ok(looked) => (looked, true),
            Err(_) => (self.hold_named(&mapping).ok()?, false),
        };
        let identity = looked.identity;
        // Another file may have its name by now.
        let is_it = is_mapped || identity.inode == inode.number;
        mapping.seen = is_ours.then_some((identity.device, identity.inode));
        let known = self.cache().looked_at(inode, identity).filter(|_| is_it);
        if let Some(key) = known {
            self.cache().add(key, mapping);
            return Some(key);
        }
        let file = looked.open().ok()?;
        let build_id: Option<BuildId> = elf::build_id(&file).ok().flatten().map(|id| padded(&id));
        let mut cache = self.cache();
        if is_it {
            let key = cache.look_at(inode, identity, build_id);
            cache.add(key, mapping);
            return Some(key);
        }
        if let Some(id) = build_id {
            cache.add(SymbolsKey::BuildId(id), mapping);
        }
        None
    }

    /// Identifies the files of a process that ended before it was read: the file with the reported path and number, if it is
    /// the one known before, or if it existed when it was mapped.
    fn settle(&self, process: u32) {
        let unseen = self.cache().unseen(process);
        for unseen in unseen {
            let Ok(looked) = look_at(Foreign::Unlinked(&unseen.path)) else { continue };
            let identity = looked.identity;
            if identity.inode != unseen.inode.number {
                continue;
            }
            let mut cache = self.cache();
            let since_epoch = unseen.told.duration_since(UNIX_EPOCH).unwrap_or_default();
            let was_there = || {
                let told = i128::try_from(since_epoch.as_nanos()).unwrap_or(i128::MAX);
                (identity.appeared_ns() <= told).then_some(SymbolsKey::File(identity))
            };
            let Some(key) = cache.looked_at(unseen.inode, identity).or_else(was_there) else { continue };
            let mapping = FileMapping { process, from: 0, to: 0, path: unseen.path.clone(), seen: None };
            cache.add(key, mapping);
            cache.settle(process, &unseen, key);
        }
    }

    /// Opens a file as its process has it: its mapping, or the file with its name in the root of that process.
    fn hold(&self, mapping: &FileMapping) -> Result<sys::CheckedFile, ForeignError> {
        self.hold_mapped(mapping).or_else(|_| self.hold_named(mapping))
    }

    fn hold_named(&self, mapping: &FileMapping) -> Result<sys::CheckedFile, ForeignError> {
        let root = hold_directory(&self.directory(mapping.process).join("root"))?;
        look_at(Foreign::Under(root.as_fd(), &mapping.path))
    }

    fn hold_mapped(&self, mapping: &FileMapping) -> Result<sys::CheckedFile, ForeignError> {
        let link = format!("map_files/{:x}-{:x}", mapping.from, mapping.to);
        look_at(Foreign::Link(&self.directory(mapping.process).join(link)))
    }

    /// Looks up the identity of a mapped file.
    fn see(&self, key: SymbolsKey) {
        let mappings = self.cache().mappings(key);
        let is_ours = |mapping: &&FileMapping| self.has_our_files(&self.directory(mapping.process));
        for mapping in mappings.iter().rev().filter(is_ours) {
            if let Ok(looked) = self.hold_mapped(mapping) {
                self.cache().see(key, mapping.process, (looked.identity.device, looked.identity.inode));
                return;
            }
        }
    }

    /// Opens a file through its process. After the process has ended, only the file that was identified is opened, or one that
    /// root has installed for everybody: the path may belong to another root, or be made up. If only the user who started this
    /// process sees the names, any file may be opened.
    fn open(&self, mapping: &FileMapping) -> Result<File, ForeignError> {
        if let Some(file) = mapping.seen {
            let found = look_at(Foreign::Unlinked(&mapping.path));
            if let Ok(looked) = &found
                && (looked.identity.device, looked.identity.inode) == file
            {
                return looked.open();
            }
        }
        if self.directory(mapping.process).join("root").symlink_metadata().is_ok() {
            return self.hold(mapping)?.open();
        }
        let is_private = self.is_private.load(Ordering::Relaxed);
        let path = &mapping.path;
        open_foreign(if is_private { Foreign::Unlinked(path) } else { Foreign::OfRoot(path) })
    }

    /// Reads the symbols of a file, through the first of its processes that still has it.
    fn symbols(&self, key: SymbolsKey) -> Result<FileSymbols, UnreadReason> {
        let mappings = self.cache().mappings(key);
        let mut why = UnreadReason::Gone;
        // A file of root can be trusted; of others, the newest process probably still has the file.
        let mut opened = Vec::new();
        for mapping in mappings.iter().rev() {
            match self.open(mapping) {
                Ok(file) => {
                    let is_of_root =
                        file.metadata().is_ok_and(|found| ReadLimits::of_host(&found) == ReadLimits::TRUSTED);
                    // In another root, a file belongs to the owner of that root.
                    let is_installed = is_of_root && mapping.seen.is_some();
                    let limits = if is_installed { ReadLimits::INSTALLED } else { ReadLimits::STACK };
                    opened.push((file, is_of_root, limits));
                }
                Err(error) => why = worse(why, UnreadReason::from(&error)),
            }
        }
        opened.sort_by_key(|(_, is_of_root, _)| !is_of_root);
        for (file, _, limits) in opened {
            let is_it = match key {
                SymbolsKey::BuildId(wanted) => match elf::build_id(&file) {
                    Ok(id) => id.is_some_and(|id| padded(&id) == wanted),
                    Err(error) => {
                        why = worse(why, UnreadReason::from(&error));
                        false
                    }
                },
                SymbolsKey::File(wanted) => sys::identity(file.as_fd()).is_ok_and(|found| found == wanted),
            };
            if !is_it {
                continue;
            }
            match FileSymbols::read(&file, limits) {
                Ok(symbols) => return Ok(symbols),
                Err(error) => why = worse(why, UnreadReason::from(&error)),
            }
        }
        Err(why)
    }
}

/// Device and inode of a process's root, and its mount namespace.
fn files_of(process: &Path) -> Option<(u64, u64, PathBuf)> {
    let namespace = fs::read_link(process.join("ns/mnt")).ok()?;
    let root = File::from(hold_directory(&process.join("root")).ok()?).metadata().ok()?;
    Some((root.dev(), root.ino(), namespace))
}

/// How long a process has existed, or a little longer, from its `stat` and from the uptime of the machine.
fn age(stat: &[u8], uptime: &str, ticks_per_second: u64) -> Option<Duration> {
    /// Both times are rounded to hundredths of a second, and read one after the other.
    const ROUNDED: Duration = Duration::from_millis(100);
    // The name of a program may contain any byte, also a bracket.
    let behind_name = stat.iter().rposition(|byte| *byte == b')')?;
    let words = std::str::from_utf8(stat.get(behind_name + 1..)?).ok()?;
    let began: u64 = words.split_whitespace().nth(19)?.parse().ok()?;
    let began = Duration::from_millis(began.checked_mul(1000)?.checked_div(ticks_per_second)?);
    let now = Duration::try_from_secs_f64(uptime.split_whitespace().next()?.parse().ok()?).ok()?;
    now.saturating_sub(began).checked_add(ROUNDED)
}

/// The more informative of two reasons.
fn worse(one: UnreadReason, other: UnreadReason) -> UnreadReason {
    if one == UnreadReason::Gone { other } else { one }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbol::Frame;

    const FRAME: Frame = Frame::Address(0x40_0123);

    /// A process was reported to have mapped a file that cannot be found.
    fn remember(reader: &SymbolReader, process: u32, told: SystemTime) {
        let inode = Inode { device: (0, 99), number: 7 };
        let of =
            RangeContent::Unseen(UnidentifiedFile { inode, path: Path::new("/nowhere/prog").into(), told });
        reader.cache().remember(process, MappedRange { from: 0x40_0000, to: 0x50_0000, offset: 0, of }, told);
    }

    /// The name of the frame, whether it is final, and whether jobs are missing for it.
    fn named(reader: &SymbolReader, process: u32) -> (String, bool, bool) {
        let mut cache = reader.cache();
        let (name, is_final) = cache.name(&FRAME, 0, process).expect("it is a program's");
        (name, is_final, !cache.lacking(&[FRAME], process).is_empty())
    }

    #[test]
    fn a_process_that_is_gone_has_names_that_stay() {
        let proc = tempfile::tempdir().expect("a temporary directory");
        let reader = SymbolReader::new(proc.path().into());
        remember(&reader, 7, SystemTime::now());
        assert_eq!(named(&reader, 7), ("[prog+0x123]".into(), false, true));
        reader.read(ReadTarget::Process(7));
        assert_eq!(named(&reader, 7), ("[prog+0x123]".into(), true, false));
        // A mapping that is reported after the process was read may still be found.
        remember(&reader, 7, SystemTime::now() + Duration::from_mins(1));
        reader.read(ReadTarget::Process(7));
        assert!(!named(&reader, 7).1);
    }

    #[test]
    fn a_process_with_a_number_that_is_used_again_names_nothing_of_the_first() {
        let proc = tempfile::tempdir().expect("a temporary directory");
        let write = |name: &str, text: &str| {
            let path = proc.path().join(name);
            fs::create_dir_all(path.parent().expect("a directory")).expect("a new directory");
            fs::write(path, text).expect("writable");
        };
        // It began ten seconds ago.
        let began = 990 * procfs::ticks_per_second();
        write("uptime", "1000.00 1900.00\n");
        for process in [7, 8, 9] {
            write(
                &format!("{process}/stat"),
                &format!("{process} (a) b) R{} {began} 1 2\n", " 0".repeat(18)),
            );
            write(&format!("{process}/maps"), "3f0000-500000 r-xp 00000000 00:00 0 [vdso]\n");
        }
        let reader = SymbolReader::new(proc.path().into());
        remember(&reader, 7, SystemTime::now() - Duration::from_mins(1));
        remember(&reader, 8, SystemTime::now() - Duration::from_secs(2));
        for process in [7, 8, 9] {
            reader.read(ReadTarget::Process(process));
        }
        assert_eq!(named(&reader, 7), ("[prog+0x123]".into(), true, false));
        assert_eq!(named(&reader, 8), ("[vdso]".into(), true, false));
        assert_eq!(named(&reader, 9), ("[vdso]".into(), true, false));
        // Reports about the new process replace it.
        remember(&reader, 7, SystemTime::now());
        reader.read(ReadTarget::Process(7));
        assert_eq!(named(&reader, 7), ("[vdso]".into(), true, false));
    }

    #[test]
    fn how_long_a_process_has_been_there() {
        let stat = |began: &str| format!("7 (x\u{fc}) S) S{} {began} 9\n", " 0".repeat(18)).into_bytes();
        let of = |began: &str, uptime: &str| age(&stat(began), uptime, 100);
        assert_eq!(of("150", "12.50 20.00\n"), Some(Duration::from_millis(11_100)));
        assert_eq!(of("1300", "12.50\n"), Some(Duration::from_millis(100)), "rounded to before it began");
        for (began, uptime) in [("x", "12.50"), ("-1", "12.50"), ("1", ""), ("1", "-1"), ("1", "nan")] {
            assert_eq!(of(began, uptime), None, "{began} {uptime}");
        }
        assert_eq!(age(b"7 x S 1", "1", 100), None);
        assert_eq!(age(&stat("1"), "1", 0), None);
    }
}
