//! Shipped probes that a configuration adjusts: each setting in a real exporter, with I/O on loop devices.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]
#![allow(clippy::unnecessary_wraps, reason = "cases are alike")]

use tapster_testing as support;

use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model as proto;
use prost::Message;
use std::{fs, thread::sleep, time::Duration};
use support::{
    cases::{Cases, Outcome, Skip},
    control::disk::DiskControl,
    device::{LoopDevice, filled_file, memory_directory, wait_quiet},
    exporter::{Tapster, binary},
    fio::Job,
    http,
    load::assert_all,
    metrics::{Metrics, whole},
};

const MIB: u64 = 1 << 20;
const LATENCY: &str = "tapster_block_io_duration_seconds";
const PROTOBUF: &str =
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
const OPEN_METRICS: &str = "application/openmetrics-text;version=1.0.0";
/// Within this time rows of unwanted devices have left the map.
const NOTICED: Duration = Duration::from_millis(2500);

/// A device, and what sees the same I/O as the probe: an event that the kernel leaves out, on a busy host, is none of tapster's.
struct Disk {
    device: LoopDevice,
    control: DiskControl,
}

impl Disk {
    fn name(&self) -> String {
        self.device.name()
    }

    /// Fails unless all of these I/Os are counted that the kernel told of.
    fn assert_all(&self, found: u64, ios: u64) {
        assert_all(&self.name(), found, ios, self.control.lost_bios());
    }
}

struct Disks {
    first: Disk,
    second: Disk,
    _directory: tempfile::TempDir,
}

impl Disks {
    fn new() -> Result<Self, Skip> {
        let directory = memory_directory()?;
        let device = |name| -> Result<Disk, Skip> {
            let device = LoopDevice::over(&filled_file(&directory.path().join(name), 4 * MIB), &[])?;
            wait_quiet(&device.name());
            let control = DiskControl::new(&device.name())?;
            Ok(Disk { device, control })
        };
        let (first, second) = (device("first")?, device("second")?);
        Ok(Self { first, second, _directory: directory })
    }
}

/// Reads all of a device; the number of reads.
fn read(disk: &Disk) -> Result<u64, Skip> {
    let job = Job {
        target: &disk.device.path,
        pattern: "randread",
        block_bytes: 4096,
        depth: 1,
        bytes: 4 * MIB,
        extra: &[],
    };
    Ok(job.run()?.ios)
}

fn reads(metrics: &Metrics, device: &Disk) -> Option<u64> {
    let labels = [("device", device.name()), ("operation", "read".to_owned())];
    let labels = labels.each_ref().map(|(label, value)| (*label, value.as_str()));
    metrics.find(&format!("{LATENCY}_count"), &labels).map(whole)
}

fn refused(metrics: &Metrics) -> u64 {
    whole(metrics.sum("tapster_probe_dropped_total", &[("probe", "block_io"), ("reason", "max_series")]))
}

/// The histogram of a family for one device, as protobuf has it.
fn native(tapster: &Tapster, device: &str) -> proto::Histogram {
    let response = http::get(tapster.address, "/metrics", Some(PROTOBUF)).unwrap();
    let mut bytes = response.body.as_slice();
    while !bytes.is_empty() {
        let family = proto::MetricFamily::decode_length_delimited(&mut bytes).unwrap();
        if family.name == LATENCY {
            let is_own = |metric: &proto::Metric| metric.label.iter().any(|pair| pair.value == device);
            return family.metric.into_iter().find(is_own).unwrap().histogram.unwrap();
        }
    }
    panic!("no `{LATENCY}`")
}

/// Buckets of a text: bounds, as they are written.
fn bounds(text: &str, device: &str) -> Vec<String> {
    let own = format!("device=\"{device}\",operation=\"read\"");
    let buckets =
        text.lines().filter(|line| line.starts_with(&format!("{LATENCY}_bucket")) && line.contains(&own));
    let bound = |line: &str| Some(line.split_once("le=\"")?.1.split_once('"')?.0.to_owned());
    buckets.filter_map(bound).collect()
}

