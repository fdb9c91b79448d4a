//! A real Prometheus scrapes the exporter while `fio` runs, in each of the three formats, and answers queries
//! from what it understood.

#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]
#![allow(clippy::unnecessary_wraps, reason = "cases are alike")]
#![allow(clippy::cast_precision_loss, reason = "samples are f64, as Prometheus keeps them")]

use tapster_testing as support;

use std::{fs, io::Write, process::Stdio, time::Duration};
use support::{
    cases::{Cases, Outcome, Skip, say},
    command::{root, tool},
    control::disk::DiskControl,
    device::{LoopDevice, filled_file, memory_directory, wait_quiet},
    durations,
    exporter::{Tapster, within},
    fio::{Job, Report},
    http,
    metrics::Metrics,
    prometheus::{Prometheus, text_only},
    queries,
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
    /// Bios whose end a control did not see either.
    lost: u64,
}

/// Bytes of each I/O.
const BLOCK: u64 = 4096;

impl Truth {
    /// Count and bytes that a Prometheus must have: the exporter's, which are `fio`'s without what was hidden from a control
    /// as well (see `support::control`).
    fn of(&self, operation: &str, report: &Report) -> (f64, f64) {
        let labels = [("device", self.device.as_str()), ("operation", operation)];
        let count = self.own.sum(&format!("{DURATION}_count"), &labels);
        let bytes = self.own.sum("tapster_block_io_bytes_total", &labels);
        let (ios, total) = (report.ios as f64, report.bytes as f64);
        let (lost, lost_bytes) = (self.lost as f64, (self.lost * BLOCK) as f64);
        assert!(count <= ios && count + lost >= ios, "{operation}: {count} of fio's {ios}, {lost} lost");
        assert!(
            bytes <= total && bytes + lost_bytes >= total,
            "{operation}: {bytes} of fio's {total} bytes, {lost_bytes} lost"
        );
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
            // Both are numbers of a text, rounded in the seventh place.
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
    // Ours lies inside fio's time of each I/O; fio rounds to a nanosecond.
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
        block_bytes: BLOCK,
        depth: 4,
        bytes: 24 * MIB,
        extra: &paced,
    };
    let control = DiskControl::new(&device.name())?;
    let (read, write) = (job("randread").run()?, job("randwrite").run()?);
    let own = tapster.settled(&format!("{DURATION}_count"), &[("device", &device.name())]);
    let truth = Truth { device: device.name(), read, write, own, lost: control.lost_bios() };
    cases.run("formats by Accept", || formats(&tapster));
    cases.run("promtool check metrics", || promtool(&tapster));
    cases.run("counts in text and OpenMetrics", || counts(&classic, &["text", "openmetrics"], &truth, false));
    cases.run("counts in protobuf", || counts(&native, &["protobuf"], &truth, true));
    cases.run("quantiles", || quantiles(&classic, &native, &truth));
    cases.run("native histograms", || native_rates(&native, &truth));
    cases.run("an alert of a reload", reload_that_fails);
    Ok(())
}

/// A configuration that is not taken over fires the alert, and one that is ends it: no guest changes its configuration, so
/// that `tests/guest/queries.rs` sees a constant there.
fn reload_that_fails() -> Outcome {
    // Five minutes are three seconds.
    const SHORTER: u32 = 100;
    const PATIENCE: Duration = Duration::from_secs(30);
    const ALERTS: &str = "ALERTS{alertname=\"TapsterReloadFailed\"}";
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("probes.yaml");
    let good = "probes:\n  - name: forks\n    at: tracepoint:sched:sched_process_fork\n    metrics: [{ counter: forks_total, help: Forks. }]\n";
    let reload = |tapster: &Tapster, text: &str| {
        fs::write(&file, text).unwrap();
        http::request(tapster.address, "POST", "/-/reload", "").unwrap().status
    };
    fs::write(&file, good).unwrap();
    let tapster = Tapster::start(&["-c", file.to_str().unwrap(), "--web.enable-lifecycle"]);
    let rules = queries::changed_rule_files(directory.path(), |text| {
        durations::replace(text, |_, old| old / SHORTER)
    });
    let prometheus = Prometheus::start_every(
        Duration::from_millis(500),
        &directory.path().join("database"),
        &[("tapster", tapster.address)],
        &[],
        &rules,
    )?;
    let states = || -> Vec<String> {
        let alerts = prometheus.query(ALERTS).into_iter();
        alerts.map(|(labels, _)| labels["alertstate"].as_str().unwrap().to_owned()).collect()
    };
    let scraped = || prometheus.value("tapster_config_last_reload_successful").is_some();
    assert!(within(PATIENCE, scraped).is_some(), "nothing was scraped");
    assert_eq!(states(), [""; 0], "what was taken over at the start");
    let mut took = Vec::new();
    for (text, status, expected) in [("probes: [", 500, &["firing"][..]), (good, 200, &[])] {
        assert_eq!(reload(&tapster, text), status, "{text}");
        let is_there = within(PATIENCE, || states() == expected);
        took.push(is_there.unwrap_or_else(|| panic!("{text:?}: {:?}, not {expected:?}", states())));
    }
    Ok(format!(
        "fires {:.1} s after a reload that failed, ends {:.1} s after the next",
        took[0].as_secs_f64(),
        took[1].as_secs_f64()
    ))
}

#[test]
fn prometheus_understands_every_format() {
    let mut cases = Cases::new("prometheus");
    if let Err(Skip(reason)) = run(&mut cases) {
        say(format_args!("prometheus: skipped: {reason}"));
    }
    cases.finish();
}
