//! Timers and counters, each with an example count.

use super::{spelled_out, wanted::NameFilter};
use std::{fs, path::Path};
use tapster_ebpf::attach::{self, FAMILIES, PerfEvent};

/// The requested events that this host has: one with its count, as written in a probe, or those that match a word.
pub(super) fn asked(sys: &Path, word: Option<&str>) -> Vec<PerfEvent> {
    let Some(word) = word else { return events(sys) };
    if let Some(event) = attach::parse(word).ok().and_then(|point| PerfEvent::of(&point)) {
        let is_here = !event.family.is_of_processor || has_counters(sys);
        return is_here.then_some(event).into_iter().collect();
    }
    let word = spelled_out(word);
    let wanted = NameFilter::new(&word);
    let mut all = events(sys);
    all.retain(|event| wanted.means(&event.to_string()) || wanted.means(&short(event)));
    all
}

/// An event by bpftrace's short name for it.
fn short(event: &PerfEvent) -> String {
    format!("{}:{}:{}", event.family.kind().name, event.name.short, event.amount)
}

/// All events that this host has.
fn events(sys: &Path) -> Vec<PerfEvent> {
    let families = FAMILIES.iter().filter(|family| !family.is_of_processor || has_counters(sys));
    families
        .flat_map(|family| {
            family.names.iter().map(move |name| PerfEvent { family, name, amount: name.example })
        })
        .collect()
}

/// Whether the CPU has counters: sysfs shows the unit for them, on x86 by its fixed number (`PERF_TYPE_RAW`), on arm64 by its
/// name. Few virtual machines have one.
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

    #[test]
    fn forms_that_probes_take() {
        let sys = tempfile::tempdir().unwrap();
        let found = |word: &str| {
            let events = asked(sys.path(), Some(word));
            events.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        for (word, expected) in [
            ("profile:hz:50", &["profile:hz:50"][..]),
            ("p:hz:99", &["profile:hz:99"]),
            ("p:hz", &["profile:hz:99"]),
            ("interval:s:10", &["interval:s:10"]),
            ("interval:s:*", &["interval:s:1"]),
            ("software:cs", &["software:context-switches:1"]),
            ("s:cs:5", &["software:context-switches:5"]),
            ("software:faults", &["software:page-faults:1"]),
            ("software:m??or-faults:*", &["software:minor-faults:1", "software:major-faults:1"]),
            // This host has no counters.
            ("hardware:cycles:1000", &[]),
            ("hardware", &[]),
            ("sched", &[]),
        ] {
            assert_eq!(found(word), expected, "{word}");
        }
        let unit = sys.path().join("bus/event_source/devices/cpu");
        fs::create_dir_all(&unit).unwrap();
        fs::write(unit.join("type"), "4\n").unwrap();
        assert_eq!(found("h:cycles:1000"), ["hardware:cpu-cycles:1000"]);
        assert_eq!(found("hardware:cycles"), ["hardware:cpu-cycles:1000000"]);
        let all = |events: Vec<PerfEvent>| events.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(all(asked(sys.path(), None)), all(events(sys.path())));
    }

    #[test]
    fn what_is_listed_can_be_written() {
        let sys = tempfile::tempdir().unwrap();
        let without = events(sys.path());
        assert!(without.iter().all(|event| !event.family.is_of_processor));
        let unit = sys.path().join("bus/event_source/devices/cpu");
        fs::create_dir_all(&unit).unwrap();
        fs::write(unit.join("type"), "4\n").unwrap();
        let with = events(sys.path());
        assert_eq!(with.len(), without.len() + 10);
        for event in with {
            assert_eq!(attach::parse(&event.to_string()), Ok(event.point()));
        }
    }
}
