//! Families about the probes themselves, filled row by row.

use super::{number, running::Running, seconds};
use crate::{
    collector::ProbeReading,
    family::{FamilyKind, MetricFamily, Origin},
    follow::FollowedProcesses,
    status::{Down, ProgramStatus},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, SystemTime},
};

/// The sums of the programs at an attach point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct RunSums {
    count: u64,
    ns: u64,
    missed: u64,
}

/// Runs by attach point and mechanism. A probe may have several programs at one attach point: a start and an end at the same
/// event, or one for each way in which places pass an argument.
fn ways(programs: &[ProgramStatus]) -> BTreeMap<(&str, &str), RunSums> {
    let mut ways: BTreeMap<_, RunSums> = BTreeMap::new();
    for program in programs {
        let way = ways.entry((program.attach_point.as_str(), program.mechanism.as_str())).or_default();
        way.count += program.runs;
        way.ns += program.run_ns;
        way.missed += program.missed;
    }
    ways
}

/// The families.
pub(super) struct ExporterFamilies {
    /// Whether this process has the kernel count runs. Otherwise nothing is known about runs, which differs from zero runs:
    /// another process may have enabled counting for a while.
    counts: bool,
    /// Label values of rows that began later than the others, and when they began.
    later: HashMap<Arc<[String]>, SystemTime>,
    up: MetricFamily,
    runs: MetricFamily,
    run_seconds: MetricFamily,
    missed: MetricFamily,
    dropped: MetricFamily,
    unmatched: MetricFamily,
    again: MetricFamily,
    absent: MetricFamily,
    series: MetricFamily,
    max_series: MetricFamily,
    memory: MetricFamily,
}

impl ExporterFamilies {
    pub(super) fn new(counts: bool) -> Self {
        let probe = &["probe"];
        let program = &["probe", "attach_point", "mechanism"];
        let counter = |name, help, labels| MetricFamily::new(name, help, FamilyKind::Counter, labels);
        let gauge = |name, help, labels| MetricFamily::new(name, help, FamilyKind::Gauge, labels);
        Self {
            counts,
            later: HashMap::new(),
            up: gauge(
                "tapster_probe_up",
                "Whether the probe is attached and readable; reason says why not, or what it cannot tell.",
                &["probe", "reason"],
            ),
            runs: counter(
                "tapster_probe_runs_total",
                "Runs of the probe's programs while the kernel counted them: all with --run-stats.",
                program,
            ),
            run_seconds: counter(
                "tapster_probe_run_seconds_total",
                "Time spent in the probe's programs in the runs that the kernel counted, its measuring included.",
                program,
            ),
            missed: counter(
                "tapster_probe_missed_total",
                "Runs the kernel skipped because the program was running on that CPU.",
                program,
            ),
            dropped: counter(
                "tapster_probe_dropped_total",
                "Events that were not counted in full, by reason.",
                &["probe", "reason"],
            ),
            unmatched: counter(
                "tapster_probe_unmatched_total",
                "End events that had no start: begun earlier, filtered out, or parts of another.",
                probe,
            ),
            again: counter(
                "tapster_probe_reattached_total",
                "Times that the probe was attached to what came or was exchanged while it ran.",
                &["probe", "object"],
            ),
            absent: gauge(
                "tapster_probe_event_absent",
                "Optional events that the probe runs without, because this host does not have them.",
                &["probe", "attach_point"],
            ),
            series: gauge("tapster_probe_series", "Label sets the probe holds.", probe),
            max_series: gauge("tapster_probe_max_series", "Label sets the probe can hold.", probe),
            memory: gauge("tapster_probe_memory_bytes", "Kernel memory of the probe's maps.", probe),
        }
    }

