//! Measurements, and how they are printed.

use super::{
    measure::{
        Largest, LargestBasis as From, Measurement, MetricForm, ReportMetric, TableRow, ValueBegin, events,
        limit, since, tables,
    },
    unit::BaseUnit,
    *,
};
use crate::{
    family::{FamilyKind, HistogramValue, LabelTexts, Native, Sample, ValueLimits},
    reason::Reasons,
    status::Cause,
};
use serde_json::json;
use std::{os::unix::process::ExitStatusExt, process::ExitStatus, sync::Arc};

const PLAIN: ReportLayout = ReportLayout { columns: None, bars: false };

fn metric(name: &str, kind: MetricForm, unit: BaseUnit) -> ReportMetric {
    ReportMetric {
        name: name.into(),
        probe: "probe".into(),
        kind,
        unit,
        largest_in: None,
        stacks: Vec::new(),
        reasons: Vec::new(),
        limits: ValueLimits::POSITIVE,
        since: ValueBegin::Unknown,
    }
}

/// Native buckets of whole powers of two, by the power of their upper bound.
fn histogram(buckets: &[(i32, u64)], sum: f64) -> HistogramValue {
    let native =
        Native { schema: 0, zero_threshold: f64::exp2(-20.0), zero_count: 0, buckets: buckets.to_vec() };
    let count = buckets.iter().map(|(_, count)| count).sum();
    HistogramValue { sum, bounds: [128.0].into(), counts: vec![count, 0], native: Some(native) }
}

fn family(name: &str, kind: FamilyKind, rows: Vec<(&[&str], SampleValue)>) -> MetricFamily {
    let names: &[&str] = &["device", "operation"][..rows.first().map_or(0, |(labels, _)| labels.len())];
    let mut family = MetricFamily::new(name, "What it is.", kind, names);
    for (labels, value) in rows {
        family.samples.push(Sample { labels: labels.iter().map(ToString::to_string).collect(), value });
    }
    family
}

/// The devices of the example.
fn story() -> MetricFamily {
    let row = |device, buckets: &[(i32, u64)], sum| (device, SampleValue::Histogram(histogram(buckets, sum)));
    family(
        "tapster_block_io_duration_seconds",
        FamilyKind::Histogram,
        vec![
            row(&["dm-0", "read"][..], &[(-4, 974)], 48.337_401),
            row(&["ram0", "read"], &[(-14, 100), (-13, 60)], 0.010),
            row(&["ram1", "read"], &[(-14, 10), (-12, 1)], 0.000_5),
            row(&["ram1", "write"], &[(-14, 9)], 0.000_5),
        ],
    )
}

fn story_metric() -> ReportMetric {
    metric("tapster_block_io_duration_seconds", MetricForm::Histogram, BaseUnit::Seconds)
}

fn measured(metrics: &[ReportMetric], counted: &[MetricFamily], sort: Sort, top: Option<usize>) -> Report {
    let mut peaks = Peaks::of(metrics);
    peaks.see(counted);
    Report {
        elapsed: Duration::from_secs(10),
        end: WatchEnd::Time,
        command: Vec::new(),
        probes: vec![ProbeResult { name: "probe".into(), down: None, unmatched: Some(2.0) }],
        tables: tables(metrics, counted, &peaks, &Reasons::shipped(), 10.0, (sort, top)),
        losses: losses(counted),
    }
}

fn first_labels(report: &Report) -> Vec<String> {
    report.tables[0].rows.iter().map(|row| row.labels.join(" ")).collect()
}

#[test]
fn the_table_of_the_story() {
    let report = measured(&[story_metric()], &[story()], Sort::Total, None);
    assert_eq!(
        text(&report, PLAIN),
        "\
In 10.0 s:

tapster_block_io_duration_seconds: What it is.
  device  operation    total  count  average      p50      p99        max  percent
  dm-0    read        48.3 s    974  49.6 ms  44.2 ms  62.1 ms  ≤ 62.5 ms  100.0 %
  ram0    read       10.0 ms    160  62.5 µs  53.1 µs   120 µs   ≤ 122 µs    0.0 %
  ram1    read        500 µs     11  45.5 µs  44.7 µs   195 µs   ≤ 195 µs    0.0 %
  ram1    write       500 µs      9  55.6 µs  51.2 µs  60.6 µs  ≤ 61.0 µs    0.0 %
  all                 48.3 s   1154  41.9 ms  41.5 ms  62.0 ms  ≤ 62.5 ms  100.0 %

max: after ≤ stands the upper bound of the highest bucket that holds a value, or what total, count and time leave to it if that is less
"
    );
}

