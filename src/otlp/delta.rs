//! What a receiver has taken of each series, where it wants differences: a point is what came on top of that, and begins
//! when that was read. Nothing counts as taken before the receiver said so; what a failed push held is in the next one.

use super::setting::Temporality;
use crate::family::{Histogram, Kind, MetricFamily, Origin, Sample, Value};
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::SystemTime,
};

/// What was taken of a series: its value, and when that was read.
#[derive(Clone, Debug)]
struct Base {
    value: Value,
    time: SystemTime,
}

/// A series: the name of its family and its label values.
type Key = (Arc<str>, Arc<[String]>);

/// What counts as taken once the request that it is in has been.
#[derive(Debug)]
pub(super) struct Pending {
    key: Key,
    base: Base,
}

/// What was taken of all series. Series that are not collected for a while keep what was taken of them, so that they do
/// not begin anew when they are back; there are as many as the probes can hold.
#[derive(Debug, Default)]
pub(super) struct Taken {
    families: HashMap<Arc<str>, HashMap<Arc<[String]>, Base>>,
}

/// Whether a family is pushed as differences.
pub(super) fn is_delta(kind: Kind, temporality: Temporality) -> bool {
    match temporality {
        Temporality::Cumulative => false,
        Temporality::Delta => kind != Kind::Gauge,
        // Counters are read from a total anyway, as those that OpenTelemetry calls asynchronous.
        Temporality::LowMemory => kind == Kind::Histogram,
    }
}

impl Taken {
    /// What a sample has on top of what was taken, and from when; `None` if nothing came.
    pub(super) fn difference(
        &self,
        family: &MetricFamily,
        sample: &Sample,
        time: SystemTime,
    ) -> Option<(Value, Option<SystemTime>, Pending)> {
        let pending = |value: Value| Pending {
            key: (Arc::clone(&family.name), Arc::clone(&sample.labels)),
            base: Base { value, time },
        };
        let base = self.families.get(&family.name).and_then(|series| series.get(&sample.labels));
        let Some(base) = base else {
            let start = family.origin.of(&sample.labels);
            return Some((sample.value.clone(), start, pending(sample.value.clone())));
        };
        let difference = match (&sample.value, &base.value) {
            (Value::Number(now), Value::Number(before)) if now >= before => Value::Number(now - before),
            (Value::Histogram(now), Value::Histogram(before)) if has_grown(now, before) => {
                Value::Histogram(now.since(before))
            }
            // More was taken than there is: what an ended series had been taken for is still to come here.
            _ if !family.origin.ended.is_empty() => return None,
            // It began anew: its programs in the kernel were replaced.
            _ => {
                return Some((sample.value.clone(), Some(base.time), pending(sample.value.clone())));
            }
        };
        let is_nothing = match &difference {
            Value::Number(number) => *number == 0.0,
            // The sum of an event may have been read after its bucket.
            Value::Histogram(histogram) => histogram.count() == 0 && histogram.sum == 0.0,
        };
        (!is_nothing).then(|| (difference, Some(base.time), pending(sample.value.clone())))
    }

    /// Counts as taken what was in a request.
    pub(super) fn take(&mut self, pending: Vec<Pending>) {
        for Pending { key: (name, labels), base } in pending {
            self.families.entry(name).or_default().insert(labels, base);
        }
    }

    /// Series that ended: what they had counted is in another series now, so what was taken of them was taken of that.
    pub(super) fn settle(&mut self, family: &MetricFamily) {
        let Origin { ended, .. } = &family.origin;
        if ended.is_empty() {
            return;
        }
        let Some(series) = self.families.get_mut(&family.name) else { return };
        let over: Vec<Arc<[String]>> = series
            .iter()
            .filter(|(labels, base)| ended.get(*labels).is_some_and(|ended| ended.at > base.time))
            .map(|(labels, _)| Arc::clone(labels))
            .collect();
        for labels in over {
            let (Some(base), Some(ended)) = (series.remove(&labels), ended.get(&labels)) else { continue };
            match series.entry(Arc::clone(&ended.into)) {
                Entry::Occupied(mut entry) => add(&mut entry.get_mut().value, &base.value),
                Entry::Vacant(entry) => {
                    entry.insert(base);
                }
            }
        }
    }

    #[cfg(test)]
    pub(super) fn series(&self) -> usize {
        self.families.values().map(HashMap::len).sum()
    }
}

/// Whether no bucket holds less than before.
fn has_grown(now: &Histogram, before: &Histogram) -> bool {
    now.counts.len() == before.counts.len()
        && now.counts.iter().zip(&before.counts).all(|(now, before)| now >= before)
}

fn add(value: &mut Value, other: &Value) {
    match (value, other) {
        (Value::Number(mine), Value::Number(theirs)) => *mine += theirs,
        (Value::Histogram(mine), Value::Histogram(theirs)) => mine.add(theirs),
        (Value::Number(_), Value::Histogram(_)) | (Value::Histogram(_), Value::Number(_)) => {}
    }
}
