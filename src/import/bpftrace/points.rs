//! Attach points of a script → those of a probe.

use super::super::remark::Remark;
use tapster_ebpf::{
    attach,
    diagnostic::{Span, Spanned},
    glob::is_pattern,
};

/// Where a script's action runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    /// An event that a probe can have.
    Event,
    /// The script's begin.
    Begin,
    /// Its end, or a signal to it.
    End,
    /// Each so often.
    Tick,
}

/// An attach point of a script, carried over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CarriedPoint {
    /// As a probe has it: `kprobe:vfs_read`.
    pub(super) at: String,
    /// As the script's `probe` names it.
    pub(super) written: String,
    /// The function or tracepoint.
    pub(super) target: String,
    pub(super) span: Span,
}

impl CarriedPoint {
    /// Whether it stands for several functions or tracepoints.
    pub(super) fn is_pattern(&self) -> bool {
        is_pattern(&self.target) || self.category().is_some_and(is_pattern)
    }

    /// The category of a tracepoint.
    pub(super) fn category(&self) -> Option<&str> {
        self.at.strip_prefix("tracepoint:").and_then(|rest| rest.split(':').next())
    }

    /// Whether it is at a function, which `func` names.
    pub(super) fn is_function(&self) -> bool {
        let kinds = ["kprobe:", "kretprobe:", "fentry:", "fexit:", "uprobe:", "uretprobe:"];
        kinds.iter().any(|kind| self.at.starts_with(kind))
    }
}

/// Short forms of kinds, and names that differ.
const KINDS: [(&str, &str); 33] = [
    ("tracepoint", "tracepoint"),
    ("t", "tracepoint"),
    ("rawtracepoint", "rawtracepoint"),
    ("rt", "rawtracepoint"),
    ("fentry", "fentry"),
    ("kfunc", "fentry"),
    ("f", "fentry"),
    ("fexit", "fexit"),
    ("kretfunc", "fexit"),
    ("fr", "fexit"),
    ("kprobe", "kprobe"),
    ("k", "kprobe"),
    ("kretprobe", "kretprobe"),
    ("kr", "kretprobe"),
    ("uprobe", "uprobe"),
    ("u", "uprobe"),
    ("uretprobe", "uretprobe"),
    ("ur", "uretprobe"),
    ("usdt", "usdt"),
    ("U", "usdt"),
    ("profile", "profile"),
    ("p", "profile"),
    ("interval", "interval"),
    ("i", "interval"),
    ("software", "software"),
    ("s", "software"),
    ("hardware", "hardware"),
    ("h", "hardware"),
    ("BEGIN", "BEGIN"),
    ("begin", "BEGIN"),
    ("END", "END"),
    ("end", "END"),
    ("self", "self"),
];
/// Events whose count before one is taken has a default in bpftrace.
const SOFTWARE_COUNT: &str = "1";
const HARDWARE_COUNT: &str = "1000000";

/// When the action with these points runs.
pub(super) fn occasion(points: &[Spanned<String>]) -> Occasion {
    let of = |point: &Spanned<String>| match kind(&point.value) {
        Some("BEGIN") => Occasion::Begin,
        Some("END" | "self") => Occasion::End,
        Some("interval") => Occasion::Tick,
        _ => Occasion::Event,
    };
    points.first().map_or(Occasion::Event, of)
}

fn kind(point: &str) -> Option<&'static str> {
    let word = point.split(':').next().unwrap_or(point);
    KINDS.iter().find(|(name, _)| *name == word).map(|(_, kind)| *kind)
}

/// Carries an attach point over, or says why it cannot be.
pub(super) fn carried(point: &Spanned<String>, remarks: &mut Vec<Remark>) -> Option<CarriedPoint> {
    let known = |(at, target): (String, String)| match attach::parse(&at) {
        Ok(_) => Ok((at, target)),
        Err((message, hint)) => Err(format!("{message}: {hint}")),
    };
    match attach_point(&point.value).and_then(known) {
        Ok((at, target)) => {
            Some(CarriedPoint { at, written: point.value.clone(), target, span: point.span.clone() })
        }
        Err(said) => {
            remarks.push(Remark::loss(point.span.clone(), said));
            None
        }
    }
}

