//! Families → metrics of OTLP, a point for each series.
//!
//! | family | metric |
//! |---|---|
//! | counter | monotonic sum; of integers unless the unit is a time |
//! | gauge, sliding maximum, `_info` | gauge |
//! | histogram with native buckets | exponential histogram: scale = schema, the same zero threshold |
//! | other histogram, or with `explicit_bucket_histogram` | histogram with the classic bounds |

use super::{
    name,
    setting::{AttributeNames, Histograms, PushShape},
    unix_ns,
};
use crate::family::{FamilyKind, HistogramValue, MetricFamily, Native, SampleValue};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge,
        Histogram as ExplicitHistogram, HistogramDataPoint, Metric, NumberDataPoint, Sum,
        exponential_histogram_data_point::Buckets, metric::Data, number_data_point,
    },
};
use prost::Message;
use std::time::SystemTime;

/// The times of a point.
#[derive(Clone, Copy, Debug)]
pub(super) struct PointTimes {
    /// When counting of the value began; `None` if unknown.
    pub(super) start: Option<SystemTime>,
    /// When the value was read.
    pub(super) time: SystemTime,
}

impl PointTimes {
    /// Start and time. If the clock was set back, a point must not end before it begins: then the start is unknown.
    fn unix_ns(self) -> (u64, u64) {
        let time = unix_ns(self.time);
        (self.start.map(unix_ns).filter(|start| *start <= time).unwrap_or_default(), time)
    }
}

/// A point of any kind of metric.
#[derive(Debug)]
pub(super) enum Point {
    Number(NumberDataPoint),
    Explicit(HistogramDataPoint),
    Exponential(ExponentialHistogramDataPoint),
}

impl Point {
    /// Its bytes in a request, tag and length included.
    pub(super) fn size(&self) -> usize {
        let size = match self {
            Self::Number(point) => point.encoded_len(),
            Self::Explicit(point) => point.encoded_len(),
            Self::Exponential(point) => point.encoded_len(),
        };
        // A tag below 16, and a length of at most four bytes below 256 MiB.
        size + 5
    }
}

/// The attributes of a series. Prometheus treats an empty label as none, so it becomes no attribute.
fn attributes(family: &MetricFamily, labels: &[String], names: AttributeNames) -> Vec<KeyValue> {
    let pairs = family.label_names.iter().zip(labels).filter(|(_, value)| !value.is_empty());
    pairs.map(|(label, value)| text(name::attribute(label, names), value)).collect()
}

/// An attribute with a text.
pub(super) fn text(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) }),
        ..KeyValue::default()
    }
}

/// Makes a point of one series.
pub(super) fn point(
    family: &MetricFamily,
    labels: &[String],
    value: &SampleValue,
    span: PointTimes,
    shape: PushShape,
) -> Point {
    let attributes = attributes(family, labels, shape.attributes);
    let (start_time_unix_nano, time_unix_nano) = span.unix_ns();
    match value {
        SampleValue::Number(value) => Point::Number(NumberDataPoint {
            attributes,
            start_time_unix_nano: if family.kind == FamilyKind::Gauge { 0 } else { start_time_unix_nano },
            time_unix_nano,
            value: Some(number(family, *value)),
            ..NumberDataPoint::default()
        }),
        SampleValue::Histogram(HistogramValue { sum, native: Some(native), .. })
            if shape.histograms == Histograms::Exponential =>
        {
            let inside: u64 = native.buckets.iter().map(|(_, count)| count).sum();
            Point::Exponential(ExponentialHistogramDataPoint {
                attributes,
                start_time_unix_nano,
                time_unix_nano,
                count: native.zero_count + inside,
                sum: Some(*sum),
                scale: native.schema,
                zero_count: native.zero_count,
                zero_threshold: native.zero_threshold,
                positive: Some(buckets(native)),
                ..ExponentialHistogramDataPoint::default()
            })
        }
        SampleValue::Histogram(histogram) => Point::Explicit(HistogramDataPoint {
            attributes,
            start_time_unix_nano,
            time_unix_nano,
            count: histogram.count(),
            sum: Some(histogram.sum),
            bucket_counts: histogram.counts.clone(),
            explicit_bounds: histogram.bounds.to_vec(),
            ..HistogramDataPoint::default()
        }),
    }
}

/// Counts of events and bytes are integers; times are not, and a gauge may be any number.
fn number(family: &MetricFamily, value: f64) -> number_data_point::Value {
    const TOO_LARGE: f64 = 9_223_372_036_854_775_808.0;
    if name::is_of_things(family) && value.fract() == 0.0 && value.abs() < TOO_LARGE {
        #[expect(clippy::cast_possible_truncation, reason = "a whole number that an i64 holds")]
        return number_data_point::Value::AsInt(value as i64);
    }
    number_data_point::Value::AsDouble(value)
}

/// The filled buckets of a native histogram, with zeros for gaps. A bucket of index `i` covers `(base^i, base^(i+1)]` in OTLP and
/// `(base^(i-1), base^i]` in Prometheus. Values above the top bound are in the one bucket without an upper end in both:
/// see `docs/adr/0020-otlp.md`.
fn buckets(native: &Native) -> Buckets {
    let (Some((first, _)), Some((last, _))) = (native.buckets.first(), native.buckets.last()) else {
        return Buckets::default();
    };
    let place = |index: i32| usize::try_from(i64::from(index) - i64::from(*first)).unwrap_or_default();
    let mut bucket_counts = vec![0; place(*last) + 1];
    for (index, count) in &native.buckets {
        bucket_counts[place(*index)] = *count;
    }
    Buckets { offset: first - 1, bucket_counts }
}

/// The metric that points of a family belong to.
pub(super) fn metric(family: &MetricFamily, is_delta: bool, points: Vec<Point>) -> Metric {
    let temporality =
        if is_delta { AggregationTemporality::Delta } else { AggregationTemporality::Cumulative };
    let (mut numbers, mut explicit, mut exponential) = (Vec::new(), Vec::new(), Vec::new());
    for point in points {
        match point {
            Point::Number(point) => numbers.push(point),
            Point::Explicit(point) => explicit.push(point),
            Point::Exponential(point) => exponential.push(point),
        }
    }
    let data = match family.kind {
        FamilyKind::Counter => Data::Sum(Sum {
            data_points: numbers,
            aggregation_temporality: temporality.into(),
            is_monotonic: true,
        }),
        FamilyKind::Gauge => Data::Gauge(Gauge { data_points: numbers }),
        FamilyKind::Histogram if exponential.is_empty() => Data::Histogram(ExplicitHistogram {
            data_points: explicit,
            aggregation_temporality: temporality.into(),
        }),
        FamilyKind::Histogram => Data::ExponentialHistogram(ExponentialHistogram {
            data_points: exponential,
            aggregation_temporality: temporality.into(),
        }),
    };
    Metric {
        name: family.name.to_string(),
        description: family.help.to_string(),
        unit: name::unit(family),
        data: Some(data),
        ..Metric::default()
    }
}
