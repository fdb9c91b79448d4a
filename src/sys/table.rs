//! The table of starts, which programs and this process write by turns.

use super::mapping::{Mapping, page_size};
use std::{
    io,
    os::fd::BorrowedFd,
    sync::atomic::{AtomicU64, Ordering},
};
use tapster_ebpf::layout::{CLAIMED, ELSEWHERE, FREE, TableLayout};

/// A table in memory; see [`TableLayout`] for what is in it.
#[derive(Debug)]
pub struct Table {
    memory: Mapping,
    entries: usize,
    entry_size: usize,
}

/// What [`FREE`] and [`CLAIMED`] are in memory.
const NOBODYS: [u64; 2] = [FREE.cast_unsigned() as u64, CLAIMED.cast_unsigned() as u64];

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
        let is_old = |time: &&AtomicU64| {
            let since = time.load(Ordering::Acquire);
            !NOBODYS.contains(&since)
                && since < before_ns
                // One that was taken or replaced meanwhile is left alone.
                && time.compare_exchange(since, NOBODYS[0], Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        let expired = (0..self.entries).map(|entry| self.memory.word(entry * self.entry_size));
        u64::try_from(expired.filter(is_old).count()).unwrap_or(0)
    }

    /// Says that a start with its place at an entry is no longer in the map.
    pub fn forget_elsewhere(&self, entry: usize) {
        let elsewhere = entry * self.entry_size + usize::try_from(ELSEWHERE).unwrap_or(0);
        self.memory.word(elsewhere).fetch_sub(1, Ordering::AcqRel);
    }
}