/// A device that is not wanted has no series, and after the first second no row either.
fn devices() -> Outcome {
    let disks = Disks::new()?;
    let wanted = disks.second.name();
    let include = format!("block.devices.include={wanted}");
    // A name like `nvme0n1` must not be taken for a pattern of others: the whole name counts.
    let tapster =
        Tapster::start(&["--probes", "block", "--override", &include, "--override", "block.max_series=2"]);
    read(&disks.first)?;
    sleep(NOTICED);
    let ios = read(&disks.second)?;
    let before = tapster.scrape();
    disks.second.assert_all(reads(&before, &disks.second).expect("there is a row for it"), ios);
    // Were there rows of other devices, there would be no room.
    read(&disks.first)?;
    let after = tapster.scrape();
    assert_eq!(refused(&after), refused(&before), "what is not wanted is not lost");
    let other = format!("\"{}\"", disks.first.name());
    for accept in [None, Some(OPEN_METRICS)] {
        let text = http::get(tapster.address, "/metrics", accept).unwrap();
        // What a device is has nothing to do with what a probe counts of it.
        let is_count = |line: &&str| !line.starts_with("tapster_block_device_");
        let lines: Vec<_> =
            text.text().lines().filter(is_count).filter(|line| line.contains(&other)).collect();
        assert!(lines.is_empty(), "{lines:?}");
    }
    assert_eq!(after.find("tapster_probe_series", &[("probe", "block_io")]), Some(1.0));
    Ok(format!("{ios} reads of the device that is wanted, no row of the other"))
}

/// What may change while a probe runs changes nothing of its counts.
fn reload() -> Outcome {
    let disks = Disks::new()?;
    let (first, second) = (disks.first.name(), disks.second.name());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("probes.yaml");
    let write = |values: &str| {
        fs::write(&file, format!("library: [block_io]\noverrides:\n  block: {{ {values} }}\n")).unwrap();
    };
    write(&format!("devices: {{ exclude: {first} }}"));
    let tapster = Tapster::start(&["-c", file.to_str().unwrap(), "--web.enable-lifecycle"]);
    let post = || {
        let answer = http::request(tapster.address, "POST", "/-/reload", "").unwrap();
        (answer.status, answer.text().to_owned())
    };
    let ios = read(&disks.second)?;
    let kept = || (200, "configuration reloaded: 1 probe went on\n".to_owned());
    write(&format!("devices: {{ exclude: {second} }}, classic: false"));
    assert_eq!(post(), kept());
    sleep(NOTICED);
    let again = read(&disks.first)?;
    let now = tapster.scrape();
    let counted = reads(&now, &disks.first);
    disks.first.assert_all(counted.unwrap_or_default(), again);
    assert_eq!(reads(&now, &disks.second), None);
    write("devices: { exclude: \"none*\" }, bounds: [2^-10]");
    assert_eq!(post(), kept());
    let text = tapster.get("/metrics").text().to_owned();
    assert_eq!(bounds(&text, &first), ["0.0009765625", "+Inf"]);
    assert_eq!(reads(&Metrics::parse(&text), &disks.first), counted);
    write("schema: 1");
    assert_eq!(post(), (200, "configuration reloaded: 0 probes went on, changed: block_io\n".to_owned()));
    write("schema: 9");
    assert_eq!(post().0, 500);
    Ok(format!("{ios} and {again} reads, shown by two settings without a new program"))
}

/// Metrics that nobody wants are neither counted nor shown.
fn metrics() -> Outcome {
    let disks = Disks::new()?;
    let tapster = Tapster::start(&[
        "--probes",
        "block_io",
        "--override",
        "block_io.metrics={include: [tapster_block_io_*], exclude: [block_io_duration_seconds, \"*_oldest_*\"]}",
    ]);
    read(&disks.first)?;
    let text = tapster.get("/metrics").text().to_owned();
    let families: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE tapster_block_")?.split(' ').next())
        .filter(|name| name.starts_with("io_"))
        .collect();
    assert_eq!(families, ["io_bytes_total", "io_errors_total", "io_in_flight"]);
    let bytes = Metrics::parse(&text)
        .find("tapster_block_io_bytes_total", &[("device", &disks.first.name()), ("operation", "read")]);
    disks.first.assert_all(bytes.map(whole).unwrap_or_default() / 4096, 4 * MIB / 4096);
    Ok(format!("{} families of 5", families.len()))
}

