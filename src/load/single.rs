//! Programs with one link each: at raw tracepoints, at targets and walks that the program names by a BTF type, and at tracepoints.

use super::{LoadError, error::not_loaded};
use crate::{
    kernel::Kernel,
    sys::{self, CpuEvent, ProgramKind, SamplePeriod},
};
use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};
use tapster_ebpf::{
    attach::{Place, Site},
    btf::Btf,
    point::{LinkKind, Tracing},
    program::Code,
};

/// `PERF_TYPE_TRACEPOINT`
const TRACEPOINT: u32 = 2;

/// A program and its link.
#[derive(Debug)]
pub(super) struct Single {
    /// The link, declared before the program, so that it is dropped first.
    held: Option<SingleLink>,
    program: OwnedFd,
}

#[derive(Debug)]
enum SingleLink {
    #[expect(dead_code, reason = "it is held, and not asked")]
    Link(OwnedFd),
    #[expect(dead_code, reason = "it is held, and not asked")]
    Event(CpuEvent),
    Walk(OwnedFd),
}

impl Single {
    /// Loads the program. `types` are the kernel's.
    pub(super) fn load(code: &Code, maps: &[BorrowedFd<'_>], types: Option<&Btf>) -> Result<Self, LoadError> {
        let kind = match code.mechanism.link {
            LinkKind::Tracing(tracing) | LinkKind::Walk(tracing) => typed(code, tracing, types)?,
            LinkKind::Tracepoint => ProgramKind::Tracepoint,
            LinkKind::RawTracepoint => ProgramKind::RawTracepoint,
            LinkKind::CpuEvents
            | LinkKind::KernelProbe { .. }
            | LinkKind::UserProbe { .. }
            | LinkKind::Packets(_) => several(code),
        };
        let program = sys::load_program(&code.name, kind, &code.assembled.insns, maps);
        Ok(Self { held: None, program: program.map_err(not_loaded(code))? })
    }

    /// Attaches the program.
    pub(super) fn attach(&mut self, code: &Code, kernel: &Kernel) -> Result<(), LoadError> {
        let program = self.program.as_fd();
        let held = match code.mechanism.link {
            LinkKind::Tracepoint => tracepoint(code, program, kernel).map(SingleLink::Event),
            LinkKind::RawTracepoint => CString::new(code.at.name())
                .map_err(io::Error::other)
                .and_then(|name| sys::attach_raw_tracepoint(program, &name))
                .map(SingleLink::Link),
            LinkKind::Tracing(_) => sys::attach_tracing(program).map(SingleLink::Link),
            LinkKind::Walk(_) => sys::attach_walk(program).map(SingleLink::Walk),
            LinkKind::CpuEvents
            | LinkKind::KernelProbe { .. }
            | LinkKind::UserProbe { .. }
            | LinkKind::Packets(_) => several(code),
        };
        self.held = Some(held.map_err(|error| LoadError::not_attached(code, &error))?);
        Ok(())
    }

    /// Runs the program once for each object if it is attached to a walk.
    pub(super) fn walk(&self) -> io::Result<()> {
        match &self.held {
            Some(SingleLink::Walk(link)) => sys::walk(link.as_fd()),
            Some(SingleLink::Link(_) | SingleLink::Event(_)) | None => Ok(()),
        }
    }

    pub(super) fn program(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }
}

fn several(code: &Code) -> ! {
    unreachable!("`{}` has a link of another kind: this is a bug in tapster", code.at)
}

/// The kind of a program that names its own target.
fn typed(code: &Code, tracing: Tracing, types: Option<&Btf>) -> Result<ProgramKind, LoadError> {
    let failed = |message| LoadError::Program { at: code.at.to_string(), action: "loaded", message };
    let types = types.ok_or_else(|| failed("the kernel's BTF is not at hand".into()))?;
    let name = format!("{}{}", tracing.prefix, code.at.name());
    let id = types.find(&name, tracing.kind);
    let id = id.ok_or_else(|| failed(format!("the kernel's BTF has no `{name}`")))?;
    Ok(ProgramKind::Tracing { program: tracing.program_type, attach: tracing.attach_type, id })
}

/// Opens the event of a tracepoint. One CPU stands for all, because programs run before the kernel checks the CPU.
fn tracepoint(code: &Code, program: BorrowedFd<'_>, kernel: &Kernel) -> io::Result<CpuEvent> {
    let tracefs = kernel.tracefs.as_ref().map_err(|missing| io::Error::other(missing.message.clone()))?;
    let Some(Site { place: Place::Tracepoint { category, name }, .. }) = code.sites.list.first() else {
        unreachable!("`{}` is no tracepoint: this is a bug in tapster", code.at)
    };
    let number = tracefs.number(category, name)?;
    CpuEvent::attach(program, (TRACEPOINT, number), SamplePeriod::Count(0), 0)
}
