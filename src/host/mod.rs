//! The machine that is watched: where its files are, and readers of those that several rooms need.
//!
//! A container sees the host's files at other places than its own, and tests make a host of a directory. So whoever reads a file of
//! the machine asks [`Host`] for its place. Files of processes, which belong to others, are opened by `sys::foreign` only.

pub(crate) mod kallsyms;

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Where the files of the machine are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Where procfs is mounted.
    pub proc: PathBuf,
    /// Where sysfs is mounted.
    pub sys: PathBuf,
    /// Where devtmpfs is mounted.
    pub dev: PathBuf,
    /// The kernel's BTF; `None` for the one in sysfs.
    pub btf: Option<PathBuf>,
    /// Where tracefs is mounted; `None` for its two places in sysfs.
    pub tracefs: Option<PathBuf>,
    /// Where the kubelet puts links to the logs of containers; `None` for `/var/log/containers` of the first process.
    pub containers: Option<PathBuf>,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            proc: "/proc".into(),
            sys: "/sys".into(),
            dev: "/dev".into(),
            btf: None,
            tracefs: None,
            containers: None,
        }
    }
}

impl Host {
    /// The list of CPUs that are online.
    pub fn online_cpus(&self) -> PathBuf {
        self.sys.join("devices/system/cpu/online")
    }

    /// The kernel's symbols.
    pub fn kallsyms(&self) -> PathBuf {
        self.proc.join("kallsyms")
    }

    /// Where links to the logs of containers are.
    pub fn container_logs(&self) -> PathBuf {
        const LOGS: &str = "var/log/containers";
        self.containers.clone().unwrap_or_else(|| {
            // The host's root, also from within a container that sees the host's processes. Where it is this process's own, or
            // may not be seen, no way through another process is needed.
            let (root, own) = (self.proc.join("1/root"), Path::new("/"));
            let place = |path: &Path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
            match place(&root.join(".")) {
                Some(found) if place(own) != Some(found) => root.join(LOGS),
                _ => own.join(LOGS),
            }
        })
    }

    /// Whether links to logs are found without a look into another process.
    pub fn reads_logs_alone(&self) -> bool {
        !self.container_logs().starts_with(&self.proc)
    }

    /// Whether there are devices of the device mapper.
    pub fn has_mapped(&self) -> bool {
        let devices = fs::read_dir(self.sys.join("block")).into_iter().flatten().flatten();
        devices.into_iter().any(|device| device.file_name().as_encoded_bytes().starts_with(b"dm-"))
    }
}

/// What a decoder of labels needs and this host does not have.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A file or directory that the decoder needs cannot be read.
    #[error("decoder `{decoder}` needs `{path}`")]
    Unreadable {
        /// The decoder's name.
        decoder: &'static str,
        /// What it needs.
        path: PathBuf,
        /// Why it cannot have it.
        source: io::Error,
    },
    /// No cgroups in the mount table.
    #[error("no cgroups are mounted, says `{path}`: mount the host's `/sys/fs/cgroup`")]
    NoCgroups {
        /// The mount table.
        path: PathBuf,
    },
}

/// Fails where `path` is not there, so that a probe is down at start rather than wrong for ever.
pub(crate) fn require(decoder: &'static str, path: &Path) -> Result<(), HostError> {
    match path.metadata() {
        Ok(_) => Ok(()),
        Err(source) => Err(HostError::Unreadable { decoder, path: path.to_owned(), source }),
    }
}
