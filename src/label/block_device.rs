//! Names of block devices by number, through the links in `/sys/dev/block`.
//!
//! A number names whatever the link leads to, a partition included. Numbers are reused: every known one
//! is looked up again at each scrape, a `readlink` apiece. While a device is gone its series keep the
//! name they had.

use super::{Decode, Host, LabelError, number::unsigned, require, text::escape};
use std::collections::HashMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Devices remembered; a machine with more pays a `readlink` for the rest.
const LIMIT: usize = 4096;

/// Bits of a kernel `dev_t` that hold the minor number (`MINORBITS`).
const MINOR_BITS: u32 = 20;

#[derive(Debug)]
struct Entry {
    name: String,
    /// Scrape in which the name was last asked for.
    used: u64,
}

/// Block devices by number.
#[derive(Debug)]
pub(super) struct BlockDevice {
    links: PathBuf,
    known: HashMap<u64, Entry>,
    scrape: u64,
    /// Most names remembered.
    pub(super) limit: usize,
}

impl BlockDevice {
    pub(super) fn new(host: &Host) -> Result<Self, LabelError> {
        let links = host.sys.join("dev/block");
        require("block_device", &links)?;
        Ok(Self { links, known: HashMap::new(), scrape: 0, limit: LIMIT })
    }

    /// The name a link gives now; `None` where there is no such device.
    fn look_up(&self, device: u64) -> Option<String> {
        let target = fs::read_link(self.links.join(numbers(device))).ok()?;
        // The kernel writes `/` in a device name as `!`: `cciss!c0d0`.
        Some(escape(target.file_name()?.as_bytes()).replace('!', "/"))
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

/// `MAJ:MIN`
fn numbers(device: u64) -> String {
    format!("{}:{}", device >> MINOR_BITS, device & ((1 << MINOR_BITS) - 1))
}

impl Decode for BlockDevice {
    fn decode(&mut self, raw: &[u8]) -> String {
        let device = unsigned(raw);
        if device == 0 {
            return "none".to_owned();
        }
        if let Some(entry) = self.known.get_mut(&device) {
            entry.used = self.scrape;
            return entry.name.clone();
        }
        let Some(name) = self.look_up(device) else {
            return numbers(device);
        };
        self.make_room();
        self.known.insert(device, Entry { name: name.clone(), used: self.scrape });
        name
    }

    fn refresh(&mut self) {
        self.scrape += 1;
        let mut known = std::mem::take(&mut self.known);
        for (device, entry) in &mut known {
            if let Some(name) = self.look_up(*device) {
                entry.name = name;
            }
        }
        self.known = known;
    }
}
