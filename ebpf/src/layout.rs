//! Where every byte of a map's keys and values is: the one contract between the programs that write
//! them and the collector that reads them.

use crate::{
    host::Host,
    point::Mechanism,
    typed::{AccessMode, Node, Side, Type, Typed, TypedEvent, TypedProbe},
};

#[cfg(doc)]
use crate::typed::LOST_STACK;

/// Largest row, bytes: what the kernel's per-CPU allocator gives at once (`PCPU_MIN_UNIT_SIZE`), and
/// what a signed 16-bit offset reaches.
pub const MAX_ROW: u32 = 32_760;
/// Kernel memory that one probe's rows may take when there are several copies of each: one for each CPU where there is room for
/// that, else one for each few.
pub const COPIES_BUDGET: u64 = 16 << 20;
/// Most bytes of all copies of a row: the kernel takes values of 4 MiB, and hands out a number of them at a time.
const MOST_COPIED: u64 = 512 << 10;
/// What CPUs load and store at a time, bytes: what one of them writes should share none with what others write.
const CACHE_LINE: u32 = 64;

/// Why an event was not counted.
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
    /// An end without a start: begun before the probe, or not one of this probe's.
    Unmatched,
    /// A stack was not kept, because the map of stacks was full; the event was counted under [`LOST_STACK`].
    Stack,
}

impl DropReason {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Series,
        Self::Inflight,
        Self::Busy,
        Self::EachLimit,
        Self::Fault,
        Self::Unmatched,
        Self::Stack,
    ];

    /// Place in the map of drops.
    pub fn index(self) -> u32 {
        self as u32
    }

    /// The `reason` label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Series => "max_series",
            Self::Inflight => "max_inflight",
            Self::Busy => "busy",
            Self::EachLimit => "each_limit",
            Self::Fault => "fault",
            Self::Unmatched => "unmatched",
            Self::Stack => "max_stacks",
        }
    }
}

/// A part of a key or value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Bytes from the start.
    pub offset: u32,
    /// Bytes taken.
    pub size: u32,
}

/// Layout of all maps of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Labels in the key of a row; without labels there is one row with key 0.
    pub labels: Vec<Slot>,
    /// Size of a row's key.
    pub key_size: u32,
    /// Metrics in a row; what is in each is told by its kind, see [`crate::metric`].
    pub metrics: Vec<Slot>,
    /// Size of a row.
    pub row_size: u32,
    /// Whether each CPU has its own rows.
    pub per_cpu: bool,
    /// Copies of each row where CPUs share them.
    pub copies: Copies,
    /// Most rows.
    pub max_rows: u32,
    /// The map of starts, for a pair.
    pub start: Option<StartLayout>,
    /// Stacks that are kept, at most one entry for each side.
    pub stacks: Vec<StackLayout>,
    /// Whether there is a map of the processes of a command, keyed by their number, 4 bytes.
    pub traced: bool,
    /// Places in a row's key of numbers of block devices, if only some devices are wanted: there is a map of those that are not,
    /// keyed by the number, 8 bytes.
    pub chosen: Vec<u32>,
}

/// Copies of a row one after the other, each written by some of the CPUs, so that not all of them wait for one. Neighbours
/// share a copy: they are likely to share a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copies {
    /// How many; a power of two.
    pub count: u32,
    /// Bytes from one to the next.
    pub stride: u32,
    /// The copy of a CPU is its number without so many of its lower bits.
    pub shift: u32,
}

impl Copies {
    /// One for all CPUs.
    fn one(row_size: u32) -> Self {
        Self { count: 1, stride: row_size, shift: 0 }
    }

    /// As many as there is room for.
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

/// Layout of the map of stacks of one side, whose key is the stack's number. A value begins with [`STACK_HEADER`]
/// bytes, of which the low half is the process whose addresses stand in it, 0 if it holds none, and the high half the
/// bytes of its frames; these follow, innermost first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackLayout {
    /// Whose stacks.
    pub side: Side,
    /// Most frames.
    pub frames: u32,
    /// Most entries.
    pub max_entries: u32,
}

impl StackLayout {
    /// Bytes of its frames.
    pub fn bytes(&self) -> u32 {
        self.frames * self.side.frame_size()
    }

    /// Bytes of a value.
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

    /// Name of the array in which a CPU puts a stack together. Before the value stands a word that says whether somebody
    /// does so just now.
    pub fn scratch(&self) -> &'static str {
        match self.side {
            Side::Kernel => "kscratch",
            Side::User => "uscratch",
        }
    }
}

/// Bytes before the frames of a stack.
pub const STACK_HEADER: u32 = 8;
/// Frames of the kernel's own way from an event to the program, at the most; asked for beyond those that are shown.
const WAY_FRAMES: u32 = 8;

/// Frames to ask for, for so many to be shown: some mechanisms begin a kernel stack with the program itself.
pub(crate) fn asked_frames(mechanism: Mechanism, side: Side, shown: u32) -> u32 {
    if side == Side::Kernel && mechanism.link.stack_has_program() { shown + WAY_FRAMES } else { shown }
}

