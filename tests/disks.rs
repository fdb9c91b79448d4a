//! A device's number that is used again: a loop device gets another file, and what was read of the one is not counted for the
//! other, whether the probe says which disk it means or only the number. And what is told of this machine's disks.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]

use tapster_testing as support;

use std::{path::Path, thread::sleep, time::Duration};
use support::{
    cases::{Cases, Outcome, Skip, say},
    command::{root, text, tool},
    control::disk::DiskControl,
    device::{LoopDevice, filled_file, memory_directory, wait_quiet},
    fio::Job,
    load::assert_all,
};
use tapster::{
    config,
    disks::{Backing, DiskWatch},
    exporter::{Exporter, StartOptions},
    family::{MetricFamily, SampleValue},
    host::Host,
    kernel::Kernel,
    source::{Selection, Source},
};
use tapster_ebpf::{check, declaration, diagnostic::SourceFile};

const MIB: u64 = 1 << 20;
/// By disk, of the shipped probe.
const BY_DISK: &str = "tapster_block_io_duration_seconds";
/// By number, as a site may have it.
const BY_NUMBER: &str = "tapster_site_requests_total";
const SITE: &str = "probes:
  - name: site_requests
    at: rawtracepoint:block:block_rq_issue
    let: { disk: args.rq.q.disk ?? args.rq.rq_disk }
    where: disk != 0
    labels:
      device: { value: disk.major << 20 | disk.first_minor, as: block_device }
      operation: { value: args.rq.cmd_flags & 0xff, as: { REQ_OP_READ: read, default: other } }
    metrics:
      - { counter: site_requests_total, help: Requests. }
      - { gauge: site_last_bytes, value: args.rq.__data_len, unit: bytes, help: Bytes of the last one. }
";
/// The last value of a disk, which says nothing once it is gone.
const LAST: &str = "tapster_site_last_bytes";

/// The devices of which it is said how much I/O waits for them.
fn waiting(families: &[MetricFamily]) -> impl Iterator<Item = &str> {
    let family = families.iter().find(|found| *found.name == *"tapster_block_io_in_flight").unwrap();
    family.samples.iter().map(|sample| sample.labels[0].as_str())
}

/// What is counted under a device's name, and from when: `None` without a series.
fn read<'f>(
    families: &'f [MetricFamily],
    family: &str,
    device: &str,
) -> Option<(u64, &'f MetricFamily, usize)> {
    let family = families.iter().find(|found| *found.name == *family).unwrap();
    let place =
        family.samples.iter().position(|sample| *sample.labels == [device.to_owned(), "read".into()])?;
    let count = match &family.samples[place].value {
        SampleValue::Histogram(histogram) => histogram.count(),
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of thousands")]
        SampleValue::Number(number) => *number as u64,
    };
    Some((count, family, place))
}

fn count(families: &[MetricFamily], family: &str, device: &str) -> u64 {
    read(families, family, device).map_or(0, |(count, ..)| count)
}

/// Waits until nothing is counted any more.
fn settled(exporter: &Exporter, device: &str) -> Vec<MetricFamily> {
    let counts =
        |families: &[MetricFamily]| [BY_DISK, BY_NUMBER].map(|family| count(families, family, device));
    let mut last = exporter.select(&Selection::All);
    for _ in 0..50 {
        sleep(Duration::from_millis(60));
        let now = exporter.select(&Selection::All);
        if counts(&now) == counts(&last) {
            return now;
        }
        last = now;
    }
    panic!("counts of `{device}` do not come to rest");
}

fn reads(device: &LoopDevice, bytes: u64) -> Result<u64, Skip> {
    let job =
        Job { target: &device.path, pattern: "randread", block_bytes: 4096, depth: 16, bytes, extra: &[] };
    Ok(job.run()?.ios)
}

