//! The block probes against the truth: `fio`'s own totals, the kernel's statistics of the device, and an
//! observer that is not ours.
//!
//! Why latencies can be bounded from both sides: a bio is submitted after `fio` took the time of its I/O and
//! completes before `fio` takes it again, so with one bio for each I/O ours is never longer, rank by rank
//! and in the mean. From below, the kernel's own time of a request lies inside ours, and an injected delay does.
//!
//! Why a short count is tried again, and one too many never is: there are kernels that run no tracing program, ours
//! or others', while a task of the host's own control plane is current. An interrupt that meets such a task
//! completes I/O that `/sys/block` and ftrace count and no program can. It is one event in some ten thousand. A control
//! (`support::control`) stands at the same event: what is short by more than the control lost fails at once.

#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]
#![allow(clippy::cast_precision_loss, reason = "samples are f64, as Prometheus keeps them")]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "ranks of small counts")]

mod devices;
mod flushes;
use tapster_testing as support;

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
};
use support::{
    cases::{Attempt, Cases, Outcome, Skip, say, unless_hidden},
    control::disk::DiskControl,
    device::{LoopDevice, Stat, Zram, disk_of, filled_file, has_requests, memory_directory, wait_quiet},
    exporter::Tapster,
    fio::{Job, PERCENTILE_ERROR, Report},
    metrics::{Histogram, Metrics},
    observer::{self, Observer},
};

const DURATION: &str = "tapster_block_io_duration_seconds";
const COUNT: &str = "tapster_block_io_duration_seconds_count";
const BYTES: &str = "tapster_block_io_bytes_total";
const ERRORS: &str = "tapster_block_io_errors_total";
const REQUESTS: &str = "tapster_block_device_duration_seconds_count";
const DROPPED: &str = "tapster_probe_dropped_total";
const LATE: &str = "tapster_site_late_seconds_total";

const MIB: u64 = 1 << 20;
/// Bytes of a large bio. It is 128 pages, as many segments as a request of any driver here takes, so that no bio is split: a larger
/// one is or is not by how many of its pages happen to be huge, and the pieces of a split bio end before it does.
const LARGE: u64 = 512 << 10;

/// Time that two observers on one tracepoint may see apart: the programs of one run before those of the other.
const BETWEEN_OBSERVERS: f64 = 6e-6;

/// The shipped probes, and how much later than the event that ends a request the kernel takes its time: who completes it may
/// lose the processor in between, to whom it woke. Before Linux 6.5 there is no such event.
const PROBES: &str = "library: true
probes:
  - name: site_late
    start: { at: 'rawtracepoint:block:block_rq_complete', key: args.rq }
    end: { at: 'rawtracepoint:block:block_io_done', key: args.rq }
    let: { disk: args.rq.q.disk }
    labels: { device: { value: disk.major << 20 | disk.first_minor, as: block_device } }
    metrics: [{ counter: site_late_seconds_total, help: From the completion to its account., value: duration }]
";

/// How often a job is tried of which the kernel hid events from the control too.
const ATTEMPTS: usize = 4;

/// A device under load, and whether it does nothing else.
struct Target {
    device: String,
    path: PathBuf,
    exclusive: bool,
    small_bytes: u64,
    large_bytes: u64,
    /// Bios and bytes of attempts that were short.
    lost: Cell<(u64, u64)>,
}

impl Target {
    fn exclusive(device: String, path: &Path) -> Self {
        let path = path.to_owned();
        Self {
            device,
            path,
            exclusive: true,
            small_bytes: 32 * MIB,
            large_bytes: 64 * MIB,
            lost: Cell::default(),
        }
    }
}

/// What was counted around a job.
struct Measured {
    report: Report,
    histogram: Histogram,
    stat: Stat,
    /// Without requests the kernel counts time in ticks of its slow clock.
    has_requests: bool,
    /// Seconds from the ends of all requests to when the kernel took their times.
    late: f64,
}

