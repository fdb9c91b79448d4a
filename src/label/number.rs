//! Numbers.

use super::Decode;

/// The first 8 bytes as a number, little endian; missing bytes are 0.
pub(crate) fn unsigned(raw: &[u8]) -> u64 {
    raw.iter().take(8).rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Like [`unsigned`], but missing bytes repeat the sign of the last one.
pub(super) fn signed(raw: &[u8]) -> i64 {
    let missing_bits = 8 * (8 - u32::try_from(raw.len().min(8)).expect("8 at the most"));
    match unsigned(raw).checked_shl(missing_bits) {
        Some(shifted) => shifted.cast_signed() >> missing_bits,
        None => 0,
    }
}

/// Unsigned decimal.
#[derive(Debug)]
pub(super) struct UnsignedDecoder;

impl Decode for UnsignedDecoder {
    fn decode(&mut self, raw: &[u8]) -> Option<String> {
        Some(unsigned(raw).to_string())
    }
}

/// Signed decimal.
#[derive(Debug)]
pub(super) struct SignedDecoder;

impl Decode for SignedDecoder {
    fn decode(&mut self, raw: &[u8]) -> Option<String> {
        Some(signed(raw).to_string())
    }
}

/// Lower-case hexadecimal.
#[derive(Debug)]
pub(super) struct HexDecoder;

impl Decode for HexDecoder {
    fn decode(&mut self, raw: &[u8]) -> Option<String> {
        Some(format!("{:#x}", unsigned(raw)))
    }
}