    /// Adds a probe, with the result of reading it for this scrape. `began` is when the exporter's counters began.
    pub(super) fn add(
        &mut self,
        probe: &Running,
        collected: Result<&ProbeReading, &Down>,
        followed: Option<&FollowedProcesses>,
        began: SystemTime,
    ) {
        let name = probe.name();
        match collected.map(|_| probe.down()) {
            Ok(None) => self.up.push(&[name, probe.limit().map_or("", |limit| limit.reason)], 1.0),
            Ok(Some(down)) => self.up.push(&[name, down.cause.word()], 0.0),
            Err(down) => self.up.push(&[name, down.cause.word()], 0.0),
        }
        let again = probe.reattached();
        for (object, count) in [("file", again.files), ("cpu", again.cpus), ("module", again.modules)] {
            self.again.push(&[name, object], number(count));
        }
        if let Some(count) = again.packets {
            self.again.push(&[name, "packets"], number(count));
        }
        for event in probe.absent() {
            self.absent.push(&[name, &event.at], 1.0);
        }
        let Some(reader) = probe.reader() else { return };
        let mut later = |labels: &[&str]| {
            if probe.began() > began {
                self.later.insert(labels.iter().map(ToString::to_string).collect(), probe.began());
            }
        };
        for ((attach_point, mechanism), RunSums { count, ns, missed }) in ways(&reader.programs()) {
            let labels = &[name, attach_point, mechanism];
            later(labels);
            if self.counts || count > 0 {
                self.runs.push(labels, number(count));
                self.run_seconds.push(labels, seconds(ns));
            }
            self.missed.push(labels, number(missed));
        }
        self.max_series.push(&[name], f64::from(reader.program().layout.max_rows));
        self.memory.push(&[name], number(reader.memory_bytes()));
        let Ok(collected) = collected else { return };
        self.series.push(&[name], number(collected.series));
        for (reason, count) in &collected.dropped.losses {
            later(&[name, reason]);
            self.dropped.push(&[name, reason], number(*count));
        }
        if let Some(followed) = followed
            && reader.program().layout.traced
            && let Ok(lost) = followed.lost()
        {
            self.dropped.push(&[name, "max_processes"], number(lost));
        }
        if let Some(unmatched) = collected.dropped.unmatched {
            later(&[name]);
            self.unmatched.push(&[name], number(unmatched));
        }
    }

    pub(super) fn into_families(self, began: SystemTime) -> [MetricFamily; 11] {
        let Self { later, up, runs, run_seconds, missed, dropped, unmatched, .. } = self;
        let Self { again, absent, series, max_series, memory, .. } = self;
        let origin = Origin { began: Some(began), restarted: Arc::new(later) };
        [up, runs, run_seconds, missed, dropped, unmatched, again, absent, series, max_series, memory]
            .map(|family| MetricFamily { origin: origin.clone(), ..family })
    }
}

/// The age of the state that labels and families of this scrape depend on.
pub(super) fn ages<'a>(ages: impl IntoIterator<Item = (&'a str, Duration)>) -> MetricFamily {
    let help =
        "How long ago what labels and families are told by was read; it grows while that does not answer.";
    let mut family = MetricFamily::new("tapster_source_age_seconds", help, FamilyKind::Gauge, &["source"]);
    for (source, age) in ages {
        family.push(&[source], age.as_secs_f64());
    }
    family
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_one_attach_point_are_one_series() {
        let program = |attach_point: &str, mechanism: &str, runs| ProgramStatus {
            attach_point: attach_point.into(),
            mechanism: mechanism.into(),
            runs,
            run_ns: 10 * runs,
            missed: 1,
            ..ProgramStatus::default()
        };
        let programs =
            [program("switch", "tp_btf", 3), program("wake", "tp_btf", 5), program("switch", "tp_btf", 4)];
        let expected = [
            (("switch", "tp_btf"), RunSums { count: 7, ns: 70, missed: 2 }),
            (("wake", "tp_btf"), RunSums { count: 5, ns: 50, missed: 1 }),
        ];
        assert_eq!(ways(&programs).into_iter().collect::<Vec<_>>(), expected);
    }
}
