//! A loop device in memory, and reads of it that are counted independently.

use super::{
    cases::Skip,
    control::disk::DiskControl,
    device::{LoopDevice, filled_file, memory_directory, wait_quiet},
    exporter::Tapster,
    fio::Job,
    metrics::whole,
};

const BYTES: u64 = 16 << 20;
/// The family in which the exporter counts them.
pub const COUNT: &str = "tapster_block_io_duration_seconds_count";

/// The device.
#[derive(Debug)]
pub struct Load {
    pub device: LoopDevice,
    control: DiskControl,
    _directory: tempfile::TempDir,
}

impl Load {
    pub fn new() -> Result<Self, Skip> {
        let directory = memory_directory()?;
        let device = LoopDevice::over(&filled_file(&directory.path().join("loop"), BYTES), &[])?;
        wait_quiet(&device.name());
        let control = DiskControl::new(&device.name())?;
        Ok(Self { device, control, _directory: directory })
    }

    /// Reads each block once; returns the number of reads.
    pub fn read(&self) -> Result<u64, Skip> {
        self.read_with(&[])
    }

    /// Like [`Self::read`], with more arguments for fio.
    pub fn read_with(&self, extra: &[&str]) -> Result<u64, Skip> {
        let job = Job {
            target: &self.device.path,
            pattern: "randread",
            block_bytes: 4096,
            depth: 32,
            bytes: BYTES,
            extra,
        };
        Ok(job.run()?.ios)
    }

    /// The number of reads that an exporter has counted, once the count is stable.
    pub fn counted(&self, tapster: &Tapster) -> u64 {
        let name = self.device.name();
        let labels = [("device", name.as_str()), ("operation", "read")];
        whole(tapster.settled(COUNT, &labels).sum(COUNT, &labels))
    }

    /// Asserts that `found` is `count`: no more, and less only by what the control did not see either.
    pub fn assert_all(&self, what: &str, found: u64, count: u64) {
        assert_all(what, found, count, self.control.lost_bios());
    }
}

/// Asserts that `found` is `count`, less at most `lost`, which a control did not see; none may be invented.
pub fn assert_all(what: &str, found: u64, count: u64, lost: u64) {
    assert!(found <= count && found + lost >= count, "{what}: {found} of {count}, the control lost {lost}");
}