/// Runs a job between two scrapes and checks what holds for every job: nothing lost, nothing invented.
fn measure(
    tapster: &Tapster,
    target: &Target,
    job: &Job,
    run: impl Fn() -> Result<Report, Skip>,
) -> Result<Measured, Skip> {
    unless_hidden(&format!("block: {}", job.name()), ATTEMPTS, || {
        if target.exclusive {
            wait_quiet(&target.device);
        }
        let control = DiskControl::new(&target.device)?;
        let before = tapster.scrape();
        let measured = attempt(tapster, target, job, &run)?;
        let short = measured.report.ios.saturating_sub(measured.histogram.count());
        if short == 0 {
            return Ok(Attempt::Done(measured));
        }
        let after = tapster.scrape();
        let bytes = after.since(&before, BYTES, &[("device", &target.device)]);
        let (bios, before) = target.lost.get();
        target.lost.set((bios + short, before + measured.report.bytes.saturating_sub(bytes)));
        let why = format!("{short} of {} bios not seen", measured.report.ios);
        let lost = control.lost_bios();
        assert!(!target.exclusive || short <= lost, "{}: {why}, the control lost {lost}", job.name());
        Ok(Attempt::Short { why, lost })
    })
}

fn attempt(
    tapster: &Tapster,
    target: &Target,
    job: &Job,
    run: impl Fn() -> Result<Report, Skip>,
) -> Result<Measured, Skip> {
    let operation = job.operation();
    let labels = [("device", target.device.as_str()), ("operation", operation)];
    let before = tapster.settled(COUNT, &labels);
    let stat = Stat::of(&target.device);
    let report = run()?;
    let after = if target.exclusive { tapster.settled(COUNT, &labels) } else { tapster.scrape() };
    let stat = Stat::of(&target.device).since(stat);
    let histogram = after.histogram_since(&before, DURATION, &labels);
    let (count, bytes) = (histogram.count(), after.since(&before, BYTES, &labels));
    let missed = after.since(&before, "tapster_probe_missed_total", &[("probe", "block_io")]);
    assert_eq!(missed, 0, "{}: runs that the kernel skipped", job.name());
    if target.exclusive {
        assert!(count <= report.ios, "{}: {count} bios, fio asked for {}", job.name(), report.ios);
        if count == report.ios {
            assert_eq!(bytes, report.bytes, "{}: bytes as fio has them", job.name());
        }
        let all = after.since(&before, COUNT, &labels[..1]);
        assert_eq!(all, count, "{}: operations that nobody asked for", job.name());
        assert_eq!(
            stat.direction(operation).sectors * 512,
            report.bytes,
            "{}: the kernel's sectors",
            job.name()
        );
    } else {
        assert!(
            bytes <= stat.direction(operation).sectors * 512,
            "{}: more bytes than the kernel's",
            job.name()
        );
    }
    assert_eq!(after.since(&before, ERRORS, &labels[..1]), 0, "{}: errors", job.name());
    for reason in after.values(DROPPED, &[], "reason") {
        let dropped = after.since(&before, DROPPED, &[("reason", &reason)]);
        assert_eq!(dropped, 0, "{}: dropped for {reason}", job.name());
    }
    let has_requests = has_requests(&target.device);
    let late = after.sum(LATE, &labels[..1]) - before.sum(LATE, &labels[..1]);
    Ok(Measured { report, histogram, stat, has_requests, late })
}

fn mean(histogram: &Histogram) -> f64 {
    histogram.sum / histogram.count() as f64
}

/// The rank that `fio` reports for a percentile.
fn rank(percentile: f64, count: u64) -> u64 {
    ((percentile / 100.0 * count as f64).ceil() as u64).max(1)
}

