//! Tests of the decoders, and what they share.

mod block_device;
mod ksym;
mod plain;
mod raid;
mod stack;
mod syscall;

use super::*;
use std::fs;
use std::os::unix::fs::MetadataExt;
use tempfile::TempDir;

/// A machine in a directory: `proc`, `sys` and `cgroup`.
struct Fixture {
    directory: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let fixture = Self { directory: tempfile::tempdir().expect("a temporary directory") };
        for directory in ["proc/self", "sys/dev/block", "cgroup"] {
            fs::create_dir_all(fixture.path(directory)).expect("a new directory");
        }
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn directory(&self, name: &str) {
        fs::create_dir_all(self.path(name)).expect("a writable directory");
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a writable directory");
    }

    fn host(&self) -> Host {
        Host { proc: self.path("proc"), sys: self.path("sys"), dev: self.path("dev"), containers: None }
    }
}

fn text(decoder: &mut impl Decode, number: u64) -> String {
    decoder.decode(&number.to_le_bytes()).expect("shown")
}

/// Whether this process may see the machine; prints why not.
fn is_root() -> bool {
    let root = fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0);
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}
