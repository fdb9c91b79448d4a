//! The requested arrays, by the kernel's name, by that of the device mapper, or by a path.

use crate::{
    disks::{DiskWatch, Disks},
    host::Host,
    topology::{Array, Topology, Watch},
};
use std::{collections::BTreeSet, fs, path::Path, sync::Arc};
use tapster_ebpf::diagnostic::nearest;

/// The requested arrays.
#[derive(Debug)]
pub struct Arrays {
    topology: Arc<Topology>,
    /// The devices as they were then: a disk that fails may be gone later.
    disks: Arc<Disks>,
    /// Their kernel names; `None` if all arrays are meant.
    names: Option<BTreeSet<String>>,
    /// Devices that did not answer, so that it is unknown what they are.
    unanswered: Vec<String>,
}

impl Arrays {
    /// Reads the arrays of the host with these names, or all; the error is for the user.
    pub fn read(host: &Host, words: &[String]) -> Result<Self, String> {
        let watch = Watch::new(host);
        let topology = watch.refresh();
        let disks = DiskWatch::new(host).refresh();
        let mut unanswered = watch.silent();
        // Other devices do not matter here.
        unanswered.retain(|device| is_array(&host.sys, device) && !is_there(&topology, device));
        if words.is_empty() {
            return Ok(Self { topology, disks, names: None, unanswered });
        }
        let mut names = BTreeSet::new();
        let mut asked = Vec::new();
        for wanted in words {
            match unanswered.iter().find(|device| is_name(wanted, device, &host.dev)) {
                Some(device) => asked.push(device.clone()),
                None => {
                    names.insert(select(&topology, wanted, &host.dev)?);
                }
            }
        }
        Ok(Self { topology, disks, names: Some(names), unanswered: asked })
    }

    /// The arrays as they were read.
    pub fn now(&self) -> Vec<&Array> {
        self.of(&self.topology)
    }

    /// The devices of the host.
    pub(super) fn disks(&self) -> &Disks {
        &self.disks
    }

    /// The requested arrays in another topology.
    pub(super) fn of<'a>(&self, topology: &'a Topology) -> Vec<&'a Array> {
        let is_meant = |array: &&Array| self.names.as_ref().is_none_or(|names| names.contains(&array.name));
        topology.arrays().iter().filter(is_meant).collect()
    }

    /// Devices that did not answer, so that it is unknown what they are.
    pub fn unanswered(&self) -> &[String] {
        &self.unanswered
    }

    /// A sentence for each device that does not answer.
    pub fn silence(&self) -> impl Iterator<Item = String> {
        self.unanswered.iter().map(|device| {
            // A device of the device mapper may be something else.
            let what = if device.starts_with("dm-") { "what may be an array" } else { "the array" };
            format!("{device}: {what} does not answer: it could not be read within a second, so a disk of it may hang")
        })
    }
}

/// ``; disk `sda`: model ST4000, serial Z1Z0``, or nothing.
pub(super) fn clause(disks: &Disks, member: &str) -> String {
    disks.told(member).map(|told| format!("; {told}")).unwrap_or_default()
}

/// Whether a device has a directory that only arrays and volumes have. Checking that does not involve the driver.
fn is_array(sysfs: &Path, device: &str) -> bool {
    let directory = sysfs.join("block").join(device.replace('/', "!"));
    directory.join("md").is_dir() || directory.join("dm").is_dir()
}

pub(super) fn is_there(topology: &Topology, device: &str) -> bool {
    topology.arrays().iter().any(|array| array.name == device)
}

/// Whether a word names a device of which only the kernel's name is known.
fn is_name(wanted: &str, device: &str, dev: &Path) -> bool {
    let path = Path::new(wanted);
    let means = |path: &Path| path.strip_prefix(dev).is_ok_and(|name| name == Path::new(device));
    wanted == device || means(path) || fs::canonicalize(path).is_ok_and(|path| means(&path))
}

/// The kernel's name of an array, given by that name, by the device mapper's, or by a path.
pub(super) fn select(topology: &Topology, wanted: &str, dev: &Path) -> Result<String, String> {
    let found = find(topology, wanted, dev).ok_or_else(|| {
        let known = topology.arrays().iter().flat_map(|array| [array.name.as_str(), array.title.as_str()]);
        let hint = nearest(wanted, known).map(|near| format!("; did you mean `{near}`?"));
        format!("there is no array `{wanted}`{}", hint.unwrap_or_default())
    })?;
    Ok(found.name.clone())
}

fn find<'a>(topology: &'a Topology, wanted: &str, dev: &Path) -> Option<&'a Array> {
    let named = |name: &str| topology.arrays().iter().find(|array| array.name == name || array.title == name);
    let path = Path::new(wanted);
    named(wanted)
        .or_else(|| named(path.strip_prefix(dev).ok()?.to_str()?))
        // `/dev/vg/lv` and `/dev/md/home` are links to the kernel's names.
        .or_else(|| named(fs::canonicalize(path).ok()?.strip_prefix(dev).ok()?.to_str()?))
}
