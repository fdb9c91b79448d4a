//! Quantiles of a histogram: by the rules of Prometheus, and within the limits that its sum sets.
//!
//! Prometheus spreads the values of a bucket over all of it. With few values that leads to impossible quantiles:
//! of one value of 4.2 s, in the bucket of 4 s to 5.66 s, the median would be 4.76 s. The sum says more: a value is at most the
//! sum without the least that all other values can be.

use super::{Bucket, HistogramValue, Native, precise};

/// Known limits of the values of a histogram, beside their buckets and their sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ValueLimits {
    /// No value is below this; minus infinity if unknown.
    pub least: f64,
    /// No value is above this; infinity if unknown.
    pub most: f64,
}

impl ValueLimits {
    /// The limits of values that are not negative.
    pub const POSITIVE: Self = Self { least: 0.0, most: f64::INFINITY };
    /// No limits.
    pub const NONE: Self = Self { least: f64::NEG_INFINITY, most: f64::INFINITY };
}

impl HistogramValue {
    /// The value that a part `q` of the observations does not exceed, as far as the buckets show, by the rules of
    /// Prometheus: values are spread evenly over a bucket, on the logarithmic scale in a native one. A value above
    /// all bounds counts as the highest bound. `None` without observations.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = q.clamp(0.0, 1.0) * precise(count);
        match &self.native {
            Some(native) => Some(self.native_quantile(native, rank)),
            None => self.classic_quantile(rank),
        }
    }

    /// The same quantile, limited to what the sum and `limits` allow.
    pub fn quantile_within(&self, q: f64, limits: ValueLimits) -> Option<f64> {
        let quantile = self.quantile(q)?;
        let count = self.count();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and the count"
        )]
        let place = ((q.clamp(0.0, 1.0) * precise(count)).ceil() as u64).clamp(1, count);
        let (low, high) = self.possible(place, limits)?;
        Some(quantile.max(low).min(high))
    }

    /// The largest value that an observation can have; infinity if unknown, `None` without observations.
    pub fn largest_possible(&self, limits: ValueLimits) -> Option<f64> {
        self.possible(self.count(), limits).map(|(_, high)| high)
    }

    /// The least and the largest value that the observation at an index, in ascending order, can have: it lies in its bucket,
    /// those before it are not larger, those after it not smaller, and all together are the sum. A sum that was read a moment
    /// before or after the buckets does not lead out of the bucket.
    fn possible(&self, place: u64, limits: ValueLimits) -> Option<(f64, f64)> {
        let buckets = self.buckets();
        let lower = |bucket: &Bucket| bucket.lower.max(limits.least);
        let upper = |bucket: &Bucket| bucket.upper.min(limits.most).max(lower(bucket));
        let mut before = 0;
        let index = buckets.iter().position(|bucket| {
            before += bucket.count;
            place <= before
        })?;
        let own = buckets.get(index)?;
        let before = before - own.count;
        let others = |bound: &dyn Fn(&Bucket) -> f64| -> f64 {
            let others = buckets.iter().enumerate().filter(|(other, _)| *other != index);
            others.map(|(_, bucket)| bound(bucket) * precise(bucket.count)).sum()
        };
        // Within its bucket: how many observations are not larger than it, and how many are not smaller, itself included.
        let (up_to, from) = (place - before, before + own.count - place + 1);
        let rest = |number: u64, bound: f64| if number == 0 { 0.0 } else { bound * precise(number) };
        let high = (self.sum - others(&lower) - rest(up_to - 1, lower(own))) / precise(from);
        let low = (self.sum - others(&upper) - rest(from - 1, upper(own))) / precise(up_to);
        // Without a lower bound of the others the result is not a number, or infinite.
        let high = if high.is_nan() { f64::INFINITY } else { high };
        let low = if low.is_nan() { f64::NEG_INFINITY } else { low };
        let high = high.max(lower(own)).min(upper(own));
        Some((low.max(lower(own)).min(high), high))
    }

    fn native_quantile(&self, native: &Native, rank: f64) -> f64 {
        let mut below = precise(native.zero_count);
        if native.zero_count > 0 && rank <= below {
            return native.zero_threshold * rank / below;
        }
        let highest = self.bounds.last().copied().unwrap_or(f64::INFINITY);
        let steps = f64::from(1_i32 << native.schema.clamp(0, 8));
        for (index, count) in &native.buckets {
            let inside = precise(*count);
            if rank <= below + inside {
                let part = (rank - below) / inside;
                return f64::exp2((f64::from(*index) - 1.0 + part) / steps).min(highest);
            }
            below += inside;
        }
        highest
    }

    fn classic_quantile(&self, rank: f64) -> Option<f64> {
        let mut below = 0.0;
        let mut lower = self.bounds.first().copied()?.min(0.0);
        for (bound, count) in self.bounds.iter().zip(&self.counts) {
            let inside = precise(*count);
            if *count > 0 && rank <= below + inside {
                return Some(lower + (bound - lower) * (rank - below) / inside);
            }
            below += inside;
            lower = *bound;
        }
        Some(lower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A histogram of these values as the kernel would count them, two buckets for each power of two.
    fn of(values: &[f64]) -> HistogramValue {
        let mut buckets: std::collections::BTreeMap<i32, u64> = std::collections::BTreeMap::new();
        for value in values {
            #[expect(clippy::cast_possible_truncation, reason = "a few hundred at most")]
            let index = (value.log2() * 2.0).ceil() as i32;
            *buckets.entry(index).or_default() += 1;
        }
        let native = Native {
            schema: 1,
            zero_threshold: f64::exp2(-20.0),
            zero_count: 0,
            buckets: buckets.into_iter().collect(),
        };
        let count = values.len().try_into().unwrap();
        HistogramValue {
            sum: values.iter().sum(),
            bounds: [512.0].into(),
            counts: vec![count, 0],
            native: Some(native),
        }
    }

    fn near(found: Option<f64>, expected: f64) {
        let found = found.expect("there are observations");
        assert!((found - expected).abs() <= 1e-9 * expected.abs(), "{found} is not {expected}");
    }

    /// One sleep of 4.2 s: it is the median, and all other quantiles.
    #[test]
    fn one_value_is_all_its_quantiles() {
        let one = of(&[4.2]);
        assert!(
            one.quantile(0.5).unwrap() > 4.7 && one.quantile(0.99).unwrap() > 5.6,
            "by Prometheus' rules"
        );
        for q in [0.0, 0.01, 0.5, 0.99, 1.0] {
            near(one.quantile_within(q, ValueLimits::POSITIVE), 4.2);
        }
        near(one.largest_possible(ValueLimits::POSITIVE), 4.2);
        // Above all bounds as well.
        near(of(&[700.0]).quantile_within(0.5, ValueLimits::POSITIVE), 700.0);
    }

    #[test]
    fn others_take_at_least_their_lower_bounds() {
        // Two in (4, 5.66], one in (1, 1.41]: 4.1 + 4.3 + 1.2.
        let three = of(&[4.1, 4.3, 1.2]);
        near(three.largest_possible(ValueLimits::POSITIVE), 9.6 - 4.0 - 1.0);
        // The smaller of the two is at most half of the rest.
        let median = three.quantile_within(0.5, ValueLimits::POSITIVE).unwrap();
        assert!(median <= f64::midpoint(9.6, -1.0), "{median}");
        // With a limit from the time as well.
        let limits = ValueLimits { most: 4.35, ..ValueLimits::POSITIVE };
        near(three.largest_possible(limits), 4.35);
        assert!(three.quantile_within(0.99, limits).unwrap() <= 4.35);
    }

    #[test]
    fn what_is_not_known_is_no_limit() {
        // Values below zero may balance any other.
        let mut signed = of(&[4.2]);
        if let Some(native) = &mut signed.native {
            native.zero_count = 3;
        }
        signed.counts[0] += 3;
        near(signed.quantile_within(1.0, ValueLimits::NONE), signed.quantile(1.0).unwrap());
        near(signed.largest_possible(ValueLimits::NONE), f64::exp2(2.5));
        near(signed.largest_possible(ValueLimits::POSITIVE), 4.2);
        // A sum from another moment than the counts.
        let torn = HistogramValue { sum: 0.1, ..of(&[4.2, 4.3]) };
        near(torn.quantile_within(0.99, ValueLimits::POSITIVE), 4.0);
        let torn = HistogramValue { sum: 99.0, ..of(&[4.2, 4.3]) };
        near(torn.quantile_within(0.99, ValueLimits::POSITIVE), f64::exp2(2.5));
        let none = HistogramValue { counts: vec![0, 0], ..of(&[]) };
        assert_eq!(
            (none.quantile_within(0.5, ValueLimits::NONE), none.largest_possible(ValueLimits::NONE)),
            (None, None)
        );
    }

    /// For many sets of values: the limits are possible, and never exclude the true value.
    #[test]
    fn true_values_are_within() {
        let mut state = 7_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            f64::from(u32::try_from(state >> 33).unwrap()) / f64::from(1_u32 << 31)
        };
        for number in 1..200_usize {
            let mut values: Vec<f64> =
                (0..=number % 23).map(|_| f64::exp2(random() * 9.0 - 4.0) + 1e-3).collect();
            values.sort_by(f64::total_cmp);
            let histogram = of(&values);
            let most = values[values.len() - 1] * (1.0 + random());
            for limits in [ValueLimits::POSITIVE, ValueLimits { most, ..ValueLimits::POSITIVE }] {
                let mut last = 0.0;
                for (place, value) in (1_u32..).zip(&values) {
                    let (low, high) = histogram.possible(place.into(), limits).unwrap();
                    let slack = 1e-9 * value;
                    assert!(
                        low <= value + slack && *value <= high + slack,
                        "{values:?}: {low} {value} {high}"
                    );
                    let q = f64::from(place) / f64::from(u32::try_from(values.len()).unwrap());
                    let quantile = histogram.quantile_within(q, limits).unwrap();
                    assert!(quantile >= last - slack, "{values:?}: {quantile} after {last}");
                    last = quantile;
                }
                assert!(last <= most.max(512.0) && last <= histogram.sum * (1.0 + 1e-9));
            }
        }
    }
}
