//! Checks whether the memory that probes may take fits into the limit of this process before it is used: beyond the limit of a
//! memory cgroup, the kernel kills a process without a message.

use crate::{cgroup::MemoryLimit, kernel::Kernel};
use tapster_ebpf::program::Program;

/// Bytes that a start takes at its peak besides the maps, about. Measured, on Linux 6.18: 13.5 MB of resident memory with the default
/// probes, 15.9 MB with all probes but those of functions, of which 12 MB are the program itself.
const START_BYTES: u64 = 16 << 20;

/// A sentence for each limit that the probes exceed. `limit` is that of the memory cgroup.
pub(super) fn too_little<'p>(
    kernel: &Kernel,
    limit: Option<&MemoryLimit>,
    programs: impl Iterator<Item = &'p Program>,
) -> Vec<String> {
    let maps: u64 = programs.map(|program| program.memory_bytes(kernel.possible_cpus)).sum();
    let mut said = Vec::new();
    if let Some(limit) = limit.filter(|limit| maps.saturating_add(START_BYTES) > limit.bytes) {
        said.push(format!(
            "the maps of the probes take up to {} KiB and the start some {} KiB more, but `{}` allows {} KiB: raise it, or have fewer \
             probes or a lower `max_series`; else this process may be killed",
            maps / 1024,
            START_BYTES / 1024,
            limit.path.display(),
            limit.bytes / 1024
        ));
    }
    if let Some(bytes) = kernel.locked_limit().filter(|bytes| maps > *bytes) {
        said.push(format!(
            "the maps of the probes take up to {} KiB, which count as locked memory before Linux 5.11, and this process may have {} KiB \
             (RLIMIT_MEMLOCK): set `LimitMEMLOCK=infinity` or add CAP_SYS_RESOURCE",
            maps / 1024,
            bytes / 1024
        ));
    }
    said
}
