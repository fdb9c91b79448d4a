//! A block device that costs next to nothing by itself.

use std::{
    fs::OpenOptions,
    os::unix::fs::{FileExt, OpenOptionsExt},
    process::Command,
    time::{Duration, Instant},
};

/// A loop device over memory, detached when dropped.
pub(crate) struct LoopDevice(
    String,
    #[expect(dead_code, reason = "the file lives as long as the device")] tempfile::NamedTempFile,
);

impl LoopDevice {
    pub(crate) fn new() -> Self {
        let file = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
        file.as_file().set_len(64 << 20).unwrap();
        let name =
            Command::new("losetup").args(["--find", "--show"]).arg(file.path()).output().unwrap().stdout;
        Self(String::from_utf8(name).unwrap().trim().to_owned(), file)
    }

    /// Reads 4 KiB at a time past the page cache.
    pub(crate) fn read(&self, count: u64) -> Duration {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&self.0).unwrap();
        let mut buffer = vec![0_u8; 8192];
        let aligned = buffer.as_ptr().align_offset(4096);
        let begun = Instant::now();
        for index in 0..count {
            file.read_exact_at(&mut buffer[aligned..aligned + 4096], index * 4096 % (64 << 20)).unwrap();
        }
        begun.elapsed()
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}
