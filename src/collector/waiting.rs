//! The number of waiting starts and the age of the oldest, by the labels that are known at the start.
//!
//! A scrape computes both from the starts that are kept anyway; events cost nothing extra.

use super::starts::Start;
use crate::{
    family::{FamilyKind, MetricFamily, Origin, Sample, SampleValue},
    label::Decode,
};
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use tapster_ebpf::{
    layout::StartLayout,
    waiting::{Waiting, WaitingKind, WaitingMetric},
};

/// Thread 2 of a host is this kernel thread. Otherwise procfs belongs to a PID namespace, whose numbers differ from those that
/// programs see.
const KERNEL_THREADS: (&str, &str) = ("2/comm", "kthreadd");

/// The starts of one label set.
#[derive(Clone, Copy, Debug, Default)]
struct WaitingStarts {
    number: u64,
    oldest_ns: u64,
}

impl WaitingStarts {
    fn add(&mut self, other: Self) {
        self.number += other.number;
        self.oldest_ns = self.oldest_ns.max(other.oldest_ns);
    }
}

/// The processes and threads that exist, each looked up once.
#[derive(Debug)]
pub(super) struct Tasks {
    proc: PathBuf,
    /// Whether procfs has the host's numbers.
    are_known: bool,
    seen: HashMap<u64, bool>,
}

impl Tasks {
    pub(super) fn new(proc: &Path) -> Self {
        let (file, name) = KERNEL_THREADS;
        let are_known = fs::read_to_string(proc.join(file)).is_ok_and(|comm| comm.trim_end() == name);
        Self { proc: proc.to_owned(), are_known, seen: HashMap::new() }
    }

    /// Whether the process or thread of a start is gone, so that its end will not come.
    pub(super) fn are_without(&mut self, start: &Start, waiting: &Waiting, layout: &StartLayout) -> bool {
        let Some(task) = waiting.task(layout, &start.key).filter(|_| self.are_known) else { return false };
        let proc = &self.proc;
        // If the look-up fails, the task may exist.
        !*self.seen.entry(task).or_insert_with(|| proc.join(task.to_string()).try_exists().unwrap_or(true))
    }
}

/// The time since which no end was missed: an older start may be one whose end was.
#[derive(Debug, Default)]
pub(super) struct DoubtPeriod {
    missed: u64,
    until_ns: u64,
}

impl DoubtPeriod {
    /// The time before which starts are in doubt, given the number of ends that may have been missed until `now_ns`.
    pub(super) fn until_ns(&mut self, missed: u64, now_ns: u64) -> u64 {
        if missed > self.missed {
            *self = Self { missed, until_ns: now_ns };
        }
        self.until_ns
    }
}

/// The families of these starts, by the labels that are known of them. `rows` are the labels of pairs that ended: without a
/// waiting start they get 0. `now_ns` is later than all starts.
pub(super) fn families(
    (waiting, layout): (&Waiting, &StartLayout),
    starts: &[Start],
    now_ns: u64,
    decoders: &mut [Box<dyn Decode>],
    rows: &[Arc<[String]>],
    (names, origin): (&[String], &Origin),
) -> Vec<MetricFamily> {
    let mut all: BTreeMap<Arc<[String]>, WaitingStarts> = BTreeMap::new();
    for row in rows {
        let known = waiting.labels.iter().filter_map(|label| row.get(label.place).cloned());
        all.entry(known.collect()).or_default();
    }
    // Equal labels are decoded once: a device that hangs may hold thousands of starts.
    let mut alike: HashMap<Vec<Vec<u8>>, WaitingStarts> = HashMap::new();
    for start in starts {
        let waits = alike.entry(waiting.labels(layout, &start.key, &start.value)).or_default();
        waits.add(WaitingStarts { number: 1, oldest_ns: now_ns.saturating_sub(start.since_ns) });
    }
    for (raw, waits) in alike {
        let texts =
            waiting.labels.iter().zip(&raw).map(|(label, raw)| decoders.get_mut(label.place)?.decode(raw));
        // A decoder may leave out the start, as it leaves out rows.
        let Some(texts) = texts.collect::<Option<Arc<[String]>>>() else { continue };
        all.entry(texts).or_default().add(waits);
    }
    let label_names: Arc<[String]> =
        waiting.labels.iter().filter_map(|label| names.get(label.place).cloned()).collect();
    let family = |metric: &WaitingMetric| MetricFamily {
        name: metric.name.as_str().into(),
        help: help(metric).into(),
        kind: FamilyKind::Gauge,
        label_names: label_names.clone(),
        origin: origin.clone(),
        samples: all
            .iter()
            .map(|(labels, waits)| Sample {
                labels: labels.clone(),
                value: SampleValue::Number(value(metric.kind, *waits)),
            })
            .collect(),
    };
    waiting.metrics.iter().map(family).collect()
}

#[expect(clippy::cast_precision_loss, reason = "samples are f64, as Prometheus keeps them")]
fn value(kind: WaitingKind, waits: WaitingStarts) -> f64 {
    match kind {
        WaitingKind::InFlight => waits.number as f64,
        WaitingKind::Oldest => waits.oldest_ns as f64 / 1e9,
    }
}

/// The help text of a metric: its own, else that of its kind.
fn help(metric: &WaitingMetric) -> &str {
    match metric.kind {
        _ if !metric.help.is_empty() => &metric.help,
        WaitingKind::InFlight => "Number of starts that wait for their end.",
        WaitingKind::Oldest => "How long the oldest start that waits for its end has waited.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_several_starts_counts_whatever_their_order() {
        for ages in [[5, 9, 2], [9, 2, 5], [2, 5, 9]] {
            let mut all = WaitingStarts::default();
            for oldest_ns in ages {
                all.add(WaitingStarts { number: 1, oldest_ns });
            }
            assert_eq!((all.number, all.oldest_ns), (3, 9), "{ages:?}");
        }
    }

    #[test]
    fn starts_before_a_missed_end_are_in_doubt() {
        let mut doubt = DoubtPeriod::default();
        assert_eq!(doubt.until_ns(0, 100), 0);
        assert_eq!(doubt.until_ns(2, 130), 130);
        assert_eq!(doubt.until_ns(2, 160), 130, "none was missed since");
        assert_eq!(doubt.until_ns(3, 190), 190);
    }
}
