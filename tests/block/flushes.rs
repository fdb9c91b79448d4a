//! Bios without data, and those without a reader or writer: flushes and discards.

use super::{ATTEMPTS, BYTES, COUNT, REQUESTS, Target, no_drops};
use crate::support::{
    cases::{Attempt, Outcome, Skip, unless_hidden},
    command::{text, tool},
    control::disk::DiskControl,
    device::{Stat, wait_quiet},
    exporter::Tapster,
    fio::Job,
    metrics::whole,
};
use std::{fs, path::Path};

/// `fsync` on the device: a bio without data that asks for a flush.
pub(super) fn flushes(tapster: &Tapster, target: &Target) -> Outcome {
    let device = target.device.as_str();
    let cache = fs::read_to_string(format!("/sys/block/{device}/queue/write_cache")).unwrap();
    if cache.trim() != "write back" {
        return Err(Skip(format!("`{device}` has no write cache to flush")));
    }
    let job = Job {
        target: &target.path,
        pattern: "write",
        block_bytes: 4096,
        depth: 1,
        bytes: 64 * 4096,
        extra: &["--fsync=1"],
    };
    unless_hidden("block: flushes", ATTEMPTS, || {
        wait_quiet(device);
        let control = DiskControl::new(device)?;
        let before = tapster.scrape();
        let stat = Stat::of(device);
        let report = job.run()?;
        let after = tapster.settled(COUNT, &[("device", device)]);
        let of =
            |name, operation| after.since(&before, name, &[("device", device), ("operation", operation)]);
        let (flushed, written, requests) = (of(COUNT, "flush"), of(COUNT, "write"), of(REQUESTS, "flush"));
        let kernel = Stat::of(device).since(stat);
        assert_eq!(report.syncs, kernel.flushes, "flushes as the kernel counts them");
        let found = (flushed, written, requests);
        assert!(
            flushed <= report.syncs && written <= report.ios && requests <= kernel.flushes,
            "{found:?} of {report:?}"
        );
        if found != (report.syncs, report.ios, kernel.flushes) {
            let why = format!("(flushes, writes, flush requests) {found:?} of {report:?}");
            return Ok(Attempt::Short { why, lost: control.lost_bios() });
        }
        Ok(Attempt::Done(format!("{flushed} flushes of {} fsync calls, {written} writes", report.syncs)))
    })
}

/// A mounted file system, unmounted when dropped.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn new(device: &Path, directory: &'a Path) -> Result<Self, Skip> {
        text(tool("mount")?.args(["-t", "ext4"]).arg(device).arg(directory));
        Ok(Self(directory))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        if let Ok(mut umount) = tool("umount") {
            let _ = umount.arg(self.0).status();
        }
    }
}

/// A file system: `mkfs` discards, `fsync` flushes, `blkdiscard` discards every byte.
pub(super) fn file_system(tapster: &Tapster, target: &Target, directory: &Path) -> Outcome {
    let device = target.device.as_str();
    let labels = |operation| [("device", device), ("operation", operation)];
    let mount = directory.join("mount");
    fs::create_dir(&mount).unwrap();
    unless_hidden("block: a file system", ATTEMPTS, || {
        let control = DiskControl::new(device)?;
        text(tool("mkfs.ext4")?.args(["-q", "-F"]).arg(&target.path));
        let mounted = Mounted::new(&target.path, &mount)?;
        let before = tapster.settled(COUNT, &[("device", device)]);
        let stat = Stat::of(device);
        for index in 0..20 {
            let file = fs::File::create(mount.join(index.to_string())).unwrap();
            std::io::Write::write_all(&mut &file, &[7; 8192]).unwrap();
            file.sync_all().unwrap();
        }
        drop(mounted);
        let after = tapster.settled(COUNT, &[("device", device)]);
        let kernel = Stat::of(device).since(stat);
        let (written, requests) =
            (after.since(&before, BYTES, &labels("write")), after.since(&before, REQUESTS, &labels("flush")));
        let before = after;
        let size =
            whole(fs::read_to_string(format!("/sys/block/{device}/size")).unwrap().trim().parse().unwrap())
                * 512;
        text(tool("blkdiscard")?.arg("-f").arg(&target.path));
        let after = tapster.settled(COUNT, &[("device", device)]);
        let discarded = after.since(&before, BYTES, &labels("discard"));
        no_drops(&after);
        let (found, truth) =
            ((written, requests, discarded), (kernel.write.sectors * 512, kernel.flushes, size));
        assert!(truth.0 >= 20 * 8192 && truth.1 >= 20, "20 fsync calls did {truth:?}");
        assert!(found.0 <= truth.0 && found.1 <= truth.1 && found.2 <= truth.2, "{found:?} of {truth:?}");
        if found != truth {
            let why = format!("(bytes written, flush requests, bytes discarded) {found:?} of {truth:?}");
            return Ok(Attempt::Short { why, lost: control.lost_bios() });
        }
        Ok(Attempt::Done(format!(
            "{written} bytes written, {requests} flush requests, {discarded} bytes discarded"
        )))
    })
}
