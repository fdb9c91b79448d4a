//! `path`: where a file is, as a text.

use super::Typed;

/// Bytes that a path may have at most, with its NUL.
pub const MOST_PATH: u32 = 256;
/// What a path begins with of which not all is there.
pub const CUT_PATH: &[u8; 4] = b"~cut";

/// What is read of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct PathRead {
    /// The address of the `struct dentry`, as a number.
    pub dentry: Typed,
    /// The address of the one at which its mount begins; `None` if only the root of the file system ends the path.
    pub root: Option<Typed>,
    /// Where the names are.
    pub offsets: DentryOffsets,
    /// Most bytes of the text, with its NUL.
    pub limit: u32,
}

/// Byte offsets in a `struct dentry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DentryOffsets {
    /// `d_parent`: itself, of a root.
    pub parent: u32,
    /// `d_name.name`
    pub name: u32,
    /// `d_name.len`
    pub length: u32,
}
