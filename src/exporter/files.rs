//! Files in which probes are attached come and go: a package is upgraded, a container starts, a process ends. Every second,
//! each file is compared with the one that its probe was compiled for; if files differ or appear, the probe is compiled again.

use crate::{container, elf::FileWord};
use std::{path::Path, sync::Arc};
use tapster_ebpf::{
    attach::Missing,
    probe::{Probe, Root},
    usdt::FileId,
};

/// A missing container is searched for once in this many checks: each search reads a file of every process.
const LOOKS_PER_SEARCH: u32 = 10;
/// A refused attachment is tried again after this many checks.
const LOOKS_PER_TRY: u32 = 60;

/// A word of the configuration that names a file.
#[derive(Debug)]
struct NamedFile {
    root: Root,
    word: String,
    /// Whether only optional events are in it.
    optional: bool,
    /// The word in the root of one process, or of this host.
    file: Arc<FileWord>,
    /// A process of the container.
    pid: Option<u32>,
    looks: u32,
}

/// What a word names now: the file, and the mount namespace of its container.
type FoundFile = Result<(FileId, Option<u32>), Missing>;

/// A probe with its files as of the last check.
#[derive(Debug)]
pub(super) struct WatchedProbe {
    /// The probe as declared.
    pub(super) probe: Probe,
    files: Vec<NamedFile>,
    seen: Vec<FoundFile>,
    /// A change that could not be attached to, and the number of checks until the next attempt.
    again: Option<(Change, u32)>,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// Files differ, appeared, or are gone.
    Files,
    /// Containers differ.
    Containers,
}

impl WatchedProbe {
    /// Watches a probe in files; `None` for other probes. Called before the probe is compiled.
    pub(super) fn new(probe: &Probe, proc: &Path) -> Option<Self> {
        let mut files: Vec<NamedFile> = Vec::new();
        for event in probe.events() {
            for (root, word) in event.at.iter().filter_map(|at| at.value.binary()) {
                match files.iter_mut().find(|file| file.root == *root && file.word == word) {
                    Some(known) => known.optional &= event.optional,
                    None => {
                        let file = Arc::new(FileWord::new(proc, root, word));
                        let (root, word, optional) = (root.clone(), word.into(), event.optional);
                        files.push(NamedFile { root, word, optional, file, pid: None, looks: 0 });
                    }
                }
            }
        }
        if files.is_empty() {
            return None;
        }
        let seen = files.iter_mut().map(|file| file.look(proc)).collect();
        Some(Self { probe: probe.clone(), files, seen, again: None })
    }

    /// Why a file that the probe cannot do without is missing, if one is.
    pub(super) fn missing(&self) -> Option<&Missing> {
        let mut needed = self.files.iter().zip(&self.seen).filter(|(file, _)| !file.optional);
        needed.find_map(|(_, seen)| seen.as_ref().err())
    }

    /// Checks all files again.
    pub(super) fn look(&mut self, proc: &Path) -> Change {
        let now: Vec<FoundFile> = self.files.iter_mut().map(|file| file.look(proc)).collect();
        let mut change = Change::None;
        for (before, after) in self.seen.iter().zip(&now) {
            match (before, after) {
                (Err(_), Err(_)) => {}
                (Ok((file, _)), Ok((other, _))) if file != other => change = Change::Files,
                (Ok((_, namespace)), Ok((_, other))) => {
                    if namespace != other {
                        return self.saw(now, Change::Containers);
                    }
                }
                (Ok(_), Err(_)) | (Err(_), Ok(_)) => change = Change::Files,
            }
        }
        self.saw(now, change)
    }

    fn saw(&mut self, now: Vec<FoundFile>, change: Change) -> Change {
        self.seen = now;
        match (change, self.again.take()) {
            (Change::None, Some((before, 0))) => before,
            (Change::None, Some((before, looks))) => {
                self.again = Some((before, looks - 1));
                Change::None
            }
            (change, _) => change,
        }
    }

    /// Reports this change again some checks from now, because attaching failed.
    pub(super) fn try_again(&mut self, change: Change) {
        self.again = Some((change, LOOKS_PER_TRY));
    }
}

