//! The link to timers and counters, which are open on each CPU.

use super::{LoadError, error::not_loaded};
use crate::{
    kernel::Kernel,
    lock::lock,
    perf::{self, Covered, OpenEvents},
    sys::{self, ProgramKind},
};
use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Mutex,
};
use tapster_ebpf::{attach::PerfEvent, program::Code};

/// A program and its events.
#[derive(Debug)]
pub(super) struct Cpus {
    /// Declared before the program, so that they are dropped first.
    events: Mutex<Option<OpenEvents>>,
    program: OwnedFd,
}

fn event(code: &Code) -> PerfEvent {
    PerfEvent::of(&code.at)
        .unwrap_or_else(|| unreachable!("`{}` is no timer or counter: this is a bug in tapster", code.at))
}

/// Checks that the kernel has the event of a code on the CPUs that are online, without a program.
pub(super) fn attempt(code: &Code, kernel: &Kernel) -> Result<(), LoadError> {
    let tried = kernel.online_cpus().and_then(|online| perf::attempt(&event(code), &online));
    tried.map_err(|error| LoadError::not_attached(code, &error))
}

impl Cpus {
    /// Loads the program.
    pub(super) fn load(code: &Code, maps: &[BorrowedFd<'_>]) -> Result<Self, LoadError> {
        let insns = &code.assembled.insns;
        let program = sys::load_program(&code.name, ProgramKind::PerfEvent, insns, maps);
        Ok(Self { events: Mutex::default(), program: program.map_err(not_loaded(code))? })
    }

    /// Attaches the program on the CPUs that are online.
    pub(super) fn attach(&mut self, code: &Code, kernel: &Kernel) -> Result<(), LoadError> {
        let attached = kernel
            .online_cpus()
            .and_then(|online| OpenEvents::attach(self.program.as_fd(), &event(code), &online));
        let attached = attached.map_err(|error| LoadError::not_attached(code, &error))?;
        *lock(&self.events) = Some(attached);
        Ok(())
    }

    /// Attaches it to CPUs that came online, and again to those that were offline meanwhile.
    pub(super) fn follow(&self, online: &[u32]) -> Covered {
        let mut events = lock(&self.events);
        events.as_mut().map(|events| events.follow(self.program.as_fd(), online)).unwrap_or_default()
    }

    pub(super) fn program(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }
}
