//! Reads files of sysfs defensively: any of them may be missing, malformed, or vanish while it is read.

use crate::name;
use std::{
    ffi::OsString,
    fs::{self, File},
    io::Read,
    path::Path,
};

/// Most bytes of an attribute: a page.
const MAX_BYTES: u64 = 4096;
/// Most block devices, and most entries of any directory, that are read.
const MAX_ENTRIES: usize = 1 << 16;

/// A block device in sysfs.
#[derive(Debug)]
pub(crate) struct Block {
    /// The name of its directory, with `/` written as `!`.
    pub(crate) file: OsString,
    /// Its name.
    pub(crate) name: String,
}

/// The bytes of an attribute, at most a page; `None` if it cannot be read.
pub(crate) fn bytes(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The text of an attribute without the end of the line; `None` if it cannot be read.
pub(crate) fn attribute(path: &Path) -> Option<String> {
    Some(name::escape(bytes(path)?.trim_ascii()))
}

/// Names in a directory, unordered; none if it cannot be read.
pub(crate) fn entries(path: &Path) -> impl Iterator<Item = OsString> + use<> {
    fs::read_dir(path).into_iter().flatten().take(MAX_ENTRIES).flatten().map(|entry| entry.file_name())
}

/// Block devices in order of name: `md2` before `md10`.
pub(crate) fn blocks(sys: &Path) -> Vec<Block> {
    let mut blocks: Vec<Block> =
        entries(&sys.join("block")).map(|file| Block { name: name::of_block_file(&file), file }).collect();
    blocks.sort_by(|a, b| natural(&a.name).cmp(&natural(&b.name)));
    blocks
}

/// The sort key of a name: the part before its number, the number, and the whole name as a tie-breaker.
pub(crate) fn natural(name: &str) -> (&str, u64, &str) {
    let front = name.trim_end_matches(|character: char| character.is_ascii_digit());
    (front, name[front.len()..].parse().unwrap_or(0), name)
}
