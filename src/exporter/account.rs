//! What was counted of each disk, beside the kernel's own account of it.
//!
//! Some I/O passes no event on some kernels: before Linux 6.3 a page that goes to zram may be handed over by a call of its own,
//! without a bio. Nobody who counts events sees that, but `/sys/block/DISK/stat` has it.

use crate::{
    family::{Kind, MetricFamily, Value},
    name,
};
use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
};

/// What has the bytes of bios, and of requests, by device.
const COUNTED: [&str; 2] = ["tapster_block_io_bytes_total", "tapster_block_device_bytes_total"];
/// Operations that the kernel has apart from reads and writes.
const APART: [&str; 2] = ["discard", "flush"];
/// Bytes of a sector, whatever the disk's own are.
const SECTOR: u64 = 512;
/// Less than this is what was under way at either look.
const LEAST: u64 = 1 << 20;
/// Most disks looked at.
const MAX_DISKS: usize = 1 << 16;

/// Bytes since the first look, or since the disk is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bytes {
    /// By the kernel's account.
    own: u64,
    /// By events.
    counted: u64,
}

/// The accounts of all disks.
#[derive(Debug)]
pub(super) struct Account {
    block: PathBuf,
    /// At the first look, of a disk that came later nothing; and at the last one.
    known: Option<HashMap<String, [Bytes; 2]>>,
    /// Disks with I/O that no event told.
    found: BTreeSet<String>,
    told: MetricFamily,
}

impl Account {
    pub(super) fn new(sys: &Path) -> Self {
        let told = MetricFamily::new(
            "tapster_block_unseen_bytes",
            "Bytes of a device by the kernel's own account that no event told; absent where events told of them.",
            Kind::Gauge,
            &["device"],
        );
        Self { block: sys.join("block"), known: None, found: BTreeSet::new(), told }
    }

    /// Compares with what these families have, if they have it.
    pub(super) fn compare(&mut self, families: &[MetricFamily]) {
        if !families.iter().any(|family| *family.name == *COUNTED[0]) {
            return;
        }
        let counted = counted(families);
        let disks: HashMap<String, Bytes> = accounts(&self.block)
            .map(|(disk, own)| {
                let counted = counted.get(&disk).copied().unwrap_or(0);
                (disk, Bytes { own, counted })
            })
            .collect();
        let Some(known) = &mut self.known else {
            self.known = Some(disks.into_iter().map(|(disk, now)| (disk, [now, now])).collect());
            return;
        };
        known.retain(|disk, _| disks.contains_key(disk));
        self.found.retain(|disk| disks.contains_key(disk));
        self.told.samples.clear();
        for (disk, now) in disks {
            let [first, last] = known.entry(disk.clone()).or_default();
            if now.own < last.own {
                // Another disk of this name.
                *first = Bytes::default();
            } else if now.counted < last.counted {
                // Another probe of this name.
                *first = now;
            }
            *last = now;
            let own = now.own.saturating_sub(first.own);
            let counted = now.counted.saturating_sub(first.counted);
            let unseen = own.saturating_sub(counted);
            if unseen >= LEAST && unseen >= own / 4 && self.found.insert(disk.clone()) {
                tracing::warn!(
                    device = disk,
                    own,
                    counted,
                    "the kernel's own account of the device has bytes that no event told, so its latency is that of a part of \
                     its I/O; before Linux 6.3 pages of zram and of RAM disks, swapped ones for instance, pass no event"
                );
            }
            if self.found.contains(&disk) {
                #[expect(clippy::cast_precision_loss, reason = "samples are f64, as Prometheus keeps them")]
                self.told.push(&[&disk], unseen as f64);
            }
        }
        self.told.samples.sort_by(|a, b| a.labels.cmp(&b.labels));
    }

    /// What was found at the last look.
    pub(super) fn family(&self) -> Option<MetricFamily> {
        (!self.told.samples.is_empty()).then(|| self.told.clone())
    }
}

/// Bytes read and written by device: of its bios or of its requests, whichever are more.
fn counted(families: &[MetricFamily]) -> HashMap<String, u64> {
    let mut most: HashMap<String, u64> = HashMap::new();
    for family in families.iter().filter(|family| COUNTED.contains(&&*family.name)) {
        let place = |label: &str| family.label_names.iter().position(|name| name == label);
        let (Some(device), Some(operation)) = (place("device"), place("operation")) else { continue };
        let mut sums: HashMap<&String, f64> = HashMap::new();
        for sample in &family.samples {
            let Value::Number(bytes) = sample.value else { continue };
            if !APART.contains(&sample.labels[operation].as_str()) {
                *sums.entry(&sample.labels[device]).or_default() += bytes;
            }
        }
        for (device, bytes) in sums {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a sum of whole bytes"
            )]
            let bytes = bytes as u64;
            let known = most.entry(device.clone()).or_default();
            *known = bytes.max(*known);
        }
    }
    most
}

