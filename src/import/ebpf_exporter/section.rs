//! The sections of C code, which name its events: `SEC("kprobe/vfs_read")`.

use std::collections::BTreeSet;

/// Most bytes of C code that are looked at, and most events that are named.
const MAX_CODE: usize = 1 << 20;
const MAX_TOLD: usize = 12;

/// The events of C code, as attach points.
#[derive(Debug, Default)]
pub(super) struct CodeEvents {
    points: Vec<String>,
    /// Sections that no attach point is.
    others: Vec<String>,
}

impl CodeEvents {
    /// The attach point, if the code has one program and it is at one that probes have.
    pub(super) fn only(&self) -> Option<&str> {
        match (&self.points[..], &self.others[..]) {
            ([only], []) => Some(only),
            _ => None,
        }
    }

    /// All of them in words.
    pub(super) fn told(&self) -> String {
        let all: Vec<String> =
            self.points.iter().chain(&self.others).take(MAX_TOLD).map(|point| format!("`{point}`")).collect();
        all.join(", ")
    }
}

/// Reads the names of sections from C code.
pub(super) fn events(code: Option<&str>) -> CodeEvents {
    let mut events = CodeEvents::default();
    let mut known = BTreeSet::new();
    let code = code.filter(|code| code.len() <= MAX_CODE).unwrap_or_default();
    for (_, rest) in code.split("SEC(\"").skip(1).map(|rest| ("", rest)) {
        let Some((name, _)) = rest.split_once('"') else { continue };
        let is_data = matches!(name, "license" | ".maps" | "version") || name.starts_with('.');
        if is_data || name.len() > 200 || name.contains(char::is_control) || !known.insert(name.to_owned()) {
            continue;
        }
        match attach_point(name) {
            Some(point) => events.points.push(point),
            None => events.others.push(name.to_owned()),
        }
    }
    events
}

fn attach_point(section: &str) -> Option<String> {
    let (kind, rest) = section.split_once('/')?;
    if rest.is_empty() {
        return None;
    }
    let kind = match kind {
        "tp_btf" | "raw_tp" | "raw_tracepoint" => "rawtracepoint",
        "tp" | "tracepoint" => "tracepoint",
        "kprobe" | "kretprobe" | "fentry" | "fexit" | "uprobe" | "uretprobe" | "usdt" => kind,
        _ => return None,
    };
    Some(match kind {
        "tracepoint" => format!("{kind}:{}", rest.replacen('/', ":", 1)),
        _ => format!("{kind}:{rest}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_attach_points() {
        let code = "SEC(\".maps\") x; SEC(\"license\") SEC(\"tp/sched/sched_switch\") SEC(\"raw_tp/a\") SEC(\"xdp\")\nSEC(\"uprobe//lib/libc.so.6:malloc\") SEC(\"raw_tp/a\")";
        let events = events(Some(code));
        let points = ["tracepoint:sched:sched_switch", "rawtracepoint:a", "uprobe:/lib/libc.so.6:malloc"];
        assert_eq!(events.points, points);
        assert_eq!(events.others, ["xdp"]);
        assert_eq!(events.only(), None);
        assert_eq!(super::events(Some("SEC(\"kprobe/f\")")).only(), Some("kprobe:f"));
        assert_eq!(super::events(None).told(), "");
    }
}