/// Ours is inside `fio`'s, so it is not longer at any rank.
fn assert_not_longer(job: &Job, Measured { report, histogram, stat, has_requests, late }: &Measured) {
    assert!(
        mean(histogram) <= report.mean * 1.0001,
        "{}: mean {} above fio's {}",
        job.name(),
        mean(histogram),
        report.mean
    );
    for (percentile, fio) in &report.percentiles {
        let (lower, _) = histogram.bucket_of_rank(rank(*percentile, report.ios));
        assert!(
            lower <= fio * (1.0 + PERCENTILE_ERROR),
            "{}: p{percentile} is above {lower}, fio has {fio}",
            job.name()
        );
    }
    // The kernel takes the time of a request from its allocation, inside ours, to after the event that ends ours. It does so
    // for requests: where several bios share one, or one has several, its sum is another.
    let direction = stat.direction(job.operation());
    if *has_requests && direction.merges == 0 && direction.ios == report.ios {
        let least = direction.ticks_ms as f64 / 1e3 * 0.95 - 2e-3 - report.ios as f64 * BETWEEN_OBSERVERS;
        assert!(
            histogram.sum + late >= least,
            "{}: sum {} and {late} to the account below the kernel's {least}",
            job.name(),
            histogram.sum
        );
    }
}

/// No bio was split: each ends when its one request does, for the other observer too.
fn assert_whole(job: &Job, Measured { report, stat, has_requests, .. }: &Measured) {
    let requests = stat.direction(job.operation()).ios;
    assert!(
        !has_requests || requests <= report.ios,
        "{}: {} bios in {requests} requests",
        job.name(),
        report.ios
    );
}

fn figures(job: &Job, Measured { report, histogram, stat, late, has_requests: _ }: &Measured) -> String {
    let microseconds = |seconds: f64| format!("{:.1}", seconds * 1e6);
    let quantile = |percentile: f64| {
        let fio = report
            .percentiles
            .iter()
            .find(|(found, _)| (found - percentile).abs() < 1e-9)
            .map_or(0.0, |(_, value)| *value);
        let (lower, upper) = histogram.bucket_of_rank(rank(percentile, histogram.count()));
        format!("p{percentile} ({}, {}] fio {}", microseconds(lower), microseconds(upper), microseconds(fio))
    };
    let direction = stat.direction(job.operation());
    format!(
        "{} of {} bios, {} bytes; mean {} us, fio {} us; {}; {}; stat {}+{} ios {} ms, ours {:.0} ms and {:.0} ms to the account",
        histogram.count(),
        report.ios,
        report.bytes,
        microseconds(mean(histogram)),
        microseconds(report.mean),
        quantile(50.0),
        quantile(99.0),
        direction.ios,
        direction.merges,
        direction.ticks_ms,
        histogram.sum * 1e3,
        late * 1e3,
    )
}

/// Four jobs of one block size on each target, and the means compared with an observer that ran all the time.
fn load(cases: &mut Cases, tapster: &Tapster, targets: &[Target], block_bytes: u64) {
    let observer = Observer::start();
    let before = tapster.scrape();
    for target in targets {
        let (patterns, bytes) = if block_bytes < LARGE {
            (["randread", "randwrite"], target.small_bytes)
        } else {
            (["read", "write"], target.large_bytes)
        };
        for pattern in patterns {
            for depth in [1, 32] {
                let job = Job { target: &target.path, pattern, block_bytes, depth, bytes, extra: &[] };
                cases.run(&format!("{}: {}", kind(target), job.name()), || {
                    let measured = measure(tapster, target, &job, || job.run())?;
                    if target.exclusive {
                        assert_not_longer(&job, &measured);
                        assert_whole(&job, &measured);
                    }
                    Ok(figures(&job, &measured))
                });
            }
        }
    }
    let numbers: Vec<u64> = targets.iter().map(|target| observer::number(&target.device)).collect();
    let after = tapster.scrape();
    let (seen, missing) = match observer.map(Observer::stop) {
        Ok(seen) => (seen, None),
        Err(Skip(reason)) => (std::collections::HashMap::new(), Some(reason)),
    };
    for (target, number) in targets.iter().zip(numbers).filter(|(target, _)| target.exclusive) {
        cases.run(&format!("{}: {} KiB beside bpftrace", kind(target), block_bytes >> 10), || {
            if let Some(reason) = &missing {
                return Err(Skip(reason.clone()));
            }
            let seen = seen.get(&number).copied().unwrap_or_default();
            let labels = [("device", target.device.as_str())];
            let histogram = after.histogram_since(&before, DURATION, &labels);
            let bytes = after.since(&before, BYTES, &labels);
            // It counts submissions, which are never lost.
            let (lost_bios, lost_bytes) = target.lost.take();
            assert_eq!(i64::try_from(histogram.count() + lost_bios), Ok(seen.bios), "bios");
            assert_eq!(i64::try_from(bytes + lost_bytes), Ok(seen.sectors * 512), "bytes");
            // Its programs do not run inside one another, so an interrupt may cost it an event, and us none.
            let Some(theirs) = seen.mean else {
                return Ok(format!("{} bios; bpftrace missed completions, its mean says nothing", seen.bios));
            };
            let ours = mean(&histogram);
            assert!(
                (ours - theirs).abs() <= theirs * 0.05 + BETWEEN_OBSERVERS,
                "mean {ours}, bpftrace has {theirs}"
            );
            Ok(format!("{} bios; mean {:.2} us, bpftrace {:.2} us", seen.bios, ours * 1e6, theirs * 1e6))
        });
    }
}

