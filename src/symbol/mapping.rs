//! What a process has mapped to be executed: `/proc/PID/maps`.

use std::{
    ffi::OsStr,
    fs::File,
    io::{BufRead, BufReader, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// Longest text that is read, bytes, and most mappings of a process that are kept: it may make 65 000.
const LONGEST: u64 = 32 << 20;
const MOST: usize = 2048;

/// A file, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Inode {
    /// As the kernel prints it: major and minor number in hexadecimal.
    pub device: (u32, u32),
    pub number: u64,
}

/// Memory of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub from: u64,
    pub to: u64,
    /// Where the memory's beginning is in the file.
    pub offset: u64,
    /// `None` for memory without a file.
    pub inode: Option<Inode>,
    /// The file's name as the process sees it, or `[vdso]` and its like.
    pub path: PathBuf,
}

/// What a process has mapped to be executed, by its directory in procfs.
pub fn mappings(process: &Path) -> Vec<Mapping> {
    File::open(process.join("maps")).map(read).unwrap_or_default()
}

/// The same of the text.
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

/// `FROM-TO PERMISSIONS OFFSET MAJOR:MINOR INODE PATH`; `None` for what is not executed.
fn parse(line: &[u8]) -> Option<Mapping> {
    // Names may be any bytes, what stands before them is ASCII.
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
