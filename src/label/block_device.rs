//! Names of block devices by number, through the links in `/sys/dev/block`.
//!
//! A number names whatever the link leads to, a partition included. Numbers are reused: every known one
//! is looked up again at each scrape, a `readlink` apiece. While a device is gone its series keep the
//! name they had.

use super::{Decode, Host, LabelError, number::unsigned, require};
use crate::{name, topology::Topology};
use std::{collections::HashMap, path::PathBuf, sync::Arc};

/// Devices remembered; a machine with more pays a `readlink` for the rest.
const LIMIT: usize = 4096;

#[derive(Debug)]
struct Entry {
    name: String,
    /// Scrape in which the name was last asked for.
    used: u64,
}

/// Block devices by number.
#[derive(Debug)]
pub(super) struct BlockDevice {
    sys: PathBuf,
    known: HashMap<u64, Entry>,
    scrape: u64,
    /// Most names remembered.
    pub(super) limit: usize,
}

impl BlockDevice {
    pub(super) fn new(host: &Host) -> Result<Self, LabelError> {
        require("block_device", &host.sys.join("dev/block"))?;
        Ok(Self { sys: host.sys.clone(), known: HashMap::new(), scrape: 0, limit: LIMIT })
    }

    /// Makes room for one more by forgetting the name that was not asked for the longest.
    fn make_room(&mut self) {
        if self.known.len() < self.limit {
            return;
        }
        let oldest = self.known.iter().min_by_key(|(_, entry)| entry.used).map(|(device, _)| *device);
        if let Some(oldest) = oldest {
            self.known.remove(&oldest);
        }
    }
}

impl Decode for BlockDevice {
    fn decode(&mut self, raw: &[u8]) -> Option<String> {
        let device = unsigned(raw);
        if device == 0 {
            return Some("none".to_owned());
        }
        if let Some(entry) = self.known.get_mut(&device) {
            entry.used = self.scrape;
            return Some(entry.name.clone());
        }
        let Some(name) = name::of_block_device(&self.sys, device) else {
            return Some(name::numbers(device));
        };
        self.make_room();
        self.known.insert(device, Entry { name: name.clone(), used: self.scrape });
        Some(name)
    }

    fn refresh(&mut self, _: &Arc<Topology>) {
        self.scrape += 1;
        let mut known = std::mem::take(&mut self.known);
        for (device, entry) in &mut known {
            if let Some(name) = name::of_block_device(&self.sys, *device) {
                entry.name = name;
            }
        }
        self.known = known;
    }
}
