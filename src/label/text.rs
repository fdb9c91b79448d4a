//! Strings of the kernel and of processes, which may hold any byte.

use super::Decode;
use std::fmt::Write;

/// Bytes up to the first NUL.
#[derive(Debug)]
pub(super) struct Text;

impl Decode for Text {
    fn decode(&mut self, raw: &[u8]) -> String {
        let end = raw.iter().position(|byte| *byte == 0).unwrap_or(raw.len());
        escape(&raw[..end])
    }
}

/// UTF-8 as it is, each other byte as `\xNN`: unlike a replacement character this keeps names apart that
/// differ in those bytes only. A fixed-size buffer may well cut a character in two.
pub(super) fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            write!(text, "\\x{byte:02x}").expect("a string takes any text");
        }
    }
    text
}
