//! State of a checked probe: values that events leave for others.

use super::{Type, Typed};
use crate::probe::StateScope;

/// An entry of the state.
#[derive(Clone, Debug, PartialEq)]
pub struct TypedState {
    /// Its name.
    pub name: String,
    /// Whose value it is.
    pub per: StateScope,
    /// Types of the parts of its key; empty unless it is kept by key.
    pub key: Vec<Type>,
    /// The type of its value.
    pub ty: Type,
    /// The words of what is read where nothing was set, as many as the type has room for.
    pub default: Vec<u64>,
    /// Most keys.
    pub max: u32,
    /// Nanoseconds after which a key that was not set again is given up.
    pub timeout_ns: Option<u64>,
}

/// What an event does to a state.
#[derive(Clone, Debug, PartialEq)]
pub struct TypedChange {
    /// The number of the state.
    pub state: usize,
    /// The parts of the key.
    pub key: Vec<Typed>,
    /// What becomes of it.
    pub effect: StateEffect,
}

/// What becomes of a state.
#[derive(Clone, Debug, PartialEq)]
pub enum StateEffect {
    /// This value.
    Set(Typed),
    /// This much more.
    Add(Typed),
    /// What it was before it was set.
    Clear,
    /// All that is kept per task of the one with the number that is the key is given up: it has ended. Only where the kernel
    /// does not do that itself.
    Forget,
}

impl TypedChange {
    /// Its expressions.
    pub fn expressions(&self) -> impl Iterator<Item = &Typed> {
        let value = match &self.effect {
            StateEffect::Set(value) | StateEffect::Add(value) => Some(value),
            StateEffect::Clear | StateEffect::Forget => None,
        };
        self.key.iter().chain(value)
    }
}
