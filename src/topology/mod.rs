//! Arrays of this host and what they are made of: md from sysfs, device-mapper through its control device. And what people call
//! block devices.
//!
//! A [`Topology`] is a snapshot, made anew for each scrape, because an array may lose, gain and swap members at
//! any time. It is made of what could be read: an array or a member that vanishes meanwhile, or whose files are
//! odd, is left out, and the others are there. [`families()`] says what the arrays are. Of probes only [`adopt()`] knows, which gives arrays
//! whose driver tells the kernel's tracepoints nothing their members' I/O.

mod adopt;
mod dm;
mod families;
mod md;
mod named;
mod reader;
mod sysfs;
mod table;
#[cfg(test)]
mod tests;
mod watch;

pub use adopt::{Measured, NotAdopted, adopt};
pub use dm::DeviceMapper;
pub use families::families;
pub use named::Named;
pub use reader::Reader;
pub use watch::Watch;

use std::collections::HashMap;

/// Most arrays, and most members of all arrays together.
pub const MAX_ARRAYS: usize = 1024;
/// See [`MAX_ARRAYS`].
pub const MAX_MEMBERS: usize = 4096;

/// The driver of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Multiple devices, as `mdadm` makes them.
    Md,
    /// Device mapper, as LVM and `dmsetup` make them.
    Dm,
}

impl Kind {
    /// As the label `kind` has it.
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
    pub kind: Kind,
    /// The name that people gave it: the device mapper's, `vg-lv`, or that of a link in `/dev/md`; for an md array without one
    /// the kernel's name again.
    pub title: String,
    /// `raid5`, `striped`, …; `container` for one that only holds the metadata of volumes; `unknown` while the kernel
    /// does not say.
    pub level: String,
    /// How many members it has when it is complete.
    pub disks: Option<u64>,
    /// How many of those are missing; `None` for a level without redundancy.
    pub degraded: Option<u64>,
    /// `clean`, `active`, …; md only, and no container.
    pub state: Option<String>,
    /// `idle`, `resync`, …; `None` for a level that never does.
    pub action: Option<String>,
    /// How much of that is done, 0 to 1, while it runs.
    pub completed: Option<f64>,
    /// Whether its driver announces each bio that it hands to a member (`block_bio_remap`).
    pub announces: bool,
    /// Its members by slot, those without one last.
    pub members: Vec<Member>,
}

/// A member of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The kernel's name: `sda1`, `dm-2`.
    pub name: String,
    /// Its number, `major << 20 | minor`; `None` if the device is gone and the array still holds its place.
    pub device: Option<u64>,
    /// Its place in the array, `none`, `journal`, or another word of the driver's.
    pub slot: String,
    /// `in_sync`, `faulty`, `spare`, …, joined by commas; in a container `in_use` for what a volume uses.
    pub state: String,
    /// Whether all I/O of the device is this array's: a whole disk that nothing else is stacked on. Found out only
    /// where the array announces nothing.
    pub exclusive: bool,
}

impl Member {
    /// Whether a word is among those of its state.
    pub fn is(&self, word: &str) -> bool {
        self.state.split(',').any(|found| found == word)
    }
}

/// What did not fit a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
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
    /// Places of an array and a member of it by both their numbers.
    by_devices: HashMap<(u64, u64), (usize, usize)>,
    left_out: LeftOut,
    named: Vec<Named>,
}

impl Topology {
    /// A snapshot of these arrays, within the bounds.
    fn new(mut arrays: Vec<Array>) -> Self {
        let mut left_out = LeftOut { arrays: arrays.len().saturating_sub(MAX_ARRAYS), members: 0 };
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

    /// The same with these names of devices.
    fn with_names(self, named: Vec<Named>) -> Self {
        Self { named, ..self }
    }

    /// Block devices that people gave names, arrays or not, in the order of the kernel's names.
    pub fn named(&self) -> &[Named] {
        &self.named
    }

    /// All arrays, in the order of their names.
    pub fn arrays(&self) -> &[Array] {
        &self.arrays
    }

    /// The array of this number.
    pub fn array(&self, device: u64) -> Option<&Array> {
        self.arrays.get(*self.by_device.get(&device)?)
    }

    /// The member of both these numbers.
    pub fn member(&self, array: u64, member: u64) -> Option<&Member> {
        let (array, member) = self.by_devices.get(&(array, member))?;
        self.arrays.get(*array)?.members.get(*member)
    }

    /// What did not fit.
    pub fn left_out(&self) -> LeftOut {
        self.left_out
    }
}
