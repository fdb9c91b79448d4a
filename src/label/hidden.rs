//! Hidden disks: paths of multipath `NVMe` disks. They have requests and statistics, but no file in sysfs has their number.

use super::{
    Host,
    block_device::{DeviceNames, sequence},
};
use crate::{disk, name};
use std::{collections::BTreeMap, ffi::OsString, fs, os::unix::fs::DirEntryExt, path::PathBuf};

/// Most entries of a directory that are read.
const MAX_ENTRIES: usize = 1 << 16;

/// The directory of a disk. Its inode and contents stay the same as long as the disk exists.
#[derive(Debug)]
struct DiskDirectory {
    number: u64,
    /// The disk's name and sequence, if it is hidden.
    hidden: Option<(String, Option<u32>)>,
}

/// Finds hidden disks.
#[derive(Debug)]
pub(super) struct HiddenPaths {
    block: PathBuf,
    statistics: PathBuf,
    /// The disks of the last listing, by the names of their directories.
    entries: BTreeMap<OsString, DiskDirectory>,
    is_listed: bool,
}

impl HiddenPaths {
    pub(super) fn new(host: &Host) -> Self {
        Self {
            block: host.sys.join("block"),
            statistics: host.proc.join("diskstats"),
            entries: BTreeMap::new(),
            is_listed: false,
        }
    }

    /// Lets the next look-up list the disks again. Hidden disks that come or go cause no device event: the kernel suppresses
    /// those.
    pub(super) fn look_again(&mut self) {
        self.is_listed = false;
    }

    /// Lists the disks, unless that was done since [`HiddenPaths::look_again`]. Only new ones are read.
    fn list(&mut self) {
        if self.is_listed {
            return;
        }
        self.is_listed = true;
        let mut before = std::mem::take(&mut self.entries);
        let found = fs::read_dir(&self.block).into_iter().flatten().take(MAX_ENTRIES).flatten();
        self.entries = found
            .map(|entry| {
                let (file, number) = (entry.file_name(), entry.ino());
                let known = before.remove(&file).filter(|known| known.number == number);
                let read = || {
                    let path = entry.path();
                    let hidden =
                        disk::is_hidden(&path).then(|| (name::of_block_file(&file), sequence(&path)));
                    DiskDirectory { number, hidden }
                };
                let known = known.unwrap_or_else(read);
                (file, known)
            })
            .collect();
    }

    /// The hidden disk with this sequence, or, without a sequence, the one that has the number in the kernel's statistics; and
    /// its own sequence.
    pub(super) fn find(&mut self, number: u64, wanted: Option<u32>) -> Option<(DeviceNames, Option<u32>)> {
        self.list();
        let mut hidden = self.entries.values().filter_map(|entry| entry.hidden.as_ref()).peekable();
        // If there is no hidden disk, the statistics need not be read.
        hidden.peek()?;
        let told = match wanted {
            Some(_) => None,
            // Older kernels print 0:0 there.
            None => Some(name_of_number(&fs::read_to_string(&self.statistics).ok()?, number)?),
        };
        let is_it = |(disk, own): &&(String, Option<u32>)| match &told {
            Some(told) => told == disk,
            None => own.is_some() && *own == wanted,
        };
        hidden.find(is_it).map(|(disk, own)| (self.names(disk.clone()), *own))
    }

    /// Whether there is a disk of this name.
    pub(super) fn is_there(&self, device: &str) -> bool {
        self.block.join(device.replace('/', "!")).exists()
    }

    fn names(&self, disk: String) -> DeviceNames {
        match leads_to(&disk).filter(|device| self.is_there(device)) {
            Some(device) => DeviceNames { device, path: disk },
            None => DeviceNames { device: disk, path: String::new() },
        }
    }
}

/// The disk of a path: for example, `nvme0c1n2` is the path through controller 1 to `nvme0n2`.
fn leads_to(path: &str) -> Option<String> {
    let (subsystem, rest) = path.strip_prefix("nvme")?.split_once('c')?;
    let (controller, namespace) = rest.split_once('n')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let fits = [subsystem, controller, namespace].into_iter().all(is_number);
    fits.then(|| format!("nvme{subsystem}n{namespace}"))
}

/// The name for a number in the kernel's statistics of disks.
fn name_of_number(statistics: &str, number: u64) -> Option<String> {
    let (major, minor) = name::parts(number);
    statistics.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let is_it = words.next()?.parse() == Ok(major) && words.next()?.parse() == Ok(minor);
        is_it.then(|| words.next().map(|name| name.replace('!', "/")))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_paths() {
        for (path, expected) in [
            ("nvme0c1n2", Some("nvme0n2")),
            ("nvme12c345n6", Some("nvme12n6")),
            ("nvme0n1", None),
            ("nvme0c1n1p1", None),
            ("nvmec1n1", None),
            ("nvme0cn1", None),
            ("nvme0c1n", None),
            ("sda", None),
            ("", None),
        ] {
            assert_eq!(leads_to(path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn statistics_name_numbers() {
        let text = "   8       0 sda 1 2 3\n   0       0 nvme0c0n1 4 5\n 259       2 nvme1c0n1 6\n 104 0 cciss!c0d0 7\n259\n\n";
        for (number, expected) in [
            (8 << 20, Some("sda")),
            (259 << 20 | 2, Some("nvme1c0n1")),
            (104 << 20, Some("cciss/c0d0")),
            (259 << 20, None),
            (9 << 20, None),
        ] {
            assert_eq!(name_of_number(text, number).as_deref(), expected, "{number:#x}");
        }
    }
}
