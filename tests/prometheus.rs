//! A real Prometheus scrapes the exporter while `fio` runs, in each of the three formats, and answers queries
//! from what it understood.

#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]
#![allow(clippy::unnecessary_wraps, reason = "cases are alike")]
#![allow(clippy::cast_precision_loss, reason = "samples are f64, as Prometheus keeps them")]

mod support;

use std::{io::Write, process::Stdio};
use support::{
    cases::{Cases, Outcome, Skip, say},
    command::{root, tool},
    device::{LoopDevice, filled_file, memory_directory, wait_quiet},
    exporter::Tapster,
    fio::{Job, Report},
    http,
    metrics::Metrics,
    prometheus::{Prometheus, text_only},
};

const MIB: u64 = 1 << 20;
const DURATION: &str = "tapster_block_io_duration_seconds";

/// What the three scrapes are compared with.
struct Truth {
    device: String,
    read: Report,
    write: Report,
    /// What the exporter itself said after the last job.
    own: Metrics,
}

impl Truth {
    /// Count and bytes that a Prometheus must have: the exporter's, which are `fio`'s. An event in some ten
    /// thousand may be hidden from every tracing program of a host (see `block.rs`, which asks for
    /// exactness); one too many never is right.
    fn of(&self, operation: &str, report: &Report) -> (f64, f64) {
        let labels = [("device", self.device.as_str()), ("operation", operation)];
        let count = self.own.sum(&format!("{DURATION}_count"), &labels);
        let bytes = self.own.sum("tapster_block_io_bytes_total", &labels);
        let (ios, total) = (report.ios as f64, report.bytes as f64);
        assert!(count <= ios && count >= ios * 0.998, "{operation}: {count} of fio's {ios}");
        assert!(bytes <= total && bytes >= total * 0.998, "{operation}: {bytes} of fio's {total} bytes");
        (count, bytes)
    }
}

fn formats(tapster: &Tapster) -> Outcome {
    let mut sizes = Vec::new();
    for (accept, expected) in [
        ("text/plain;version=0.0.4", "text/plain; version=0.0.4"),
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text; version=1.0.0",
        ),
        (
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8",
            "application/vnd.google.protobuf",
        ),
    ] {
        let response = http::get(tapster.address, "/metrics", Some(accept)).unwrap();
        let found = response.header("content-type").unwrap_or_default();
        assert!(found.starts_with(expected), "{accept}: {found}");
        sizes.push(format!("{} {} bytes", found.split(';').next().unwrap_or_default(), response.body.len()));
    }
    Ok(sizes.join(", "))
}

fn promtool(tapster: &Tapster) -> Outcome {
    let mut command = tool("promtool")?;
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let response = tapster.get("/metrics");
    child.stdin.take().unwrap().write_all(&response.body).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success() && said.is_empty(),
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&said)
    );
    let families = response.text().lines().filter(|line| line.starts_with("# TYPE")).count();
    Ok(format!("{families} families, {} bytes, nothing to say", response.body.len()))
}

/// Counts as `fio` has them, in each job of this Prometheus.
fn counts(prometheus: &Prometheus, jobs: &[&str], truth: &Truth, is_native: bool) -> Outcome {
    for job in jobs {
        prometheus.wait_value(&format!("up{{job=\"{job}\"}}"), 1.0);
        for (operation, report) in [("read", &truth.read), ("write", &truth.write)] {
            let labels = format!("{{job=\"{job}\",device=\"{}\",operation=\"{operation}\"}}", truth.device);
            let count = if is_native {
                format!("histogram_count({DURATION}{labels})")
            } else {
                format!("{DURATION}_count{labels}")
            };
            let (own_count, own_bytes) = truth.of(operation, report);
            prometheus.wait_value(&count, own_count);
            prometheus.wait_value(&format!("tapster_block_io_bytes_total{labels}"), own_bytes);
        }
        prometheus.wait_value(&format!("tapster_probe_up{{job=\"{job}\",probe=\"block_io\"}}"), 1.0);
        prometheus.wait_value(&format!("sum(tapster_probe_dropped_total{{job=\"{job}\"}})"), 0.0);
        prometheus.wait_value(&format!("min_over_time(up{{job=\"{job}\"}}[1m])"), 1.0);
    }
    let samples = prometheus.query("scrape_samples_scraped");
    Ok(format!(
        "{} reads and {} writes in {jobs:?}; samples {:?}",
        truth.read.ios,
        truth.write.ios,
        samples.iter().map(|(_, value)| *value).collect::<Vec<_>>()
    ))
}

