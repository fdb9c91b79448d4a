//! Devices of hosts that are directories.

mod disks;
mod hostile;
mod layers;
mod watching;

use super::*;
use crate::{
    exposition::{Format, encode},
    host::Host,
    topology::Topology,
};
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// Contents of the page 89 of an ATA disk.
fn ata_page(model: &str, serial: &str, revision: &str, wwn: [u8; 8]) -> Vec<u8> {
    let mut page = vec![0_u8; 572];
    page[1] = 0x89;
    page[2..4].copy_from_slice(&568_u16.to_be_bytes());
    let mut put = |word: usize, text: &[u8]| {
        for (place, pair) in text.chunks(2).enumerate() {
            page[60 + 2 * (word + place)] = pair[1];
            page[61 + 2 * (word + place)] = pair[0];
        }
    };
    put(27, format!("{model:40}").as_bytes());
    put(10, format!("{serial:>20}").as_bytes());
    put(23, format!("{revision:8}").as_bytes());
    put(108, &wwn);
    page
}

/// A host in a directory.
struct Tree {
    directory: TempDir,
}

impl Tree {
    fn new() -> Self {
        let tree = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir_all(tree.sys("block")).unwrap();
        tree.write("sys/kernel/uevent_seqnum", "1\n");
        tree
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn sys(&self, path: &str) -> PathBuf {
        self.path("sys").join(path)
    }

    fn host(&self) -> Host {
        Host {
            proc: self.path("proc"),
            sys: self.path("sys"),
            dev: self.path("dev"),
            udev: self.path("udev"),
            ..Host::default()
        }
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// A link by a relative path, as sysfs has them.
    fn link(&self, path: &str, target: &str) {
        let (path, target) = (self.path(path), self.path(target));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let up = path.parent().unwrap().strip_prefix(self.directory.path()).unwrap().components().count();
        let target = target.strip_prefix(self.directory.path()).unwrap();
        symlink(Path::new(&"../".repeat(up)).join(target), path).unwrap();
    }

    /// A block device whose directory is this one below `devices`.
    fn block(&self, path: &str, numbers: &str) {
        let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
        let at = format!("sys/devices/{path}");
        for (file, text) in [
            ("dev", numbers),
            ("size", "2048"),
            ("queue/rotational", "0"),
            ("queue/scheduler", "[none] mq-deadline"),
        ] {
            self.write(&format!("{at}/{file}"), format!("{text}\n"));
        }
        self.link(&format!("sys/block/{name}"), &at);
    }

    /// A disk below the directory of its device, with these attributes of that.
    fn disk(&self, device: &str, subsystem: &str, name: &str, numbers: &str, attributes: &[(&str, &str)]) {
        let path = format!("{device}/block/{name}");
        self.block(&path, numbers);
        let at = format!("sys/devices/{device}");
        self.link(&format!("sys/devices/{path}/device"), &at);
        if !self.path(&at).join("subsystem").exists() {
            fs::create_dir_all(self.sys("bus").join(subsystem)).unwrap();
            self.link(&format!("{at}/subsystem"), &format!("sys/bus/{subsystem}"));
        }
        for (file, text) in attributes {
            self.write(&format!("{at}/{file}"), text);
        }
    }

    /// One that is made of others.
    fn on(&self, name: &str, numbers: &str, kind: &str, below: &[&str]) {
        self.block(&format!("virtual/block/{name}"), numbers);
        if !kind.is_empty() {
            fs::create_dir(self.sys("block").join(name).join(kind)).unwrap();
        }
        for other in below {
            self.write(&format!("sys/devices/virtual/block/{name}/slaves/{other}"), "");
        }
    }

    fn partition(&self, disk: &str, name: &str, holders: &[&str]) {
        let at = fs::canonicalize(self.sys("block").join(disk)).unwrap().join(name);
        fs::create_dir_all(at.join("holders")).unwrap();
        fs::write(at.join("partition"), "1\n").unwrap();
        for holder in holders {
            fs::write(at.join("holders").join(holder), "").unwrap();
        }
    }

    fn read(&self) -> Arc<Disks> {
        DiskWatch::new(&self.host()).refresh()
    }

    /// The identity of a device.
    fn identity(&self, name: &str) -> DeviceIdentity {
        (*self.read().device(name).unwrap_or_else(|| panic!("no `{name}`")).identity).clone()
    }
}

/// The samples of the families, one a line, without labels that are empty.
fn text(watch: &DiskWatch, topology: &Topology) -> String {
    let encoded = encode(watch.families(topology), Format::Text);
    assert!(encoded.left_out.is_empty(), "{:?}", encoded.left_out);
    let text = String::from_utf8(encoded.body.clone()).expect("UTF-8");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.fold(String::new(), |text, line| text + line + "\n")
}

fn identity(
    [model, vendor, serial, wwn, revision]: [&str; 5],
    [path, transport, enclosure, slot]: [&str; 4],
) -> DeviceIdentity {
    DeviceIdentity {
        model: model.into(),
        vendor: vendor.into(),
        serial: serial.into(),
        wwn: wwn.into(),
        revision: revision.into(),
        path: path.into(),
        transport: transport.into(),
        enclosure: enclosure.into(),
        slot: slot.into(),
    }
}