#[test]
fn rows_are_sorted_and_the_rest_is_added_up() {
    for (sort, expected) in [
        // If values are equal, the labels decide.
        (Sort::Total, ["dm-0 read", "ram0 read", "ram1 read", "ram1 write"]),
        (Sort::Count, ["dm-0 read", "ram0 read", "ram1 read", "ram1 write"]),
        (Sort::Average, ["dm-0 read", "ram0 read", "ram1 write", "ram1 read"]),
        (Sort::P50, ["dm-0 read", "ram0 read", "ram1 write", "ram1 read"]),
        (Sort::P99, ["dm-0 read", "ram1 read", "ram0 read", "ram1 write"]),
        (Sort::Max, ["dm-0 read", "ram1 read", "ram0 read", "ram1 write"]),
        (Sort::Labels, ["dm-0 read", "ram0 read", "ram1 read", "ram1 write"]),
    ] {
        assert_eq!(first_labels(&measured(&[story_metric()], &[story()], sort, None)), expected, "{sort:?}");
    }
    let report = measured(&[story_metric()], &[story()], Sort::Total, Some(1));
    let table = &report.tables[0];
    assert_eq!((first_labels(&report), table.left_out), (vec!["dm-0 read".into()], 3));
    let rest = table.rest.as_ref().unwrap();
    let Measurement::Histogram(histogram, largest) = &rest.measured else { panic!("{rest:?}") };
    assert_eq!(histogram.count(), 180);
    assert_eq!(*largest, Some(Largest { value: 0.000_5 - 10.0 * f64::exp2(-15.0), source: From::Bucket }));
    // The median over all, which is in the lowest bucket: the 90th of 119 there.
    let expected = f64::exp2(-15.0 + 90.0 / 119.0);
    assert!((rest.quantile(0.5).unwrap() - expected).abs() < 1e-12);
    assert!(
        text(&report, PLAIN).contains("\n  3 more             11.0 ms    180  61.1 µs "),
        "{}",
        text(&report, PLAIN)
    );
    // With all rows shown, nothing is left out; with one row, there is no sum.
    assert!(measured(&[story_metric()], &[story()], Sort::Total, Some(4)).tables[0].rest.is_none());
    let one = MetricFamily { samples: story().samples[..1].to_vec(), ..story() };
    assert!(measured(&[story_metric()], &[one], Sort::Total, None).tables[0].all.is_none());
}

