//! What keeps probes from running on this host, in sentences for the person who can change it.

use super::{Kernel, Missing};
use crate::{
    host::kallsyms,
    sys::{
        Capabilities,
        Capability::{Bpf, Perfmon, SysAdmin, SysResource, Syslog},
    },
};
use std::{fs, path::Path};
use tapster_ebpf::{diagnostic::Diagnostic, probe::KernelVersion};

/// The oldest kernel that tapster is tested on.
const OLDEST: KernelVersion = KernelVersion(5, 10, 0);

fn missing(message: impl Into<String>, hint: impl Into<String>) -> Missing {
    Missing { message: message.into(), hint: Some(hint.into()) }
}

/// Why functions of the kernel have no names for this process as it is now; `None` if they have. `proc` is where procfs is
/// mounted.
pub fn nameless(proc: &Path) -> Option<Missing> {
    let path = proc.join("kallsyms");
    let hidden = match kallsyms::are_hidden(&path) {
        Ok(hidden) => hidden,
        Err(error) => {
            let message = format!("functions of the kernel have no names: `{}`: {error}", path.display());
            return Some(Missing { message, hint: None });
        }
    };
    let restrict = fs::read_to_string(proc.join("sys/kernel/kptr_restrict")).unwrap_or_default();
    let has_syslog = || Capabilities::read(&proc.join("self/status")).is_ok_and(|own| own.has(Syslog));
    let (why, hint) = match restrict.trim() {
        "2" => (
            "`kernel.kptr_restrict` is 2, which hides their addresses from everybody",
            "sysctl kernel.kptr_restrict=1",
        ),
        _ if has_syslog() => {
            ("their addresses are hidden from this process", "is it in a container that hides them?")
        }
        _ => (
            "this process lacks CAP_SYSLOG, and their addresses are hidden from it",
            "add CAP_SYSLOG, or keep it if it was given up (`--capabilities.keep`)",
        ),
    };
    hidden.then(|| missing(format!("functions of the kernel have no names: {why}"), hint))
}

impl Kernel {
    /// Whether probes can run at all; if not, every reason at once.
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
            // One of them would do for some probes.
            all.extend([btf.clone(), tracefs.clone()]);
        }
        if all.is_empty() { Ok(()) } else { Err(all) }
    }

    /// What is said of a probe that does not compile because the types of this kernel are not known: that, once, in place of
    /// a mistake at every name that needs them. `None` where its mistakes have another cause.
    pub fn typeless(&self, diagnostics: &[Diagnostic]) -> Option<String> {
        let Missing { message, hint } = self.btf.as_ref().err()?;
        let asks = |text: &str| text.contains("BTF");
        let is_of_types = |diagnostic: &Diagnostic| {
            asks(&diagnostic.message) || diagnostic.hint.as_deref().is_some_and(asks)
        };
        let hint = hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
        diagnostics
            .iter()
            .any(is_of_types)
            .then(|| format!("it needs types of the kernel, and {message}{hint}"))
    }

    /// What keeps some probes from running, or may; for a warning.
    pub fn limitations(&self) -> Vec<Missing> {
        let mut all = Vec::new();
        match (&self.btf, &self.tracefs) {
            (Err(one), Ok(_)) | (Ok(_), Err(one)) => all.push(one.clone()),
            // Both are a requirement.
            (Ok(_), Ok(_)) | (Err(_), Err(_)) => {}
        }
        if self.version < OLDEST && self.version != KernelVersion::default() {
            let message = format!("Linux {} is older than {OLDEST}, the oldest tested", self.version);
            all.push(Missing { message, hint: None });
        }
        // Maps are accounted to the memory cgroup since.
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

    /// Most bytes of maps that this process may have where they count as locked memory; `None` if there is no such limit, or if
    /// this process can raise it.
    pub fn locked_limit(&self) -> Option<u64> {
        if self.version >= KernelVersion(5, 11, 0) || self.capabilities.has(SysResource) {
            return None;
        }
        let limits = fs::read_to_string(self.proc.join("self/limits")).unwrap_or_default();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
        line.split_whitespace().next()?.parse().ok()
    }

    fn missing_capabilities(&self) -> Option<Missing> {
        if self.capabilities.has(SysAdmin)
            || self.unknown.iter().any(|one| one.message.contains("capabilities"))
        {
            return None;
        }
        let needed = if self.version < KernelVersion(5, 8, 0) { vec![SysAdmin] } else { vec![Bpf, Perfmon] };
        let lacking: Vec<String> = needed
            .into_iter()
            .filter(|one| !self.capabilities.has(*one))
            .map(|one| one.to_string())
            .collect();
        let message = format!("this process lacks {}", lacking.join(" and "));
        (!lacking.is_empty()).then(|| missing(message, "run as root or grant what is lacking"))
    }
}
