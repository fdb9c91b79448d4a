//! One block device, from its directory in sysfs.

use super::{
    Backing, DeviceIdentity, DeviceKind, KnownDevice, MAX_BACKING, MAX_PATH, MAX_TEXT, enclosure::Slots,
    identity, label, udev,
};
use crate::{disk, host::sysfs, mark::Mark, name};
use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
    sync::Arc,
};

/// A device with its parts that others hold.
#[derive(Clone, Debug)]
pub(super) struct FoundDevice {
    pub(super) device: KnownDevice,
    pub(super) partitions: Vec<KnownDevice>,
}

/// The identity of a disk, and by what it is seen that it may be another now.
#[derive(Clone, Debug)]
pub(super) struct KnownIdentity {
    /// The inode of its directory in sysfs, which differs for each disk.
    directory: u64,
    /// What udev knows, which it learns after the kernel has told of the disk.
    udev: Mark,
    slots: Arc<Slots>,
    identity: Arc<DeviceIdentity>,
}

/// What reading a device takes.
#[derive(Debug)]
pub(super) struct ReadingMeans {
    pub(super) sys: std::path::PathBuf,
    pub(super) udev: std::path::PathBuf,
    pub(super) slots: Arc<Slots>,
    /// Whether identities are read again, although nothing says that they changed.
    pub(super) afresh: bool,
}

/// Reads a device; `None` for one without sectors, such as a loop device without a file, and for a path of another disk.
pub(super) fn read(
    means: &ReadingMeans,
    block: &sysfs::Block,
    known: Option<&KnownIdentity>,
) -> Option<(FoundDevice, Option<KnownIdentity>)> {
    let directory = means.sys.join("block").join(&block.file);
    if !disk::has_sectors(&directory) || disk::is_hidden(&directory) {
        return None;
    }
    let kind = kind(&directory, &block.file);
    let known = (kind == DeviceKind::Disk).then(|| identify(means, &directory, known)).flatten();
    let identity = known.as_ref().map(|known| known.identity.clone()).unwrap_or_default();
    let queue = |name: &str| text(&directory.join("queue").join(name));
    let device = KnownDevice {
        name: block.name.clone(),
        kind,
        disk: String::new(),
        identity,
        rotational: queue("rotational"),
        scheduler: scheduler(&queue("scheduler")).to_owned(),
        backing: backing(&directory),
    };
    let partitions = partitions(&directory, &block.file, &device);
    Some((FoundDevice { device, partitions }, known))
}

fn kind(directory: &Path, file: &OsStr) -> DeviceKind {
    if directory.join("dm").exists() {
        DeviceKind::Dm
    } else if directory.join("md").exists() {
        DeviceKind::Md
    } else if directory.join("device").exists() {
        DeviceKind::Disk
    } else if file.as_bytes().starts_with(b"loop") {
        DeviceKind::Loop
    } else {
        DeviceKind::Virtual
    }
}

/// The identity of a disk: the known one, as long as nothing says that it changed.
fn identify(means: &ReadingMeans, directory: &Path, known: Option<&KnownIdentity>) -> Option<KnownIdentity> {
    let number = fs::metadata(directory).ok()?.ino();
    let numbers = sysfs::attribute(&directory.join("dev")).unwrap_or_default();
    let file = udev::file(&means.udev, &numbers);
    let mark = Mark::of(&file);
    let known = known.filter(|known| known.directory == number);
    let is_same = |known: &&KnownIdentity| known.udev == mark && known.slots == means.slots;
    if let Some(known) = known.filter(is_same).filter(|_| !means.afresh) {
        return Some(known.clone());
    }
    let asked = known.map(|known| known.identity.serial.as_str()).filter(|serial| !serial.is_empty());
    let properties = udev::Properties::read(&file);
    let identity = Arc::new(identity::read(directory, &properties, &means.slots, asked));
    Some(KnownIdentity { directory: number, udev: mark, slots: means.slots.clone(), identity })
}

fn text(path: &Path) -> String {
    sysfs::bytes(path).map(|bytes| label(&bytes, MAX_TEXT)).unwrap_or_default()
}

/// The scheduler in use: `[mq-deadline] kyber none`; one word alone for devices that have no other.
fn scheduler(text: &str) -> &str {
    let used = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    used.map_or(text, |(name, _)| name)
}

/// What a device is made of, in order of name.
fn backing(directory: &Path) -> Vec<Backing> {
    let mut devices: Vec<String> = sysfs::entries(&directory.join("slaves"))
        .take(MAX_BACKING)
        .map(|file| name::of_block_file(&file))
        .collect();
    devices.sort_by(|a, b| sysfs::natural(a).cmp(&sysfs::natural(b)));
    let file = sysfs::bytes(&directory.join("loop/backing_file")).map(|bytes| label(&bytes, MAX_PATH));
    let file = file.filter(|path| !path.is_empty()).map(Backing::File);
    devices.into_iter().map(Backing::Device).chain(file).collect()
}

/// The partitions of a disk that others hold.
fn partitions(directory: &Path, file: &OsStr, disk: &KnownDevice) -> Vec<KnownDevice> {
    let is_held = |part: &Path| {
        part.join("partition").exists() && sysfs::entries(&part.join("holders")).next().is_some()
    };
    let found = sysfs::entries(directory)
        .filter(|name| name.as_bytes().starts_with(file.as_bytes()) && is_held(&directory.join(name)));
    let device = |name: std::ffi::OsString| KnownDevice {
        name: name::of_block_file(&name),
        kind: DeviceKind::Partition,
        backing: Vec::new(),
        ..disk.clone()
    };
    found.map(device).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedulers() {
        for (text, expected) in [
            ("none [mq-deadline] kyber", "mq-deadline"),
            ("[none]", "none"),
            ("none", "none"),
            ("", ""),
            ("[", "["),
        ] {
            assert_eq!(scheduler(text), expected);
        }
    }
}
