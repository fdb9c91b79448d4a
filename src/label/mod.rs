//! Turns the raw bytes of a label in a map key into the text of a label value.
//!
//! One decoder per file. A decoder lives as long as its probe and may cache: [`Decode::refresh`] at the
//! start of a scrape is where it looks again at what may have changed. Different raw values may give the
//! same text (two generations of a cgroup, addresses in one function); whoever writes the series adds
//! them up.

mod block_device;
pub(crate) mod cgroup;
mod errno;
mod hidden;
pub(crate) mod ksym;
pub(crate) mod number;
mod raid;
pub(crate) mod reason;
pub(crate) mod stack;
mod syscall;
mod table;
#[cfg(test)]
mod tests;
mod text;

use crate::topology::Topology;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How a label's raw value becomes text.
pub trait Decode: Send {
    /// The text of a raw value: for numbers up to 8 bytes, little endian. Any length is accepted.
    /// `None` leaves the row out of this scrape.
    fn decode(&mut self, raw: &[u8]) -> Option<String>;

    /// Called once at the beginning of each scrape, with the arrays as this scrape sees them.
    fn refresh(&mut self, _: &Arc<Topology>) {}

    /// Called about every second between scrapes: looks whether values mean what they did.
    fn look(&mut self) {}

    /// Whether what a raw value meant is gone, so that its row has to leave the map before something else is counted in it.
    /// Its text is still what it was.
    fn is_gone(&mut self, _raw: &[u8]) -> bool {
        false
    }

    /// All rows of what is gone have left the map: from now on their values mean what has them now.
    fn forget_gone(&mut self) {}
}

/// Which decoder a label uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spec {
    /// Unsigned decimal.
    Unsigned,
    /// Signed decimal.
    Signed,
    /// `0x` and lower-case hexadecimal.
    Hex,
    /// Bytes up to NUL.
    Text,
    /// Numbers by name.
    Table {
        /// Name of each known number.
        rows: BTreeMap<i64, String>,
        /// Name of all others; the decimal number where there is none.
        default: Option<String>,
    },
    /// Name of a disk or partition by its kernel `dev_t`.
    BlockDevice,
    /// Path to a multipath disk by the path's kernel `dev_t`; empty for other devices.
    BlockPath,
    /// `ENOENT` for 2 and -2, `ok` for 0.
    Errno,
    /// Name of a system call by its number.
    Syscall,
    /// Name of the kernel function around an address.
    Ksym,
    /// Name of an array by its kernel `dev_t`; what is no array is left out.
    RaidArray,
    /// Level of an array by its kernel `dev_t`; what is no array is left out.
    RaidLevel,
    /// Slot of a member by both numbers, `array << 32 | member`; what is no member is left out.
    RaidSlot,
}

/// Where decoders find the files of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Where procfs is mounted.
    pub proc: PathBuf,
    /// Where sysfs is mounted.
    pub sys: PathBuf,
    /// Where devtmpfs is mounted.
    pub dev: PathBuf,
    /// Where the kubelet puts links to the logs of containers; `None` for `/var/log/containers` of the first process.
    pub containers: Option<PathBuf>,
}

impl Default for Host {
    fn default() -> Self {
        Self { proc: "/proc".into(), sys: "/sys".into(), dev: "/dev".into(), containers: None }
    }
}

impl Host {
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

/// Why a label cannot be decoded on this machine.
#[derive(Debug, thiserror::Error)]
pub enum LabelError {
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

/// Makes the decoder of a label.
pub fn decoder(spec: &Spec, host: &Host) -> Result<Box<dyn Decode>, LabelError> {
    Ok(match spec {
        Spec::Unsigned => Box::new(number::Unsigned),
        Spec::Signed => Box::new(number::Signed),
        Spec::Hex => Box::new(number::Hex),
        Spec::Text => Box::new(text::Text),
        Spec::Table { rows, default } => Box::new(table::Table::new(rows.clone(), default.clone())),
        Spec::BlockDevice => Box::new(block_device::BlockDevice::new(host)?),
        Spec::BlockPath => Box::new(block_device::BlockPath::new(host)?),
        Spec::Errno => Box::new(errno::Errno),
        Spec::Syscall => Box::new(syscall::Syscall::new()),
        Spec::Ksym => Box::new(ksym::Ksym::new(host)?),
        Spec::RaidArray => Box::new(raid::RaidArray::default()),
        Spec::RaidLevel => Box::new(raid::RaidLevel::default()),
        Spec::RaidSlot => Box::new(raid::RaidSlot::default()),
    })
}

/// Fails where `path` is not there, so that a probe is down at start rather than wrong for ever.
fn require(decoder: &'static str, path: &Path) -> Result<(), LabelError> {
    match path.metadata() {
        Ok(_) => Ok(()),
        Err(source) => Err(LabelError::Unreadable { decoder, path: path.to_owned(), source }),
    }
}
