//! Metrics of waiting starts in a checked probe. [`crate::waiting`] computes them from a start.

use super::{Type, Typed};
use crate::probe::WaitingKind;

/// A metric of a checked probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingMetric {
    /// Its name, `tapster_` included.
    pub name: String,
    /// Its help text.
    pub help: String,
    /// Its kind.
    pub kind: WaitingKind,
}

/// The metrics of waiting starts of a probe, and how their labels are computed.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// The metrics.
    pub metrics: Vec<WaitingMetric>,
    /// Labels of the probe that are known before the end, in order.
    pub labels: Vec<KnownLabel>,
    /// Types of the contents of an entry: the saved values, then the parts of the key.
    pub values: Vec<Type>,
    /// Values that several labels share. Each follows the values of the entry and the shared values before it, and may use
    /// them.
    pub shared: Vec<Typed>,
    /// The part of the key that is the number of a process or thread: if that is gone, the end cannot come any more.
    pub task: Option<usize>,
    /// Whether starts are kept however long they wait, as long as they fit: the file declares no timeout.
    pub keeps: bool,
}

/// A label that is known from a start.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownLabel {
    /// Its index among the labels of the probe.
    pub place: usize,
    /// Its value. `Saved` numbers the values of the entry, and after them the shared values.
    pub value: Typed,
    /// The type of the label in the key of a row.
    pub ty: Type,
}
