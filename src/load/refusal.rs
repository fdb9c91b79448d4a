//! Explains an error number of the kernel: which limit was reached, or which capability is missing. It reads the limits and
//! rights of the process at that moment, so a message says what to change, not only that something was refused.

use crate::{
    cgroup::memory_limit,
    sys::{
        self, Capabilities,
        Capability::{self, Bpf, NetAdmin, Perfmon, SysAdmin, SysResource},
    },
};
use std::{error::Error, fs, io, path::Path};
use tapster_ebpf::probe::KernelVersion;

/// The object that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedObject {
    /// A map.
    Map,
    /// A program.
    Program,
    /// A link or an event at a function or an instruction of a user program.
    UserProbe,
    /// Another link or event.
    Event,
    /// A program that sees packets, or its link.
    Packets,
}

/// The limits and settings of the kernel and of this process.
#[derive(Clone, Debug, Default)]
struct HostLimits {
    version: KernelVersion,
    capabilities: Capabilities,
    /// Most open files.
    files: Option<u64>,
    /// Most bytes of locked memory; `None` for no limit.
    locked: Option<u64>,
    /// The memory limit, in words.
    memory: Option<String>,
    /// `kernel.perf_event_paranoid`
    paranoid: Option<i32>,
}

impl HostLimits {
    fn read(proc: &Path) -> Self {
        let text = |name: &str| fs::read_to_string(proc.join(name)).unwrap_or_default();
        let limits = text("self/limits");
        let limit = |name: &str| {
            let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        Self {
            version: KernelVersion::parse(text("sys/kernel/osrelease").trim()).unwrap_or_default(),
            capabilities: Capabilities::read(&proc.join("self/status")).unwrap_or_default(),
            files: limit("Max open files"),
            locked: limit("Max locked memory"),
            memory: memory_limit(proc).map(|limit| {
                let kib = |bytes: u64| bytes / 1024;
                let (path, taken, most) = (limit.path.display(), kib(limit.taken), kib(limit.bytes));
                format!("`{path}` allows {most} KiB of memory, of which {taken} KiB are taken")
            }),
            paranoid: text("sys/kernel/perf_event_paranoid").trim().parse().ok(),
        }
    }

    fn lacks(&self, wanted: &[Capability]) -> Option<String> {
        if self.capabilities.has(SysAdmin) {
            return None;
        }
        let needed = if self.version < KernelVersion(5, 8, 0) { &[SysAdmin] } else { wanted };
        let lacking: Vec<String> =
            needed.iter().filter(|one| !self.capabilities.has(**one)).map(ToString::to_string).collect();
        let given_up = "which may have been given up after the start (`--capabilities.keep`)";
        (!lacking.is_empty()).then(|| format!("this process lacks {}, {given_up}", lacking.join(" and ")))
    }

    fn explain(&self, errno: i32, asked: RefusedObject) -> Option<String> {
        let counts_locked = self.version < KernelVersion(5, 11, 0) && !self.capabilities.has(SysResource);
        match (errno, asked) {
            (libc::EMFILE, _) => Some(match self.files {
                Some(files) => format!(
                    "this process may have {files} open files (RLIMIT_NOFILE): raise `LimitNOFILE` of its unit, `ulimit -n`"
                ),
                None => "this process may not have more open files (RLIMIT_NOFILE)".into(),
            }),
            (libc::ENFILE, _) => Some("the host may not have more open files (`fs.file-max`)".into()),
            (libc::ENOMEM, _) => Some(match &self.memory {
                Some(limit) => format!("{limit}: raise it, or have fewer probes or a lower `max_series`"),
                None => "the host has no memory left for it: fewer probes or a lower `max_series` take less".into(),
            }),
            // Maps and programs count as locked memory.
            (libc::EPERM, RefusedObject::Map | RefusedObject::Program) if counts_locked && self.locked.is_some() => {
                let most = self.locked.unwrap_or_default() / 1024;
                let lacking = self.lacks(&[Bpf]).map(|lacking| format!(", or {lacking}")).unwrap_or_default();
                Some(format!(
                    "before Linux 5.11 maps and programs count as locked memory, of which this process may have {most} KiB \
                     (RLIMIT_MEMLOCK): set `LimitMEMLOCK=infinity` or add CAP_SYS_RESOURCE{lacking}"
                ))
            }
            (libc::EPERM, RefusedObject::Map) => Some(self.lacks(&[Bpf]).unwrap_or_else(filtered)),
            (libc::EPERM, RefusedObject::Program) => Some(self.lacks(&[Bpf, Perfmon]).unwrap_or_else(|| {
                "this kernel does not do it, or a filter of system calls refuses `bpf`".into()
            })),
            (libc::EPERM, RefusedObject::Packets) => Some(self.lacks(&[Bpf, Perfmon, NetAdmin]).unwrap_or_else(filtered)),
            (libc::EBUSY | libc::EEXIST, RefusedObject::Packets) => Some(TAKEN.into()),
            (libc::EPERM | libc::EACCES, RefusedObject::UserProbe) if !self.capabilities.has(SysAdmin) => Some(
                "this kernel asks CAP_SYS_ADMIN for it (the fix of CVE-2025-38466), which this process lacks; it may have been \
                 given up after the start (`--capabilities.keep`)"
                    .into(),
            ),
            (libc::EPERM | libc::EACCES, RefusedObject::Event | RefusedObject::UserProbe) => Some(match (self.lacks(&[Perfmon]), self.paranoid) {
                (Some(lacking), _) => lacking,
                (None, Some(level)) if level > 2 && !self.capabilities.has(SysAdmin) => format!(
                    "`kernel.perf_event_paranoid` is {level}, and above 2 this kernel asks for CAP_SYS_ADMIN, which this process lacks"
                ),
                (None, _) => "a filter of system calls or a security module refuses it".into(),
            }),
            _ => None,
        }
    }
}

/// Only of XDP an interface has one program.
const TAKEN: &str = "an XDP program is at this interface already, another probe's or somebody else's, and there is room for one: `bpftool net` \
                     shows it; `tc:INTERFACE:ingress` counts what that program lets through";

fn filtered() -> String {
    "a filter of system calls refuses `bpf`, as those of older container runtimes do".into()
}

/// The error number in an error or in one of its causes.
fn errno(error: &(dyn Error + 'static)) -> Option<i32> {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(found) = inner.downcast_ref::<io::Error>().and_then(sys::errno) {
            return Some(found);
        }
        cause = inner.source();
    }
    None
}

