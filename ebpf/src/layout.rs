//! The layout of the keys and values of all maps: the contract between the programs that write these bytes and the collector
//! that reads them.

mod cgroup;
mod path;
mod state;

pub use cgroup::{CGROUPS, CgroupLayout, PATTERNS};
pub(crate) use path::{PATH_PLACE, PATH_TEXT, PATHS};
pub(crate) use state::{CPU_STATE, TASK_STATE};
pub use state::{KeyedState, StateLayout, StatePlace};

use crate::{
    host::HostFacts,
    point::Mechanism,
    typed::{AccessMode, Role, Side, Type, Typed, TypedEvent, TypedKind, TypedProbe},
};

#[cfg(doc)]
use crate::typed::LOST_STACK;

/// Largest row, bytes: the largest allocation of the kernel's per-CPU allocator (`PCPU_MIN_UNIT_SIZE`), and the reach of a
/// signed 16-bit offset.
pub const MAX_ROW: u32 = 32_760;
/// Kernel memory that the rows of a probe may take if each row has several copies, bytes: one copy for each CPU if that fits,
/// otherwise one for every few CPUs.
pub const COPIES_BUDGET: u64 = 16 << 20;
/// Most bytes of all copies of a row: the kernel accepts values of 4 MiB, and allocates several of them at a time.
const MOST_COPIED: u64 = 512 << 10;
/// Size of a cache line, bytes: CPUs that write should not share a line.
const CACHE_LINE: u32 = 64;

/// The reason why an event was not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The map of rows was full: too many label sets.
    Series,
    /// The map of starts was full.
    Inflight,
    /// The kernel refused a map operation for another reason, such as a nested event.
    Busy,
    /// A list was longer than its limit; counted once for each list.
    EachLimit,
    /// Memory could not be read and was taken for 0; the event was counted.
    Fault,
    /// An end had no start: its start was before the probe was attached, or belongs to another probe.
    Unmatched,
    /// A stack was not kept, because the map of stacks was full; the event was counted under [`LOST_STACK`].
    Stack,
    /// What an event left for others was not kept, because there were too many keys; the event was counted.
    State,
}

impl DropReason {
    /// All reasons.
    pub const ALL: [Self; 8] = [
        Self::Series,
        Self::Inflight,
        Self::Busy,
        Self::EachLimit,
        Self::Fault,
        Self::Unmatched,
        Self::Stack,
        Self::State,
    ];

    /// Its index in the map of drops.
    pub fn index(self) -> u32 {
        self as u32
    }

    /// Its value of the label `reason`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Series => "max_series",
            Self::Inflight => "max_inflight",
            Self::Busy => "busy",
            Self::EachLimit => "each_limit",
            Self::Fault => "fault",
            Self::Unmatched => "unmatched",
            Self::Stack => "max_stacks",
            Self::State => "max_state",
        }
    }
}

/// A part of a key or value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Offset from the start, bytes.
    pub offset: u32,
    /// Size, bytes.
    pub size: u32,
}

/// Layout of all maps of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Labels in the key of a row; without labels there is one row with key 0.
    pub labels: Vec<Slot>,
    /// Size of a row's key.
    pub key_size: u32,
    /// Metrics in a row; the kind of a metric determines its contents, see [`crate::metric`].
    pub metrics: Vec<Slot>,
    /// Size of a row.
    pub row_size: u32,
    /// Whether each CPU has its own rows.
    pub per_cpu: bool,
    /// Copies of each row, if CPUs share them.
    pub copies: Copies,
    /// Most rows.
    pub max_rows: u32,
    /// The map of starts, for a pair.
    pub start: Option<StartLayout>,
    /// Maps of stacks, at most one for each side.
    pub stacks: Vec<StackLayout>,
    /// Whether the probe has a map of the processes of a command, keyed by their number, 4 bytes.
    pub traced: bool,
    /// Places in a row's key of numbers of block devices, if only some devices are wanted: there is a map of those that are not,
    /// keyed by the number, 8 bytes.
    pub chosen: Vec<u32>,
    /// The state.
    pub state: StateLayout,
    /// What `cgroup_matches` needs.
    pub cgroups: CgroupLayout,
    /// Whether the probe puts paths together.
    pub paths: bool,
}

