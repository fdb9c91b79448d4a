//! Block devices for load, each restored afterwards.

use super::{
    cases::Skip,
    command::{output, text, tool},
};
use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The kernel's counts for a device: `/sys/block/NAME/stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Direction {
    pub ios: u64,
    pub merges: u64,
    pub sectors: u64,
    pub ticks_ms: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    pub read: Direction,
    pub write: Direction,
    pub discard: Direction,
    pub flushes: u64,
}

impl Direction {
    fn since(self, before: Self) -> Self {
        Self {
            ios: self.ios - before.ios,
            merges: self.merges - before.merges,
            sectors: self.sectors - before.sectors,
            ticks_ms: self.ticks_ms - before.ticks_ms,
        }
    }
}

impl Stat {
    pub fn of(device: &str) -> Self {
        let text = fs::read_to_string(format!("/sys/block/{device}/stat")).unwrap();
        let numbers: Vec<u64> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
        let direction = |from: usize| {
            let at = |index: usize| numbers.get(from + index).copied().unwrap_or(0);
            Direction { ios: at(0), merges: at(1), sectors: at(2), ticks_ms: at(3) }
        };
        Self {
            read: direction(0),
            write: direction(4),
            discard: direction(11),
            flushes: numbers.get(15).copied().unwrap_or(0),
        }
    }

    pub fn since(self, before: Self) -> Self {
        Self {
            read: self.read.since(before.read),
            write: self.write.since(before.write),
            discard: self.discard.since(before.discard),
            flushes: self.flushes - before.flushes,
        }
    }

    /// Completed requests of every kind.
    pub fn requests(self) -> u64 {
        self.read.ios + self.write.ios + self.discard.ios + self.flushes
    }

    /// Bios that share a request with another bio.
    pub fn merges(self) -> u64 {
        self.read.merges + self.write.merges + self.discard.merges
    }

    pub fn direction(self, operation: &str) -> Direction {
        if operation == "read" { self.read } else { self.write }
    }
}

/// Whether a device has a queue of requests; otherwise its driver ends bios itself.
pub fn has_requests(device: &str) -> bool {
    Path::new("/sys/block").join(device).join("mq").exists()
}

/// Waits until the device was idle for a while: other programs read a device that was just attached.
pub fn wait_quiet(device: &str) {
    let begun = Instant::now();
    let (mut last, mut since) = (Stat::of(device), Instant::now());
    while since.elapsed() < Duration::from_millis(250) {
        assert!(begun.elapsed() < Duration::from_secs(20), "`{device}` is busy with something else");
        std::thread::sleep(Duration::from_millis(50));
        let now = Stat::of(device);
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
}

/// Makes a file of this many bytes, all of them written to the disk.
pub fn filled_file(path: &Path, bytes: u64) -> PathBuf {
    let mut file = File::create(path).unwrap();
    let chunk = vec![0x5a; 1 << 20];
    for _ in 0..bytes >> 20 {
        file.write_all(&chunk).unwrap();
    }
    file.sync_all().unwrap();
    path.to_owned()
}

/// A loop device over a file; dropping it detaches the device.
#[derive(Debug)]
pub struct LoopDevice {
    pub path: PathBuf,
    attached: bool,
}

impl LoopDevice {
    pub fn over(file: &Path, extra: &[&str]) -> Result<Self, Skip> {
        let output = output(tool("losetup")?.args(["--find", "--show"]).args(extra).arg(file));
        if !output.status.success() {
            return Err(Skip(format!("losetup: {}", String::from_utf8_lossy(&output.stderr).trim())));
        }
        let path = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
        Ok(Self { path, attached: true })
    }

    pub fn name(&self) -> String {
        self.path.file_name().unwrap().to_string_lossy().into_owned()
    }

    /// Replaces the file by another: another disk with the same number and name.
    pub fn exchange(&self, file: &Path) -> Result<(), Skip> {
        text(tool("losetup")?.arg("-d").arg(&self.path));
        text(tool("losetup")?.arg(&self.path).arg(file));
        Ok(())
    }

    pub fn detach(mut self) {
        self.attached = false;
        if let Ok(mut losetup) = tool("losetup") {
            text(losetup.arg("-d").arg(&self.path));
        }
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        if self.attached
            && let Ok(mut losetup) = tool("losetup")
        {
            let _ = losetup.arg("-d").arg(&self.path).output();
        }
    }
}

/// A directory in memory; dropping it removes it.
pub fn memory_directory() -> Result<tempfile::TempDir, Skip> {
    tempfile::tempdir_in("/dev/shm").map_err(|error| Skip(format!("/dev/shm: {error}")))
}

/// `zram0`; dropping it resets the device if it was set up here.
#[derive(Debug)]
pub struct Zram {
    /// Keeps other programs from using it.
    claim: Option<File>,
    set: bool,
}

const ZRAM: &str = "/sys/block/zram0";

impl Zram {
    pub fn take(bytes: u64) -> Result<Self, Skip> {
        let size =
            fs::read_to_string(format!("{ZRAM}/disksize")).map_err(|_| Skip("there is no zram0".into()))?;
        if size.trim() != "0" {
            return Err(Skip("zram0 is in use".into()));
        }
        fs::write(format!("{ZRAM}/disksize"), bytes.to_string())
            .map_err(|error| Skip(format!("zram0: {error}")))?;
        let mut zram = Self { claim: None, set: true };
        let claim = OpenOptions::new().read(true).custom_flags(libc::O_EXCL).open("/dev/zram0");
        zram.claim = Some(claim.map_err(|error| Skip(format!("zram0: {error}")))?);
        Ok(zram)
    }
}

impl Drop for Zram {
    fn drop(&mut self) {
        self.claim = None;
        if self.set {
            let _ = fs::write(format!("{ZRAM}/reset"), "1");
        }
    }
}

/// The whole disk of a directory's file system.
pub fn disk_of(directory: &Path) -> Result<String, Skip> {
    let device = fs::metadata(directory).unwrap().dev();
    let link = format!("/sys/dev/block/{}:{}", libc::major(device), libc::minor(device));
    let path = fs::canonicalize(&link)
        .map_err(|_| Skip("the directory for temporary files is not on a disk".into()))?;
    let disk = if path.join("partition").exists() { path.parent().unwrap() } else { &path };
    Ok(disk.file_name().unwrap().to_string_lossy().replace('!', "/"))
}
