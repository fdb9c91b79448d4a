//! Probes that programs bring along (USDT, `sys/sdt.h`): the notes that name them, and where their arguments are.
//! Text and bytes in, values out; files are read elsewhere.

mod note;
mod operand;

pub use note::{Note, NoteError, notes};
pub use operand::{Extend, Index, UsdtArgument, UsdtOperand, arguments};

/// Which file it was, and which version of it: one that was written to since is another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Number of the device.
    pub device: u64,
    /// Number on the device.
    pub inode: u64,
    /// When it was written to, nanoseconds since the epoch; whoever owns the file can set this.
    pub modified_ns: i128,
    /// When it was written to, or its rights, names or times were changed, nanoseconds since the epoch: nobody can set this, and
    /// it changes when overlayfs begins to have a file of its own in place of one of a layer below.
    pub changed_ns: i128,
    /// Its length, bytes.
    pub size: u64,
}

impl FileId {
    /// Whether both are one file, whatever was written to it in between.
    pub fn is_one_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// A place of a file where a program stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UsdtSite {
    /// Bytes from the start of the file.
    pub offset: u64,
    /// Where in the file the counter is that says whether anybody listens; 0 for a probe without one. Programs may
    /// skip what they would do for nobody.
    pub semaphore: u64,
}

/// Places of one file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UsdtSites {
    /// The file that they were found in.
    pub file: FileId,
    /// The places.
    pub list: Vec<UsdtSite>,
}

/// One place of a probe, as its note has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Location {
    /// Where.
    pub site: UsdtSite,
    /// Its address, as the file was linked.
    pub address: u64,
    /// Its arguments; an error says why one cannot be read.
    pub arguments: Vec<Result<UsdtArgument, String>>,
}

/// A probe of a program.
#[derive(Clone, Debug, PartialEq)]
pub struct UsdtProbe {
    /// Who defines it.
    pub provider: String,
    /// Its name.
    pub name: String,
    /// The file.
    pub file: FileId,
    /// Every place where the program passes it.
    pub locations: Vec<Location>,
}
