//! The wire form of native histogram buckets: spans of consecutive buckets and the difference of each count to
//! the one before it.

use crate::family::Native;

/// Empty buckets that are written out rather than skipped: a new span costs about as much as two zero deltas.
const MAX_FILLED_GAP: i64 = 2;

/// Positive buckets in the form that Prometheus reads.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Spans {
    /// Distance to the end of the previous span (to bucket 0 for the first one) and number of buckets.
    pub(super) spans: Vec<(i32, u32)>,
    /// Count of each bucket less the count of the one before it.
    pub(super) deltas: Vec<i64>,
}

impl Spans {
    /// Spans of `native`, never without any: to Prometheus a histogram that has neither spans nor a zero bucket
    /// is a classic one, so an empty one is marked by a span of no buckets.
    pub(super) fn of(native: &Native) -> Self {
        let mut spans = Self::from_buckets(&native.buckets);
        if spans.spans.is_empty() {
            spans.spans.push((0, 0));
        }
        spans
    }

    /// Spans of buckets ascending by index.
    fn from_buckets(buckets: &[(i32, u64)]) -> Self {
        let mut result = Self { spans: Vec::new(), deltas: Vec::with_capacity(buckets.len()) };
        let mut next = 0_i64;
        let mut previous = 0_i64;
        for &(index, count) in buckets {
            let gap = i64::from(index) - next;
            match result.spans.last_mut() {
                Some((_, length)) if (0..=MAX_FILLED_GAP).contains(&gap) => {
                    for _ in 0..gap {
                        result.deltas.push(-previous);
                        previous = 0;
                        *length += 1;
                    }
                    *length += 1;
                }
                Some(_) | None => {
                    let offset = i32::try_from(gap).unwrap_or(i32::MAX);
                    result.spans.push((offset, 1));
                }
            }
            // The format's deltas are signed; no counter of events comes near the limit.
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            result.deltas.push(count - previous);
            previous = count;
            next = i64::from(index) + 1;
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The buckets that Prometheus derives from spans, without empty ones.
    fn buckets(spans: &Spans) -> Vec<(i32, u64)> {
        let (mut index, mut count, mut deltas) = (0, 0_i64, spans.deltas.iter());
        let mut buckets = Vec::new();
        for &(offset, length) in &spans.spans {
            index += offset;
            for _ in 0..length {
                count += deltas.next().unwrap();
                if count != 0 {
                    buckets.push((index, u64::try_from(count).unwrap()));
                }
                index += 1;
            }
        }
        assert_eq!(deltas.next(), None);
        buckets
    }

    #[test]
    fn spans_and_deltas() {
        type Case<'a> = (&'a [(i32, u64)], &'a [(i32, u32)], &'a [i64]);
        let table: &[Case] = &[
            (&[], &[], &[]),
            (&[(0, 5)], &[(0, 1)], &[5]),
            (&[(-3, 1), (-2, 4), (-1, 2)], &[(-3, 3)], &[1, 3, -2]),
            // Gaps of one and two are filled, three start a new span.
            (&[(1, 2), (3, 2)], &[(1, 3)], &[2, -2, 2]),
            (&[(1, 2), (4, 3)], &[(1, 4)], &[2, -2, 0, 3]),
            (&[(1, 2), (5, 3)], &[(1, 1), (3, 1)], &[2, 1]),
            (&[(-40, 1), (60, u64::MAX)], &[(-40, 1), (99, 1)], &[1, i64::MAX - 1]),
        ];
        for (input, spans, deltas) in table {
            let found = Spans::from_buckets(input);
            assert_eq!((found.spans.as_slice(), found.deltas.as_slice()), (*spans, *deltas), "{input:?}");
        }
    }

    #[test]
    fn spans_say_what_the_buckets_said() {
        let mut state = 1_u64;
        for _ in 0..200 {
            let mut input = Vec::new();
            let mut index = -50;
            while index < 50 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                input.push((index, 1 + (state >> 50)));
                index += 1 + i32::try_from(state >> 61).unwrap();
            }
            assert_eq!(buckets(&Spans::from_buckets(&input)), input);
        }
    }

    #[test]
    fn an_empty_native_histogram_has_an_empty_span() {
        let native =
            Native { schema: 3, zero_threshold: 0.0, highest: 128.0, zero_count: 0, buckets: Vec::new() };
        assert_eq!(Spans::of(&native), Spans { spans: vec![(0, 0)], deltas: Vec::new() });
    }
}