#[test]
fn counters_gauges_and_losses() {
    let number = SampleValue::Number;
    let metrics = [
        metric("tapster_bytes_total", MetricForm::Counter, BaseUnit::Bytes),
        metric("tapster_depth", MetricForm::Gauge, BaseUnit::None),
        metric("tapster_longest_seconds", MetricForm::Max, BaseUnit::Seconds),
        metric("tapster_errors_total", MetricForm::Counter, BaseUnit::None),
    ];
    let evil = "\x1b[2J";
    let mut dropped =
        MetricFamily::new("tapster_probe_dropped_total", "", FamilyKind::Counter, &["probe", "reason"]);
    dropped.push(&["probe", "max_series"], 3.0);
    let counted = [
        family(
            "tapster_bytes_total",
            FamilyKind::Counter,
            vec![(&["a"][..], number(1024.0)), (&[""], number(3072.0)), (&[evil], number(0.5))],
        ),
        family("tapster_depth", FamilyKind::Gauge, vec![(&["a"][..], number(-3.0)), (&["b"], number(4.0))]),
        family("tapster_longest_seconds", FamilyKind::Gauge, vec![(&["a"][..], number(0.25))]),
        family("tapster_errors_total", FamilyKind::Counter, Vec::new()),
        dropped,
    ];
    let mut report = measured(&metrics, &counted, Sort::Total, None);
    let message = "error: the first line\nthe second".into();
    let down = Some(Down { cause: Cause::Compile, message });
    report.probes.push(ProbeResult { name: "other".into(), down, unmatched: None });
    report.end = WatchEnd::Command(ExitStatus::from_raw(3 << 8));
    assert_eq!(
        text(&report, PLAIN),
        "\
In 10.0 s:

tapster_bytes_total: What it is.
  device        total  per second  percent
  \"\"         3.00 KiB     307 B/s   75.0 %
  a          1.00 KiB     102 B/s   25.0 %
  \\u{1b}[2J    0.50 B    0.05 B/s    0.0 %
  all        4.00 KiB     410 B/s  100.0 %

tapster_depth: What it is.
  device  value
  b           4
  a          -3

tapster_longest_seconds: What it is.
  device     max
  a       250 ms

nothing in tapster_errors_total
the probe `other` was down (compile): the first line
3 events were not counted as they happened: `max_series` of `probe`
the command ended with status 3
"
    );
    report.tables.clear();
    report.end = WatchEnd::Command(ExitStatus::from_raw(9));
    let text = text(&report, PLAIN);
    assert!(text.starts_with("In 10.0 s:\n\nnothing was counted\n\n"), "{text}");
    assert!(text.ends_with("the command was ended by signal 9\n"), "{text}");
}

#[test]
fn only_the_interval_counts() {
    let number = SampleValue::Number;
    let before = [
        story(),
        family(
            "tapster_a_total",
            FamilyKind::Counter,
            vec![(&["a"][..], number(5.0)), (&["b"], number(2.0))],
        ),
        family("tapster_g", FamilyKind::Gauge, vec![(&[][..], number(7.0))]),
    ];
    let mut after = before.to_vec();
    let SampleValue::Histogram(changed) = &mut after[0].samples[1].value else { panic!("{after:?}") };
    *changed = histogram(&[(-14, 101), (-13, 60), (-3, 2)], 0.210);
    after[1].samples[0].value = number(6.0);
    after[1].samples.push(Sample { labels: ["c".into()].into(), value: number(1.0) });
    let counted = since(&before, &after);
    assert_eq!(counted[0].samples.len(), 1, "what did not change is not there");
    let SampleValue::Histogram(found) = &counted[0].samples[0].value else { panic!("{counted:?}") };
    assert_eq!((found.count(), found.native.as_ref().unwrap().buckets.clone()), (3, vec![(-14, 1), (-3, 2)]));
    assert!((found.sum - 0.2).abs() < 1e-12);
    let values: Vec<(&str, &SampleValue)> =
        counted[1].samples.iter().map(|sample| (sample.labels[0].as_str(), &sample.value)).collect();
    assert_eq!(values, [("a", &number(1.0)), ("c", &number(1.0))]);
    assert_eq!(counted[2].samples[0].value, number(7.0), "a gauge is not a sum");
    let metrics = [story_metric(), metric("tapster_a_total", MetricForm::Counter, BaseUnit::None)];
    assert!((events(&metrics, &counted) - 3.0).abs() < 1e-9, "one event is not told by two metrics");
}

#[test]
fn the_largest_value_and_its_source() {
    let kept = ReportMetric { largest_in: Some("tapster_longest_seconds".into()), ..story_metric() };
    let metrics = [kept, metric("tapster_longest_seconds", MetricForm::Max, BaseUnit::Seconds)];
    let longest = |values: &[(&'static [&'static str], f64)]| {
        let rows = values.iter().map(|(labels, value)| (*labels, SampleValue::Number(*value))).collect();
        family("tapster_longest_seconds", FamilyKind::Gauge, rows)
    };
    let first = longest(&[(&["dm-0", "read"], 0.05), (&["ram0", "read"], 0.9)]);
    // Its window has passed at the second reading.
    let second =
        longest(&[(&["dm-0", "read"], 0.04), (&["ram1", "read"], 0.000_19), (&["ram1", "write"], 0.00003)]);
    let mut peaks = Peaks::of(&metrics);
    peaks.see(&[first]);
    peaks.see(std::slice::from_ref(&second));
    let mut duration = story();
    duration.samples.push(Sample {
        labels: ["slow".into(), "read".into()].into(),
        value: SampleValue::Histogram(HistogramValue {
            counts: vec![0, 1],
            ..histogram(&[(1025, 1)], 500.0)
        }),
    });
    let tables =
        tables(&metrics, &[duration, second], &peaks, &Reasons::shipped(), 1.0, (Sort::Labels, None));
    let found: Vec<Largest> = tables[0].rows.iter().map(|row| row.largest().unwrap()).collect();
    let largest = |value, source| Largest { value, source };
    assert_eq!(
        found,
        [
            largest(0.05, From::Metric),
            // A value from before the interval: no bucket contains it.
            largest(f64::exp2(-13.0), From::Bucket),
            largest(0.000_19, From::Metric),
            // For example, only half of a window was seen.
            largest(f64::exp2(-14.0), From::Bucket),
            // The only value above all bounds equals the sum.
            largest(500.0, From::Bucket),
        ]
    );
    assert_eq!(tables[0].all.as_ref().unwrap().largest(), Some(largest(500.0, From::Bucket)));
    assert_eq!(tables[0].rows[0].quantile(1.0), Some(0.05), "no quantile is above it");
    let longest: Vec<f64> = tables[1].rows.iter().map(TableRow::total).collect();
    assert_eq!(longest, [0.05, 0.9, 0.000_19, 0.00003], "the largest ever seen");
}

