//! What a receiver has taken of each series, where it wants differences: a point is what came on top of that, and begins
//! when that was read. Nothing counts as taken before the receiver said so; what a failed push held is in the next one.

use super::setting::Temporality;
use crate::family::{Histogram, Kind, MetricFamily, Sample, Value};
use std::{collections::HashMap, sync::Arc, time::SystemTime};

/// Series that are not there are forgotten when they are more than those that are, and than this.
const FORGOTTEN: usize = 1000;

/// What was taken of a series.
#[derive(Clone, Debug)]
struct Base {
    value: Value,
    /// When that was read.
    time: SystemTime,
    /// From when it was counted.
    began: Option<SystemTime>,
    /// The last push that had the series.
    push: u64,
}

/// A series: the name of its family and its label values.
type Key = (Arc<str>, Arc<[String]>);

/// What counts as taken once the request that it is in has been.
#[derive(Debug)]
pub(super) struct Pending {
    key: Key,
    base: Base,
}

/// What was taken of all series. Those that are not there for a while keep what was taken of them, so that they do not
/// begin anew when they are back.
#[derive(Debug, Default)]
pub(super) struct Taken {
    families: HashMap<Arc<str>, HashMap<Arc<[String]>, Base>>,
    push: u64,
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
    /// A push begins.
    pub(super) fn begin(&mut self) {
        self.push += 1;
    }

    /// What a sample has on top of what was taken, and from when; `None` if nothing came.
    pub(super) fn difference(
        &mut self,
        family: &MetricFamily,
        sample: &Sample,
        time: SystemTime,
    ) -> Option<(Value, Option<SystemTime>, Pending)> {
        let began = family.origin.of(&sample.labels);
        let pending = |value: &Value| Pending {
            key: (Arc::clone(&family.name), Arc::clone(&sample.labels)),
            base: Base { value: value.clone(), time, began, push: self.push },
        };
        let base = self.families.get_mut(&family.name).and_then(|series| series.get_mut(&sample.labels));
        let Some(base) = base else {
            return Some((sample.value.clone(), began, pending(&sample.value)));
        };
        base.push = self.push;
        // Its probe was exchanged for another: all that is there came on top, however much that is.
        if began != base.began {
            let is_nothing = match &sample.value {
                Value::Number(number) => *number == 0.0,
                Value::Histogram(histogram) => histogram.count() == 0,
            };
            return (!is_nothing).then(|| (sample.value.clone(), began, pending(&sample.value)));
        }
        let difference = match (&sample.value, &base.value) {
            (Value::Number(now), Value::Number(before)) if now >= before => Value::Number(now - before),
            (Value::Histogram(now), Value::Histogram(before)) if has_grown(now, before) => {
                Value::Histogram(now.since(before))
            }
            // It began anew: its programs in the kernel were replaced.
            _ => sample.value.clone(),
        };
        let is_nothing = match &difference {
            Value::Number(number) => *number == 0.0,
            // The sum of an event may have been read after its bucket.
            Value::Histogram(histogram) => histogram.count() == 0 && histogram.sum == 0.0,
        };
        (!is_nothing).then(|| (difference, Some(base.time), pending(&sample.value)))
    }

    /// Counts as taken what was in a request.
    pub(super) fn take(&mut self, pending: Vec<Pending>) {
        for Pending { key: (name, labels), base } in pending {
            self.families.entry(name).or_default().insert(labels, base);
        }
    }

    /// Forgets series that are not there any more, those that are missing longest first, where there are too many.
    pub(super) fn forget(&mut self) {
        let push = self.push;
        for series in self.families.values_mut() {
            let present = series.values().filter(|base| base.push == push).count();
            let most = present.max(FORGOTTEN);
            let missing = series.len() - present;
            if missing <= most {
                continue;
            }
            let mut last: Vec<u64> =
                series.values().map(|base| base.push).filter(|last| *last != push).collect();
            last.sort_unstable();
            // All that were there last at this push, or before.
            let until = last[missing - most - 1];
            series.retain(|_, base| base.push == push || base.push > until);
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
