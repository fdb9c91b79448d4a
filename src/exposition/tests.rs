//! Golden scrapes of all formats, the same scrapes read back by parsers that are not ours, and what is refused.

use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model as proto;
use prost::Message;

use super::*;
use crate::family::{HistogramValue, Native, Sample, SampleValue};

fn histogram(counts: &[u64]) -> SampleValue {
    SampleValue::Histogram(HistogramValue {
        sum: 0.25,
        bounds: [1e-6, 0.001, 1.0].into(),
        counts: counts.to_vec(),
        native: Some(Native { schema: 0, zero_threshold: 0.0, zero_count: 0, buckets: native(counts) }),
    })
}

fn native(counts: &[u64]) -> Vec<(i32, u64)> {
    counts
        .iter()
        .zip([-20, -10, 0, 1])
        .filter(|(count, _)| **count > 0)
        .map(|(count, i)| (i, *count))
        .collect()
}

fn families() -> Vec<MetricFamily> {
    let mut reads =
        MetricFamily::new("reads_total", "Reads\nof \"C:\\\".", FamilyKind::Counter, &["device", "file"]);
    reads.push(&["sda", "a\"b\\c\nd"], 5.0);
    reads.push(&["", "naïve – 日本"], 12_345_678_901.0);
    let mut latency = MetricFamily::new("latency_seconds", "Latency.", FamilyKind::Histogram, &["device"]);
    latency.samples.push(Sample { labels: ["sda".to_owned()].into(), value: histogram(&[1, 0, 2, 4]) });
    let mut bare = MetricFamily::new("wait_seconds", "Wait.", FamilyKind::Histogram, &[]);
    bare.samples.push(Sample { labels: [].into(), value: histogram(&[0, 0, 0, 0]) });
    vec![
        MetricFamily::single("up", "Is it up?", FamilyKind::Gauge, 1.0),
        reads,
        latency,
        bare,
        MetricFamily::new("empty_total", "Nothing yet.", FamilyKind::Counter, &["x"]),
        MetricFamily::single("tiny_seconds", "Small.", FamilyKind::Gauge, 1.5e-9),
        MetricFamily::single("low", "Low.", FamilyKind::Gauge, f64::NEG_INFINITY),
        MetricFamily::single("odd", "Odd.", FamilyKind::Gauge, f64::NAN),
    ]
}

/// A scrape nothing is left out of.
fn complete(families: Vec<MetricFamily>, format: Format) -> Vec<u8> {
    let EncodedScrape { body, left_out } = encode(families, format);
    assert_eq!(left_out, []);
    body
}

fn text(format: Format) -> String {
    String::from_utf8(complete(families(), format)).unwrap()
}

#[test]
fn text_golden() {
    assert_eq!(
        text(Format::Text),
        r#"# HELP up Is it up?
# TYPE up gauge
up 1
# HELP reads_total Reads\nof "C:\\".
# TYPE reads_total counter
reads_total{device="sda",file="a\"b\\c\nd"} 5
reads_total{device="",file="naïve – 日本"} 12345678901
# HELP latency_seconds Latency.
# TYPE latency_seconds histogram
latency_seconds_bucket{device="sda",le="0.000001"} 1
latency_seconds_bucket{device="sda",le="0.001"} 1
latency_seconds_bucket{device="sda",le="1.0"} 3
latency_seconds_bucket{device="sda",le="+Inf"} 7
latency_seconds_sum{device="sda"} 0.25
latency_seconds_count{device="sda"} 7
# HELP wait_seconds Wait.
# TYPE wait_seconds histogram
wait_seconds_bucket{le="0.000001"} 0
wait_seconds_bucket{le="0.001"} 0
wait_seconds_bucket{le="1.0"} 0
wait_seconds_bucket{le="+Inf"} 0
wait_seconds_sum 0.25
wait_seconds_count 0
# HELP empty_total Nothing yet.
# TYPE empty_total counter
# HELP tiny_seconds Small.
# TYPE tiny_seconds gauge
tiny_seconds 1.5e-9
# HELP low Low.
# TYPE low gauge
low -Inf
# HELP odd Odd.
# TYPE odd gauge
odd NaN
"#
    );
}

