//! A ring of records (`BPF_MAP_TYPE_RINGBUF`, 5.8): programs write, one reader reads in the order of writing.

use super::mapping::{Mapping, page_size};
use std::{
    io,
    os::fd::BorrowedFd,
    sync::atomic::{AtomicU32, Ordering},
};

/// Bits of a record's length: being written; given up by its writer.
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
/// Bytes before each record: its length, and where it is for the kernel.
const HEADER: usize = 8;

/// A ring being read.
///
/// The kernel maps a page with the reader's position, which is written here; then a page with the writers' position; then
/// the bytes twice in a row, so that a record that begins at their end goes on behind it.
#[derive(Debug)]
pub struct Ring {
    consumer: Mapping,
    producer: Mapping,
    page: usize,
    bytes: usize,
    longest: usize,
    record: Vec<u8>,
}

impl Ring {
    /// Begins to read a ring made with so many bytes. Records are not longer than `longest`; if one is, its end is cut off.
    ///
    /// `bytes` must be what the map was made with: more is refused by the kernel when it is mapped, less here would lose
    /// records, so the mapping is of all that there is.
    pub fn open(fd: BorrowedFd<'_>, bytes: u32, longest: usize) -> io::Result<Self> {
        let page = page_size()?;
        let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
        if !bytes.is_power_of_two() || bytes < page {
            return Err(io::Error::other(format!("a ring cannot have {bytes} bytes")));
        }
        Ok(Self {
            consumer: Mapping::new(fd, 0, page, true)?,
            producer: Mapping::new(fd, page, page + 2 * bytes, false)?,
            page,
            bytes,
            longest,
            record: Vec::with_capacity(longest),
        })
    }

    /// Calls `visit` with each record that is complete, and makes room for more. At most as many as were begun
    /// when it was called: writers may be faster than any reader.
    pub fn read(&mut self, mut visit: impl FnMut(&[u8])) {
        let written = self.producer.word(0).load(Ordering::Acquire);
        let mut read = self.consumer.word(0).load(Ordering::Relaxed);
        while read < written {
            let place = usize::try_from(read).expect("a usize has 64 bits") & (self.bytes - 1);
            let length = self.length(place);
            if length & BUSY != 0 {
                return;
            }
            let size = usize::try_from(length & !DISCARDED).expect("a usize has 64 bits");
            if length & DISCARDED == 0 {
                let kept = size.min(self.longest).min(self.bytes);
                let from = self.producer.address(self.page + place + HEADER, kept);
                self.record.clear();
                // SAFETY: the vector has room for `longest` bytes, and a finished record is not written any more.
                unsafe { std::ptr::copy_nonoverlapping(from, self.record.as_mut_ptr(), kept) };
                // SAFETY: so many bytes were just written.
                unsafe { self.record.set_len(kept) };
                visit(&self.record);
            }
            read += (size + HEADER).next_multiple_of(8) as u64;
            // With each record: writers wait for room.
            self.consumer.word(0).store(read, Ordering::Release);
        }
    }

    /// The first word of the record at this place of the bytes: its length and how far it is.
    #[allow(clippy::cast_ptr_alignment, reason = "places of records are multiples of 8 in pages")]
    fn length(&self, place: usize) -> u32 {
        let header = self.producer.address(self.page + place, HEADER).cast::<AtomicU32>();
        assert!(header.is_aligned(), "records begin at multiples of 8");
        // SAFETY: aligned and within the mapping; writers change it only atomically.
        unsafe { &*header }.load(Ordering::Acquire)
    }
}
