//! I/O of members whose array does not announce it.

use super::*;
use crate::{
    config,
    family::{FamilyKind, HistogramValue, MetricFamily, Sample, SampleValue},
};
use tapster_ebpf::{declaration, diagnostic::SourceFile, probe::Probe};

/// The shipped probe with this name.
fn shipped(name: &str) -> Probe {
    let mut probes = config::library().expect("the library is right").into_iter();
    probes.find(|probe| probe.name.value == name).expect("it is in the library")
}

/// The first probe of a text.
fn probe(yaml: &str) -> Probe {
    let (file, diagnostics) = declaration::parse(&SourceFile::new("site.yaml", yaml));
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    file.probes.into_iter().next().expect("there is one")
}

/// Adopts among the families of these probes.
fn adopted(topology: &Topology, probes: &mut [(&Probe, MetricFamily)]) -> Result<(), NotAdopted> {
    let mut measured: Vec<ProbeFamilies<'_>> = probes
        .iter()
        .map(|(probe, family)| ProbeFamilies { probe, families: vec![family.clone()] })
        .collect();
    let outcome = adopt(topology, &mut measured);
    for ((_, family), measured) in probes.iter_mut().zip(measured) {
        *family = measured.families.into_iter().next().expect("the family that was given");
    }
    outcome
}

fn family(name: &str, labels: &[&str], bounds: &[f64], samples: &[(&[&str], u64)]) -> MetricFamily {
    let mut family = MetricFamily::new(name, "", FamilyKind::Histogram, labels);
    let bounds: Arc<[f64]> = bounds.into();
    family.samples = samples
        .iter()
        .map(|(labels, count)| {
            let mut counts = vec![0; bounds.len()];
            counts.push(*count);
            let histogram = HistogramValue { sum: 1.0, bounds: bounds.clone(), counts, native: None };
            Sample {
                labels: labels.iter().map(ToString::to_string).collect(),
                value: SampleValue::Histogram(histogram),
            }
        })
        .collect();
    family
}

fn members(samples: &[(&[&str], u64)]) -> MetricFamily {
    let labels = ["array", "level", "member", "slot", "operation"];
    family("tapster_raid_member_duration_seconds", &labels, &[1.0, 2.0], samples)
}

fn devices(bounds: &[f64]) -> MetricFamily {
    let samples: [(&[&str], u64); 4] =
        [(&["dm-1", "read"], 7), (&["dm-1", "write"], 8), (&["dm-3", "read"], 9), (&["sda", "read"], 10)];
    family("tapster_block_io_duration_seconds", &["device", "operation"], bounds, &samples)
}

fn show(family: &MetricFamily) -> Vec<String> {
    let count = |sample: &Sample| match &sample.value {
        SampleValue::Histogram(histogram) => histogram.count(),
        SampleValue::Number(_) => 0,
    };
    family.samples.iter().map(|sample| format!("{} {}", sample.labels.join(" "), count(sample))).collect()
}

/// An LVM mirror over `dm-1` and `dm-3`, of which the second is used by another device too; and md over disks.
fn topology() -> Topology {
    let mut tree = Tree::new();
    tree.disk("sda", "8:0");
    tree.dm("dm-1", "253:1", "a", &["linear 8:0 0"], &["linear"], &[]);
    tree.dm("dm-3", "253:3", "b", &["linear 8:0 0"], &["linear"], &[]);
    tree.dm(
        "dm-7",
        "253:7",
        "vg-raid",
        &["raid raid1 2 0 nosync 2 - 253:1 - 253:3"],
        &["raid raid1 2 AA 1/1 idle"],
        &["253:1", "253:3"],
    );
    tree.hold("253:3", "dm-8");
    tree.md("md0", "9:0", &[("level", "raid0"), ("array_state", "clean")]);
    tree.member("md0", "8:0", "0", "in_sync");
    tree.read()
}

const MD: (&[&str], u64) = (&["md0", "raid0", "sda", "0", "read"], 1);

const TOLD: (&[&str], u64) = (&["dm-7", "raid1", "dm-1", "0", "read"], 3);
const ADOPTED: [&str; 3] =
    ["dm-7 raid1 dm-1 0 read 7", "dm-7 raid1 dm-1 0 write 8", "md0 raid0 sda 0 read 1"];

#[test]
fn rows_of_a_silent_array_are_those_of_its_members() {
    let (io, member) = (shipped("block_io"), shipped("raid_member"));
    let mut probes = [(&io, devices(&[1.0, 2.0])), (&member, members(&[TOLD, MD]))];
    assert_eq!(adopted(&topology(), &mut probes), Ok(()));
    assert_eq!(show(&probes[1].1), ADOPTED);
    assert_eq!(probes[0].1, devices(&[1.0, 2.0]));
}

#[test]
fn what_cannot_be_had_is_said_and_nothing_is_told_by_halves() {
    let (io, member) = (shipped("block_io"), shipped("raid_member"));
    let mut probes = [(&member, members(&[TOLD, MD]))];
    assert_eq!(adopted(&topology(), &mut probes), Err(NotAdopted::NoDevices));
    assert_eq!(show(&probes[0].1), ["md0 raid0 sda 0 read 1"]);
    let mut probes = [(&member, members(&[MD])), (&io, devices(&[1.0]))];
    let refused = adopted(&topology(), &mut probes).unwrap_err();
    let expected = "they are measured by the probe `block_io`, whose buckets are not those of `raid_member`";
    assert_eq!(refused.to_string(), expected);
    assert_eq!(show(&probes[0].1), ["md0 raid0 sda 0 read 1"]);
    // A family without rows of its own accepts any buckets.
    let mut probes = [(&member, members(&[])), (&io, devices(&[1.0]))];
    assert_eq!(adopted(&topology(), &mut probes), Ok(()));
    assert_eq!(probes[0].1.samples.len(), 2);
}

