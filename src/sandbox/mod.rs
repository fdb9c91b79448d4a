//! Once the exporter runs, it gives up the rights that only attaching needed: capabilities, new programs,
//! system calls, files. The log and the landing page list them.
//!
//! All of this affects the calling thread and those that it starts later, so it is done before there are other threads.

mod calls;
mod capabilities;
mod files;

pub use capabilities::KeptCapabilities;

use caps::Capability;
use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

/// How long threads that have finished their work may take to end.
const ENDING: Duration = Duration::from_millis(200);

/// The needs of the running probes, besides reading their maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a need of its own")]
pub struct Needs {
    /// Files of other processes: to follow programs that are replaced, and to name functions of their stacks. Within Landlock,
    /// no process can look into one outside.
    pub processes: bool,
    /// Attaching to programs by perf events, again and again as their files are replaced. Kernels with the fix of
    /// CVE-2025-38466 require `CAP_SYS_ADMIN` for it; not for links, which Linux 6.6 and later have.
    pub programs: bool,
    /// Attaching by perf events: to tracepoints, to CPUs that come online, to modules of the kernel that are loaded again.
    pub events: bool,
    /// Names of functions of the kernel.
    pub symbols: bool,
    /// Tables of the device mapper.
    pub mapper: bool,
    /// Names of users and of PCI devices, in files below the host's root.
    pub root: bool,
    /// Attaching to network interfaces and cgroups that come later.
    pub network: bool,
}

/// The rights to give up and to keep.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// The capabilities that are kept.
    pub keep: KeptCapabilities,
    /// Whether programs, system calls and files are limited as well.
    pub is_on: bool,
    /// The needs of the probes.
    pub needs: Needs,
    /// Directories of the host that are read: `/proc`, `/sys`, links to logs of containers.
    pub directories: Vec<PathBuf>,
    /// Files and directories that are read again when they change: the configuration, certificates.
    pub files: Vec<PathBuf>,
    /// The control file of the device mapper.
    pub mapper: PathBuf,
    /// A directory in which names may be listed, and no file read: the names of md arrays are links there, which come later.
    pub listed: PathBuf,
    /// Whether the process connects to other hosts, for pushes.
    pub connects: bool,
}

/// The rights after the sandbox is entered.
#[derive(Clone, Debug, Default)]
pub struct Rights {
    /// A name for each kind of right and a description of what was done.
    pub lines: Vec<(&'static str, String)>,
    /// Rights that later probes cannot use any more.
    pub lacking: LackingRights,
}

/// Rights that were given up and that later probes may need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LackingRights {
    /// Files of other processes.
    pub processes: bool,
    /// Names of functions of the kernel.
    pub symbols: bool,
}

impl Sandbox {
    /// Gives up what is not needed. If the kernel does not have a means or refuses it, that is reported and no reason to end.
    pub fn enter(&self) -> Rights {
        let mut rights = Rights::default();
        let mut say = |name, text: String| rights.lines.push((name, text));
        // The threads that looked for files of probes are about to end, except one whose file system does not answer.
        let begun = Instant::now();
        while threads().is_some_and(|threads| threads > 1) && begun.elapsed() < ENDING {
            thread::sleep(Duration::from_millis(1));
        }
        if let Some(threads) = threads().filter(|threads| *threads > 1) {
            tracing::warn!(
                threads = threads - 1,
                "a thread that waits for a file which does not answer keeps its rights until it ends"
            );
        }
        // First, because lowering the bounding set needs a capability that is dropped then.
        let before = capabilities::permitted();
        say("capabilities", capabilities::drop(&self.keep, &self.needs));
        let after = capabilities::permitted();
        let is_gone = |capability| before.contains(&capability) && !after.contains(&capability);
        let mut lacking = LackingRights {
            processes: is_gone(Capability::CAP_SYS_PTRACE),
            symbols: is_gone(Capability::CAP_SYSLOG),
        };
        if !self.is_on {
            for name in ["no_new_privs", "seccomp", "landlock"] {
                say(name, "off, as `--sandbox=off` asks for".into());
            }
            rights.lacking = lacking;
            return rights;
        }
        say(
            "no_new_privs",
            match crate::sys::no_new_privs() {
                Ok(()) => "on: no program that it starts gets more rights".into(),
                Err(error) => format!("off: {error}"),
            },
        );
        let (landlock, is_alone) = files::limit(self);
        say("landlock", landlock);
        // Last, because it forbids the system calls of the others.
        say("seccomp", calls::limit());
        lacking.processes |= is_alone;
        rights.lacking = lacking;
        rights
    }
}

/// The threads of this process; `None` if procfs does not list them.
fn threads() -> Option<usize> {
    Some(fs::read_dir("/proc/self/task").ok()?.count())
}

impl Needs {
    /// The capabilities that are still needed, of those that the process has.
    fn capabilities(&self) -> Vec<Capability> {
        // Reading maps needs the first before Linux 5.19 if `kernel.unprivileged_bpf_disabled` is set; attaching
        // later needs both, and tracefs and cgroups need the third.
        let mut needed = vec![Capability::CAP_BPF, Capability::CAP_PERFMON, Capability::CAP_DAC_READ_SEARCH];
        if self.processes {
            // The second is for files that are mapped and were removed.
            needed.extend([Capability::CAP_SYS_PTRACE, Capability::CAP_CHECKPOINT_RESTORE]);
        }
        if self.symbols {
            needed.push(Capability::CAP_SYSLOG);
        }
        if self.network {
            needed.push(Capability::CAP_NET_ADMIN);
        }
        if self.mapper || self.programs || self.events && is_paranoid() {
            needed.push(Capability::CAP_SYS_ADMIN);
        }
        needed
    }
}

/// Whether the kernel refuses perf events without `CAP_SYS_ADMIN`, as Debian's does.
fn is_paranoid() -> bool {
    let text = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
    text.trim().parse::<i32>().is_ok_and(|level| level > 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_say_which_capabilities_stay() {
        let names = |needs: Needs| needs.capabilities();
        let least = [Capability::CAP_BPF, Capability::CAP_PERFMON, Capability::CAP_DAC_READ_SEARCH];
        assert_eq!(names(Needs::default()), least);
        assert!(names(Needs { mapper: true, ..Needs::default() }).contains(&Capability::CAP_SYS_ADMIN));
        assert!(names(Needs { programs: true, ..Needs::default() }).contains(&Capability::CAP_SYS_ADMIN));
        assert!(names(Needs { network: true, ..Needs::default() }).contains(&Capability::CAP_NET_ADMIN));
        let all = Needs { processes: true, symbols: true, ..Needs::default() };
        assert!(
            names(all.clone()).contains(&Capability::CAP_SYS_PTRACE)
                && names(all).contains(&Capability::CAP_SYSLOG)
        );
    }
}
