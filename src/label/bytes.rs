//! Bytes that are neither a number nor a text, such as a key or an id.

use super::Decode;
use std::fmt::Write;
use tapster_ebpf::typed::Type;

/// Two hexadecimal digits for each byte, in their order.
#[derive(Debug)]
pub(super) struct BytesDecoder {
    size: usize,
}

impl BytesDecoder {
    /// Makes the decoder for a label of this type.
    pub(super) fn of(ty: &Type) -> Self {
        let Type::Bytes { size } = ty else { unreachable!("the checker gives this decoder bytes only") };
        Self { size: usize::try_from(*size).expect("some dozens of bytes") }
    }
}

impl Decode for BytesDecoder {
    fn decode(&mut self, raw: &[u8]) -> Option<String> {
        let mut text = String::with_capacity(2 * self.size);
        // The key is padded with zeros to a whole word.
        for byte in raw.iter().take(self.size) {
            write!(text, "{byte:02x}").expect("a string takes any text");
        }
        Some(text)
    }
}
