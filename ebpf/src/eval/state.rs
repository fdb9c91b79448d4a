//! State: what events left for others.

use super::{Inputs, Value, evaluate};
use crate::{
    probe::StateScope,
    typed::{StateEffect, Type, Typed, TypedChange, TypedState},
};
use std::collections::BTreeMap;

/// Whose value it is: the number of the state, and the CPU, the task, or the bytes of the key.
type Owner = (usize, Vec<u8>);

/// The values that events left.
#[derive(Clone, Debug, Default)]
pub struct StateValues {
    declared: Vec<TypedState>,
    values: BTreeMap<Owner, Value>,
}

impl StateValues {
    /// Makes the state of a probe, in which nothing was set.
    pub fn new(declared: &[TypedState]) -> Self {
        Self { declared: declared.to_vec(), values: BTreeMap::new() }
    }

    /// Number of keys of a state that were set and not cleared.
    pub fn len(&self, state: usize) -> usize {
        self.values.keys().filter(|(of, _)| *of == state).count()
    }

    /// Whether nothing of a state was set.
    pub fn is_empty(&self, state: usize) -> bool {
        self.len(state) == 0
    }

    /// What a state is at an event with these inputs.
    pub(super) fn read(&self, state: usize, key: &[Value], event: &Inputs<'_>) -> Value {
        let Some(declared) = self.declared.get(state) else { return Value::Number(0) };
        let owner = owner(declared, state, key, event);
        self.values.get(&owner).cloned().unwrap_or_else(|| default(declared))
    }

    /// What an event with these inputs makes of the state. Everything is computed before anything changes.
    #[must_use]
    pub fn after(&self, changes: &[TypedChange], event: &Inputs<'_>) -> Self {
        let mut after = self.clone();
        for TypedChange { state, key, effect } in changes {
            let Some(declared) = self.declared.get(*state) else { continue };
            let compute = |typed: &Typed| evaluate(typed, event);
            let key: Vec<Value> = key.iter().map(compute).collect();
            let owner = owner(declared, *state, &key, event);
            match effect {
                StateEffect::Set(value) => drop(after.values.insert(owner, compute(value))),
                StateEffect::Add(amount) => {
                    let before = after.values.get(&owner).cloned().unwrap_or_else(|| default(declared));
                    let sum = before.number().wrapping_add(compute(amount).number());
                    after.values.insert(owner, Value::Number(sum));
                }
                StateEffect::Clear => drop(after.values.remove(&owner)),
                // The task has ended, and nothing runs in it any more.
                StateEffect::Forget => {}
            }
        }
        after
    }
}

fn default(declared: &TypedState) -> Value {
    if declared.ty.is_wide() {
        let bytes: Vec<u8> = declared.default.iter().flat_map(|word| word.to_le_bytes()).collect();
        let is_text = matches!(declared.ty, Type::Text { .. });
        let end = bytes.iter().position(|byte| is_text && *byte == 0).unwrap_or(bytes.len());
        return Value::Text(bytes.get(..end).unwrap_or_default().to_vec());
    }
    Value::Number(declared.default.first().copied().unwrap_or(0))
}

fn owner(declared: &TypedState, state: usize, key: &[Value], event: &Inputs<'_>) -> Owner {
    let bytes = match declared.per {
        StateScope::Cpu => event.machine.cpu.to_le_bytes().to_vec(),
        StateScope::Task => event.machine.task.to_le_bytes().to_vec(),
        StateScope::Key => key
            .iter()
            .zip(&declared.key)
            .flat_map(|(part, ty)| match part {
                Value::Number(number) => number.to_le_bytes().to_vec(),
                Value::Text(text) => {
                    let mut text = text.clone();
                    text.resize(usize::try_from(ty.room()).unwrap_or(usize::MAX), 0);
                    text
                }
            })
            .collect(),
    };
    (state, bytes)
}
