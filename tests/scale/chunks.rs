//! Chunks of samples as Prometheus keeps them in a block: the XOR encoding, in one segment file.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

/// Samples of a chunk, as Prometheus cuts them.
const SAMPLES: usize = 120;

/// CRC-32C, by bytes.
#[derive(Clone, Copy)]
pub(crate) struct ChunkChecksum(u32);

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let (mut index, mut byte) = (0, 0_u32);
    while index < 256 {
        let mut value = byte;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ 0x82f6_3b78 } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        (index, byte) = (index + 1, byte + 1);
    }
    table
};

impl ChunkChecksum {
    pub(crate) fn new() -> Self {
        Self(!0)
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = TABLE[usize::from(self.0.to_le_bytes()[0] ^ byte)] ^ (self.0 >> 8);
        }
    }

    pub(crate) fn value(self) -> u32 {
        !self.0
    }

    pub(crate) fn of(bytes: &[u8]) -> u32 {
        let mut sum = Self::new();
        sum.add(bytes);
        sum.value()
    }
}

pub(crate) fn put_uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Small numbers of either sign in few bytes.
pub(crate) fn put_varint(out: &mut Vec<u8>, value: i64) {
    put_uvarint(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// Bits, the most significant first.
struct BitStream {
    bytes: Vec<u8>,
    /// Bits that are free in the last byte.
    free: u32,
}

impl BitStream {
    fn put(&mut self, value: u64, count: u32) {
        let mut left = count;
        while left > 0 {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let taken = left.min(self.free);
            let part = (value >> (left - taken)) & ((1 << taken) - 1);
            let last = self.bytes.last_mut().expect("a byte was pushed");
            *last |= part.to_le_bytes()[0] << (self.free - taken);
            self.free -= taken;
            left -= taken;
        }
    }

    /// Whole bytes, at any bit.
    fn put_bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.put(u64::from(*byte), 8);
        }
    }
}

/// A chunk of these samples: milliseconds and values.
fn encode(samples: &[(i64, f64)]) -> Vec<u8> {
    let count = u16::try_from(samples.len()).expect("a chunk has few samples");
    let mut bits = BitStream { bytes: count.to_be_bytes().to_vec(), free: 0 };
    let (mut time, mut delta, mut value) = (0, 0, 0_u64);
    // Zeros before and after the bits that differ, as last written.
    let mut window: Option<(u32, u32)> = None;
    for (index, (at, number)) in samples.iter().enumerate() {
        let mut bytes = Vec::new();
        let next = number.to_bits();
        match index {
            0 => {
                put_varint(&mut bytes, *at);
                bits.put_bytes(&bytes);
                bits.put(next, 64);
                (time, value) = (*at, next);
                continue;
            }
            1 => {
                put_uvarint(&mut bytes, (at - time).cast_unsigned());
                bits.put_bytes(&bytes);
            }
            _ => {
                let change = (at - time) - delta;
                let fits = |width: u32| change > -(1_i64 << (width - 1)) && change <= 1 << (width - 1);
                match change {
                    0 => bits.put(0, 1),
                    _ if fits(14) => {
                        bits.put(0b10, 2);
                        bits.put(change.cast_unsigned(), 14);
                    }
                    _ if fits(17) => {
                        bits.put(0b110, 3);
                        bits.put(change.cast_unsigned(), 17);
                    }
                    _ if fits(20) => {
                        bits.put(0b1110, 4);
                        bits.put(change.cast_unsigned(), 20);
                    }
                    _ => {
                        bits.put(0b1111, 4);
                        bits.put(change.cast_unsigned(), 64);
                    }
                }
            }
        }
        (delta, time) = (at - time, *at);
        let differs = next ^ value;
        value = next;
        if differs == 0 {
            bits.put(0, 1);
            continue;
        }
        bits.put(1, 1);
        let (before, after) = (differs.leading_zeros().min(31), differs.trailing_zeros());
        match window {
            Some((leading, trailing)) if before >= leading && after >= trailing => {
                bits.put(0, 1);
                bits.put(differs >> trailing, 64 - leading - trailing);
            }
            _ => {
                window = Some((before, after));
                let width = 64 - before - after;
                bits.put(1, 1);
                bits.put(u64::from(before), 5);
                // 64 is written as 0.
                bits.put(u64::from(width % 64), 6);
                bits.put(differs >> after, width);
            }
        }
    }
    bits.bytes
}

/// Where a chunk is, and the time that it covers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChunkSpan {
    pub(crate) first: i64,
    pub(crate) last: i64,
    /// The number of the segment file, from 0, and the place in it.
    pub(crate) reference: u64,
}

/// A segment file. Several series may have the same chunks.
pub(crate) struct ChunkSegment {
    number: u64,
    file: BufWriter<File>,
    offset: u64,
}

impl ChunkSegment {
    /// The one of this number, from 0, of a block.
    pub(crate) fn create(block: &Path, number: u64) -> io::Result<Self> {
        let file = File::create(block.join(format!("chunks/{:06}", number + 1)))?;
        let mut file = BufWriter::with_capacity(1 << 20, file);
        file.write_all(&[0x85, 0xbd, 0x40, 0xdd, 1, 0, 0, 0])?;
        Ok(Self { number, file, offset: 8 })
    }

    /// Writes samples in order of time, cut into chunks.
    pub(crate) fn add(&mut self, samples: &[(i64, f64)]) -> io::Result<Vec<ChunkSpan>> {
        let mut spans = Vec::new();
        for part in samples.chunks(SAMPLES) {
            let data = encode(part);
            let mut bytes = Vec::with_capacity(data.len() + 16);
            put_uvarint(&mut bytes, data.len() as u64);
            let begin = bytes.len();
            // XOR.
            bytes.push(1);
            bytes.extend(data);
            let sum = ChunkChecksum::of(&bytes[begin..]);
            bytes.extend(sum.to_be_bytes());
            self.file.write_all(&bytes)?;
            let (first, last) = (part[0].0, part[part.len() - 1].0);
            spans.push(ChunkSpan { first, last, reference: self.number << 32 | self.offset });
            self.offset += bytes.len() as u64;
        }
        assert!(self.offset < 1 << 32, "a segment file has at most 4 GiB");
        Ok(spans)
    }

    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.file.flush()
    }
}
