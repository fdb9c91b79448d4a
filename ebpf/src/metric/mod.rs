//! Kinds of metrics that events feed, one file for each: its keys in the YAML and their reader, its contents in a row, the
//! instructions that update a row, and the meaning of its words to a reader.
//!
//! The halves for the compiler and for the reader are together: the reader's half is arithmetic on words, which needs no
//! kernel. [`FamilyKind`] defines how a number or buckets are served. A new kind that is served as an existing family kind is
//! a file of this directory and its line in `kinds!`.
//!
//! Metrics of starts that wait for their end are not among these kinds, because no event feeds them, see [`crate::waiting`].

mod counter;
mod gauge;
mod histogram;
mod max;
mod sum;

pub(crate) use histogram::{BUCKETS, EXPONENTIAL, LINEAR};

use crate::{
    asm::JumpLabel,
    diagnostic::{Diagnostic, SourceFile},
    histogram::Buckets,
    key::Key,
    names::FamilyKind,
    reader::{Fields, Reader},
    row::RowWriter,
    unit::Unit,
};
use std::sync::Arc;

/// The target of a value in `r1`; the row is in `r7`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    /// Offset of the metric in the row, bytes.
    pub(crate) offset: i16,
    /// Whether the value can be negative.
    pub(crate) signed: bool,
    /// The label after the metric's instructions.
    pub(crate) done: JumpLabel,
}

/// A kind of metric.
pub(crate) trait RowKind: Sized {
    /// The key that selects this kind; its value is the metric's name.
    const KEY: Key;
    /// Keys that only metrics of this kind have.
    const OPTIONS: &'static [Key] = &[];
    /// The kind of its family, which also determines the suffix of its name.
    const FAMILY: FamilyKind;
    /// Whether a metric must have a `value`; otherwise it counts events without one.
    const NEEDS_VALUE: bool = true;
    /// Whether a row contains a time beside each value. Only a CPU of its own can replace both together, so such rows are per
    /// CPU; and values of objects that are gone are not kept, as sums are.
    const HAS_TIME: bool = false;
    /// The declaration of a metric.
    type Declared;