/// Bytes read and written of each disk by the kernel's account. Hidden ones are paths of others.
fn accounts(block: &Path) -> impl Iterator<Item = (String, u64)> {
    let disks = fs::read_dir(block).into_iter().flatten().take(MAX_DISKS).flatten();
    disks.filter_map(|entry| {
        let directory = entry.path();
        let is_hidden = fs::read_to_string(directory.join("hidden")).is_ok_and(|text| text.trim() == "1");
        let text = fs::read_to_string(directory.join("stat")).ok().filter(|_| !is_hidden)?;
        Some((name::of_block_file(&entry.file_name()), bytes(&text)?))
    })
}

/// `IOS MERGES SECTORS MS` of reads, then of writes, then more.
fn bytes(stat: &str) -> Option<u64> {
    let words: Vec<u64> = stat.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let (read, written) = (words.get(2)?, words.get(6)?);
    Some(read.saturating_add(*written).saturating_mul(SECTOR))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    struct Host(tempfile::TempDir);

    impl Host {
        /// A disk with so many bytes read, and as many written.
        fn disk(&self, disk: &str, bytes: u64, hidden: &str) {
            let directory = self.0.path().join("block").join(disk);
            fs::create_dir_all(&directory).expect("a new directory");
            let sectors = bytes / SECTOR;
            fs::write(directory.join("stat"), format!("  7 0 {sectors} 3  9 1 {sectors} 4 0 5 6 0 0 0 0\n"))
                .expect("writable");
            fs::write(directory.join("hidden"), hidden).expect("writable");
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn families(io: &[(&str, &str, u64)], device: &[(&str, &str, u64)]) -> Vec<MetricFamily> {
        [(COUNTED[0], io), (COUNTED[1], device)]
            .into_iter()
            .map(|(name, rows)| {
                let mut family = MetricFamily::new(name, "", Kind::Counter, &["device", "operation"]);
                for (device, operation, bytes) in rows {
                    family.push(&[device, operation], *bytes as f64);
                }
                family
            })
            .collect()
    }

    fn shown(account: &Account) -> Vec<(String, u64)> {
        let samples = account.family().map(|family| family.samples).unwrap_or_default();
        samples
            .iter()
            .map(|sample| {
                let Value::Number(bytes) = sample.value else { panic!("a number") };
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number")]
                (sample.labels[0].clone(), bytes as u64)
            })
            .collect()
    }

    #[test]
    fn what_no_event_told_is_found() {
        let host = Host(tempfile::tempdir().expect("a temporary directory"));
        let mut account = Account::new(host.0.path());
        // What was before the first look is nobody's.
        host.disk("zram0", 100 * MIB, "0\n");
        host.disk("sda", 0, "0\n");
        host.disk("nvme0c0n1", 0, "1\n");
        account.compare(&families(&[], &[]));
        assert_eq!(shown(&account), []);
        // A path has requests and no bios; a discard is not among what is written.
        host.disk("sda", 8 * MIB, "0\n");
        host.disk("nvme0c0n1", 8 * MIB, "1\n");
        host.disk("zram0", 101 * MIB, "0\n");
        let seen =
            families(&[("zram0", "read", MIB), ("zram0", "discard", 9 * MIB)], &[("sda", "read", 16 * MIB)]);
        account.compare(&seen);
        assert_eq!(shown(&account), [("zram0".to_owned(), MIB)]);
        // Without the counts nothing is said of them, and it stays as it was found.
        account.compare(&[]);
        assert_eq!(shown(&account), [("zram0".to_owned(), MIB)]);
        account.compare(&families(&[("zram0", "read", 2 * MIB)], &[("sda", "read", 16 * MIB)]));
        assert_eq!(shown(&account), [("zram0".to_owned(), 0)]);
        // Another disk of the name, and one that came later.
        host.disk("zram0", MIB, "0\n");
        host.disk("zram1", 4 * MIB, "0\n");
        let sda = ("sda", "read", 16 * MIB);
        account.compare(&families(&[("zram0", "write", 2 * MIB), ("zram1", "read", 7 * MIB)], &[sda]));
        assert_eq!(shown(&account), [("zram0".to_owned(), 0)], "an eighth is what was under way");
        fs::remove_dir_all(host.0.path().join("block/zram0")).expect("it is there");
        account.compare(&families(&[("zram1", "read", 8 * MIB)], &[sda]));
        assert_eq!(shown(&account), []);
        // A probe that is exchanged begins at zero.
        account.compare(&families(&[("zram1", "read", 8 * MIB)], &[]));
        assert_eq!(shown(&account), []);
    }
}
