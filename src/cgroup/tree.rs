//! One hierarchy of cgroups: finds a cgroup by its id.
//!
//! The kernel opens a cgroup by its id (`open_by_handle_at(2)`, which needs `CAP_DAC_READ_SEARCH`), or reports that it no
//! longer exists. If the kernel cannot do that, the whole tree is walked, at most once a second: the id is the inode number of
//! the directory.

use super::mount::Mount;
use crate::{
    name::escape,
    sys::{self, WRITTEN_BY_OTHERS},
};
use std::{
    collections::HashMap,
    fs::{self, DirEntry, File, Metadata},
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            fs::{DirEntryExt, MetadataExt},
        },
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Most levels that are walked; the kernel itself sets no limit.
const DEPTH_LIMIT: usize = 64;
/// Longest path that is kept, bytes, and most bytes of paths that a walk keeps: a user who may make cgroups may make paths of
/// 4096 bytes.
const LONGEST: usize = 1024;
const WALKED: usize = 16 << 20;
/// Stands for the rest of a longer path.
const CUT: &str = "~cut";
/// Least time between two walks.
const PAUSE: Duration = Duration::from_secs(1);
/// The kernel appends this to the path of a directory that was removed while it was open.
const DELETED: &[u8] = b" (deleted)";

/// The location of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CgroupLocation {
    /// Its path in the hierarchy.
    pub(super) path: String,
    /// Bytes of the path that only root can have made, up to and including the last such name.
    pub(super) of_root: usize,
    /// Its directory; `None` if it is outside of what is mounted.
    pub(super) directory: Option<PathBuf>,
}

impl CgroupLocation {
    /// The part of the path from which pod and container are read: only root can have given these names.
    pub(super) fn of_root(&self) -> &str {
        self.path.get(..self.of_root).unwrap_or_default()
    }
}

/// The result of looking for a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CgroupLookup {
    Living(CgroupLocation),
    /// It no longer exists, and its id is never reused.
    Dead,
    /// Whether it exists is not known yet: the tree was walked less than a second ago, or has more cgroups than are walked.
    Unknown,
    /// Whether it exists cannot be determined, for this reason.
    Unreadable(String),
}

/// A mounted hierarchy.
#[derive(Debug)]
pub(super) struct CgroupTree {
    mount: Mount,
    /// The user who owns what the system makes: root, except in tests.
    root: u32,
    /// The directory of links to open files.
    links: PathBuf,
    /// The result of the last walk, if the kernel does not open cgroups by id.
    walk: Option<TreeWalk>,
}

#[derive(Debug, Default)]
struct TreeWalk {
    begun: Option<Instant>,
    /// Whether nothing was left out.
    complete: bool,
    /// Why a directory was left out, if one could not be read.
    refused: Option<String>,
    directories: HashMap<u64, PathBuf>,
}

impl CgroupTree {
    pub(super) fn new(mount: Mount, proc: &Path, root: u32) -> Self {
        let mut tree = Self { mount, root, links: proc.join("self/fd"), walk: None };
        let own = tree.mount.point.metadata().map(|metadata| metadata.ino());
        let opens = own.is_ok_and(|own| {
            let opened = tree.open(own).and_then(|fd| File::from(fd).metadata());
            opened.is_ok_and(|metadata| metadata.ino() == own)
        });
        if !opens {
            tree.walk = Some(TreeWalk::default());
        }
        tree
    }

    pub(super) fn hierarchy(&self) -> u64 {
        self.mount.hierarchy
    }

    /// Whether the tree must be walked.
    #[cfg(test)]
    pub(super) fn walks(&self) -> bool {
        self.walk.is_some()
    }

    /// Looks for a cgroup that existed at `since` at the latest; a walk keeps at most `limit` cgroups.
    pub(super) fn find(&mut self, id: u64, since: Instant, now: Instant, limit: usize) -> CgroupLookup {
        match self.walk.take() {
            None => self.find_by_handle(id),
            Some(mut walk) => {
                let found = self.find_by_walk(&mut walk, id, since, now, limit);
                self.walk = Some(walk);
                found
            }
        }
    }

    /// Whether a directory still belongs to this cgroup.
    pub(super) fn is_at(directory: &Path, id: u64) -> bool {
        directory.symlink_metadata().is_ok_and(|metadata| metadata.ino() == id)
    }

    fn open(&self, id: u64) -> io::Result<OwnedFd> {
        // Opened each time: an open directory would keep the file system from being unmounted.
        sys::open_by_kernfs_id(File::open(&self.mount.point)?.as_fd(), id)
    }

