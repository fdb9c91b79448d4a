//! Series as a scrape has them and as a push has them, in one form. What is read from OTLP is what Prometheus' translation
//! makes of it: a bucket of index `i` is Prometheus' `i + 1`.

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{KeyValue, any_value},
    metrics::v1::{metric::Data, number_data_point},
};
use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model as proto;
use prost::Message;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

/// Name and labels; one without text is none.
pub(crate) type Key = (String, BTreeMap<String, String>);

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Series {
    Counter(f64),
    Gauge(f64),
    /// A histogram: `native` where the form has native buckets, `classic` where it has listed ones.
    Histogram {
        count: u64,
        sum: f64,
        native: Option<Native>,
        classic: Option<Classic>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Native {
    pub(crate) schema: i32,
    pub(crate) zero_threshold: f64,
    pub(crate) zero_count: u64,
    /// By Prometheus' index.
    pub(crate) buckets: BTreeMap<i32, u64>,
}

/// Bounds and what is at or below each, `+Inf` left out.
pub(crate) type Classic = Vec<(f64, u64)>;

pub(crate) type All = BTreeMap<Key, Series>;

/// Whether a family is about the server, which only scrapes have.
pub(crate) fn is_of_server(name: &str) -> bool {
    name.starts_with("tapster_web_")
}

/// A scrape in protobuf, without what is about the server.
pub(crate) fn scrape(address: SocketAddr) -> All {
    let accept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    let response = crate::support::http::get(address, "/metrics", Some(accept)).unwrap();
    assert_eq!(response.status, 200, "{}", response.head);
    let mut body = response.body.as_slice();
    let mut all = All::new();
    while !body.is_empty() {
        let family = proto::MetricFamily::decode_length_delimited(&mut body).unwrap();
        if is_of_server(&family.name) {
            continue;
        }
        for metric in &family.metric {
            let labels = metric.label.iter().map(|label| (label.name.clone(), label.value.clone()));
            let key = (family.name.clone(), labels.filter(|(_, value)| !value.is_empty()).collect());
            let series = match (&metric.counter, &metric.gauge, &metric.histogram) {
                (Some(counter), None, None) => Series::Counter(counter.value),
                (None, Some(gauge), None) => Series::Gauge(gauge.value),
                (None, None, Some(histogram)) => of_scrape(histogram),
                _ => panic!("{metric:?}"),
            };
            assert!(all.insert(key, series).is_none(), "a series twice: {metric:?}");
        }
    }
    all
}

fn of_scrape(histogram: &proto::Histogram) -> Series {
    let mut buckets = BTreeMap::new();
    let (mut index, mut count, mut deltas) = (0, 0, histogram.positive_delta.iter());
    for span in &histogram.positive_span {
        index += span.offset;
        for _ in 0..span.length {
            count += deltas.next().expect("a delta for each bucket");
            if count > 0 {
                buckets.insert(index, u64::try_from(count).unwrap());
            }
            index += 1;
        }
    }
    // One without native buckets has no zero bucket either.
    let native = (histogram.zero_threshold > 0.0).then_some(Native {
        schema: histogram.schema,
        zero_threshold: histogram.zero_threshold,
        zero_count: histogram.zero_count,
        buckets,
    });
    let bounds = histogram.bucket.iter().filter(|bucket| bucket.upper_bound.is_finite());
    let classic = bounds.map(|bucket| (bucket.upper_bound, bucket.cumulative_count)).collect();
    Series::Histogram {
        count: histogram.sample_count,
        sum: histogram.sample_sum,
        native,
        classic: Some(classic),
    }
}

/// Attributes of text.
pub(crate) fn pushed_labels(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let pair = |attribute: &KeyValue| {
        let value = attribute.value.as_ref().and_then(|value| value.value.as_ref());
        let Some(any_value::Value::StringValue(text)) = value else { panic!("{attribute:?}") };
        (attribute.key.clone(), text.clone())
    };
    attributes.iter().map(pair).collect()
}

/// The series of requests, which together are one push.
pub(crate) fn pushed<'a>(requests: impl IntoIterator<Item = &'a ExportMetricsServiceRequest>) -> All {
    let mut all = All::new();
    for request in requests {
        let scopes = request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
        for metric in scopes.flat_map(|scope| &scope.metrics) {
            let mut add = |attributes: &[KeyValue], series: Series| {
                let key = (metric.name.clone(), pushed_labels(attributes));
                assert!(all.insert(key, series).is_none(), "a series twice: {} {attributes:?}", metric.name);
            };
            match metric.data.as_ref().expect("a metric has data") {
                Data::Sum(sum) => {
                    assert!(sum.is_monotonic);
                    sum.data_points
                        .iter()
                        .for_each(|point| add(&point.attributes, Series::Counter(number(point))));
                }
                Data::Gauge(gauge) => {
                    gauge
                        .data_points
                        .iter()
                        .for_each(|point| add(&point.attributes, Series::Gauge(number(point))));
                }
                Data::ExponentialHistogram(histogram) => {
                    for point in &histogram.data_points {
                        let positive = point.positive.clone().unwrap_or_default();
                        let filled = (positive.offset + 1..).zip(positive.bucket_counts);
                        let native = Native {
                            schema: point.scale,
                            zero_threshold: point.zero_threshold,
                            zero_count: point.zero_count,
                            buckets: filled.filter(|(_, count)| *count > 0).collect(),
                        };
                        let (count, sum) = (point.count, point.sum.expect("a sum"));
                        let series = Series::Histogram { count, sum, native: Some(native), classic: None };
                        add(&point.attributes, series);
                    }
                }
                Data::Histogram(histogram) => {
                    for point in &histogram.data_points {
                        let mut below = 0;
                        let cumulative = point.bucket_counts.iter().map(|count| {
                            below += count;
                            below
                        });
                        let classic = point.explicit_bounds.iter().copied().zip(cumulative).collect();
                        let (count, sum) = (point.count, point.sum.expect("a sum"));
                        let series = Series::Histogram { count, sum, native: None, classic: Some(classic) };
                        add(&point.attributes, series);
                    }
                }
                Data::Summary(summary) => panic!("{summary:?}"),
            }
        }
    }
    all
}

fn number(point: &opentelemetry_proto::tonic::metrics::v1::NumberDataPoint) -> f64 {
    match point.value {
        Some(number_data_point::Value::AsInt(number)) => number as f64,
        Some(number_data_point::Value::AsDouble(number)) => number,
        None => panic!("a point without a value"),
    }
}

/// Starts of the points of a counter.
pub(crate) fn starts<'a>(
    requests: impl IntoIterator<Item = &'a ExportMetricsServiceRequest>,
    name: &str,
) -> BTreeSet<u64> {
    let mut starts = BTreeSet::new();
    for request in requests {
        let scopes = request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
        for metric in scopes.flat_map(|scope| &scope.metrics).filter(|metric| metric.name == name) {
            if let Some(Data::Sum(sum)) = &metric.data {
                starts.extend(sum.data_points.iter().map(|point| point.start_time_unix_nano));
            }
        }
    }
    starts
}