fn kind(target: &Target) -> &str {
    if target.exclusive { target.device.trim_end_matches(|c: char| c.is_ascii_digit()) } else { "disk" }
}

/// The largest request of a loop device, which outlives what it is over; dropping it restores what was set.
struct LargestRequest {
    attribute: String,
    before: String,
}

impl LargestRequest {
    fn set(device: &str, kilobytes: u64) -> Self {
        let attribute = format!("/sys/block/{device}/queue/max_sectors_kb");
        let before = fs::read_to_string(&attribute).unwrap();
        fs::write(&attribute, kilobytes.to_string()).unwrap_or_else(|error| panic!("{attribute}: {error}"));
        Self { attribute, before }
    }
}

impl Drop for LargestRequest {
    fn drop(&mut self) {
        let _ = fs::write(&self.attribute, self.before.trim());
    }
}

/// Bios larger than a request: each is counted once, with all its bytes.
fn split(tapster: &Tapster, target: &Target) -> Outcome {
    // Without a smaller request the kernel splits for the number of pages, and a buffer of huge pages is one.
    const REQUEST_KB: u64 = 256;
    let _largest = LargestRequest::set(&target.device, REQUEST_KB);
    let job = Job {
        target: &target.path,
        pattern: "read",
        block_bytes: MIB,
        depth: 1,
        bytes: 64 * MIB,
        extra: &[],
    };
    let measured = measure(tapster, target, &job, || job.run())?;
    assert_not_longer(&job, &measured);
    let (bios, requests) = (measured.report.ios, measured.stat.read.ios);
    assert!(
        requests >= bios * (MIB / 1024 / REQUEST_KB),
        "{bios} bios in {requests} requests: none was split"
    );
    Ok(format!("{bios} bios in {requests} requests; {}", figures(&job, &measured)))
}

/// Where a bio is full before the I/O is, the kernel submits several for it: how many is for `bpftrace` to say.
fn large(tapster: &Tapster, target: &Target) -> Outcome {
    let job = Job {
        target: &target.path,
        pattern: "read",
        block_bytes: 4 * MIB,
        depth: 4,
        bytes: 64 * MIB,
        extra: &[],
    };
    let labels = [("device", target.device.as_str())];
    let number = observer::number(&target.device);
    unless_hidden("block: reads of several bios", ATTEMPTS, || {
        wait_quiet(&target.device);
        let control = DiskControl::new(&target.device)?;
        let observer = Observer::start()?;
        let before = tapster.settled(COUNT, &labels);
        let report = job.run()?;
        let after = tapster.settled(COUNT, &labels);
        let seen = observer.stop().get(&number).copied().unwrap_or_default();
        let (bios, bytes) = (after.since(&before, COUNT, &labels), after.since(&before, BYTES, &labels));
        no_drops(&after);
        if (i64::try_from(bios), bytes) != (Ok(seen.bios), report.bytes) {
            let why = format!("{bios} of {} bios, {bytes} of {} bytes", seen.bios, report.bytes);
            return Ok(Attempt::Short { why, lost: control.lost_bios() });
        }
        Ok(Attempt::Done(format!("{} reads of 4 MiB as {bios} bios, {bytes} bytes", report.ios)))
    })
}

