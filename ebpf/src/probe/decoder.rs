//! How values of labels become text.

use crate::typed::Side;
use std::collections::BTreeMap;

/// How a label's value becomes text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoder {
    /// Decimal, not negative.
    Unsigned,
    /// Decimal.
    Signed,
    /// `0x…`
    Hex,
    /// Bytes up to the first NUL.
    Text,
    /// A text for each number, and one for all others (their decimal number where there is none).
    Table {
        /// Number → text.
        rows: BTreeMap<i64, String>,
        /// Enumerator → text; its number is looked up on the kernel at hand, and left out where it has none.
        named: Vec<(String, String)>,
        /// For every other number.
        default: Option<String>,
    },
    /// `major << 20 | minor` → name of the disk; of a hidden path, of the disk that it leads to.
    BlockDevice,
    /// `major << 20 | minor` → name of a hidden path to a disk; empty for what is none.
    BlockPath,
    /// Error number → `ENOENT`.
    Errno,
    /// Number of a system call → `openat`.
    Syscall,
    /// Address → function of the kernel.
    Ksym,
    /// A stack → its functions, outermost first.
    Stack(Side),
    /// A stack of the kernel of a task that slept → what it waited for.
    Reason,
    /// Cgroup id → its path, or whose it is.
    Cgroup(CgroupPart),
    /// `major << 20 | minor` → name of the array; rows of what is no array are left out.
    RaidArray,
    /// `major << 20 | minor` of an array → its level; rows of what is no array are left out.
    RaidLevel,
    /// `array << 32 | member` → the member's slot; rows of what is no member are left out.
    RaidSlot,
}

/// What of a cgroup is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupPart {
    /// Its path.
    Path,
    /// The namespace of its pod.
    Namespace,
    /// Its pod.
    Pod,
    /// Its container.
    Container,
}

/// Names of the decoders that take no table.
pub const DECODERS: [(&str, Decoder); 20] = [
    ("unsigned", Decoder::Unsigned),
    ("signed", Decoder::Signed),
    ("hex", Decoder::Hex),
    ("string", Decoder::Text),
    ("comm", Decoder::Text),
    ("block_device", Decoder::BlockDevice),
    ("block_path", Decoder::BlockPath),
    ("errno", Decoder::Errno),
    ("syscall", Decoder::Syscall),
    ("ksym", Decoder::Ksym),
    ("kstack", Decoder::Stack(Side::Kernel)),
    ("ustack", Decoder::Stack(Side::User)),
    ("reason", Decoder::Reason),
    ("cgroup", Decoder::Cgroup(CgroupPart::Path)),
    ("namespace", Decoder::Cgroup(CgroupPart::Namespace)),
    ("pod", Decoder::Cgroup(CgroupPart::Pod)),
    ("container", Decoder::Cgroup(CgroupPart::Container)),
    ("raid_array", Decoder::RaidArray),
    ("raid_level", Decoder::RaidLevel),
    ("raid_slot", Decoder::RaidSlot),
];
