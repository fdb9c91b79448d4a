//! Follows the processes of a command in the kernel: children of this process from now on, and all that they start.

use crate::sys::{
    self, LoadRefused, Map, PossibleCpus, ProgramKind, attach_raw_tracepoint, create_map, load_program,
};
use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};
use tapster_ebpf::{
    asm::{AsmError, Assembled},
    btf::{Btf, BtfKind},
    follow::{self, TaskOffsets},
};

/// Why processes cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// A program could not be assembled, which is a bug of tapster.
    #[error(transparent)]
    Assemble(#[from] AsmError),
    /// The verifier refused a program.
    #[error("the kernel refused the program `{name}`: {refused}")]
    Program {
        /// Its name.
        name: &'static str,
        /// The verifier's error.
        refused: LoadRefused,
    },
    /// The kernel refused something else.
    #[error("{what}: {error}")]
    Refused {
        /// The attempt.
        what: String,
        /// Its error.
        error: io::Error,
    },
    /// The kernel's types lack this type or member.
    #[error("the kernel's BTF has no `{0}`")]
    NoType(&'static str),
}

pub(crate) fn refused(what: impl Into<String>) -> impl FnOnce(io::Error) -> FollowError {
    let what = what.into();
    |error| FollowError::Refused { what, error }
}

/// The offsets of a task's process and thread numbers in this kernel.
pub(crate) fn task_offsets(btf: &Btf) -> Result<TaskOffsets, FollowError> {
    let task = btf.find("task_struct", BtfKind::Struct).ok_or(FollowError::NoType("struct task_struct"))?;
    let offset = |name, shown| {
        btf.member(task, name).map(|found| found.bit_offset / 8).ok_or(FollowError::NoType(shown))
    };
    Ok(TaskOffsets { pid: offset("pid", "task_struct.pid")?, tgid: offset("tgid", "task_struct.tgid")? })
}

/// Loads a program.
pub(crate) fn load(
    name: &'static str,
    kind: ProgramKind,
    assembled: &Assembled,
    maps: &[BorrowedFd<'_>],
) -> Result<OwnedFd, FollowError> {
    load_program(name, kind, &assembled.insns, maps).map_err(|refused| FollowError::Program { name, refused })
}

/// Loads and attaches a program at a raw tracepoint; returns it and its link.
pub(crate) fn raw_tracepoint(
    name: &'static str,
    at: &'static CStr,
    assembled: &Assembled,
    maps: &[BorrowedFd<'_>],
) -> Result<[OwnedFd; 2], FollowError> {
    let program = load(name, ProgramKind::RawTracepoint, assembled, maps)?;
    let shown = at.to_string_lossy();
    let link = attach_raw_tracepoint(program.as_fd(), at)
        .map_err(refused(format!("`rawtracepoint:{shown}` could not be attached to")))?;
    Ok([program, link])
}

/// Registers this process, whose children are followed, by a program that runs once.
pub(crate) fn register(assembled: &Assembled, maps: &[BorrowedFd<'_>]) -> Result<(), FollowError> {
    let program = load("follow_start", ProgramKind::RawTracepoint, assembled, maps)?;
    let failed = || refused("this process could not be registered");
    match sys::prog_test_run_raw_tp(program.as_fd(), &[0]).map_err(failed())? {
        0 => Ok(()),
        answer => Err(failed()(io::Error::from_raw_os_error(answer.cast_signed().wrapping_neg()))),
    }
}

/// Processes that are followed in maps of probes. Dropping it ends that.
#[derive(Debug)]
pub struct FollowedProcesses {
    lost: Map,
    _held: Vec<OwnedFd>,
}

impl FollowedProcesses {
    /// Follows this process's children from now on. `maps` are those of the probes with `traced`.
    pub fn start(btf: &Btf, maps: &[BorrowedFd<'_>]) -> Result<Self, FollowError> {
        let lost = create_map(&follow::lost()).map_err(refused("the map `lost` could not be made"))?;
        let count = u32::try_from(maps.len()).unwrap_or(u32::MAX);
        let all: Vec<BorrowedFd<'_>> = maps.iter().copied().chain([lost.as_fd()]).collect();
        let task = task_offsets(btf)?;
        let mut held = Vec::new();
        held.extend(raw_tracepoint("follow_free", c"sched_process_free", &follow::free(task, count)?, &all)?);
        held.extend(raw_tracepoint("follow_fork", c"sched_process_fork", &follow::fork(task, count)?, &all)?);
        register(&follow::register(0..count)?, &all)?;
        let cpus = PossibleCpus::of_host().map_err(refused("the number of CPUs"))?;
        let opened = Map::open(lost.as_fd(), cpus).map_err(refused("the map of losses"))?;
        held.push(lost);
        Ok(Self { lost: opened, _held: held })
    }

    /// Processes that were not followed, because there were too many at a time.
    pub fn lost(&self) -> io::Result<u64> {
        counter(&self.lost, 0)
    }
}

/// The sum over all CPUs of a counter in an array.
pub(crate) fn counter(map: &Map, index: u32) -> io::Result<u64> {
    let none = || io::Error::other("an array of counters has no such entry");
    let values = map.lookup(&index.to_le_bytes())?.ok_or_else(none)?;
    let (words, _) = values.as_chunks::<8>();
    Ok(words.iter().map(|word| u64::from_le_bytes(*word)).sum())
}
