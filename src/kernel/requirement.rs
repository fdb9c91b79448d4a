//! Reasons that probes cannot run on this host, in sentences for the person who can change it.

use super::{Kernel, Missing};
use crate::{
    host::kallsyms,
    sys::{
        Capabilities,
        Capability::{self, Bpf, Perfmon, SysAdmin, SysResource, Syslog},
    },
};
use std::{fs, path::Path};
use tapster_ebpf::{diagnostic::Diagnostic, probe::KernelVersion};

/// The oldest kernel on which tapster is tested.
const OLDEST: KernelVersion = KernelVersion(5, 10, 0);

fn missing(message: impl Into<String>, hint: impl Into<String>) -> Missing {
    Missing { message: message.into(), hint: Some(hint.into()) }
}

/// Why this process cannot read names of the kernel's functions; `None` if it can. `proc` is where procfs is mounted.
pub fn nameless(proc: &Path) -> Option<Missing> {
    let Missing { message, hint } = hidden(proc)?;
    Some(Missing { message: format!("functions of the kernel have no names: {message}"), hint })
}

/// Why this process cannot read addresses of the kernel's symbols; `None` if it can.
pub(super) fn hidden(proc: &Path) -> Option<Missing> {
    let path = proc.join("kallsyms");
    let hidden = match kallsyms::are_hidden(&path) {
        Ok(hidden) => hidden,
        Err(error) => {
            return Some(Missing { message: format!("`{}`: {error}", path.display()), hint: None });
        }
    };
    let restrict = fs::read_to_string(proc.join("sys/kernel/kptr_restrict")).unwrap_or_default();
    let has_syslog = || Capabilities::read(&proc.join("self/status")).is_ok_and(|own| own.has(Syslog));
    let (why, hint) = match restrict.trim() {
        "2" => (
            "`kernel.kptr_restrict` is 2, which hides addresses from everybody",
            "sysctl kernel.kptr_restrict=1",
        ),
        _ if has_syslog() => {
            ("addresses are hidden from this process", "is it in a container that hides them?")
        }
        _ => (
            "this process lacks CAP_SYSLOG, and addresses are hidden from it",
            "add CAP_SYSLOG, or keep it if it was given up (`--capabilities.keep`)",
        ),
    };
    hidden.then(|| missing(why, hint))
}

impl Kernel {
    /// Checks whether probes can run at all; otherwise returns every reason.
    pub fn requirements(&self) -> Result<(), Vec<Missing>> {
        let mut all = self.unknown.clone();
        all.extend(self.missing_capabilities());
        if self.user_namespace {
            all.push(missing(
                "this process runs in a user namespace, whose root may not use BPF",
                "run it outside: no rootless container, no remapped users",
            ));
        }
        if self.confidential {
            all.push(missing(
                "the kernel is locked down and lets nobody read its memory",
                "boot without lockdown=confidentiality; lockdown=integrity is fine",
            ));
        }
        if let (Err(btf), Err(tracefs)) = (&self.btf, &self.tracefs) {
            // One of the two would do for some probes.
            all.extend([btf.clone(), tracefs.clone()]);
        }
        if all.is_empty() { Ok(()) } else { Err(all) }
    }

    /// The message for a probe that does not compile because this kernel's types are unknown: that cause once, in place of an
    /// error at every name that needs types. `None` if its errors have another cause.
    pub fn typeless(&self, diagnostics: &[Diagnostic]) -> Option<String> {
        let Missing { message, hint } = self.btf.as_ref().err()?;
        let hint = hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
        diagnostics
            .iter()
            .any(|diagnostic| diagnostic.lacks_types)
            .then(|| format!("it needs types of the kernel, and {message}{hint}"))
    }

