//! Layout of the memory in which a CPU puts a path together.
//!
//! A word says whether a program is using it. Another one is the place at which the text begins. Behind them is room for the longest path, which is
//! written from its end, and then as many zeros, so that what is copied from any place of it is padded.

use crate::{
    map::{MapDef, MapKind},
    typed::MOST_PATH,
};

/// Name of the array with that memory.
pub(crate) const PATHS: &str = "paths";
/// Offset of the word of the place.
pub(crate) const PATH_PLACE: u32 = 8;
/// Offset of the text.
pub(crate) const PATH_TEXT: u32 = 16;

/// The array.
pub(super) fn map() -> MapDef {
    MapDef {
        name: PATHS,
        kind: MapKind::PerCpuArray,
        key_size: 4,
        value_size: PATH_TEXT + 2 * MOST_PATH,
        max_entries: 1,
    }
}
