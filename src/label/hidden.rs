//! Hidden disks: paths of multipath `NVMe` disks. They have requests and statistics, and no number that a file of sysfs tells.

use super::{
    Host,
    block_device::{Names, sequence},
};
use crate::name;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Most entries of a directory that are looked at.
const MAX_ENTRIES: usize = 1 << 16;

/// Where hidden disks are found.
#[derive(Debug)]
pub(super) struct Hidden {
    block: PathBuf,
    statistics: PathBuf,
}

impl Hidden {
    pub(super) fn new(host: &Host) -> Self {
        Self { block: host.sys.join("block"), statistics: host.proc.join("diskstats") }
    }

    /// The hidden disk of this sequence; without one, that which the kernel's statistics give the number. And its own sequence.
    pub(super) fn find(&self, number: u64, wanted: Option<u32>) -> Option<(Names, Option<u32>)> {
        let told = match wanted {
            Some(_) => None,
            // Older kernels write 0:0 there.
            None => Some(name_of_number(&fs::read_to_string(&self.statistics).ok()?, number)?),
        };
        let entries = fs::read_dir(&self.block).ok()?.take(MAX_ENTRIES).flatten();
        entries.map(|entry| entry.path()).filter(|path| is_hidden(path)).find_map(|path| {
            let disk = name::of_block_file(path.file_name()?);
            let own = sequence(&path);
            let is_it = told.as_ref().map_or(own.is_some() && own == wanted, |told| *told == disk);
            is_it.then(|| (self.names(disk), own))
        })
    }

    /// Whether there is a disk of this name.
    pub(super) fn is_there(&self, device: &str) -> bool {
        self.block.join(device.replace('/', "!")).exists()
    }

    fn names(&self, disk: String) -> Names {
        match leads_to(&disk).filter(|device| self.is_there(device)) {
            Some(device) => Names { device, path: disk },
            None => Names { device: disk, path: String::new() },
        }
    }
}

fn is_hidden(directory: &Path) -> bool {
    fs::read_to_string(directory.join("hidden")).is_ok_and(|text| text.trim() == "1")
}

/// The disk that a path leads to: the kernel calls the path through controller 1 to `nvme0n2` `nvme0c1n2`.
fn leads_to(path: &str) -> Option<String> {
    let (subsystem, rest) = path.strip_prefix("nvme")?.split_once('c')?;
    let (controller, namespace) = rest.split_once('n')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let fits = [subsystem, controller, namespace].into_iter().all(is_number);
    fits.then(|| format!("nvme{subsystem}n{namespace}"))
}

/// The name beside a number in the kernel's statistics of disks.
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
