//! Compression of what goes over a network once.

use flate2::{Compression, write::GzEncoder};
use std::io::Write;

/// Packs what is written to it into `sink`. The fast level: it is read once, over a network that is quicker than the better levels.
pub fn encoder<W: Write>(sink: W) -> GzEncoder<W> {
    GzEncoder::new(sink, Compression::fast())
}

/// `body` as gzip.
pub fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = encoder(Vec::with_capacity(body.len() / 8));
    match encoder.write_all(body).and_then(|()| encoder.finish()) {
        Ok(packed) => packed,
        Err(error) => {
            unreachable!("the encoder has no errors but those of a vector, which takes everything: {error}")
        }
    }
}
