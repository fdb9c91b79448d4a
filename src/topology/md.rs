//! An md array from its directory in sysfs.

use super::{Array, ArrayDriver, ArrayMember, DeviceName};
use crate::{host::sysfs, name};
use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt, path::Path};

/// The level of a container, as mdadm calls it; the kernel has no word for it.
const CONTAINER: &str = "container";

/// Reads the array; `None` if the device is none, or went before it was read.
pub(super) fn read(sys: &Path, block: &sysfs::Block, named: Option<&DeviceName>) -> Option<Array> {
    let device = sys.join("block").join(&block.file);
    let md = device.join("md");
    let attribute = |name: &str| sysfs::attribute(&md.join(name));
    let level = level(&attribute("level")?);
    let device = name::parse_numbers(&sysfs::attribute(&device.join("dev"))?)?;
    let mut members: Vec<ArrayMember> = sysfs::entries(&md)
        .filter(|file| file.as_bytes().starts_with(b"dev-"))
        .filter_map(|file| member(&md.join(file)))
        .collect();
    if attribute("metadata_version").is_some_and(|version| is_container(&version)) {
        let title = title(block, named);
        return (!members.is_empty()).then(|| container((device, block, title), members, &md));
    }
    members.sort_by(|a, b| order(a).cmp(&order(b)));
    let state = attribute("array_state").filter(|state| !state.is_empty());
    // A stopped array leaves this behind until its node goes.
    if members.is_empty() && state.as_deref().is_none_or(|state| state == "clear") {
        return None;
    }
    Some(Array {
        name: block.name.clone(),
        device,
        kind: ArrayDriver::Md,
        title: title(block, named),
        level,
        // `8 (7)` while the array is reshaped: the new number, then the old.
        disks: attribute("raid_disks").and_then(|text| text.split_whitespace().next()?.parse().ok()),
        degraded: attribute("degraded").and_then(|text| text.parse().ok()),
        state,
        action: attribute("sync_action").filter(|action| !action.is_empty()),
        completed: attribute("sync_completed").and_then(|text| completed(&text)),
        announces: true,
        members,
    })
}

/// The name that people gave to an array, else the kernel's.
fn title(block: &sysfs::Block, named: Option<&DeviceName>) -> String {
    named.map_or(&block.name, |named| &named.name).clone()
}

/// Whether an array with this `metadata_version` only holds the metadata of volumes: `external:ddf` is a container,
/// `external:/md127/0` a volume in one, `external:-md127/0` a volume that must not be changed.
fn is_container(version: &str) -> bool {
    let format = version.strip_prefix("external:");
    format.is_some_and(|format| !format.is_empty() && !format.starts_with(['/', '-']))
}

/// Reads a container. The kernel reports it as inactive and its disks as spares, however healthy its volumes are: it never
/// runs, so it has no state, no action and no missing disks. A disk of it is a spare only as long as no volume uses it.
fn container(
    (device, block, title): (u64, &sysfs::Block, String),
    mut members: Vec<ArrayMember>,
    md: &Path,
) -> Array {
    for member in &mut members {
        let holders = md.join(format!("dev-{}", member.name.replace('/', "!"))).join("block/holders");
        let is_used = sysfs::entries(&holders).any(|holder| holder != *block.file);
        if is_used {
            let word = |word| if word == "spare" { "in_use" } else { word };
            member.state = member.state.split(',').map(word).collect::<Vec<_>>().join(",");
        }
    }
    members.sort_by(|a, b| order(a).cmp(&order(b)));
    Array {
        name: block.name.clone(),
        device,
        kind: ArrayDriver::Md,
        title,
        level: CONTAINER.into(),
        disks: None,
        degraded: None,
        state: None,
        action: None,
        completed: None,
        announces: true,
        members,
    }
}

/// Reads a member from its directory, such as `dev-sda1`.
fn member(directory: &Path) -> Option<ArrayMember> {
    let slot = sysfs::attribute(&directory.join("slot")).filter(|slot| !slot.is_empty())?;
    let state = Some(sysfs::attribute(&directory.join("state"))?).filter(|state| !state.is_empty());
    let link = directory.join("block");
    // The link leads to the device, which may be a partition. If there is no link, the directory's name has to do.
    let target = fs::read_link(&link).ok();
    let file = match &target {
        Some(target) => target.file_name()?.to_owned(),
        None => OsStr::from_bytes(directory.file_name()?.as_bytes().strip_prefix(b"dev-")?).to_owned(),
    };
    let device = sysfs::attribute(&link.join("dev")).and_then(|text| name::parse_numbers(&text));
    Some(ArrayMember {
        name: name::of_block_file(&file),
        device,
        slot,
        state: state.unwrap_or_else(|| "unknown".into()),
        exclusive: false,
    })
}

/// Sorts numbered slots first, by number.
fn order(member: &ArrayMember) -> (u64, (&str, u64, &str)) {
    (member.slot.parse().unwrap_or(u64::MAX), sysfs::natural(&member.name))
}

/// The level's name. Before an array has started, the kernel may report only a number, or nothing.
fn level(text: &str) -> String {
    match text {
        "" => "unknown".into(),
        "-1" => "linear".into(),
        number if number.bytes().all(|byte| byte.is_ascii_digit()) => format!("raid{number}"),
        name => name.into(),
    }
}

/// Parses `a / b` sectors as a fraction; `none` and `delayed` are not running.
fn completed(text: &str) -> Option<f64> {
    let (done, all) = text.split_once('/')?;
    ratio(done.trim().parse().ok()?, all.trim().parse().ok()?)
}

/// A fraction, at most 1.
#[expect(clippy::cast_precision_loss, reason = "a ratio is told to a few digits")]
pub(super) fn ratio(done: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| (done as f64 / all as f64).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_and_volumes() {
        for (version, expected) in [
            ("external:ddf", true),
            ("external:imsm", true),
            ("external:/md127/0", false),
            ("external:-md127/0", false),
            ("external:", false),
            ("1.2", false),
            ("none", false),
            ("", false),
        ] {
            assert_eq!(is_container(version), expected, "{version}");
        }
    }

    #[test]
    fn levels_and_ratios() {
        for (text, expected) in [
            ("raid0", "raid0"),
            ("", "unknown"),
            ("-1", "linear"),
            ("10", "raid10"),
            ("container", "container"),
        ] {
            assert_eq!(level(text), expected);
        }
        for (text, expected) in [
            ("25 / 100", Some(0.25)),
            ("101 / 100", Some(1.0)),
            ("0 / 0", None),
            ("none", None),
            ("delayed", None),
            ("-1 / 4", None),
            ("1 / x", None),
            ("", None),
        ] {
            assert_eq!(completed(text), expected, "{text}");
        }
    }
}
