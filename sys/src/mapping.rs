//! Memory of the kernel that is mapped into this process.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::NonNull,
    sync::atomic::AtomicU64,
};

/// The mapped memory of a map. Programs write it at any time, so it is read atomically, or where a protocol guarantees that
/// nothing writes.
#[derive(Debug)]
pub(super) struct MapMemory {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory belongs to the mapping, wherever it is used from.
unsafe impl Send for MapMemory {}
// SAFETY: what is given out by `&self` is atomic or a bare address.
unsafe impl Sync for MapMemory {}

/// Bytes of a page.
pub(super) fn page_size() -> io::Result<usize> {
    // SAFETY: it only returns a number.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).map_err(io::Error::other)
}

impl MapMemory {
    /// Maps `length` bytes from `offset` on, a multiple of pages.
    pub(super) fn new(fd: BorrowedFd<'_>, offset: usize, length: usize, writable: bool) -> io::Result<Self> {
        let protection = libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 };
        let offset = offset.try_into().map_err(io::Error::other)?;
        // SAFETY: at a place of the kernel's choice, so nothing that is there is lost.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, fd.as_raw_fd(), offset)
        };
        if start == libc::MAP_FAILED {
            let error = io::Error::last_os_error();
            return Err(io::Error::new(error.kind(), format!("a map cannot be mapped into memory: {error}")));
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at 0"))?;
        Ok(Self { start, length })
    }

    /// The word at an offset, a multiple of 8.
    #[expect(clippy::cast_ptr_alignment, reason = "asserted")]
    pub(super) fn word(&self, offset: usize) -> &AtomicU64 {
        let word = self.address(offset, 8).cast::<AtomicU64>();
        assert!(word.is_aligned(), "words lie at multiples of 8");
        // SAFETY: aligned and within the mapping, which lives as long as `self`; others write it only atomically.
        unsafe { &*word }
    }

    /// The address of `length` bytes at an offset.
    pub(super) fn address(&self, offset: usize, length: usize) -> *const u8 {
        assert!(offset + length <= self.length, "within the mapping");
        // SAFETY: it stays within the mapping.
        unsafe { self.start.as_ptr().add(offset) }
    }
}

impl Drop for MapMemory {
    fn drop(&mut self) {
        // SAFETY: mapped with this length, and nobody has a reference into it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}