/// When the first point of a request was read, nanoseconds since 1970.
pub(crate) fn time(request: &ExportMetricsServiceRequest) -> u64 {
    let scopes = request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
    let times = scopes.flat_map(|scope| &scope.metrics).filter_map(|metric| match metric.data.as_ref()? {
        Data::Sum(sum) => sum.data_points.first().map(|point| point.time_unix_nano),
        Data::Gauge(gauge) => gauge.data_points.first().map(|point| point.time_unix_nano),
        _ => None,
    });
    times.min().expect("a request has a counter or a gauge")
}

/// Gauges of the exporter itself, which are others at each reading.
fn moves(name: &str) -> bool {
    name.starts_with("process_")
        || name.starts_with("tapster_otlp_last_")
        || name == "tapster_scrape_duration_seconds"
        || name == "tapster_source_age_seconds"
        || name == "tapster_probe_memory_bytes"
}

/// What was compared.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Compared {
    pub(crate) series: usize,
    /// Those whose value was the same before and after, so that it could only be this one.
    pub(crate) at_rest: usize,
    /// Native buckets of those.
    pub(crate) buckets: usize,
}

/// Compares a push with a scrape before it and one after it. Every series is in all three, with the same labels; a count is
/// between those of the scrapes, which is the very count where they are the same.
pub(crate) fn compare(before: &All, pushed: &All, after: &All) -> Compared {
    let names = |all: &All| all.keys().cloned().collect::<BTreeSet<_>>();
    let missing: Vec<_> = names(before).difference(&names(pushed)).cloned().collect();
    assert!(missing.is_empty(), "not pushed: {missing:?}");
    let more: Vec<_> = names(pushed).difference(&names(after)).cloned().collect();
    assert!(more.is_empty(), "pushed, but not scraped: {more:?}");
    let mut compared = Compared::default();
    let rest = Series::Counter(0.0);
    for (key, found) in pushed {
        compared.series += 1;
        let high = &after[key];
        let low = before.get(key).unwrap_or(&rest);
        let is_at_rest = low == high;
        compared.at_rest += usize::from(is_at_rest);
        let between = |low: f64, found: f64, high: f64| {
            assert!(low <= found && found <= high, "{key:?}: {found}, not {low} to {high}");
        };
        match (low, found, high) {
            (_, Series::Gauge(_), Series::Gauge(_)) if moves(&key.0) => {}
            (Series::Gauge(low), Series::Gauge(found), Series::Gauge(high)) => {
                let is_one_of = [low, high].iter().any(|known| known.to_bits() == found.to_bits());
                assert!(is_one_of || low.to_bits() != high.to_bits(), "{key:?}: {found}, not {low}");
            }
            (_, Series::Gauge(_), Series::Gauge(_)) => {}
            (low, Series::Counter(found), Series::Counter(high)) => {
                let low = if let Series::Counter(low) = low { *low } else { 0.0 };
                between(low, *found, *high);
            }
            (low, found @ Series::Histogram { .. }, high @ Series::Histogram { .. }) => {
                compared.buckets += histogram(key, low, found, high, is_at_rest);
            }
            other => panic!("{key:?}: kinds differ: {other:?}"),
        }
    }
    compared
}

