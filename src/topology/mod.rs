//! Arrays of this host and their members: md from sysfs, device-mapper through its control device. Also the names that people
//! gave to block devices.
//!
//! A [`Topology`] is a snapshot, made for each scrape, because an array may lose, gain and swap members at any time. An array
//! or a member that vanishes meanwhile, or whose files are malformed, is left out; the others are there. [`families()`]
//! describes the arrays. Only [`adopt()`] knows of probes: it adds the I/O of members for arrays whose driver does not announce
//! it to the kernel's tracepoints.

mod adopt;
mod dm;
mod families;
mod md;
mod named;
mod reader;
mod table;
#[cfg(test)]
mod tests;
mod watch;

pub use adopt::{NotAdopted, ProbeFamilies, adopt};
pub use dm::DeviceMapper;
pub use families::families;
pub use named::DeviceName;
pub use reader::TopologyReader;
pub use watch::Watch;

use std::collections::HashMap;

/// Most arrays, and most members of all arrays together.
pub const MAX_ARRAYS: usize = 1024;
/// See [`MAX_ARRAYS`].
pub const MAX_MEMBERS: usize = 4096;

/// The driver of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArrayDriver {
    /// Multiple devices, as `mdadm` makes them.
    Md,
    /// Device mapper, as LVM and `dmsetup` make them.
    Dm,
}

impl ArrayDriver {
    /// The value of the label `kind`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Md => "md",
            Self::Dm => "dm",
        }
    }
}

/// An array.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// The kernel's name: `md0`, `dm-3`.
    pub name: String,
    /// Its number, `major << 20 | minor`.
    pub device: u64,
    /// Its driver.
    pub kind: ArrayDriver,
    /// The name that people gave it: the device mapper's, `vg-lv`, or that of a link in `/dev/md`; for an md array without such
    /// a link the kernel's name.
    pub title: String,
    /// `raid5`, `striped`, …; `container` for one that only holds the metadata of volumes; `unknown` while the kernel does not
    /// report it.
    pub level: String,
    /// Number of members when it is complete.
    pub disks: Option<u64>,
    /// Number of missing members; `None` for a level without redundancy.
    pub degraded: Option<u64>,
    /// `clean`, `active`, …; only for md, and not for a container.
    pub state: Option<String>,
    /// `idle`, `resync`, …; `None` for a level that has no actions.
    pub action: Option<String>,
    /// Progress of the action, 0 to 1, while it runs.
    pub completed: Option<f64>,
    /// Whether its driver announces each bio that it hands to a member (`block_bio_remap`).
    pub announces: bool,
    /// Its members by slot, those without one last.
    pub members: Vec<ArrayMember>,
}

/// A member of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArrayMember {
    /// The kernel's name: `sda1`, `dm-2`.
    pub name: String,
    /// Its number, `major << 20 | minor`; `None` if the device is gone and the array still keeps its slot.
    pub device: Option<u64>,
    /// Its number in the array, or `none`, `journal`, or another word of the driver.
    pub slot: String,
    /// `in_sync`, `faulty`, `spare`, …, joined by commas; in a container `in_use` for a disk that a volume uses.
    pub state: String,
    /// Whether all I/O of the device belongs to this array: a whole disk on which nothing else is stacked. Determined only if
    /// the array announces nothing.
    pub exclusive: bool,
}

impl ArrayMember {
    /// Whether `word` is part of its state.
    pub fn is(&self, word: &str) -> bool {
        self.state.split(',').any(|found| found == word)
    }
}

/// Arrays and members that did not fit into a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOutCounts {
    /// Arrays beyond [`MAX_ARRAYS`].
    pub arrays: usize,
    /// Members beyond [`MAX_MEMBERS`].
    pub members: usize,
}

/// A snapshot of all arrays.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    arrays: Vec<Array>,
    by_device: HashMap<u64, usize>,
    /// Indexes of an array and a member in it, by both device numbers.
    by_devices: HashMap<(u64, u64), (usize, usize)>,
    left_out: LeftOutCounts,
    named: Vec<DeviceName>,
}

impl Topology {
    /// Makes a snapshot of these arrays, within the limits.
    fn new(mut arrays: Vec<Array>) -> Self {
        let mut left_out = LeftOutCounts { arrays: arrays.len().saturating_sub(MAX_ARRAYS), members: 0 };
        arrays.truncate(MAX_ARRAYS);
        let mut room = MAX_MEMBERS;
        for array in &mut arrays {
            left_out.members += array.members.len().saturating_sub(room);
            array.members.truncate(room);
            room -= array.members.len();
        }
        let mut topology = Self { left_out, ..Self::default() };
        for (place, array) in arrays.iter().enumerate() {
            topology.by_device.insert(array.device, place);
            for (index, member) in array.members.iter().enumerate() {
                if let Some(device) = member.device {
                    topology.by_devices.insert((array.device, device), (place, index));
                }
            }
        }
        topology.arrays = arrays;
        topology
    }

    /// Adds the names of devices.
    fn with_names(self, named: Vec<DeviceName>) -> Self {
        Self { named, ..self }
    }

    /// Block devices to which people gave names, arrays or not, in the order of the kernel's names.
    pub fn named(&self) -> &[DeviceName] {
        &self.named
    }

    /// All arrays, in order of name.
    pub fn arrays(&self) -> &[Array] {
        &self.arrays
    }

    /// The array with this device number.
    pub fn array(&self, device: u64) -> Option<&Array> {
        self.arrays.get(*self.by_device.get(&device)?)
    }

    /// The member with these device numbers.
    pub fn member(&self, array: u64, member: u64) -> Option<&ArrayMember> {
        let (array, member) = self.by_devices.get(&(array, member))?;
        self.arrays.get(*array)?.members.get(*member)
    }

    /// Arrays and members that did not fit.
    pub fn left_out(&self) -> LeftOutCounts {
        self.left_out
    }
}
