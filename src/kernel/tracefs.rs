//! The mounted tracefs: its tracepoints and the formats of their contexts, read on request.

use super::Missing;
use crate::host::Host;
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::OnceLock,
};
use tapster_ebpf::tracefs::Tracepoints;

/// A tracefs that this process can read.
#[derive(Debug)]
pub struct Tracefs {
    directory: PathBuf,
    /// The contents of `available_events`: some thousand lines, which take the kernel about a millisecond.
    all: OnceLock<Vec<(String, String)>>,
}

impl Tracefs {
    /// Finds the mount point. It never mounts tracefs, which would change the host.
    pub(super) fn find(host: &Host) -> Result<Self, Missing> {
        let places = match &host.tracefs {
            Some(place) => vec![place.clone()],
            None => vec![host.sys.join("kernel/tracing"), host.sys.join("kernel/debug/tracing")],
        };
        let mut refused = None;
        for place in &places {
            match File::open(place.join("available_events")) {
                Ok(_) => return Ok(Self { directory: place.clone(), all: OnceLock::new() }),
                // The directory always exists; it is empty until tracefs is mounted on it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    refused.get_or_insert_with(|| Missing {
                        message: format!("tracefs at `{}` cannot be read: {error}", place.display()),
                        hint: Some("run as root or with CAP_DAC_READ_SEARCH".into()),
                    });
                }
            }
        }
        Err(refused.unwrap_or_else(|| {
            let place = places[0].display();
            Missing {
                message: format!("tracefs is not mounted at `{place}`"),
                hint: Some(format!("mount -t tracefs tracefs {place}")),
            }
        }))
    }

    /// Whether it has a file; that depends on how the kernel was built.
    pub(super) fn has(&self, file: &str) -> bool {
        self.directory.join(file).exists()
    }

    /// Where it is mounted.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The number by which the kernel knows a tracepoint until it restarts.
    pub fn number(&self, category: &str, name: &str) -> io::Result<u64> {
        let path = self.directory.join("events").join(category).join(name).join("id");
        let text = fs::read_to_string(&path)
            .map_err(|error| io::Error::new(error.kind(), format!("`{}`: {error}", path.display())))?;
        text.trim().parse().map_err(io::Error::other)
    }
}

impl Tracefs {
    /// The format file of a tracepoint; `None` if the name is malformed.
    fn path(&self, category: &str, name: &str) -> Option<PathBuf> {
        let plain =
            |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        let is_name = plain(category) && plain(name);
        is_name.then(|| self.directory.join("events").join(category).join(name).join("format"))
    }
}

impl Tracepoints for Tracefs {
    fn format(&self, category: &str, name: &str) -> Option<String> {
        fs::read_to_string(self.path(category, name)?).ok()
    }

    fn unreadable(&self, category: &str, name: &str) -> Option<Missing> {
        let path = self.path(category, name)?;
        let error = fs::read_to_string(&path).err()?;
        let hint = match error.raw_os_error() {
            // There is no such tracepoint.
            Some(libc::ENOENT | libc::ENOTDIR) => return None,
            Some(libc::EACCES | libc::EPERM) => "run as root or with CAP_DAC_READ_SEARCH",
            Some(libc::EMFILE) => {
                "this process may not have more open files: raise `LimitNOFILE`, `ulimit -n`"
            }
            _ => "the tracepoint is there, its format is not to be had",
        };
        Some(Missing {
            message: format!("`{}` cannot be read: {error}", path.display()),
            hint: Some(hint.into()),
        })
    }

    fn all(&self) -> Vec<(String, String)> {
        let read = || {
            let text = fs::read_to_string(self.directory.join("available_events")).unwrap_or_default();
            let event =
                |line: &str| line.split_once(':').map(|(category, name)| (category.into(), name.into()));
            text.lines().filter_map(event).collect()
        };
        self.all.get_or_init(read).clone()
    }
}
