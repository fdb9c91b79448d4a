//! Timers and counters, each with a count as an example.

use std::{fs, path::Path};
use tapster_ebpf::probe::{PerfEvent, PerfKind};

/// All of them that this host has.
pub(super) fn events(sys: &Path) -> Vec<PerfEvent> {
    let kinds = [PerfKind::Profile, PerfKind::Interval, PerfKind::Software, PerfKind::Hardware];
    kinds
        .into_iter()
        .filter(|kind| *kind != PerfKind::Hardware || has_counters(sys))
        .flat_map(|kind| {
            kind.names().iter().map(move |(name, _)| PerfEvent { kind, name, amount: example(kind, name) })
        })
        .collect()
}

/// A count that is not too often.
fn example(kind: PerfKind, name: &str) -> u64 {
    match (kind, name) {
        (PerfKind::Hardware, _) => 1_000_000,
        (PerfKind::Software, "cpu-clock" | "task-clock") => 10_000_000,
        (_, "hz") => 99,
        (_, "ms") => 10,
        (_, "us") => 10_000,
        _ => 1,
    }
}

/// Whether the kernel counts by the CPU: it shows the unit that does, on x86 by its fixed number (`PERF_TYPE_RAW`), on arm64 by
/// its name. Few virtual machines have one.
pub(super) fn has_counters(sys: &Path) -> bool {
    let units = fs::read_dir(sys.join("bus/event_source/devices"));
    units.into_iter().flatten().flatten().any(|unit| {
        let is_core = fs::read_to_string(unit.path().join("type")).is_ok_and(|text| text.trim() == "4");
        is_core || unit.file_name().as_encoded_bytes().starts_with(b"armv")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tapster_ebpf::probe::AttachPoint;

    #[test]
    fn what_is_listed_can_be_written() {
        let sys = tempfile::tempdir().unwrap();
        let without = events(sys.path());
        assert!(without.iter().all(|event| event.kind != PerfKind::Hardware));
        let unit = sys.path().join("bus/event_source/devices/cpu");
        fs::create_dir_all(&unit).unwrap();
        fs::write(unit.join("type"), "4\n").unwrap();
        let with = events(sys.path());
        assert_eq!(with.len(), without.len() + 10);
        for event in with {
            assert_eq!(AttachPoint::parse(&event.to_string()), Ok(AttachPoint::Perf(event)));
        }
    }
}
