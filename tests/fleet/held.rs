//! What a process holds in the kernel, by its descriptors.

use std::{array, collections::BTreeSet, fs, path::PathBuf, thread, time::Duration};

/// Ids of programs, maps and links, and the number of all descriptors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) programs: BTreeSet<u64>,
    pub(crate) maps: BTreeSet<u64>,
    pub(crate) links: BTreeSet<u64>,
    /// Without sockets, which come and go with requests.
    pub(crate) files: usize,
}

impl Held {
    /// What it keeps. A file that is just being read, as some are each second, is open for a moment, so the least of three looks
    /// counts; what leaks is in each.
    pub(crate) fn by(pid: u32) -> Self {
        let looks: [Self; 3] = array::from_fn(|_| {
            thread::sleep(Duration::from_millis(20));
            Self::now(pid)
        });
        looks.into_iter().min_by_key(|held| held.files).expect("there are three")
    }

    /// What it holds at this moment.
    pub(crate) fn now(pid: u32) -> Self {
        let directory = PathBuf::from(format!("/proc/{pid}"));
        let mut held =
            Self { programs: BTreeSet::new(), maps: BTreeSet::new(), links: BTreeSet::new(), files: 0 };
        for entry in fs::read_dir(directory.join("fdinfo")).unwrap().flatten() {
            let link = fs::read_link(directory.join("fd").join(entry.file_name()));
            let is_socket = link.is_ok_and(|link| link.to_string_lossy().starts_with("socket:"));
            // A descriptor may be closed in between.
            let Ok(text) = fs::read_to_string(entry.path()) else { continue };
            held.files += usize::from(!is_socket);
            let id = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok());
            // A link says of which program it is, too.
            if let Some(link) = id("link_id:") {
                held.links.insert(link);
            } else if let Some(program) = id("prog_id:") {
                held.programs.insert(program);
            } else if let Some(map) = id("map_id:") {
                held.maps.insert(map);
            }
        }
        held
    }

    /// How many of each.
    pub(crate) fn counts(&self) -> [usize; 4] {
        [self.programs.len(), self.maps.len(), self.links.len(), self.files]
    }
}