    /// Reasons that some probes cannot run, or may not run, for a warning.
    pub fn limitations(&self) -> Vec<Missing> {
        let mut all = Vec::new();
        match (&self.btf, &self.tracefs) {
            (Err(one), Ok(_)) | (Ok(_), Err(one)) => all.push(one.clone()),
            // If both are missing, that is a requirement.
            (Ok(_), Ok(_)) | (Err(_), Err(_)) => {}
        }
        if self.version < OLDEST && self.version != KernelVersion::default() {
            let message = format!("Linux {} is older than {OLDEST}, the oldest tested", self.version);
            all.push(Missing { message, hint: None });
        }
        // Since then, maps are accounted to the memory cgroup.
        if let Some(bytes) = self.locked_limit() {
            all.push(missing(
                format!(
                    "before Linux 5.11 maps count as locked memory, of which this process may have {} KiB (RLIMIT_MEMLOCK), and \
                     CAP_SYS_RESOURCE is missing to raise that",
                    bytes / 1024
                ),
                "add CAP_SYS_RESOURCE or set LimitMEMLOCK=infinity",
            ));
        }
        all
    }

    /// Most bytes of maps that this process may have, on kernels where they count as locked memory; `None` if there is no such
    /// limit, or if this process can raise it.
    pub fn locked_limit(&self) -> Option<u64> {
        if self.version >= KernelVersion(5, 11, 0) || self.may(SysResource) {
            return None;
        }
        let limits = fs::read_to_string(self.proc.join("self/limits")).unwrap_or_default();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// Whether this process is known to have a capability.
    fn may(&self, capability: Capability) -> bool {
        self.capabilities.as_ref().is_some_and(|own| own.has(capability))
    }

    fn missing_capabilities(&self) -> Option<Missing> {
        // Unknown capabilities are not reported as missing; that they are unknown is a requirement of its own.
        let own = self.capabilities.as_ref().filter(|own| !own.has(SysAdmin))?;
        let needed = if self.version < KernelVersion(5, 8, 0) { vec![SysAdmin] } else { vec![Bpf, Perfmon] };
        let lacking: Vec<String> =
            needed.into_iter().filter(|one| !own.has(*one)).map(|one| one.to_string()).collect();
        let message = format!("this process lacks {}", lacking.join(" and "));
        (!lacking.is_empty()).then(|| missing(message, "run as root or grant what is lacking"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;
    use tapster_ebpf::{declaration, diagnostic::SourceFile};
    use tempfile::TempDir;

    /// A host without BTF, whose procfs path contains names of capabilities, and whose version is unknown.
    fn host() -> (TempDir, Kernel) {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("capabilities/self/status", "CapEff:\t0000000000000000\n");
        write("sys/kernel/tracing/available_events", "sched:sched_switch\n");
        write("sys/kernel/tracing/events/sched/sched_switch/format", "name: sched_switch\n");
        let (proc, sys) = (dir.path().join("capabilities"), dir.path().join("sys"));
        let kernel = Kernel::detect(&Host { proc, sys, ..Host::default() });
        (dir, kernel)
    }

    /// The message for a probe that does not compile, about all its errors together.
    fn typeless(kernel: &Kernel, at: &str, value: &str) -> Option<String> {
        let text = format!(
            "probes:\n- name: waits\n  at: '{at}'\n  metrics: [{{ counter: waits_total, value: {value} }}]\n"
        );
        let (file, diagnostics) = declaration::parse(&SourceFile::new("t", text));
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
        kernel.typeless(&tapster_ebpf::compile(&file.probes[0], &kernel.target()).unwrap_err())
    }

    #[test]
    fn capabilities_are_lacking_whatever_else_is_not_known() {
        let (_dir, kernel) = host();
        let missing = kernel.requirements().unwrap_err();
        let lacks = |one: &Missing| one.message == "this process lacks CAP_SYS_ADMIN";
        assert!(missing.iter().any(|one| one.message.contains("the kernel's version cannot be told")));
        assert!(missing.iter().any(lacks), "{missing:?}");
    }

    #[test]
    fn a_name_is_no_type_of_the_kernel() {
        let (_dir, kernel) = host();
        let switch = "rawtracepoint:sched:sched_switch";
        assert_eq!(typeless(&kernel, switch, "MY_BTF"), None);
        for (at, value) in [(switch, "curtask.pid"), (switch, "args.prev"), ("fentry:vfs_read", "1")] {
            let said = typeless(&kernel, at, value).unwrap_or_default();
            assert!(
                said.starts_with("it needs types of the kernel, and this kernel has no BTF"),
                "{at} {said}"
            );
        }
    }
}
