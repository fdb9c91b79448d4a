//! Marks by which a file is seen to be replaced, written to, or readable again, without reading it.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The state of a file: its device, number and size, and the time of its last change, also of rights; `None` if its metadata
/// cannot be read. Links are followed, so the files of a mounted `ConfigMap` or `Secret` change when the target of their links does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    path: PathBuf,
    seen: Option<(u64, u64, u64, i64, i64)>,
}

impl Mark {
    /// The present state of the file.
    pub fn of(path: &Path) -> Self {
        let seen = fs::metadata(path)
            .ok()
            .map(|file| (file.dev(), file.ino(), file.len(), file.ctime(), file.ctime_nsec()));
        Self { path: path.into(), seen }
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file has changed since.
    pub fn is_stale(&self) -> bool {
        Self::of(&self.path) != *self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn every_kind_of_change_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mark = Mark::of(&path);
        assert!(!mark.is_stale());
        fs::write(&path, "one").unwrap();
        assert!(mark.is_stale(), "it appeared");
        let mark = Mark::of(&path);
        assert!(!mark.is_stale());
        fs::write(&path, "longer").unwrap();
        assert!(mark.is_stale(), "it was written to");
        let mark = Mark::of(&path);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(mark.is_stale(), "its rights changed");
        let link = directory.path().join("link");
        symlink("file", &link).unwrap();
        let mark = Mark::of(&link);
        let other = directory.path().join("other");
        fs::write(&other, "longer").unwrap();
        let next = directory.path().join("next");
        symlink("other", &next).unwrap();
        fs::rename(&next, &link).unwrap();
        assert!(mark.is_stale(), "the link leads elsewhere");
        let mark = Mark::of(&link);
        fs::remove_file(&link).unwrap();
        assert!(mark.is_stale(), "it went");
    }
}
