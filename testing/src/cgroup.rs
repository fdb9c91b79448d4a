//! A cgroup of version 2, for a test.

use super::{cases::Skip, exporter::within};
use std::{fs, path::PathBuf, time::Duration};

/// A cgroup that is removed at the end.
#[derive(Debug)]
pub struct Cgroup(pub PathBuf);

impl Cgroup {
    /// Makes one of this name below the root.
    pub fn make(name: &str) -> Result<Self, Skip> {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let root = mounts.lines().find_map(|line| {
            let mut words = line.split(' ').skip(1);
            let path = words.next()?;
            (words.next() == Some("cgroup2")).then(|| PathBuf::from(path))
        });
        let root = root.ok_or_else(|| Skip("no cgroup of version 2 is mounted".into()))?;
        let path = root.join(name);
        fs::create_dir(&path).map_err(|error| Skip(format!("{}: {error}", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A process that has ended leaves it a moment later.
        let _ = within(Duration::from_secs(5), || fs::remove_dir(&self.0).is_ok());
    }
}
