//! USDT probes of programs (`sys/sdt.h`): the notes that name them, and the places of their arguments. This module parses
//! text and bytes; others read the files.

mod note;
mod operand;

pub use note::{Note, NoteError, notes};
pub use operand::{Extend, Index, UsdtArgument, UsdtOperand, arguments};

/// The identity of a file, and its version: a file that was written to since is another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Number of the device.
    pub device: u64,
    /// Number on the device.
    pub inode: u64,
    /// Time of the last modification, nanoseconds since the epoch; the owner of the file can set it.
    pub modified_ns: i128,
    /// Time of the last change of contents, rights, names or times, nanoseconds since the epoch. Nobody can set it. It also
    /// changes when overlayfs replaces a file of a lower layer by its own copy.
    pub changed_ns: i128,
    /// Its length, bytes.
    pub size: u64,
}

impl FileId {
    /// Whether both are one file, possibly modified in between.
    pub fn is_one_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// A place of a file where a program stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UsdtSite {
    /// File offset, bytes.
    pub offset: u64,
    /// File offset of the semaphore, the counter that says whether anybody listens; 0 for a probe without one. Programs may
    /// skip work that nobody listens to.
    pub semaphore: u64,
}

/// Places of one file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UsdtSites {
    /// The file in which they were found.
    pub file: FileId,
    /// The places.
    pub list: Vec<UsdtSite>,
}

/// A location of a probe, from its note.
#[derive(Clone, Debug, PartialEq)]
pub struct Location {
    /// Its place.
    pub site: UsdtSite,
    /// Its address, as the file was linked.
    pub address: u64,
    /// Its arguments; an error is the reason why one cannot be read.
    pub arguments: Vec<Result<UsdtArgument, String>>,
}

/// A probe of a program.
#[derive(Clone, Debug, PartialEq)]
pub struct UsdtProbe {
    /// Its provider.
    pub provider: String,
    /// Its name.
    pub name: String,
    /// The file.
    pub file: FileId,
    /// Every location of the probe in the program.
    pub locations: Vec<Location>,
}
