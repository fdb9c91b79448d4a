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

/// What an id says that its device is. A partition that kpartx made, `part1-mpath-…`, is of the kind of what it is a part of.
fn kind(id: &str) -> &'static str {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let of_partition = id.strip_prefix("part").and_then(|rest| rest.split_once('-'));
    let id = of_partition.filter(|(number, _)| is_number(number)).map_or(id, |(_, whole)| whole);
    let kind = KINDS.iter().find(|(beginning, _)| id.starts_with(beginning));
    kind.map_or("dm", |(_, kind)| kind)
}

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
        return named(kind(&id), name);
    }
    let name = links.of(&block.file).filter(|_| directory.join("md").exists())?;
    named("md", name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_by_ids() {
        for (id, expected) in [
            ("LVM-AbCdEf", "lvm"),
            ("mpath-3600508b4000156d7", "multipath"),
            ("CRYPT-LUKS2-0123-data", "crypt"),
            ("part1-mpath-3600508b4000156d7", "multipath"),
            ("part12-mpath-3600508b4000156d7", "multipath"),
            ("part-mpath-3600508b4000156d7", "dm"),
            ("partx-mpath-3600508b4000156d7", "dm"),
            ("part1", "dm"),
            ("part1-", "dm"),
            ("", "dm"),
        ] {
            assert_eq!(kind(id), expected, "{id}");
        }
    }
}
