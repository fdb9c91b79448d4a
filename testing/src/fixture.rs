//! A kernel for tests on any machine: the files of `tests/fixtures/host`, and a few generated types.

use super::{compiler::btf::Builder, exporter::binary};
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tempfile::TempDir;

/// The directory of this repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package is a directory of it")
}

/// A file in `tests` of this repository.
pub fn file(path: impl AsRef<Path>) -> PathBuf {
    repository().join("tests").join(path)
}

/// The `.yaml` files of `tests/DIRECTORY`, in order.
pub fn yaml_files(directory: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(file(directory)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|ending| ending == "yaml")).collect();
    files.sort();
    assert!(!files.is_empty(), "tests/{directory} holds no YAML");
    files
}

/// The kernel, in its own directory.
#[derive(Debug)]
pub struct Kernel {
    directory: TempDir,
}

impl Kernel {
    pub fn new() -> Self {
        Self::without(&[])
    }

    /// A kernel without these files of tracefs.
    pub fn without(lacks: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let host = file("fixtures/host");
        let sys = directory.path().join("sys/kernel");
        fs::create_dir_all(sys.join("btf")).unwrap();
        fs::write(sys.join("btf/vmlinux"), types()).unwrap();
        fs::create_dir(sys.join("tracing")).unwrap();
        for entry in fs::read_dir(host.join("sys/kernel/tracing")).unwrap().map(Result::unwrap) {
            if !lacks.iter().any(|lack| entry.file_name() == *lack) {
                symlink(entry.path(), sys.join("tracing").join(entry.file_name())).unwrap();
            }
        }
        symlink(host.join("sys/devices"), directory.path().join("sys/devices")).unwrap();
        symlink(host.join("proc"), directory.path().join("proc")).unwrap();
        Self { directory }
    }

    /// Runs `tapster` on this kernel; paths are relative to `directory`.
    pub fn tapster(&self, directory: &Path, arguments: &[&str]) -> Output {
        self.command(directory, arguments).output().unwrap()
    }

    pub fn command(&self, directory: &Path, arguments: &[&str]) -> Command {
        let mut command = binary();
        command.current_dir(directory).args(arguments);
        for (flag, place) in [("--path.procfs", "proc"), ("--path.sysfs", "sys")] {
            command.arg(flag).arg(self.directory.path().join(place));
        }
        command
    }
}

/// The types of the block layer that the bad files need.
fn types() -> Vec<u8> {
    let mut types = Builder::new();
    let int = types.int("int", 4, true);
    let unsigned = types.int("unsigned int", 4, false);
    let long = types.int("unsigned long", 8, false);
    let character = types.int("char", 1, true);
    let void = types.pointer(0);
    let name = types.array(character, int, 32);
    let byte = types.int("unsigned char", 1, false);
    let u8_ = types.alias("u8", byte);
    let uuid = types.array(u8_, int, 16);
    let serial = types.array(byte, int, 20);
    let disk = types.structure(
        "gendisk",
        76,
        &[
            ("major", int, 0, 0),
            ("first_minor", int, 32, 0),
            ("disk_name", name, 64, 0),
            ("uuid", uuid, 320, 0),
            ("serial", serial, 448, 0),
        ],
    );
    let disk = types.pointer(disk);
    let queue = types.structure("request_queue", 8, &[("disk", disk, 0, 0)]);
    let queue = types.pointer(queue);
    let iterator = types.structure(
        "bvec_iter",
        16,
        &[("bi_sector", long, 0, 0), ("bi_size", unsigned, 64, 0), ("bi_idx", unsigned, 96, 0)],
    );
    // A bio points to the next bio: the pointer is written right behind it, and both numbers are known before.
    let next = iterator + 2;
    let bio = types.structure(
        "bio",
        32,
        &[("bi_next", next, 0, 0), ("bi_opf", unsigned, 64, 0), ("bi_iter", iterator, 128, 0)],
    );
    let bio = types.pointer(bio);
    assert_eq!(bio, next);
    let request = types.structure(
        "request",
        48,
        &[
            ("q", queue, 0, 0),
            ("cmd_flags", unsigned, 64, 0),
            ("__data_len", unsigned, 96, 0),
            ("bio", bio, 128, 0),
            ("rq_disk", disk, 192, 0),
            ("end_io_data", void, 256, 0),
            ("timed_out", unsigned, 320, 1),
        ],
    );
    let request = types.pointer(request);
    let task = types.structure("task_struct", 8, &[("pid", int, 0, 0), ("tgid", int, 32, 0)]);
    let task = types.pointer(task);
    for walk in ["task", "task_file"] {
        types.structure(&format!("bpf_iter__{walk}"), 16, &[("meta", void, 0, 0), ("task", task, 64, 0)]);
        types.function(&format!("bpf_iter_{walk}"), &[("meta", void), ("task", task)]);
    }
    types.enumeration("req_op", &[("REQ_OP_READ", 0), ("REQ_OP_WRITE", 1)]);
    let queue = types.structure("rq", 8, &[("nr_running", unsigned, 0, 0)]);
    let queues = types.variable("runqueues", queue);
    types.section(".data..percpu", &[queues]);
    types.tracepoint("block_rq_issue", &[("rq", request)]);
    types.tracepoint("block_rq_complete", &[("rq", request), ("error", character), ("nr_bytes", unsigned)]);
    types.finish()
}
