//! What a probe tells of starts that wait for their end: how many there are, and how old the oldest is.
//!
//! Events do nothing for it: whoever reads the starts that are kept computes it. So of a start there is only what is in
//! its entry: the time, the parts of its key, and the values that were saved. Labels that need more are not known yet.

use crate::{
    diagnostic::Spanned,
    eval::{self, Inputs, Value},
    key::{Form, Key},
    layout::{Slot, StartLayout},
    typed::{Type, Typed},
    vm::Environment,
};

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitingKind {
    /// How many starts wait.
    InFlight,
    /// How long the oldest of them has waited, seconds.
    Oldest,
}

/// The keys that say of which kind a metric is.
pub(crate) const KEYS: &[Key] = &[WaitingKind::InFlight.key(), WaitingKind::Oldest.key()];

impl WaitingKind {
    /// All of them, in the order of their keys.
    pub(crate) const ALL: [Self; 2] = [Self::InFlight, Self::Oldest];

    /// Its key in a file of probes.
    const fn key(self) -> Key {
        let (name, doc) = match self {
            Self::InFlight => (
                "in_flight",
                "Name of a gauge of the starts that [wait for their end](#what-waits), by the labels that are known from the start.",
            ),
            Self::Oldest => (
                "oldest",
                "Name of a gauge, ending in `_seconds`, of how long the oldest of these has waited.",
            ),
        };
        Key::new(name, Form::Name, doc)
    }

    /// The name of its key.
    pub fn name(self) -> &'static str {
        self.key().name
    }
}

/// A metric as declared.
#[derive(Clone, Debug)]
pub struct DeclaredWaiting {
    /// Its name without the prefix `tapster_`.
    pub name: Spanned<String>,
    /// What it tells.
    pub help: String,
    /// Which of both.
    pub kind: WaitingKind,
}

/// A metric of a checked probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingMetric {
    /// Its name, `tapster_` included.
    pub name: String,
    /// Its help text.
    pub help: String,
    /// Which of both.
    pub kind: WaitingKind,
}

/// All that a probe tells of starts that wait.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// The metrics.
    pub metrics: Vec<WaitingMetric>,
    /// Labels of the probe that are known before the end, in their order.
    pub labels: Vec<KnownLabel>,
    /// Types of what an entry has: the saved values, then the parts of the key.
    pub values: Vec<Type>,
    /// What several labels share. Each of these is a value behind those before it, and may use them.
    pub shared: Vec<Typed>,
    /// Which part of the key is the number of a process or thread: when that is gone, the end does not come any more.
    pub task: Option<usize>,
    /// Whether starts are kept however long they wait, as long as there is room: the file has no time of its own for it.
    pub keeps: bool,
}

/// A label that is known from a start.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownLabel {
    /// Its place among the labels of the probe.
    pub place: usize,
    /// Its value, in which `Saved` is the number of a value of the entry, and of what is shared behind them.
    pub value: Typed,
    /// The type that the label has in the key of a row.
    pub ty: Type,
}

fn bytes(slot: Slot, of: &[u8]) -> &[u8] {
    let start = usize::try_from(slot.offset).unwrap_or(usize::MAX);
    let end = start.saturating_add(usize::try_from(slot.size).unwrap_or(0));
    of.get(start..end).unwrap_or_default()
}

fn value(ty: &Type, bytes: &[u8]) -> Value {
    match ty {
        Type::Text { .. } => Value::Text(bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()),
        Type::Bytes { .. } => Value::Text(bytes.to_vec()),
        Type::Int { .. } | Type::Pointer { .. } | Type::Stack { .. } => {
            Value::Number(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
        }
    }
}

/// A text or bytes as they are in a key.
fn padded(bytes: &[u8], room: u32) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(usize::try_from(room).expect("a key has some hundred bytes"), 0);
    bytes
}

impl Waiting {
    /// What each label of a start is in the key of a row. `start` is its value in the map: the time, then what was saved.
    pub fn labels(&self, layout: &StartLayout, key: &[u8], start: &[u8]) -> Vec<Vec<u8>> {
        let saved = layout.saved.iter().map(|slot| bytes(*slot, start));
        let parts = saved.chain(layout.key.iter().map(|slot| bytes(*slot, key)));
        let mut values: Vec<Value> =
            self.values.iter().zip(parts).map(|(ty, bytes)| value(ty, bytes)).collect();
        let machine = Environment::default();
        let tell = |typed: &Typed, saved: &[Value]| {
            let event = Inputs { context: &[], machine: &machine, lets: &[], saved, duration: 0, item: 0 };
            eval::evaluate(typed, &event)
        };
        for shared in &self.shared {
            let next = tell(shared, &values);
            values.push(next);
        }
        let label = |known: &KnownLabel| match (&known.ty, tell(&known.value, &values)) {
            (ty, text) if ty.is_wide() => padded(text.text(), ty.room()),
            (_, number) => number.number().to_le_bytes().to_vec(),
        };
        self.labels.iter().map(label).collect()
    }

    /// The process or thread whose call a start is, if its key says so.
    pub fn task(&self, layout: &StartLayout, key: &[u8]) -> Option<u64> {
        let slot = layout.key.get(self.task?)?;
        Some(value(&Type::U64, bytes(*slot, key)).number())
    }
}
