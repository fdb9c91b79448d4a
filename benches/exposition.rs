//! What writing a scrape costs: 10 000 lines of counters, and of histograms with and without native buckets, in
//! every format. The goal is well under 20 ms of one CPU. `cargo bench --bench exposition` prints the figures.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tapster::exposition::{Format, encode};
use tapster::family::{FamilyKind, HistogramValue, MetricFamily, Native, Sample, SampleValue};

const ROUNDS: usize = 50;
/// 26 bounds and `+Inf`, `_sum` and `_count`: 29 lines each.
const BOUNDS: i32 = 26;
const LINES_PER_HISTOGRAM: u32 = 29;
const HISTOGRAMS: u32 = 345;
const COUNTERS: u32 = 10_000;

fn main() {
    println!(
        "{:<28} {:<12} {:>7} {:>9} {:>10} {:>10} {:>10}",
        "series", "format", "lines", "bytes", "ns/line", "best ms", "median ms"
    );
    let cases = [
        ("counters", counters(), COUNTERS),
        ("counters, 100 families", spread(100), COUNTERS),
        ("histograms", histograms(false), HISTOGRAMS * LINES_PER_HISTOGRAM),
        ("histograms, native as well", histograms(true), HISTOGRAMS * LINES_PER_HISTOGRAM),
    ];
    for (name, families, lines) in &cases {
        for format in [Format::Text, Format::OpenMetrics, Format::Protobuf] {
            measure(name, families, *lines, format);
        }
    }
}

fn measure(name: &str, families: &[MetricFamily], lines: u32, format: Format) {
    let mut bytes = 0;
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            // A scrape owns what it collected; the copy is the bench's alone.
            let families = families.to_vec();
            let start = Instant::now();
            let encoded = black_box(encode(black_box(families), format));
            let time = start.elapsed();
            assert!(encoded.left_out.is_empty(), "{:?}", encoded.left_out);
            bytes = encoded.body.len();
            time
        })
        .collect();
    times.sort_unstable();
    let (best, median) = (times[0], times[ROUNDS / 2]);
    println!(
        "{name:<28} {:<12} {lines:>7} {bytes:>9} {:>10} {:>10.2} {:>10.2}",
        format!("{format:?}"),
        (median / lines).as_nanos(),
        best.as_secs_f64() * 1e3,
        median.as_secs_f64() * 1e3,
    );
}

fn counters() -> Vec<MetricFamily> {
    vec![counter_family("tapster_block_requests_total", COUNTERS)]
}

fn spread(families: u32) -> Vec<MetricFamily> {
    (0..families)
        .map(|index| counter_family(&format!("tapster_block_requests_{index}_total"), COUNTERS / families))
        .collect()
}

fn counter_family(name: &str, series: u32) -> MetricFamily {
    let mut family = MetricFamily::new(
        name,
        "Requests by device.",
        FamilyKind::Counter,
        &["device", "operation", "process"],
    );
    for index in 0..series {
        let device = format!("nvme{}n1", index % 16);
        family.push(&[&device, "write", &format!("postgres-{index}")], f64::from(index) * 1234.0);
    }
    family
}

fn histograms(with_native: bool) -> Vec<MetricFamily> {
    let bounds: Arc<[f64]> = (0..BOUNDS).map(|exponent| 1e-6 * 2_f64.powi(exponent)).collect();
    let help = "Time of requests by device.";
    let labels = ["device", "operation"];
    let mut family = MetricFamily::new("tapster_block_latency_seconds", help, FamilyKind::Histogram, &labels);
    for index in 0..HISTOGRAMS {
        let counts: Vec<u64> =
            (0..=bounds.len()).map(|bucket| u64::from(index) * 37 + 1_000 * bucket as u64).collect();
        let native = with_native.then(|| Native {
            schema: 0,
            zero_threshold: 0.0,
            zero_count: 0,
            buckets: (-19..).zip(counts.iter().copied()).collect(),
        });
        family.samples.push(Sample {
            labels: [format!("nvme{index}n1"), "write".to_owned()].into(),
            value: SampleValue::Histogram(HistogramValue {
                sum: f64::from(index) * 0.123_456,
                bounds: Arc::clone(&bounds),
                counts,
                native,
            }),
        });
    }
    vec![family]
}