/// No figure contradicts total, count and time: one sleep of 4.2 s is not a sleep of 5.6 s.
#[test]
fn what_cannot_be_is_not_told() {
    let name = "tapster_off_cpu_duration_seconds";
    let row = |labels, buckets: &[(i32, u64)], sum| (labels, SampleValue::Histogram(histogram(buckets, sum)));
    let slept = family(
        name,
        FamilyKind::Histogram,
        vec![
            row(&["one", "sleep"][..], &[(3, 1)], 4.2),
            // Two of more than 4 s, and one of more than 0.5 s.
            row(&["three", "sleep"], &[(0, 1), (3, 2)], 9.1),
        ],
    );
    let mut metrics = [metric(name, MetricForm::Histogram, BaseUnit::Seconds)];
    let found = text(&measured(&metrics, std::slice::from_ref(&slept), Sort::Labels, None), PLAIN);
    assert!(
        found.contains("\n  one     sleep      4.20 s      1   4.20 s  4.20 s  4.20 s  ≤ 4.20 s   31.6 %\n"),
        "{found}"
    );
    assert!(found.contains("  ≤ 4.60 s   68.4 %\n"), "{found}");
    assert!(
        found.contains("\n  all                13.3 s      4   3.33 s")
            && found.contains("≤ 4.60 s  100.0 %\n"),
        "{found}"
    );
    // The command ran for 4.4 s.
    metrics[0].since = ValueBegin::Command;
    limit(&mut metrics, Duration::from_secs(9), Duration::from_millis(4400));
    let found = text(&measured(&metrics, std::slice::from_ref(&slept), Sort::Labels, None), PLAIN);
    assert!(found.contains("  ≤ 4.40 s   68.4 %\n") && found.contains("≤ 4.40 s  100.0 %\n"), "{found}");
    let json = json(&measured(&metrics, &[slept], Sort::Labels, None));
    let one = &json["metrics"][0]["rows"][0];
    assert_eq!(one["max"], json!({ "value": 4.2, "source": "bucket" }));
    assert_eq!((&one["quantiles"]["0.5"], &one["quantiles"]["0.999"]), (&json!(4.2), &json!(4.2)));
}

