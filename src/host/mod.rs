//! The machine that is observed: the paths of its files, and parsers of those that several rooms need.
//!
//! A container sees the host's files at other paths than its own, and tests use a directory as a host. So code that reads a
//! file of the machine takes its path from [`Host`]. Files of processes, which belong to others, are opened by `sys::foreign`
//! only.

pub(crate) mod kallsyms;
pub(crate) mod sysfs;

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Debian's and SUSE's places of `pci.ids`, Red Hat's, that of `update-pciids`, and Arch's of old.
const PCI_IDS: [&str; 4] =
    ["usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids", "var/lib/pciutils/pci.ids", "usr/share/pci.ids"];

/// The paths of the machine's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Where procfs is mounted.
    pub proc: PathBuf,
    /// Where sysfs is mounted.
    pub sys: PathBuf,
    /// Where devtmpfs is mounted.
    pub dev: PathBuf,
    /// Where udev keeps what it knows of devices.
    pub udev: PathBuf,
    /// The file of the kernel's BTF; `None` for the one in sysfs.
    pub btf: Option<PathBuf>,
    /// Where tracefs is mounted; `None` for its two places in sysfs.
    pub tracefs: Option<PathBuf>,
    /// The root of the host's files; `None` for that of process 1.
    pub root: Option<PathBuf>,
    /// Where the kubelet puts links to the logs of containers; `None` for `/var/log/containers` below the root of process 1.
    pub containers: Option<PathBuf>,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            proc: "/proc".into(),
            sys: "/sys".into(),
            dev: "/dev".into(),
            udev: "/run/udev/data".into(),
            btf: None,
            tracefs: None,
            root: None,
            containers: None,
        }
    }
}

impl Host {
    /// The file with the list of CPUs that are online.
    pub fn online_cpus(&self) -> PathBuf {
        self.sys.join("devices/system/cpu/online")
    }

    /// The file with the kernel's own counts of switches and the like.
    pub fn stat(&self) -> PathBuf {
        self.proc.join("stat")
    }

    /// The file of the kernel's symbols.
    pub fn kallsyms(&self) -> PathBuf {
        self.proc.join("kallsyms")
    }

    /// The root of process 1: the host's, also from inside a container that sees the host's processes. `None` if that is this
    /// process's own, or cannot be read.
    fn first_root(&self) -> Option<PathBuf> {
        let root = self.proc.join("1/root");
        let place = |path: &Path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
        let found = place(&root.join("."));
        (found.is_some() && found != place(Path::new("/"))).then_some(root)
    }

    /// The same host with the root that it has now: within Landlock, the root of process 1 cannot be read.
    #[must_use]
    pub fn rooted(self) -> Self {
        let root = self.root.clone().or_else(|| self.first_root());
        Self { root, ..self }
    }

    /// The root of the host's files. If it cannot be known, it is one that cannot be read: a container's own has other users.
    fn root(&self) -> PathBuf {
        self.root.clone().or_else(|| self.first_root()).unwrap_or_else(|| {
            let is_own = self.proc == Path::new("/proc");
            if is_own { "/".into() } else { self.proc.join("1/root") }
        })
    }

    /// The directory of links to the logs of containers.
    pub fn container_logs(&self) -> PathBuf {
        self.containers.clone().unwrap_or_else(|| {
            let root = self.root.clone().or_else(|| self.first_root());
            root.unwrap_or_else(|| "/".into()).join("var/log/containers")
        })
    }

    /// The file of the host's users.
    pub fn passwd(&self) -> PathBuf {
        self.root().join("etc/passwd")
    }

    /// Where distributions put the names of PCI devices: the host's, then those beside this process, which are as good. The first
    /// that can be read counts.
    pub fn pci_ids(&self) -> impl Iterator<Item = PathBuf> + use<> {
        let roots = [self.root(), "/".into()];
        roots.into_iter().flat_map(|root| PCI_IDS.iter().map(move |path| root.join(path)))
    }

    /// Whether links to logs are found without the root of another process.
    pub fn reads_logs_alone(&self) -> bool {
        !self.container_logs().starts_with(&self.proc)
    }

    /// Whether files of the host's root are found without the root of another process.
    pub fn reads_root_alone(&self) -> bool {
        !self.root().starts_with(&self.proc)
    }

    /// Whether devices of the device mapper exist.
    pub fn has_mapped(&self) -> bool {
        let devices = fs::read_dir(self.sys.join("block")).into_iter().flatten().flatten();
        devices.into_iter().any(|device| device.file_name().as_encoded_bytes().starts_with(b"dm-"))
    }
}

/// Why a decoder of labels does not work on this host.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A file or directory that the decoder needs cannot be read.
    #[error("decoder `{decoder}` needs `{path}`")]
    Unreadable {
        /// The decoder's name.
        decoder: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// The mount table has no cgroups.
    #[error("no cgroups are mounted, says `{path}`: mount the host's `/sys/fs/cgroup`")]
    NoCgroups {
        /// The mount table.
        path: PathBuf,
    },
}

/// Fails if `path` does not exist, so that a probe is down from the start rather than wrong later.
pub(crate) fn require(decoder: &'static str, path: &Path) -> Result<(), HostError> {
    match path.metadata() {
        Ok(_) => Ok(()),
        Err(source) => Err(HostError::Unreadable { decoder, path: path.to_owned(), source }),
    }
}
