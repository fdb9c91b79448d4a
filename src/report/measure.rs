//! Two readings of the probes → the difference: a table for each metric.

use super::{Sort, unit::BaseUnit};
use crate::{
    exporter::Exporter,
    family::{FamilyKind, HistogramValue, LabelTexts, MetricFamily, Sample, SampleValue, ValueLimits},
    reason::Reasons,
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};
use tapster_ebpf::{
    expr::{BinaryOperator, Expr, ExprKind},
    probe::{Decoder, Event, Probe},
    typed::{Side, TypedLabel},
};

/// Relative difference that two sums of the same numbers may have.
const ROUNDING: f64 = 1e-9;

/// The form in which a metric is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetricForm {
    Histogram,
    Counter,
    Gauge,
    Max,
    /// Starts that wait for their end when the time is over.
    Waiting,
}

/// A metric to report.
#[derive(Clone, Debug)]
pub struct ReportMetric {
    pub(super) name: String,
    pub(super) probe: String,
    pub(super) kind: MetricForm,
    pub(super) unit: BaseUnit,
    /// The `max` metric that keeps the largest of the same values.
    pub(super) largest_in: Option<String>,
    /// For each label, whether it is a stack, and of which side.
    pub(super) stacks: Vec<Option<Side>>,
    /// For each label, whether it is a reason.
    pub(super) reasons: Vec<bool>,
    /// Limits of its values.
    pub(super) limits: ValueLimits,
    /// When its values can have begun.
    pub(super) since: ValueBegin,
}

/// When the values of a metric can have begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueBegin {
    /// They are no durations whose beginning was seen.
    Unknown,
    /// The probe saw their beginning, so it was after the probe was attached.
    Attached,
    /// The command had started.
    Command,
}

impl ReportMetric {
    /// Whether any of its labels is a stack.
    pub fn has_stacks(&self) -> bool {
        self.stacks.iter().any(Option::is_some)
    }

    /// Whether the label at an index is a reason.
    pub(super) fn is_reason(&self, label: usize) -> bool {
        self.reasons.get(label).copied().unwrap_or_default()
    }

    /// The side of the stack in the label at an index.
    pub(super) fn stack(&self, label: usize) -> Option<Side> {
        self.stacks.get(label).copied().flatten()
    }
}

/// The metrics of the probes that are up; `declared` shows which of them have the same values. `command`: whether probes with
/// `traced` count only a command.
pub fn metrics(exporter: &Exporter, declared: &[Probe], command: bool) -> Vec<ReportMetric> {
    let mut metrics = Vec::new();
    for running in exporter.probes() {
        let Some(program) = running.program() else { continue };
        let (probe, typed) = (running.name(), program.metrics.as_slice());
        let side = |label: &TypedLabel| match label.decoder {
            Decoder::Stack(side) => Some(side),
            _ => None,
        };
        let labels = program.labels.as_slice();
        let stacks: Vec<_> = labels.iter().map(side).collect();
        let reasons: Vec<_> = labels.iter().map(|label| label.decoder == Decoder::Reason).collect();
        let declaration = declared.iter().find(|declared| declared.name.value == probe);
        for metric in typed {
            let kind = match metric.kind.family() {
                FamilyKind::Counter => MetricForm::Counter,
                FamilyKind::Gauge if metric.kind.window_ns().is_some() => MetricForm::Max,
                FamilyKind::Gauge => MetricForm::Gauge,
                FamilyKind::Histogram => MetricForm::Histogram,
            };
            let largest_in = declaration.filter(|_| kind == MetricForm::Histogram).and_then(|probe| {
                let of = value_of(probe, &metric.name)?;
                let is_largest = |name: &str| {
                    typed.iter().any(|other| {
                        other.name == name && other.kind.window_ns().is_some() && other.unit == metric.unit
                    })
                };
                let names = probe.metrics.iter().map(|metric| format!("tapster_{}", metric.name.value));
                names.filter(|name| is_largest(name)).find(|name| value_of(probe, name).as_ref() == Some(&of))
            });
            metrics.push(ReportMetric {
                name: metric.name.clone(),
                probe: probe.to_owned(),
                kind,
                unit: BaseUnit::of(metric),
                largest_in,
                stacks: stacks.clone(),
                reasons: reasons.clone(),
                limits: if metric.signed { ValueLimits::NONE } else { ValueLimits::POSITIVE },
                since: declaration
                    .map_or(ValueBegin::Unknown, |probe| since_when(probe, &metric.name, command)),
            });
        }
        if let Some(waiting) = &program.waiting {
            let places = || waiting.labels.iter().map(|label| label.place);
            metrics.extend(waiting.metrics.iter().map(|metric| ReportMetric {
                name: metric.name.clone(),
                probe: probe.to_owned(),
                kind: MetricForm::Waiting,
                unit: BaseUnit::of_waiting(metric.kind),
                largest_in: None,
                stacks: places().map(|place| stacks.get(place).copied().flatten()).collect(),
                reasons: places().map(|place| reasons.get(place).copied().unwrap_or_default()).collect(),
                limits: ValueLimits::POSITIVE,
                since: ValueBegin::Unknown,
            }));
        }
    }
    metrics
}

