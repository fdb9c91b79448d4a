//! Requests of one block device.

use super::{
    super::{
        cases::Skip,
        device::{Stat, has_requests},
    },
    Control, Path, Point, hidden,
};

const DISK: Path<'_> =
    &[("request", "q"), ("request_queue", "disk"), ("gendisk", "part0"), ("block_device", "bd_dev")];

/// Requests of a device that programs can see, compared with the kernel's counts in `/sys/block`.
///
/// Submissions of bios are never hidden, because the task that submits is current then.
#[derive(Debug)]
pub struct DiskControl {
    device: String,
    number: [u8; 4],
    issued: Control,
    completed: Control,
    before: Stat,
    /// Whether it has requests. Other drivers end bios themselves, in the task that submits them.
    has_requests: bool,
}

impl DiskControl {
    /// Counts from now on; the device must still be idle.
    pub fn new(device: &str) -> Result<Self, Skip> {
        let text = std::fs::read_to_string(format!("/sys/block/{device}/dev")).unwrap();
        let (major, minor) = text.trim().split_once(':').unwrap();
        // `MKDEV` of the kernel.
        let number = (major.parse::<u32>().unwrap() << 20 | minor.parse::<u32>().unwrap()).to_ne_bytes();
        let point = |event| Point {
            event,
            arguments: &[],
            object: 0,
            members: &[],
            key: Some((DISK, 4)),
            adds: None,
        };
        let before = Stat::of(device);
        Ok(Self {
            device: device.to_owned(),
            number,
            issued: Control::new(&point(c"block_rq_issue"), &[&number])?,
            completed: Control::new(&point(c"block_rq_complete"), &[&number])?,
            before,
            has_requests: has_requests(device),
        })
    }

    fn done(&self) -> Stat {
        Stat::of(&self.device).since(self.before)
    }

    /// Number of completed requests that programs did not see; they saw `seen`.
    fn lost(&self, seen: &Control) -> u64 {
        if self.has_requests { hidden(self.done().requests(), seen.count(&self.number)) } else { 0 }
    }

    /// Number of requests whose issue no program saw, once the device is idle.
    pub fn lost_issues(&self) -> u64 {
        self.lost(&self.issued)
    }

    /// Number of bios that the kernel put into the request of another one.
    pub fn merges(&self) -> u64 {
        self.done().merges()
    }

    /// Most bios whose completion no program saw, once the device is idle: those of requests that the kernel counts and the
    /// control does not. A merged bio is in a request of another bio, which may be one of those.
    pub fn lost_bios(&self) -> u64 {
        let requests = self.lost(&self.completed);
        if requests == 0 { 0 } else { requests + self.merges() }
    }
}
