//! The capabilities of this process, from `/proc/self/status`.

use std::{fmt, fs, io, path::Path};

/// A capability that an exporter of kernel events may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Capability {
    /// Read files whatever their permissions say: tracefs.
    DacReadSearch = 2,
    /// Attach to network interfaces, and to what sockets of a cgroup send and receive.
    NetAdmin = 12,
    /// Everything; before 5.8 also what the finer capabilities below allow.
    SysAdmin = 21,
    /// Exceed resource limits: locked memory for maps before 5.11.
    SysResource = 24,
    /// See addresses in `/proc/kallsyms`.
    Syslog = 34,
    /// Attach to events and read kernel memory, 5.8.
    Perfmon = 38,
    /// Make maps and load programs, 5.8.
    Bpf = 39,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DacReadSearch => "CAP_DAC_READ_SEARCH",
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::SysResource => "CAP_SYS_RESOURCE",
            Self::Syslog => "CAP_SYSLOG",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        })
    }
}

/// The effective capabilities of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(u64);

impl Capabilities {
    /// The effective capabilities of this process.
    pub fn of_process() -> io::Result<Self> {
        Self::read(Path::new("/proc/self/status"))
    }

    /// The effective capabilities in a file such as `/proc/self/status`.
    pub fn read(status: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(status)
            .map_err(|error| io::Error::new(error.kind(), format!("read {}: {error}", status.display())))?;
        text.lines()
            .find_map(|line| line.strip_prefix("CapEff:"))
            .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .map(Self)
            .ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, format!("no `CapEff` in {}", status.display()))
            })
    }

    /// Whether a capability is among them.
    pub fn has(self, capability: Capability) -> bool {
        self.0 >> capability as u8 & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_mask() {
        let dir = tempfile::tempdir().unwrap();
        let status = dir.path().join("status");
        fs::write(&status, "Name:\tx\nCapPrm:\tffff\nCapEff:\t000000c000000000\nCapBnd:\t0\n").unwrap();
        let found = Capabilities::read(&status).unwrap();
        assert!(found.has(Capability::Bpf) && found.has(Capability::Perfmon));
        assert!(!found.has(Capability::SysAdmin) && !found.has(Capability::Syslog));
        fs::write(&status, "Name:\tx\n").unwrap();
        assert!(Capabilities::read(&status).unwrap_err().to_string().starts_with("no `CapEff` in "));
    }

    #[test]
    fn this_process_has_a_mask() {
        Capabilities::of_process().unwrap();
    }
}
