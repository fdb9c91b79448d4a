//! The arrays that were asked for, by the kernel's name, by that of the device mapper, or by a path.

use crate::{
    host::Host,
    topology::{Array, Topology, Watch},
};
use std::{collections::BTreeSet, fs, path::Path, sync::Arc};
use tapster_ebpf::diagnostic::nearest;

/// Arrays that were asked for.
#[derive(Debug)]
pub struct Arrays {
    topology: Arc<Topology>,
    /// The kernel's names; all arrays are meant where none was given.
    names: Option<BTreeSet<String>>,
    /// Those that do not say what they are.
    unanswered: Vec<String>,
}

impl Arrays {
    /// Reads the arrays of the host that these words mean, or all; the error is for who asked.
    pub fn read(host: &Host, words: &[String]) -> Result<Self, String> {
        let watch = Watch::new(host);
        let topology = watch.refresh();
        let mut unanswered = watch.silent();
        // Of other devices nobody wants to know here.
        unanswered.retain(|device| is_array(&host.sys, device) && !is_there(&topology, device));
        if words.is_empty() {
            return Ok(Self { topology, names: None, unanswered });
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
        Ok(Self { topology, names: Some(names), unanswered: asked })
    }

    /// As they were when they were read.
    pub fn now(&self) -> Vec<&Array> {
        self.of(&self.topology)
    }

    /// Those of a topology.
    pub(super) fn of<'a>(&self, topology: &'a Topology) -> Vec<&'a Array> {
        let is_meant = |array: &&Array| self.names.as_ref().is_none_or(|names| names.contains(&array.name));
        topology.arrays().iter().filter(is_meant).collect()
    }

    /// Those that do not say what they are.
    pub fn unanswered(&self) -> &[String] {
        &self.unanswered
    }

    /// A sentence for each that does not answer.
    pub fn silence(&self) -> impl Iterator<Item = String> {
        self.unanswered.iter().map(|device| {
            // Of the device mapper's it is not known what they are.
            let what = if device.starts_with("dm-") { "what may be an array" } else { "the array" };
            format!("{device}: {what} does not answer: it could not be read within a second, so a disk of it may hang")
        })
    }
}

/// Whether a device has what only arrays and volumes have. Looking that up asks no driver.
fn is_array(sysfs: &Path, device: &str) -> bool {
    let directory = sysfs.join("block").join(device.replace('/', "!"));
    directory.join("md").is_dir() || directory.join("dm").is_dir()
}

pub(super) fn is_there(topology: &Topology, device: &str) -> bool {
    topology.arrays().iter().any(|array| array.name == device)
}

/// Whether a word means a device of which only the kernel's name is known.
fn is_name(wanted: &str, device: &str, dev: &Path) -> bool {
    let path = Path::new(wanted);
    let means = |path: &Path| path.strip_prefix(dev).is_ok_and(|name| name == Path::new(device));
    wanted == device || means(path) || fs::canonicalize(path).is_ok_and(|path| means(&path))
}

/// The kernel's name of an array: it may be given as such, by device-mapper name, or by a path.
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
