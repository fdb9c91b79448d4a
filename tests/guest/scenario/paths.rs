//! Paths of multipath disks, by the names that their disk has, and requests that are handed over more than once.

use crate::{
    kernel::Kernel,
    machine::Results,
    support::metrics::{Metrics, whole},
};

/// I/Os of each load in one direction, 4 KiB each.
const IOS: u64 = 256;
const QUEUE: &str = "tapster_block_queue_duration_seconds";
const DEVICE: &str = "tapster_block_device_duration_seconds";
const IO: &str = "tapster_block_io_duration_seconds";

/// Reads and writes that a disk's own statistics have.
fn own(results: &Results, name: &str, disk: &str) -> u64 {
    let text = results.text(&format!("{name}.stat"));
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("/sys/block/{disk}/stat:")));
    let words: Vec<u64> = line
        .unwrap_or_else(|| panic!("no `{disk}` in:\n{text}"))
        .split_whitespace()
        .map(|word| word.parse().unwrap())
        .collect();
    words[0] + words[4]
}

/// What was counted between two scrapes.
struct Between<'r> {
    results: &'r Results,
    name: &'r str,
    before: Metrics,
    after: Metrics,
}

impl<'r> Between<'r> {
    fn new(results: &'r Results, name: &'r str) -> Self {
        let scrape = |when: &str| results.metrics(&format!("{name}-{when}.prom"));
        Self { results, name, before: scrape("before"), after: scrape("after") }
    }

    fn count(&self, family: &str, labels: &[(&str, &str)]) -> u64 {
        self.after.histogram_since(&self.before, family, labels).count()
    }

    fn seconds(&self, family: &str, device: &str) -> f64 {
        self.after.histogram_since(&self.before, family, &[("device", device)]).sum
    }

    fn since(&self, family: &str, labels: &[(&str, &str)]) -> u64 {
        self.after.since(&self.before, family, labels)
    }

    /// I/Os by the disk's own statistics.
    fn own(&self, disk: &str) -> u64 {
        let of = |when: &str| own(self.results, &format!("{}-{when}", self.name), disk);
        of("after") - of("before")
    }
}

pub(crate) fn check(kernel: &Kernel, results: &Results) -> String {
    let nvme = nvme(kernel, results);
    let mapped = mapped(results);
    format!("{nvme}; {mapped}; {}", again(results))
}

/// One name by which the queue, the device and I/O join, and the path beside it.
fn nvme(kernel: &Kernel, results: &Results) -> String {
    let between = Between::new(results, "nvme");
    assert_eq!(between.count(IO, &[("device", "nvme0n1")]), 2 * IOS, "I/Os of the disk");
    let paths = ["nvme0c0n1", "nvme0c1n1"].map(|path| (path, between.own(path)));
    assert_eq!(paths.iter().map(|(_, own)| own).sum::<u64>(), 2 * IOS, "{paths:?}");
    if kernel.release.starts_with("5.10.") {
        // No file says which number a hidden disk has.
        let numbers = between.after.values(&format!("{DEVICE}_count"), &[], "device");
        let seen: u64 = numbers
            .iter()
            .filter(|device| device.starts_with("259:"))
            .map(|device| between.count(DEVICE, &[("device", device), ("operation", "read")]))
            .sum();
        assert!(seen >= IOS, "{numbers:?}");
        return format!("NVMe by number, {seen} reads");
    }
    for family in [QUEUE, DEVICE] {
        for (path, own) in paths {
            let labels = [("device", "nvme0n1"), ("path", path)];
            assert_eq!(between.count(family, &labels), own, "{family} of {path}, and its own statistics");
            assert!(own > 0, "{path} was not used");
        }
        assert_eq!(between.count(family, &[("device", "nvme0n1")]), 2 * IOS, "{family}");
    }
    let bytes = between.since("tapster_block_device_bytes_total", &[("device", "nvme0n1")]);
    assert_eq!(bytes, 2 * IOS * 4096, "bytes by both paths");
    let numbered = between.after.values(&format!("{DEVICE}_count"), &[], "device");
    assert!(!numbered.iter().any(|device| device.contains(':')), "{numbered:?}");
    format!("NVMe {paths:?}")
}

