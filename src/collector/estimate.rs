//! What a scrape of a probe has for given label sets, before anything was counted: for what series and bytes they cost.

use super::{help, histogram::FamilyBounds};
use crate::family::{FamilyKind, MetricFamily, Origin, Sample, SampleValue};
use std::sync::Arc;
use tapster_ebpf::{probe::Shown, program::Program, typed::TypedMetric};

/// Buckets that a latency fills: those of three to four powers of two at eight a power.
const FILLED: usize = 28;
/// A count as it may be after days.
const COUNT: u64 = 123_456;

/// Families of a program as they may look with these label sets.
pub fn estimate(program: &Program, shown: &Shown, sets: &[Arc<[String]>]) -> Vec<MetricFamily> {
    let label_names: Arc<[String]> = program.labels.iter().map(|label| label.name.clone()).collect();
    let of = |name: &str,
              help: &str,
              kind,
              label_names: &Arc<[String]>,
              value: &dyn Fn(&Arc<[String]>) -> Sample| {
        MetricFamily {
            name: name.into(),
            help: help.into(),
            kind,
            label_names: label_names.clone(),
            origin: Origin::default(),
            samples: sets.iter().map(value).collect(),
        }
    };
    let metrics = program.metrics.iter().map(|metric| {
        let value = value(metric, shown);
        let sample = |labels: &Arc<[String]>| Sample { labels: labels.clone(), value: value.clone() };
        of(&metric.name, &help(metric, program), metric.kind.family(), &label_names, &sample)
    });
    let waiting = program.waiting.iter().flat_map(|waiting| {
        let places: Vec<usize> = waiting.labels.iter().map(|label| label.place).collect();
        let of = &of;
        let names: Arc<[String]> =
            places.iter().filter_map(|place| label_names.get(*place).cloned()).collect();
        waiting.metrics.iter().map(move |metric| {
            let sample = |labels: &Arc<[String]>| Sample {
                labels: places.iter().filter_map(|place| labels.get(*place).cloned()).collect(),
                value: SampleValue::Number(0.0),
            };
            of(&metric.name, &metric.help, FamilyKind::Gauge, &names, &sample)
        })
    });
    metrics.chain(waiting).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a number for its digits")]
fn value(metric: &TypedMetric, shown: &Shown) -> SampleValue {
    let Some(buckets) = metric.kind.buckets() else {
        return SampleValue::Number(metric.unit.to_base(COUNT as f64));
    };
    let slots = usize::try_from(buckets.slots()).expect("a histogram has a few hundred buckets");
    let first = (slots / 2).saturating_sub(FILLED / 2);
    let words: Vec<u64> = [COUNT * COUNT]
        .into_iter()
        .chain((0..slots).map(|slot| if (first..first + FILLED).contains(&slot) { COUNT } else { 0 }))
        .collect();
    SampleValue::Histogram(FamilyBounds::new(buckets, metric.unit, &shown.classic).histogram(&words, metric))
}
