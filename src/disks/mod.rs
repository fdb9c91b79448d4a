//! Block devices: which disk each is, or is on, by model, serial number and place, and what it is made of.
//!
//! [`DiskWatch`] reads them when something changed, each within its time; [`Disks`] is what was read. What is not known of a device
//! is an empty text, which Prometheus keeps as no label.

mod enclosure;
mod families;
mod group;
mod identity;
mod read;
#[cfg(test)]
mod tests;
mod udev;
mod vpd;
mod watch;

pub use group::DeviceGroups;
pub use watch::DiskWatch;

use crate::{host::sysfs, name};
use std::{
    collections::{BTreeSet, HashMap},
    fmt::Write,
    sync::Arc,
};

/// Most devices; a host with more has the rest left out.
pub const MAX_DEVICES: usize = 4096;
/// Most devices that one is made of.
const MAX_BACKING: usize = 1024;
/// Longest text of a label, in bytes.
const MAX_TEXT: usize = 256;
/// Longest path of a file.
const MAX_PATH: usize = 1024;

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// Hardware, or what a hypervisor shows as such.
    Disk,
    /// A part of a disk that an array or the device mapper holds.
    Partition,
    /// A file as a device.
    Loop,
    /// An array of md.
    Md,
    /// Of the device mapper.
    Dm,
    /// Any other without hardware below: `zram`, `nbd`, `drbd`.
    Virtual,
}

impl DeviceKind {
    /// The value of the label `kind`, for devices that people gave no name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Partition => "partition",
            Self::Loop => "loop",
            Self::Md => "md",
            Self::Dm => "dm",
            Self::Virtual => "virtual",
        }
    }
}

/// What tells one disk from all others, and where it is. Unknown parts are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceIdentity {
    /// The model, as the maker writes it.
    pub model: String,
    /// The maker, where that is not part of the model.
    pub vendor: String,
    /// The serial number, as it is printed on the disk.
    pub serial: String,
    /// The name that no other disk of the world has: `0x5000c500a1b2c3d4`, `eui.0025385b71b0a1b2`.
    pub wwn: String,
    /// The version of its firmware.
    pub revision: String,
    /// The way to it: `pci-0000:00:1f.2-ata-1`.
    pub path: String,
    /// `sata`, `sas`, `nvme`, `usb`, …
    pub transport: String,
    /// The enclosure that it is in, by the name that the enclosure has for itself.
    pub enclosure: String,
    /// The slot of the enclosure, or that of the PCI bus.
    pub slot: String,
}

impl DeviceIdentity {
    /// Whether two are one disk, as far as that is known.
    fn is_same(&self, other: &Self) -> bool {
        if self.wwn.is_empty() || other.wwn.is_empty() {
            return !self.serial.is_empty() && self.serial == other.serial && self.model == other.model;
        }
        self.wwn == other.wwn
    }

    /// What somebody needs who looks for the disk: `model ST4000, serial Z1Z0, slot 5 of enclosure 0x5000`; `None` if nothing is
    /// known but the way to it, which the kernel's name stands for as well.
    fn words(&self) -> Option<String> {
        if [&self.model, &self.serial, &self.slot].iter().all(|text| text.is_empty()) {
            return None;
        }
        let mut words = Vec::new();
        let mut add = |name: &str, text: &str| {
            if !text.is_empty() {
                words.push(format!("{name} {text}"));
            }
        };
        add("model", &self.model);
        add("serial", &self.serial);
        match (self.slot.as_str(), self.enclosure.as_str()) {
            ("", _) => add("at", &self.path),
            (slot, "") => add("slot", slot),
            (slot, enclosure) => add("slot", &format!("{slot} of enclosure {enclosure}")),
        }
        Some(words.join(", "))
    }
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownDevice {
    /// The kernel's name.
    pub name: String,
    /// What it is.
    pub kind: DeviceKind,
    /// The one device at the bottom: itself, or that on which all of it is; empty if there are several.
    pub disk: String,
    /// The identity of that device.
    pub identity: Arc<DeviceIdentity>,
    /// `1` for a disk that turns, `0` for one that does not.
    pub rotational: String,
    /// The scheduler of its requests.
    pub scheduler: String,
    /// What it is made of.
    pub backing: Vec<Backing>,
}

/// What a device is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Another device, by its name.
    Device(String),
    /// A file, by its path.
    File(String),
}

