//! Families against points: what a receiver can work out from them is what the families say.
#![allow(clippy::cast_precision_loss, reason = "samples are f64, as Prometheus keeps them")]

use super::{
    delta::AcceptedStates,
    request::{PushRequest, RequestEncoder},
    setting::{AttributeNames, Histograms, PushShape, Temporality},
    unix_ns,
};
use crate::family::{FamilyKind, HistogramValue, MetricFamily, Native, Sample, SampleValue};
use opentelemetry_proto::tonic::{
    common::v1::any_value,
    metrics::v1::{
        AggregationTemporality, ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint,
        metric::Data, number_data_point,
    },
    resource::v1::Resource,
};
use prost::Message;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tapster_ebpf::histogram::native_bound;

const SHAPE: PushShape = PushShape {
    interval: Duration::from_secs(1),
    temporality: Temporality::Cumulative,
    histograms: Histograms::Exponential,
    attributes: AttributeNames::Prometheus,
};

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn encoder(shape: PushShape) -> RequestEncoder {
    RequestEncoder::new(Resource::default(), shape)
}

fn requests(
    encoder: &RequestEncoder,
    families: &[MetricFamily],
    time: SystemTime,
    taken: &mut AcceptedStates,
) -> Vec<PushRequest> {
    let mut requests = Vec::new();
    encoder.requests(families, time, taken, &mut |request| requests.push(request));
    requests
}

fn metrics(requests: &[PushRequest]) -> Vec<Metric> {
    let resources = requests.iter().flat_map(|request| &request.message.resource_metrics);
    resources.flat_map(|resource| &resource.scope_metrics).flat_map(|scope| scope.metrics.clone()).collect()
}

fn one(family: &MetricFamily, shape: PushShape) -> Metric {
    let requests =
        requests(&encoder(shape), std::slice::from_ref(family), at(100), &mut AcceptedStates::default());
    let [metric] = &metrics(&requests)[..] else { panic!("{requests:?}") };
    metric.clone()
}

fn labels(texts: &[&str]) -> Arc<[String]> {
    texts.iter().map(ToString::to_string).collect()
}

fn histogram(zero_count: u64, buckets: &[(i32, u64)], sum: f64) -> HistogramValue {
    let inside: u64 = buckets.iter().map(|(_, count)| count).sum();
    let native = Native { schema: 3, zero_threshold: 0.5, zero_count, buckets: buckets.to_vec() };
    HistogramValue { sum, bounds: [128.0].into(), counts: vec![zero_count + inside, 0], native: Some(native) }
}

fn family(name: &str, kind: FamilyKind, samples: Vec<(&[&str], SampleValue)>) -> MetricFamily {
    let names = &["device", "operation"][..samples.first().map_or(0, |(labels, _)| labels.len())];
    let mut family = MetricFamily::new(name, "What it is.", kind, names).since(at(10));
    family.samples =
        samples.into_iter().map(|(texts, value)| Sample { labels: labels(texts), value }).collect();
    family
}

fn numbers(metric: &Metric) -> &[NumberDataPoint] {
    match metric.data.as_ref().unwrap() {
        Data::Sum(sum) => &sum.data_points,
        Data::Gauge(gauge) => &gauge.data_points,
        other => panic!("{other:?}"),
    }
}

fn exponential(metric: &Metric) -> &[ExponentialHistogramDataPoint] {
    match metric.data.as_ref().unwrap() {
        Data::ExponentialHistogram(histogram) => &histogram.data_points,
        other => panic!("{other:?}"),
    }
}

fn explicit(metric: &Metric) -> &[HistogramDataPoint] {
    match metric.data.as_ref().unwrap() {
        Data::Histogram(histogram) => &histogram.data_points,
        other => panic!("{other:?}"),
    }
}

fn attributes(point: &NumberDataPoint) -> Vec<(&str, &str)> {
    let text = |attribute: &'_ opentelemetry_proto::tonic::common::v1::KeyValue| match &attribute.value {
        Some(value) => match &value.value {
            Some(any_value::Value::StringValue(text)) => text.clone(),
            other => panic!("{other:?}"),
        },
        None => panic!("{attribute:?}"),
    };
    point
        .attributes
        .iter()
        .map(|attribute| (attribute.key.as_str(), &*Box::leak(text(attribute).into_boxed_str())))
        .collect()
}

