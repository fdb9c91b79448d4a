//! Metrics of waiting starts, as declared: their number, and the age of the oldest.

use crate::{
    diagnostic::Spanned,
    key::{Form, Key},
};

/// The kind of such a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitingKind {
    /// The number of starts that wait.
    InFlight,
    /// The age of the oldest start, seconds.
    Oldest,
}

/// The keys that select the kinds of such metrics.
pub(crate) const WAITING_KEYS: &[Key] = &[WaitingKind::InFlight.key(), WaitingKind::Oldest.key()];

impl WaitingKind {
    /// All kinds, in the order of their keys.
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
    /// Its help text.
    pub help: String,
    /// Its kind.
    pub kind: WaitingKind,
}