/// What a metric keeps, as texts.
#[derive(Debug, PartialEq, Eq)]
struct MetricSource {
    value: Option<String>,
    filter: Option<String>,
    /// For each event, whether it feeds the metric, and its own value.
    own: Vec<(bool, Option<String>)>,
}

fn value_of(probe: &Probe, name: &str) -> Option<MetricSource> {
    let metric =
        probe.metrics.iter().find(|metric| name.strip_prefix("tapster_") == Some(&metric.name.value))?;
    let text = |expression: &tapster_ebpf::probe::Expression| expression.ast.to_string();
    let name = &metric.name.value;
    let own = probe.ends.iter().map(|event| (event.feeds(name), event.own_value(name).map(text)));
    Some(MetricSource {
        value: metric.value.as_ref().map(text),
        filter: metric.filter.as_ref().map(text),
        own: own.collect(),
    })
}

/// When the values of a metric can have begun: a `duration` runs from a start that the probe saw.
fn since_when(probe: &Probe, name: &str, command: bool) -> ValueBegin {
    let is_duration = |source: MetricSource| source.value.as_deref() == Some("duration");
    if !probe.is_pair() || !value_of(probe, name).is_some_and(is_duration) {
        return ValueBegin::Unknown;
    }
    let keeps = |event: &Event| event.filter.as_ref().is_some_and(|filter| keeps_to_command(&filter.ast));
    if command && probe.keepers().iter().all(keeps) { ValueBegin::Command } else { ValueBegin::Attached }
}

/// Whether a filter passes only events of the command.
fn keeps_to_command(filter: &Expr) -> bool {
    match &filter.kind {
        ExprKind::Name(name) | ExprKind::Call(name, _) => name == "traced",
        ExprKind::Binary(BinaryOperator::And, left, right) => {
            keeps_to_command(left) || keeps_to_command(right)
        }
        _ => false,
    }
}

/// Sets the limits of durations: the time from attaching to the last reading, and the time of that in which the command ran.
pub(super) fn limit(metrics: &mut [ReportMetric], attached: Duration, command: Duration) {
    for metric in metrics {
        metric.limits.most = match metric.since {
            ValueBegin::Unknown => continue,
            ValueBegin::Attached => attached.as_secs_f64(),
            ValueBegin::Command => command.as_secs_f64(),
        };
    }
}

/// How often the largest values must be read so that none leaves its window unseen; `None` if there are none.
pub(super) fn window(exporter: &Exporter) -> Option<Duration> {
    let probes = exporter.probes();
    let metrics = probes.iter().filter_map(|running| running.program()).flat_map(|program| &program.metrics);
    let windows = metrics.filter_map(|metric| metric.kind.window_ns()).map(Duration::from_nanos);
    // A value must be visible for two thirds of its window.
    windows.min().map(|window| window / 3)
}

/// The largest values that were read from metrics whose window may be shorter than the interval.
#[derive(Debug)]
pub(super) struct Peaks {
    names: HashSet<String>,
    found: HashMap<(String, LabelTexts), f64>,
}

impl Peaks {
    pub(super) fn of(metrics: &[ReportMetric]) -> Self {
        let names =
            metrics.iter().filter(|metric| metric.kind == MetricForm::Max).map(|metric| metric.name.clone());
        Self { names: names.collect(), found: HashMap::new() }
    }

