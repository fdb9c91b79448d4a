//! Metrics of starts that wait for their end: their number, and the age of the oldest.
//!
//! Events do no work for these metrics: the collector computes them from the starts that are kept. A start has only the
//! contents of its entry: the time, the parts of its key, and the saved values. Labels that need more are unknown until the
//! end.

pub use crate::{
    probe::{DeclaredWaiting, WaitingKind},
    typed::{KnownLabel, Waiting, WaitingMetric},
};

use crate::{
    eval::{self, Inputs, StateValues, Value},
    layout::{Slot, StartLayout},
    typed::{Type, Typed},
    vm::Environment,
};

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

/// A text or bytes, as a key contains them.
fn padded(bytes: &[u8], room: u32) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(usize::try_from(room).expect("a key has some hundred bytes"), 0);
    bytes
}

impl Waiting {
    /// Each label of a start, as the key of a row contains it. `start` is the value in the map: the time, then the saved
    /// values.
    pub fn labels(&self, layout: &StartLayout, key: &[u8], start: &[u8]) -> Vec<Vec<u8>> {
        let saved = layout.saved.iter().map(|slot| bytes(*slot, start));
        let parts = saved.chain(layout.key.iter().map(|slot| bytes(*slot, key)));
        let mut values: Vec<Value> =
            self.values.iter().zip(parts).map(|(ty, bytes)| value(ty, bytes)).collect();
        let (machine, none) = (Environment::default(), StateValues::default());
        let tell = |typed: &Typed, saved: &[Value]| {
            let (context, lets, state) = (&[], &[], &none);
            let event = Inputs { context, machine: &machine, lets, saved, duration: 0, item: 0, state };
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

    /// The process or thread whose call a start is, if the key contains it.
    pub fn task(&self, layout: &StartLayout, key: &[u8]) -> Option<u64> {
        let slot = layout.key.get(self.task?)?;
        Some(value(&Type::U64, bytes(*slot, key)).number())
    }
}
