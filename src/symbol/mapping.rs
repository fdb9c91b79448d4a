//! What a process has mapped to be executed: `/proc/PID/maps`.

use std::path::PathBuf;

/// A file, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Inode {
    /// As the kernel prints it: major and minor number in hexadecimal.
    pub(super) device: (u32, u32),
    pub(super) number: u64,
}

/// Memory of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) from: u64,
    pub(super) to: u64,
    /// Where the memory's beginning is in the file.
    pub(super) offset: u64,
    /// `None` for memory without a file.
    pub(super) inode: Option<Inode>,
    /// The file's name as the process sees it, or `[vdso]` and its like.
    pub(super) path: PathBuf,
}

/// `FROM-TO PERMISSIONS OFFSET MAJOR:MINOR INODE PATH`; `None` for what is not executed.
pub(super) fn parse(line: &str) -> Option<Mapping> {
    let (from, rest) = line.split_once('-')?;
    let mut words = rest.splitn(6, ' ');
    let to = words.next()?;
    if words.next()?.as_bytes().get(2) != Some(&b'x') {
        return None;
    }
    let hex = |digits: &str| u64::from_str_radix(digits, 16).ok();
    let offset = hex(words.next()?)?;
    let (major, minor) = words.next()?.split_once(':')?;
    let mut tail = words.next()?;
    let mut path = words.next().unwrap_or_default();
    if let Some((number, rest)) = tail.split_once(' ') {
        (tail, path) = (number, rest);
    }
    let number: u64 = tail.parse().ok()?;
    let device = (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?);
    Some(Mapping {
        from: hex(from)?,
        to: hex(to)?,
        offset,
        inode: (number != 0).then_some(Inode { device, number }),
        path: path.trim_start().into(),
    })
}