    /// Adds another reading.
    pub(super) fn see(&mut self, families: &[MetricFamily]) {
        for family in families.iter().filter(|family| self.names.contains(&*family.name)) {
            for sample in &family.samples {
                let SampleValue::Number(value) = sample.value else { continue };
                let key = (family.name.to_string(), sample.labels.clone());
                self.found.entry(key).and_modify(|peak| *peak = peak.max(value)).or_insert(value);
            }
        }
    }

    fn get(&self, name: &str, labels: &LabelTexts) -> Option<f64> {
        self.found.get(&(name.to_owned(), labels.clone())).copied()
    }
}

/// What families counted since `before`; gauges are unchanged. Rows without new counts are removed.
pub(super) fn since(before: &[MetricFamily], after: &[MetricFamily]) -> Vec<MetricFamily> {
    let earlier: HashMap<&str, &MetricFamily> = before.iter().map(|family| (&*family.name, family)).collect();
    after
        .iter()
        .map(|family| {
            let before =
                earlier.get(&*family.name).map(|family| family.samples.as_slice()).unwrap_or_default();
            let before: HashMap<&LabelTexts, &SampleValue> =
                before.iter().map(|sample| (&sample.labels, &sample.value)).collect();
            let is_counter = family.kind == FamilyKind::Counter;
            let samples = family.samples.iter().filter_map(|sample| {
                let value = match (&sample.value, before.get(&sample.labels)) {
                    (SampleValue::Histogram(now), Some(SampleValue::Histogram(before))) => {
                        SampleValue::Histogram(now.since(before))
                    }
                    (SampleValue::Number(now), Some(SampleValue::Number(before))) if is_counter => {
                        SampleValue::Number(now - before)
                    }
                    (value, _) => value.clone(),
                };
                let is_new = match &value {
                    SampleValue::Histogram(histogram) => histogram.count() > 0,
                    SampleValue::Number(number) => !is_counter || *number > 0.0,
                };
                is_new.then(|| Sample { labels: sample.labels.clone(), value })
            });
            MetricFamily { samples: samples.collect(), ..family.clone() }
        })
        .collect()
}

/// Number of events so far, for display: for each probe, the count of its fullest histogram, or its largest plain counter.
pub(super) fn events(metrics: &[ReportMetric], families: &[MetricFamily]) -> f64 {
    let mut probes: HashMap<&str, [f64; 2]> = HashMap::new();
    for metric in metrics {
        let Some(family) = families.iter().find(|family| *family.name == *metric.name) else { continue };
        let sum: f64 = family.samples.iter().map(|sample| count(&sample.value)).sum();
        let [histograms, counters] = probes.entry(&metric.probe).or_default();
        match metric.kind {
            MetricForm::Histogram => *histograms = histograms.max(sum),
            MetricForm::Counter if metric.unit == BaseUnit::None => *counters = counters.max(sum),
            MetricForm::Counter | MetricForm::Gauge | MetricForm::Max | MetricForm::Waiting => {}
        }
    }
    probes
        .values()
        .map(|[histograms, counters]| if *histograms > 0.0 { *histograms } else { *counters })
        .sum()
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn count(value: &SampleValue) -> f64 {
    match value {
        SampleValue::Histogram(histogram) => histogram.count() as f64,
        SampleValue::Number(number) => *number,
    }
}

/// How the largest value of a histogram is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LargestBasis {
    /// It is at most this: the bound of the highest bucket that is not empty, or a limit that follows from sum and time.
    Bucket,
    /// It is above this, the highest bound of all.
    Above,
    /// It is exactly this: a `max` metric kept it.
    Metric,
}

/// The largest value of a histogram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Largest {
    pub(super) value: f64,
    pub(super) source: LargestBasis,
}

/// The measurement of one label set.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Measurement {
    Histogram(HistogramValue, Option<Largest>),
    Number(f64),
}

/// A row of a table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TableRow {
    pub(super) labels: LabelTexts,
    pub(super) measured: Measurement,
    /// Its part of the total of all rows, if a total makes sense.
    pub(super) share: Option<f64>,
    /// Limits of its values.
    pub(super) limits: ValueLimits,
}

