//! Loaded programs: information about them, and running one without an event.

use super::{
    bpf::{self, BpfCommand, EnableStats, Information, TestRun},
    memory,
};
use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

/// The kernel's information about a loaded program; fields that the kernel is too old for are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgInfo {
    /// Its number, as `bpftool prog` shows it.
    pub id: u32,
    /// Nanoseconds of all runs while statistics were on, 5.1.
    pub run_ns: u64,
    /// Runs while statistics were on, 5.1.
    pub runs: u64,
    /// Runs that the kernel left out because the program already ran on that CPU, 5.12; counted without statistics too. Later
    /// kernels count them for more kinds of programs.
    pub missed: u64,
    /// Bytes of machine code; 0 if the program is interpreted or this process may not see it.
    pub jited_bytes: u64,
    /// Instructions after the verifier's rewriting.
    pub xlated_insns: u64,
    /// Instructions that the verifier visited, 5.16.
    pub verified_insns: u64,
    /// Kernel memory of the program itself, bytes.
    pub memory_bytes: u64,
}

/// `struct bpf_prog_info`.
#[derive(Debug, Default)]
#[repr(C)]
struct RawProgramInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_length: u32,
    xlated_length: u32,
    /// From the instructions to the first field that is used; all zero, so that the kernel writes no arrays.
    arrays: [u64; 21],
    run_ns: u64,
    runs: u64,
    missed: u64,
    verified_insns: u32,
    pad: u32,
}
const _: () = assert!(std::mem::offset_of!(RawProgramInfo, run_ns) == 192);
// SAFETY: numbers only, without holes between or after them.
unsafe impl Information for RawProgramInfo {}

/// Reads the information about a program.
pub fn prog_info(fd: BorrowedFd<'_>) -> io::Result<ProgInfo> {
    let raw: RawProgramInfo = bpf::object_info(fd)?;
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

/// Turns on the statistics of all programs until the returned descriptor is closed, 5.8. Needs `CAP_SYS_ADMIN`.
pub fn enable_run_stats() -> io::Result<OwnedFd> {
    // `BPF_STATS_RUN_TIME`, the only kind.
    let mut attributes = EnableStats { kind: 0 };
    // SAFETY: no addresses in there, and the command makes a descriptor.
    Ok(unsafe { bpf::bpf_fd(BpfCommand::EnableStats, &mut attributes) }?)
}

/// Runs a raw tracepoint program once with these arguments, 5.10, and returns its result.
///
/// The kernel refuses a program that reads more arguments than given, and one of another type: a `tp_btf` program cannot be run
/// this way.
pub fn prog_test_run_raw_tp(fd: BorrowedFd<'_>, args: &[u64]) -> io::Result<u32> {
    // The kernel requires repeat, duration and data to be zero for this type.
    let mut attributes = TestRun {
        program: bpf::number(fd),
        context_size_in: u32::try_from(size_of_val(args)).map_err(io::Error::other)?,
        context_in: args.as_ptr() as u64,
        ..TestRun::default()
    };
    // SAFETY: the kernel reads `context_size_in` bytes at `context_in`, which is `args`, and writes only into
    // the attributes.
    unsafe { bpf::bpf(BpfCommand::ProgramTestRun, &mut attributes) }?;
    Ok(attributes.returned)
}
