//! Which modules of the kernel are loaded, looked at again and again: one that is loaded anew is another one, and what was attached
//! to the functions of the first reaches nothing.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::DirEntryExt,
    path::{Path, PathBuf},
};

/// The modules as they were seen last.
#[derive(Debug, Default)]
pub struct Modules {
    directory: PathBuf,
    /// Each with the number of its directory, which sysfs gives to no other one; `None` as long as they could not be read.
    seen: Option<BTreeMap<String, u64>>,
}

impl Modules {
    /// Those that are loaded now. `sys` is where sysfs is mounted.
    pub fn new(sys: &Path) -> Self {
        let mut modules = Self { directory: sys.join("module"), seen: None };
        modules.look();
        modules
    }

    /// Looks again: modules that came, went, or were loaded anew since the last time.
    pub fn look(&mut self) -> Vec<String> {
        // Where it cannot be read nothing is known to have changed.
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
        // The next number is another one: the first directory is still there.
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
