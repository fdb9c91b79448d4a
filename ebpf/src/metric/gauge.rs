//! `gauge`: the last value. A row contains its time, and the value.

use super::{Cell, RowKind, exact};
use crate::{
    diagnostic::{Diagnostic, SourceFile},
    insn::{Insn, R1, R2, R7, Size},
    key::{Form, Key},
    names::FamilyKind,
    reader::{Fields, Reader},
    row::RowWriter,
    unit::Unit,
};
use std::sync::Arc;

/// The last value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauge;

/// The key alone declares it.
pub(super) type Declared = Gauge;

impl RowKind for Gauge {
    const KEY: Key = Key::new(
        "gauge",
        Form::Name,
        "Name of a gauge that keeps the last `value`; absent until there was one.",
    );
    const FAMILY: FamilyKind = FamilyKind::Gauge;
    const HAS_TIME: bool = true;
    type Declared = Declared;

    fn declare(_: &mut Reader, _: &Fields<'_>) -> Declared {
        Self
    }

    fn typed(declared: &Declared, _: &Arc<SourceFile>, _: Unit) -> Result<Self, Vec<Diagnostic>> {
        Ok(*declared)
    }

    fn size(&self) -> u32 {
        16
    }

    fn update(&self, row: &mut RowWriter<'_>, cell: Cell) {
        let now = row.time();
        row.asm.load_slot(R2, now);
        row.asm.push(Insn::Store(Size::DW, R7, cell.offset, R2));
        row.asm.push(Insn::Store(Size::DW, R7, cell.offset + 8, R1));
    }

    fn join(&self, words: &mut [u64], other: &[u64], _: bool) {
        if other.first() > words.first() {
            words.copy_from_slice(other);
        }
    }

    fn number(&self, words: &[u64], signed: bool) -> Option<i128> {
        let [time, value, ..] = words else { return None };
        (*time != 0).then(|| exact(*value, signed))
    }
}