/// The copies of a row, one after the other. Each is written by some of the CPUs, so that not all CPUs wait for the same
/// memory. CPUs with neighbouring numbers share a copy, because they probably share a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copies {
    /// Number of copies; a power of two.
    pub count: u32,
    /// Distance between two copies, bytes.
    pub stride: u32,
    /// Number of low bits that are removed from a CPU's number to get the index of its copy.
    pub shift: u32,
}

impl Copies {
    /// One copy for all CPUs.
    fn one(row_size: u32) -> Self {
        Self { count: 1, stride: row_size, shift: 0 }
    }

    /// As many copies as fit into the memory.
    fn within_budget(row_size: u32, max_rows: u32, possible_cpus: u32) -> Self {
        // A row begins and ends with what is written often.
        let stride = row_size.next_multiple_of(CACHE_LINE) + CACHE_LINE;
        let cpus = possible_cpus.next_power_of_two();
        let fits = |count: u32| {
            let bytes = u64::from(count) * u64::from(stride);
            bytes <= MOST_COPIED && bytes * u64::from(max_rows) <= COPIES_BUDGET
        };
        let mut copies = (0..cpus.ilog2()).map(|shift| Self { count: cpus >> shift, stride, shift });
        copies.find(|copies| fits(copies.count)).unwrap_or_else(|| Self::one(row_size))
    }
}

/// Layout of the map of stacks of one side. The key is the stack's number. A value begins with [`STACK_HEADER`] bytes: the
/// low half is the process whose addresses the frames are, or 0; the high half is the size of the frames in bytes. The frames
/// follow, innermost first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackLayout {
    /// The side.
    pub side: Side,
    /// Most frames.
    pub frames: u32,
    /// Most entries.
    pub max_entries: u32,
}

impl StackLayout {
    /// Size of the frames, bytes.
    pub fn bytes(&self) -> u32 {
        self.frames * self.side.frame_size()
    }

    /// Size of a value, bytes.
    pub fn value_size(&self) -> u32 {
        STACK_HEADER + self.bytes()
    }

    /// Name of the map.
    pub fn map(&self) -> &'static str {
        match self.side {
            Side::Kernel => "kstacks",
            Side::User => "ustacks",
        }
    }

    /// Name of the array in which a CPU assembles a stack. A word before the value says whether a program is using it.
    pub fn scratch(&self) -> &'static str {
        match self.side {
            Side::Kernel => "kscratch",
            Side::User => "uscratch",
        }
    }
}

/// Size of the header before the frames of a stack, bytes.
pub const STACK_HEADER: u32 = 8;
/// Most frames of the kernel between an event and the program. They are requested in addition to those that are shown.
const WAY_FRAMES: u32 = 8;

/// Number of frames to request so that this many can be shown: with some mechanisms a kernel stack begins with the program
/// itself.
pub(crate) fn asked_frames(mechanism: Mechanism, side: Side, shown: u32) -> u32 {
    if side == Side::Kernel && mechanism.link.stack_has_program() { shown + WAY_FRAMES } else { shown }
}

/// The most frames that any expression requests, for one side.
fn frames(typed: &Typed, side: Side) -> u32 {
    let own = match &typed.kind {
        TypedKind::Stack { side: found, frames, .. } if *found == side => *frames,
        _ => 0,
    };
    typed.children().into_iter().map(|child| frames(child, side)).max().unwrap_or(0).max(own)
}

/// The stacks that the events of a probe take. There are no more stacks than rows, because each stack is in a label. Some
/// rows are reserved for events without a stack, and for events whose stack was not kept: one row each, or a quarter of the
/// rows if there are other labels.
fn stacks(probe: &TypedProbe, max_rows: u32) -> Vec<StackLayout> {
    let longest = |side: Side| {
        let of_event = |event: &TypedEvent| {
            let shown = event.values().into_iter().map(|value| frames(value, side)).max()?;
            (shown > 0).then(|| asked_frames(event.mechanism, side, shown))
        };
        probe.events.iter().filter_map(of_event).max().unwrap_or(0)
    };
    let left = if probe.labels.len() > 1 { (max_rows / 4).max(2) } else { 2 };
    let max_entries = max_rows.saturating_sub(left).max(1);
    [Side::Kernel, Side::User]
        .into_iter()
        .map(|side| StackLayout { side, frames: longest(side), max_entries })
        .filter(|stack| stack.frames > 0)
        .collect()
}

