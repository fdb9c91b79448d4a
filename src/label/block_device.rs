//! Names of block devices by number, through the links in `/sys/dev/block`.
//!
//! A number names the device that the link leads to, which may be a partition. Numbers are reused: a loop device gets another
//! file, or another disk takes the place of one that was pulled. Since Linux 5.15 a disk has a sequence that no other disk had
//! before, `diskseq`. A value may carry its lower half above the number, and then names that disk, whatever has the number now.
//! Without it a value names the disk that has the number, and its row must leave the map when that is another disk: by its
//! sequence, or before 5.15 by its directory in sysfs, which is new for each disk. As long as no other disk has the number, a
//! disk that is gone keeps its name.
//!
//! A path of a multipath `NVMe` disk is a hidden disk: it has no link. It is shown as the disk that it leads to, to which I/O
//! is submitted; [`BlockPathDecoder`] shows the path itself.

use super::{Decode, Host, HostError, hidden::HiddenPaths, number::unsigned};
use crate::{disk, host::require, name, topology::Topology};
use std::{collections::HashMap, fs, io, os::unix::fs::MetadataExt, path::Path, path::PathBuf, sync::Arc};

/// Most disks that are remembered; on a machine with more, the rest are read again each time.
const LIMIT: usize = 4096;
/// Bits of a value that hold the number: `dev_t` of the kernel.
const NUMBER_BITS: u32 = 32;

/// The names of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeviceNames {
    /// The device that I/O is submitted to.
    pub(super) device: String,
    /// The path that I/O takes to it; empty if it has no paths.
    pub(super) path: String,
}

/// The disk that has a number.
#[derive(Debug)]
struct CachedDisk {
    names: DeviceNames,
    /// The lower half of its sequence, if the kernel has sequences.
    sequence: Option<u32>,
    /// The inode of its directory in sysfs, which differs for each disk.
    directory: Option<u64>,
    is_there: bool,
    /// The scrape that last used it.
    used: u64,
}

impl CachedDisk {
    /// Whether this is another disk than `before`.
    fn is_other(&self, before: &Self) -> bool {
        match (self.sequence, before.sequence) {
            (Some(now), Some(then)) => now != then,
            _ => {
                let directories = self.directory.zip(before.directory);
                self.names != before.names || directories.is_some_and(|(now, then)| now != then)
            }
        }
    }
}

/// A disk by number and sequence; sequence 0 for values without one.
type DiskId = (u64, u32);

/// Block devices by number.
#[derive(Debug)]
pub(super) struct BlockDeviceDecoder {
    sys: PathBuf,
    hidden: HiddenPaths,
    known: HashMap<u64, CachedDisk>,
    /// Names of disks whose number another disk has now, and the scrape that last used them. With sequence 0: until rows that
    /// were counted under it have left the map.
    past: HashMap<DiskId, (DeviceNames, u64)>,
    /// The kernel's number of device events at the last check of all disks.
    events: Option<String>,
    scrape: u64,
    /// Most entries of `known`, and of `past`.
    pub(super) limit: usize,
}

fn parts(raw: &[u8]) -> DiskId {
    let value = unsigned(raw);
    (value & ((1 << NUMBER_BITS) - 1), u32::try_from(value >> NUMBER_BITS).expect("half of 64 bits"))
}

/// Makes room for one more by forgetting the one that was unused for the longest time.
fn make_room<K: Copy + Eq + std::hash::Hash, V>(
    map: &mut HashMap<K, V>,
    limit: usize,
    used: impl Fn(&V) -> u64,
) {
    if map.len() < limit {
        return;
    }
    let oldest = map.iter().min_by_key(|(_, value)| used(value)).map(|(key, _)| *key);
    if let Some(oldest) = oldest {
        map.remove(&oldest);
    }
}

/// The lower half of the sequence, from a disk's directory.
pub(super) fn sequence(directory: &Path) -> Option<u32> {
    u32::try_from(disk::sequence(directory)? & u64::from(u32::MAX)).ok()
}

impl BlockDeviceDecoder {
    pub(super) fn new(host: &Host) -> Result<Self, HostError> {
        require("block_device", &host.sys.join("dev/block"))?;
        Ok(Self {
            sys: host.sys.clone(),
            hidden: HiddenPaths::new(host),
            known: HashMap::new(),
            past: HashMap::new(),
            events: None,
            scrape: 0,
            limit: LIMIT,
        })
    }

