//! Metric families: the collector fills them, the exposition writes them, and a scrape consists of them.
//! This module knows neither the kernel nor a wire format.

mod quantile;

pub use quantile::ValueLimits;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::SystemTime,
};
use tapster_ebpf::histogram::native_bound;
pub use tapster_ebpf::names::FamilyKind;

/// The texts of all labels of a series, in the order of the label names of its family.
pub type LabelTexts = Arc<[String]>;

/// All series of one metric name.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricFamily {
    /// Full name as exposed by Prometheus text, `_total` included for counters.
    pub name: Arc<str>,
    /// Unescaped help text.
    pub help: Arc<str>,
    /// The type of the samples.
    pub kind: FamilyKind,
    /// Label names shared by every sample, in the order of `Sample::labels`.
    pub label_names: Arc<[String]>,
    /// When counting of the samples began, for counters and histograms.
    pub origin: Origin,
    /// One per label set.
    pub samples: Vec<Sample>,
}

/// When counting of a family's series began. It stays the same as long as the series do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Origin {
    /// When counting began: everything without a series at that time was zero. `None` if unknown.
    pub began: Option<SystemTime>,
    /// Series, by their label values, whose counts moved to another series at this time, and that count anew since.
    pub restarted: Arc<HashMap<Arc<[String]>, SystemTime>>,
}

impl Origin {
    /// An origin at this time, without series that lost their counts.
    pub fn at(began: SystemTime) -> Self {
        Self { began: Some(began), restarted: Arc::default() }
    }

    /// When counting of the series with these label values began.
    pub fn of(&self, labels: &Arc<[String]>) -> Option<SystemTime> {
        if self.restarted.is_empty() {
            return self.began;
        }
        self.restarted.get(labels).copied().or(self.began)
    }
}

/// One label set and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Unescaped label values, as many as the family has label names.
    pub labels: Arc<[String]>,
    /// The measured value; its variant fits the family's `kind`.
    pub value: SampleValue,
}

/// A sample's value in the metric's base unit (seconds, bytes, …).
#[derive(Clone, Debug, PartialEq)]
pub enum SampleValue {
    /// For counters and gauges.
    Number(f64),
    /// For histograms.
    Histogram(HistogramValue),
}

/// A histogram ready to be exposed.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramValue {
    /// Sum of all observed values.
    pub sum: f64,
    /// Upper bounds (inclusive, ascending, without `+Inf`), shared by every sample of the family.
    pub bounds: Arc<[f64]>,
    /// Observations per classic bucket, not cumulative; one more than `bounds`, the last for `+Inf`.
    pub counts: Vec<u64>,
    /// The same observations as a native histogram, where the bucket scheme is exponential.
    pub native: Option<Native>,
}

/// Native (sparse exponential) buckets of a histogram; only the positive side exists.
#[derive(Clone, Debug, PartialEq)]
pub struct Native {
    /// Prometheus schema, 0 to 4: bucket `i` covers `(2^((i-1)/2^schema), 2^(i/2^schema)]`.
    pub schema: i32,
    /// Width of the zero bucket: observations at or below it are in `zero_count`.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: u64,
    /// `(index, count)` of the buckets that are not empty, ascending by index.
    pub buckets: Vec<(i32, u64)>,
}

/// A bucket of a histogram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// Its observations are above this; minus infinity for the lowest.
    pub lower: f64,
    /// Its observations are at or below this; infinity above all bounds.
    pub upper: f64,
    /// The number of its observations.
    pub count: u64,
    /// Its index among all buckets of the scheme; neighbouring buckets have neighbouring indices.
    pub place: i64,
}

impl HistogramValue {
    /// Number of observations: only the buckets are kept, so this always agrees with them.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Mean of the observations; `None` without any.
    pub fn mean(&self) -> Option<f64> {
        let count = self.count();
        (count > 0).then(|| self.sum / precise(count))
    }

