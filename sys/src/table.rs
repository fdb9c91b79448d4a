//! The table of starts, which programs and this process both write.

use super::mapping::{MapMemory, page_size};
use std::{
    io,
    os::fd::BorrowedFd,
    sync::atomic::{AtomicU64, Ordering, fence},
};
use tapster_ebpf::layout::{CLAIMED, ELSEWHERE, ENTRY_KEY, FREE, TableLayout};

/// A mapped table; [`TableLayout`] describes its contents.
#[derive(Debug)]
pub struct StartTable {
    memory: MapMemory,
    entries: usize,
    entry_size: usize,
}

/// [`FREE`] and [`CLAIMED`] as they are in memory.
const NOBODYS: [u64; 2] = [FREE.cast_unsigned() as u64, CLAIMED.cast_unsigned() as u64];
/// Bytes of an entry before its key.
const HEAD: usize = ENTRY_KEY as usize;
/// How often an entry is read again that changes to another start meanwhile. An entry that changes more often holds no waiting
/// start.
const ATTEMPTS: usize = 4;

impl StartTable {
    /// Maps a table with this layout; the kernel refuses if the map is smaller.
    pub fn open(fd: BorrowedFd<'_>, layout: &TableLayout) -> io::Result<Self> {
        let size = |number: u32| usize::try_from(number).map_err(io::Error::other);
        let (entries, entry_size) = (size(layout.entries())?, size(layout.entry_size)?);
        let length = (entries * entry_size).next_multiple_of(page_size()?);
        Ok(Self { memory: MapMemory::new(fd, 0, length, true)?, entries, entry_size })
    }

    /// Removes the starts before a time; returns their number.
    pub fn expire(&self, before_ns: u64) -> u64 {
        let is_old = |entry: &usize| {
            let since = self.time(*entry).load(Ordering::Acquire);
            !NOBODYS.contains(&since) && since < before_ns && self.take(*entry, since)
        };
        (0..self.entries).filter(is_old).count() as u64
    }

    /// Removes the start of an entry if it still has this time; one that was taken or replaced meanwhile stays. Returns whether
    /// it was removed.
    pub fn take(&self, entry: usize, since_ns: u64) -> bool {
        let time = self.time(entry);
        time.compare_exchange(since_ns, NOBODYS[0], Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Calls `visit` with each waiting start: its entry, its time, and the bytes of its key and of its saved values.
    ///
    /// Programs keep running. They change the first word of an entry before and after they write or take it, so bytes between
    /// two reads of the same time belong to the start of that time.
    pub fn waiting(&self, mut visit: impl FnMut(usize, u64, &[u8])) {
        let mut bytes = Vec::with_capacity(self.entry_size);
        for entry in 0..self.entries {
            for _ in 0..ATTEMPTS {
                let since = self.time(entry).load(Ordering::Acquire);
                if NOBODYS.contains(&since) {
                    break;
                }
                bytes.clear();
                for word in (HEAD..self.entry_size).step_by(8) {
                    let word = self.memory.word(entry * self.entry_size + word).load(Ordering::Relaxed);
                    bytes.extend_from_slice(&word.to_ne_bytes());
                }
                // The words must be read before the time is read again.
                fence(Ordering::Acquire);
                if self.time(entry).load(Ordering::Relaxed) == since {
                    visit(entry, since, &bytes);
                    break;
                }
            }
        }
    }

    /// Whether any start is in the map because its entry belonged to another.
    pub fn has_elsewhere(&self) -> bool {
        (0..self.entries).any(|entry| self.elsewhere(entry).load(Ordering::Acquire) != 0)
    }

    /// Notes that a start whose place is this entry is no longer in the map.
    pub fn forget_elsewhere(&self, entry: usize) {
        self.elsewhere(entry).fetch_sub(1, Ordering::AcqRel);
    }

    fn time(&self, entry: usize) -> &AtomicU64 {
        self.memory.word(entry * self.entry_size)
    }

    fn elsewhere(&self, entry: usize) -> &AtomicU64 {
        self.memory.word(entry * self.entry_size + usize::try_from(ELSEWHERE).expect("a usize has 64 bits"))
    }
}