#[test]
fn counters_gauges_and_their_labels() {
    let bytes = family(
        "io_bytes_total",
        FamilyKind::Counter,
        vec![(&["sda", "read"], SampleValue::Number(7.0)), (&["sdb", ""], SampleValue::Number(0.0))],
    );
    let metric = one(&bytes, SHAPE);
    assert_eq!((&*metric.name, &*metric.unit, &*metric.description), ("io_bytes_total", "By", "What it is."));
    let Some(Data::Sum(sum)) = &metric.data else { panic!("{metric:?}") };
    assert!(sum.is_monotonic);
    assert_eq!(sum.aggregation_temporality(), AggregationTemporality::Cumulative);
    let [first, second] = &sum.data_points[..] else { panic!("{sum:?}") };
    assert_eq!(first.value, Some(number_data_point::Value::AsInt(7)));
    assert_eq!((first.start_time_unix_nano, first.time_unix_nano), (unix_ns(at(10)), unix_ns(at(100))));
    assert_eq!(attributes(first), [("device", "sda"), ("operation", "read")]);
    assert_eq!(attributes(second), [("device", "sdb")], "a label without text is none");
    let semconv = one(&bytes, PushShape { attributes: AttributeNames::Semconv, ..SHAPE });
    assert_eq!(attributes(&numbers(&semconv)[0]), [("system.device", "sda"), ("operation", "read")]);
    // Times are no integers, even where one happens to be; what an i64 does not hold is none either.
    let of = |name, value| {
        one(&family(name, FamilyKind::Counter, vec![(&[], SampleValue::Number(value))]), SHAPE).data.and_then(
            |data| {
                let Data::Sum(sum) = data else { panic!("{data:?}") };
                sum.data_points[0].value
            },
        )
    };
    assert_eq!(of("run_seconds_total", 2.0), Some(number_data_point::Value::AsDouble(2.0)));
    assert_eq!(of("runs_total", 9.3e18), Some(number_data_point::Value::AsDouble(9.3e18)));
    assert_eq!(
        of("runs_total", 9_007_199_254_740_993.0),
        Some(number_data_point::Value::AsInt(9_007_199_254_740_992))
    );
    let info = one(&family("build_info", FamilyKind::Gauge, vec![(&[], SampleValue::Number(1.0))]), SHAPE);
    let [point] = numbers(&info) else { panic!("{info:?}") };
    assert!(matches!(info.data, Some(Data::Gauge(_))));
    assert_eq!((point.start_time_unix_nano, point.value), (0, Some(number_data_point::Value::AsDouble(1.0))));
}

/// The bounds of each bucket as the data model of OpenTelemetry has them are those that the family says.
#[test]
fn exponential_buckets_have_the_same_bounds() {
    for schema in 0..=4_i32 {
        let top = (1024 << schema) + 1;
        let buckets = [(-30, 2), (-29, 0), (0, 1), (1, 6), (17, 3), (top, 5)];
        let inside: u64 = buckets.iter().map(|(_, count)| count).sum();
        let native =
            Native { schema, zero_threshold: 1.0 / 1024.0, zero_count: 4, buckets: buckets.to_vec() };
        let value =
            HistogramValue { sum: 3.5, bounds: [1.0].into(), counts: vec![4, inside], native: Some(native) };
        let family =
            family("io_duration_seconds", FamilyKind::Histogram, vec![(&[], SampleValue::Histogram(value))]);
        let metric = one(&family, SHAPE);
        let [point] = exponential(&metric) else { panic!("{metric:?}") };
        assert_eq!(
            (point.scale, point.zero_count, point.count, point.sum),
            (schema, 4, inside + 4, Some(3.5))
        );
        assert_eq!(point.zero_threshold.to_bits(), (1.0_f64 / 1024.0).to_bits());
        let positive = point.positive.as_ref().unwrap();
        // (base^index, base^(index+1)], by the specification.
        let bound = |index: i32| f64::exp2(f64::from(index) / f64::from(1 << schema));
        let found: Vec<(f64, f64, u64)> = (positive.offset..)
            .zip(&positive.bucket_counts)
            .filter(|(_, count)| **count > 0)
            .map(|(index, count)| (bound(index), bound(index + 1), *count))
            .collect();
        let scheme = u8::try_from(schema).unwrap();
        let expected = buckets
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(index, count)| (native_bound(scheme, index - 1), native_bound(scheme, *index), *count));
        for ((lower, upper, count), (low, high, expected)) in found.iter().zip(expected) {
            let near = |a: f64, b: f64| a.to_bits() == b.to_bits() || (a - b).abs() <= b * 1e-12;
            assert!(
                near(*lower, low) && near(*upper, high),
                "schema {schema}: {lower}..{upper}, not {low}..{high}"
            );
            assert_eq!(*count, expected);
        }
        assert_eq!(found.len(), 5);
        assert_eq!(found.last().map(|(_, upper, count)| (*upper, *count)), Some((f64::INFINITY, 5)));
    }
}