    /// Reads the disk that has the number now, or the hidden disk with this sequence; `None` if there is none.
    fn read(&mut self, number: u64, wanted: Option<u32>) -> io::Result<Option<CachedDisk>> {
        let used = self.scrape;
        let found =
            |names, sequence, directory| CachedDisk { names, sequence, directory, is_there: true, used };
        let link = name::block_link(&self.sys, number);
        // The row of an unknown disk causes a look-up every second, so a missing link must cost no more than this.
        if link.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            let hidden = self.hidden.find(number, wanted);
            return Ok(hidden.map(|(names, sequence)| found(names, sequence, None)));
        }
        // A partition has its disk's sequence and directory.
        let disk = if link.join("partition").exists() { link.join("..") } else { link.clone() };
        // The sequence is read before the name: if the disk is exchanged in between, the next check finds another sequence.
        let (sequence, directory) = (sequence(&disk), fs::metadata(&disk).ok().map(|found| found.ino()));
        match fs::read_link(&link) {
            Ok(target) => Ok(target.file_name().map(|file| {
                let names = DeviceNames { device: name::of_block_file(file), path: String::new() };
                found(names, sequence, directory)
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads the disk that has a number; of hidden disks, the one with this sequence.
    fn meet(&mut self, number: u64, wanted: Option<u32>) {
        let Ok(found) = self.read(number, wanted) else { return };
        let Some(mut disk) = found else {
            if let Some(known) = self.known.get_mut(&number) {
                // The counts of a path belong to its disk, and stay as long as the disk.
                known.is_there = !known.names.path.is_empty() && self.hidden.is_there(&known.names.device);
            }
            return;
        };
        match self.known.remove(&number) {
            Some(before) => {
                disk.used = before.used;
                if disk.is_other(&before) {
                    self.end(number, &before);
                }
            }
            None => make_room(&mut self.known, self.limit, |disk| disk.used),
        }
        self.known.insert(number, disk);
    }

    /// Notes that another disk has this number now.
    fn end(&mut self, number: u64, disk: &CachedDisk) {
        for sequence in [Some(0), disk.sequence].into_iter().flatten() {
            make_room(&mut self.past, self.limit, |(_, used)| *used);
            // Counts without a sequence belong to the first disk, even if others came and went since.
            self.past.entry((number, sequence)).or_insert_with(|| (disk.names.clone(), self.scrape));
        }
    }

    /// Reads the disk of a value, if it can be found.
    fn know(&mut self, (number, sequence): DiskId) {
        let is_known = match self.known.get_mut(&number) {
            Some(disk) => {
                disk.used = self.scrape;
                sequence == 0 || disk.sequence.is_none_or(|own| own == sequence)
            }
            None => false,
        };
        if !is_known && !self.past.contains_key(&(number, sequence)) {
            self.meet(number, (sequence != 0).then_some(sequence));
        }
    }

    /// The names of a value's disk; `None` if it is unknown.
    fn names(&mut self, id: DiskId) -> Option<&DeviceNames> {
        let (number, sequence) = id;
        self.know(id);
        if let Some((names, used)) = self.past.get_mut(&id) {
            *used = self.scrape;
            return Some(names);
        }
        let means = |disk: &&CachedDisk| sequence == 0 || disk.sequence.is_none_or(|own| own == sequence);
        self.known.get(&number).filter(means).map(|disk| &disk.names)
    }
}

impl Decode for BlockDeviceDecoder {
    fn decode(&mut self, raw: &[u8]) -> Option<String> {
        let id @ (number, _) = parts(raw);
        if number == 0 {
            return Some("none".to_owned());
        }
        Some(self.names(id).map_or_else(|| name::numbers(number), |names| names.device.clone()))
    }

    fn refresh(&mut self, _: &Arc<Topology>) {
        self.scrape += 1;
        self.look();
    }

    fn look(&mut self) {
        self.hidden.look_again();
        // Every device that comes, goes or changes causes an event, unless it is hidden. The number is read first: the next
        // check sees what happens meanwhile.
        let events = fs::read_to_string(self.sys.join("kernel/uevent_seqnum")).ok();
        if events.is_some() && events == self.events {
            return;
        }
        self.events = events;
        let numbers: Vec<(u64, Option<u32>)> =
            self.known.iter().map(|(number, disk)| (*number, disk.sequence)).collect();
        for (number, sequence) in numbers {
            self.meet(number, sequence);
        }
    }

    fn is_gone(&mut self, raw: &[u8]) -> bool {
        let id @ (number, sequence) = parts(raw);
        if number == 0 {
            return false;
        }
        self.know(id);
        if self.past.contains_key(&id) {
            return true;
        }
        // If nothing ever had the number, nothing is known.
        let ended = |disk: &CachedDisk| !disk.is_there || disk.sequence.is_some_and(|own| own != sequence);
        sequence != 0 && self.known.get(&number).is_some_and(ended)
    }

    fn has_heir(&self, text: &str) -> bool {
        disk::has_sectors(&self.sys.join("class/block").join(name::block_file(text)))
    }

    fn forget_gone(&mut self) {
        self.past.retain(|(_, sequence), _| *sequence != 0);
    }
}

/// The path that I/O takes to a multipath disk, by the path's number; empty for any other device.
#[derive(Debug)]
pub(super) struct BlockPathDecoder(BlockDeviceDecoder);

impl BlockPathDecoder {
    pub(super) fn new(host: &Host) -> Result<Self, HostError> {
        Ok(Self(BlockDeviceDecoder::new(host)?))
    }
}

impl Decode for BlockPathDecoder {
    fn decode(&mut self, raw: &[u8]) -> Option<String> {
        Some(self.0.names(parts(raw)).map_or_else(String::new, |names| names.path.clone()))
    }

    fn refresh(&mut self, topology: &Arc<Topology>) {
        self.0.refresh(topology);
        self.0.forget_gone();
    }

    fn look(&mut self) {
        self.0.look();
        self.0.forget_gone();
    }
}