impl NamedFile {
    fn look(&mut self, proc: &Path) -> FoundFile {
        let Root::Container(name) = &self.root else {
            return Ok((self.file.open()?.id, None));
        };
        let pid = match self.pid.filter(|pid| container::is_in(proc, *pid, name)) {
            Some(pid) => pid,
            None => {
                self.looks += 1;
                if self.looks % LOOKS_PER_SEARCH != 1 {
                    let message = format!("no process runs in a container `{name}`");
                    return Err(Missing { message, hint: None });
                }
                container::process(proc, name)?
            }
        };
        (self.pid, self.looks) = (Some(pid), 0);
        let namespace = container::namespace_of(proc, pid, &self.root)?;
        let root = Root::Process(pid);
        if !self.file.is_in(&root) {
            self.file = Arc::new(FileWord::new(proc, &root, &self.word));
        }
        Ok((self.file.open()?.id, namespace))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tapster_ebpf::{declaration, diagnostic::SourceFile};

    #[test]
    fn changes_of_files_are_seen() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        let text = format!(
            "probes:\n  - name: a\n    at: {{ one_of: ['usdt:{0}:x', 'uprobe:{0}:y'] }}\n    metrics: [{{ counter: a_total }}]\n\
             \x20 - name: b\n    at: 'software:page-faults:1'\n    metrics: [{{ counter: b_total }}]\n\
             \x20 - name: c\n    events: [{{ at: 'software:page-faults:1' }}, {{ at: 'uprobe:{0}:y', optional: true }}]\n\
             \x20   metrics: [{{ counter: c_total }}]\n\
             \x20 - name: d\n    state: {{ seen: {{ per: task }} }}\n    note: {{ at: 'usdt:{0}:x', set: {{ seen: 1 }} }}\n\
             \x20   at: 'software:page-faults:1'\n    metrics: [{{ counter: d_total, where: state.seen }}]\n",
            path.display()
        );
        let (file, diagnostics) = declaration::parse(&SourceFile::new("t", text));
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
        let proc = Path::new("/proc");
        assert!(WatchedProbe::new(&file.probes[1], proc).is_none(), "in no file");
        let noted = WatchedProbe::new(&file.probes[3], proc).unwrap();
        assert!(noted.missing().is_some(), "what only changes the state is waited for as well");
        let mut watched = WatchedProbe::new(&file.probes[0], proc).unwrap();
        assert_eq!(watched.files.len(), 1, "one file, however often it is named");
        assert!(watched.missing().unwrap().message.starts_with("there is no `"));
        assert_eq!(watched.look(proc), Change::None);
        let mut optional = WatchedProbe::new(&file.probes[2], proc).unwrap();
        assert!(optional.missing().is_none(), "nothing waits for what is optional");
        fs::write(&path, "one").unwrap();
        assert_eq!(optional.look(proc), Change::Files, "what is optional is watched all the same");
        assert_eq!(watched.look(proc), Change::Files, "it appeared");
        assert!(watched.missing().is_none());
        assert_eq!(watched.look(proc), Change::None);
        fs::write(&path, "longer").unwrap();
        assert_eq!(watched.look(proc), Change::Files, "it was written to");
        let other = directory.path().join("other");
        fs::write(&other, "longer").unwrap();
        fs::rename(&other, &path).unwrap();
        assert_eq!(watched.look(proc), Change::Files, "it was replaced");
        // Other contents of the same length, with the old times.
        let times = fs::metadata(&path).unwrap().modified().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::write(&path, "LONGER").unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(times).unwrap();
        assert_eq!(watched.look(proc), Change::Files, "it was written to by who hides it");
        fs::remove_file(&path).unwrap();
        assert_eq!(watched.look(proc), Change::Files, "it went");
        assert_eq!(watched.look(proc), Change::None);
        watched.try_again(Change::Files);
        let looks = (0..100).position(|_| watched.look(proc) == Change::Files);
        assert_eq!(looks, Some(60), "what could not be attached to is found again");
        assert_eq!(watched.look(proc), Change::None, "once");
    }
}