/// A path that is given requests, not bios: they are of the device above.
fn mapped(results: &Results) -> String {
    let between = Between::new(results, "mapped");
    let multipath = [("kind", "multipath"), ("name", "mpatha")];
    let devices = between.after.values("tapster_block_device_info", &multipath, "device");
    let [mapped] = &devices[..] else { panic!("mpatha is {devices:?}") };
    assert_eq!(between.count(IO, &[("device", mapped)]), 2 * IOS, "I/Os of {mapped}");
    let mut seen = Vec::new();
    for path in results.text("scsi").split_whitespace() {
        let labels = [("device", path), ("path", "")];
        let (requests, own) = (between.count(DEVICE, &labels), between.own(path));
        assert_eq!(requests, own, "requests of {path}, and its own statistics");
        assert_eq!(between.count(IO, &labels[..1]), 0, "bios of {path}");
        let bytes = between.since("tapster_block_device_bytes_total", &labels);
        assert_eq!(bytes, requests * 4096, "bytes of {path}");
        assert!(requests > 0, "{path} was not used");
        assert_eq!(between.since("tapster_block_device_errors_total", &labels), 0, "errors of {path}");
        seen.push(format!("{path} {requests}"));
    }
    let (before, after) = (&between.after, results.metrics("unreadable.prom"));
    let errors = |family: &str, device: &str| after.since(before, family, &[("device", device)]);
    let of_paths: u64 = results
        .text("scsi")
        .split_whitespace()
        .map(|path| errors("tapster_block_device_errors_total", path))
        .sum();
    assert!(of_paths > 0, "no error of a path");
    assert_eq!(errors("tapster_block_io_errors_total", mapped), 1, "errors of {mapped}");
    format!("{mapped} over {seen:?}, {of_paths} errors")
}

/// The time of a device that does not answer is the device's, that of a host that is busy the queue's.
fn again(results: &Results) -> String {
    let first = results.text("scsi").split_whitespace().next().unwrap();
    let mut figures = Vec::new();
    for (name, is_device) in [("forgotten", true), ("busy", false)] {
        let between = Between::new(results, name);
        let (queue, device) = (between.seconds(QUEUE, first), between.seconds(DEVICE, first));
        let (io, labels) = (between.seconds(IO, first), [("device", first)]);
        let requeues = between.since("tapster_block_requeues_total", &labels);
        let timeouts = between.since("tapster_block_timeouts_total", &labels);
        let text = format!(
            "{name}: I/O {io:.3} s, queue {queue:.3} s, device {device:.3} s, {requeues} requeues, {timeouts} time-outs"
        );
        assert!(queue + device <= io && io <= queue + device + 0.5, "time: {text}");
        assert!(requeues > 0, "{text}");
        if is_device {
            assert!(device >= 3.0 && queue < device / 3.0 && timeouts == 1, "time: {text}");
        } else {
            assert!(queue >= 1.0 && device < queue / 3.0 && timeouts == 0, "time: {text}");
        }
        assert_eq!(between.count(IO, &[("device", first), ("operation", "read")]), 1, "{text}");
        // It was completed once, whatever happened before.
        assert_eq!(between.since("tapster_block_device_bytes_total", &labels), 4096, "{text}");
        let during = results.metrics(&format!("{name}-during.prom"));
        let in_device = whole(during.sum("tapster_block_device_in_flight", &labels));
        assert_eq!(in_device, 1, "{text}: in flight meanwhile");
        assert_eq!(
            between.after.sum("tapster_block_device_in_flight", &labels).to_bits(),
            0,
            "{text}: in flight after"
        );
        figures.push(text);
    }
    figures.join("; ")
}
