//! Names that people gave to block devices, which the kernel calls by numbers: volumes of LVM, multipath and encrypted devices,
//! md arrays.

use super::sysfs;
use crate::name;
use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs,
    os::unix::ffi::OsStrExt,
    path::Path,
};

/// A device and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The kernel's name: `dm-3`, `md127`.
    pub device: String,
    /// Who gave it: `lvm`, `multipath`, `crypt`, `dm` for others of the device mapper, `md`.
    pub kind: &'static str,
    /// The name: `vg-lv`, `mpatha`, `data`.
    pub name: String,
}

/// Beginnings of the ids that programs give their devices, and what these are.
const KINDS: [(&str, &str); 3] = [("LVM-", "lvm"), ("mpath-", "multipath"), ("CRYPT-", "crypt")];

/// Names of md arrays by the kernel's, from the links that mdadm or udev make below `/dev/md`. The kernel does not know them.
#[derive(Debug, Default)]
pub(super) struct Links(HashMap<OsString, String>);

impl Links {
    pub(super) fn read(dev: &Path) -> Self {
        let directory = dev.join("md");
        let mut names = HashMap::new();
        for link in sysfs::entries(&directory) {
            let Ok(target) = fs::read_link(directory.join(&link)) else { continue };
            let Some(array) = target.file_name() else { continue };
            let name = name::escape(link.as_bytes());
            // `/dev/md/0` says no more than `md0` does.
            if name.bytes().all(|byte| byte.is_ascii_digit()) || link == *array {
                continue;
            }
            // Of several the first in their order, so that it is the same the next time.
            match names.get_mut(array) {
                None => drop(names.insert(array.to_owned(), name)),
                Some(known) if name < *known => *known = name,
                Some(_) => {}
            }
        }
        Self(names)
    }

    fn of(&self, array: &OsStr) -> Option<&String> {
        self.0.get(array)
    }
}

/// The name of a device, if people gave it one.
pub(super) fn read(sys: &Path, block: &sysfs::Block, links: &Links) -> Option<Named> {
    let directory = sys.join("block").join(&block.file);
    let named = |kind, name| Some(Named { device: block.name.clone(), kind, name });
    if let Some(name) = sysfs::attribute(&directory.join("dm/name")).filter(|name| !name.is_empty()) {
        let id = sysfs::attribute(&directory.join("dm/uuid")).unwrap_or_default();
        let kind = KINDS.iter().find(|(beginning, _)| id.starts_with(beginning));
        return named(kind.map_or("dm", |(_, kind)| kind), name);
    }
    let name = links.of(&block.file).filter(|_| directory.join("md").exists())?;
    named("md", name.clone())
}