    /// The buckets that are not empty, as fine as they were kept, ascending.
    pub fn buckets(&self) -> Vec<Bucket> {
        let Some(native) = &self.native else {
            let bounds = self.bounds.iter().copied();
            let lowers = [f64::NEG_INFINITY].into_iter().chain(bounds.clone());
            return lowers
                .zip(bounds.chain([f64::INFINITY]))
                .zip(&self.counts)
                .zip(0..)
                .filter(|((_, count), _)| **count > 0)
                .map(|(((lower, upper), count), place)| Bucket { lower, upper, count: *count, place })
                .collect();
        };
        let schema = u8::try_from(native.schema.clamp(0, 8)).unwrap_or(0);
        let steps = f64::from(1_i32 << schema);
        let highest = self.bounds.last().copied().unwrap_or(f64::INFINITY);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the logarithm of a number is a few thousand at most"
        )]
        let place_of = |bound: f64| (bound.log2() * steps).round() as i64;
        let zero = (native.zero_count > 0).then(|| Bucket {
            lower: f64::NEG_INFINITY,
            upper: native.zero_threshold,
            count: native.zero_count,
            place: place_of(native.zero_threshold),
        });
        let others = native.buckets.iter().map(|(index, count)| {
            let upper = native_bound(schema, *index);
            if upper > highest {
                let place = place_of(highest) + 1;
                return Bucket { lower: highest, upper: f64::INFINITY, count: *count, place };
            }
            Bucket { lower: native_bound(schema, index - 1), upper, count: *count, place: (*index).into() }
        });
        zero.into_iter().chain(others).collect()
    }

    /// Adds the observations of another histogram of the same family.
    pub fn add(&mut self, other: &Self) {
        self.sum += other.sum;
        self.combine(other, u64::saturating_add);
    }

    /// The observations that are not in `before`, an earlier state of the same histogram.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut rest = self.clone();
        rest.sum -= before.sum;
        rest.combine(before, u64::saturating_sub);
        rest
    }

    fn combine(&mut self, other: &Self, with: fn(u64, u64) -> u64) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine = with(*mine, *theirs);
        }
        if let (Some(mine), Some(theirs)) = (&mut self.native, &other.native) {
            mine.zero_count = with(mine.zero_count, theirs.zero_count);
            let mut buckets: BTreeMap<i32, u64> = mine.buckets.iter().copied().collect();
            for (index, count) in &theirs.buckets {
                let mine = buckets.entry(*index).or_default();
                *mine = with(*mine, *count);
            }
            mine.buckets = buckets.into_iter().filter(|(_, count)| *count > 0).collect();
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "what is told of so many is a mean or a part of them")]
fn precise(count: u64) -> f64 {
    count as f64
}

impl MetricFamily {
    /// A family with one sample without labels.
    pub fn single(name: &str, help: &str, kind: FamilyKind, value: f64) -> Self {
        let mut family = Self::new(name, help, kind, &[]);
        family.push(&[], value);
        family
    }

    /// An empty family.
    pub fn new(name: &str, help: &str, kind: FamilyKind, label_names: &[&str]) -> Self {
        Self {
            name: name.into(),
            help: help.into(),
            kind,
            label_names: label_names.iter().map(ToString::to_string).collect(),
            origin: Origin::default(),
            samples: Vec::new(),
        }
    }

    /// The same family, counted from `began` on.
    #[must_use]
    pub fn since(mut self, began: SystemTime) -> Self {
        self.origin = Origin::at(began);
        self
    }

