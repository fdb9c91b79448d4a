//! Strings of the kernel and of processes, which may contain any byte.

use super::Decode;
use crate::name::escape;

/// Bytes up to the first NUL.
#[derive(Debug)]
pub(super) struct TextDecoder;

impl Decode for TextDecoder {
    fn decode(&mut self, raw: &[u8]) -> Option<String> {
        let end = raw.iter().position(|byte| *byte == 0).unwrap_or(raw.len());
        Some(escape(&raw[..end]))
    }
}
