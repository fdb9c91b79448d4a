//! A ring of records (`BPF_MAP_TYPE_RINGBUF`, 5.8): programs write, one reader reads in the order of writing.

use super::mapping::{MapMemory, page_size};
use std::{
    io,
    os::fd::BorrowedFd,
    sync::atomic::{AtomicU32, Ordering},
};

/// Bits of a record's length: still being written; discarded by its writer.
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
/// Bytes before each record: its length, and a field for the kernel.
const HEADER: usize = 8;

/// A ring that is being read.
///
/// The kernel maps a page with the reader's position, which this process writes; then a page with the writers' position; then
/// the data twice in a row, so that a record may continue behind the end of the data.
#[derive(Debug)]
pub struct Ring {
    consumer: MapMemory,
    producer: MapMemory,
    page: usize,
    bytes: usize,
    longest: usize,
    record: Vec<u8>,
}

impl Ring {
    /// Starts reading a ring of `bytes` bytes. Records have at most `longest` bytes; longer ones are cut off.
    ///
    /// `bytes` must be the size of the map: the kernel refuses to map more, and with less, records would be lost.
    pub fn open(fd: BorrowedFd<'_>, bytes: u32, longest: usize) -> io::Result<Self> {
        let page = page_size()?;
        let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
        if !bytes.is_power_of_two() || bytes < page {
            return Err(io::Error::other(format!("a ring cannot have {bytes} bytes")));
        }
        Ok(Self {
            consumer: MapMemory::new(fd, 0, page, true)?,
            producer: MapMemory::new(fd, page, page + 2 * bytes, false)?,
            page,
            bytes,
            longest,
            record: Vec::with_capacity(longest),
        })
    }

    /// Calls `visit` with each complete record, and frees its room. Visits only records that were begun before the call:
    /// writers may be faster than any reader.
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
            // Stored after each record, because writers wait for room.
            self.consumer.word(0).store(read, Ordering::Release);
        }
    }

    /// The first word of the record at an offset: its length and state.
    #[allow(clippy::cast_ptr_alignment, reason = "places of records are multiples of 8 in pages")]
    fn length(&self, place: usize) -> u32 {
        let header = self.producer.address(self.page + place, HEADER).cast::<AtomicU32>();
        assert!(header.is_aligned(), "records begin at multiples of 8");
        // SAFETY: aligned and within the mapping; writers change it only atomically.
        unsafe { &*header }.load(Ordering::Acquire)
    }
}