/// The classic buckets around a value, as powers of two.
fn bucket(value: f64) -> (f64, f64) {
    let upper = value.log2().ceil().exp2();
    (upper / 2.0, upper)
}

fn quantiles(classic: &Prometheus, native: &Prometheus, truth: &Truth) -> Outcome {
    let mut said = Vec::new();
    for operation in ["read", "write"] {
        for quantile in ["0.1", "0.5", "0.9", "0.99"] {
            let labels = format!("device=\"{}\",operation=\"{operation}\"", truth.device);
            let of_classic = |job| {
                classic
                    .value(&format!(
                        "histogram_quantile({quantile}, {DURATION}_bucket{{job=\"{job}\",{labels}}})"
                    ))
                    .unwrap()
            };
            let (text, open) = (of_classic("text"), of_classic("openmetrics"));
            let exact =
                native.value(&format!("histogram_quantile({quantile}, {DURATION}{{{labels}}})")).unwrap();
            assert!((text - open).abs() < 1e-12, "{operation} {quantile}: text {text}, OpenMetrics {open}");
            let (lower, upper) = bucket(text);
            assert!(
                (lower * 0.9999..=upper * 1.0001).contains(&exact),
                "{operation} {quantile}: native {exact} outside ({lower}, {upper}]"
            );
            said.push(format!("{operation} {quantile}: {:.1}/{:.1} us", text * 1e6, exact * 1e6));
        }
    }
    Ok(format!("classic/native {}", said.join(", ")))
}

/// What native histograms are for: rates over them, and averages.
fn native_rates(native: &Prometheus, truth: &Truth) -> Outcome {
    let labels = format!("{{device=\"{}\",operation=\"read\"}}", truth.device);
    let mean = native
        .value(&format!("histogram_sum({DURATION}{labels}) / histogram_count({DURATION}{labels})"))
        .unwrap();
    assert!(mean > 0.0 && mean <= truth.read.mean * 1.0001, "mean {mean}, fio {}", truth.read.mean);
    let rate = native
        .value(&format!("histogram_quantile(0.5, sum(rate({DURATION}{{device=\"{}\"}}[1m])))", truth.device))
        .unwrap();
    assert!(rate.is_finite() && rate > 0.0, "{rate}");
    let classic = native.query(&format!("{DURATION}_count{labels}"));
    assert!(classic.is_empty(), "this Prometheus took the classic buckets: {classic:?}");
    Ok(format!(
        "mean {:.1} us, fio {:.1} us; p50 of the rate {:.1} us",
        mean * 1e6,
        truth.read.mean * 1e6,
        rate * 1e6
    ))
}

fn run(cases: &mut Cases) -> Result<(), Skip> {
    root()?;
    tool("prometheus")?;
    let memory = memory_directory()?;
    let device = LoopDevice::over(&filled_file(&memory.path().join("loop"), 32 * MIB), &[])?;
    wait_quiet(&device.name());
    let tapster = Tapster::start(&[]);
    let proxy = text_only(tapster.address);
    let classic = Prometheus::start(
        &memory.path().join("classic"),
        &[("text", proxy), ("openmetrics", tapster.address)],
        &[],
        &[],
    )?;
    let native = Prometheus::start(
        &memory.path().join("native"),
        &[("protobuf", tapster.address)],
        &["--enable-feature=native-histograms"],
        &[],
    )?;
    // A rate needs samples from before, during and after.
    let paced = ["--rate_iops=2000"];
    let job = |pattern| Job {
        target: &device.path,
        pattern,
        block_bytes: 4096,
        depth: 4,
        bytes: 24 * MIB,
        extra: &paced,
    };
    let (read, write) = (job("randread").run()?, job("randwrite").run()?);
    let own = tapster.settled(&format!("{DURATION}_count"), &[("device", &device.name())]);
    let truth = Truth { device: device.name(), read, write, own };
    cases.run("formats by Accept", || formats(&tapster));
    cases.run("promtool check metrics", || promtool(&tapster));
    cases.run("counts in text and OpenMetrics", || counts(&classic, &["text", "openmetrics"], &truth, false));
    cases.run("counts in protobuf", || counts(&native, &["protobuf"], &truth, true));
    cases.run("quantiles", || quantiles(&classic, &native, &truth));
    cases.run("native histograms", || native_rates(&native, &truth));
    Ok(())
}

#[test]
fn prometheus_understands_every_format() {
    let mut cases = Cases::new("prometheus");
    if let Err(Skip(reason)) = run(&mut cases) {
        say(format_args!("prometheus: skipped: {reason}"));
    }
    cases.finish();
}