    /// Adds a number under `labels`, given in the order of the family's label names.
    pub fn push(&mut self, labels: &[&str], value: f64) {
        debug_assert_eq!(labels.len(), self.label_names.len(), "`{}` has another label count", self.name);
        self.samples.push(Sample {
            labels: labels.iter().map(ToString::to_string).collect(),
            value: SampleValue::Number(value),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(zero_count: u64, buckets: &[(i32, u64)], sum: f64) -> HistogramValue {
        let counts = vec![zero_count + buckets.iter().map(|(_, count)| count).sum::<u64>(), 0];
        let native = Native { schema: 3, zero_threshold: 0.5, zero_count, buckets: buckets.to_vec() };
        HistogramValue { sum, bounds: [128.0].into(), counts, native: Some(native) }
    }

    fn near(found: Option<f64>, expected: f64) {
        let found = found.expect("there are observations");
        assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
    }

    #[test]
    fn quantiles() {
        // All in (1, 2^(1/8)].
        let one = histogram(0, &[(1, 10)], 10.5);
        near(one.quantile(0.0), 1.0);
        near(one.quantile(0.5), f64::exp2(1.0 / 16.0));
        near(one.quantile(1.0), f64::exp2(1.0 / 8.0));
        near(one.mean(), 1.05);
        // 2 at or below 0.5, 6 in (0.917, 1], 2 in (1.834, 2].
        let more = histogram(2, &[(0, 6), (8, 2)], 11.0);
        near(more.quantile(0.1), 0.25);
        near(more.quantile(0.2), 0.5);
        near(more.quantile(0.8), 1.0);
        near(more.quantile(1.0), 2.0);
        near(more.quantile(7.0), 2.0);
        // Above all bounds the exact value is unknown.
        near(histogram(0, &[(8193, 4)], 999.0).quantile(0.5), 128.0);
        assert_eq!((histogram(0, &[], 0.0).quantile(0.5), histogram(0, &[], 0.0).mean()), (None, None));
        let classic = |counts: &[u64]| HistogramValue {
            sum: 0.0,
            bounds: [1.0, 2.0, 4.0].into(),
            counts: counts.to_vec(),
            native: None,
        };
        near(classic(&[0, 4, 4, 0]).quantile(0.25), 1.5);
        near(classic(&[0, 4, 4, 0]).quantile(0.5), 2.0);
        near(classic(&[0, 4, 4, 0]).quantile(0.75), 3.0);
        near(classic(&[2, 0, 2, 0]).quantile(0.25), 0.5);
        near(classic(&[0, 0, 1, 9]).quantile(0.99), 4.0);
        assert_eq!(classic(&[0; 4]).quantile(0.5), None);
    }

    #[test]
    fn sums_and_differences() {
        let mut first = histogram(2, &[(0, 6), (8, 2)], 11.0);
        let second = histogram(1, &[(-3, 1), (8, 5), (9, 7)], 4.0);
        first.add(&second);
        assert_eq!(first, histogram(3, &[(-3, 1), (0, 6), (8, 7), (9, 7)], 15.0));
        assert_eq!(first.since(&second), histogram(2, &[(0, 6), (8, 2)], 11.0));
        assert_eq!(first.since(&first).count(), 0);
        // The median of both together is not a mean of medians.
        near(first.quantile(10.0 / 24.0), 1.0);
        let classic = HistogramValue { native: None, ..histogram(2, &[], 1.0) };
        assert_eq!(classic.since(&classic).counts, [0, 0]);
    }

    #[test]
    fn buckets_that_hold_something() {
        let bucket = |lower, upper, count, place| Bucket { lower, upper, count, place };
        assert_eq!(
            histogram(2, &[(0, 6), (8, 1), (8193, 3)], 0.0).buckets(),
            [
                bucket(f64::NEG_INFINITY, 0.5, 2, -8),
                bucket(native_bound(3, -1), 1.0, 6, 0),
                bucket(native_bound(3, 7), 2.0, 1, 8),
                bucket(128.0, f64::INFINITY, 3, 57),
            ]
        );
        let classic =
            HistogramValue { sum: 0.0, bounds: [1.0, 2.0].into(), counts: vec![1, 0, 4], native: None };
        assert_eq!(
            classic.buckets(),
            [bucket(f64::NEG_INFINITY, 1.0, 1, 0), bucket(2.0, f64::INFINITY, 4, 2)]
        );
    }
}
