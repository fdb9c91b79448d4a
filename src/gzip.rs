//! Compression of data that is sent once.

use flate2::{Compression, write::GzEncoder};
use std::io::Write;

/// Compresses what is written into `sink`. It uses the fast level: the network is faster than the better levels.
pub fn encoder<W: Write>(sink: W) -> GzEncoder<W> {
    GzEncoder::new(sink, Compression::fast())
}

/// Compresses `body` to gzip.
pub fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = encoder(Vec::with_capacity(body.len() / 8));
    match encoder.write_all(body).and_then(|()| encoder.finish()) {
        Ok(packed) => packed,
        Err(error) => {
            unreachable!("the encoder has no errors but those of a vector, which takes everything: {error}")
        }
    }
}
