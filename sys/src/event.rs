//! Timers and counters of one CPU as perf events.

use super::{attach, bpf::RefusedCall};
use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

/// Bytes of `struct perf_event_attr` as of 4.1, and the number of words of that.
const ATTR_BYTES: u64 = 112;
const ATTR_WORDS: usize = 14;
/// `PERF_SAMPLE_RAW`: this crate reads no samples, programs get them.
const RAW: u64 = 1 << 10;
/// `PERF_FORMAT_TOTAL_TIME_ENABLED`
pub(super) const TIME_ENABLED: u64 = 1;
/// The bits `disabled` and `freq`: the event does not count yet; its number is a frequency.
const DISABLED: u64 = 1;
const FREQUENCY: u64 = 1 << 10;
/// `PERF_FLAG_FD_CLOEXEC`
const CLOSE_ON_EXEC: libc::c_ulong = 1 << 3;

/// When an event is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SamplePeriod {
    /// After this many counts.
    Count(u64),
    /// This many times a second.
    Second(u64),
}

/// An event of one CPU, with a program that runs at its samples. It ends when this is dropped, or for good when its CPU goes
/// offline: even if the CPU comes back, the event's time stands still.
#[derive(Debug)]
pub struct CpuEvent {
    event: OwnedFd,
}

impl CpuEvent {
    /// Opens an event and attaches a program that was loaded for it. `kind` and `config` are those of `perf_event_open`.
    pub fn attach(
        program: BorrowedFd<'_>,
        (kind, config): (u32, u64),
        every: SamplePeriod,
        cpu: u32,
    ) -> io::Result<Self> {
        let event = open((kind, config), every, cpu, 0)?;
        attach::enable(&event, program)?;
        Ok(Self { event })
    }

    /// Opens an event and closes it again, to check that the kernel has it on this CPU. It counts nothing.
    pub fn attempt((kind, config): (u32, u64), every: SamplePeriod, cpu: u32) -> io::Result<()> {
        open((kind, config), every, cpu, DISABLED).map(drop)
    }

    /// Time for which it has been enabled, nanoseconds: it grows as long as its CPU stays online.
    pub fn enabled_ns(&self) -> io::Result<u64> {
        enabled_ns(&self.event)
    }
}

/// Opens an event of all processes on one CPU.
fn open((kind, config): (u32, u64), every: SamplePeriod, cpu: u32, flags: u64) -> io::Result<OwnedFd> {
    let mut attr = [0_u64; ATTR_WORDS];
    attr[0] = ATTR_BYTES << 32 | u64::from(kind);
    attr[1] = config;
    (attr[2], attr[5]) = match every {
        SamplePeriod::Count(count) => (count, flags),
        SamplePeriod::Second(count) => (count, flags | FREQUENCY),
    };
    attr[3] = RAW;
    attr[4] = TIME_ENABLED;
    // SAFETY: the kernel reads as many bytes as the first word says, which is the array's size.
    let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, attr.as_ptr(), -1, cpu, -1, CLOSE_ON_EXEC) };
    match i32::try_from(fd) {
        // SAFETY: the kernel has just made it and nobody else knows it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(RefusedCall::last("perf_event_open").into()),
    }
}

/// The time of any event that was opened with [`TIME_ENABLED`].
pub(super) fn enabled_ns(event: &OwnedFd) -> io::Result<u64> {
    let mut found = [0_u64; 2];
    // SAFETY: the kernel writes at most as many bytes as it is told, which is the array's size.
    let read = unsafe { libc::read(event.as_raw_fd(), found.as_mut_ptr().cast(), size_of_val(&found)) };
    match usize::try_from(read) {
        Ok(read) if read == size_of_val(&found) => Ok(found[1]),
        // An event whose CPU went offline before it was opened returns nothing.
        Ok(_) => Ok(0),
        Err(_) => Err(RefusedCall::last("read of a perf event").into()),
    }
}