/// The measurement of one metric.
#[derive(Clone, Debug)]
pub(super) struct MetricTable {
    pub(super) metric: ReportMetric,
    pub(super) help: String,
    pub(super) label_names: Arc<[String]>,
    /// How long the probes counted.
    pub(super) seconds: f64,
    /// Sorted; at most as many as requested.
    pub(super) rows: Vec<TableRow>,
    /// Number of rows that are left out.
    pub(super) left_out: usize,
    /// The sum of those, if it makes sense.
    pub(super) rest: Option<TableRow>,
    /// The sum of all rows, if it makes sense and there are several.
    pub(super) all: Option<TableRow>,
    /// A sentence for each reason in it.
    pub(super) sentences: BTreeMap<String, String>,
}

impl TableRow {
    pub(super) fn total(&self) -> f64 {
        match &self.measured {
            Measurement::Histogram(histogram, _) => histogram.sum,
            Measurement::Number(number) => *number,
        }
    }

    pub(super) fn largest(&self) -> Option<Largest> {
        match &self.measured {
            Measurement::Histogram(_, largest) => *largest,
            Measurement::Number(_) => None,
        }
    }

    /// See [`HistogramValue::quantile_within`]; at most the largest value, if that is known.
    pub(super) fn quantile(&self, q: f64) -> Option<f64> {
        let Measurement::Histogram(histogram, largest) = &self.measured else { return None };
        let most = match largest {
            Some(Largest { value, source: LargestBasis::Bucket | LargestBasis::Metric }) => {
                value.min(self.limits.most)
            }
            Some(Largest { source: LargestBasis::Above, .. }) | None => self.limits.most,
        };
        histogram.quantile_within(q, ValueLimits { most, ..self.limits })
    }

    fn key(&self, sort: Sort) -> f64 {
        let Measurement::Histogram(histogram, _) = &self.measured else { return self.total() };
        let value = match sort {
            Sort::Total | Sort::Labels => Some(histogram.sum),
            Sort::Count => Some(count(&SampleValue::Histogram(histogram.clone()))),
            Sort::Average => histogram.mean(),
            Sort::P50 => self.quantile(0.5),
            Sort::P99 => self.quantile(0.99),
            Sort::Max => self.largest().map(|largest| match largest.source {
                LargestBasis::Above => f64::INFINITY,
                LargestBasis::Bucket | LargestBasis::Metric => largest.value,
            }),
        };
        value.unwrap_or(f64::NEG_INFINITY)
    }
}

/// The largest value. `kept` comes from a `max` metric, and is used if it is in the highest bucket: it may cover a moment more
/// than the histogram's interval, or its window may have passed.
fn largest(histogram: &HistogramValue, kept: Option<f64>, limits: ValueLimits) -> Option<Largest> {
    let highest = *histogram.buckets().last()?;
    let possible = histogram.largest_possible(limits)?;
    Some(match kept {
        // Both are sums of nanoseconds, rounded in different order.
        Some(value) if highest.lower < value && value <= possible * (1.0 + ROUNDING) => {
            Largest { value: value.min(possible), source: LargestBasis::Metric }
        }
        _ if possible.is_finite() => Largest { value: possible, source: LargestBasis::Bucket },
        _ => Largest { value: highest.lower, source: LargestBasis::Above },
    })
}

/// The sum of rows; `None` if there are none, or if such values have no sum.
fn sum(rows: &[TableRow], kind: MetricForm) -> Option<TableRow> {
    let (first, others) = rows.split_first()?;
    let measured = match (kind, &first.measured) {
        (MetricForm::Gauge | MetricForm::Max | MetricForm::Waiting, _) => return None,
        (_, Measurement::Number(_)) => Measurement::Number(rows.iter().map(TableRow::total).sum()),
        (_, Measurement::Histogram(histogram, _)) => {
            let mut all = histogram.clone();
            for row in others {
                if let Measurement::Histogram(histogram, _) = &row.measured {
                    all.add(histogram);
                }
            }
            // No value is larger than the largest of a row.
            let of_rows = |takes: fn(LargestBasis) -> bool| -> Option<f64> {
                let taken = |row: &TableRow| row.largest().filter(|largest| takes(largest.source));
                let values: Option<Vec<f64>> = rows.iter().map(|row| Some(taken(row)?.value)).collect();
                values?.into_iter().reduce(f64::max)
            };
            let kept = of_rows(|source| source == LargestBasis::Metric);
            let most = of_rows(|source| source != LargestBasis::Above).unwrap_or(f64::INFINITY);
            let limits = ValueLimits { most: most.min(first.limits.most), ..first.limits };
            let largest = largest(&all, kept, limits);
            Measurement::Histogram(all, largest)
        }
    };
    let share = rows.iter().map(|row| row.share).sum();
    Some(TableRow { labels: [].into(), measured, share, limits: first.limits })
}