/// What an error means on this host, to be appended to it; empty if nothing more is known.
pub fn because(error: &(dyn Error + 'static), asked: RefusedObject) -> String {
    let why = errno(error).and_then(|errno| HostLimits::read(Path::new("/proc")).explain(errno, asked));
    why.map(|why| format!("; {why}")).unwrap_or_default()
}

/// Whether the verifier refused a program, rather than its attributes, a limit or a right.
pub(super) fn is_verifiers(error: &io::Error, log: &str) -> bool {
    let others = [libc::ENOMEM, libc::EMFILE, libc::ENFILE, libc::EINTR, libc::EAGAIN, libc::ENOSPC];
    !log.is_empty() && !sys::errno(error).is_some_and(|errno| others.contains(&errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(version: (u16, u16), mask: u64) -> HostLimits {
        let directory = tempfile::tempdir().unwrap();
        let status = directory.path().join("status");
        fs::write(&status, format!("CapEff:\t{mask:016x}\n")).unwrap();
        HostLimits {
            version: KernelVersion(version.0, version.1, 0),
            capabilities: Capabilities::read(&status).unwrap(),
            files: Some(64),
            locked: Some(65_536),
            memory: None,
            paranoid: Some(3),
        }
    }

    #[test]
    fn limits_and_capabilities_by_name() {
        let (bpf, perfmon, admin, resource) = (1 << 39, 1 << 38, 1 << 21, 1 << 24);
        let limited = HostLimits { memory: Some("`memory.max` allows 24 KiB".into()), ..own((6, 1), 0) };
        for (own, errno, asked, expected) in [
            (own((6, 1), 0), libc::EMFILE, RefusedObject::Map, Some("64 open files (RLIMIT_NOFILE)")),
            (own((6, 1), 0), libc::ENFILE, RefusedObject::Event, Some("fs.file-max")),
            (own((6, 1), bpf), libc::ENOMEM, RefusedObject::Map, Some("the host has no memory left")),
            (limited, libc::ENOMEM, RefusedObject::Program, Some("`memory.max` allows 24 KiB: raise it")),
            (own((5, 10), bpf), libc::EPERM, RefusedObject::Map, Some("64 KiB (RLIMIT_MEMLOCK)")),
            (own((5, 10), bpf | resource), libc::EPERM, RefusedObject::Map, Some("a filter of system calls")),
            (own((5, 11), perfmon), libc::EPERM, RefusedObject::Map, Some("this process lacks CAP_BPF,")),
            (own((6, 1), perfmon), libc::EPERM, RefusedObject::Program, Some("this process lacks CAP_BPF,")),
            (own((6, 1), 0), libc::EPERM, RefusedObject::Program, Some("lacks CAP_BPF and CAP_PERFMON")),
            (own((6, 1), admin), libc::EPERM, RefusedObject::Program, Some("this kernel does not do it")),
            (own((6, 1), bpf | perfmon), libc::EACCES, RefusedObject::UserProbe, Some("CVE-2025-38466")),
            (own((6, 1), bpf), libc::EACCES, RefusedObject::Event, Some("this process lacks CAP_PERFMON,")),
            (
                own((6, 1), bpf | perfmon),
                libc::EACCES,
                RefusedObject::Event,
                Some("`kernel.perf_event_paranoid` is 3"),
            ),
            (
                own((6, 1), admin),
                libc::EACCES,
                RefusedObject::Event,
                Some("a filter of system calls or a security module"),
            ),
            (own((6, 1), admin), libc::EINVAL, RefusedObject::Map, None),
            (
                own((6, 1), bpf | perfmon),
                libc::EPERM,
                RefusedObject::Packets,
                Some("this process lacks CAP_NET_ADMIN,"),
            ),
            (
                own((6, 1), admin),
                libc::EBUSY,
                RefusedObject::Packets,
                Some("an XDP program is at this interface already"),
            ),
            (own((6, 1), admin), libc::EBUSY, RefusedObject::Event, None),
        ] {
            let found = own.explain(errno, asked);
            match expected {
                Some(expected) => {
                    assert!(found.as_deref().is_some_and(|found| found.contains(expected)), "{found:?}");
                }
                None => assert_eq!(found, None),
            }
        }
    }

    #[test]
    fn the_verifier_is_named_only_when_it_was_it() {
        let error = io::Error::from_raw_os_error;
        assert!(is_verifiers(&error(libc::EACCES), "    R1 invalid mem access 'scalar'"));
        assert!(is_verifiers(&error(libc::E2BIG), "    BPF program is too large"));
        for errno in [libc::E2BIG, libc::EINVAL, libc::EPERM, libc::ENOMEM] {
            assert!(!is_verifiers(&error(errno), ""), "{errno}");
        }
        assert!(!is_verifiers(&error(libc::ENOMEM), "    0: (79) r1 = *(u64 *)(r1 +0)"));
    }

    #[test]
    fn the_number_is_found_below_other_errors() {
        let deep = io::Error::other(io::Error::from_raw_os_error(libc::EMFILE));
        assert!(
            because(&deep, RefusedObject::Map).starts_with("; this process may have "),
            "{}",
            because(&deep, RefusedObject::Map)
        );
        assert_eq!(because(&io::Error::other("nothing"), RefusedObject::Map), "");
    }
}
