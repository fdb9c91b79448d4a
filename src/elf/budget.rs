//! Budgets for reading files that somebody else wrote: bytes read, symbols visited, memory kept, time.

use crate::sys::WRITTEN_BY_OTHERS;
use std::{
    cell::Cell,
    fs::Metadata,
    io,
    os::unix::fs::MetadataExt,
    time::{Duration, Instant},
};

/// Why a file is not read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// It is malformed.
    #[error("{0}")]
    Damaged(&'static str),
    /// Reading it would exceed its budget.
    #[error("{0}")]
    TooLarge(&'static str),
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Limits for reading a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// Bytes read of the file and of its debug file.
    pub bytes: u64,
    /// Symbols visited.
    pub symbols: u64,
    /// Bytes of memory that are kept.
    pub memory: u64,
    /// Bytes of code decoded for one question: symbols may claim that functions are anywhere, each over all others.
    pub code: u64,
    /// Bytes of packed data, unpacked; unpacking takes about as much again.
    pub unpacked: u64,
    /// Time.
    pub time: Duration,
}

impl ReadLimits {
    /// For a file in a stack of a process, which anybody may have made. Together with the symbols that are kept already, it
    /// fits into a process that may have 64 MB; so does a program of 150 000 functions with names of 80 bytes.
    pub const STACK: Self = Self {
        bytes: 256 << 20,
        symbols: 4 << 20,
        memory: 16 << 20,
        code: 64 << 20,
        unpacked: 8 << 20,
        time: Duration::from_secs(10),
    };
    /// For a file that root has installed on this host: the largest programs have half a million functions.
    pub const INSTALLED: Self =
        Self { bytes: 1 << 30, symbols: 16 << 20, memory: 64 << 20, unpacked: 64 << 20, ..Self::STACK };
    /// For a file that a probe names and that a user may have made.
    pub const NAMED: Self =
        Self { memory: 32 << 20, unpacked: 16 << 20, time: Duration::from_secs(30), ..Self::STACK };
    /// For a file that a probe names and that only root can have made: beyond what any program has.
    pub const TRUSTED: Self = Self {
        bytes: 8 << 30,
        symbols: 64 << 20,
        memory: 1 << 30,
        code: 2 << 30,
        unpacked: 128 << 20,
        time: Duration::from_mins(5),
    };

    /// For a file of this host that a probe names.
    pub fn of_host(metadata: &Metadata) -> Self {
        let others_write = metadata.mode() & WRITTEN_BY_OTHERS != 0;
        if metadata.uid() == 0 && !others_write { Self::TRUSTED } else { Self::NAMED }
    }
}

/// The rest of the limits.
#[derive(Debug)]
pub(super) struct Budget {
    bytes: Cell<u64>,
    symbols: Cell<u64>,
    memory: Cell<u64>,
    unpacked: Cell<u64>,
    until: Instant,
}

impl Budget {
    pub(super) fn new(limits: ReadLimits) -> Self {
        Self {
            bytes: Cell::new(limits.bytes),
            symbols: Cell::new(limits.symbols),
            memory: Cell::new(limits.memory),
            unpacked: Cell::new(limits.unpacked),
            until: Instant::now() + limits.time,
        }
    }

    /// Accounts for bytes read.
    pub(super) fn read(&self, bytes: usize) -> Result<(), Unread> {
        self.wait()?;
        take(&self.bytes, bytes, "more would have to be read of it than of any program")
    }

    /// Accounts for bytes unpacked.
    pub(super) fn unpack(&self, bytes: usize) -> Result<(), Unread> {
        self.wait()?;
        take(&self.unpacked, bytes, "what is packed in it would be larger than that of any program")
    }

    /// Bytes that may still be unpacked.
    pub(super) fn left_to_unpack(&self) -> u64 {
        self.unpacked.get()
    }

    fn wait(&self) -> Result<(), Unread> {
        if Instant::now() > self.until {
            return Err(Unread::TooLarge("reading it takes too long"));
        }
        Ok(())
    }

    /// Accounts for symbols visited.
    pub(super) fn look(&self, symbols: usize) -> Result<(), Unread> {
        take(&self.symbols, symbols, "it has too many symbols")
    }

    /// Accounts for bytes kept.
    pub(super) fn keep(&self, bytes: usize) -> Result<(), Unread> {
        take(&self.memory, bytes, "the names of its functions take too much memory")
    }
}

fn take(left: &Cell<u64>, count: usize, why: &'static str) -> Result<(), Unread> {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    left.set(left.get().checked_sub(count).ok_or(Unread::TooLarge(why))?);
    Ok(())
}
