//! Tests of the decoders, and their fixture.

mod block_device;
mod interface;
mod ksym;
mod named;
mod plain;
mod raid;
mod stack;
mod syscall;
mod usym;

use super::*;
use std::{fs, os::unix::fs::MetadataExt, path::PathBuf};
use tapster_ebpf::typed::Type;
use tempfile::TempDir;

/// A host in a directory: `proc`, `sys` and `cgroup`.
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
        Host { proc: self.path("proc"), sys: self.path("sys"), dev: self.path("dev"), ..Host::default() }
    }
}

/// Makes a decoder of numbers or texts on a host.
fn made(decoder: &Decoder, host: &Host) -> Result<Box<dyn Decode>, LabelError> {
    made_of(decoder, Type::U64, host)
}

/// Makes a decoder of values of this type.
fn made_of(decoder: &Decoder, ty: Type, host: &Host) -> Result<Box<dyn Decode>, LabelError> {
    let label = TypedLabel { name: "label".into(), decoder: decoder.clone(), ty };
    let sources = DecoderSources {
        host,
        symbols: &Arc::new(Symbols::new(host)),
        cgroups: &Arc::new(Cgroups::new(host)),
        reasons: &reasons::ReasonTable::default(),
        stacks: &|_| Err("no stacks are kept".into()),
    };
    super::decoder(&label, &sources)
}

fn text(decoder: &mut impl Decode, number: u64) -> String {
    decoder.decode(&number.to_le_bytes()).expect("shown")
}

/// Whether this process may read the host's files; prints why not.
fn is_root() -> bool {
    let root = fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0);
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}