    /// Reads the keys of this kind.
    fn declare(reader: &mut Reader, fields: &Fields<'_>) -> Self::Declared;

    /// Makes the metric once the unit of the values is known.
    fn typed(declared: &Self::Declared, file: &Arc<SourceFile>, unit: Unit) -> Result<Self, Vec<Diagnostic>>;

    /// Size in a row, bytes; a multiple of 8.
    fn size(&self) -> u32;

    /// Writes the instructions that update the row.
    fn update(&self, row: &mut RowWriter<'_>, cell: Cell);

    /// Prepares the words that one CPU wrote, so that those of other CPUs can be joined.
    fn settle(&self, _words: &mut [u64], _now_ns: u64, _signed: bool) {}

    /// Joins the words of another CPU, or of another row with the same label texts.
    fn join(&self, words: &mut [u64], other: &[u64], signed: bool);

    /// The number that the words stand for; `None` if there is none yet, and for distributions.
    fn number(&self, words: &[u64], signed: bool) -> Option<i128>;

    /// The buckets whose counts follow the first word, for distributions.
    fn buckets(&self) -> Option<&Buckets> {
        None
    }

    /// The window within which a value is seen, nanoseconds, for kinds that forget.
    fn window_ns(&self) -> Option<u64> {
        None
    }
}

/// The keys and the family of a kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MetricDescription {
    /// The key that selects the kind.
    pub(crate) key: &'static str,
    /// The kind of its family.
    pub(crate) family: FamilyKind,
    /// Whether a `value` is required.
    pub(crate) needs_value: bool,
    /// The keys of this kind alone.
    pub(crate) options: &'static [Key],
}

/// A word as a number.
fn exact(word: u64, signed: bool) -> i128 {
    if signed { word.cast_signed().into() } else { word.into() }
}

/// Joins sums by addition.
fn add_words(words: &mut [u64], other: &[u64]) {
    for (word, other) in words.iter_mut().zip(other) {
        *word = word.wrapping_add(*other);
    }
}

/// Makes the enums of all kinds, and dispatches to the kinds.
macro_rules! kinds {
    ($($module:ident::$kind:ident),* $(,)?) => {
        $(pub use $module::$kind;)*

        /// The description of each kind, in the order in which messages list them.
        pub(crate) const KINDS: &[MetricDescription] = &[$(MetricDescription {
            key: $kind::KEY.name,
            family: $kind::FAMILY,
            needs_value: $kind::NEEDS_VALUE,
            options: $kind::OPTIONS,
        }),*];
        /// The keys that select the kinds.
        pub(crate) const KEYS: &[Key] = &[$($kind::KEY),*];
        /// Keys that belong to one kind each.
        pub(crate) const OPTIONS: &[&[Key]] = &[$($kind::OPTIONS),*];

        /// The kind of a metric, as declared.
        #[derive(Clone, Debug, PartialEq)]
        pub enum MetricKind { $(#[doc = stringify!($module)] $kind($module::Declared)),* }

        /// The kind of a metric.
        #[derive(Clone, PartialEq)]
        pub enum TypedMetricKind { $(#[doc = stringify!($module)] $kind($kind)),* }

        impl MetricKind {
            /// Reads the keys of the kind that this key selects.
            pub(crate) fn declare(key: &str, reader: &mut Reader, fields: &Fields<'_>) -> Self {
                $(if key == $kind::KEY.name { return Self::$kind($kind::declare(reader, fields)); })*
                unreachable!("`{key}` is no kind of metric: this is a bug in tapster")
            }

            /// Makes the metric once the unit of the values is known.
            pub(crate) fn typed(
                &self,
                file: &Arc<SourceFile>,
                unit: Unit,
            ) -> Result<TypedMetricKind, Vec<Diagnostic>> {
                match self {
                    $(Self::$kind(declared) => $kind::typed(declared, file, unit).map(TypedMetricKind::$kind)),*
                }
            }

            /// The key that selects the kind.
            pub(crate) fn key(&self) -> &'static str {
                match self { $(Self::$kind(_) => $kind::KEY.name),* }
            }

            /// Whether a metric must have a `value`; otherwise it counts events without one.
            pub(crate) fn needs_value(&self) -> bool {
                match self { $(Self::$kind(_) => $kind::NEEDS_VALUE),* }
            }

            /// The kind of its family.
            pub fn family(&self) -> FamilyKind {
                match self { $(Self::$kind(_) => $kind::FAMILY),* }
            }

            /// Whether rows contain a time beside the value, so that they must be per CPU.
            pub fn has_time(&self) -> bool {
                match self { $(Self::$kind(_) => $kind::HAS_TIME),* }
            }
        }

        impl TypedMetricKind {
            /// The kind of its family.
            pub fn family(&self) -> FamilyKind {
                match self { $(Self::$kind(_) => $kind::FAMILY),* }
            }

            /// Whether rows contain a time beside the value, so that they must be per CPU. All other kinds are sums.
            pub fn has_time(&self) -> bool {
                match self { $(Self::$kind(_) => $kind::HAS_TIME),* }
            }

            /// Size in a row, bytes.
            pub fn size(&self) -> u32 {
                match self { $(Self::$kind(kind) => kind.size()),* }
            }

            /// Writes the instructions that update the row by the value in `r1`.
            pub(crate) fn update(&self, row: &mut RowWriter<'_>, cell: Cell) {
                match self { $(Self::$kind(kind) => kind.update(row, cell)),* }
            }

            /// Prepares the words that one CPU wrote, so that those of other CPUs can be joined.
            pub fn settle(&self, words: &mut [u64], now_ns: u64, signed: bool) {
                match self { $(Self::$kind(kind) => kind.settle(words, now_ns, signed)),* }
            }

            /// Joins the words of another CPU, or of another row with the same label texts.
            pub fn join(&self, words: &mut [u64], other: &[u64], signed: bool) {
                match self { $(Self::$kind(kind) => kind.join(words, other, signed)),* }
            }

            /// The number that the words stand for; `None` if there is none yet, and for distributions.
            pub fn number(&self, words: &[u64], signed: bool) -> Option<i128> {
                match self { $(Self::$kind(kind) => kind.number(words, signed)),* }
            }

            /// The buckets whose counts follow the first word, for distributions.
            pub fn buckets(&self) -> Option<&Buckets> {
                match self { $(Self::$kind(kind) => kind.buckets()),* }
            }

            /// The window within which a value is seen, nanoseconds, for kinds that forget.
            pub fn window_ns(&self) -> Option<u64> {
                match self { $(Self::$kind(kind) => kind.window_ns()),* }
            }
        }

        impl std::fmt::Debug for TypedMetricKind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self { $(Self::$kind(kind) => kind.fmt(f)),* }
            }
        }

        $(impl From<$kind> for TypedMetricKind {
            fn from(kind: $kind) -> Self {
                Self::$kind(kind)
            }
        })*
    };
}

kinds! {
    counter::Counter,
    histogram::Histogram,
    gauge::Gauge,
    max::Max,
    sum::Sum,
}
