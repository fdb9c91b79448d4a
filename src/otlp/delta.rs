//! What a receiver has accepted of each series, for delta temporality: a point is the difference to that, and begins
//! when that was read. Nothing counts as accepted before the receiver says so; the counts of a failed push are in the next one.

use super::setting::Temporality;
use crate::family::{FamilyKind, HistogramValue, MetricFamily, Sample, SampleValue};
use std::{collections::HashMap, sync::Arc, time::SystemTime};

/// Series that are gone are forgotten when they are more than the present ones, and more than this.
const FORGOTTEN: usize = 1000;

/// The accepted state of a series.
#[derive(Clone, Debug)]
struct AcceptedState {
    value: SampleValue,
    /// When it was read.
    time: SystemTime,
    /// When its counting began.
    began: Option<SystemTime>,
    /// The last push that had the series.
    push: u64,
}

/// A series: the name of its family and its label values.
type SeriesKey = (Arc<str>, Arc<[String]>);

/// Counts as accepted once its request is accepted.
#[derive(Debug)]
pub(super) struct PendingState {
    key: SeriesKey,
    base: AcceptedState,
}

/// The accepted states of all series. Series that are absent for a while keep theirs, so that they do not
/// begin anew when they are back.
#[derive(Debug, Default)]
pub(super) struct AcceptedStates {
    families: HashMap<Arc<str>, HashMap<Arc<[String]>, AcceptedState>>,
    push: u64,
}

/// Whether a family is pushed as differences.
pub(super) fn is_delta(kind: FamilyKind, temporality: Temporality) -> bool {
    match temporality {
        Temporality::Cumulative => false,
        Temporality::Delta => kind != FamilyKind::Gauge,
        // Counters are read from a total anyway, like those that OpenTelemetry calls asynchronous.
        Temporality::LowMemory => kind == FamilyKind::Histogram,
    }
}

impl AcceptedStates {
    /// Begins a push.
    pub(super) fn begin(&mut self) {
        self.push += 1;
    }

    /// The difference of a sample to the accepted state, and when it begins; `None` if there is none.
    pub(super) fn difference(
        &mut self,
        family: &MetricFamily,
        sample: &Sample,
        time: SystemTime,
    ) -> Option<(SampleValue, Option<SystemTime>, PendingState)> {
        let began = family.origin.of(&sample.labels);
        let pending = |value: &SampleValue| PendingState {
            key: (Arc::clone(&family.name), Arc::clone(&sample.labels)),
            base: AcceptedState { value: value.clone(), time, began, push: self.push },
        };
        let base = self.families.get_mut(&family.name).and_then(|series| series.get_mut(&sample.labels));
        let Some(base) = base else {
            return Some((sample.value.clone(), began, pending(&sample.value)));
        };
        base.push = self.push;
        // Its probe was exchanged for another: all of its value is new.
        if began != base.began {
            let is_nothing = match &sample.value {
                SampleValue::Number(number) => *number == 0.0,
                SampleValue::Histogram(histogram) => histogram.count() == 0,
            };
            return (!is_nothing).then(|| (sample.value.clone(), began, pending(&sample.value)));
        }
        let difference = match (&sample.value, &base.value) {
            (SampleValue::Number(now), SampleValue::Number(before)) if now >= before => {
                SampleValue::Number(now - before)
            }
            (SampleValue::Histogram(now), SampleValue::Histogram(before)) if has_grown(now, before) => {
                SampleValue::Histogram(now.since(before))
            }
            // It began anew: its programs in the kernel were replaced.
            _ => sample.value.clone(),
        };
        let is_nothing = match &difference {
            SampleValue::Number(number) => *number == 0.0,
            // The sum of an event may have been read after its bucket.
            SampleValue::Histogram(histogram) => histogram.count() == 0 && histogram.sum == 0.0,
        };
        (!is_nothing).then(|| (difference, Some(base.time), pending(&sample.value)))
    }

    /// Marks the contents of a request as accepted.
    pub(super) fn take(&mut self, pending: Vec<PendingState>) {
        for PendingState { key: (name, labels), base } in pending {
            self.families.entry(name).or_default().insert(labels, base);
        }
    }

    /// If there are too many absent series, forgets those that have been absent for longest.
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
            // All series whose last push was this one, or an earlier one.
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
fn has_grown(now: &HistogramValue, before: &HistogramValue) -> bool {
    now.counts.len() == before.counts.len()
        && now.counts.iter().zip(&before.counts).all(|(now, before)| now >= before)
}
