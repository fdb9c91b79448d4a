//! How a program gets to an attach point: its type, what it may do there, and which kind of link keeps it attached.

use crate::btf::BtfKind;

/// How a program is attached. Each is described once, in the file of its attach kind (`attach`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mechanism {
    /// Its name in lists, in the status of a probe and in metrics.
    pub name: &'static str,
    /// The section of a program in an object.
    pub section: ProgramSection,
    /// The link.
    pub link: LinkKind,
    /// What a program returns when it has done its work: what lets the kernel go on as if there were no program.
    pub returns: i32,
    /// The kind of places, in words, of which only attaching shows whether the kernel takes them.
    pub untried: Option<&'static str>,
}

impl Mechanism {
    /// A mechanism whose programs return 0, and of which it is known beforehand whether the kernel takes it.
    pub(crate) const fn new(name: &'static str, section: ProgramSection, link: LinkKind) -> Self {
        Self { name, section, link, returns: 0, untried: None }
    }
}

/// The section that tells a loader what kind of program this is, and where it attaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProgramSection {
    /// This alone: where to attach is said when it is attached.
    Plain(&'static str),
    /// This, a slash and the last part of the attach point: `tp_btf/sched_switch`.
    Named(&'static str),
    /// This and all parts of the attach point: `tracepoint/sched/sched_switch`.
    Full(&'static str),
}

/// The kinds of links that a loader knows, with what it has to know of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkKind {
    /// A raw tracepoint by its name, 4.17.
    RawTracepoint,
    /// What the program itself says by a type of the kernel's BTF when it is loaded, 5.5.
    Tracing(Tracing),
    /// The perf event of a tracepoint, 4.7.
    Tracepoint,
    /// Perf events on CPUs, which come and go, 4.9.
    CpuEvents,
    /// Functions of the kernel: one, many at once (5.18), or both ends of many (6.10).
    KernelProbe {
        /// Whether the kernel's own probe of returns is used.
        at_return: bool,
    },
    /// Places in a program or library: one by one, or many at once (6.6).
    UserProbe {
        /// Whether the kernel's own probe of returns is used.
        at_return: bool,
    },
}

/// How a program says where it is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tracing {
    /// `enum bpf_prog_type`
    pub program_type: u32,
    /// `enum bpf_attach_type`
    pub attach_type: u32,
    /// What stands before the attach point's name in the name of the type.
    pub prefix: &'static str,
    /// What kind of type it is.
    pub kind: BtfKind,
}

impl LinkKind {
    /// Whether the verifier knows the types of arguments, so that helpers take a task among them.
    pub fn is_typed(self) -> bool {
        matches!(self, Self::Tracing(_))
    }

    /// Whether it is a raw tracepoint, with types or without: since 6.1 the kernel never runs a program there a second time on a CPU
    /// before it has ended.
    pub fn is_raw_tracepoint(self) -> bool {
        matches!(self, Self::RawTracepoint | Self::Tracing(Tracing { kind: BtfKind::Typedef, .. }))
    }

    /// Whether the kernel calls a program by its function tracer, which a switch of the host stops.
    pub fn is_by_tracer(self) -> bool {
        matches!(self, Self::KernelProbe { .. } | Self::Tracing(Tracing { kind: BtfKind::Func, .. }))
    }

    /// Whether a stack of the kernel begins with the program itself.
    pub fn stack_has_program(self) -> bool {
        matches!(self, Self::RawTracepoint | Self::Tracing(_))
    }

    /// Whether it is one by the kernel's probe of returns: the registers are those after the return.
    pub fn is_after_return(self) -> bool {
        matches!(self, Self::KernelProbe { at_return: true } | Self::UserProbe { at_return: true })
    }

    /// Whether a perf event is opened for it on a CPU.
    pub fn is_event(self) -> bool {
        matches!(self, Self::Tracepoint | Self::CpuEvents)
    }

    /// Whether a perf event may be needed for it: functions of the kernel get one where they have no link of their own. Those
    /// of user programs are asked for their files, and tell then what they need.
    pub fn may_need_event(self) -> bool {
        self.is_event() || matches!(self, Self::KernelProbe { .. })
    }
}
