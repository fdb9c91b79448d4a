//! The families about devices.

use super::{Backing, DeviceGroups, DeviceIdentity, DeviceKind, Disks, KnownDevice};
use crate::{
    family::{FamilyKind, MetricFamily},
    host::sysfs,
    topology::DeviceName,
};
use std::collections::HashMap;

/// The families: of devices with sectors, and of those that people gave a name.
pub(super) fn families(disks: &Disks, named: &[DeviceName], groups: &DeviceGroups) -> Vec<MetricFamily> {
    let names: HashMap<&str, &DeviceName> =
        named.iter().map(|named| (named.device.as_str(), named)).collect();
    let mut info = MetricFamily::new(
        "tapster_block_device_info",
        "A block device: what it is, the disk that it is or is on, and where that is; always 1.",
        FamilyKind::Gauge,
        &[
            "device",
            "kind",
            "name",
            "disk",
            "model",
            "vendor",
            "serial",
            "wwn",
            "revision",
            "path",
            "transport",
            "enclosure",
            "slot",
            "rotational",
            "scheduler",
            "group",
        ],
    );
    let mut backing = MetricFamily::new(
        "tapster_block_device_backing_info",
        "What a block device is made of: another device, or the file of a loop device; always 1.",
        FamilyKind::Gauge,
        &["device", "backing_device", "backing_file"],
    );
    // A name without a device is one of which nothing else could be read.
    let alone = named.iter().filter(|named| disks.device(&named.device).is_none());
    let mut rows: Vec<(&str, Option<&KnownDevice>)> =
        disks.devices().iter().map(|device| (device.name.as_str(), Some(device))).collect();
    rows.extend(alone.map(|named| (named.device.as_str(), None)));
    rows.sort_by_key(|(name, _)| sysfs::natural(name));
    let nothing = DeviceIdentity::default();
    for (device, found) in rows {
        let named = names.get(device);
        let kind = match (named, found) {
            (Some(named), _) => named.kind,
            (None, found) => found.map_or("", |found| found.kind.name()),
        };
        let name = named.map_or("", |named| named.name.as_str());
        let identity = found.map_or(&nothing, |found| &found.identity);
        let DeviceIdentity { model, vendor, serial, wwn, revision, path, transport, enclosure, slot } =
            identity;
        let own = found.filter(|found| found.kind == DeviceKind::Disk).map_or(&nothing, |_| identity);
        let group = groups.of(device, name, own);
        let [disk, rotational, scheduler] =
            found.map_or([""; 3], |found| [&*found.disk, &*found.rotational, &*found.scheduler]);
        info.push(
            &[
                device, kind, name, disk, model, vendor, serial, wwn, revision, path, transport, enclosure,
                slot, rotational, scheduler, group,
            ],
            1.0,
        );
        for part in found.into_iter().flat_map(|found| &found.backing) {
            let (below, file) = match part {
                Backing::Device(below) => (below.as_str(), ""),
                Backing::File(file) => ("", file.as_str()),
            };
            backing.push(&[device, below, file], 1.0);
        }
    }
    [info, backing].into_iter().filter(|family| !family.samples.is_empty()).collect()
}
