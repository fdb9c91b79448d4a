//! `max`: the largest value within a window of time. A row contains a ring of [`SLOTS`] pairs of epoch and value; an epoch is
//! a third of the window.

use super::{Cell, RowKind, exact};
use crate::{
    diagnostic::{Diagnostic, SourceFile},
    insn::{Alu, Cond, Insn, R1, R2, R3, R4, R7, Size},
    key::{Fallback, Form, Key},
    names::FamilyKind,
    reader::{Fields, Reader},
    row::RowWriter,
    unit::Unit,
};
use std::sync::Arc;

/// Time slots: three form a window, the fourth is being replaced.
const SLOTS: u32 = 4;
/// Number of slots that form a window.
const WINDOW_SLOTS: u64 = 3;

/// The largest value within a window of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Max {
    /// Length of the window, nanoseconds.
    pub window_ns: u64,
}

/// The declaration is complete without a unit.
pub(super) type Declared = Max;

impl Max {
    fn epoch_ns(self) -> u64 {
        (self.window_ns / WINDOW_SLOTS).max(1)
    }
}

fn is_larger(a: u64, b: u64, signed: bool) -> bool {
    if signed { a.cast_signed() > b.cast_signed() } else { a > b }
}

impl RowKind for Max {
    const KEY: Key = Key::new(
        "max",
        Form::Name,
        "Name of a gauge that keeps the largest `value` of the last `window`; absent when there was none in that time.",
    );
    const OPTIONS: &'static [Key] =
        &[Key::new("window", Form::Duration, "How long `max` looks back.").or(Fallback::Text("60s"))];
    const FAMILY: FamilyKind = FamilyKind::Gauge;
    const HAS_TIME: bool = true;
    type Declared = Declared;

    fn declare(reader: &mut Reader, fields: &Fields<'_>) -> Declared {
        Self { window_ns: reader.duration_or_default(fields, "window") }
    }

    fn typed(declared: &Declared, _: &Arc<SourceFile>, _: Unit) -> Result<Self, Vec<Diagnostic>> {
        Ok(*declared)
    }

    fn size(&self) -> u32 {
        16 * SLOTS
    }

    fn update(&self, row: &mut RowWriter<'_>, cell: Cell) {
        let now = row.time();
        row.asm.load_slot(R2, now);
        row.asm.constant(R3, self.epoch_ns());
        row.asm.alu(Alu::Div, R2, R3);
        row.asm.mov(R3, R2);
        row.asm.alu(Alu::And, R3, 3);
        row.asm.alu(Alu::Lsh, R3, 4);
        row.asm.mov(R4, R7);
        row.asm.alu(Alu::Add, R4, R3);
        let (same, store) = (row.asm.label(), row.asm.label());
        row.asm.push(Insn::Load(Size::DW, R3, R4, cell.offset));
        row.asm.jump_if(Cond::Eq, R3, R2, same);
        row.asm.push(Insn::Store(Size::DW, R4, cell.offset, R2));
        row.asm.jump(store);
        row.asm.place(same);
        row.asm.push(Insn::Load(Size::DW, R3, R4, cell.offset + 8));
        row.asm.jump_if(if cell.signed { Cond::Sle } else { Cond::Le }, R1, R3, cell.done);
        row.asm.place(store);
        row.asm.push(Insn::Store(Size::DW, R4, cell.offset + 8, R1));
    }

    /// Moves the largest value of the window into the second word; the first word says whether there is one.
    fn settle(&self, words: &mut [u64], now_ns: u64, signed: bool) {
        let epoch = now_ns / self.epoch_ns();
        let mut largest: Option<u64> = None;
        for pair in words.chunks_exact(2) {
            let (slot_epoch, value) = (pair[0], pair[1]);
            let inside = slot_epoch != 0 && slot_epoch.saturating_add(WINDOW_SLOTS) > epoch;
            if inside && largest.is_none_or(|largest| is_larger(value, largest, signed)) {
                largest = Some(value);
            }
        }
        if let [is_set, value, ..] = words {
            *is_set = u64::from(largest.is_some());
            *value = largest.unwrap_or(0);
        }
    }

    fn join(&self, words: &mut [u64], other: &[u64], signed: bool) {
        let ([mine_set, mine, ..], [other_set, theirs, ..]) = (&*words, other) else { return };
        if *other_set != 0 && (*mine_set == 0 || is_larger(*theirs, *mine, signed)) {
            words.copy_from_slice(other);
        }
    }

    fn number(&self, words: &[u64], signed: bool) -> Option<i128> {
        let [is_set, value, ..] = words else { return None };
        (*is_set != 0).then(|| exact(*value, signed))
    }

    fn window_ns(&self) -> Option<u64> {
        Some(self.window_ns)
    }
}
