//! A compiled probe, which the loader attaches and the collector reads.

pub use crate::map::{MapDef, MapKind};

use crate::{
    asm::Assembled,
    diagnostic::Diagnostic,
    follow,
    layout::{DropReason, Layout, PATTERNS},
    missing::AbsentEvent,
    names::FamilyKind,
    point::{AttachPoint, Mechanism},
    site::Sites,
    typed::{Typed, TypedKind, TypedLabel, TypedMetric, TypedProbe, Waiting},
    usdt,
};

/// A probe compiled for one kernel.
#[derive(Clone, Debug)]
pub struct Program {
    /// Name of the probe.
    pub name: String,
    /// Its help text.
    pub help: String,
    /// Maps, in the order of the numbers by which instructions refer to them.
    pub maps: Vec<MapDef>,
    /// One code for each event.
    pub codes: Vec<Code>,
    /// A session: one code for both events of a pair, for links that pass data from an entry to its return, 6.10.
    pub session: Option<Assembled>,
    /// The layout of the maps.
    pub layout: Layout,
    /// Labels in the order of the layout.
    pub labels: Vec<TypedLabel>,
    /// Metrics in the order of the layout.
    pub metrics: Vec<TypedMetric>,
    /// Optional events that this kernel does not have.
    pub absent: Vec<AbsentEvent>,
    /// The metrics of waiting starts, and how they are computed, if the probe has any.
    pub waiting: Option<Waiting>,
    /// Nanoseconds after which a waiting start is given up.
    pub inflight_timeout_ns: u64,
    /// What the checker accepted, but is probably not what was meant.
    pub warnings: Vec<Diagnostic>,
    /// Whether its instructions have addresses of the kernel, which hold as long as that runs.
    pub has_addresses: bool,
}

/// Instructions for one attach point.
#[derive(Clone, Debug)]
pub struct Code {
    /// Name of its function in the object, unique there.
    pub name: String,
    /// Its attach point.
    pub at: AttachPoint,
    /// Its mechanism.
    pub mechanism: Mechanism,
    /// The functions that it attaches to; empty for events that are not functions.
    pub sites: Sites,
    /// Places of the USDT probe, if it is one.
    pub usdt: Option<usdt::UsdtSites>,
    /// Whether links for many functions cannot be used: since 6.14 they do not pass the stack pointer at returns.
    pub one_by_one: bool,
    /// The instructions.
    pub assembled: Assembled,
}

/// Number of the map of rows.
pub const ROWS: u32 = 0;
/// Number of the map of counters of drops, by [`DropReason`].
pub const DROPS: u32 = 1;
/// Number of the array that holds one row of zeros, from which new rows are made.
pub const ZERO: u32 = 2;
/// Number of the map of starts.
pub const STARTS: u32 = 3;
/// Number of the table of starts in front of it, for a layout that has one.
pub const TABLE: u32 = 4;

/// Name of the map of the command's processes, for probes that use `traced`.
pub const TRACED: &str = "traced";

/// Name of the map of block devices that are not wanted, for probes that have only some of them.
pub const UNWANTED: &str = "unwanted";
/// Most devices in it.
const MAX_UNWANTED: u32 = 1024;

/// The maps that a layout needs, in order.
pub(crate) fn maps(layout: &Layout) -> Vec<MapDef> {
    let rows = MapDef {
        name: "rows",
        kind: match (layout.is_keyed(), layout.per_cpu) {
            (true, true) => MapKind::PerCpuHash,
            (true, false) => MapKind::Hash,
            (false, true) => MapKind::PerCpuArray,
            (false, false) => MapKind::Array,
        },
        key_size: layout.key_size,
        value_size: layout.value_size(),
        max_entries: layout.max_rows,
    };
    let drops = MapDef {
        name: "drops",
        kind: MapKind::PerCpuArray,
        key_size: 4,
        value_size: 8,
        max_entries: u32::try_from(DropReason::ALL.len()).expect("there are a few reasons"),
    };
    let zero = MapDef {
        name: "zero",
        kind: MapKind::Array,
        key_size: 4,
        value_size: layout.value_size(),
        max_entries: 1,
    };
    let mut maps = vec![rows, drops, zero];
    if let Some(start) = &layout.start {
        maps.push(MapDef {
            name: "starts",
            kind: MapKind::Hash,
            key_size: start.key_size,
            value_size: start.value_size,
            max_entries: start.max_entries,
        });
        if let Some(table) = &start.table {
            maps.push(MapDef {
                name: "table",
                kind: MapKind::SharedArray,
                key_size: 4,
                value_size: table.entry_size,
                max_entries: table.entries(),
            });
        }
    }
    for stack in &layout.stacks {
        maps.push(MapDef {
            name: stack.map(),
            kind: MapKind::Hash,
            key_size: 8,
            value_size: stack.value_size(),
            max_entries: stack.max_entries,
        });
        maps.push(MapDef {
            name: stack.scratch(),
            kind: MapKind::PerCpuArray,
            key_size: 4,
            value_size: 8 + stack.value_size(),
            max_entries: 1,
        });
    }
    maps.extend(layout.traced.then(|| follow::map(TRACED)));
    if !layout.chosen.is_empty() {
        maps.push(MapDef {
            name: UNWANTED,
            kind: MapKind::Hash,
            key_size: 8,
            value_size: 8,
            max_entries: MAX_UNWANTED,
        });
    }
    maps.extend(layout.state.maps());
    maps.extend(layout.cgroups.maps());
    maps.extend(layout.path_map());
    maps
}