/// The most frames that an expression asks for, of one side.
fn frames(typed: &Typed, side: Side) -> u32 {
    let own = match &typed.kind {
        Node::Stack { side: found, frames, .. } if *found == side => *frames,
        _ => 0,
    };
    typed.children().into_iter().map(|child| frames(child, side)).max().unwrap_or(0).max(own)
}

/// The stacks that a probe's events take. There are no more than rows, since each is in a label; rows are left for events
/// without a stack, and for those whose stack there is no room for: one for each, or, where other labels tell them apart,
/// a quarter.
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
    /// Values kept.
    pub saved: Vec<Slot>,
    /// Size of the value.
    pub value_size: u32,
    /// Most entries.
    pub max_entries: u32,
    /// The table before it.
    pub table: Option<TableLayout>,
}

/// Layout of the table of starts, which is before the map of starts: every key has one place in it, known from the key
/// alone. There a start is written and taken without a lock, and a start that finds its place taken goes to the map.
///
/// An entry is the time of the start, or [`FREE`] or [`CLAIMED`]; then the number of starts in the map that have their
/// place here; then the key; then the saved values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableLayout {
    /// There are two to the power of it entries.
    pub bits: u32,
    /// Bytes of an entry.
    pub entry_size: u32,
    /// What of each word of a key tells its place: of pointers that the verifier knows as such only the lower half, for it
    /// allows no other arithmetic with them.
    pub spread: Vec<u64>,
}

/// Instead of a start's time: nobody's.
pub const FREE: i32 = 0;
/// Instead of a start's time: being written or read.
pub const CLAIMED: i32 = 1;
/// Where the number of starts in the map is in an entry.
pub const ELSEWHERE: u32 = 8;
/// Where the key is in an entry.
pub const ENTRY_KEY: u32 = 16;
/// Longest key that is kept in a table, bytes: each word of it is compared.
const TABLE_KEY: u32 = 32;
/// Most bits of a place.
const TABLE_BITS: u32 = 16;
/// The map has so many times as many entries. Few wait at a time, as a rule, and a table that fits in a near cache is
/// faster where keys do not come back, as sectors do not.
const TABLE_SHARE: u32 = 16;
/// 2^64 by the golden ratio: its multiples are spread evenly, those of numbers in a row above all.
pub(crate) const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl TableLayout {
    /// For a map of so many entries. An entry does not lie across more cache lines than it must.
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

    /// The place of a key.
    pub fn place(&self, key: &[u8]) -> usize {
        let words = key.chunks_exact(8).filter_map(|word| word.try_into().ok()).map(u64::from_le_bytes);
        let spread = words
            .zip(&self.spread)
            .fold(0_u64, |sum, (word, mask)| sum.wrapping_add(word & mask).wrapping_mul(SPREAD));
        index(spread >> (64 - self.bits))
    }
}

/// A place of a table, which has few.
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

/// Which bits of a part of the key tell its place; the same for all events.
fn spread(probe: &TypedProbe, part: usize, size: u32) -> impl Iterator<Item = u64> + use<> {
    let is_tracked = |key: &Typed| matches!(key.ty, Type::Pointer { access: AccessMode::Direct, .. });
    let is_pointer = probe.events.iter().filter_map(|event| event.key.get(part)).any(is_tracked);
    let mask = if is_pointer { u64::from(u32::MAX) } else { u64::MAX };
    (0..size).step_by(8).map(move |_| mask)
}

impl Layout {
    /// The layout of a probe's maps on a host.
    pub fn new(probe: &TypedProbe, host: Host) -> Self {
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
            let has_table = host.exchanges() && key_size_total <= TABLE_KEY;
            let table = has_table.then(|| {
                let spread = key.iter().enumerate().flat_map(|(part, slot)| spread(probe, part, slot.size));
                TableLayout::new(spread.collect(), key_size_total, value_size, max_entries)
            });
            StartLayout { key, key_size: key_size_total, saved, value_size, max_entries, table }
        });
        let key_size = if labels.is_empty() { 4 } else { size };
        let stacks = stacks(probe, max_rows);
        let traced = probe.events.iter().any(TypedEvent::asks_for_traced);
        let chosen =
            probe.chosen.iter().filter_map(|index| labels.get(*index)).map(|slot| slot.offset).collect();
        Self { labels, key_size, metrics, row_size, per_cpu, copies, max_rows, start, stacks, traced, chosen }
    }

    /// Most CPUs that write one copy of a row.
    pub fn shared_by(&self, possible_cpus: u32) -> u32 {
        match (self.per_cpu, self.copies) {
            (true, _) => 1,
            (false, Copies { count: 1, .. }) => possible_cpus,
            (false, Copies { shift, .. }) => possible_cpus.min(1 << shift),
        }
    }

    /// Bytes of a value of the map of rows; of one CPU's, where each has its own.
    pub fn value_size(&self) -> u32 {
        self.copies.count * self.copies.stride
    }

    /// Whether rows are found by a hash of their labels, or there is only one.
    pub fn is_keyed(&self) -> bool {
        !self.labels.is_empty()
    }
}