/// A table for each metric, including those without rows.
pub(super) fn tables(
    metrics: &[ReportMetric],
    counted: &[MetricFamily],
    peaks: &Peaks,
    reasons: &Reasons,
    seconds: f64,
    (sort, top): (Sort, Option<usize>),
) -> Vec<MetricTable> {
    let families: HashMap<&str, &MetricFamily> =
        counted.iter().map(|family| (&*family.name, family)).collect();
    metrics
        .iter()
        .map(|metric| {
            let family = families.get(metric.name.as_str());
            let samples = family.map(|family| family.samples.as_slice()).unwrap_or_default();
            let mut rows: Vec<TableRow> = samples.iter().map(|sample| row(metric, sample, peaks)).collect();
            if metric.kind == MetricForm::Waiting {
                rows.retain(|row| row.total() > 0.0);
            }
            if metric.kind == MetricForm::Max {
                // A value that left its window before the end is no longer a sample.
                let seen: HashSet<LabelTexts> = rows.iter().map(|row| row.labels.clone()).collect();
                let gone = peaks
                    .found
                    .iter()
                    .filter(|((name, labels), _)| *name == metric.name && !seen.contains(labels));
                rows.extend(gone.map(|((_, labels), peak)| TableRow {
                    labels: labels.clone(),
                    measured: Measurement::Number(*peak),
                    share: None,
                    limits: metric.limits,
                }));
            }
            if matches!(metric.kind, MetricForm::Histogram | MetricForm::Counter) {
                set_shares(&mut rows);
            }
            rows.sort_by(|a, b| {
                let by_labels = a.labels.cmp(&b.labels);
                if sort == Sort::Labels {
                    by_labels
                } else {
                    b.key(sort).total_cmp(&a.key(sort)).then(by_labels)
                }
            });
            let all = (rows.len() > 1).then(|| sum(&rows, metric.kind)).flatten();
            let sentences = rows.iter().flat_map(|row| {
                let labels = row.labels.iter().enumerate();
                let named = labels.filter(|(label, _)| metric.is_reason(*label)).map(|(_, reason)| reason);
                named.filter_map(|reason| Some((reason.clone(), reasons.sentence(reason)?.to_owned())))
            });
            let sentences = sentences.collect();
            let others = rows.split_off(top.unwrap_or(usize::MAX).min(rows.len()));
            MetricTable {
                metric: metric.clone(),
                help: family.map(|family| family.help.to_string()).unwrap_or_default(),
                label_names: family.map(|family| family.label_names.clone()).unwrap_or_default(),
                seconds,
                rows,
                left_out: others.len(),
                rest: sum(&others, metric.kind),
                all,
                sentences,
            }
        })
        // Nothing waiting is the normal case.
        .filter(|table| table.metric.kind != MetricForm::Waiting || !table.rows.is_empty())
        .collect()
}

fn row(metric: &ReportMetric, sample: &Sample, peaks: &Peaks) -> TableRow {
    let measured = match &sample.value {
        SampleValue::Histogram(histogram) => {
            let kept = metric.largest_in.as_ref().and_then(|name| peaks.get(name, &sample.labels));
            Measurement::Histogram(histogram.clone(), largest(histogram, kept, metric.limits))
        }
        SampleValue::Number(number) if metric.kind == MetricForm::Max => Measurement::Number(
            peaks.get(&metric.name, &sample.labels).map_or(*number, |peak| peak.max(*number)),
        ),
        SampleValue::Number(number) => Measurement::Number(*number),
    };
    TableRow { labels: sample.labels.clone(), measured, share: None, limits: metric.limits }
}

/// Sets parts of the total; there are none if a total is below zero.
fn set_shares(rows: &mut [TableRow]) {
    let sum: f64 = rows.iter().map(TableRow::total).sum();
    if sum > 0.0 && rows.iter().all(|row| row.total() >= 0.0) {
        for row in rows {
            row.share = Some(row.total() / sum);
        }
    }
}
