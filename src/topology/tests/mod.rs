//! Topologies of hosts that are directories.

mod adopt;
mod dm;
mod families;
mod md;

use super::*;
use crate::{host::Host, sys::DmTarget};
use std::{fs, io, os::unix::fs::symlink, path::PathBuf, sync::Arc};
use tempfile::TempDir;

/// A host in a directory: `sys`, and tables of device-mapper devices.
pub(super) struct Tree {
    directory: TempDir,
    /// Number of a device → lines of its table, lines of its status.
    tables: HashMap<u64, [Vec<DmTarget>; 2]>,
}

impl Tree {
    pub(super) fn new() -> Self {
        let tree =
            Self { directory: tempfile::tempdir().expect("a temporary directory"), tables: HashMap::new() };
        fs::create_dir_all(tree.sys().join("dev/block")).expect("a new directory");
        fs::create_dir_all(tree.sys().join("block")).expect("a new directory");
        tree
    }

    pub(super) fn sys(&self) -> PathBuf {
        self.directory.path().join("sys")
    }

    pub(super) fn host(&self) -> Host {
        let root = self.directory.path();
        Host { proc: root.join("proc"), sys: root.join("sys"), dev: root.join("dev"), ..Host::default() }
    }

    pub(super) fn read(&mut self) -> Topology {
        let mapper = Arc::new(Tables(self.tables.clone()));
        TopologyReader::new(&self.host(), mapper).read(&Topology::default()).0
    }

    /// A whole disk, by its name as sysfs writes it.
    pub(super) fn disk(&self, file: &str, numbers: &str) -> PathBuf {
        let place = self.device(&format!("devices/{file}"), numbers);
        symlink(&place, self.sys().join("block").join(file)).expect("a new link");
        place
    }

    pub(super) fn partition(&self, disk: &str, file: &str, numbers: &str) {
        let place = self.device(&format!("devices/{disk}/{file}"), numbers);
        fs::write(place.join("partition"), "1\n").expect("a writable directory");
    }

    fn device(&self, path: &str, numbers: &str) -> PathBuf {
        let place = self.sys().join(path);
        fs::create_dir_all(place.join("holders")).expect("a new directory");
        fs::write(place.join("dev"), format!("{numbers}\n")).expect("a writable directory");
        symlink(&place, self.sys().join("dev/block").join(numbers)).expect("a new link");
        place
    }

    /// An md array with these attributes.
    pub(super) fn md(&self, file: &str, numbers: &str, attributes: &[(&str, &str)]) {
        let md = self.disk(file, numbers).join("md");
        fs::create_dir(&md).expect("a new directory");
        for (name, text) in attributes {
            fs::write(md.join(name), format!("{text}\n")).expect("a writable directory");
        }
    }

    /// A member of an md array: the target of `dev/block` is the device.
    pub(super) fn member(&self, array: &str, numbers: &str, slot: &str, state: &str) -> PathBuf {
        let device = fs::read_link(self.sys().join("dev/block").join(numbers)).expect("a device");
        let file = device.file_name().expect("a name").to_str().expect("UTF-8");
        let place = self.sys().join("devices").join(array).join("md").join(format!("dev-{file}"));
        fs::create_dir(&place).expect("a new directory");
        symlink(&device, place.join("block")).expect("a new link");
        fs::write(place.join("slot"), format!("{slot}\n")).expect("a writable directory");
        fs::write(place.join("state"), format!("{state}\n")).expect("a writable directory");
        place
    }

    /// A device-mapper device on top of these others.
    pub(super) fn dm(
        &mut self,
        file: &str,
        numbers: &str,
        title: &str,
        table: &[&str],
        status: &[&str],
        on: &[&str],
    ) {
        let dm = self.disk(file, numbers).join("dm");
        fs::create_dir(&dm).expect("a new directory");
        fs::write(dm.join("name"), format!("{title}\n")).expect("a writable directory");
        for numbers in on {
            self.hold(numbers, file);
        }
        let targets = |lines: &[&str]| lines.iter().map(|line| target(line)).collect();
        self.tables.insert(number(numbers), [targets(table), targets(status)]);
    }

    pub(super) fn hold(&self, numbers: &str, holder: &str) {
        let holders = self.sys().join("dev/block").join(numbers).join("holders");
        fs::write(holders.join(holder), "").expect("a writable directory");
    }
}

/// Number of a device → lines of its table, lines of its status.
struct Tables(HashMap<u64, [Vec<DmTarget>; 2]>);

impl DeviceMapper for Tables {
    fn status(&self, device: u64) -> io::Result<Vec<DmTarget>> {
        let [_, status] = self.0.get(&device).ok_or(io::ErrorKind::NotFound)?;
        Ok(status.clone())
    }

    fn table(&self, device: u64) -> io::Result<Vec<DmTarget>> {
        let [table, status] = self.0.get(&device).ok_or(io::ErrorKind::NotFound)?;
        assert!(status.iter().all(table::is_candidate), "the key of an encrypted device was asked for");
        Ok(table.clone())
    }
}

fn target(line: &str) -> DmTarget {
    let (kind, parameters) = line.split_once(' ').unwrap_or((line, ""));
    DmTarget { kind: kind.into(), parameters: parameters.into() }
}

pub(super) fn number(numbers: &str) -> u64 {
    crate::name::parse_numbers(numbers).expect("`MAJOR:MINOR`")
}

/// Arrays with their members, one line each.
fn show(topology: &Topology) -> Vec<String> {
    let mut lines = Vec::new();
    for array in topology.arrays() {
        lines.push(format!("{} {} {} {}", array.name, array.kind.name(), array.title, array.level));
        for ArrayMember { name, device, slot, state, exclusive } in &array.members {
            let device = device.map_or_else(|| "-".into(), crate::name::numbers);
            let exclusive = if *exclusive { " exclusive" } else { "" };
            lines.push(format!("  {slot} {name} {device} {state}{exclusive}"));
        }
    }
    lines
}