    fn find_by_handle(&self, id: u64) -> CgroupLookup {
        let fd = match self.open(id) {
            Ok(fd) => fd,
            Err(error) if matches!(error.raw_os_error(), Some(libc::ESTALE | libc::ENOENT)) => {
                return CgroupLookup::Dead;
            }
            Err(error) => return CgroupLookup::Unreadable(unreadable(&self.mount.point, &error)),
        };
        let Ok(target) = fs::read_link(self.links.join(fd.as_raw_fd().to_string())) else {
            return CgroupLookup::Unknown;
        };
        if target.starts_with(&self.mount.point) && Self::is_at(&target, id) {
            return CgroupLookup::Living(self.location(target));
        }
        // Before about 6.2 a removed cgroup can be opened as long as something holds on to it.
        if target.as_os_str().as_bytes().ends_with(DELETED) {
            return CgroupLookup::Dead;
        }
        // A cgroup beside or above the mounted part has its path in the whole hierarchy. Directories above it cannot be seen;
        // below a directory of a user, only that user makes cgroups.
        let bytes = target.as_os_str().as_bytes();
        let is_roots = File::from(fd).metadata().is_ok_and(|directory| self.is_roots(&directory));
        let path = text(bytes);
        let of_root = if is_roots && bytes.len() <= LONGEST { path.len() } else { 0 };
        CgroupLookup::Living(CgroupLocation { of_root, path, directory: None })
    }

    fn find_by_walk(
        &self,
        walk: &mut TreeWalk,
        id: u64,
        since: Instant,
        now: Instant,
        limit: usize,
    ) -> CgroupLookup {
        let location = |walk: &TreeWalk| {
            let directory = walk.directories.get(&id).filter(|directory| Self::is_at(directory, id))?;
            Some(CgroupLookup::Living(self.location(directory.clone())))
        };
        if let Some(found) = location(walk) {
            return found;
        }
        let is_recent = |begun: Instant| now.saturating_duration_since(begun) < PAUSE;
        let walks = !walk.begun.is_some_and(is_recent);
        if walks {
            *walk = TreeWalk::of(&self.mount.point, now, limit);
        }
        let is_later = walks || walk.begun.is_some_and(|begun| begun > since);
        let has_seen_it_gone = walk.complete && is_later;
        location(walk).unwrap_or_else(|| match &walk.refused {
            _ if has_seen_it_gone => CgroupLookup::Dead,
            Some(why) => CgroupLookup::Unreadable(why.clone()),
            None => CgroupLookup::Unknown,
        })
    }

    fn location(&self, directory: PathBuf) -> CgroupLocation {
        let below = directory.strip_prefix(&self.mount.point).unwrap_or(&directory);
        let (mut above, mut of_root) = (self.mount.point.clone(), 0);
        for name in below {
            // Whoever may write to a directory makes cgroups in it, with any name.
            if !above.symlink_metadata().is_ok_and(|found| self.is_roots(&found)) {
                break;
            }
            of_root += 1 + escape(name.as_bytes()).len();
            above.push(name);
        }
        let below = below.as_os_str().as_bytes();
        let is_long = below.len() > LONGEST;
        let path = format!("/{}", text(below));
        // A name that was cut is not the one that root gave.
        let of_root = if is_long && of_root + CUT.len() > path.len() { 0 } else { of_root };
        // A path that was cut is looked up each time.
        CgroupLocation { path, of_root, directory: Some(directory).filter(|_| !is_long) }
    }

    /// Whether only root makes cgroups in a directory.
    fn is_roots(&self, directory: &Metadata) -> bool {
        directory.uid() == self.root && directory.mode() & WRITTEN_BY_OTHERS == 0
    }
}

impl TreeWalk {
    /// Walks all cgroups, up to a limit.
    fn of(root: &Path, begun: Instant, limit: usize) -> Self {
        let mut walk =
            Self { begun: Some(begun), complete: true, refused: None, directories: HashMap::new() };
        let metadata = match root.metadata() {
            Ok(metadata) => metadata,
            Err(error) => return Self { complete: false, refused: Some(unreadable(root, &error)), ..walk },
        };
        walk.directories.insert(metadata.ino(), root.to_owned());
        let mut pending = vec![(root.to_owned(), 0)];
        let mut bytes = 0;
        while let Some((directory, depth)) = pending.pop() {
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(error) => {
                    // A directory that was removed since its parent was read has no cgroups to miss.
                    if error.kind() != io::ErrorKind::NotFound {
                        walk.complete = false;
                        walk.refused = Some(unreadable(&directory, &error));
                    }
                    continue;
                }
            };
            for entry in entries.filter_map(Result::ok).filter(is_directory) {
                bytes += directory.as_os_str().len();
                if walk.directories.len() >= limit || bytes > WALKED {
                    return Self { complete: false, ..walk };
                }
                walk.directories.insert(entry.ino(), entry.path());
                if depth == DEPTH_LIMIT {
                    walk.complete = false;
                } else {
                    pending.push((entry.path(), depth + 1));
                }
            }
        }
        walk
    }
}

fn unreadable(directory: &Path, error: &io::Error) -> String {
    format!("`{}` cannot be read: {error}", directory.display())
}

/// A path as it is shown.
fn text(path: &[u8]) -> String {
    match path.get(..LONGEST) {
        Some(begin) if path.len() > LONGEST => escape(begin) + CUT,
        _ => escape(path),
    }
}

fn is_directory(entry: &DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_paths_are_cut() {
        assert_eq!(text(b"a/b"), "a/b");
        let longest = "x".repeat(LONGEST);
        assert_eq!(text(longest.as_bytes()), longest);
        assert_eq!(text("x".repeat(4095).as_bytes()), longest + CUT);
    }
}
