//! Where disks are: slots of enclosures, as SES tells them (`/sys/class/enclosure`), and slots of the PCI bus, which disks of
//! `NVMe` are in.

use super::{MAX_TEXT, label};
use crate::host::sysfs;
use std::{
    collections::HashMap,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// Most slots of all enclosures together.
const MAX_SLOTS: usize = 1 << 14;

/// Slots by what is in them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Slots {
    /// Name of the enclosure and of the slot, by the directory of the SCSI device.
    enclosures: HashMap<PathBuf, (String, String)>,
    /// Name of the slot by address, without the function: `0000:01:00`.
    pci: HashMap<String, String>,
}

impl Slots {
    pub(super) fn read(sys: &Path) -> Self {
        let mut slots = Self::default();
        let class = sys.join("class/enclosure");
        for enclosure in sysfs::entries(&class) {
            let directory = class.join(&enclosure);
            let id = text(&directory.join("id")).unwrap_or_else(|| label(enclosure.as_bytes(), MAX_TEXT));
            for component in sysfs::entries(&directory) {
                // Only what holds a device has this link.
                let Ok(device) = fs::canonicalize(directory.join(&component).join("device")) else {
                    continue;
                };
                if slots.enclosures.len() == MAX_SLOTS {
                    return slots;
                }
                let number = text(&directory.join(&component).join("slot"));
                let slot = number.filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
                let slot = slot.unwrap_or_else(|| label(component.as_bytes(), MAX_TEXT));
                slots.enclosures.insert(device, (id.clone(), slot));
            }
        }
        let class = sys.join("bus/pci/slots");
        for slot in sysfs::entries(&class).take(MAX_SLOTS) {
            if let Some(address) = text(&class.join(&slot).join("address")) {
                slots.pci.insert(address, label(slot.as_bytes(), MAX_TEXT));
            }
        }
        slots
    }

    /// The enclosure and the slot of a SCSI device.
    pub(super) fn of_scsi(&self, device: &Path) -> Option<&(String, String)> {
        self.enclosures.get(device)
    }

    /// The slot of a PCI device by its address: `0000:01:00.0`.
    pub(super) fn of_pci(&self, address: &str) -> Option<&String> {
        self.pci.get(address.rsplit_once('.').map_or(address, |(slot, _)| slot))
    }
}

fn text(path: &Path) -> Option<String> {
    Some(label(&sysfs::bytes(path)?, MAX_TEXT)).filter(|text| !text.is_empty())
}
