//! The host that a program is compiled for, and what its kernel lets programs do.

use crate::{
    arch::Arch,
    btf::{Btf, BtfKind},
    insn::KernelFunction,
    probe::KernelVersion,
    target::Target,
};

/// What the instructions depend on besides the probe.
#[derive(Clone, Copy, Debug)]
pub struct HostFacts {
    /// CPUs that it may bring up.
    pub possible_cpus: u32,
    /// Its kernel.
    pub kernel: KernelVersion,
    /// Its processor.
    pub arch: Arch,
    /// What it has for both ends of calls in one program, for a probe that needs it.
    pub session: Option<Session>,
}

/// The functions of the kernel that a program for both ends of calls asks, by their numbers in its BTF. 6.10.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// `bpf_session_is_return`
    pub is_return: i32,
    /// `bpf_session_cookie`
    pub cookie: i32,
}

impl Session {
    /// Those of a kernel, if it has them.
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
    /// Of a target, without sessions.
    pub fn of(target: &Target<'_>) -> Self {
        let Target { possible_cpus, kernel, arch, .. } = *target;
        Self { possible_cpus, kernel, arch, session: None }
    }

    /// Whether programs can exchange and compare what is in memory: `BPF_XCHG`, `BPF_CMPXCHG`. The compiler of arm64 came
    /// to know them later.
    pub(crate) fn exchanges(self) -> bool {
        self.kernel
            >= match self.arch {
                Arch::X86_64 => KernelVersion(5, 12, 0),
                Arch::Aarch64 => KernelVersion(5, 18, 0),
            }
    }

    /// Whether a program of a link for many kernel functions is told at a return where the stack was. From 6.14 on it runs
    /// from the function graph tracer, which leaves that register as it was, or writes another (`return_to_handler`).
    pub(crate) fn returns_have_stack(self) -> bool {
        self.kernel < KernelVersion(6, 14, 0)
    }

    /// Whether a program of a raw tracepoint never begins on a CPU before it has ended there: since 6.1 the kernel counts a
    /// missed run instead (`__bpf_trace_run`, kernel commit 05b24ff9b2cf).
    pub(crate) fn runs_raw_tracepoints_once(self) -> bool {
        self.kernel >= KernelVersion(6, 1, 0)
    }
}
