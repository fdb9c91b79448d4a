//! I/O of members whose array does not announce it.

use super::*;
use crate::family::{Histogram, Kind as FamilyKind, MetricFamily, Sample, Value};

fn family(name: &str, labels: &[&str], bounds: &[f64], samples: &[(&[&str], u64)]) -> MetricFamily {
    let mut family = MetricFamily::new(name, "", FamilyKind::Histogram, labels);
    let bounds: Arc<[f64]> = bounds.into();
    family.samples = samples
        .iter()
        .map(|(labels, count)| {
            let mut counts = vec![0; bounds.len()];
            counts.push(*count);
            let histogram = Histogram { sum: 1.0, bounds: bounds.clone(), counts, native: None };
            Sample {
                labels: labels.iter().map(ToString::to_string).collect(),
                value: Value::Histogram(histogram),
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
        Value::Histogram(histogram) => histogram.count(),
        Value::Number(_) => 0,
    };
    family.samples.iter().map(|sample| format!("{} {}", sample.labels.join(" "), count(sample))).collect()
}

/// An LVM mirror over `dm-1` and `dm-3`, of which the second holds up something else too; and md over disks.
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

#[test]
fn rows_of_a_silent_array_are_those_of_its_members() {
    let told: (&[&str], u64) = (&["dm-7", "raid1", "dm-1", "0", "read"], 3);
    let mut families = [devices(&[1.0, 2.0]), members(&[told, MD])];
    assert_eq!(adopt(&topology(), &mut families), Ok(()));
    assert_eq!(
        show(&families[1]),
        ["dm-7 raid1 dm-1 0 read 7", "dm-7 raid1 dm-1 0 write 8", "md0 raid0 sda 0 read 1"]
    );
    assert_eq!(families[0], devices(&[1.0, 2.0]));
}

#[test]
fn what_cannot_be_had_is_said_and_nothing_is_told_by_halves() {
    let told: (&[&str], u64) = (&["dm-7", "raid1", "dm-1", "0", "read"], 3);
    let mut families = [members(&[told, MD])];
    assert_eq!(adopt(&topology(), &mut families), Err(NotAdopted::NoDevices));
    assert_eq!(show(&families[0]), ["md0 raid0 sda 0 read 1"]);
    let mut families = [members(&[MD]), devices(&[1.0])];
    assert_eq!(adopt(&topology(), &mut families), Err(NotAdopted::OtherBuckets));
    assert_eq!(show(&families[0]), ["md0 raid0 sda 0 read 1"]);
    // Without rows of its own the family takes whatever buckets there are.
    let mut families = [members(&[]), devices(&[1.0])];
    assert_eq!(adopt(&topology(), &mut families), Ok(()));
    assert_eq!(families[0].samples.len(), 2);
}

#[test]
fn nothing_is_touched_without_need() {
    let mut families = [members(&[MD]), devices(&[1.0])];
    assert_eq!(adopt(&Topology::default(), &mut families), Ok(()));
    assert_eq!(families, [members(&[MD]), devices(&[1.0])]);
    // A family of that name with other labels is somebody else's.
    let own = family("tapster_raid_member_duration_seconds", &["array"], &[1.0], &[(&["dm-7"], 1)]);
    let mut families = [own.clone(), devices(&[1.0])];
    assert_eq!(adopt(&topology(), &mut families), Ok(()));
    assert_eq!(families[0], own);
}
