//! System calls that Rust's library and aya do not offer; the only crate with unsafe code.
//!
//! Its functions are safe to call: memory that the kernel writes to is sized from what the kernel reported, never from what the
//! caller assumes. This crate makes no decisions; it only makes calls.

mod access;
mod attach;
mod bpf;
mod btf;
mod capability;
mod clock;
mod cpu;
mod dm;
mod event;
mod file;
mod foreign;
mod limit;
mod load;
mod map;
mod mapped;
mod mapping;
mod memory;
mod network;
mod poll;
mod process;
mod program;
mod ring;
mod table;
#[cfg(test)]
mod tests;

pub use access::{effective_user, has_access_list, is_read_only};
pub use attach::{
    Ends, KernelFunctions, PacketPlace, SYS_UPROBE, Spot, attach_kprobes, attach_packets, attach_probe,
    attach_probe_with_cookie, attach_raw_tracepoint, attach_site, attach_tracing, attach_uprobes,
    attach_usdt, attach_walk, has_kprobe_multi, has_uprobe_call, has_uprobe_multi, walk,
};
pub use bpf::errno;
pub use btf::{BtfBytes, read_btf};
pub use capability::{Capabilities, Capability};
pub use clock::{KernelClock, boot_unix_ns, monotonic_ns};
pub use cpu::{PossibleCpus, cpu_list, listed_cpus};
pub use dm::{DmControl, DmTarget};
pub use event::{CpuEvent, SamplePeriod};
pub use file::open_by_kernfs_id;
pub use foreign::{
    CheckedFile, Foreign, ForeignError, Identity, WRITTEN_BY_OTHERS, hold_directory, identity, look_at,
    open_foreign, open_foreign_directory,
};
pub use limit::{FileLimit, file_limit, raise_file_limit};
pub use load::{LoadRefused, ProgramKind, create_map, load_program};
pub use map::{Dump, Map};
pub use mapped::{Mapped, MappedFile, Mappings, MappingsWaiter};
pub use memory::{lift_memlock, map_memory, release_memory};
pub use network::{Interface, interface};
pub use poll::is_writable;
pub use process::{hold_signal, is_in_foreground, no_new_privs, send_signal, send_signal_to_thread};
pub use program::{ProgInfo, enable_run_stats, prog_info, prog_test_run_raw_tp};
pub use ring::Ring;
pub use table::StartTable;
