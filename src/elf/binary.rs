//! Programs and libraries among the files of this host, of a process or of a container.

use super::{ReadLimits, library, missing, served};
use crate::{
    container,
    deadline::{self, HangingThreads, MayHang, Outcome},
    sys::{Foreign, ForeignError, hold_directory, look_at, open_foreign, open_foreign_directory},
};
use std::{
    env,
    ffi::CString,
    fs::{self, File},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tapster_ebpf::{attach::Missing, probe::Root, usdt::FileId};

/// Where distributions put libraries; in each there is also a directory named after the machine.
const LIBRARY_DIRECTORIES: [&str; 5] = ["/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib"];
/// Where programs are, in a root other than this process's.
const PROGRAM_DIRECTORIES: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// Most names of a directory that are read.
const NAMES: usize = 1 << 16;
/// How long finding a file may take: the server of a directory on the way may never answer.
const FIND: deadline::TimeLimits =
    deadline::TimeLimits { first: Duration::from_secs(2), next: Duration::from_secs(2) };

/// A word of the configuration that names a file: a path, or the name of a library or program.
#[derive(Debug)]
pub struct FileWord {
    proc: PathBuf,
    root: Root,
    text: String,
    left: HangingThreads,
}

impl MayHang for FileWord {
    fn left(&self) -> &HangingThreads {
        &self.left
    }
}

impl FileWord {
    /// A word, and the root in which it is looked for.
    pub fn new(proc: &Path, root: &Root, text: &str) -> Self {
        Self {
            proc: proc.to_owned(),
            root: root.clone(),
            text: text.to_owned(),
            left: HangingThreads::default(),
        }
    }

    /// Whether it is looked for in this root.
    pub fn is_in(&self, root: &Root) -> bool {
        self.root == *root
    }

    /// Opens the file that it names now. After a time-out it is not tried again until the first attempt has ended.
    pub fn open(self: &Arc<Self>) -> Result<Binary, Missing> {
        let find = |word: &Self| FileTree::of(&word.proc, &word.root)?.find(&word.text);
        match deadline::each(FIND, vec![self.clone()], find).pop() {
            Some(Outcome::Read(found)) => found,
            Some(Outcome::Slow) | None => Err(missing(
                format!("the file system that `{}` is looked for in does not answer", self.text),
                None,
            )),
            Some(Outcome::Panicked) => Err(missing(
                format!(
                    "looking for `{}` panicked, which is a bug in tapster; the log says where",
                    self.text
                ),
                None,
            )),
        }
    }
}

/// A program or library. It stays the same file, whatever has its name later.
#[derive(Debug)]
pub struct Binary {
    /// Its path in the root in which it was looked for.
    pub path: PathBuf,
    /// Its path for this process, without links: it differs between files of different roots.
    pub place: PathBuf,
    /// The file.
    pub file: File,
    /// The identity and version of the file.
    pub id: FileId,
    /// Limits for reading it.
    pub limits: ReadLimits,
}

impl Binary {
    /// Opens the file that a word of the configuration names: a path, or the name of a library or program.
    pub fn open(proc: &Path, root: &Root, word: &str) -> Result<Self, Missing> {
        Arc::new(FileWord::new(proc, root, word)).open()
    }

    /// A path for the kernel that leads to this very file.
    pub fn kernel_path(&self) -> CString {
        CString::new(format!("/proc/self/fd/{}", self.file.as_raw_fd())).unwrap_or_default()
    }
}

/// The identity and version of a file.
pub fn file_id(metadata: &fs::Metadata) -> FileId {
    let ns = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    FileId {
        device: metadata.dev(),
        inode: metadata.ino(),
        modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
        changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
        size: metadata.size(),
    }
}

/// Files under a root.
enum FileTree {
    Host,
    Under { root: OwnedFd, process: PathBuf, shown: String },
}

impl FileTree {
    fn of(proc: &Path, root: &Root) -> Result<Self, Missing> {
        let pid = match root {
            Root::Host => return Ok(Self::Host),
            Root::Process(pid) => *pid,
            Root::Container(name) => container::process(proc, name)?,
        };
        let directory = container::directory(proc, pid);
        if !directory.exists() {
            return Err(missing(
                format!("there is no process {pid}"),
                "`pid` is the number on the host, not inside of a container".to_owned(),
            ));
        }
        let opened = hold_directory(&directory.join("root"))
            .map_err(|error| missing(format!("the files of {root} cannot be seen: {error}"), None))?;
        Ok(Self::Under { root: opened, process: directory, shown: format!(" in {root}") })
    }

    fn shown(&self) -> &str {
        match self {
            Self::Host => "",
            Self::Under { shown, .. } => shown,
        }
    }

    fn place<'p>(&'p self, path: &'p Path) -> Foreign<'p> {
        match self {
            Self::Host => Foreign::Named(path),
            Self::Under { root, .. } => Foreign::Under(root.as_fd(), path),
        }
    }

    fn open(&self, path: &Path) -> Result<Binary, ForeignError> {
        let looked = look_at(self.place(path))?;
        let mounts = match self {
            Self::Host => Path::new("/proc/self"),
            Self::Under { process, .. } => process,
        };
        if served::is_by_user(mounts, looked.identity.device) {
            return Err(ForeignError::Served);
        }
        let file = looked.open()?;
        let metadata = file.metadata()?;
        let (place, limits) = match self {
            Self::Host => (fs::canonicalize(path)?, ReadLimits::of_host(&metadata)),
            Self::Under { process, .. } => {
                (process.join("root").join(path.strip_prefix("/").unwrap_or(path)), ReadLimits::NAMED)
            }
        };
        Ok(Binary { path: path.to_owned(), place, file, id: file_id(&metadata), limits })
    }

    /// Names in a directory.
    fn names(&self, directory: &Path) -> Vec<String> {
        let Ok(opened) = open_foreign_directory(self.place(directory)) else { return Vec::new() };
        let path = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
        let entries = fs::read_dir(path).into_iter().flatten().flatten().take(NAMES);
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    fn find(&self, word: &str) -> Result<Binary, Missing> {
        if word.contains('/') {
            return self.open(Path::new(word)).map_err(|error| {
                if error.is_absent() {
                    missing(format!("there is no `{word}`{}", self.shown()), None)
                } else {
                    missing(format!("`{word}`{} cannot be read: {error}", self.shown()), None)
                }
            });
        }
        self.candidates(word).find_map(|path| self.open(&path).ok()).ok_or_else(|| {
            missing(
                format!("there is no program or library `{word}`{}", self.shown()),
                "give its path, or a library's name: libc, libc.so.6".to_owned(),
            )
        })
    }

    /// Paths at which a library or program of this name may be, the likeliest first.
    fn candidates(&self, name: &str) -> impl Iterator<Item = PathBuf> {
        let machine = format!("{}-linux-gnu", env::consts::ARCH);
        let versions = format!("{name}.so");
        let cached = library::cached(|path| open_foreign(self.place(path)), name);
        let in_directories = LIBRARY_DIRECTORIES
            .iter()
            .flat_map(move |directory| [Path::new(directory).join(&machine), directory.into()])
            .flat_map(move |directory| {
                let mut named: Vec<String> = self.names(&directory);
                named.retain(|found| {
                    found == name
                        || found
                            .strip_prefix(&versions)
                            .is_some_and(|rest| matches!(rest.chars().next(), None | Some('.')))
                });
                // The exact name, then the highest version.
                named.sort_by_key(|found| (found != name, std::cmp::Reverse(library::version(found))));
                named.into_iter().map(move |found| directory.join(found))
            });
        let programs: Vec<PathBuf> = match self {
            Self::Host => env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect(),
            Self::Under { .. } => PROGRAM_DIRECTORIES.iter().map(PathBuf::from).collect(),
        };
        cached
            .into_iter()
            .chain(in_directories)
            .chain(programs.into_iter().map(move |directory| directory.join(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(word: &str) -> Result<Binary, Missing> {
        Binary::open(Path::new("/proc"), &Root::Host, word)
    }

    #[test]
    fn libraries_are_found_by_their_names() {
        let exact = host("libc.so.6").unwrap();
        let short = host("libc").unwrap();
        assert_eq!(exact.id, short.id);
        assert!(short.path.ends_with("libc.so.6"), "{}", short.path.display());
        assert!(host("sh").is_ok(), "a program");
        assert!(host("no-such-program-anywhere").is_err());
        let own = Binary::open(Path::new("/proc"), &Root::Process(std::process::id()), "libc").unwrap();
        assert_eq!(own.id, exact.id, "this process sees the files of this host");
    }

    #[test]
    fn files_of_a_process_are_those_under_its_root() {
        // A process as `/proc` shows it, whose root is another directory.
        let proc = tempfile::tempdir().unwrap();
        let root = proc.path().join("7/root");
        fs::create_dir_all(root.join("usr/lib64")).unwrap();
        fs::create_dir_all(root.join("opt")).unwrap();
        for name in ["libthing.so.9", "libthing.so.10.1", "libthing-2.so", "libthings.so.11"] {
            fs::write(root.join("usr/lib64").join(name), name).unwrap();
        }
        std::os::unix::fs::symlink("/usr/lib64/libthing.so.9", root.join("opt/program")).unwrap();
        let open = |word: &str| Binary::open(proc.path(), &Root::Process(7), word);
        assert!(open("libthing").unwrap().path.ends_with("usr/lib64/libthing.so.10.1"));
        assert!(open("libthing.so.9").unwrap().path.ends_with("libthing.so.9"));
        let linked = open("/opt/program").unwrap();
        assert_eq!(linked.id, open("libthing.so.9").unwrap().id, "a link does not lead out");
        let message = |word: &str| open(word).unwrap_err().message;
        assert_eq!(message("/bin/sh"), "there is no `/bin/sh` in process 7");
        assert_eq!(message("/opt"), "`/opt` in process 7 cannot be read: it is a directory, not a file");
        assert_eq!(message("sh"), "there is no program or library `sh` in process 7");
        let gone = Binary::open(proc.path(), &Root::Process(8), "sh").unwrap_err();
        assert_eq!(gone.message, "there is no process 8");
    }
}
