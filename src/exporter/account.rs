//! Compares the bytes that probes count on each disk with the kernel's own account.
//!
//! Some I/O causes no event on some kernels: before Linux 6.3 a page may go to zram by a call of its own, without a bio.
//! Counting events misses it, but `/sys/block/DISK/stat` includes it.

use crate::{
    disk,
    family::{FamilyKind, MetricFamily, SampleValue},
    name,
};
use std::{
    collections::{BTreeSet, HashMap},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The families with the bytes of bios, and of requests, by device.
const COUNTED: [&str; 2] = ["tapster_block_io_bytes_total", "tapster_block_device_bytes_total"];
/// Operations that the kernel accounts separately from reads and writes.
const APART: [&str; 2] = ["discard", "flush"];
/// Bytes of a sector in `stat`, whatever the sector size of the disk.
const SECTOR: u64 = 512;
/// Smaller differences come from I/O in flight at either check.
const LEAST: u64 = 1 << 20;
/// Most disks that are checked.
const MAX_DISKS: usize = 1 << 16;
/// Least time between two checks: each opens a file for each disk, and scrapes wait for it.
const EVERY: Duration = Duration::from_secs(15);

/// Bytes since the first check, or since the disk exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ByteCounts {
    /// Bytes by the kernel's account.
    own: u64,
    /// Bytes by events.
    counted: u64,
}

/// Identifies one of the disks that have had a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DiskIdentity {
    /// `diskseq`, since 5.15: a loop device that gets another file gets a new sequence, but keeps its directory.
    sequence: Option<u64>,
    /// The inode of its directory in sysfs.
    directory: Option<u64>,
}

impl DiskIdentity {
    fn of(directory: &Path) -> Self {
        Self {
            sequence: disk::sequence(directory),
            directory: fs::metadata(directory).ok().map(|found| found.ino()),
        }
    }
}

/// A disk's account.
#[derive(Clone, Copy, Debug)]
struct DiskAccount {
    which: DiskIdentity,
    /// Hidden disks are paths of others, whose I/O is counted there.
    is_hidden: bool,
    /// The first check (zero for a disk that came later), and the last one.
    first: ByteCounts,
    last: ByteCounts,
    /// Whether it has I/O that caused no event.
    is_found: bool,
}

impl DiskAccount {
    /// Updates the account of this name to the disk that has it now.
    fn follow(&mut self, which: DiskIdentity, now: ByteCounts) {
        let goes_on = now.own >= self.last.own;
        if which != self.which {
            // For another disk, events are counted from zero. The kernel's account continues if a loop device got another file.
            self.first = if goes_on { now } else { ByteCounts::default() };
            self.is_found = false;
        } else if now.counted < self.last.counted {
            // Another probe with this name.
            self.first = now;
        } else if !goes_on {
            // If a zram disk is reset, only the kernel's account begins again.
            self.first = ByteCounts { own: 0, counted: self.last.counted };
        }
        (self.which, self.last) = (which, now);
    }
}

/// A family of bytes by device and operation, and the indexes of these labels.
#[derive(Clone, Copy)]
struct ByteFamily<'f> {
    family: &'f MetricFamily,
    device: usize,
    operation: usize,
}

impl<'f> ByteFamily<'f> {
    /// The family with this name. A site's own probe may lack one of these labels; then the family is not used.
    fn find(families: &'f [MetricFamily], name: &str) -> Option<Self> {
        let family = families.iter().find(|family| *family.name == *name)?;
        let place = |label: &str| family.label_names.iter().position(|name| name == label);
        Some(Self { family, device: place("device")?, operation: place("operation")? })
    }
}

/// The accounts of all disks.
#[derive(Debug)]
pub(super) struct Account {
    block: PathBuf,
    /// The file with the number of device events: a disk that is replaced causes one.
    events: PathBuf,
    /// That number when disks were last listed.
    seen: Option<String>,
    /// When disks were last checked.
    looked: Option<Instant>,
    /// Whether requests are counted too.
    has_requests: bool,
    known: Option<HashMap<String, DiskAccount>>,
    /// Disks that the log has named.
    named: BTreeSet<String>,
    told: MetricFamily,
}