/// Bios that share a request: each is counted.
fn merged(tapster: &Tapster, target: &Target) -> Outcome {
    let extra = ["--iodepth_batch_submit=32", "--iodepth_batch_complete_min=32"];
    let job = Job {
        target: &target.path,
        pattern: "write",
        block_bytes: 4096,
        depth: 32,
        bytes: 16 * MIB,
        extra: &extra,
    };
    let measured = measure(tapster, target, &job, || job.run())?;
    assert_not_longer(&job, &measured);
    let (bios, requests) = (measured.report.ios, measured.stat.write.ios);
    assert!(requests < bios, "{bios} bios in {requests} requests: none was merged");
    Ok(format!("{bios} bios in {requests} requests; {}", figures(&job, &measured)))
}

fn no_drops(metrics: &Metrics) {
    for reason in metrics.values(DROPPED, &[], "reason") {
        assert!(metrics.sum(DROPPED, &[("reason", &reason)]).abs() < 0.5, "dropped for {reason}");
    }
}

#[test]
fn block_io_is_counted_as_it_happened() {
    let Some(mut cases) = Cases::as_root("block") else {
        return;
    };
    let probes = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    fs::write(probes.path(), PROBES).unwrap();
    let tapster = Tapster::start(&["-c", probes.path().to_str().unwrap()]);
    let memory = memory_directory();
    let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut targets = Vec::new();
    let loop_device = memory
        .as_ref()
        .map_err(|Skip(reason)| Skip(reason.clone()))
        .and_then(|memory| LoopDevice::over(&filled_file(&memory.path().join("loop"), 64 * MIB), &[]));
    let zram = Zram::take(256 * MIB);
    cases.run("devices", || {
        let mut found = Vec::new();
        let mut add = |target: Target| {
            found.push(target.device.clone());
            targets.push(target);
        };
        match &loop_device {
            Ok(device) => add(Target::exclusive(device.name(), &device.path)),
            Err(Skip(reason)) => say(format_args!("block: loop: skipped: {reason}")),
        }
        match &zram {
            Ok(_) => add(Target::exclusive("zram0".into(), Path::new("/dev/zram0"))),
            Err(Skip(reason)) => say(format_args!("block: zram: skipped: {reason}")),
        }
        match disk_of(disk.path()) {
            Ok(device) => add(Target {
                device,
                path: filled_file(&disk.path().join("file"), 32 * MIB),
                exclusive: false,
                small_bytes: 4 * MIB,
                large_bytes: 32 * MIB,
                lost: Cell::default(),
            }),
            Err(Skip(reason)) => say(format_args!("block: disk: skipped: {reason}")),
        }
        if found.is_empty() { Err(Skip("there is no device to load".into())) } else { Ok(found.join(", ")) }
    });
    load(&mut cases, &tapster, &targets, 4096);
    load(&mut cases, &tapster, &targets, LARGE);
    if let (Ok(memory), Some(target)) = (&memory, targets.iter().find(|target| kind(target) == "loop")) {
        cases.run("loop: bios that are split", || split(&tapster, target));
        cases.run("loop: reads of several bios", || large(&tapster, target));
        cases.run("loop: bios that are merged", || merged(&tapster, target));
        cases.run("loop: flushes", || flushes::flushes(&tapster, target));
        cases.run("loop: a file system", || flushes::file_system(&tapster, target, memory.path()));
        cases.run("loop: a device that goes away", || devices::vanishing(&tapster, memory.path()));
        cases.run("loop: a number that is another device", || devices::renumbered(memory.path()));
    }
    cases.run("loop: an injected delay", || devices::delayed(&tapster, disk.path()));
    cases.finish();
}
