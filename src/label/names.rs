//! Numbers that mean the same on every kernel: signals, soft interrupts, states of TCP, capabilities.
//!
//! Sources: `include/uapi/asm-generic/signal.h` (x86-64 and arm64 have these), `include/linux/interrupt.h`,
//! `include/net/tcp_states.h`, `include/uapi/linux/capability.h`.

use super::{Decode, number::signed};
use tapster_ebpf::probe::NumberNames;

/// Names by number, from 0 on; those without a prefix get it. An empty one is no name.
#[derive(Debug)]
pub(super) struct NamesDecoder {
    prefix: &'static str,
    names: &'static [&'static str],
    zero: Option<&'static str>,
}

impl NamesDecoder {
    pub(super) fn of(names: NumberNames) -> Self {
        let (prefix, names, zero): (_, &[&str], _) = match names {
            NumberNames::Signal => ("SIG", &SIGNALS, Some("none")),
            NumberNames::Softirq => ("", &SOFTIRQS, None),
            NumberNames::TcpState => ("", &TCP_STATES, None),
            NumberNames::Capability => ("CAP_", &CAPABILITIES, None),
        };
        Self { prefix, names, zero }
    }
}

impl Decode for NamesDecoder {
    fn decode(&mut self, raw: &[u8]) -> Option<String> {
        let number = signed(raw);
        if let (0, Some(zero)) = (number, self.zero) {
            return Some(zero.to_owned());
        }
        let name = usize::try_from(number).ok().and_then(|number| self.names.get(number));
        Some(match name {
            Some(name) if !name.is_empty() => format!("{}{name}", self.prefix),
            _ => number.to_string(),
        })
    }
}

const SIGNALS: [&str; 32] = [
    "", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

const SOFTIRQS: [&str; 10] =
    ["HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU"];

const TCP_STATES: [&str; 14] = [
    "",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
    "BOUND_INACTIVE",
];

const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];