#[test]
fn open_metrics_golden() {
    assert_eq!(
        text(Format::OpenMetrics),
        r#"# HELP up Is it up?
# TYPE up gauge
up 1.0
# HELP reads Reads\nof \"C:\\\".
# TYPE reads counter
reads_total{device="sda",file="a\"b\\c\nd"} 5.0
reads_total{device="",file="naïve – 日本"} 12345678901.0
# HELP latency_seconds Latency.
# TYPE latency_seconds histogram
latency_seconds_sum{device="sda"} 0.25
latency_seconds_count{device="sda"} 7
latency_seconds_bucket{le="0.000001",device="sda"} 1
latency_seconds_bucket{le="0.001",device="sda"} 1
latency_seconds_bucket{le="1.0",device="sda"} 3
latency_seconds_bucket{le="+Inf",device="sda"} 7
# HELP wait_seconds Wait.
# TYPE wait_seconds histogram
wait_seconds_sum 0.25
wait_seconds_count 0
wait_seconds_bucket{le="0.000001"} 0
wait_seconds_bucket{le="0.001"} 0
wait_seconds_bucket{le="1.0"} 0
wait_seconds_bucket{le="+Inf"} 0
# HELP empty Nothing yet.
# TYPE empty counter
# HELP tiny_seconds Small.
# TYPE tiny_seconds gauge
tiny_seconds 1.5e-9
# HELP low Low.
# TYPE low gauge
low -inf
# HELP odd Odd.
# TYPE odd gauge
odd NaN
# EOF
"#
    );
}