/// Layout of the map of starts. The value begins with the time, 8 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartLayout {
    /// Parts of the key.
    pub key: Vec<Slot>,
    /// Size of the key.
    pub key_size: u32,
    /// Values that are saved.
    pub saved: Vec<Slot>,
    /// Size of the value.
    pub value_size: u32,
    /// Most entries.
    pub max_entries: u32,
    /// The table of starts in front of it.
    pub table: Option<TableLayout>,
    /// Whether each start should find its end, so that one without the other is counted. The last event of a key of `between`
    /// waits for none, and its first has none before it.
    pub is_paired: bool,
}

/// Layout of the table of starts, which is in front of the map of starts: every key has one entry in it, which follows from
/// the key alone. A start in the table is written and taken without a lock; a start whose entry is taken goes to the map.
///
/// An entry consists of the time of the start, or [`FREE`] or [`CLAIMED`]; then the number of starts in the map that have the
/// same entry; then the key; then the saved values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableLayout {
    /// Logarithm of the number of entries, base 2.
    pub bits: u32,
    /// Size of an entry, bytes.
    pub entry_size: u32,
    /// For each word of a key, the bits that determine its entry. Of pointers that the verifier tracks this is only the lower
    /// half: the verifier allows no other arithmetic with them.
    pub spread: Vec<u64>,
}

/// Time of an entry that holds no start.
pub const FREE: i32 = 0;
/// Time of an entry that is being written or read.
pub const CLAIMED: i32 = 1;
/// Offset in an entry of the number of starts in the map.
pub const ELSEWHERE: u32 = 8;
/// Offset in an entry of the key.
pub const ENTRY_KEY: u32 = 16;
/// Longest key that is kept in a table, bytes: each word of it is compared.
const TABLE_KEY: u32 = 32;
/// Most bits of an index.
const TABLE_BITS: u32 = 16;
/// Ratio of the entries of the map to those of the table. Usually few starts wait at a time, and a table that fits into a
/// near cache is faster for keys that do not come back, such as sectors.
const TABLE_SHARE: u32 = 16;
/// 2^64 divided by the golden ratio: its multiples are spread evenly, above all those of consecutive numbers.
pub(crate) const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl TableLayout {
    /// Makes a table for a map of this many entries. An entry spans no more cache lines than necessary.
    fn new(spread: Vec<u64>, key_size: u32, value_size: u32, max_entries: u32) -> Self {
        let entries = max_entries.div_ceil(TABLE_SHARE).next_power_of_two();
        let bits = entries.ilog2().clamp(1, TABLE_BITS);
        let bytes = ENTRY_KEY + key_size + value_size - 8;
        let entry_size = if bytes <= 32 { 32 } else { bytes.next_multiple_of(64) };
        Self { bits, entry_size, spread }
    }

    /// Number of entries.
    pub fn entries(&self) -> u32 {
        1 << self.bits
    }

    /// The index of a key's entry.
    pub fn place(&self, key: &[u8]) -> usize {
        let words = key.chunks_exact(8).filter_map(|word| word.try_into().ok()).map(u64::from_le_bytes);
        let spread = words
            .zip(&self.spread)
            .fold(0_u64, |sum, (word, mask)| sum.wrapping_add(word & mask).wrapping_mul(SPREAD));
        index(spread >> (64 - self.bits))
    }
}

/// Converts an index of a table, which is small.
fn index(place: u64) -> usize {
    usize::try_from(place).expect("it has at most 16 bits")
}

fn place(sizes: impl Iterator<Item = u32>, first: u32) -> (Vec<Slot>, u32) {
    let mut offset = first;
    let slots = sizes
        .map(|size| {
            let slot = Slot { offset, size };
            offset += size;
            slot
        })
        .collect();
    (slots, offset)
}

