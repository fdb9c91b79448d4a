//! Loaded programs: what they cost, and running one without an event.

use super::{
    bpf::{self, Command, EnableStats, Information, TestRun},
    memory,
};
use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

/// What the kernel tells about a loaded program; zero where it is too old to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgInfo {
    /// Its number, as `bpftool prog` shows it.
    pub id: u32,
    /// Nanoseconds in all runs while statistics were on, 5.1.
    pub run_ns: u64,
    /// Runs while statistics were on, 5.1.
    pub runs: u64,
    /// Runs left out because the program was running on that CPU already, 5.12; counted without
    /// statistics too. Which kinds of programs count them has grown since.
    pub missed: u64,
    /// Bytes of machine code; 0 if it is interpreted or this process may not see it.
    pub jited_bytes: u64,
    /// Instructions after the verifier's rewriting.
    pub xlated_insns: u64,
    /// Instructions the verifier went through, 5.16.
    pub verified_insns: u64,
    /// Kernel memory of the program itself, bytes.
    pub memory_bytes: u64,
}

/// `struct bpf_prog_info`.
#[derive(Debug, Default)]
#[repr(C)]
struct RawInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_length: u32,
    xlated_length: u32,
    /// From the instructions to the first number of interest; all zero, so no array is asked for.
    arrays: [u64; 21],
    run_ns: u64,
    runs: u64,
    missed: u64,
    verified_insns: u32,
    pad: u32,
}
const _: () = assert!(std::mem::offset_of!(RawInfo, run_ns) == 192);
// SAFETY: numbers only, without holes between or after them.
unsafe impl Information for RawInfo {}

/// Asks about a program.
pub fn prog_info(fd: BorrowedFd<'_>) -> io::Result<ProgInfo> {
    let raw: RawInfo = bpf::object_info(fd)?;
    Ok(ProgInfo {
        id: raw.id,
        run_ns: raw.run_ns,
        runs: raw.runs,
        missed: raw.missed,
        jited_bytes: raw.jited_length.into(),
        xlated_insns: u64::from(raw.xlated_length) / 8,
        verified_insns: raw.verified_insns.into(),
        memory_bytes: memory::map_memory(fd).unwrap_or(0),
    })
}

/// Turns the statistics of all programs on until the returned descriptor is closed, 5.8.
pub fn enable_run_stats() -> io::Result<OwnedFd> {
    // `BPF_STATS_RUN_TIME`, the only kind.
    let mut attributes = EnableStats { kind: 0 };
    // SAFETY: no addresses in there, and the command makes a descriptor.
    Ok(unsafe { bpf::bpf_fd(Command::EnableStats, &mut attributes) }?)
}

/// Runs a raw tracepoint program once with these arguments, 5.10, and returns what it returned.
///
/// A program that reads more arguments than given is refused, and so is one of another type: a
/// `tp_btf` program cannot be run this way.
pub fn prog_test_run_raw_tp(fd: BorrowedFd<'_>, args: &[u64]) -> io::Result<u32> {
    // The kernel wants repeat, duration and data to be zero for this type.
    let mut attributes = TestRun {
        program: bpf::number(fd),
        context_size_in: u32::try_from(size_of_val(args)).map_err(io::Error::other)?,
        context_in: args.as_ptr() as u64,
        ..TestRun::default()
    };
    // SAFETY: the kernel reads `context_size_in` bytes at `context_in`, which is `args`, and writes only into
    // the attributes.
    unsafe { bpf::bpf(Command::ProgramTestRun, &mut attributes) }?;
    Ok(attributes.returned)
}