/// Coarser classic bounds, and the native form as it was.
fn coarser() -> Outcome {
    let disks = Disks::new()?;
    let device = disks.first.name();
    let tapster = Tapster::start(&[
        "--probes",
        "block_io",
        "--override",
        "block.bounds=[2^-14, 0.0009765625, 0.0078125]",
    ]);
    let ios = read(&disks.first)?;
    let text = tapster.get("/metrics").text().to_owned();
    assert_eq!(bounds(&text, &device), ["0.00006103515625", "0.0009765625", "0.0078125", "+Inf"]);
    let metrics = Metrics::parse(&text);
    let labels = [("device", device.as_str()), ("operation", "read"), ("le", "+Inf")];
    let counted = metrics.find(&format!("{LATENCY}_bucket"), &labels).map(whole).unwrap_or_default();
    disks.first.assert_all(counted, ios);
    let native = native(&tapster, &device);
    assert_eq!((native.bucket.len(), native.schema), (4, 3));
    assert_eq!(native.sample_count, counted);
    Ok(format!("{ios} reads in 4 classic and {} native buckets", native.positive_delta.len()))
}

/// Without the classic form texts are still valid, and protobuf has nothing but the native one.
fn native_only() -> Outcome {
    let disks = Disks::new()?;
    let device = disks.first.name();
    let tapster = Tapster::start(&[
        "--probes",
        "block_io",
        "--override",
        "block.schema=1",
        "--override",
        "block_io.classic=false",
    ]);
    let ios = read(&disks.first)?;
    for accept in [None, Some(OPEN_METRICS)] {
        let response = http::get(tapster.address, "/metrics", accept).unwrap();
        assert_eq!(bounds(response.text(), &device), ["+Inf"], "{accept:?}");
        let metrics = Metrics::parse(response.text());
        disks.first.assert_all(reads(&metrics, &disks.first).unwrap_or_default(), ios);
    }
    let native = native(&tapster, &device);
    assert_eq!((native.bucket.len(), native.schema), (0, 1));
    disks.first.assert_all(native.sample_count, ios);
    assert!(!native.positive_span.is_empty());
    Ok(format!("{ios} reads in {} native buckets alone", native.positive_delta.len()))
}

/// Which probes run.
#[expect(clippy::unnecessary_wraps, reason = "a case may be skipped; this one never is")]
fn enabled() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("probes.yaml");
    fs::write(
        &file,
        "library: true\noverrides: { block_request: { enabled: false }, sched_switches: { enabled: true } }\n",
    )
    .unwrap();
    let path = file.to_str().unwrap();
    let up = |arguments: &[&str]| Tapster::start(arguments).scrape().values("tapster_probe_up", &[], "probe");
    assert_eq!(up(&["-c", path]), ["block_io", "raid_member", "sched_switches"]);
    // The group does not bring it back, its own name does; a flag goes before a file.
    assert_eq!(up(&["-c", path, "--probes", "block"]), ["block_io"]);
    assert_eq!(up(&["-c", path, "--probes", "block_request,block_io"]), ["block_io", "block_request"]);
    let flag = ["-c", path, "--override", "block_request.enabled=true", "--override", "raid.enabled=false"];
    assert_eq!(up(&flag), ["block_io", "block_request", "sched_switches"]);
    // Later flags go before those before them, and all before the file.
    let check = |flags: &[&str]| {
        let output = binary().args(["check", "--offline", "block"]).args(flags).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let most = check(&["--override", "block_io.max_series=77", "--override", "block.max_series=55"]);
    assert!(most.contains("at most 55 label sets") && !most.contains("at most 77"), "{most}");
    // A pattern that fits nothing is no error, since a file is for many hosts, but it is said.
    let none = check(&["--override", "block.devices={include: [no-such*]}"]);
    let said = "no series here: `devices` takes none of the ";
    assert!(none.contains(said) && !most.contains(said), "{none}\n{most}");
    Ok("by file, group and flag".to_owned())
}

#[test]
fn shipped_probes_are_adjusted() {
    let Some(mut cases) = Cases::as_root("overrides") else { return };
    cases.run("devices", devices);
    cases.run("reload", reload);
    cases.run("metrics", metrics);
    cases.run("coarser", coarser);
    cases.run("native only", native_only);
    cases.run("enabled", enabled);
    cases.finish();
}
