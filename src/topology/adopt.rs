//! I/O of members whose array does not announce it.
//!
//! The device-mapper targets `raid` and `mirror` hand bios to their members without the event that says which array
//! they are for, or with it for a part of them. Such a member is a device of its own, so what `block_io` measures
//! of it is what the array does there: its rows become the array's. `docs/adr/0009-silent-arrays.md` has the reasons.

use super::{Array, Member, Topology};
use crate::family::{MetricFamily, Sample, Value};
use std::{collections::HashMap, fmt, sync::Arc};

/// Families of members, and of the devices that they are made from.
const FAMILIES: [(&str, &str); 3] = [
    ("tapster_raid_member_duration_seconds", "tapster_block_io_duration_seconds"),
    ("tapster_raid_member_in_flight", "tapster_block_io_in_flight"),
    ("tapster_raid_member_oldest_seconds", "tapster_block_io_oldest_seconds"),
];
/// The order of the labels of members.
const MEMBERS: [&str; 5] = ["array", "level", "member", "slot", "operation"];
/// The order of the labels of devices.
const DEVICES: [&str; 2] = ["device", "operation"];

/// Why members of silent arrays have no latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAdopted {
    /// The probe `block_io` does not run.
    NoDevices,
    /// `block_io` and `raid_member` have different buckets, which a family cannot have.
    OtherBuckets,
}

impl fmt::Display for NotAdopted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoDevices => "they are measured by the probe `block_io`, which does not run",
            Self::OtherBuckets => {
                "they are measured by the probe `block_io`, whose buckets are not those of `raid_member`"
            }
        })
    }
}

/// Puts the I/O of members of silent arrays into the family of members, in place of what the kernel told of it.
pub fn adopt(topology: &Topology, families: &mut [MetricFamily]) -> Result<(), NotAdopted> {
    let silent: Vec<&Array> = topology.arrays().iter().filter(|array| !array.announces).collect();
    if silent.is_empty() {
        return Ok(());
    }
    // Each by itself: other buckets say nothing of what is in flight.
    let all = FAMILIES.map(|(members, devices)| adopt_family(&silent, families, members, devices));
    all.into_iter().collect()
}

fn adopt_family(
    silent: &[&Array],
    families: &mut [MetricFamily],
    members: &str,
    devices: &str,
) -> Result<(), NotAdopted> {
    let Some(place) = find(families, members, &MEMBERS) else { return Ok(()) };
    // What is told of them is a part of their I/O: a mirror's reads, but not its writes.
    families[place]
        .samples
        .retain(|sample| silent.iter().all(|array| Some(&array.name) != sample.labels.first()));
    let mut owners: HashMap<&str, (&Array, &Member)> = HashMap::new();
    for array in silent.iter().copied() {
        let own = array.members.iter().filter(|member| member.exclusive);
        owners.extend(own.map(|member| (member.name.as_str(), (array, member))));
    }
    let devices = &families[find(families, devices, &DEVICES).ok_or(NotAdopted::NoDevices)?];
    let adopted: Vec<Sample> = devices
        .samples
        .iter()
        .filter_map(|sample| {
            let [device, operation] = sample.labels.as_ref() else { return None };
            let (array, member) = owners.get(device.as_str())?;
            let labels = [&array.name, &array.level, &member.name, &member.slot, operation];
            Some(Sample { labels: labels.into_iter().cloned().collect(), value: sample.value.clone() })
        })
        .collect();
    let members = &mut families[place];
    if let (Some(known), Some(new)) = (bounds(&members.samples), bounds(&adopted))
        && known != new
    {
        return Err(NotAdopted::OtherBuckets);
    }
    members.samples.extend(adopted);
    members.samples.sort_by(|a, b| a.labels.cmp(&b.labels));
    Ok(())
}

fn find(families: &[MetricFamily], name: &str, labels: &[&str]) -> Option<usize> {
    families
        .iter()
        .position(|family| *family.name == *name && family.label_names.iter().eq(labels.iter().copied()))
}

fn bounds(samples: &[Sample]) -> Option<&Arc<[f64]>> {
    samples.iter().find_map(|sample| match &sample.value {
        Value::Histogram(histogram) => Some(&histogram.bounds),
        Value::Number(_) => None,
    })
}
