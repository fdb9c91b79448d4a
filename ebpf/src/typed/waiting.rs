//! What a checked probe tells of starts that wait for their end. [`crate::waiting`] tells it of a start.

use super::{Type, Typed};
use crate::probe::WaitingKind;

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
