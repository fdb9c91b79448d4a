//! The executable mappings of a process: `/proc/PID/maps`.

use std::{
    ffi::OsStr,
    fs::File,
    io::{BufRead, BufReader, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// Most bytes of text that are read, and most mappings of a process that are kept: it may have 65 000.
const LONGEST: u64 = 32 << 20;
const MOST: usize = 2048;

/// The device and inode of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Inode {
    /// As the kernel prints it: major and minor number in hexadecimal.
    pub device: (u32, u32),
    pub number: u64,
}

/// An executable range of a process's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub from: u64,
    pub to: u64,
    /// The offset in the file of the beginning of the range.
    pub offset: u64,
    /// `None` for memory without a file.
    pub inode: Option<Inode>,
    /// The file's path as the process sees it, or `[vdso]` and its like.
    pub path: PathBuf,
}

/// The executable mappings of a process, by its directory in procfs; none if they cannot be read.
pub fn mappings(process: &Path) -> Vec<Mapping> {
    File::open(process.join("maps")).map(read).unwrap_or_default()
}

/// Parses the text of `maps`.
pub fn read(text: impl Read) -> Vec<Mapping> {
    let mut lines = BufReader::new(text.take(LONGEST));
    let (mut found, mut line) = (Vec::new(), Vec::new());
    while found.len() < MOST {
        line.clear();
        match lines.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => found.extend(parse(line.trim_ascii_end())),
        }
    }
    found
}

/// Parses `FROM-TO PERMISSIONS OFFSET MAJOR:MINOR INODE PATH`; `None` for a mapping that is not executable.
fn parse(line: &[u8]) -> Option<Mapping> {
    // A path may have any bytes; the words before it are ASCII.
    let mut words = line.splitn(6, |byte| *byte == b' ');
    let mut word = || std::str::from_utf8(words.next()?).ok();
    let hex = |digits: &str| u64::from_str_radix(digits, 16).ok();
    let (from, to) = word()?.split_once('-')?;
    if word()?.as_bytes().get(2) != Some(&b'x') {
        return None;
    }
    let offset = hex(word()?)?;
    let (major, minor) = word()?.split_once(':')?;
    let number: u64 = word()?.parse().ok()?;
    let path = words.next().unwrap_or_default().trim_ascii_start();
    let device = (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?);
    Some(Mapping {
        from: hex(from)?,
        to: hex(to)?,
        offset,
        inode: (number != 0).then_some(Inode { device, number }),
        path: Path::new(OsStr::from_bytes(path)).to_owned(),
    })
}