#[test]
fn distributions_share_a_scale() {
    let report = measured(&[story_metric()], &[story()], Sort::Total, None);
    let wide = text(&report, ReportLayout { columns: Some(100), bars: true });
    let lines: Vec<&str> = wide.lines().skip(3).take(6).collect();
    // 2^-15 to 2^-4 s, eleven buckets.
    assert!(lines[0].ends_with("percent  30.5 µs 62.5 ms"), "{wide}");
    assert!(lines[1].ends_with("100.0 %            █"), "{wide}");
    assert!(lines[2].ends_with("  0.0 %  █▅"), "{wide}");
    assert!(lines[3].ends_with("  0.0 %  █ ▁"), "{wide}");
    assert!(lines[5].ends_with("100.0 %  ▁▁▁       █"), "{wide}");
    for columns in [1, 20, 40, 60, 82, 90, 100, 250] {
        let text = text(&report, ReportLayout { columns: Some(columns), bars: true });
        let limit = columns.max(20);
        // Only an unbreakable word may exceed the width: the metric's name.
        let long = |line: &&str| line.chars().count() > limit && !line.trim_end().ends_with("_seconds:");
        assert_eq!(text.lines().find(long), None, "{columns}:\n{text}");
        assert_eq!(text.matches('█').count(), 5, "{columns}:\n{text}");
    }
    let narrow = text(&report, ReportLayout { columns: Some(40), bars: true });
    assert!(
        narrow.contains("\n  device ram0 operation read\n    total 10.0 ms  count 160\n    average 62.5 µs  p50 53.1 µs\n    p99 120 µs  max ≤ 122 µs\n"),
        "{narrow}"
    );
    // Sums have no label, even if there is only one label.
    let by_device = |device, index| (device, SampleValue::Histogram(histogram(&[(index, 9)], 1.0)));
    let one = family(
        "tapster_block_io_duration_seconds",
        FamilyKind::Histogram,
        vec![by_device(&["a"][..], -3), by_device(&["b"], -4), by_device(&["c"], -4)],
    );
    let report = measured(&[story_metric()], &[one], Sort::Total, Some(1));
    let narrow = text(&report, ReportLayout { columns: Some(40), bars: true });
    assert!(narrow.contains("\n  device a\n    total 1.00 s"), "{narrow}");
    assert!(narrow.contains("\n  2 more\n") && narrow.contains("\n  all\n"), "{narrow}");
    // Few buckets need little room: bars stay beside the numbers.
    let beside = text(&report, ReportLayout { columns: Some(87), bars: true });
    assert!(beside.contains("percent  31.2 ms 125 ms\n"), "{beside}");
    // One event of two million has a bar.
    let rare = family(
        "tapster_block_io_duration_seconds",
        FamilyKind::Histogram,
        vec![(&["a", "read"][..], SampleValue::Histogram(histogram(&[(-14, 2_000_000), (-1, 1)], 1.0)))],
    );
    let text = text(
        &measured(&[story_metric()], &[rare], Sort::Total, None),
        ReportLayout { columns: None, bars: true },
    );
    assert!(text.contains("█            ▁\n"), "{text}");
}

/// Reasons have sentences, and so do the two that are not in the table; JSON has both word and sentence.
#[test]
fn reasons_are_sentences() {
    let name = "tapster_off_cpu_duration_seconds";
    let metric =
        ReportMetric { reasons: vec![false, true], ..metric(name, MetricForm::Histogram, BaseUnit::Seconds) };
    let row = |labels, sum| (labels, SampleValue::Histogram(histogram(&[(-4, 10)], sum)));
    let slept = family(
        name,
        FamilyKind::Histogram,
        vec![
            row(&["poll", "poll"][..], 0.5),
            row(&["", "unknown"], 0.4),
            row(&["", "short"], 0.3),
            row(&["", "no_such_reason"], 0.2),
        ],
    );
    let report = measured(&[metric], &[slept], Sort::Total, Some(3));
    let text = text(&report, PLAIN);
    let titles = text.lines().find(|line| line.starts_with("  device")).unwrap();
    let reason = titles.find("operation").unwrap();
    let reasons: Vec<&str> = text
        .lines()
        .skip_while(|line| *line != titles)
        .skip(1)
        .map_while(|line| line.get(reason..)?.split("  ").next())
        .collect();
    assert_eq!(
        reasons[..3],
        [
            "Waiting for any of several files (poll)",
            "Not known: no function of the stack is in the table of reasons",
            "Short sleeps, whose stack was not taken"
        ],
        "{text}"
    );
    assert!(text.contains("\n  poll "), "a label that is no reason stays: {text}");
    let json = json(&report);
    let metric = &json["metrics"][0];
    assert_eq!(metric["rows"][0]["labels"]["operation"], "poll");
    assert_eq!(metric["sentences"]["poll"], "Waiting for any of several files (poll)");
    assert_eq!(metric["sentences"].get("no_such_reason"), None);
}

