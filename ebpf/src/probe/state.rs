//! State as declared: values that events of a probe leave for others.

use super::Expression;
use crate::diagnostic::Spanned;

/// Whose value a state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateScope {
    /// Each processor's.
    Cpu,
    /// That of the task that runs.
    Task,
    /// That of a key, which each event gives.
    Key,
}

impl StateScope {
    /// Its word behind `per`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Task => "task",
            Self::Key => "key",
        }
    }
}

/// An entry of `state`.
#[derive(Clone, Debug)]
pub struct DeclaredState {
    /// Its name.
    pub name: Spanned<String>,
    /// Whose value it is.
    pub per: StateScope,
    /// What is read where nothing was set; a number or a text.
    pub default: Option<Expression>,
    /// Most keys.
    pub max: u32,
    /// Nanoseconds after which a key that was not set again is given up.
    pub timeout_ns: Option<u64>,
}

/// What an event does to a state.
#[derive(Clone, Debug)]
pub struct DeclaredChange {
    /// The name of the state.
    pub name: Spanned<String>,
    /// The parts of the key, for a state by key.
    pub key: Vec<Expression>,
    /// What becomes of it.
    pub effect: DeclaredEffect,
}

/// What becomes of a state.
#[derive(Clone, Debug)]
pub enum DeclaredEffect {
    /// This value.
    Set(Expression),
    /// This much more.
    Add(Expression),
    /// What it was before it was set.
    Clear,
}

impl DeclaredEffect {
    /// Its key in an event.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Set(_) => "set",
            Self::Add(_) => "add",
            Self::Clear => "clear",
        }
    }

    /// Its value.
    pub fn value(&self) -> Option<&Expression> {
        match self {
            Self::Set(value) | Self::Add(value) => Some(value),
            Self::Clear => None,
        }
    }
}
