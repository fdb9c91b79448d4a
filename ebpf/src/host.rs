//! Facts about the host that a program is compiled for, and what its kernel allows in programs.

use crate::{
    arch::Arch,
    btf::{Btf, BtfKind},
    insn::KernelFunction,
    probe::KernelVersion,
    target::Target,
};

/// The facts that instructions depend on, besides the probe.
#[derive(Clone, Copy, Debug)]
pub struct HostFacts {
    /// Number of possible CPUs.
    pub possible_cpus: u32,
    /// Version of the kernel.
    pub kernel: KernelVersion,
    /// Architecture of the processor.
    pub arch: Arch,
    /// Kernel functions for sessions (one program for entry and return), if a probe uses a session.
    pub session: Option<Session>,
}

/// Functions of the kernel that a session program calls, by their numbers in the kernel's BTF. 6.10.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// `bpf_session_is_return`
    pub is_return: i32,
    /// `bpf_session_cookie`
    pub cookie: i32,
}

impl Session {
    /// Finds the functions in a kernel's BTF, if it has them.
    pub fn find(btf: &Btf) -> Option<Self> {
        let number = |function: KernelFunction| {
            btf.find(function.name(), BtfKind::Func).and_then(|found| i32::try_from(found).ok())
        };
        Some(Self {
            is_return: number(KernelFunction::SessionIsReturn)?,
            cookie: number(KernelFunction::SessionCookie)?,
        })
    }
}

impl HostFacts {
    /// The facts of a target, without sessions.
    pub fn of(target: &Target<'_>) -> Self {
        let Target { possible_cpus, kernel, arch, .. } = *target;
        Self { possible_cpus, kernel, arch, session: None }
    }

    /// Whether programs may exchange and compare memory atomically: `BPF_XCHG`, `BPF_CMPXCHG`. 5.12, on arm64 5.18.
    pub(crate) fn exchanges(self) -> bool {
        self.kernel
            >= match self.arch {
                Arch::X86_64 => KernelVersion(5, 12, 0),
                Arch::Aarch64 => KernelVersion(5, 18, 0),
            }
    }

    /// Whether a program of a link for many kernel functions gets the stack pointer at a return. Since 6.14 the function
    /// graph tracer runs it, which leaves that register unchanged or writes another one (`return_to_handler`).
    pub(crate) fn returns_have_stack(self) -> bool {
        self.kernel < KernelVersion(6, 14, 0)
    }

    /// Whether a program of a raw tracepoint never begins on a CPU before its previous run there has ended: since 6.1 the
    /// kernel counts a missed run instead (`__bpf_trace_run`, kernel commit 05b24ff9b2cf).
    pub(crate) fn runs_raw_tracepoints_once(self) -> bool {
        self.kernel >= KernelVersion(6, 1, 0)
    }
}