#[test]
fn explicit_buckets_where_there_are_no_others_or_they_are_asked_for() {
    let listed = HistogramValue { sum: 9.0, bounds: [1.0, 2.0].into(), counts: vec![1, 0, 4], native: None };
    for (value, shape, bounds, counts) in [
        (listed, SHAPE, vec![1.0, 2.0], vec![1, 0, 4]),
        (
            histogram(2, &[(1, 3)], 9.0),
            PushShape { histograms: Histograms::Explicit, ..SHAPE },
            vec![128.0],
            vec![5, 0],
        ),
    ] {
        let count = value.count();
        let metric =
            one(&family("x", FamilyKind::Histogram, vec![(&[], SampleValue::Histogram(value))]), shape);
        let [point] = explicit(&metric) else { panic!("{metric:?}") };
        assert_eq!((&point.explicit_bounds, &point.bucket_counts), (&bounds, &counts));
        assert_eq!((point.count, point.sum), (count, Some(9.0)));
    }
}

#[test]
fn a_clock_that_was_set_back_makes_no_point_end_before_it_begins() {
    let counter = family("x_total", FamilyKind::Counter, vec![(&[], SampleValue::Number(1.0))]);
    let requests = requests(&encoder(SHAPE), &[counter], at(3), &mut AcceptedStates::default());
    let metrics = metrics(&requests);
    let [point] = numbers(&metrics[0]) else { panic!("{metrics:?}") };
    assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (0, unix_ns(at(3))), "0 is unknown");
}

#[test]
fn a_series_that_came_back_began_when_it_ended() {
    let mut counter = family(
        "x_total",
        FamilyKind::Counter,
        vec![(&["pod", "a"], SampleValue::Number(1.0)), (&["~gone", "a"], SampleValue::Number(5.0))],
    );
    counter.origin.restarted = Arc::new(HashMap::from([(labels(&["pod", "a"]), at(50))]));
    let metric = one(&counter, SHAPE);
    let starts: Vec<u64> = numbers(&metric).iter().map(|point| point.start_time_unix_nano).collect();
    assert_eq!(starts, [unix_ns(at(50)), unix_ns(at(10))]);
}

