//! `sum`: the sum of a value that may be negative, so that it falls as well. A row contains the sum.

use super::{Cell, RowKind, add_words, exact};
use crate::{
    diagnostic::{Diagnostic, SourceFile},
    insn::{R1, R7},
    key::{Form, Key},
    names::FamilyKind,
    reader::{Fields, Reader},
    row::RowWriter,
    unit::Unit,
};
use std::sync::Arc;

/// A sum that may fall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum;

/// The key alone declares it.
pub(super) type Declared = Sum;

impl RowKind for Sum {
    const KEY: Key = Key::new(
        "sum",
        Form::Name,
        "Name of a gauge that keeps the sum of `value`, which falls by negative values; it begins at 0 when the probe does.",
    );
    const FAMILY: FamilyKind = FamilyKind::Gauge;
    type Declared = Declared;

    fn declare(_: &mut Reader, _: &Fields<'_>) -> Declared {
        Self
    }

    fn typed(declared: &Declared, _: &Arc<SourceFile>, _: Unit) -> Result<Self, Vec<Diagnostic>> {
        Ok(*declared)
    }

    fn size(&self) -> u32 {
        8
    }

    fn update(&self, row: &mut RowWriter<'_>, cell: Cell) {
        row.add(R7, cell.offset, R1);
    }

    fn join(&self, words: &mut [u64], other: &[u64], _: bool) {
        add_words(words, other);
    }

    /// Signed whatever the values are: what one processor adds another may subtract, so a word alone may be negative.
    fn number(&self, words: &[u64], _: bool) -> Option<i128> {
        words.first().map(|sum| exact(*sum, true))
    }
}
