//! Switches of the host that stop the kernel from running programs, although all of them stay attached.

use std::{fs, path::Path};
use tapster_ebpf::point::{LinkKind, Mechanism};

/// For programs that enter functions of the kernel by the function tracer: fentry, fexit, and kprobes at entries.
const TRACER: &str = "kernel.ftrace_enabled";
/// For all kprobes that are not links.
const KPROBES: &str = "/sys/kernel/debug/kprobes/enabled";

/// The switches that are off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    tracer: bool,
    kprobes: bool,
}

impl Switches {
    /// Reads the switches. `proc` and `sys` are where procfs and sysfs are mounted; a switch that cannot be read counts as on.
    pub fn look(proc: &Path, sys: &Path) -> Self {
        let is_off = |path: &Path| fs::read(path).is_ok_and(|text| text.trim_ascii() == b"0");
        Self {
            tracer: is_off(&proc.join("sys/kernel/ftrace_enabled")),
            kprobes: is_off(&sys.join("kernel/debug/kprobes/enabled")),
        }
    }

    /// The switch that stops programs with this mechanism, if one does.
    pub fn stopping(self, mechanism: Mechanism) -> Option<&'static str> {
        if self.tracer && mechanism.link.is_by_tracer() {
            return Some(TRACER);
        }
        (self.kprobes && matches!(mechanism.link, LinkKind::KernelProbe { .. })).then_some(KPROBES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tapster_ebpf::attach;

    #[test]
    fn what_is_off_stops_what_needs_it() {
        let host = tempfile::tempdir().unwrap();
        let mechanism = |kind| attach::kind(kind).unwrap().mechanisms[0];
        let look = || Switches::look(&host.path().join("proc"), &host.path().join("sys"));
        assert_eq!(look(), Switches::default(), "nothing can be read");
        for (file, text) in
            [("proc/sys/kernel/ftrace_enabled", "1\n"), ("sys/kernel/debug/kprobes/enabled", "0\n")]
        {
            let path = host.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        assert_eq!(look().stopping(mechanism("kprobe")), Some(KPROBES));
        assert_eq!(look().stopping(mechanism("fentry")), None);
        fs::write(host.path().join("proc/sys/kernel/ftrace_enabled"), "0\n").unwrap();
        assert_eq!(look().stopping(mechanism("fexit")), Some(TRACER));
        assert_eq!(look().stopping(mechanism("kretprobe")), Some(TRACER));
        assert_eq!(look().stopping(mechanism("rawtracepoint")), None, "tracepoints have no such switch");
    }
}
