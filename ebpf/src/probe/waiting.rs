//! Metrics of starts that wait for their end, as declared: how many there are, and how old the oldest is.

use crate::{
    diagnostic::Spanned,
    key::{Form, Key},
};

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitingKind {
    /// How many starts wait.
    InFlight,
    /// How long the oldest of them has waited, seconds.
    Oldest,
}

/// The keys that say of which kind such a metric is.
pub(crate) const WAITING_KEYS: &[Key] = &[WaitingKind::InFlight.key(), WaitingKind::Oldest.key()];

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