fn exchanged() -> Outcome {
    let directory = memory_directory()?;
    let files = [("one", 8 * MIB), ("two", 4 * MIB), ("three", 2 * MIB)]
        .map(|(name, bytes)| (filled_file(&directory.path().join(name), bytes), bytes));
    let device = LoopDevice::over(&files[0].0, &[])?;
    let name = device.name();
    wait_quiet(&name);
    let control = DiskControl::new(&name)?;
    // A probe at the completion of bios, and one at the issue of requests, of which there is one less for each bio that is merged.
    let lost = || [control.lost_bios(), control.lost_issues()];
    let merged = || [0, control.merges()];
    let kernel = Kernel::detect(&Host::default());
    let mut probes = config::library().unwrap();
    probes.retain(|probe| probe.name.value == "block_io");
    probes.extend(declaration::parse(&SourceFile::new("site.yaml", SITE)).0.probes);
    let (probes, diagnostics) = check::select(probes, &kernel.target());
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    let options = StartOptions { run_stats: false, attach: true, command: false };
    let (exporter, failures, _) = Exporter::start(&probes, &kernel, &Host::default(), Vec::new(), options);
    assert!(failures.is_empty(), "{failures:?}");

    let ios = reads(&device, files[0].1)?;
    let first = settled(&exporter, &name);
    let mut before = [BY_DISK, BY_NUMBER].map(|family| {
        let found = count(&first, family, &name);
        let index = number_of(family);
        assert_all(family, found, ios - merged()[index], lost()[index]);
        (found, read(&first, family, &name).map(|(_, family, place)| began(family, place)).unwrap())
    });
    let mut gone = [0; 2];
    let mut all = [before[0].0, before[1].0];
    for (number, (file, bytes)) in files[1..].iter().enumerate() {
        device.exchange(file)?;
        wait_quiet(&name);
        // As the exporter does every second; whatever reads a new device is in what follows.
        exporter.retire();
        let calm = settled(&exporter, &name);
        // The name is the new disk's at once, whether it was read or not.
        let new = [BY_DISK, BY_NUMBER].map(|family| {
            let old = gone[number_of(family)] + before[number_of(family)].0;
            assert_eq!(count(&calm, family, "~gone"), old, "{family}: what the old disk had, before any I/O");
            count(&calm, family, &name)
        });
        let (lost_before, merged_before) = (lost(), merged());
        let ios = reads(&device, *bytes)?;
        let now = settled(&exporter, &name);
        let counted = exporter.counted();
        for (index, family) in [BY_DISK, BY_NUMBER].into_iter().enumerate() {
            let found = count(&now, family, &name);
            let lost = lost()[index] - lost_before[index];
            let merged = merged()[index] - merged_before[index];
            assert_all(&format!("{family} of disk {}", number + 2), found - new[index], ios - merged, lost);
            let (old, old_began) = before[index];
            gone[index] += old;
            assert_eq!(count(&now, family, "~gone"), gone[index], "{family}: what the old disk had");
            let (_, shown, place) = read(&now, family, &name).unwrap();
            assert!(began(shown, place) > old_began, "{family}: the new series began when the old one ended");
            before[index] = (found, began(shown, place));
            // Who adds up differences has all in the series in which it was counted.
            all[index] += found;
            assert_eq!(count(&counted, family, &name), all[index], "{family}: what was counted");
            assert_eq!(count(&counted, family, "~gone"), 0, "{family}: nothing was counted there");
        }
        let now = settled(&exporter, &name);
        assert!(read(&now, LAST, &name).is_some() && read(&now, LAST, "~gone").is_none(), "{LAST}");
        let names: Vec<&str> = waiting(&now).collect();
        assert!(
            names.contains(&name.as_str()) && !names.contains(&"~gone"),
            "what waits, by device: {names:?}"
        );
    }
    // Gone, and nothing in its place: what was counted stays to be seen.
    device.detach();
    exporter.retire();
    let last = settled(&exporter, &name);
    for (index, family) in [BY_DISK, BY_NUMBER].into_iter().enumerate() {
        assert_eq!(
            count(&last, family, &name) + count(&last, family, "~gone"),
            gone[index] + before[index].0
        );
    }
    Ok(format!("{all:?} reads of three files in `{name}`, {gone:?} of them of the first two"))
}

fn number_of(family: &str) -> usize {
    usize::from(family == BY_NUMBER)
}

fn began(family: &MetricFamily, place: usize) -> std::time::SystemTime {
    family.origin.of(&family.samples[place].labels).unwrap()
}

/// What `lsblk` prints of all devices, those below others among them.
fn listed(devices: &serde_json::Value, found: &mut Vec<serde_json::Value>) {
    for device in devices.as_array().into_iter().flatten() {
        found.push(device.clone());
        listed(&device["children"], found);
    }
}

/// This machine's disks and a loop device are what `lsblk` says that they are.
fn told() -> Outcome {
    let directory = memory_directory()?;
    let files = ["one", "two"].map(|name| filled_file(&directory.path().join(name), MIB));
    let device = LoopDevice::over(&files[0], &[])?;
    let name = device.name();
    let watch = DiskWatch::new(&Host::default());
    let file = |watch: &DiskWatch| watch.refresh().device(&name).map(|device| device.backing.clone());
    let path = |file: &Path| Some(vec![Backing::File(file.to_str().unwrap().to_owned())]);
    assert_eq!(file(&watch), path(&files[0]));
    let lsblk = text(tool("lsblk")?.args(["--json", "--output-all", "--bytes"]));
    let mut all = Vec::new();
    listed(&serde_json::from_str::<serde_json::Value>(&lsblk).unwrap()["blockdevices"], &mut all);
    let known = watch.refresh();
    // Others may set up loop devices meanwhile.
    let is_disk = |device: &&serde_json::Value| {
        let own = device["kname"].as_str().unwrap();
        device["size"] != 0 && (own == name || Path::new("/sys/block").join(own).join("device").exists())
    };
    let mut compared = Vec::new();
    for device in all.iter().filter(is_disk) {
        let found = known.device(device["kname"].as_str().unwrap()).unwrap();
        assert_eq!(found.rotational == "1", device["rota"] == true, "{device}");
        assert_eq!(device["sched"].as_str().unwrap_or_default(), found.scheduler, "{device}");
        // Without udev it knows neither; then there is nothing to compare.
        for (key, own) in [("serial", &found.identity.serial), ("wwn", &found.identity.wwn)] {
            if let (Some(text), false) = (device[key].as_str(), own.is_empty()) {
                assert_eq!(text.trim(), own, "{device}");
            }
        }
        compared.push(found.name.clone());
    }
    device.exchange(&files[1])?;
    assert_eq!(file(&watch), path(&files[1]));
    device.detach();
    assert_eq!(file(&watch), None);
    Ok(compared.join(", "))
}

#[test]
fn another_disk_of_the_same_number_begins_at_zero() {
    let mut cases = Cases::new("disks");
    match root() {
        Ok(()) => {
            cases.run("exchanged", exchanged);
            cases.run("told", told);
        }
        Err(Skip(reason)) => say(format_args!("disks: skipped: {reason}")),
    }
    cases.finish();
}
