//! Tracks the loaded kernel modules: a module that is loaded again has other functions, and a probe that is attached to the old
//! ones gets no events.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::DirEntryExt,
    path::{Path, PathBuf},
};

/// The modules of the last check.
#[derive(Debug, Default)]
pub struct Modules {
    directory: PathBuf,
    /// Each with the inode of its directory, which sysfs never reuses; `None` as long as they could not be read.
    seen: Option<BTreeMap<String, u64>>,
}

impl Modules {
    /// The modules that are loaded now. `sys` is where sysfs is mounted.
    pub fn new(sys: &Path) -> Self {
        let mut modules = Self { directory: sys.join("module"), seen: None };
        modules.look();
        modules
    }

    /// Checks again: returns modules that came, went, or were loaded again since the last check.
    pub fn look(&mut self) -> Vec<String> {
        // If it cannot be read, no change is known.
        let Ok(entries) = fs::read_dir(&self.directory) else { return Vec::new() };
        let entries = entries.flatten();
        let now: BTreeMap<String, u64> =
            entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.ino()))).collect();
        let Some(seen) = self.seen.replace(now.clone()) else { return Vec::new() };
        let names = seen.keys().chain(now.keys());
        let mut changed: Vec<String> =
            names.filter(|name| seen.get(*name) != now.get(*name)).cloned().collect();
        changed.sort_unstable();
        changed.dedup();
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_that_come_and_go() {
        let sys = tempfile::tempdir().unwrap();
        let module = |name: &str| sys.path().join("module").join(name);
        fs::create_dir_all(module("ext4")).unwrap();
        let mut modules = Modules::new(sys.path());
        assert!(modules.look().is_empty());
        fs::create_dir(module("brd")).unwrap();
        assert_eq!(modules.look(), ["brd"]);
        assert!(modules.look().is_empty());
        // The new directory gets another inode because the first still exists.
        fs::create_dir(module("new")).unwrap();
        fs::remove_dir(module("ext4")).unwrap();
        fs::rename(module("new"), module("brd")).unwrap();
        assert_eq!(modules.look(), ["brd", "ext4"], "loaded anew, and gone");
        fs::rename(sys.path().join("module"), sys.path().join("hidden")).unwrap();
        assert!(modules.look().is_empty(), "it is not to be seen, which says nothing of what is loaded");
        let mut late = Modules::new(sys.path());
        fs::rename(sys.path().join("hidden"), sys.path().join("module")).unwrap();
        assert!(late.look().is_empty(), "nor is all that is seen for the first time new");
    }
}