impl Account {
    pub(super) fn new(sys: &Path) -> Self {
        let told = MetricFamily::new(
            "tapster_block_unseen_bytes",
            "Bytes of a device by the kernel's own account that no event told; absent where events told of them.",
            FamilyKind::Gauge,
            &["device"],
        );
        Self {
            block: sys.join("block"),
            events: sys.join("kernel/uevent_seqnum"),
            seen: None,
            looked: None,
            has_requests: false,
            known: None,
            named: BTreeSet::new(),
            told,
        }
    }

    /// Compares the kernel's account with these families, if the bytes are in them.
    pub(super) fn compare(&mut self, families: &[MetricFamily]) {
        self.compare_at(families, Instant::now());
    }

    /// Stops comparing, because nothing counts. Later counts are compared from then on.
    pub(super) fn leave(&mut self) {
        self.known = None;
        self.looked = None;
        self.told.samples.clear();
    }

    fn compare_at(&mut self, families: &[MetricFamily], at: Instant) {
        let [bios, requests] = COUNTED.map(|name| ByteFamily::find(families, name));
        if bios.is_none() {
            return self.leave();
        }
        if requests.is_some() != self.has_requests {
            self.leave();
            self.has_requests = requests.is_some();
        }
        if self.looked.is_some_and(|before| at.saturating_duration_since(before) < EVERY) {
            return;
        }
        self.looked = Some(at);
        self.look(&counted([bios, requests].into_iter().flatten()));
        self.tell();
    }

    /// Checks all disks.
    fn look(&mut self, counted: &HashMap<String, u64>) {
        // The number is read first: the next check sees what happens meanwhile.
        let events = fs::read_to_string(&self.events).ok();
        let are_same = events.is_some() && events == self.seen;
        self.seen = events;
        let is_first = self.known.is_none();
        let mut before = self.known.take().unwrap_or_default();
        let mut known = HashMap::with_capacity(before.len());
        let directories = fs::read_dir(&self.block).into_iter().flatten().take(MAX_DISKS).flatten();
        for entry in directories {
            let (directory, name) = (entry.path(), name::of_block_file(&entry.file_name()));
            let old = before.remove(&name);
            let which =
                old.filter(|_| are_same).map_or_else(|| DiskIdentity::of(&directory), |old| old.which);
            let is_hidden = old
                .filter(|old| old.which == which)
                .map_or_else(|| disk::is_hidden(&directory), |old| old.is_hidden);
            let mut now = ByteCounts::default();
            if !is_hidden {
                let stat = fs::read_to_string(directory.join("stat"));
                let Some(own) = stat.ok().and_then(|text| bytes(&text)) else { continue };
                now = ByteCounts { own, counted: counted.get(&name).copied().unwrap_or(0) };
            }
            let first = if is_first { now } else { ByteCounts::default() };
            let mut disk = old.unwrap_or(DiskAccount { which, is_hidden, first, last: now, is_found: false });
            if disk.which != which {
                self.named.remove(&name);
            }
            disk.is_hidden = is_hidden;
            disk.follow(which, now);
            known.insert(name, disk);
        }
        self.named.retain(|name| known.contains_key(name));
        self.known = Some(known);
    }

    /// Logs the disks that have I/O without events.
    fn tell(&mut self) {
        self.told.samples.clear();
        for (name, disk) in self.known.iter_mut().flatten() {
            let DiskAccount { first, last, .. } = *disk;
            let own = last.own.saturating_sub(first.own);
            let counted = last.counted.saturating_sub(first.counted);
            let unseen = own.saturating_sub(counted);
            disk.is_found |= unseen >= LEAST && unseen >= own / 4;
            if !disk.is_found {
                continue;
            }
            if self.named.insert(name.clone()) {
                tracing::warn!(
                    device = name,
                    own,
                    counted,
                    "the kernel's own account of the device has bytes that no event told, so its latency is that of a part of \
                     its I/O; before Linux 6.3 pages of zram and of RAM disks, swapped ones for instance, pass no event"
                );
            }
            #[expect(clippy::cast_precision_loss, reason = "samples are f64, as Prometheus keeps them")]
            self.told.push(&[name], unseen as f64);
        }
        self.told.samples.sort_by(|a, b| a.labels.cmp(&b.labels));
    }

    /// The result of the last check.
    pub(super) fn family(&self) -> Option<MetricFamily> {
        (!self.told.samples.is_empty()).then(|| self.told.clone())
    }
}

