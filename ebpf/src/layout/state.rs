//! Layout of the state: values that events leave for others.

use super::{Slot, place};
use crate::{
    map::{MapDef, MapKind},
    probe::StateScope,
    typed::{Type, TypedProbe},
};

/// Name of the array of the values per CPU.
pub(crate) const CPU_STATE: &str = "cpustate";
/// Name of the map of the values per task.
pub(crate) const TASK_STATE: &str = "taskstate";
/// Names of the maps of values by key: a map for each of them.
const KEY_STATES: [&str; 16] = [
    "state0", "state1", "state2", "state3", "state4", "state5", "state6", "state7", "state8", "state9",
    "state10", "state11", "state12", "state13", "state14", "state15",
];
/// Most tasks whose values are kept where the kernel does not keep them with the task.
const MAX_TASKS: u32 = 16_384;

/// Layout of the state of a probe.
///
/// Values per CPU stand side by side in one value of an array, and so do those per task. What is kept of them, word by word, is
/// the value less its default, so that memory that nobody has written to holds the default.
///
/// A value by key is kept as it is; before it is the time at which it was set, if it is given up by its age.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateLayout {
    /// The place of each state.
    pub places: Vec<StatePlace>,
    /// Size of the values of a CPU.
    pub cpu_size: u32,
    /// Size of the values of a task.
    pub task_size: u32,
    /// Whether the kernel keeps the values of a task with it; else they are in a hash by its number, 8 bytes.
    pub with_task: bool,
}

/// Where a state is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatePlace {
    /// In the value of each CPU.
    Cpu(Slot),
    /// In the value of each task.
    Task(Slot),
    /// In a map of its own.
    Key(KeyedState),
}

/// The map of a state that is kept by key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyedState {
    /// Name of the map.
    pub map: &'static str,
    /// Parts of the key.
    pub key: Vec<Slot>,
    /// Size of the key.
    pub key_size: u32,
    /// The value.
    pub value: Slot,
    /// Most keys.
    pub max_entries: u32,
    /// Nanoseconds after which a value that was not set again is given up; the value of the map then begins with the time at
    /// which it was set, by the monotonic clock.
    pub timeout_ns: Option<u64>,
}

impl StateLayout {
    pub(super) fn new(probe: &TypedProbe) -> Self {
        let mut layout = Self { with_task: probe.task_storage, ..Self::default() };
        for (state, map) in probe.states.iter().zip(KEY_STATES) {
            let size = state.ty.room();
            let beside = |sum: &mut u32| {
                let slot = Slot { offset: *sum, size };
                *sum += size;
                slot
            };
            layout.places.push(match state.per {
                StateScope::Cpu => StatePlace::Cpu(beside(&mut layout.cpu_size)),
                StateScope::Task => StatePlace::Task(beside(&mut layout.task_size)),
                StateScope::Key => {
                    let (key, key_size) = place(state.key.iter().map(Type::room), 0);
                    let offset = if state.timeout_ns.is_some() { 8 } else { 0 };
                    StatePlace::Key(KeyedState {
                        map,
                        key,
                        key_size,
                        value: Slot { offset, size },
                        max_entries: state.max,
                        timeout_ns: state.timeout_ns,
                    })
                }
            });
        }
        layout
    }

    /// The states by key.
    pub fn keyed(&self) -> impl Iterator<Item = &KeyedState> {
        self.places.iter().filter_map(|place| match place {
            StatePlace::Key(keyed) => Some(keyed),
            StatePlace::Cpu(_) | StatePlace::Task(_) => None,
        })
    }

    /// Whether any of it has a limited number of entries.
    pub fn may_be_full(&self) -> bool {
        self.keyed().next().is_some() || self.task_size > 0 && !self.with_task
    }

    /// Whether any of it is given up by its age.
    pub fn may_expire(&self) -> bool {
        self.keyed().any(|keyed| keyed.timeout_ns.is_some())
    }

    /// Its maps.
    pub(crate) fn maps(&self) -> Vec<MapDef> {
        let mut maps = Vec::new();
        if self.cpu_size > 0 {
            maps.push(MapDef {
                name: CPU_STATE,
                kind: MapKind::PerCpuArray,
                key_size: 4,
                value_size: self.cpu_size,
                max_entries: 1,
            });
        }
        if self.task_size > 0 {
            let (kind, key_size, max_entries) =
                if self.with_task { (MapKind::TaskStorage, 4, 0) } else { (MapKind::Hash, 8, MAX_TASKS) };
            maps.push(MapDef { name: TASK_STATE, kind, key_size, value_size: self.task_size, max_entries });
        }
        maps.extend(self.keyed().map(|keyed| MapDef {
            name: keyed.map,
            kind: MapKind::Hash,
            key_size: keyed.key_size,
            value_size: keyed.value.offset + keyed.value.size,
            max_entries: keyed.max_entries,
        }));
        maps
    }
}