/// The number of the map with this name among those of a layout. Panics if the layout does not have it: otherwise programs
/// would write to another map.
pub(crate) fn map_named(layout: &Layout, name: &str) -> u32 {
    let known = maps(layout).into_iter().zip(0..).find(|(map, _)| map.name == name);
    known.map(|(_, index)| index).expect("the layout has a map for all that its programs use")
}

impl Program {
    /// The number of the map with this name, as instructions and the loader use it.
    pub fn map_named(&self, name: &str) -> Option<u32> {
        u32::try_from(self.maps.iter().position(|map| map.name == name)?).ok()
    }

    /// What is in its maps before any program runs: the number of the map, the index in it, and the value.
    pub fn contents(&self) -> Vec<(u32, u32, Vec<u8>)> {
        let Some(map) = self.map_named(PATTERNS) else { return Vec::new() };
        (0..).zip(self.layout.cgroups.tables()).map(|(index, table)| (map, index, table)).collect()
    }

    /// Whether it tells what there is at a scrape, and not what happened.
    pub fn is_walk(&self) -> bool {
        self.codes.iter().any(|code| code.mechanism.link.is_walk())
    }

    /// Names and kinds of its families.
    pub fn families(&self) -> impl Iterator<Item = (&str, FamilyKind)> {
        let waiting = self.waiting.iter().flat_map(|waiting| &waiting.metrics);
        let waiting = waiting.map(|metric| (metric.name.as_str(), FamilyKind::Gauge));
        self.metrics.iter().map(|metric| (metric.name.as_str(), metric.kind.family())).chain(waiting)
    }

    /// Most kernel memory that its maps take, bytes.
    pub fn memory_bytes(&self, possible_cpus: u32) -> u64 {
        self.maps.iter().map(|map| map.memory_bytes(possible_cpus)).sum()
    }

    pub(crate) fn new(probe: TypedProbe, layout: Layout, codes: Vec<Code>) -> Self {
        let is_address = |typed: &Typed| matches!(typed.kind, TypedKind::Symbol(_));
        Self {
            has_addresses: probe.events.iter().any(|event| event.computes(&is_address)),
            name: probe.name,
            help: probe.help,
            maps: maps(&layout),
            codes,
            session: None,
            layout,
            labels: probe.labels,
            metrics: probe.metrics,
            absent: probe.absent,
            waiting: probe.waiting,
            inflight_timeout_ns: probe.inflight_timeout_ns,
            warnings: probe.warnings,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{CgroupLayout, Copies, StateLayout};

    fn layout() -> Layout {
        Layout {
            labels: Vec::new(),
            key_size: 4,
            metrics: Vec::new(),
            row_size: 8,
            per_cpu: false,
            copies: Copies { count: 1, stride: 8, shift: 0 },
            max_rows: 1,
            start: None,
            stacks: Vec::new(),
            traced: true,
            chosen: Vec::new(),
            state: StateLayout::default(),
            cgroups: CgroupLayout::default(),
            paths: false,
        }
    }

    #[test]
    fn maps_have_their_own_numbers() {
        let layout = layout();
        assert_eq!(map_named(&layout, "rows"), ROWS);
        assert_eq!(map_named(&layout, "zero"), ZERO);
        assert_eq!(map_named(&layout, TRACED), ZERO + 1);
    }

    #[test]
    #[should_panic(expected = "the layout has a map for all that its programs use")]
    fn a_map_that_is_not_there_is_not_the_map_of_rows() {
        map_named(&layout(), "kstacks");
    }
}