#[test]
fn protobuf_reads_back() {
    let bytes = complete(families(), Format::Protobuf);
    let mut rest = bytes.as_slice();
    let mut found = Vec::new();
    while !rest.is_empty() {
        found.push(proto::MetricFamily::decode_length_delimited(&mut rest).unwrap());
    }
    let names: Vec<_> = found.iter().map(|family| family.name.as_str()).collect();
    assert_eq!(
        names,
        ["up", "reads_total", "latency_seconds", "wait_seconds", "tiny_seconds", "low", "odd"],
        "an empty family is left out"
    );
    assert_eq!(found[0].metric[0].gauge.as_ref().unwrap().value.to_bits(), 1_f64.to_bits());
    assert_eq!(found[1].help, "Reads\nof \"C:\\\".", "protobuf needs no escapes");
    assert_eq!(found[1].r#type(), proto::MetricType::Counter);
    assert_eq!(found[1].metric[0].label[1].value, "a\"b\\c\nd");
    assert_eq!(found[1].metric[1].label[1].value, "naïve – 日本");

    let latency = found[2].metric[0].histogram.as_ref().unwrap();
    let classic: Vec<_> = latency.bucket.iter().map(|b| (b.upper_bound, b.cumulative_count)).collect();
    assert_eq!(classic, [(1e-6, 1), (0.001, 1), (1.0, 3), (f64::INFINITY, 7)]);
    assert_eq!((latency.sample_count, latency.schema), (7, 0));
    let spans: Vec<_> = latency.positive_span.iter().map(|span| (span.offset, span.length)).collect();
    assert_eq!((spans, latency.positive_delta.as_slice()), (vec![(-20, 1), (19, 2)], [1, 1, 2].as_slice()));

    let empty = found[3].metric[0].histogram.as_ref().unwrap();
    assert_eq!((empty.positive_span[0].offset, empty.positive_span[0].length), (0, 0));
    assert!(empty.positive_delta.is_empty());
}

#[test]
fn an_independent_parser_reads_the_text() {
    let text = text(Format::Text);
    let scrape = prometheus_parse::Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap();
    let find =
        |name: &str| scrape.samples.iter().filter(move |sample| sample.metric == name).collect::<Vec<_>>();

    let reads = find("reads_total");
    assert_eq!(reads.len(), 2);
    assert_eq!(reads[0].value, prometheus_parse::Value::Counter(5.0));
    assert_eq!(reads[1].labels.get("file"), Some("naïve – 日本"));
    assert_eq!(reads[1].value, prometheus_parse::Value::Counter(12_345_678_901.0));
    assert_eq!(find("tiny_seconds")[0].value, prometheus_parse::Value::Gauge(1.5e-9));
    let prometheus_parse::Value::Histogram(buckets) = &find("latency_seconds")[0].value else {
        panic!("not a histogram");
    };
    let buckets: Vec<_> = buckets.iter().map(|bucket| (bucket.less_than, bucket.count)).collect();
    assert_eq!(buckets, [(1e-6, 1.0), (0.001, 1.0), (1.0, 3.0), (f64::INFINITY, 7.0)]);
}

#[test]
fn buckets_are_cumulative_in_both_text_formats() {
    for format in [Format::Text, Format::OpenMetrics] {
        let text = text(format);
        let mut previous = (f64::NEG_INFINITY, 0);
        for line in text.lines().filter(|line| line.starts_with("latency_seconds_bucket")) {
            let bound = line.split("le=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap();
            let count = line.rsplit(' ').next().unwrap().parse().unwrap();
            assert!(bound > previous.0 && count >= previous.1, "{line}");
            previous = (bound, count);
        }
        assert_eq!(previous, (f64::INFINITY, 7));
        assert!(text.contains("latency_seconds_count{device=\"sda\"} 7\n"));
    }
}

#[test]
fn a_family_without_total_is_named_alike_everywhere() {
    for format in [Format::Text, Format::OpenMetrics] {
        let families = vec![MetricFamily::single("reads", "Reads.", FamilyKind::Counter, 1.0)];
        let text = String::from_utf8(complete(families, format)).unwrap();
        assert!(text.contains("\nreads_total 1"), "{text}");
    }
}

#[test]
fn what_no_reader_takes_is_left_out_alone() {
    let labelled = |labels: &[&str]| {
        let mut family = MetricFamily::new("a", "A.", FamilyKind::Gauge, &["x"]);
        let labels = labels.iter().map(ToString::to_string).collect();
        family.samples.push(Sample { labels, value: SampleValue::Number(1.0) });
        vec![family]
    };
    let distribution = |value: SampleValue| {
        let mut family = MetricFamily::new("h", "H.", FamilyKind::Histogram, &[]);
        family.samples.push(Sample { labels: [].into(), value });
        vec![family]
    };
    let changed = |change: fn(&mut HistogramValue)| {
        let SampleValue::Histogram(mut value) = histogram(&[1, 0, 2, 4]) else { unreachable!("it is one") };
        change(&mut value);
        distribution(SampleValue::Histogram(value))
    };
    let single = |name, kind| MetricFamily::single(name, "", kind, 1.0);
    let named = |labels: &[&str]| vec![MetricFamily::new("h", "H.", FamilyKind::Histogram, labels)];
    let mut twice = MetricFamily::new("a", "A.", FamilyKind::Gauge, &["x", "y"]);
    for labels in [["1", "2"], ["0", "2"], ["1", "1"], ["12", ""], ["1", "2"]] {
        twice.push(&labels, 1.0);
    }
    let twice = vec![twice];
    let table = [
        (
            vec![single("a", FamilyKind::Gauge), single("a", FamilyKind::Gauge)],
            "metric family `a` occurs more than once",
        ),
        (
            vec![single("a", FamilyKind::Gauge), single("a_total", FamilyKind::Counter)],
            "metric family `a_total` occurs more than once",
        ),
        (
            vec![named(&[])[0].clone(), single("h_count", FamilyKind::Gauge)],
            "metric family `h_count` collides with `h`: readers know both as `h_count`",
        ),
        (
            vec![single("h_sum_total", FamilyKind::Counter), named(&[])[0].clone()],
            "metric family `h` collides with `h_sum_total`: readers know both as `h_sum`",
        ),
        (
            vec![single("a_created", FamilyKind::Gauge), single("a_total", FamilyKind::Counter)],
            "metric family `a_total` collides with `a_created`: readers know both as `a_created`",
        ),
        (twice, "metric family `a` has two samples with the labels [\"1\", \"2\"]"),
        (vec![single("a-b", FamilyKind::Gauge)], "metric family `a-b` is not named as a metric can be"),
        (vec![single("2a", FamilyKind::Gauge)], "metric family `2a` is not named as a metric can be"),
        (
            vec![single("_total", FamilyKind::Counter)],
            "metric family `_total` is not named as a metric can be",
        ),
        (named(&["x", "y", "x"]), "metric family `h` cannot have a label `x`: it has that one already"),
        (named(&["x:y"]), "metric family `h` cannot have a label `x:y`: it is not named as a label can be"),
        (named(&["le"]), "metric family `h` cannot have a label `le`: histograms have their own"),
        (
            named(&["__name__"]),
            "metric family `h` cannot have a label `__name__`: names with two underscores in front are Prometheus' own",
        ),
        (labelled(&[]), "a sample of metric family `a` has 0 label values, expected 1"),
        (labelled(&["1", "2"]), "a sample of metric family `a` has 2 label values, expected 1"),
        (
            distribution(SampleValue::Number(1.0)),
            "a sample of metric family `h` does not fit its kind `Histogram`",
        ),
        (
            changed(|h| h.counts.truncate(3)),
            "a histogram of metric family `h` is malformed: it needs one more count than it has bounds",
        ),
        (
            changed(|h| h.bounds = [1.0, 0.5, 2.0].into()),
            "a histogram of metric family `h` is malformed: its bounds are not finite and ascending",
        ),
        (
            changed(|h| h.native.as_mut().unwrap().buckets.reverse()),
            "a histogram of metric family `h` is malformed: its native buckets are not ascending",
        ),
        (
            changed(|h| h.native.as_mut().unwrap().zero_count = 1),
            "a histogram of metric family `h` is malformed: its native and classic buckets count differently",
        ),
    ];
    for (bad, message) in table {
        for format in [Format::Text, Format::OpenMetrics, Format::Protobuf] {
            // As if the family that is left out, always the last of its case, had never been there.
            let first = || single("first", FamilyKind::Gauge);
            let last = || single("last", FamilyKind::Gauge);
            let good = bad[..bad.len() - 1].to_vec();
            let expected = complete([vec![first()], good, vec![last()]].concat(), format);
            let EncodedScrape { body, left_out } =
                encode([vec![first()], bad.clone(), vec![last()]].concat(), format);
            let messages: Vec<_> = left_out.iter().map(ToString::to_string).collect();
            assert_eq!(messages, [message]);
            assert_eq!(left_out[0].family(), &*bad[bad.len() - 1].name);
            assert_eq!(body, expected, "{format:?}: {message}");
        }
    }
}

#[test]
fn a_name_is_taken_only_by_what_was_written() {
    let broken = MetricFamily {
        samples: vec![Sample { labels: ["x".to_owned()].into(), value: SampleValue::Number(1.0) }],
        ..MetricFamily::new("a", "A.", FamilyKind::Gauge, &[])
    };
    let whole = MetricFamily::single("a", "A.", FamilyKind::Gauge, 2.0);
    let EncodedScrape { body, left_out } = encode([broken, whole.clone(), whole], Format::Text);
    assert_eq!(body, b"# HELP a A.\n# TYPE a gauge\na 2\n");
    assert!(
        matches!(
            left_out.as_slice(),
            [ExpositionError::LabelCount { .. }, ExpositionError::DuplicateFamily { .. }]
        ),
        "{left_out:?}"
    );
}

#[test]
fn no_families_are_a_valid_scrape() {
    assert_eq!(complete(vec![], Format::Text), b"");
    assert_eq!(complete(vec![], Format::OpenMetrics), b"# EOF\n");
    assert_eq!(complete(vec![], Format::Protobuf), b"");
}