/// Requests stay below their limit, and together have every point once.
#[test]
fn requests_are_cut_by_size() {
    let devices: Vec<String> = (0..500).map(|number| format!("device-{number:03}")).collect();
    let series = |value: fn(usize) -> SampleValue| -> Vec<Sample> {
        let sample = |(number, device): (usize, &String)| Sample {
            labels: labels(&[device, "read"]),
            value: value(number),
        };
        devices.iter().enumerate().map(sample).collect()
    };
    let mut families = vec![
        family("a_total", FamilyKind::Counter, vec![(&["", ""], SampleValue::Number(0.0))]),
        family("b_seconds", FamilyKind::Histogram, vec![(&["", ""], SampleValue::Number(0.0))]),
        family("c", FamilyKind::Gauge, vec![(&["", ""], SampleValue::Number(0.0))]),
    ];
    families[0].samples = series(|_| SampleValue::Number(1.0));
    families[1].samples = series(|number| {
        let index = i32::try_from(number).unwrap() % 40;
        SampleValue::Histogram(histogram(1, &[(index, 3), (index + 9, 5)], 1.0))
    });
    families[2].samples.clear();
    for limit in [600, 2000, 10_000, 1 << 20] {
        let requests =
            requests(&encoder(SHAPE).max_bytes(limit), &families, at(100), &mut AcceptedStates::default());
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for (number, request) in requests.iter().enumerate() {
            let size = request.message.encoded_len();
            assert!(size <= limit, "{limit}: request {number} has {size} bytes");
            if number + 1 < requests.len() {
                assert!(size + 400 > limit / 2, "{limit}: request {number} has only {size} bytes");
            }
            let mut points = 0;
            for metric in metrics(std::slice::from_ref(request)) {
                let count = match metric.data.as_ref().unwrap() {
                    Data::Sum(sum) => sum.data_points.len(),
                    Data::ExponentialHistogram(histogram) => histogram.data_points.len(),
                    other => panic!("{other:?}"),
                };
                assert!(count > 0, "a metric without points");
                *seen.entry(metric.name).or_default() += count;
                points += count;
            }
            assert_eq!(request.points, points as u64);
        }
        assert_eq!(seen, BTreeMap::from([("a_total".into(), 500), ("b_seconds".into(), 500)]), "{limit}");
    }
    // A point beyond all limits goes out by itself.
    let requests = requests(&encoder(SHAPE).max_bytes(1), &families, at(100), &mut AcceptedStates::default());
    assert_eq!(requests.len(), 1000);
}

/// What a receiver has added up of each series.
#[derive(Default)]
struct Sums(BTreeMap<Series, (f64, BTreeMap<i64, u64>)>);

/// Name and labels.
type Series = (String, Vec<String>);