/// The form that `docs/report.md` promises.
#[test]
fn json_has_a_form() {
    let counter = metric("tapster_bytes_total", MetricForm::Counter, BaseUnit::Bytes);
    let bytes = family(
        "tapster_bytes_total",
        FamilyKind::Counter,
        vec![(&["a"][..], SampleValue::Number(30.0)), (&["b"], SampleValue::Number(10.0))],
    );
    let one = MetricFamily { samples: story().samples[1..2].to_vec(), ..story() };
    let mut report = measured(&[story_metric(), counter], &[one, bytes], Sort::Total, Some(1));
    report.end = WatchEnd::Command(ExitStatus::from_raw(9));
    report.command = vec!["sh".into(), "-c".into()];
    report.losses.push(Loss { probe: "probe".into(), reason: "busy".into(), count: 2.0 });
    let quantiles = |q: f64| report.tables[0].rows[0].quantile(q).unwrap();
    assert_eq!(
        json(&report),
        json!({
            "schema": 1,
            "seconds": 10.0,
            "ended_by": "command",
            "command": { "arguments": ["sh", "-c"], "status": null, "signal": 9 },
            "probes": [{ "name": "probe", "up": true, "reason": null, "message": null, "unmatched": 2 }],
            "metrics": [
                {
                    "name": "tapster_block_io_duration_seconds",
                    "probe": "probe",
                    "help": "What it is.",
                    "kind": "histogram",
                    "unit": "seconds",
                    "labels": ["device", "operation"],
                    "sentences": {},
                    "rows": [{
                        "labels": { "device": "ram0", "operation": "read" },
                        "count": 160,
                        "sum": 0.01,
                        "average": 0.000_062_5,
                        "quantiles": {
                            "0.5": quantiles(0.5), "0.9": quantiles(0.9), "0.99": quantiles(0.99), "0.999": quantiles(0.999)
                        },
                        "max": { "value": f64::exp2(-13.0), "source": "bucket" },
                        "buckets": [
                            { "above": f64::exp2(-15.0), "le": f64::exp2(-14.0), "count": 100 },
                            { "above": f64::exp2(-14.0), "le": f64::exp2(-13.0), "count": 60 },
                        ],
                        "share": 1,
                    }],
                    "rows_left_out": 0,
                    "rest": null,
                    "all": null,
                },
                {
                    "name": "tapster_bytes_total",
                    "probe": "probe",
                    "help": "What it is.",
                    "kind": "counter",
                    "unit": "bytes",
                    "labels": ["device"],
                    "sentences": {},
                    "rows": [{ "labels": { "device": "a" }, "value": 30, "per_second": 3, "share": 0.75 }],
                    "rows_left_out": 1,
                    "rest": { "value": 10, "per_second": 1, "share": 0.25 },
                    "all": { "value": 40, "per_second": 4, "share": 1 },
                },
            ],
            "losses": [{ "probe": "probe", "reason": "busy", "count": 2 }],
        })
    );
    // An infinite value is `null`.
    let mut above = HistogramValue { counts: vec![1, 1], ..histogram(&[(1025, 1)], 500.0) };
    // Values at or below zero may be anything, so the sum is no limit.
    if let Some(native) = &mut above.native {
        native.zero_count = 1;
    }
    let labels: LabelTexts = Arc::new([]);
    let tables = tables(
        &[ReportMetric { limits: ValueLimits::NONE, ..story_metric() }],
        &[MetricFamily {
            samples: vec![Sample { labels, value: SampleValue::Histogram(above) }],
            label_names: Arc::new([]),
            ..story()
        }],
        &Peaks::of(&[]),
        &Reasons::shipped(),
        1.0,
        (Sort::Total, None),
    );
    let found = json(&Report { tables, end: WatchEnd::Interrupt, ..report });
    let row = &found["metrics"][0]["rows"][0];
    assert_eq!(
        row["buckets"],
        json!([{ "above": null, "le": f64::exp2(-20.0), "count": 1 }, { "above": 128, "le": null, "count": 1 }])
    );
    assert_eq!(row["max"], json!({ "value": 128, "source": "above" }));
    let goes_on = json!({ "arguments": ["sh", "-c"], "status": null, "signal": null });
    assert_eq!((&found["ended_by"], &found["command"]), (&json!("interrupt"), &goes_on));
}