/// Bytes read and written by device: of its bios or of its requests, whichever are more.
fn counted<'f>(families: impl Iterator<Item = ByteFamily<'f>>) -> HashMap<String, u64> {
    let mut most: HashMap<String, u64> = HashMap::new();
    for ByteFamily { family, device, operation } in families {
        let mut sums: HashMap<&String, f64> = HashMap::new();
        for sample in &family.samples {
            let SampleValue::Number(bytes) = sample.value else { continue };
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

/// Parses `IOS MERGES SECTORS MS` of reads, then of writes, then more.
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
        fn new() -> Self {
            Self(tempfile::tempdir().expect("a temporary directory"))
        }

        /// Makes a disk with this many bytes read, and as many written.
        fn disk(&self, disk: &str, bytes: u64, hidden: &str) {
            let sectors = bytes / SECTOR;
            let stat = format!("  7 0 {sectors} 3  9 1 {sectors} 4 0 5 6 0 0 0 0\n");
            self.write(&format!("block/{disk}/stat"), &stat);
            self.write(&format!("block/{disk}/hidden"), hidden);
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().expect("a directory")).expect("a new directory");
            fs::write(path, text).expect("writable");
        }
    }

    /// An account and the time of its last comparison: each is long after the one before.
    struct TimedAccount(Account, Instant);

    impl TimedAccount {
        fn new(host: &Host) -> Self {
            Self(Account::new(host.0.path()), Instant::now())
        }

        fn compare(&mut self, families: &[MetricFamily]) {
            self.1 += EVERY;
            self.0.compare_at(families, self.1);
        }

        fn shown(&self) -> Vec<(String, u64)> {
            let samples = self.0.family().map(|family| family.samples).unwrap_or_default();
            samples
                .iter()
                .map(|sample| {
                    let SampleValue::Number(bytes) = sample.value else { panic!("a number") };
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "a small number"
                    )]
                    (sample.labels[0].clone(), bytes as u64)
                })
                .collect()
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn families(io: &[(&str, &str, u64)], device: &[(&str, &str, u64)]) -> Vec<MetricFamily> {
        [(COUNTED[0], io), (COUNTED[1], device)]
            .into_iter()
            .map(|(name, rows)| {
                let mut family = MetricFamily::new(name, "", FamilyKind::Counter, &["device", "operation"]);
                for (device, operation, bytes) in rows {
                    family.push(&[device, operation], *bytes as f64);
                }
                family
            })
            .collect()
    }

    fn reads(disk: &str, bytes: u64) -> Vec<MetricFamily> {
        families(&[(disk, "read", bytes)], &[])
    }

    #[test]
    fn what_no_event_told_is_found() {
        let host = Host::new();
        let mut account = TimedAccount::new(&host);
        // I/O before the first check is not compared.
        host.disk("zram0", 100 * MIB, "0\n");
        host.disk("sda", 0, "0\n");
        host.disk("nvme0c0n1", 0, "1\n");
        account.compare(&families(&[], &[]));
        assert_eq!(account.shown(), []);
        // A path has requests and no bios; written bytes do not include discards.
        host.disk("sda", 8 * MIB, "0\n");
        host.disk("nvme0c0n1", 8 * MIB, "1\n");
        host.disk("zram0", 101 * MIB, "0\n");
        let seen =
            families(&[("zram0", "read", MIB), ("zram0", "discard", 9 * MIB)], &[("sda", "read", 16 * MIB)]);
        account.compare(&seen);
        assert_eq!(account.shown(), [("zram0".to_owned(), MIB)]);
        account.compare(&families(&[("zram0", "read", 2 * MIB)], &[("sda", "read", 16 * MIB)]));
        assert_eq!(account.shown(), [("zram0".to_owned(), 0)], "it stays, once it was found");
        // The disk is reset: the kernel's account begins again, the counts go on.
        host.disk("zram0", MIB, "0\n");
        host.disk("zram1", 4 * MIB, "0\n");
        let sda = ("sda", "read", 16 * MIB);
        account.compare(&families(&[("zram0", "write", 4 * MIB), ("zram1", "read", 7 * MIB)], &[sda]));
        assert_eq!(account.shown(), [("zram0".to_owned(), 0)], "an eighth is what was under way");
        fs::remove_dir_all(host.0.path().join("block/zram0")).expect("it is there");
        account.compare(&families(&[("zram1", "read", 8 * MIB)], &[sda]));
        assert_eq!(account.shown(), []);
        // A probe that is exchanged begins at zero.
        account.compare(&families(&[("zram1", "read", 8 * MIB)], &[]));
        assert_eq!(account.shown(), []);
    }

    /// A loop device with another file has a new sequence, but the kernel's account continues; counts of the first disk are in
    /// no device's series any more.
    #[test]
    fn another_disk_of_a_name_begins_anew() {
        let host = Host::new();
        let mut account = TimedAccount::new(&host);
        host.write("kernel/uevent_seqnum", "1\n");
        host.write("block/loop0/diskseq", "3\n");
        host.disk("loop0", 0, "0\n");
        account.compare(&reads("loop0", 0));
        host.disk("loop0", 100 * MIB, "0\n");
        account.compare(&reads("loop0", 200 * MIB));
        assert_eq!(account.shown(), []);
        // More than was counted on the first disk.
        host.write("kernel/uevent_seqnum", "2\n");
        host.write("block/loop0/diskseq", "4\n");
        host.disk("loop0", 250 * MIB, "0\n");
        account.compare(&reads("loop0", 300 * MIB));
        assert_eq!(account.shown(), []);
        host.disk("loop0", 300 * MIB, "0\n");
        account.compare(&reads("loop0", 400 * MIB));
        assert_eq!(account.shown(), []);
        // The finding belongs to this disk, not to the next one.
        host.disk("loop0", 400 * MIB, "0\n");
        account.compare(&reads("loop0", 400 * MIB));
        assert_eq!(account.shown(), [("loop0".to_owned(), 200 * MIB)]);
        host.write("kernel/uevent_seqnum", "3\n");
        host.write("block/loop0/diskseq", "5\n");
        account.compare(&reads("loop0", 0));
        assert_eq!(account.shown(), []);
    }

    /// A site may have a probe with this name and other labels.
    #[test]
    fn only_what_is_told_by_device_and_operation_is_compared() {
        for labels in [&["operation"][..], &["device"], &[]] {
            let host = Host::new();
            let mut account = TimedAccount::new(&host);
            let other = [MetricFamily::new(COUNTED[0], "", FamilyKind::Counter, labels)];
            host.disk("sda", 0, "0\n");
            account.compare(&other);
            host.disk("sda", 100 * MIB, "0\n");
            account.compare(&other);
            assert_eq!(account.shown(), [], "{labels:?}");
        }
    }

    /// While the probe is away, nothing is compared.
    #[test]
    fn what_was_while_nobody_counted_is_nobodys() {
        let host = Host::new();
        let mut account = TimedAccount::new(&host);
        host.disk("sda", 0, "0\n");
        host.disk("zram0", 0, "0\n");
        account.compare(&reads("sda", 0));
        host.disk("zram0", 10 * MIB, "0\n");
        account.compare(&reads("sda", 0));
        assert_eq!(account.shown(), [("zram0".to_owned(), 20 * MIB)]);
        account.compare(&[]);
        assert_eq!(account.shown(), [], "what was found is not for ever");
        host.disk("sda", 100 * MIB, "0\n");
        account.compare(&[]);
        account.compare(&reads("sda", 0));
        account.compare(&reads("sda", 0));
        assert_eq!(account.shown(), []);
        // The same for the probe of requests, which alone sees a disk below a multipath device.
        let bios = |bytes| reads("sda", bytes).into_iter().take(1).collect::<Vec<_>>();
        account.compare(&bios(0));
        host.disk("sda", 200 * MIB, "0\n");
        account.compare(&families(&[], &[("sda", "read", 0)]));
        account.compare(&families(&[], &[("sda", "read", 0)]));
        assert_eq!(account.shown(), []);
    }

    #[test]
    fn disks_are_not_read_at_every_scrape() {
        let host = Host::new();
        host.write("kernel/uevent_seqnum", "1\n");
        host.disk("sda", 0, "0\n");
        let mut account = TimedAccount::new(&host);
        account.compare(&reads("sda", 0));
        // Whether it is hidden was read before, and no event reports another disk.
        host.disk("sda", 4 * MIB, "1\n");
        account.0.compare_at(&reads("sda", 0), account.1 + EVERY / 2);
        assert_eq!(account.shown(), []);
        account.compare(&reads("sda", 0));
        assert_eq!(account.shown(), [("sda".to_owned(), 8 * MIB)]);
        host.disk("sda", 8 * MIB, "1\n");
        account.0.compare_at(&reads("sda", 0), account.1 + EVERY / 2);
        assert_eq!(account.shown(), [("sda".to_owned(), 8 * MIB)]);
    }
}
