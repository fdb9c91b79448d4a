//! `counter`: the sum of a value, or the number of events. A row contains the sum.

use super::{Cell, RowKind, add_words, exact};
use crate::{
    diagnostic::{Diagnostic, SourceFile},
    insn::{Cond, R1, R7},
    key::{Form, Key},
    names::FamilyKind,
    reader::{Fields, Reader},
    row::RowWriter,
    unit::Unit,
};
use std::sync::Arc;

/// A sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter;

/// The key alone declares it.
pub(super) type Declared = Counter;

impl RowKind for Counter {
    const KEY: Key = Key::new(
        "counter",
        Form::Name,
        "Name of a counter, ending in `_total`; keeps the sum of `value`, or the number of events without it. A negative value is not added.",
    );
    const FAMILY: FamilyKind = FamilyKind::Counter;
    const NEEDS_VALUE: bool = false;
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
        if cell.signed {
            // A counter never falls.
            row.asm.jump_if(Cond::Slt, R1, 0, cell.done);
        }
        row.add(R7, cell.offset, R1);
    }

    fn join(&self, words: &mut [u64], other: &[u64], _: bool) {
        add_words(words, other);
    }

    fn number(&self, words: &[u64], _: bool) -> Option<i128> {
        words.first().map(|sum| exact(*sum, false))
    }
}