#[test]
fn nothing_is_touched_without_need() {
    let (io, member) = (shipped("block_io"), shipped("raid_member"));
    let mut probes = [(&member, members(&[MD])), (&io, devices(&[1.0]))];
    assert_eq!(adopted(&Topology::default(), &mut probes), Ok(()));
    assert_eq!(probes.map(|(_, family)| family), [members(&[MD]), devices(&[1.0])]);
    // A family of that name that counts something else belongs to another probe.
    let other = probe(
        "probes:
  - name: raid_member
    start: { at: \"rawtracepoint:block:block_bio_remap\", key: args.bio, save: { array: args.dev } }
    end: { at: \"rawtracepoint:block:block_bio_complete\", key: args.bio }
    labels: { array: { value: start.array, as: raid_array } }
    metrics: [{ histogram: raid_member_duration_seconds, help: Of arrays., value: duration }]
",
    );
    let own = family("tapster_raid_member_duration_seconds", &["array"], &[1.0], &[(&["dm-7"], 1)]);
    let mut probes = [(&other, own.clone()), (&io, devices(&[1.0]))];
    assert_eq!(adopted(&topology(), &mut probes), Ok(()));
    assert_eq!(probes[0].1, own);
}

/// A site may copy both probes with other names, and with their labels in another order and with other names.
#[test]
fn copies_of_the_probes_are_known_by_what_they_declare() {
    let copy = |text: &str| {
        text.replace("raid_member", "site_disk")
            .replace("block_io", "site_io")
            .replace("      slot: {", "      place: {")
            .replace("      device: {", "      disk: {")
    };
    let site_member = probe(&copy(include_str!("../../../config/probes/raid.yaml")));
    let site_io = probe(&copy(include_str!("../../../config/probes/block.yaml")));
    assert_eq!((site_member.name.value.as_str(), site_io.name.value.as_str()), ("site_disk", "site_io"));
    let renamed = |family: MetricFamily, names: &[&str]| MetricFamily {
        name: copy(&family.name).as_str().into(),
        label_names: names.iter().map(ToString::to_string).collect(),
        ..family
    };
    let of_members = renamed(members(&[TOLD, MD]), &["array", "level", "member", "place", "operation"]);
    let of_devices = renamed(devices(&[1.0, 2.0]), &["disk", "operation"]);
    let mut probes = [(&site_member, of_members.clone()), (&site_io, of_devices)];
    assert_eq!(adopted(&topology(), &mut probes), Ok(()));
    assert_eq!(show(&probes[0].1), ADOPTED);
    // One copy beside the other probe as shipped; and both copies beside both shipped probes.
    let (io, member) = (shipped("block_io"), shipped("raid_member"));
    let mut probes =
        [(&site_member, of_members), (&io, devices(&[1.0, 2.0])), (&member, members(&[TOLD, MD]))];
    assert_eq!(adopted(&topology(), &mut probes), Ok(()));
    assert_eq!(show(&probes[0].1), ADOPTED);
    assert_eq!(show(&probes[2].1), ADOPTED);
}

#[test]
fn a_label_that_devices_do_not_have_is_said() {
    let io = shipped("block_io");
    let yaml = include_str!("../../../config/probes/raid.yaml").replace(
        "      operation:\n        value: start.operation",
        "      who: comm\n      operation:\n        value: start.operation",
    );
    let site = probe(&yaml);
    let labels = ["array", "level", "member", "slot", "who", "operation"];
    let own = family("tapster_raid_member_duration_seconds", &labels, &[1.0], &[]);
    let mut probes = [(&site, own.clone()), (&io, devices(&[1.0]))];
    let refused = adopted(&topology(), &mut probes).unwrap_err();
    let expected = "they are measured by the probe `block_io`, whose labels besides the device's are not those of `raid_member`";
    assert_eq!(refused.to_string(), expected);
    assert_eq!(probes[0].1, own);
}

#[test]
fn time_that_is_not_from_submission_to_completion_is_no_member_s() {
    // Time in the queue; and only some events.
    let queue = "rawtracepoint:block:block_rq_issue";
    let complete = "rawtracepoint:block:block_bio_complete";
    for (end, filter) in [(queue, ""), (complete, ", where: args.bio.bi_opf & 1")] {
        let site = probe(&format!(
            "probes:
  - name: site
    start: {{ at: \"rawtracepoint:block:block_bio_queue\", key: args.bio, save: {{ device: args.bio.bi_bdev.bd_dev }} }}
    end: {{ at: \"{end}\", key: args.bio{filter} }}
    labels: {{ device: {{ value: start.device, as: block_device }}, operation: {{ value: 1, as: {{ 1: read }} }} }}
    metrics: [{{ histogram: block_io_duration_seconds, help: Of bios., value: duration }}]
",
        ));
        let member = shipped("raid_member");
        let mut probes = [(&member, members(&[MD])), (&site, devices(&[1.0, 2.0]))];
        assert_eq!(adopted(&topology(), &mut probes), Err(NotAdopted::NoDevices), "{end}{filter}");
    }
}