/// The bits of a part of the key that determine its entry; they are equal for all events.
fn spread(probe: &TypedProbe, part: usize, size: u32) -> impl Iterator<Item = u64> + use<> {
    let is_tracked = |key: &Typed| matches!(key.ty, Type::Pointer { access: AccessMode::Direct, .. });
    let is_pointer = probe.events.iter().filter_map(|event| event.key.get(part)).any(is_tracked);
    let mask = if is_pointer { u64::from(u32::MAX) } else { u64::MAX };
    (0..size).step_by(8).map(move |_| mask)
}

impl Layout {
    /// Makes the layout of a probe's maps on a host.
    pub fn new(probe: &TypedProbe, host: HostFacts) -> Self {
        let (labels, size) = place(probe.labels.iter().map(|label| label.ty.room()), 0);
        let (metrics, size_of_metrics) = place(probe.metrics.iter().map(|metric| metric.kind.size()), 0);
        // A map has no values of no bytes; the row of a probe that counts nothing only says that it is there.
        let row_size = size_of_metrics.max(8);
        let max_rows = if labels.is_empty() { 1 } else { probe.max_series };
        let all_cpus = u64::from(row_size) * u64::from(max_rows) * u64::from(host.possible_cpus);
        // Only a CPU of its own can replace a time and a value together.
        let must = probe.metrics.iter().any(|metric| metric.kind.has_time());
        let per_cpu = must || probe.per_cpu.unwrap_or(all_cpus <= COPIES_BUDGET);
        let copies = if per_cpu || probe.per_cpu.is_some() {
            Copies::one(row_size)
        } else {
            Copies::within_budget(row_size, max_rows, host.possible_cpus)
        };
        let start = probe.is_pair().then(|| {
            let (key, key_size_total) = place(probe.key.iter().map(Type::room), 0);
            let (saved, value_size) = place(probe.saved.iter().map(|(_, ty)| ty.room()), 8);
            let max_entries = probe.max_inflight;
            // Only an insertion into the map says for certain that no start of the key is there.
            let keeps_first = probe.events.iter().any(|event| event.first);
            let has_table = host.exchanges() && key_size_total <= TABLE_KEY && !keeps_first;
            let table = has_table.then(|| {
                let spread = key.iter().enumerate().flat_map(|(part, slot)| spread(probe, part, slot.size));
                TableLayout::new(spread.collect(), key_size_total, value_size, max_entries)
            });
            let is_paired = probe.events.iter().all(|event| event.role != Role::Between);
            StartLayout { key, key_size: key_size_total, saved, value_size, max_entries, table, is_paired }
        });
        let key_size = if labels.is_empty() { 4 } else { size };
        let stacks = stacks(probe, max_rows);
        let traced = probe.events.iter().any(TypedEvent::asks_for_traced);
        let chosen =
            probe.chosen.iter().filter_map(|index| labels.get(*index)).map(|slot| slot.offset).collect();
        let state = StateLayout::new(probe);
        let cgroups = CgroupLayout::new(probe);
        let is_path = |typed: &Typed| matches!(typed.kind, TypedKind::Path(_));
        let paths = probe.events.iter().any(|event| event.computes(&is_path));
        Self {
            labels,
            key_size,
            metrics,
            row_size,
            per_cpu,
            copies,
            max_rows,
            start,
            stacks,
            traced,
            chosen,
            state,
            cgroups,
            paths,
        }
    }

    /// Most CPUs that write one copy of a row.
    pub fn shared_by(&self, possible_cpus: u32) -> u32 {
        match (self.per_cpu, self.copies) {
            (true, _) => 1,
            (false, Copies { count: 1, .. }) => possible_cpus,
            (false, Copies { shift, .. }) => possible_cpus.min(1 << shift),
        }
    }

    /// Size of a value of the map of rows, bytes; for one CPU if rows are per CPU.
    pub fn value_size(&self) -> u32 {
        self.copies.count * self.copies.stride
    }

    /// The map in which paths are put together.
    pub(crate) fn path_map(&self) -> Option<crate::map::MapDef> {
        self.paths.then(path::map)
    }

    /// Whether rows are found by a hash of their labels; otherwise there is only one row.
    pub fn is_keyed(&self) -> bool {
        !self.labels.is_empty()
    }
}