fn histogram(key: &Key, low: &Series, found: &Series, high: &Series, is_at_rest: bool) -> usize {
    let (
        Series::Histogram { count, sum, native, classic },
        Series::Histogram { count: most, sum: high_sum, native: high_native, classic: high_classic },
    ) = (found, high)
    else {
        unreachable!("both are histograms");
    };
    let least = if let Series::Histogram { count, .. } = low { *count } else { 0 };
    assert!(least <= *count && count <= most, "{key:?}: {count}, not {least} to {most}");
    let mut buckets = 0;
    if let Some(native) = native {
        let expected = high_native.as_ref().unwrap_or_else(|| panic!("{key:?} has no native buckets"));
        assert_eq!(
            (native.schema, native.zero_threshold.to_bits()),
            (expected.schema, expected.zero_threshold.to_bits()),
            "{key:?}"
        );
        assert_eq!(native.zero_count + native.buckets.values().sum::<u64>(), *count, "{key:?}");
        if is_at_rest {
            assert_eq!(native, expected, "{key:?}");
            buckets = native.buckets.len() + 1;
        }
        for (index, count) in &native.buckets {
            let most = expected.buckets.get(index).copied().unwrap_or_default();
            assert!(*count <= most, "{key:?}: bucket {index} has {count} of {most}");
        }
    } else {
        assert!(high_native.is_none(), "{key:?} lacks its native buckets");
        let (found, expected) = (classic.as_ref().unwrap(), high_classic.as_ref().unwrap());
        if is_at_rest {
            assert_eq!(found, expected, "{key:?}");
        }
        assert_eq!(found.len(), expected.len(), "{key:?}");
    }
    if is_at_rest {
        assert_eq!(sum.to_bits(), high_sum.to_bits(), "{key:?}: {sum}, not {high_sum}");
    }
    buckets
}

