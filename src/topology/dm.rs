//! A device-mapper array: its names from sysfs, its table and status from the control device.

use super::{Array, ArrayDriver, ArrayMember, table};
use crate::{host::sysfs, name, sys::DmTarget};
use std::{ffi::OsStr, io, path::Path};

/// Reads the tables of device-mapper devices. Several threads may call it at a time.
pub trait DeviceMapper: Send + Sync {
    /// The targets of a device, each with its status.
    fn status(&self, device: u64) -> io::Result<Vec<DmTarget>>;
    /// The targets of a device, each with its table line.
    fn table(&self, device: u64) -> io::Result<Vec<DmTarget>>;
}

/// Reads the array; `None` if the device is none, or its table cannot be read.
pub(super) fn read(sys: &Path, block: &sysfs::Block, mapper: &dyn DeviceMapper) -> Option<Array> {
    let directory = sys.join("block").join(&block.file);
    let title = sysfs::attribute(&directory.join("dm/name"))?;
    let device = name::parse_numbers(&sysfs::attribute(&directory.join("dev"))?)?;
    let status = mapper.status(device).ok()?;
    if status.is_empty() || !status.iter().all(table::is_candidate) {
        return None;
    }
    let table = table::parse(&mapper.table(device).ok()?, &status)?;
    let members = table
        .members
        .into_iter()
        .map(|entry| ArrayMember {
            name: name::of_block_device(sys, entry.device).unwrap_or_else(|| name::numbers(entry.device)),
            device: Some(entry.device),
            slot: entry.slot.to_string(),
            state: entry.state,
            exclusive: !table.announces && is_exclusive(sys, entry.device, &block.file),
        })
        .collect();
    Some(Array {
        name: block.name.clone(),
        device,
        kind: ArrayDriver::Dm,
        title,
        level: table.level,
        disks: Some(table.disks),
        degraded: table.degraded,
        state: None,
        action: table.action,
        completed: table.completed,
        announces: table.announces,
        members,
    })
}

/// Whether a device is a whole disk on which only this array is stacked.
fn is_exclusive(sys: &Path, device: u64, array: &OsStr) -> bool {
    let directory = name::block_link(sys, device);
    let mut holders = sysfs::entries(&directory.join("holders")).peekable();
    !directory.join("partition").exists() && holders.peek().is_some() && holders.all(|holder| holder == array)
}
