//! Universally unique identifiers (RFC 9562).

use super::Decode;
use std::fmt::Write;

/// 16 bytes in the order of the text.
#[derive(Debug)]
pub(super) struct UuidDecoder;

impl Decode for UuidDecoder {
    fn decode(&mut self, raw: &[u8]) -> Option<String> {
        let mut text = String::with_capacity(36);
        for (index, byte) in raw.iter().take(16).enumerate() {
            let dash = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(text, "{dash}{byte:02x}").expect("a string takes any text");
        }
        Some(text)
    }
}
