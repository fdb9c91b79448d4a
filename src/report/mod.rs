//! A report: the counts of probes between two readings, as a table for each metric. Arguments and output belong to the command
//! line.

mod folded;
mod json;
mod measure;
#[cfg(test)]
mod tests;
mod text;
mod unit;

pub use folded::folded;
pub use json::json;
pub use measure::{ReportMetric, metrics};
pub use text::{ReportLayout, text};

use crate::{
    exporter::{Exporter, StartFailure},
    family::{MetricFamily, SampleValue},
    name,
    source::Source,
    status::Down,
    watch::{Loss, Repetition, RunningCommand, WatchEnd, WatchError, WatchLimit, WatchResult, losses, watch},
};
use measure::{MetricTable, Peaks};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// Shortest time between two readings while probes count.
const SHORTEST_TICK: Duration = Duration::from_millis(50);
/// How long the end of a report waits for files of programs whose functions it names.
const NAMING: Duration = Duration::from_secs(30);

/// The result, ready to be printed.
#[derive(Debug)]
pub struct Report {
    elapsed: Duration,
    end: WatchEnd,
    /// The program and its arguments.
    command: Vec<String>,
    probes: Vec<ProbeResult>,
    tables: Vec<MetricTable>,
    losses: Vec<Loss>,
}

/// The state of a probe at the end.
#[derive(Debug)]
struct ProbeResult {
    name: String,
    down: Option<Down>,
    /// Ends without a start; `None` for a probe of single events.
    unmatched: Option<f64>,
}

impl Report {
    /// The event that ended the counting.
    pub fn end(&self) -> WatchEnd {
        self.end
    }

    /// Whether none of the probes could be read at the end.
    pub fn is_down(&self) -> bool {
        self.probes.iter().all(|probe| probe.down.is_some())
    }

    fn down(&self) -> impl Iterator<Item = (&str, &Down)> {
        self.probes.iter().filter_map(|probe| Some((probe.name.as_str(), probe.down.as_ref()?)))
    }
}

/// Columns of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Sort {
    /// Sum of all values
    Total,
    /// Number of values
    Count,
    /// Total divided by count
    Average,
    /// Median
    P50,
    /// What 99 % do not exceed
    P99,
    /// Largest value
    Max,
    /// Labels, in alphabetical order
    Labels,
}

/// The first reading of the probes, with which a later one is compared.
#[derive(Debug)]
pub struct FirstReading<'a> {
    exporter: &'a Exporter,
    metrics: Vec<ReportMetric>,
    peaks: Peaks,
    before: Vec<MetricFamily>,
    begun: Instant,
}

/// Shows the progress.
#[expect(missing_debug_implementations, reason = "it holds a function")]
pub struct Progress<'a> {
    /// How often.
    pub every: Duration,
    /// Called with the time so far, and the number of events.
    pub show: &'a mut dyn FnMut(Duration, f64),
}

impl<'a> FirstReading<'a> {
    /// Reads the probes for the first time.
    pub fn begin(exporter: &'a Exporter, metrics: Vec<ReportMetric>) -> Self {
        let peaks = Peaks::of(&metrics);
        let before = exporter.collect();
        Self { exporter, metrics, peaks, before, begun: Instant::now() }
    }

    /// Counts until the end. `attached` is the earliest time at which probes were attached, `failures` are probes that never
    /// came up. Also returns the command if it goes on.
    pub fn finish(
        self,
        until: &WatchLimit<'_>,
        attached: Instant,
        failures: &[StartFailure],
        (sort, top): (Sort, Option<usize>),
        mut progress: Option<Progress<'_>>,
    ) -> Result<(Report, Option<RunningCommand>), WatchError> {
        let Self { exporter, mut metrics, mut peaks, before, begun } = self;
        let window = measure::window(exporter).map(|window| window.max(SHORTEST_TICK));
        let shown_every = progress.as_ref().map(|progress| progress.every);
        let every = [shown_every, window].into_iter().flatten().min();
        let mut shown: Option<Duration> = None;
        let mut tick = |elapsed: Duration| {
            let families = exporter.collect();
            peaks.see(&families);
            if let Some(Progress { every, show }) = &mut progress
                && shown.is_none_or(|shown| elapsed >= shown + *every / 2)
            {
                shown = Some(elapsed);
                show(elapsed, measure::events(&metrics, &measure::since(&before, &families)));
            }
        };
        let watched = watch(exporter, until, every.map(|every| Repetition { every, tick: &mut tick }))?;
        let WatchResult { end, running, .. } = watched;
        let elapsed = begun.elapsed();
        let after = exporter.collect_named(NAMING);
        measure::limit(&mut metrics, attached.elapsed(), begun.elapsed());
        peaks.see(&after);
        let counted = measure::since(&before, &after);
        let tables = measure::tables(
            &metrics,
            &counted,
            &peaks,
            &exporter.reasons(),
            elapsed.as_secs_f64(),
            (sort, top),
        );
        let command = match until {
            WatchLimit::Command { command, .. } => *command,
            WatchLimit::Interrupt | WatchLimit::Time(_) => &[],
        };
        let report = Report {
            elapsed,
            end,
            command: command.iter().map(|word| name::escape(word.as_encoded_bytes())).collect(),
            probes: states(exporter, failures, (&before, &after)),
            tables,
            losses: losses(&counted),
        };
        Ok((report, running))
    }
}

/// The states of the probes at the last reading.
fn states(
    exporter: &Exporter,
    failures: &[StartFailure],
    (before, after): (&[MetricFamily], &[MetricFamily]),
) -> Vec<ProbeResult> {
    let (before, after) = (unmatched(before), unmatched(after));
    exporter
        .status()
        .into_iter()
        .map(|status| {
            let failure = failures.iter().find(|failure| failure.name == status.name);
            let down = status.down.or_else(|| failure.map(|failure| failure.down.clone()));
            let earlier = before.get(status.name.as_str()).copied().unwrap_or(0.0);
            let unmatched = after.get(status.name.as_str()).map(|now| now - earlier);
            ProbeResult { name: status.name, down, unmatched }
        })
        .collect()
}

/// Ends without a start, by probe.
fn unmatched(families: &[MetricFamily]) -> HashMap<&str, f64> {
    families
        .iter()
        .filter(|family| *family.name == *"tapster_probe_unmatched_total")
        .flat_map(|family| &family.samples)
        .filter_map(|sample| match sample.value {
            SampleValue::Number(number) => Some((sample.labels.first()?.as_str(), number)),
            SampleValue::Histogram(_) => None,
        })
        .collect()
}
