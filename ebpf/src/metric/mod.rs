//! Kinds of metrics that events feed, one file for each: its keys in the YAML and how they are read, what a row keeps for
//! it, the instructions that bring a value there, and what a reader makes of the words of a row.
//!
//! Both halves, of the compiler and of the reader, are here: that of the reader is arithmetic on words, which needs no
//! kernel. What becomes of a number or of buckets in a scrape is said by [`FamilyKind`]. A kind that is served as one of
//! those that there are is a file of this directory and its line in `kinds!`.
//!
//! Metrics of starts that wait for their end are no kinds of these: no event feeds them, see [`crate::waiting`].

mod counter;
mod gauge;
mod histogram;
mod max;

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

/// Where a value goes that is in `r1`; the row is in `r7`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    /// The metric's first byte in the row.
    pub(crate) offset: i16,
    /// Whether the value can be negative.
    pub(crate) signed: bool,
    /// What follows the metric.
    pub(crate) done: JumpLabel,
}

/// All that there is to know of a kind of metric.
pub(crate) trait RowKind: Sized {
    /// The key that says that a metric is of this kind; its value is the metric's name.
    const KEY: Key;
    /// Keys that only metrics of this kind have.
    const OPTIONS: &'static [Key] = &[];
    /// What its family is served as; with that comes what its name must end in.
    const FAMILY: FamilyKind;
    /// Whether a metric must have a `value`, or counts events without it.
    const NEEDS_VALUE: bool = true;
    /// Whether a row has a time beside each value. Only a CPU of its own can replace both together, so the rows are not
    /// shared; and values of what is no more are not kept, as sums are.
    const HAS_TIME: bool = false;
    /// What a file says of it.
    type Declared;

    /// Reads its own keys.
    fn declare(reader: &mut Reader, fields: &Fields<'_>) -> Self::Declared;

    /// What is kept, once the unit of the values is known.
    fn typed(declared: &Self::Declared, file: &Arc<SourceFile>, unit: Unit) -> Result<Self, Vec<Diagnostic>>;

    /// Bytes of a row; a multiple of 8.
    fn size(&self) -> u32;

    /// Brings the value into the row.
    fn update(&self, row: &mut RowWriter<'_>, cell: Cell);

    /// Prepares the words that one CPU wrote for joining them with those of others.
    fn settle(&self, _words: &mut [u64], _now_ns: u64, _signed: bool) {}

    /// Joins the words of another CPU, or of another row that reads the same.
    fn join(&self, words: &mut [u64], other: &[u64], signed: bool);

    /// The number that the words say; `None` where nothing was kept yet, and for distributions.
    fn number(&self, words: &[u64], signed: bool) -> Option<i128>;

    /// The buckets whose counts are behind the first word, for distributions.
    fn buckets(&self) -> Option<&Buckets> {
        None
    }

    /// How long a value is seen, for what forgets.
    fn window_ns(&self) -> Option<u64> {
        None
    }
}

/// What a file has to say of a kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MetricDescription {
    /// The key that names a metric of it.
    pub(crate) key: &'static str,
    /// What its family is.
    pub(crate) family: FamilyKind,
    /// Whether there must be a `value`.
    pub(crate) needs_value: bool,
    /// The keys that only it has.
    pub(crate) options: &'static [Key],
}

/// A word as the number that it is.
fn exact(word: u64, signed: bool) -> i128 {
    if signed { word.cast_signed().into() } else { word.into() }
}

/// Sums are joined by addition.
fn add_words(words: &mut [u64], other: &[u64]) {
    for (word, other) in words.iter_mut().zip(other) {
        *word = word.wrapping_add(*other);
    }
}

/// The enums of all kinds, and the ways from them to the kinds.
macro_rules! kinds {
    ($($module:ident::$kind:ident),* $(,)?) => {
        $(pub use $module::$kind;)*

        /// What a file has to say of each kind, in the order in which messages list them.
        pub(crate) const KINDS: &[MetricDescription] = &[$(MetricDescription {
            key: $kind::KEY.name,
            family: $kind::FAMILY,
            needs_value: $kind::NEEDS_VALUE,
            options: $kind::OPTIONS,
        }),*];
        /// The keys that say of which kind a metric is.
        pub(crate) const KEYS: &[Key] = &[$($kind::KEY),*];
        /// Keys that belong to one kind each.
        pub(crate) const OPTIONS: &[&[Key]] = &[$($kind::OPTIONS),*];

        /// What a metric keeps, as declared.
        #[derive(Clone, Debug, PartialEq)]
        pub enum MetricKind { $(#[doc = stringify!($module)] $kind($module::Declared)),* }

        /// What a metric keeps.
        #[derive(Clone, PartialEq)]
        pub enum TypedMetricKind { $(#[doc = stringify!($module)] $kind($kind)),* }

        impl MetricKind {
            /// Reads the keys of the kind that has this key.
            pub(crate) fn declare(key: &str, reader: &mut Reader, fields: &Fields<'_>) -> Self {
                $(if key == $kind::KEY.name { return Self::$kind($kind::declare(reader, fields)); })*
                unreachable!("`{key}` is no kind of metric: this is a bug in tapster")
            }

            /// What is kept, once the unit of the values is known.
            pub(crate) fn typed(
                &self,
                file: &Arc<SourceFile>,
                unit: Unit,
            ) -> Result<TypedMetricKind, Vec<Diagnostic>> {
                match self {
                    $(Self::$kind(declared) => $kind::typed(declared, file, unit).map(TypedMetricKind::$kind)),*
                }
            }

            /// What its family is.
            pub fn family(&self) -> FamilyKind {
                match self { $(Self::$kind(_) => $kind::FAMILY),* }
            }

            /// Whether rows have a time beside the value, so that each CPU must have its own.
            pub fn has_time(&self) -> bool {
                match self { $(Self::$kind(_) => $kind::HAS_TIME),* }
            }
        }

        impl TypedMetricKind {
            /// What its family is.
            pub fn family(&self) -> FamilyKind {
                match self { $(Self::$kind(_) => $kind::FAMILY),* }
            }

            /// Whether rows have a time beside the value, so that each CPU must have its own. All else are sums.
            pub fn has_time(&self) -> bool {
                match self { $(Self::$kind(_) => $kind::HAS_TIME),* }
            }

            /// Bytes of a row.
            pub fn size(&self) -> u32 {
                match self { $(Self::$kind(kind) => kind.size()),* }
            }

            /// Writes the instructions that bring the value in `r1` into the row.
            pub(crate) fn update(&self, row: &mut RowWriter<'_>, cell: Cell) {
                match self { $(Self::$kind(kind) => kind.update(row, cell)),* }
            }

            /// Prepares the words that one CPU wrote for joining them with those of others.
            pub fn settle(&self, words: &mut [u64], now_ns: u64, signed: bool) {
                match self { $(Self::$kind(kind) => kind.settle(words, now_ns, signed)),* }
            }

            /// Joins the words of another CPU, or of another row that reads the same.
            pub fn join(&self, words: &mut [u64], other: &[u64], signed: bool) {
                match self { $(Self::$kind(kind) => kind.join(words, other, signed)),* }
            }

            /// The number that the words say; `None` where nothing was kept yet, and for distributions.
            pub fn number(&self, words: &[u64], signed: bool) -> Option<i128> {
                match self { $(Self::$kind(kind) => kind.number(words, signed)),* }
            }

            /// The buckets whose counts are behind the first word, for distributions.
            pub fn buckets(&self) -> Option<&Buckets> {
                match self { $(Self::$kind(kind) => kind.buckets()),* }
            }

            /// How long a value is seen, for what forgets.
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
}