/// What a receiver of differences has added up of requests.
pub(crate) fn summed<'a>(requests: impl IntoIterator<Item = &'a ExportMetricsServiceRequest>) -> All {
    let mut sums = All::new();
    for request in requests {
        for (key, series) in pushed([request]) {
            let Some(sum) = sums.get_mut(&key) else {
                sums.insert(key, series);
                continue;
            };
            match (sum, series) {
                (Series::Counter(sum), Series::Counter(more)) => *sum += more,
                (Series::Gauge(last), Series::Gauge(now)) => *last = now,
                (
                    Series::Histogram { count, sum, native, classic },
                    Series::Histogram {
                        count: more,
                        sum: more_sum,
                        native: more_native,
                        classic: more_classic,
                    },
                ) => {
                    *count += more;
                    *sum += more_sum;
                    if let (Some(native), Some(more)) = (native, more_native) {
                        native.zero_count += more.zero_count;
                        for (index, count) in more.buckets {
                            *native.buckets.entry(index).or_default() += count;
                        }
                    }
                    for ((_, count), (_, more)) in
                        classic.iter_mut().flatten().zip(more_classic.iter().flatten())
                    {
                        *count += more;
                    }
                }
                other => panic!("{key:?} changes its kind: {other:?}"),
            }
        }
    }
    sums
}

/// Compares sums of differences with scrapes before and after. Sums of fractions differ in their last digits, and a series
/// that never counted anything may be missing.
pub(crate) fn compare_sums(low: &All, sums: &All, high: &All) -> Compared {
    let mut compared = Compared::default();
    let near = |found: f64, expected: f64| (found - expected).abs() <= expected.abs() * 1e-9 + 1e-12;
    for (key, high) in high {
        // The exporter's own go on while it is scraped.
        if matches!(high, Series::Gauge(_)) {
            continue;
        }
        let Some(found) = sums.get(key) else {
            // It may have begun after the last push.
            assert!(!low.contains_key(key), "{key:?} was never pushed");
            continue;
        };
        compared.series += 1;
        let is_at_rest = low.get(key) == Some(high);
        compared.at_rest += usize::from(is_at_rest);
        match (low.get(key), found, high) {
            (low, Series::Counter(found), Series::Counter(high)) => {
                let low = if let Some(Series::Counter(low)) = low { *low } else { 0.0 };
                let is_between = *found >= low - low * 1e-9 - 1e-12 && *found <= high + high * 1e-9 + 1e-12;
                assert!(is_between, "{key:?}: {found}, not {low} to {high}");
            }
            (
                _,
                Series::Histogram { count, sum, native, classic },
                Series::Histogram { count: most, sum: whole, native: expected, classic: bounds },
            ) => {
                assert!(count <= most, "{key:?}: {count} of {most}");
                if is_at_rest {
                    assert_eq!(count, most, "{key:?}");
                    assert!(near(*sum, *whole), "{key:?}: {sum}, not {whole}");
                    match native {
                        Some(native) => {
                            assert_eq!(Some(native), expected.as_ref(), "{key:?}");
                            compared.buckets += native.buckets.len() + 1;
                        }
                        None => assert_eq!(classic, bounds, "{key:?}"),
                    }
                }
            }
            other => panic!("{key:?}: kinds differ: {other:?}"),
        }
    }
    compared
}
