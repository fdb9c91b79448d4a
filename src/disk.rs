//! Reads a disk's directory in sysfs.

use std::{fs, path::Path};

/// The number that no other disk had before; since Linux 5.15.
pub(crate) fn sequence(directory: &Path) -> Option<u64> {
    fs::read_to_string(directory.join("diskseq")).ok()?.trim().parse().ok()
}

/// Whether it is a path of another disk. Only that one has a device file.
pub(crate) fn is_hidden(directory: &Path) -> bool {
    fs::read_to_string(directory.join("hidden")).is_ok_and(|text| text.trim() == "1")
}

/// Whether it holds anything: a loop device without a file, or a drive without a medium, has no sectors.
pub(crate) fn has_sectors(directory: &Path) -> bool {
    fs::read_to_string(directory.join("size")).is_ok_and(|text| text.trim() != "0")
}