fn attach_point(point: &str) -> Result<(String, String), String> {
    let mut words = point.split(':');
    let word = words.next().unwrap_or_default();
    let rest: Vec<&str> = words.collect();
    let Some(kind) = kind(point) else {
        return Err(format!("events of the kind `{word}` have no counterpart"));
    };
    let function = |name: &str| {
        if name.contains('+') {
            return Err(format!("`{point}`: probes are at the entry of a function, not within it"));
        }
        if name.contains('.') {
            return Err(format!("`{point}`: what the compiler made of a function has no stable name"));
        }
        if name.is_empty() || name == "*" {
            return Err(format!("`{point}` is every function: name them, or a pattern such as `vfs_*`"));
        }
        Ok(name.to_owned())
    };
    match (kind, &rest[..]) {
        ("tracepoint", [category, name]) => Ok((format!("tracepoint:{category}:{name}"), (*name).to_owned())),
        ("rawtracepoint", [name] | [_, name]) => Ok((format!("rawtracepoint:{name}"), (*name).to_owned())),
        // The module of a function is found by its name.
        ("fentry" | "fexit" | "kprobe" | "kretprobe", [name] | [_, name]) => {
            let name = function(name)?;
            Ok((format!("{kind}:{name}"), name))
        }
        ("uprobe" | "uretprobe", [binary, name] | [binary, _, name]) => {
            if binary.is_empty() || is_pattern(binary) {
                return Err(format!("`{point}`: name one program or library"));
            }
            let name = if name.contains('+') { function(name)? } else { (*name).to_owned() };
            Ok((format!("{kind}:{binary}:{name}"), name))
        }
        ("usdt", [binary, names @ ..]) if !names.is_empty() && names.len() <= 2 => {
            if binary.is_empty()
                || is_pattern(binary)
                || names.iter().any(|name| is_pattern(name) || name.is_empty())
            {
                return Err(format!("`{point}`: name the program, the provider and the probe"));
            }
            let name = names.last().copied().unwrap_or_default().to_owned();
            Ok((format!("usdt:{binary}:{}", names.join(":")), name))
        }
        ("profile" | "interval", [unit, number]) => {
            Ok((format!("{kind}:{unit}:{number}"), format!("{kind}_{unit}_{number}")))
        }
        // `interval:1s`
        ("profile" | "interval", [time]) => {
            let digits = time.len() - time.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, unit) = time.split_at(digits);
            let unit = if unit.is_empty() && kind == "profile" { "hz" } else { unit };
            Ok((format!("{kind}:{unit}:{number}"), format!("{kind}_{unit}_{number}")))
        }
        ("software" | "hardware", [event, count @ ..]) if count.len() <= 1 => {
            let default = if kind == "software" { SOFTWARE_COUNT } else { HARDWARE_COUNT };
            let count = count.first().filter(|count| !count.is_empty()).copied().unwrap_or(default);
            let event = match *event {
                "faults" => "page-faults",
                "cs" => "context-switches",
                "cycles" => "cpu-cycles",
                "branches" => "branch-instructions",
                event => event,
            };
            Ok((format!("{kind}:{event}:{count}"), event.replace('-', "_")))
        }
        _ => Err(format!("`{point}` is no attach point of a probe")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attach_points_are_those_of_probes() {
        for (written, carried) in [
            ("t:sched:sched_switch", "tracepoint:sched:sched_switch"),
            ("kfunc:vmlinux:vfs_read", "fentry:vfs_read"),
            ("kr:ext4:ext4_sync_fs", "kretprobe:ext4_sync_fs"),
            ("rt:sched:sched_wakeup", "rawtracepoint:sched_wakeup"),
            ("uprobe:/bin/bash:readline", "uprobe:/bin/bash:readline"),
            ("uprobe:libstdc++:cpp:f", "uprobe:libstdc++:f"),
            ("U:/bin/x:p:n", "usdt:/bin/x:p:n"),
            ("interval:5s", "interval:s:5"),
            ("p:99", "profile:hz:99"),
            ("s:faults:", "software:page-faults:1"),
            ("h:cycles", "hardware:cpu-cycles:1000000"),
        ] {
            assert_eq!(attach_point(written).map(|(at, _)| at), Ok(carried.to_owned()));
        }
        for wrong in ["watchpoint:0x10:8:w", "kprobe:f+8", "kprobe:f.constprop.0", "kprobe:*", "x"] {
            let said = attach_point(wrong).unwrap_err();
            assert!(said.contains('`'), "{said}");
        }
    }
}
