//! Paths of cgroups by id, which is the inode number of the directory in the cgroup2 mount.
//!
//! An id that is not known makes the tree be walked, at most once a second. A key in a map was a cgroup
//! when it was written, so what a whole walk does not find is gone for good and not looked for again.
//! A cgroup that goes keeps its path as long as it is asked for.

use super::{Decode, Host, LabelError, number::unsigned};
use crate::{name::escape, topology::Topology};
use std::collections::{HashMap, HashSet};
use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Cgroups remembered.
const LIMIT: usize = 1 << 15;

/// Levels walked; the kernel itself sets no limit.
const DEPTH_LIMIT: usize = 64;

/// Least time between two walks.
const PAUSE: Duration = Duration::from_secs(1);

/// What cgroups that nothing is known of are called, all of them, to keep the number of series down.
const GONE: &str = "~gone";

type Clock = Box<dyn Fn() -> Instant + Send>;

#[derive(Debug)]
struct Entry {
    path: String,
    /// Scrape in which the path was last asked for.
    used: u64,
    /// Whether the last walk met it.
    alive: bool,
}

/// Cgroups by id.
pub(super) struct Cgroup {
    root: PathBuf,
    clock: Clock,
    walked: Option<Instant>,
    known: HashMap<u64, Entry>,
    gone: HashSet<u64>,
    scrape: u64,
    /// Most cgroups remembered.
    pub(super) limit: usize,
}

impl Cgroup {
    pub(super) fn new(host: &Host, clock: Clock) -> Result<Self, LabelError> {
        let root = match &host.cgroup {
            Some(root) => root.clone(),
            None => find_mount(&host.proc.join("self/mountinfo"))?,
        };
        super::require("cgroup", &root)?;
        let (known, gone) = (HashMap::new(), HashSet::new());
        Ok(Self { root, clock, walked: None, known, gone, scrape: 0, limit: LIMIT })
    }

    /// Whether enough time has passed for another walk; counts one as made.
    fn may_walk(&mut self) -> bool {
        let now = (self.clock)();
        if self.walked.is_some_and(|walked| now.saturating_duration_since(walked) < PAUSE) {
            return false;
        }
        self.walked = Some(now);
        true
    }

    /// Learns the paths of all cgroups, and forgets those that are gone and no longer asked for.
    /// Returns whether it has seen them all.
    fn walk(&mut self) -> bool {
        let scrape = self.scrape;
        self.known.retain(|_, entry| entry.used + 1 >= scrape || entry.alive);
        for entry in self.known.values_mut() {
            entry.alive = false;
        }
        let Ok(root) = self.root.metadata() else {
            return false;
        };
        let mut complete = self.learn(root.ino(), "/".to_owned());
        let mut pending = vec![(self.root.clone(), String::new(), 0)];
        while let Some((directory, path, depth)) = pending.pop() {
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(error) => {
                    // A directory removed since its parent was read holds nothing to miss.
                    complete &= error.kind() == io::ErrorKind::NotFound;
                    continue;
                }
            };
            for entry in entries.filter_map(Result::ok).filter(is_directory) {
                let path = format!("{path}/{}", escape(entry.file_name().as_bytes()));
                if !self.learn(entry.ino(), path.clone()) {
                    return false;
                }
                if depth == DEPTH_LIMIT {
                    complete = false;
                } else {
                    pending.push((entry.path(), path, depth + 1));
                }
            }
        }
        self.known.retain(|_, entry| entry.alive || entry.used + 1 >= scrape);
        complete
    }

    /// Notes a living cgroup; `false` where there is no room.
    fn learn(&mut self, id: u64, path: String) -> bool {
        if let Some(entry) = self.known.get_mut(&id) {
            entry.path = path;
            entry.alive = true;
            return true;
        }
        if self.known.len() >= self.limit {
            return false;
        }
        // A new one has been asked for in no scrape; 0 is as good as long ago.
        self.known.insert(id, Entry { path, used: 0, alive: true });
        true
    }

    fn look_up(&mut self, id: u64) -> Option<String> {
        let entry = self.known.get_mut(&id)?;
        entry.used = self.scrape;
        Some(entry.path.clone())
    }
}

fn is_directory(entry: &DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_dir())
}

impl Decode for Cgroup {
    fn decode(&mut self, raw: &[u8]) -> Option<String> {
        let id = unsigned(raw);
        if let Some(path) = self.look_up(id) {
            return Some(path);
        }
        if !self.gone.contains(&id) && self.may_walk() {
            let complete = self.walk();
            if let Some(path) = self.look_up(id) {
                return Some(path);
            }
            if complete {
                if self.gone.len() >= self.limit {
                    self.gone.clear();
                }
                self.gone.insert(id);
            }
        }
        Some(GONE.to_owned())
    }

    fn refresh(&mut self, _: &Arc<Topology>) {
        self.scrape += 1;
    }
}

/// The mount point of cgroup2: the whole hierarchy if it is mounted, else a part of it.
fn find_mount(path: &Path) -> Result<PathBuf, LabelError> {
    let table = fs::read(path).map_err(|source| LabelError::Unreadable {
        decoder: "cgroup",
        path: path.to_owned(),
        source,
    })?;
    let mounts: Vec<_> = table.split(|byte| *byte == b'\n').filter_map(parse_mount).collect();
    let whole = mounts.iter().find(|(root, _)| root == b"/");
    let (_, point) =
        whole.or(mounts.first()).ok_or_else(|| LabelError::NoCgroup2 { path: path.to_owned() })?;
    Ok(PathBuf::from(std::ffi::OsString::from_vec(point.clone())))
}

/// Root and mount point of a cgroup2 line of mountinfo:
/// `20 41 31 0:38 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw`.
fn parse_mount(line: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut fields = line.split(|byte| *byte == b' ');
    let root = fields.nth(3)?;
    let point = fields.next()?;
    fields.find(|field| *field == b"-")?;
    (fields.next()? == b"cgroup2").then(|| (unescape(root), unescape(point)))
}

/// Undoes the `\040` that the kernel writes for a space.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        let octal = match rest {
            [b'\\', digits @ ..] => digits.get(..3).and_then(octal),
            _ => None,
        };
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &rest[4..] } else { after };
    }
    bytes
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}
