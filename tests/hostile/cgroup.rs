//! A cgroup of a test, which limits what the exporter may have.

use crate::support::{cases::Skip, exporter::binary};
use std::{fs, io, os::unix::process::CommandExt, path::PathBuf, process::Command};

/// The memory of a cgroup of little memory, bytes.
pub(crate) const MEMORY: u64 = 64 << 20;

/// It ends with this, once no process is in it any more.
pub(crate) struct Cgroup {
    path: PathBuf,
    /// The file of the limit.
    limit: PathBuf,
}

impl Cgroup {
    /// One in the hierarchy of `controller`, whose limit is in the first of these files that there is.
    pub(crate) fn new(controller: &str, limits: &[&str]) -> Result<Self, Skip> {
        for root in [&*format!("/sys/fs/cgroup/{controller}"), "/sys/fs/cgroup"] {
            let path = PathBuf::from(root).join(format!("tapster-test-{controller}-{}", std::process::id()));
            if fs::create_dir(&path).is_err() {
                continue;
            }
            match limits.iter().map(|name| path.join(name)).find(|limit| limit.exists()) {
                Some(limit) => return Ok(Self { path, limit }),
                None => fs::remove_dir(&path).unwrap(),
            }
        }
        Err(Skip(format!("there is no cgroup with the controller `{controller}`")))
    }

    /// One with little memory, where memory is the weapon.
    pub(crate) fn of_little_memory() -> Result<Self, Skip> {
        let cgroup = Self::new("memory", &["memory.limit_in_bytes", "memory.max"])?;
        cgroup.set(MEMORY);
        Ok(cgroup)
    }

    pub(crate) fn set(&self, limit: u64) {
        fs::write(&self.limit, limit.to_string()).unwrap();
    }

    /// The exporter, which goes into the cgroup before it begins.
    pub(crate) fn command(&self) -> Command {
        let processes = fs::OpenOptions::new().write(true).open(self.path.join("cgroup.procs")).unwrap();
        let mut command = binary();
        // SAFETY: it writes to a file that is open already, which is allowed between `fork` and `exec`.
        unsafe { command.pre_exec(move || io::Write::write_all(&mut &processes, b"0")) };
        command
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
    }
}
