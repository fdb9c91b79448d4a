//! The table of starts, which programs and this process write by turns.

use super::mapping::{Mapping, page_size};
use std::{
    io,
    os::fd::BorrowedFd,
    sync::atomic::{AtomicU64, Ordering, fence},
};
use tapster_ebpf::layout::{CLAIMED, ELSEWHERE, ENTRY_KEY, FREE, TableLayout};

/// A table in memory; see [`TableLayout`] for what is in it.
#[derive(Debug)]
pub struct Table {
    memory: Mapping,
    entries: usize,
    entry_size: usize,
}

/// What [`FREE`] and [`CLAIMED`] are in memory.
const NOBODYS: [u64; 2] = [FREE.cast_unsigned() as u64, CLAIMED.cast_unsigned() as u64];
/// Bytes of an entry before its key.
const HEAD: usize = ENTRY_KEY as usize;
/// How often an entry is read that becomes another start's meanwhile. One that changes as often is no start that waits.
const ATTEMPTS: usize = 4;

impl Table {
    /// Maps a table made with this layout; where the map is smaller, the kernel refuses.
    pub fn open(fd: BorrowedFd<'_>, layout: &TableLayout) -> io::Result<Self> {
        let size = |number: u32| usize::try_from(number).map_err(io::Error::other);
        let (entries, entry_size) = (size(layout.entries())?, size(layout.entry_size)?);
        let length = (entries * entry_size).next_multiple_of(page_size()?);
        Ok(Self { memory: Mapping::new(fd, 0, length, true)?, entries, entry_size })
    }

    /// Takes out the starts before a time; their number.
    pub fn expire(&self, before_ns: u64) -> u64 {
        let is_old = |entry: &usize| {
            let since = self.time(*entry).load(Ordering::Acquire);
            !NOBODYS.contains(&since) && since < before_ns && self.take(*entry, since)
        };
        (0..self.entries).filter(is_old).count() as u64
    }

    /// Takes out the start of an entry if it is still the one of this time; one that was taken or replaced meanwhile is
    /// left alone. Whether it was.
    pub fn take(&self, entry: usize, since_ns: u64) -> bool {
        let time = self.time(entry);
        time.compare_exchange(since_ns, NOBODYS[0], Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Calls `visit` with each start that waits: its entry, its time, and the bytes of its key and of what was saved.
    ///
    /// Programs go on meanwhile. Whoever writes or takes an entry changes its first word before and after, so bytes
    /// between two looks at the same time are of the start of that time.
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
                // The words are read before the time is looked at again.
                fence(Ordering::Acquire);
                if self.time(entry).load(Ordering::Relaxed) == since {
                    visit(entry, since, &bytes);
                    break;
                }
            }
        }
    }

    /// Whether some start is in the map instead, because its entry was another's.
    pub fn has_elsewhere(&self) -> bool {
        (0..self.entries).any(|entry| self.elsewhere(entry).load(Ordering::Acquire) != 0)
    }

    /// Says that a start with its place at an entry is no longer in the map.
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
