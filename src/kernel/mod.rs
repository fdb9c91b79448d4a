//! The features of this host's kernel, read once at start-up. Nothing on the host is changed.

pub mod address;
mod function;
mod modules;
pub mod offline;
mod requirement;
mod switches;
mod symbols;
mod tracefs;
mod variable;

pub use modules::Modules;
pub use requirement::nameless;
pub use switches::Switches;
pub use tapster_ebpf::attach::Missing;
pub use tracefs::Tracefs;

use crate::{
    host::Host,
    sys::{self, Capabilities},
};
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use tapster_ebpf::{
    attach::{Arch, Target},
    btf::{Btf, BtfError},
    probe::KernelVersion,
    tracefs::Tracepoints,
};

/// The kernel of this host, and the rights of this process.
#[derive(Debug)]
pub struct Kernel {
    /// Its release, as `uname -r` prints it.
    pub release: String,
    /// The version at the beginning of the release; zeros if there is none.
    pub version: KernelVersion,
    /// Its types, or why they cannot be read.
    pub btf: Result<Btf, Missing>,
    /// Its tracepoints, or why they cannot be read.
    pub tracefs: Result<Tracefs, Missing>,
    /// Number of CPUs that may come online.
    pub possible_cpus: u32,
    /// Capabilities of this process; `None` if they are unknown.
    pub capabilities: Option<Capabilities>,
    /// Whether it hides its memory from everybody, including root (`lockdown=confidentiality`, 5.4).
    pub confidential: bool,
    /// Whether this process is in a user namespace, whose root has no rights over the kernel.
    pub user_namespace: bool,
    /// Facts that every kernel reports but that could not be read.
    unknown: Vec<Missing>,
    /// Where procfs is mounted.
    proc: PathBuf,
    /// The file in sysfs that lists the CPUs that are online.
    online: PathBuf,
    /// Functions of it and of programs, as far as they were requested.
    functions: function::FunctionCache,
}

impl Kernel {
    /// Inspects the running kernel. Anything missing is kept with its reason; see [`Self::requirements`].
    pub fn detect(host: &Host) -> Self {
        let mut unknown = Vec::new();
        let mut note = |message: String| {
            unknown
                .push(Missing { message, hint: Some("procfs and sysfs of the host must be mounted".into()) });
        };
        let release_path = host.proc.join("sys/kernel/osrelease");
        let release = fs::read_to_string(&release_path).unwrap_or_default().trim().to_owned();
        let version = KernelVersion::parse(&release).unwrap_or_else(|| {
            note(format!("the kernel's version cannot be told from `{}`", release_path.display()));
            KernelVersion::default()
        });
        let possible_cpus =
            sys::listed_cpus(&host.sys.join("devices/system/cpu/possible")).unwrap_or_else(|error| {
                note(format!("the number of CPUs is not known: {error}"));
                1
            });
        let capabilities = Capabilities::read(&host.proc.join("self/status"));
        if let Err(error) = &capabilities {
            note(format!("the capabilities of this process are not known: {error}"));
        }
        Self {
            release,
            version,
            btf: btf(&host.btf.clone().unwrap_or_else(|| host.sys.join("kernel/btf/vmlinux"))),
            tracefs: Tracefs::find(host),
            possible_cpus,
            capabilities: capabilities.ok(),
            confidential: confidential(&host.sys.join("kernel/security/lockdown")),
            user_namespace: user_namespace(&host.proc.join("self/uid_map")),
            unknown,
            proc: host.proc.clone(),
            online: host.online_cpus(),
            functions: function::FunctionCache::default(),
        }
    }

    /// The kernel as the compiler sees it.
    pub fn target(&self) -> Target<'_> {
        Target {
            btf: self.btf.as_ref().ok(),
            tracepoints: self,
            kernel: self.version,
            possible_cpus: self.possible_cpus,
            arch: function::arch().unwrap_or(Arch::X86_64),
            functions: self,
            command: false,
        }
    }

    /// The CPUs that are online now.
    pub fn online_cpus(&self) -> io::Result<Vec<u32>> {
        sys::cpu_list(&self.online)
    }

    /// The file of the kernel's symbols.
    fn kallsyms(&self) -> PathBuf {
        self.proc.join("kallsyms")
    }
}

/// The tracepoints of its tracefs; none without tracefs.
impl Tracepoints for Kernel {
    fn format(&self, category: &str, name: &str) -> Option<String> {
        self.tracefs.as_ref().ok()?.format(category, name)
    }

    fn unreadable(&self, category: &str, name: &str) -> Option<Missing> {
        self.tracefs.as_ref().ok()?.unreadable(category, name)
    }

    fn all(&self) -> Vec<(String, String)> {
        self.tracefs.as_ref().map(Tracepoints::all).unwrap_or_default()
    }
}

fn btf(path: &Path) -> Result<Btf, Missing> {
    let bytes = sys::read_btf(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Missing {
            message: format!("this kernel has no BTF (`{}`)", path.display()),
            hint: Some("it needs Linux 5.2 or later built with CONFIG_DEBUG_INFO_BTF=y".into()),
        },
        _ => Missing { message: format!("the kernel's BTF is not to be had: {error}"), hint: None },
    })?;
    Btf::parse(bytes).map_err(|error| Missing {
        message: format!("the BTF in `{}` is damaged: {error}", path.display()),
        hint: match error {
            BtfError::UnknownKind { .. } => Some("this kernel is newer than the exporter".into()),
            BtfError::Header | BtfError::Truncated(_) => None,
        },
    })
}

/// The file does not exist if the kernel has no lockdown; its form is `none [integrity] confidentiality`.
fn confidential(lockdown: &Path) -> bool {
    fs::read_to_string(lockdown).is_ok_and(|modes| modes.contains("[confidentiality]"))
}

/// The initial namespace maps all numbers to themselves.
fn user_namespace(uid_map: &Path) -> bool {
    fs::read_to_string(uid_map).is_ok_and(|map| !map.split_whitespace().eq(["0", "0", "4294967295"]))
}

#[cfg(test)]
mod tests;