/// The devices of a host, in order of name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disks {
    devices: Vec<KnownDevice>,
    by_name: HashMap<String, usize>,
}

impl Disks {
    /// Makes it of devices as they were read, and of the disks of partitions.
    fn new(mut devices: Vec<KnownDevice>, disk_of: &HashMap<String, String>) -> Self {
        devices.sort_by(|a, b| sysfs::natural(&a.name).cmp(&sysfs::natural(&b.name)));
        devices.truncate(MAX_DEVICES);
        let by_name: HashMap<String, usize> =
            devices.iter().enumerate().map(|(place, device)| (device.name.clone(), place)).collect();
        let bottoms: Vec<Option<(String, Arc<DeviceIdentity>)>> = {
            let below = Below { devices: &devices, by_name: &by_name, disk_of };
            devices.iter().map(|device| below.bottom(&device.name)).collect()
        };
        for (device, bottom) in devices.iter_mut().zip(bottoms) {
            (device.disk, device.identity) = bottom.unwrap_or_default();
        }
        Self { devices, by_name }
    }

    /// All devices.
    pub fn devices(&self) -> &[KnownDevice] {
        &self.devices
    }

    /// The device of this name.
    pub fn device(&self, name: &str) -> Option<&KnownDevice> {
        self.devices.get(*self.by_name.get(name)?)
    }

    /// What is known of the disk that a device is, or is on: ``disk `sda`: model ST4000, serial Z1Z0``.
    pub fn told(&self, name: &str) -> Option<String> {
        let device = self.device(name)?;
        Some(format!("disk `{}`: {}", device.disk, device.identity.words()?))
    }
}

/// Finds what is at the bottom of devices.
struct Below<'d> {
    devices: &'d [KnownDevice],
    by_name: &'d HashMap<String, usize>,
    /// The disk of each partition.
    disk_of: &'d HashMap<String, String>,
}

impl Below<'_> {
    /// The one device at the bottom, with its identity. Several paths to one disk are that disk.
    fn bottom(&self, name: &str) -> Option<(String, Arc<DeviceIdentity>)> {
        let mut found = BTreeSet::new();
        self.descend(name, &mut BTreeSet::new(), &mut found)?;
        let mut found: Vec<&KnownDevice> = found.into_iter().map(|place| &self.devices[place]).collect();
        found.sort_by_key(|device| sysfs::natural(&device.name));
        let (first, others) = found.split_first()?;
        let is_one = others.iter().all(|other| first.identity.is_same(&other.identity));
        is_one.then(|| (first.name.clone(), first.identity.clone()))
    }

    /// Adds what is at the bottom of a device; `None` if part of it is not known.
    fn descend(&self, name: &str, seen: &mut BTreeSet<usize>, found: &mut BTreeSet<usize>) -> Option<()> {
        if let Some(disk) = self.disk_of.get(name) {
            return self.descend(disk, seen, found);
        }
        let place = *self.by_name.get(name)?;
        if !seen.insert(place) {
            return Some(());
        }
        let below = self.devices[place].backing.iter().filter_map(|backing| match backing {
            Backing::Device(name) => Some(name),
            Backing::File(_) => None,
        });
        let mut below = below.peekable();
        if below.peek().is_none() {
            // A striped or broken device without members is no disk.
            if matches!(self.devices[place].kind, DeviceKind::Md | DeviceKind::Dm) {
                return None;
            }
            found.insert(place);
            return Some(());
        }
        below.try_for_each(|name| self.descend(name, seen, found))
    }
}

/// A text of hardware or of a file, for labels and terminals: trimmed, without control characters, of limited length.
fn label(bytes: &[u8], most: usize) -> String {
    let is_blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0;
    let begin = bytes.iter().position(|byte| !is_blank(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| !is_blank(byte)).map_or(begin, |last| last + 1);
    let mut text = String::new();
    for character in name::escape(&bytes[begin..end]).chars() {
        if text.len() + character.len_utf8() > most {
            break;
        }
        if character.is_control() {
            write!(text, "\\x{:02x}", u32::from(character)).expect("a string takes any text");
        } else {
            text.push(character);
        }
    }
    text
}
