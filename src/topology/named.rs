//! Names that people gave to block devices whose kernel names are numbered: volumes of LVM, multipath and encrypted devices, md
//! arrays.

use crate::{host::sysfs, name};
use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs,
    os::unix::ffi::OsStrExt,
    path::Path,
};

/// A device and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceName {
    /// The kernel's name: `dm-3`, `md127`.
    pub device: String,
    /// The kind of name: `lvm`, `multipath`, `crypt`, `dm` for others of the device mapper, `md`.
    pub kind: &'static str,
    /// The name: `vg-lv`, `mpatha`, `data`.
    pub name: String,
}

/// Prefixes of the ids that programs give to their devices, and the kind of each.
const KINDS: [(&str, &str); 3] = [("LVM-", "lvm"), ("mpath-", "multipath"), ("CRYPT-", "crypt")];

/// The kind of a device by its id. A partition made by kpartx, `part1-mpath-…`, has the kind of the whole.
fn kind(id: &str) -> &'static str {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let of_partition = id.strip_prefix("part").and_then(|rest| rest.split_once('-'));
    let id = of_partition.filter(|(number, _)| is_number(number)).map_or(id, |(_, whole)| whole);
    let kind = KINDS.iter().find(|(beginning, _)| id.starts_with(beginning));
    kind.map_or("dm", |(_, kind)| kind)
}

/// Names of md arrays by their kernel names, from the links that mdadm or udev make below `/dev/md`. The kernel does not know
/// these names.
#[derive(Debug, Default)]
pub(super) struct MdNames(HashMap<OsString, String>);

impl MdNames {
    pub(super) fn read(dev: &Path) -> Self {
        let directory = dev.join("md");
        let mut names = HashMap::new();
        for link in sysfs::entries(&directory) {
            let Ok(target) = fs::read_link(directory.join(&link)) else { continue };
            let Some(array) = target.file_name() else { continue };
            let name = name::escape(link.as_bytes());
            // `/dev/md/0` adds nothing to `md0`.
            if name.bytes().all(|byte| byte.is_ascii_digit()) || link == *array {
                continue;
            }
            // Of several names, the first in order, so that the choice is stable.
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
pub(super) fn read(sys: &Path, block: &sysfs::Block, links: &MdNames) -> Option<DeviceName> {
    let directory = sys.join("block").join(&block.file);
    let named = |kind, name| Some(DeviceName { device: block.name.clone(), kind, name });
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
