//! Turns the bucket counters of a row into a histogram as exposed.

use super::row::to_f64;
use crate::family::{HistogramValue, Native};
use std::sync::Arc;
use tapster_ebpf::{
    histogram::{Buckets, Exponential},
    probe::Unit,
    typed::TypedMetric,
};

/// The bounds that all histograms of a family share.
pub(super) struct FamilyBounds<'a> {
    bounds: Arc<[f64]>,
    /// For each classic bound, the number of kernel buckets at or below it.
    ends: Vec<usize>,
    exponential: Option<&'a Exponential>,
}

impl<'a> FamilyBounds<'a> {
    pub(super) fn new(buckets: &'a Buckets, unit: Unit) -> Self {
        let mut exponential = None;
        let (bounds, ends): (Vec<f64>, Vec<usize>) = match buckets {
            Buckets::Exponential { thresholds, min, max, classic_step } => {
                exponential = Some(thresholds);
                let step = usize::from((*classic_step).max(1));
                let mut powers: Vec<i16> = (*min..=*max).step_by(step).collect();
                if powers.last() != Some(max) {
                    powers.push(*max);
                }
                powers
                    .into_iter()
                    .map(|power| {
                        let position = usize::try_from(power - min).expect("powers begin with the lowest")
                            << thresholds.schema;
                        (f64::powi(2.0, i32::from(power)), position + 1)
                    })
                    .unzip()
            }
            Buckets::Explicit { bounds, .. } => bounds.iter().copied().zip(1..).unzip(),
            Buckets::Linear { start, width, count } => (0..u64::from(*count))
                .map(|index| {
                    let bound = start.saturating_add_unsigned(width.saturating_mul(index));
                    (
                        unit.to_base(to_f64(bound.cast_unsigned(), true)),
                        usize::try_from(index).expect("there are at most 512 bounds") + 1,
                    )
                })
                .unzip(),
        };
        Self { bounds: bounds.into(), ends, exponential }
    }

    /// The histogram of one row: the sum, then the bucket counters.
    pub(super) fn histogram(&self, words: &[u64], metric: &TypedMetric) -> HistogramValue {
        let (sum, buckets) = words.split_first().map_or((0, [].as_slice()), |(sum, buckets)| (*sum, buckets));
        let mut counts = Vec::with_capacity(self.ends.len() + 1);
        let mut from = 0;
        for end in &self.ends {
            counts.push(buckets.get(from..*end).unwrap_or_default().iter().sum());
            from = *end;
        }
        counts.push(buckets.get(from..).unwrap_or_default().iter().sum());
        HistogramValue {
            sum: metric.unit.to_base(to_f64(sum, metric.signed)),
            bounds: self.bounds.clone(),
            counts,
            native: self.exponential.map(|scheme| native(scheme, buckets)),
        }
    }
}

fn native(scheme: &Exponential, buckets: &[u64]) -> Native {
    let schema = i32::from(scheme.schema);
    let filled =
        buckets.iter().zip(0_u32..).skip(1).filter(|(count, _)| **count > 0).map(|(count, position)| {
            // Above the highest bound a value is only known to be larger: it goes to the bucket whose upper bound is +Inf.
            let index = if position > scheme.count {
                (1024 << schema) + 1
            } else {
                scheme.min_index + position.cast_signed()
            };
            (index, *count)
        });
    let steps = f64::from(1_i32 << schema);
    Native {
        schema,
        zero_threshold: f64::exp2(f64::from(scheme.min_index) / steps),
        zero_count: buckets.first().copied().unwrap_or(0),
        buckets: filled.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tapster_ebpf::metric;

    fn of(buckets: &Buckets, unit: Unit, words: &[u64]) -> HistogramValue {
        let kind = metric::Histogram(buckets.clone()).into();
        let metric = TypedMetric { name: "m".into(), help: String::new(), kind, unit, signed: false };
        FamilyBounds::new(buckets, unit).histogram(words, &metric)
    }

    #[test]
    fn classic_and_native_come_from_the_same_buckets() {
        let thresholds = Exponential::new(1, -1, 2, Unit::Nanoseconds.per_base()).unwrap();
        let buckets = Buckets::Exponential { thresholds, min: -1, max: 2, classic_step: 2 };
        // sum, <=2^-1, then (2^-1, 2^-0.5], … six buckets, then +Inf.
        let histogram = of(&buckets, Unit::Nanoseconds, &[2_500_000_000, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(histogram.bounds.to_vec(), [0.5, 2.0, 4.0]);
        assert_eq!(histogram.counts, [1, 2 + 3 + 4 + 5, 6 + 7, 8]);
        assert!((histogram.sum - 2.5).abs() < 1e-12);
        let native = histogram.native.unwrap();
        assert_eq!(
            (native.schema, native.zero_threshold.to_bits(), native.zero_count),
            (1, 0.5_f64.to_bits(), 1)
        );
        assert_eq!(native.buckets, [(-1, 2), (0, 3), (1, 4), (2, 5), (3, 6), (4, 7), (2049, 8)]);
    }

    #[test]
    fn explicit_and_linear_bounds() {
        let explicit = Buckets::Explicit { raw: vec![1_000_000, 10_000_000], bounds: vec![0.001, 0.01] };
        let histogram = of(&explicit, Unit::Nanoseconds, &[0, 1, 2, 3]);
        assert_eq!((histogram.bounds.to_vec(), histogram.counts), (vec![0.001, 0.01], vec![1, 2, 3]));
        let linear = Buckets::Linear { start: -10, width: 10, count: 3 };
        let histogram = of(&linear, Unit::One, &[0, 1, 2, 3, 4]);
        assert_eq!((histogram.bounds.to_vec(), histogram.counts), (vec![-10.0, 0.0, 10.0], vec![1, 2, 3, 4]));
        assert!(histogram.native.is_none());
    }
}
