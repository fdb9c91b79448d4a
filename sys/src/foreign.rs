//! Opens files that others own or may exchange: of containers, of processes, at paths that a user may write to.
//!
//! Whoever may put a file at a path may also put a pipe, a device or a link there, at any moment. So a path is first opened
//! without reading (`O_PATH`), then checked, and only a regular file is opened, through that descriptor: its name may mean
//! another file by then. Opening does not wait for a lease on the file (`O_NONBLOCK`), and no terminal becomes this process's
//! controlling terminal.
//!
//! A file system that a user or another machine serves (FUSE, a network) may still never answer: call this only where nothing
//! waits.

use super::file::open_in;
use std::{
    ffi::{CStr, CString},
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Component, Path},
};

/// Rights that everybody must have: on a file, and on each directory on the way.
const READ_BY_ALL: u32 = 0o444;
const REACHED_BY_ALL: u32 = 0o111;
/// Rights that only the owner may have.
pub const WRITTEN_BY_OTHERS: u32 = 0o022;

/// Where to look for a file of others.
#[derive(Clone, Copy, Debug)]
pub enum Foreign<'p> {
    /// At a path that an administrator wrote, in the root of this process; links are followed.
    Named(&'p Path),
    /// Below a root that links cannot leave, 5.6.
    Under(BorrowedFd<'p>, &'p Path),
    /// Through a link in procfs that leads to the file itself, whatever its name: `map_files/FROM-TO`.
    Link(&'p Path),
    /// At a path that somebody else wrote, in the root of this process: only files that root has installed for everybody to
    /// read, and no links. So nobody gets a file read that he could not read himself, or that he could exchange.
    OfRoot(&'p Path),
    /// Like [`Self::OfRoot`] with any rights; the caller knows which file it must be.
    Unlinked(&'p Path),
}

/// Why a file is not opened.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// It is a pipe, a device or the like.
    #[error("it is {0}, not a file")]
    NotAFile(&'static str),
    /// Not everybody may read or reach it, or users other than root may exchange it.
    #[error("it is not one that root has put there for everybody")]
    Private,
    /// A user or another machine serves it, and may never answer.
    #[error("it is in a file system that the program of a user serves (FUSE); copy it elsewhere")]
    Served,
    /// The kernel refused to open it.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl ForeignError {
    /// Whether there is no file at that place.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// Distinguishes a file from all others, and from its earlier contents. The inode number alone does not: file systems reuse
/// that of a removed file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Number of its device, as in `stat`.
    pub device: u64,
    /// Inode number on the device.
    pub inode: u64,
    /// When it was created, nanoseconds of Unix time; `None` if the file system does not record that.
    pub born_ns: Option<i128>,
    /// When it was last written, in the same unit. The owner of the file can set this.
    pub modified_ns: i128,
    /// Size in bytes.
    pub size: u64,
}

impl Identity {
    /// The earliest time at which this file can have existed, as far as its file system records it.
    pub fn appeared_ns(&self) -> i128 {
        self.born_ns.unwrap_or(self.modified_ns)
    }
}

/// The identity of a file that is open.
pub fn identity(file: BorrowedFd<'_>) -> io::Result<Identity> {
    Ok(status(file)?.identity)
}

/// A regular file that was checked and is not open for reading.
#[derive(Debug)]
pub struct CheckedFile {
    fd: OwnedFd,
    /// Its identity.
    pub identity: Identity,
}

impl CheckedFile {
    /// Opens it for reading, whatever file has its name by now.
    pub fn open(&self) -> Result<File, ForeignError> {
        Ok(File::from(reopen(&self.fd, 0)?))
    }
}

/// Checks a file without opening it for reading.
pub fn look_at(place: Foreign<'_>) -> Result<CheckedFile, ForeignError> {
    let (fd, status) = hold(place)?;
    match status.kind {
        libc::S_IFREG => Ok(CheckedFile { fd, identity: status.identity }),
        kind => Err(ForeignError::NotAFile(kind_name(kind))),
    }
}

/// Opens a file for reading.
pub fn open_foreign(place: Foreign<'_>) -> Result<File, ForeignError> {
    look_at(place)?.open()
}

/// Opens a directory to list it.
pub fn open_foreign_directory(place: Foreign<'_>) -> Result<OwnedFd, ForeignError> {
    let (fd, status) = hold(place)?;
    match status.kind {
        libc::S_IFDIR => Ok(reopen(&fd, libc::O_DIRECTORY)?),
        kind => Err(ForeignError::NotAFile(kind_name(kind))),
    }
}

/// Opens a directory as the beginning of paths: the root of a process.
pub fn hold_directory(path: &Path) -> io::Result<OwnedFd> {
    open_at(None, &text(path)?, libc::O_PATH | libc::O_DIRECTORY)
}

fn hold(place: Foreign<'_>) -> Result<(OwnedFd, Status), ForeignError> {
    let fd = match place {
        Foreign::Named(path) | Foreign::Link(path) => open_at(None, &text(path)?, libc::O_PATH)?,
        Foreign::Under(root, path) => OwnedFd::from(open_in(root, &text(path)?, libc::O_PATH)?),
        Foreign::OfRoot(path) => return walk(path, true),
        Foreign::Unlinked(path) => return walk(path, false),
    };
    let status = status(fd.as_fd())?;
    Ok((fd, status))
}

/// Goes from the root to a file, name by name, without following links.
fn walk(path: &Path, of_root: bool) -> Result<(OwnedFd, Status), ForeignError> {
    let mut fd = open_at(None, c"/", libc::O_PATH | libc::O_DIRECTORY)?;
    let mut found = status(fd.as_fd())?;
    let mut parts = path.components();
    if parts.next() != Some(Component::RootDir) {
        return Err(io::Error::from(io::ErrorKind::NotFound).into());
    }
    for part in parts {
        let Component::Normal(name) = part else {
            return Err(io::Error::from(io::ErrorKind::NotFound).into());
        };
        if of_root && !found.is_of_root(REACHED_BY_ALL) {
            return Err(ForeignError::Private);
        }
        let name = text(Path::new(name))?;
        fd = open_at(Some(fd.as_fd()), &name, libc::O_PATH | libc::O_NOFOLLOW)?;
        found = status(fd.as_fd())?;
    }
    if of_root && found.kind == libc::S_IFREG && !found.is_of_root(READ_BY_ALL) {
        return Err(ForeignError::Private);
    }
    Ok((fd, found))
}

fn kind_name(kind: u32) -> &'static str {
    match kind {
        libc::S_IFIFO => "a pipe",
        libc::S_IFCHR | libc::S_IFBLK => "a device",
        libc::S_IFDIR => "a directory",
        libc::S_IFLNK => "a link",
        libc::S_IFSOCK => "a socket",
        libc::S_IFREG => "a file",
        _ => "something else",
    }
}

fn text(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

fn open_at(directory: Option<BorrowedFd<'_>>, path: &CStr, flags: libc::c_int) -> io::Result<OwnedFd> {
    let directory = directory.map_or(libc::AT_FDCWD, |directory| directory.as_raw_fd());
    // SAFETY: the kernel reads a string; the call makes a descriptor.
    let fd = unsafe { libc::openat(directory, path.as_ptr(), flags | libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn reopen(fd: &OwnedFd, flags: libc::c_int) -> io::Result<OwnedFd> {
    let path = CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).map_err(io::Error::other)?;
    open_at(None, &path, flags | libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY)
}

struct Status {
    kind: u32,
    mode: u32,
    user: u32,
    identity: Identity,
}

impl Status {
    /// Whether root owns it, nobody else may write to it, and everybody has these rights.
    fn is_of_root(&self, rights: u32) -> bool {
        self.user == 0 && self.mode & WRITTEN_BY_OTHERS == 0 && self.mode & rights == rights
    }
}

fn nanoseconds(time: libc::statx_timestamp) -> i128 {
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

/// The status of a file as it is cached here: the server of the file system is not involved.
fn status(fd: BorrowedFd<'_>) -> io::Result<Status> {
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    // SAFETY: all zeros is such a structure.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    let mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME;
    // SAFETY: the kernel reads an empty string and writes one structure of this type.
    let result = unsafe { libc::statx(fd.as_raw_fd(), c"".as_ptr(), flags, mask, &raw mut found) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let mode = u32::from(found.stx_mode);
    Ok(Status {
        kind: mode & libc::S_IFMT,
        mode,
        user: found.stx_uid,
        identity: Identity {
            device: libc::makedev(found.stx_dev_major, found.stx_dev_minor),
            inode: found.stx_ino,
            born_ns: (found.stx_mask & libc::STATX_BTIME != 0).then(|| nanoseconds(found.stx_btime)),
            modified_ns: nanoseconds(found.stx_mtime),
            size: found.stx_size,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs::{self, Permissions},
        io::Read,
        os::unix::fs::{MetadataExt, PermissionsExt, symlink},
        process::Command,
    };

    fn read(place: Foreign<'_>) -> Result<String, ForeignError> {
        let mut text = String::new();
        open_foreign(place)?.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn only_regular_files_are_opened() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("file"), "inside").unwrap();
        symlink(path("file"), path("link")).unwrap();
        assert!(Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
        let _listening = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        let root = hold_directory(directory.path()).unwrap();
        // Opening the pipe would wait for a writer.
        for (name, what) in [("pipe", "a pipe"), ("socket", "a socket"), (".", "a directory")] {
            let path = path(name);
            let places = [
                Foreign::Named(&path),
                Foreign::Unlinked(&path),
                Foreign::Under(root.as_fd(), Path::new(name)),
            ];
            for place in places {
                let error = look_at(place).unwrap_err().to_string();
                assert_eq!(error, format!("it is {what}, not a file"), "{place:?}");
            }
        }
        let device = look_at(Foreign::Named(Path::new("/dev/null"))).unwrap_err().to_string();
        assert_eq!(device, "it is a device, not a file");
        assert_eq!(read(Foreign::Named(&path("link"))).unwrap(), "inside");
        let linked = read(Foreign::Unlinked(&path("link"))).unwrap_err().to_string();
        assert_eq!(linked, "it is a link, not a file");
        assert!(read(Foreign::Named(&path("none"))).unwrap_err().is_absent());
        let looked = look_at(Foreign::Named(&path("file"))).unwrap();
        let metadata = fs::metadata(path("file")).unwrap();
        let identity = looked.identity;
        assert_eq!((identity.device, identity.inode), (metadata.dev(), metadata.ino()));
        assert_eq!(identity.size, metadata.len());
        let modified = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
        assert_eq!(identity.modified_ns, modified);
        let born = |born: std::time::SystemTime| {
            i128::try_from(born.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos()).unwrap()
        };
        assert_eq!(identity.born_ns, metadata.created().ok().map(born), "what the library says");
        // The file that was checked is the one that is opened.
        fs::remove_file(path("file")).unwrap();
        assert!(Command::new("mkfifo").arg(path("file")).status().unwrap().success());
        let mut text = String::new();
        looked.open().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "inside");
        assert!(open_foreign_directory(Foreign::Under(root.as_fd(), Path::new("/"))).is_ok());
        assert!(open_foreign_directory(Foreign::Under(root.as_fd(), Path::new("/pipe"))).is_err());
    }

    #[test]
    fn what_root_has_put_there_everybody_may_read_and_reach() {
        // Not below `/tmp`, which others may write to.
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let within = directory.path().join("a/b");
        fs::create_dir_all(&within).unwrap();
        let file = within.join("file");
        fs::write(&file, "public").unwrap();
        let chmod = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let private = |path: &Path| matches!(read(Foreign::OfRoot(path)), Err(ForeignError::Private));
        chmod(directory.path(), 0o755);
        chmod(&file, 0o644);
        if private(&file) {
            return println!("skipped: the directories above are not root's alone");
        }
        assert_eq!(read(Foreign::OfRoot(&file)).unwrap(), "public");
        for mode in [0o600, 0o604, 0o664, 0o646] {
            chmod(&file, mode);
            assert!(private(&file), "{mode:o}");
        }
        assert_eq!(read(Foreign::Unlinked(&file)).unwrap(), "public", "by whoever knows which it has to be");
        chmod(&file, 0o444);
        std::os::unix::fs::chown(&file, Some(65534), None).unwrap();
        assert!(private(&file), "another's");
        std::os::unix::fs::chown(&file, Some(0), None).unwrap();
        for mode in [0o700, 0o777, 0o1777] {
            chmod(&within, mode);
            assert!(private(&file), "{mode:o}");
        }
        chmod(&within, 0o711);
        assert_eq!(read(Foreign::OfRoot(&file)).unwrap(), "public");
        symlink(&within, directory.path().join("link")).unwrap();
        assert!(
            read(Foreign::OfRoot(&directory.path().join("link/file"))).is_err(),
            "a directory that is a link"
        );
        assert!(read(Foreign::OfRoot(&within.join("../b/file"))).is_err());
        assert!(read(Foreign::OfRoot(Path::new("file"))).is_err());
    }
}
