//! Keeps a start, and finds it again at its end.
//!
//! A start is kept in the entry of the table that belongs to its key ([`TableLayout`]). The first word of the entry contains
//! its state: a program must change that word to write or take the entry, so only one of two programs gets it, and the other
//! uses the map. If there is no table, all starts are in the map.

use super::{
    Lowering, immediate, offset,
    update::{EXISTS, NOEXIST},
};
use crate::{
    arch::Arch,
    asm::JumpLabel,
    insn::{Alu, Cond, FP, Helper, Insn, R0, R1, R2, R3, R4, R7, Reg, Size},
    layout::{CLAIMED, DropReason, ELSEWHERE, ENTRY_KEY, FREE, SPREAD, StartLayout, TableLayout},
    program::{STARTS, TABLE},
    typed::Role,
};

/// Offset of the saved values in an entry, if they are at `place` in a value of the map.
fn saved(start: &StartLayout, place: u32) -> i16 {
    offset(ENTRY_KEY + start.key_size + place - 8)
}

impl Lowering<'_> {
    /// Computes what a start keeps: the time, then the saved values. Returns its slot.
    pub(super) fn start_value(&mut self, start: &StartLayout) -> i16 {
        self.prepare(&self.event.saves);
        let value = self.stack.take(start.value_size);
        let now = self.time();
        self.load_slot(R1, now);
        self.store_slot(value, R1);
        self.store_parts(&self.event.saves, &start.saved, value);
        value
    }

    /// Keeps the start whose key is at `key`, and whose value is at `value`.
    pub(super) fn keep_start(&mut self, start: &StartLayout, key: i16, value: i16) {
        let done = self.asm.label();
        if let Some(table) = &start.table {
            self.keep_in_table(start, table, key, value, done);
        }
        self.asm.comment("starts[key] = now, saved values");
        self.asm.push(Insn::Map(R1, STARTS));
        self.stack_address(R2, key);
        self.stack_address(R3, value);
        self.mov(R4, if start.table.is_some() || self.event.first { NOEXIST } else { 0 });
        self.call(Helper::MapUpdate);
        if self.event.first {
            self.asm.comment("the first of the key waits already");
            self.widen_error(R0);
            self.asm.jump_if(Cond::Eq, R0, EXISTS, done);
        }
        if start.table.is_some() {
            self.asm.jump_if(Cond::Eq, R0, 0, done);
            self.count_elsewhere(-1);
        }
        self.count_failure(DropReason::Inflight);
        self.asm.place(done);
    }

    /// Keeps the start in the entry of its key, and jumps to `done`; continues with the next instruction if the entry is
    /// taken.
    fn keep_in_table(
        &mut self,
        start: &StartLayout,
        table: &TableLayout,
        key: i16,
        value: i16,
        done: JumpLabel,
    ) {
        let (claim, free, taken) = (self.asm.label(), self.asm.label(), self.asm.label());
        self.entry(start, table, key, done);
        self.asm.push(Insn::Load(Size::DW, R1, R7, offset(ELSEWHERE)));
        self.asm.jump_if(Cond::Eq, R1, 0, claim);
        self.asm.comment("an earlier start of this key, whose end was lost, is not to be found any more");
        self.asm.push(Insn::Map(R1, STARTS));
        self.stack_address(R2, key);
        self.call(Helper::MapDelete);
        self.asm.jump_if(Cond::Ne, R0, 0, claim);
        self.count_elsewhere(-1);
        self.asm.place(claim);
        self.asm.comment("claim the entry if it is free or this key's");
        self.asm.push(Insn::Load(Size::DW, R0, R7, 0));
        self.asm.jump_if(Cond::Eq, R0, FREE, free);
        self.asm.jump_if(Cond::Eq, R0, CLAIMED, taken);
        self.compare_key(start, key, taken);
        self.asm.place(free);
        self.claim(taken);
        for word in (0..start.key_size).step_by(8) {
            self.load_slot(R1, key + offset(word));
            self.asm.push(Insn::Store(Size::DW, R7, offset(ENTRY_KEY + word), R1));
        }
        for word in (8..start.value_size).step_by(8) {
            self.load_slot(R1, value + offset(word));
            self.asm.push(Insn::Store(Size::DW, R7, saved(start, word), R1));
        }
        self.load_slot(R1, value);
        self.give_back();
        self.asm.jump(done);
        self.asm.place(taken);
        self.count_elsewhere(1);
    }

    /// Takes the start of the end whose key is at `key`: sets the duration and the saved values. If there is none, counts
    /// that and jumps to `skip`. Before the first event of `between` there is none.
    pub(super) fn take_start(&mut self, start: &StartLayout, key: i16, skip: JumpLabel) {
        let (found, unmatched) = (self.asm.label(), self.asm.label());
        let duration = self.stack.take(8);
        self.saved = start.saved.iter().map(|slot| self.stack.take(slot.size)).collect();
        self.duration = Some(duration);
        if let Some(table) = &start.table {
            self.take_from_table(start, table, key, found, unmatched);
        }
        self.asm.comment("start = starts[key]");
        self.lookup(STARTS, key);
        self.asm.jump_if(Cond::Eq, R0, 0, unmatched);
        self.asm.push(Insn::Load(Size::DW, R1, R0, 0));
        self.since(duration);
        self.restore(start, R0, offset);
        self.asm
            .comment("delete starts[key]; whoever deletes it has the event, so two ends never count twice");
        self.asm.push(Insn::Map(R1, STARTS));
        self.stack_address(R2, key);
        self.call(Helper::MapDelete);
        self.asm.jump_if(Cond::Ne, R0, 0, unmatched);
        if start.table.is_some() {
            self.count_elsewhere(-1);
        }
        self.asm.jump(found);
        self.asm.place(unmatched);
        if self.event.role == Role::End {
            self.drop_event(DropReason::Unmatched);
        }
        self.asm.jump(skip);
        self.asm.place(found);
    }

    /// Takes the start from the entry of its key and jumps to `found`. Continues with the next instruction if the start may
    /// be in the map, and jumps to `unmatched` if it cannot be there either.
    fn take_from_table(
        &mut self,
        start: &StartLayout,
        table: &TableLayout,
        key: i16,
        found: JumpLabel,
        unmatched: JumpLabel,
    ) {
        let (other, elsewhere) = (self.asm.label(), self.asm.label());
        self.entry(start, table, key, unmatched);
        self.asm.comment("claim the entry if it is this key's");
        self.asm.push(Insn::Load(Size::DW, R0, R7, 0));
        for nobody in [FREE, CLAIMED] {
            self.asm.jump_if(Cond::Eq, R0, nobody, elsewhere);
        }
        self.compare_key(start, key, elsewhere);
        self.claim(elsewhere);
        self.asm.comment("it may have become another key's before it was claimed");
        self.compare_key(start, key, other);
        self.since(self.duration.expect("`take_start` made room for it"));
        self.restore(start, R7, |place| saved(start, place));
        self.mov(R1, FREE);
        self.give_back();
        self.asm.jump(found);
        self.asm.place(other);
        self.give_back();
        self.asm.place(elsewhere);
        self.asm.push(Insn::Load(Size::DW, R1, R7, offset(ELSEWHERE)));
        self.asm.jump_if(Cond::Eq, R1, 0, unmatched);
    }

    /// `r7` = the entry of a key. Jumps to `never` if the table has no such entry; the verifier requires the test.
    fn entry(&mut self, start: &StartLayout, table: &TableLayout, key: i16, never: JumpLabel) {
        self.asm.comment("r7 = table[place of the key]");
        self.asm.push(Insn::Imm64(R2, SPREAD));
        for (word, mask) in (0..start.key_size).step_by(8).zip(&table.spread) {
            let first = word == 0;
            let part = if first { R1 } else { R3 };
            self.load_slot(part, key + offset(word));
            if *mask != u64::MAX {
                self.asm.push(Insn::Alu32(Alu::Mov, part, part.into()));
            }
            if !first {
                self.alu(Alu::Add, R1, R3);
            }
            self.alu(Alu::Mul, R1, R2);
        }
        self.alu(Alu::Rsh, R1, immediate(64 - table.bits));
        let place = self.index;
        self.store_slot(place, R1);
        self.lookup(TABLE, place);
        self.asm.jump_if(Cond::Eq, R0, 0, never);
        self.mov(R7, R0);
    }

    /// Jumps to `differs` if the entry in `r7` has another key; changes `r2` and `r3`.
    fn compare_key(&mut self, start: &StartLayout, key: i16, differs: JumpLabel) {
        for word in (0..start.key_size).step_by(8) {
            self.asm.push(Insn::Load(Size::DW, R2, R7, offset(ENTRY_KEY + word)));
            self.load_slot(R3, key + offset(word));
            self.asm.jump_if(Cond::Ne, R2, R3, differs);
        }
    }

    /// Claims the entry in `r7` if its first word is still `r0`, and leaves that in `r1`; jumps to `lost` if it has changed.
    fn claim(&mut self, lost: JumpLabel) {
        self.mov(R1, R0);
        self.mov(R2, CLAIMED);
        self.asm.push(Insn::CompareExchange(R7, 0, R2));
        self.asm.jump_if(Cond::Ne, R0, R1, lost);
    }

    /// Releases the entry in `r7`: its first word becomes `r1`. Nobody else changes it meanwhile, so all reads and writes of
    /// the entry must come before this store; x86-64 does not move loads and stores behind a later store.
    fn give_back(&mut self) {
        self.asm.push(match self.host.arch {
            Arch::X86_64 => Insn::Store(Size::DW, R7, 0, R1),
            Arch::Aarch64 => Insn::Exchange(R7, 0, R1),
        });
    }

    /// Adds to the entry in `r7` this many starts of its keys in the map; keeps `r0`.
    fn count_elsewhere(&mut self, more: i32) {
        self.mov(R1, more);
        self.asm.push(Insn::AtomicAdd(Size::DW, R7, offset(ELSEWHERE), R1));
    }

    /// Stores the time since `r1`; changes `r1` and `r2`.
    fn since(&mut self, duration: i16) {
        let now = self.time();
        self.load_slot(R2, now);
        self.alu(Alu::Sub, R2, R1);
        // Clocks of two CPUs may differ by a few nanoseconds: below 0 is 0. Without a jump, because in a
        // loop the verifier would walk both ways at each round.
        self.mov(R1, R2);
        self.alu(Alu::Arsh, R1, 63);
        self.alu(Alu::Xor, R1, -1);
        self.alu(Alu::And, R2, R1);
        self.store_slot(duration, R2);
    }

    /// Copies the saved values from `base` onto the stack; changes `r1`.
    fn restore(&mut self, start: &StartLayout, base: Reg, at: impl Fn(u32) -> i16) {
        for (slot, place) in start.saved.iter().zip(self.saved.clone()) {
            for word in (0..slot.size).step_by(8) {
                self.asm.push(Insn::Load(Size::DW, R1, base, at(slot.offset + word)));
                self.asm.push(Insn::Store(Size::DW, FP, place + offset(word), R1));
            }
        }
    }
}