impl Sums {
    fn add(&mut self, requests: &[PushRequest], ends: &mut BTreeMap<Series, u64>) {
        for metric in metrics(requests) {
            let mut add = |attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue],
                           start: u64,
                           end: u64,
                           number: f64,
                           buckets: BTreeMap<i64, u64>| {
                let texts = attributes.iter().map(|attribute| format!("{:?}", attribute.value)).collect();
                let key = (metric.name.clone(), texts);
                assert!(start <= end, "{key:?}");
                if let Some(before) = ends.insert(key.clone(), end) {
                    assert_eq!(start, before, "{key:?}: a gap or an overlap");
                }
                let sums = self.0.entry(key).or_default();
                sums.0 += number;
                for (index, count) in buckets {
                    *sums.1.entry(index).or_default() += count;
                }
            };
            match metric.data.as_ref().unwrap() {
                Data::Sum(sum) => {
                    assert_eq!(sum.aggregation_temporality(), AggregationTemporality::Delta);
                    for point in &sum.data_points {
                        let Some(number_data_point::Value::AsInt(number)) = point.value else {
                            panic!("{point:?}")
                        };
                        assert!(number >= 0, "{point:?}");
                        add(
                            &point.attributes,
                            point.start_time_unix_nano,
                            point.time_unix_nano,
                            number as f64,
                            BTreeMap::new(),
                        );
                    }
                }
                Data::ExponentialHistogram(histogram) => {
                    assert_eq!(histogram.aggregation_temporality(), AggregationTemporality::Delta);
                    for point in &histogram.data_points {
                        let positive = point.positive.as_ref().unwrap();
                        let mut buckets: BTreeMap<i64, u64> = (i64::from(positive.offset)..)
                            .zip(positive.bucket_counts.iter().copied())
                            .filter(|(_, count)| *count > 0)
                            .collect();
                        buckets.insert(i64::MIN, point.zero_count);
                        add(
                            &point.attributes,
                            point.start_time_unix_nano,
                            point.time_unix_nano,
                            point.sum.unwrap(),
                            buckets,
                        );
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

/// A generator that needs no crate: numbers that look random, the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Pushes are taken, or not, and cut; the sums of what was taken are the totals once all is taken.
#[test]
fn sums_of_differences_are_the_totals() {
    let shape = PushShape { temporality: Temporality::Delta, ..SHAPE };
    let mut random = Random(7);
    for round in 0..50_u64 {
        let encoder = encoder(shape).max_bytes(if round % 2 == 0 { 400 } else { 1 << 20 });
        let (mut taken, mut sums, mut ends) = (AcceptedStates::default(), Sums::default(), BTreeMap::new());
        let mut totals: Vec<(u64, u64, BTreeMap<i32, u64>, f64)> = vec![(0, 0, BTreeMap::new(), 0.0); 12];
        let names: Vec<String> = (0..totals.len()).map(|number| format!("sd{number}")).collect();
        let families = |totals: &[(u64, u64, BTreeMap<i32, u64>, f64)], shown: u64| {
            let shown = |number: &usize| shown >> number & 1 == 1;
            let counters = (0..totals.len())
                .filter(shown)
                .map(|number| (number, SampleValue::Number(totals[number].0 as f64)));
            let histograms = (0..totals.len()).filter(shown).map(|number| {
                let (_, zero, buckets, sum) = &totals[number];
                let buckets: Vec<(i32, u64)> =
                    buckets.iter().map(|(index, count)| (*index, *count)).collect();
                (number, SampleValue::Histogram(histogram(*zero, &buckets, *sum)))
            });
            let mut all = [
                family("a_total", FamilyKind::Counter, vec![(&["", ""], SampleValue::Number(0.0))]),
                family("b_seconds", FamilyKind::Histogram, vec![(&["", ""], SampleValue::Number(0.0))]),
            ];
            let sample = |(number, value): (usize, SampleValue)| Sample {
                labels: labels(&[&names[number], "x"]),
                value,
            };
            all[0].samples = counters.map(sample).collect();
            all[1].samples = histograms.map(sample).collect();
            all
        };
        for step in 0..30 {
            for total in &mut totals {
                if random.below(3) > 0 {
                    total.0 += random.below(5);
                    total.1 += random.below(2);
                    *total.2.entry(i32::try_from(random.below(60)).unwrap() - 30).or_default() +=
                        random.below(4);
                    total.3 += 0.25 * random.below(9) as f64;
                }
            }
            let is_last = step == 29;
            // Some series are not there for a while.
            let shown = if is_last { u64::MAX } else { random.below(1 << 12) | 1 };
            let requests = requests(&encoder, &families(&totals, shown), at(100 + step), &mut taken);
            for request in requests {
                if is_last || random.below(3) > 0 {
                    sums.add(std::slice::from_ref(&request), &mut ends);
                    taken.take(request.pending);
                }
            }
        }
        assert_eq!(sums.0.len(), 24, "round {round}");
        for ((name, texts), (sum, buckets)) in &sums.0 {
            let number: usize =
                texts[0].split("\"sd").nth(1).unwrap().split('"').next().unwrap().parse().unwrap();
            let (count, zero, expected, total) = &totals[number];
            if name == "a_total" {
                assert!((sum - *count as f64).abs() < 1e-9, "round {round}: {texts:?}: {sum} of {count}");
            } else {
                assert!((sum - total).abs() < 1e-9);
                let mut expected: BTreeMap<i64, u64> = expected
                    .iter()
                    .filter(|(_, count)| **count > 0)
                    .map(|(index, count)| (i64::from(*index) - 1, *count))
                    .collect();
                expected.insert(i64::MIN, *zero);
                let found: BTreeMap<i64, u64> = buckets
                    .iter()
                    .filter(|(index, count)| **count > 0 || **index == i64::MIN)
                    .map(|(index, count)| (*index, *count))
                    .collect();
                assert_eq!(found, expected, "round {round}: {texts:?}");
            }
        }
        assert!(
            requests(&encoder, &families(&totals, u64::MAX), at(200), &mut taken).is_empty(),
            "nothing new is nothing to push"
        );
    }
}

/// Series that are gone are kept for a while, since an array may come back, but not for ever.
#[test]
fn series_that_are_gone_are_forgotten() {
    let shape = PushShape { temporality: Temporality::Delta, ..SHAPE };
    let mut taken = AcceptedStates::default();
    let mut push = |names: std::ops::Range<u32>, seconds: u64| {
        let mut counter = family("x_total", FamilyKind::Counter, vec![(&["", ""], SampleValue::Number(1.0))]);
        counter.samples = names
            .map(|number| Sample {
                labels: labels(&[&number.to_string(), "x"]),
                value: SampleValue::Number(1.0),
            })
            .collect();
        let mut points = 0;
        for request in requests(&encoder(shape), &[counter], at(seconds), &mut taken) {
            points += request.points;
            taken.take(request.pending);
        }
        (points, taken.series())
    };
    assert_eq!(push(0..10, 100), (10, 10));
    assert_eq!(push(5..6, 110), (0, 10), "nothing new, and nothing forgotten");
    assert_eq!(push(0..10, 120), (0, 10), "they are back and begin where they were");
    for round in 0..20_u32 {
        push(round * 500..(round + 1) * 500, 130 + u64::from(round));
    }
    let (_, kept) = push(0..1, 200);
    assert!((1000..=1600).contains(&kept), "{kept} series are kept");
    let (points, _) = push(9990..10_000, 210);
    assert_eq!(points, 0, "the last that were there are kept");
}

/// Programs that were replaced count from nothing.
#[test]
fn a_counter_that_began_anew_is_sent_whole() {
    let shape = PushShape { temporality: Temporality::Delta, ..SHAPE };
    let mut taken = AcceptedStates::default();
    let mut sent = Vec::new();
    for (value, seconds) in [(10.0, 100), (4.0, 110), (6.0, 120)] {
        let counter = family("x_total", FamilyKind::Counter, vec![(&[], SampleValue::Number(value))]);
        for request in requests(&encoder(shape), &[counter], at(seconds), &mut taken) {
            for metric in metrics(std::slice::from_ref(&request)) {
                sent.extend(numbers(&metric).iter().map(|point| (point.value, point.start_time_unix_nano)));
            }
            taken.take(request.pending);
        }
    }
    let point = |value, seconds| (Some(number_data_point::Value::AsInt(value)), unix_ns(at(seconds)));
    assert_eq!(sent, [point(10, 10), point(4, 100), point(2, 110)]);
}

/// A probe that is exchanged counts anew, and may soon have more than the one before had.
#[test]
fn a_counter_of_another_probe_is_sent_whole() {
    let shape = PushShape { temporality: Temporality::Delta, ..SHAPE };
    let mut taken = AcceptedStates::default();
    let mut sent = Vec::new();
    for (value, began, seconds) in
        [(100.0, 10, 20), (130.0, 10, 30), (0.0, 35, 38), (500.0, 35, 40), (510.0, 35, 50), (0.0, 55, 60)]
    {
        let mut counter = family("x_total", FamilyKind::Counter, vec![(&[], SampleValue::Number(value))]);
        counter.origin.began = Some(at(began));
        for request in requests(&encoder(shape), &[counter], at(seconds), &mut taken) {
            for metric in metrics(std::slice::from_ref(&request)) {
                sent.extend(numbers(&metric).iter().map(|point| (point.value, point.start_time_unix_nano)));
            }
            taken.take(request.pending);
        }
    }
    let point = |value, seconds| (Some(number_data_point::Value::AsInt(value)), unix_ns(at(seconds)));
    assert_eq!(sent, [point(100, 10), point(30, 20), point(500, 35), point(10, 40)]);
}

#[test]
fn lowmemory_is_differences_of_histograms_only() {
    let shape = PushShape { temporality: Temporality::LowMemory, ..SHAPE };
    let families = [
        family("x_total", FamilyKind::Counter, vec![(&[], SampleValue::Number(1.0))]),
        family("y", FamilyKind::Histogram, vec![(&[], SampleValue::Histogram(histogram(1, &[], 0.1)))]),
    ];
    let requests = requests(&encoder(shape), &families, at(100), &mut AcceptedStates::default());
    let metrics = metrics(&requests);
    let Some(Data::Sum(sum)) = &metrics[0].data else { panic!("{metrics:?}") };
    let Some(Data::ExponentialHistogram(histogram)) = &metrics[1].data else { panic!("{metrics:?}") };
    assert_eq!(sum.aggregation_temporality(), AggregationTemporality::Cumulative);
    assert_eq!(histogram.aggregation_temporality(), AggregationTemporality::Delta);
}
