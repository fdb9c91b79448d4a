//! Mechanisms: how a program is attached to an attach point. A mechanism determines the type of the program, its rights, and
//! the kind of its link.

use crate::btf::BtfKind;

/// How a program is attached. Each mechanism is described once, in the file of its attach kind (`attach`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mechanism {
    /// Its name in lists, in the status of a probe and in metrics.
    pub name: &'static str,
    /// The section of its programs in an object.
    pub section: ProgramSection,
    /// The kind of its link.
    pub link: LinkKind,
    /// The return value of a program: the one with which the kernel continues as without a program.
    pub returns: i32,
    /// The kind of places, in words, if only attaching shows whether the kernel accepts them.
    pub untried: Option<&'static str>,
}

impl Mechanism {
    /// Makes a mechanism whose programs return 0, and whose places are known to be accepted before attaching.
    pub(crate) const fn new(name: &'static str, section: ProgramSection, link: LinkKind) -> Self {
        Self { name, section, link, returns: 0, untried: None }
    }

    /// Makes a mechanism whose programs see packets. What they return is the hook's, and nobody else's to choose.
    pub(crate) const fn of_packets(name: &'static str, section: &'static str, hook: PacketHook) -> Self {
        Self {
            returns: hook.passes_on(),
            ..Self::new(name, ProgramSection::Plain(section), LinkKind::Packets(hook))
        }
    }
}

/// The section that tells a loader the kind of a program, and its attach point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProgramSection {
    /// The name alone: the attach point is passed with the attachment.
    Plain(&'static str),
    /// The name, a slash and the last part of the attach point: `tp_btf/sched_switch`.
    Named(&'static str),
    /// The name and all parts of the attach point: `tracepoint/sched/sched_switch`.
    Full(&'static str),
}

/// The kinds of links that a loader knows, each with the facts that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkKind {
    /// A raw tracepoint, by its name, 4.17.
    RawTracepoint,
    /// A target that the program names when it is loaded, by a type of the kernel's BTF, 5.5.
    Tracing(Tracing),
    /// A walk over objects, which the program names as above; it runs when somebody reads, 5.8.
    Walk(Tracing),
    /// The perf event of a tracepoint, 4.7.
    Tracepoint,
    /// Perf events on CPUs, which may go offline and come back, 4.9.
    CpuEvents,
    /// Functions of the kernel: one, many at once (5.18), or entries and returns of many (6.10).
    KernelProbe {
        /// Whether it uses the kernel's own return probe.
        at_return: bool,
    },
    /// Places in a program or library: one by one, or many at once (6.6).
    UserProbe {
        /// Whether it uses the kernel's own return probe.
        at_return: bool,
    },
    /// Packets that pass an interface or belong to a cgroup. Several programs may be at one place, except with XDP.
    Packets(PacketHook),
}

/// A place in the kernel that packets pass. Its programs decide what becomes of them; ours return one constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PacketHook {
    /// The driver of an interface, before the kernel makes more of a packet than its bytes. Links 5.9, what programs here read
    /// packets with 5.18.
    Xdp,
    /// What an interface receives, by a link to its traffic control (TCX), 6.6.
    TcIngress,
    /// What an interface sends, 6.6.
    TcEgress,
    /// What sockets of a cgroup receive, 5.7.
    CgroupIngress,
    /// What sockets of a cgroup send, 5.7.
    CgroupEgress,
}

impl PacketHook {
    /// The return value with which the packet goes on as it would without the program: `XDP_PASS`; `TCX_NEXT`, so that other
    /// programs and filters decide; 1, which a cgroup's programs say of what they let through.
    pub const fn passes_on(self) -> i32 {
        match self {
            Self::Xdp => 2,
            Self::TcIngress | Self::TcEgress => -1,
            Self::CgroupIngress | Self::CgroupEgress => 1,
        }
    }

    /// `enum bpf_prog_type`
    pub const fn program_type(self) -> u32 {
        match self {
            Self::Xdp => 6,
            Self::TcIngress | Self::TcEgress => 3,
            Self::CgroupIngress | Self::CgroupEgress => 8,
        }
    }

    /// `enum bpf_attach_type`
    pub const fn attach_type(self) -> u32 {
        match self {
            Self::Xdp => 37,
            Self::TcIngress => 46,
            Self::TcEgress => 47,
            Self::CgroupIngress => 0,
            Self::CgroupEgress => 1,
        }
    }

    /// Whether it is at a network interface; otherwise in a cgroup.
    pub const fn is_at_interface(self) -> bool {
        matches!(self, Self::Xdp | Self::TcIngress | Self::TcEgress)
    }
}

/// How a program names its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tracing {
    /// `enum bpf_prog_type`
    pub program_type: u32,
    /// `enum bpf_attach_type`
    pub attach_type: u32,
    /// The prefix of the type's name, before the name of the attach point.
    pub prefix: &'static str,
    /// The kind of the type.
    pub kind: BtfKind,
}

impl LinkKind {
    /// Whether the verifier knows the types of arguments, so that helpers accept a task among them.
    pub fn is_typed(self) -> bool {
        matches!(self, Self::Tracing(_) | Self::Walk(_))
    }

    /// Where packets pass it, if it sees packets: no task, and no memory but a packet's, belongs to such an event.
    pub fn packets(self) -> Option<PacketHook> {
        match self {
            Self::Packets(hook) => Some(hook),
            _ => None,
        }
    }

    /// Whether it runs when somebody reads, and not at events.
    pub fn is_walk(self) -> bool {
        matches!(self, Self::Walk(_))
    }

    /// Whether it is a raw tracepoint, with or without types: since 6.1 the kernel never begins a program there on a CPU
    /// before its previous run has ended.
    pub fn is_raw_tracepoint(self) -> bool {
        matches!(self, Self::RawTracepoint | Self::Tracing(Tracing { kind: BtfKind::Typedef, .. }))
    }

    /// Whether the kernel's function tracer calls the program; a sysctl of the host can stop it.
    pub fn is_by_tracer(self) -> bool {
        matches!(self, Self::KernelProbe { .. } | Self::Tracing(Tracing { kind: BtfKind::Func, .. }))
    }

    /// Whether a stack of the kernel begins with the program itself.
    pub fn stack_has_program(self) -> bool {
        matches!(self, Self::RawTracepoint | Self::Tracing(_))
    }

    /// Whether it uses the kernel's return probe: the registers are those after the return.
    pub fn is_after_return(self) -> bool {
        matches!(self, Self::KernelProbe { at_return: true } | Self::UserProbe { at_return: true })
    }

    /// Whether it needs a perf event on a CPU.
    pub fn is_event(self) -> bool {
        matches!(self, Self::Tracepoint | Self::CpuEvents)
    }

    /// Whether it may need a perf event: functions of the kernel get one if they have no link of their own. Functions
    /// of user programs are left out here: the check of their files finds out what they need.
    pub fn may_need_event(self) -> bool {
        self.is_event() || matches!(self, Self::KernelProbe { .. })
    }
}
