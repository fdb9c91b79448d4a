//! Slow devices on this host: loop devices whose requests the kernel's throttle delays, and a file system.

use super::{
    cases::Skip,
    command::{output, text, tool},
    device::{LoopDevice, memory_directory},
};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};
use tempfile::TempDir;

const THROTTLES: [&str; 2] = ["blkio.throttle.read_iops_device", "blkio.throttle.write_iops_device"];
const BYTES: u64 = 96 << 20;
/// The queue size of the shallow device, in requests.
const SHALLOW: &str = "4";

/// A limit on the requests of a device, for all processes outside of cgroups of their own; dropping it lifts the limit.
#[derive(Debug)]
struct Throttle {
    group: PathBuf,
    numbers: String,
}

impl Throttle {
    fn new(numbers: &str, per_second: u32) -> Result<Self, Skip> {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let own = groups.lines().find_map(|line| line.split_once(":blkio:")).map(|(_, path)| path);
        let own = own.ok_or_else(|| Skip("the block controller is not one of cgroup version 1".into()))?;
        // Writeback and journals run in the kernel's own threads, which are in the root cgroup.
        if own != "/" {
            return Err(Skip(format!("this test is in a group of its own, `{own}`")));
        }
        let group = PathBuf::from("/sys/fs/cgroup/blkio");
        let throttle = Self { group, numbers: numbers.to_owned() };
        throttle.set(per_second).map_err(|error| Skip(format!("blkio.throttle: {error}")))?;
        Ok(throttle)
    }

    fn set(&self, per_second: u32) -> std::io::Result<()> {
        let line = format!("{} {per_second}", self.numbers);
        THROTTLES.iter().try_for_each(|name| fs::write(self.group.join(name), &line))
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        let _ = self.set(0);
    }
}

/// A mounted file system; dropping it unmounts it.
#[derive(Debug)]
struct Mount(PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        if let Ok(mut umount) = tool("umount") {
            let _ = umount.arg(&self.0).output();
        }
    }
}

/// Fields are dropped from first to last, so their order undoes the set-up in reverse.
#[derive(Debug)]
pub struct SlowDevice {
    throttle: Throttle,
    mount: Mount,
    /// On top of the other one, so its requests are as slow, and its queue is short.
    shallow: LoopDevice,
    device: LoopDevice,
    numbers: String,
    _directory: TempDir,
}

impl SlowDevice {
    /// A device with this limit of requests per second, with a file system on it.
    pub fn new(per_second: u32) -> Result<Self, Skip> {
        let directory = memory_directory()?;
        let file = directory.path().join("disk");
        File::create(&file).unwrap().set_len(BYTES).unwrap();
        text(tool("mke2fs")?.args(["-q", "-t", "ext4", "-F"]).arg(&file));
        let device = LoopDevice::over(&file, &[])?;
        let numbers = fs::read_to_string(format!("/sys/block/{}/dev", device.name())).unwrap();
        let numbers = numbers.trim().to_owned();
        let place = directory.path().join("mounted");
        fs::create_dir(&place).unwrap();
        let mounted = output(tool("mount")?.arg(&device.path).arg(&place));
        if !mounted.status.success() {
            return Err(Skip(format!("mount: {}", String::from_utf8_lossy(&mounted.stderr).trim())));
        }
        let mount = Mount(place);
        let shallow = LoopDevice::over(&device.path, &["--read-only"])?;
        fs::write(format!("/sys/block/{}/queue/nr_requests", shallow.name()), SHALLOW).unwrap();
        let throttle = Throttle::new(&numbers, per_second)?;
        Ok(Self { throttle, mount, shallow, device, numbers, _directory: directory })
    }

    pub fn directory(&self) -> &Path {
        &self.mount.0
    }

    pub fn device(&self) -> &Path {
        &self.device.path
    }

    pub fn shallow(&self) -> &Path {
        &self.shallow.path
    }

    /// Limits the bytes for it that wait in memory to be written.
    pub fn limit_dirty(&self, bytes: u32) -> Result<(), Skip> {
        let settings = PathBuf::from("/sys/class/bdi").join(&self.numbers);
        [("strict_limit", "1".to_owned()), ("max_bytes", bytes.to_string())]
            .into_iter()
            .try_for_each(|(name, value)| fs::write(settings.join(name), value))
            .map_err(|error| Skip(format!("{}: {error}", settings.display())))
    }
}

impl Drop for SlowDevice {
    fn drop(&mut self) {
        let settings = PathBuf::from("/sys/class/bdi").join(&self.numbers);
        let queue = format!("/sys/block/{}/queue/nr_requests", self.shallow.name());
        // The remaining writes are fast.
        let _ = self.throttle.set(0);
        let _ = fs::write(settings.join("max_ratio"), "100");
        let _ = fs::write(settings.join("strict_limit"), "0");
        let _ = fs::write(queue, "128");
    }
}
