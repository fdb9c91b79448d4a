//! Writes one program: filter, pair, find the row, count.

use super::{
    CONTEXT, Lowering, WalkPosition, immediate, is_tracked,
    update::{FULL, NOEXIST},
    words,
};
use crate::{
    asm::JumpLabel,
    insn::{Alu, Cond, FP, Helper, Insn, R0, R1, R2, R3, R4, R5, R7, R8, R9, Size},
    layout::{Copies, DropReason, StartLayout},
    probe::KernelVersion,
    program::{ROWS, UNWANTED, ZERO, map_named},
    typed::{AccessMode, Role, Typed, TypedChange, TypedEach, TypedKind},
};
use std::collections::BTreeSet;

/// First kernel with loops whose bound the kernel counts; the verifier follows them for one or two rounds.
const MAY_GOTO: KernelVersion = KernelVersion(6, 9, 0);

impl Lowering<'_> {
    /// Writes the whole program.
    pub(super) fn program(&mut self) {
        let event = self.event;
        let exit = self.asm.label();
        self.asm.push(Insn::Alu64(Alu::Mov, CONTEXT, R1.into()));
        if let Some((session, at_return)) = self.end_of_session {
            self.carry(session, at_return);
        }
        if event.computes(&reads_by_helper) {
            let slot = self.stack.take(8);
            self.asm.push(Insn::StoreImm(Size::DW, FP, slot, 0));
            self.faults = Some(slot);
        }
        self.prepare_to_hide();
        let is_clock = |typed: &Typed| typed.kind == TypedKind::Builtin(crate::typed::Builtin::Nsecs);
        let reads_clock = event.computes(&is_clock);
        let stamped = match event.role {
            Role::Note => false,
            _ => self.probe.metrics.iter().any(|metric| metric.kind.has_time()),
        };
        let is_timed = |change: &TypedChange| self.probe.states[change.state].timeout_ns.is_some();
        let stamped = stamped || event.changes.iter().any(is_timed);
        // A start that only its conditions keep from counting, as most switches, does not ask what time it is before them.
        let late = event.role.keeps_start() && !reads_clock && event.each.is_none();
        let is_of_pair = matches!(event.role, Role::Start | Role::End | Role::Between);
        if !late && (is_of_pair || reads_clock || stamped) {
            self.stamp();
        }
        let (item_filters, filters): (Vec<&Typed>, Vec<&Typed>) =
            event.filters.iter().partition(|filter| filter.needs_item(&event.lets));
        for filter in filters {
            self.prepare([filter]);
            self.asm.comment("where");
            self.branch(filter, false, exit, 0);
        }
        if late {
            self.stamp();
        }
        match &event.each {
            Some(each) => self.each(each, &item_filters, exit),
            None => self.body(exit),
        }
        self.asm.place(exit);
        if let Some(faults) = self.faults {
            let end = self.asm.label();
            self.load_slot(R1, faults);
            self.asm.jump_if(Cond::Eq, R1, 0, end);
            self.drop_events(DropReason::Fault);
            self.asm.place(end);
        }
        self.mov(R0, self.event.mechanism.returns);
        self.asm.push(Insn::Exit);
    }

    /// Reads the clock into a slot.
    fn stamp(&mut self) {
        self.asm.comment("now");
        self.call(Helper::KtimeNs);
        let slot = self.stack.take(8);
        self.store_slot(slot, R0);
        self.now = Some(slot);
    }

    fn each(&mut self, each: &TypedEach, filters: &[&Typed], exit: JumpLabel) {
        let (again, next, over) = (self.asm.label(), self.asm.label(), self.asm.label());
        let test = self.asm.label();
        self.asm.comment("each: r9 = 0, for the verifier any number because a map holds it");
        let key = self.index_key(0);
        self.lookup(ZERO, key);
        self.asm.jump_if(Cond::Eq, R0, 0, exit);
        self.asm.push(Insn::Load(Size::DW, R9, R0, 0));
        self.hide_kept();
        self.walk = WalkPosition::Ahead;
        let lets = &self.event.lets;
        // What is the same for every element is computed once, before the loop.
        self.cgroups_ahead();
        let used: BTreeSet<usize> = self.event.values().into_iter().flat_map(Typed::names).collect();
        for index in used {
            let value = &lets[index];
            if !value.needs_item(lets) && !value.needs_start(lets) {
                self.prepare([&Typed { kind: TypedKind::Let(index), ..value.clone() }]);
            }
        }
        let mut budget = None;
        if let Some((_, within)) = &each.budget {
            self.asm.comment("each: budget");
            self.eval(within, 0);
            // Also where it goes one way only: what is left of a known number is another one each time.
            self.alu(Alu::Add, R1, R9);
            let slot = self.stack.take(8);
            self.store_slot(slot, R1);
            budget = Some(slot);
        }
        self.asm.comment("each: first element");
        self.eval(&each.from, 0);
        self.mov(R8, R1);
        let by_kernel = self.host.kernel >= MAY_GOTO;
        if !by_kernel {
            // Its bound is the number of the round, which the verifier has to know.
            self.mov(R9, 0);
        }
        self.asm.jump(test);
        let before = self.lets.slots.clone();
        let outside = self.stack.used;
        let peak = std::mem::replace(&mut self.stack.peak, outside);
        self.asm.place(again);
        self.walk = if by_kernel { WalkPosition::ByKernel } else { WalkPosition::Counted };
        if let (Some(slot), Some((size, _))) = (budget, &each.budget) {
            self.asm.comment("each: an element that does not fit is not complete");
            self.prepare([size]);
            self.tidied(|this| {
                this.eval(size, 0);
                this.load_slot(R2, slot);
                this.asm.jump_if(Cond::Gt, R1, R2, exit);
                this.alu(Alu::Sub, R2, R1);
                this.store_slot(slot, R2);
            });
        }
        self.prepare([&each.next]);
        for filter in filters {
            self.prepare([*filter]);
            self.tidied(|this| this.branch(filter, false, next, 0));
        }
        self.body(next);
        self.asm.place(next);
        self.asm.comment("each: next element");
        self.eval(&each.next, 0);
        self.mov(R8, R1);
        self.alu(Alu::Add, R9, 1);
        self.walk = WalkPosition::No;
        if !by_kernel {
            // Before 5.13 or so the verifier lets only a jump go back to what it has seen, not the mere next
            // instruction; the kernel removes it again.
            self.asm.jump(test);
        }
        self.asm.place(test);
        if by_kernel {
            self.forget(outside);
        }
        self.stack.peak = self.stack.peak.max(peak);
        self.lets.slots = before;
        self.asm.jump_if(Cond::Eq, R8, 0, exit);
        let mut rounds = R9;
        if by_kernel {
            self.asm.may_goto(over);
            // What is compared is another register, for `r9` has to stay any number. It is a sum with 0 because
            // from a copy the verifier would learn about `r9` as well.
            rounds = R1;
            self.mov(rounds, 0);
            self.alu(Alu::Add, rounds, R9);
        }
        self.asm.jump_if(Cond::Ge, rounds, immediate(each.limit), over);
        self.asm.jump(again);
        self.asm.place(over);
        self.drop_event(DropReason::EachLimit);
    }

    /// Hides from the verifier what it knows of numbers that exist before the loop and are used after it. The verifier
    /// would follow each path to another value through each round, and each round counts other faults.
    fn hide_kept(&mut self) {
        let mut slots: Vec<i16> = self.faults.into_iter().collect();
        for (value, slot) in self.event.lets.iter().zip(&self.lets.slots) {
            if let (Some(slot), false) = (slot, is_tracked(&value.ty)) {
                slots.extend(words(*slot, value.ty.room()));
            }
        }
        for slot in slots {
            self.load_slot(R1, slot);
            self.alu(Alu::Add, R1, R9);
            self.store_slot(slot, R1);
        }
    }

    /// Makes every round of a loop with the kernel's bound begin with the same state for the verifier, whatever path the
    /// previous round took: in such a loop the verifier also compares stack slots that nobody reads again, and until 6.15
    /// such registers.
    fn forget(&mut self, outside: u32) {
        self.asm.comment("each: every round begins alike");
        for register in [R0, R1, R2, R3, R4, R5, R7] {
            self.mov(register, 0);
        }
        self.forget_slot(self.index);
        for slot in self.stack.words(outside) {
            self.forget_slot(slot);
        }
    }

    /// Handles the event or an element of its list; jumps to `skip` if it does not count.
    fn body(&mut self, skip: JumpLabel) {
        if self.event.role == Role::Note {
            let ready = self.ready_changes();
            self.write_changes(&ready);
            return;
        }
        let Some(start) = &self.layout.start else {
            self.count_and_write(skip);
            return;
        };
        self.prepare(&self.event.key);
        self.asm.comment("key");
        let key = self.stack.take(start.key_size);
        self.store_parts(&self.event.key, &start.key, key);
        match self.event.role {
            Role::Start => {
                let ready = self.ready_changes();
                let value = self.start_value(start);
                self.keep_start(start, key, value);
                self.write_changes(&ready);
            }
            Role::Between => {
                // Before the ways part: what the next event needs is kept on all of them.
                let value = self.start_value(start);
                let begin = self.asm.label();
                self.end(start, key, begin);
                self.asm.place(begin);
                self.keep_start(start, key, value);
            }
            Role::End | Role::Single | Role::Note => self.end(start, key, skip),
        }
    }

    /// Takes the start and counts; jumps to `skip` if there is none or it does not count.
    fn end(&mut self, start: &StartLayout, key: i16, skip: JumpLabel) {
        self.take_start(start, key, skip);
        for filter in &self.event.late_filters {
            self.prepare([filter]);
            self.asm.comment("where");
            self.tidied(|this| this.branch(filter, false, skip, 0));
        }
        self.count_and_write(skip);
    }
    /// Counts the event; what it leaves for others is written whether or not there is room for its row.
    fn count_and_write(&mut self, skip: JumpLabel) {
        if self.event.changes.is_empty() {
            self.count(skip);
            return;
        }
        let ready = self.ready_changes();
        let counted = self.asm.label();
        self.count(counted);
        self.asm.place(counted);
        self.write_changes(&ready);
    }

    fn count(&mut self, skip: JumpLabel) {
        self.find_row(skip);
        for index in 0..self.event.metrics.len() {
            self.metric(index);
        }
    }

    /// `r7` = the row of the event's labels, which is made if it is new.
    fn find_row(&mut self, skip: JumpLabel) {
        if !self.layout.is_keyed() {
            let key = self.index_key(0);
            self.lookup(ROWS, key);
            self.asm.jump_if(Cond::Eq, R0, 0, skip);
            self.mov(R7, R0);
            self.find_copy();
            return;
        }
        self.prepare(&self.event.labels);
        self.asm.comment("labels");
        let key = self.stack.take(self.layout.key_size);
        self.store_parts(&self.event.labels, &self.layout.labels, key);
        let (found, full) = (self.asm.label(), self.asm.label());
        self.asm.comment("row = rows[labels]");
        self.lookup(ROWS, key);
        self.asm.jump_if(Cond::Ne, R0, 0, found);
        for place in &self.layout.chosen {
            self.asm.comment("no row of an unwanted device");
            let place = i16::try_from(*place).expect("a key has at most 256 bytes");
            self.lookup(map_named(self.layout, UNWANTED), key + place);
            self.asm.jump_if(Cond::Ne, R0, 0, skip);
        }
        self.asm.comment("new row");
        let zero = self.index_key(0);
        self.lookup(ZERO, zero);
        self.asm.jump_if(Cond::Eq, R0, 0, skip);
        self.mov(R3, R0);
        self.asm.push(Insn::Map(R1, ROWS));
        self.stack_address(R2, key);
        self.mov(R4, NOEXIST);
        self.call(Helper::MapUpdate);
        let error = self.stack.take(8);
        self.store_slot(error, R0);
        self.lookup(ROWS, key);
        self.load_slot(R1, error);
        if self.walk == WalkPosition::ByKernel {
            // As they are where the row is not new.
            self.forget_slot(error);
            self.forget_slot(zero);
        }
        self.asm.jump_if(Cond::Ne, R0, 0, found);
        self.widen_error(R1);
        self.asm.jump_if(Cond::Eq, R1, FULL, full);
        self.drop_event(DropReason::Busy);
        self.asm.jump(skip);
        self.asm.place(full);
        self.drop_event(DropReason::Series);
        self.asm.jump(skip);
        self.asm.place(found);
        self.mov(R7, R0);
        self.find_copy();
    }

    /// `r7` = the row's copy for this CPU.
    fn find_copy(&mut self) {
        let Copies { count, stride, shift } = self.layout.copies;
        let (Ok(last), Ok(stride), Ok(shift)) =
            (i32::try_from(count - 1), i32::try_from(stride), i32::try_from(shift))
        else {
            return;
        };
        if last == 0 {
            return;
        }
        self.asm.comment("copy of this CPU and its neighbours");
        self.call(Helper::CpuId);
        if shift > 0 {
            self.alu(Alu::Rsh, R0, shift);
        }
        // As it is already, which the verifier does not know.
        self.alu(Alu::And, R0, last);
        self.alu(Alu::Mul, R0, stride);
        self.alu(Alu::Add, R7, R0);
    }
}

/// Whether a read may fail, and the failure be counted.
fn reads_by_helper(typed: &Typed) -> bool {
    match &typed.kind {
        TypedKind::Load { access, .. } => *access != AccessMode::Direct,
        TypedKind::TextAt { .. }
        | TypedKind::BytesAt { .. }
        | TypedKind::WordsBetween { .. }
        | TypedKind::WordsOf { .. }
        | TypedKind::MappedAt { .. }
        | TypedKind::TextField { .. }
        | TypedKind::TextLocated { .. }
        | TypedKind::CgroupMatches(_)
        | TypedKind::Path(_) => true,
        _ => false,
    }
}
