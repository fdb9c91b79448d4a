//! Whether a cgroup is one that a pattern names, or below one.
//!
//! The answer for each cgroup is found once, by its path, and kept in a map: a cgroup that was made a moment ago needs nobody who
//! tells of it. Its path does not change in version 2; that of version 1 may, so the exporter removes those answers now and then.
//!
//! `r8` counts rounds: this is never in a walk, whose element it has.

use super::{Lowering, expression::VALUES, immediate};
use crate::{
    asm::JumpLabel,
    glob::{ACCEPTED, CLASSES, DEAD},
    insn::{Alu, Cond, FP, Helper, Insn, R0, R1, R2, R3, R4, R5, R8, R9, Size},
    layout::{CGROUPS, DropReason, PATTERNS},
    program::map_named,
    typed::{CgroupTest, Typed},
};

/// Most cgroups that are climbed from one to the one of which the pattern tells, on kernels that do not know it by its level.
const MOST_CLIMBED: i32 = 64;
/// Bytes of a name that are read at a time, the NUL included.
const PIECE: u32 = 64;
/// Longest name of a directory, bytes.
const LONGEST_NAME: usize = 255;

/// Where a program looks at a cgroup: slots, and where it goes on.
struct CgroupWalk<'t> {
    test: &'t CgroupTest,
    /// Number of the pattern.
    number: u32,
    /// Slot of the address of the cgroup that is looked at.
    cgroup: i16,
    /// Slot of the address of its name, or of the rest of it.
    name: i16,
    /// Slot of its level, and later of the automaton's state.
    state: i16,
    /// Bytes of the name.
    piece: i16,
    /// It does not match.
    no: JumpLabel,
    /// Memory could not be read.
    failed: JumpLabel,
}

impl Lowering<'_> {
    /// Computes 1 or 0 into the register of that depth.
    pub(super) fn cgroup_matches(&mut self, test: &CgroupTest, depth: usize) {
        let dst = VALUES[depth];
        if let Some((_, slot)) = self.cgroup_tests.iter().find(|(known, _)| known == test) {
            let slot = *slot;
            return self.load_slot(dst, slot);
        }
        let used = self.stack.used;
        let [no, failed, miss, deep, end] = [(); 5].map(|()| self.asm.label());
        let key = self.stack.take(16);
        let answer = self.stack.take(8);
        let [cgroup, name, state] = [(); 3].map(|()| self.stack.take(8));
        let piece = self.stack.take(PIECE);
        let number = self.layout.cgroups.number(&test.pattern);
        let number = number.expect("the layout has the patterns of all events");
        let walk = CgroupWalk { test, number, cgroup, name, state, piece, no, failed };
        self.asm.comment(format!("cgroup {}", test.pattern.text()));
        self.eval(&test.key, depth);
        self.asm.jump_if(Cond::Eq, dst, 0, end);
        self.store_slot(key, dst);
        self.asm.push(Insn::StoreImm(Size::DW, FP, key + 8, immediate(number)));
        self.lookup(map_named(self.layout, CGROUPS), key);
        self.asm.jump_if(Cond::Eq, R0, 0, miss);
        self.asm.push(Insn::Load(Size::DW, dst, R0, 0));
        self.asm.jump(end);
        self.asm.place(miss);
        self.asm.comment("a cgroup that was not met before: its names");
        self.eval(&test.cgroup, depth);
        self.asm.jump_if(Cond::Eq, dst, 0, end);
        self.store_slot(cgroup, dst);
        self.asm.push(Insn::StoreImm(Size::DW, FP, answer, 0));
        self.compare_names(&walk, deep);
        self.asm.push(Insn::StoreImm(Size::DW, FP, answer, 1));
        self.asm.place(no);
        // Where there is no room, it is computed again each time.
        self.asm.push(Insn::Map(R1, map_named(self.layout, CGROUPS)));
        self.stack_address(R2, key);
        self.stack_address(R3, answer);
        self.mov(R4, 0);
        self.call(Helper::MapUpdate);
        self.load_slot(dst, answer);
        self.asm.jump(end);
        self.asm.place(deep);
        self.drop_event(DropReason::EachLimit);
        self.mov(dst, 0);
        self.asm.jump(end);
        self.asm.place(failed);
        self.count_one_fault();
        self.mov(dst, 0);
        self.asm.place(end);
        self.stack.used = used;
    }

    /// Computes all answers that a loop needs, before it: the verifier would follow them in each round.
    pub(super) fn cgroups_ahead(&mut self) {
        let event = self.event;
        for test in event.cgroup_tests() {
            self.prepare([&test.key, &test.cgroup] as [&Typed; 2]);
            self.tidied(|this| this.cgroup_matches(test, 0));
            self.alu(Alu::Add, R1, R9);
            let slot = self.stack.take(8);
            self.store_slot(slot, R1);
            self.cgroup_tests.push((test.clone(), slot));
            // Nor does it matter on which way something could not be read.
            if let Some(faults) = self.faults {
                self.load_slot(R1, faults);
                self.alu(Alu::Add, R1, R9);
                self.store_slot(faults, R1);
            }
        }
    }

    /// Compares the names of the path with the pattern, jumps to `no` where one does not match and to `deep` where there are too
    /// many above it.
    fn compare_names(&mut self, walk: &CgroupWalk<'_>, deep: JumpLabel) {
        let CgroupWalk { test, cgroup, state, no, .. } = *walk;
        let offsets = test.offsets;
        let depth = test.pattern.depth();
        let level = i32::try_from(depth).expect("a pattern has at most 16 names");
        self.asm.push(Insn::StoreImm(Size::DW, FP, state, 0));
        self.follow(walk, (cgroup, offsets.level, 4), state);
        self.load_slot(R1, state);
        self.asm.jump_if(Cond::Lt, R1, level, no);
        if let Some(ancestors) = offsets.ancestors {
            for index in 0..depth {
                let place = u32::try_from(8 * (index + 1)).expect("a pattern has at most 16 names");
                self.follow(walk, (cgroup, ancestors + place, 8), walk.name);
                self.compare_name(walk, index);
            }
            return;
        }
        // The rounds are counted in a register: the verifier of 5.10 takes it for a loop without an end where no register changes.
        let (again, reached) = (self.asm.label(), self.asm.label());
        self.mov(R8, 0);
        self.asm.place(again);
        self.load_slot(R1, state);
        self.asm.jump_if(Cond::Le, R1, level, reached);
        self.asm.jump_if(Cond::Ge, R8, MOST_CLIMBED, deep);
        self.alu(Alu::Add, R8, 1);
        self.alu(Alu::Sub, R1, 1);
        self.store_slot(state, R1);
        self.climb(walk);
        self.asm.jump(again);
        self.asm.place(reached);
        for index in (0..depth).rev() {
            self.load_slot(R1, cgroup);
            self.store_slot(walk.name, R1);
            self.compare_name(walk, index);
            if index > 0 {
                self.climb(walk);
            }
        }
    }

    /// From a cgroup to the one above it.
    fn climb(&mut self, walk: &CgroupWalk<'_>) {
        let offsets = walk.test.offsets;
        self.follow(walk, (walk.cgroup, offsets.parent, 8), walk.cgroup);
        self.follow(walk, (walk.cgroup, offsets.cgroup, 8), walk.cgroup);
    }

    /// Reads what stands at an offset from the address in a slot, into another slot; jumps to `failed` if it cannot be read.
    fn follow(&mut self, walk: &CgroupWalk<'_>, (from, offset, size): (i16, u32, u32), to: i16) {
        self.stack_address(R1, to);
        self.mov(R2, immediate(size));
        self.load_slot(R3, from);
        self.alu(Alu::Add, R3, immediate(offset));
        self.call(Helper::ReadKernel);
        self.asm.jump_if(Cond::Ne, R0, 0, walk.failed);
    }

    /// Compares a name of the pattern with that of the cgroup whose address is in the slot of the name; jumps to `no` unless it
    /// matches.
    fn compare_name(&mut self, walk: &CgroupWalk<'_>, index: usize) {
        let CgroupWalk { test, number, name, state, piece, no, failed, .. } = *walk;
        let automaton = test.pattern.automaton();
        self.follow(walk, (name, test.offsets.node, 8), name);
        self.follow(walk, (name, test.offsets.name, 8), name);
        let bytes = PIECE - 1;
        let longest = test.pattern.longest(index).unwrap_or(LONGEST_NAME).min(LONGEST_NAME);
        let longest = u32::try_from(longest).expect("a name has at most 255 bytes");
        let over = self.asm.label();
        for piece_number in 0..(longest + 1).div_ceil(bytes) {
            if piece_number > 0 {
                self.store_slot(state, R2);
                self.load_slot(R1, name);
                self.alu(Alu::Add, R1, immediate(bytes));
                self.store_slot(name, R1);
            }
            self.stack_address(R1, piece);
            self.mov(R2, immediate(PIECE));
            self.load_slot(R3, name);
            self.call(Helper::ReadKernelStr);
            self.asm.jump_if(Cond::Slt, R0, 0, failed);
            let key = self.index_key(number);
            self.lookup(map_named(self.layout, PATTERNS), key);
            self.asm.jump_if(Cond::Eq, R0, 0, no);
            self.mov(R4, R0);
            if piece_number == 0 {
                self.mov(R2, i32::from(automaton.starts[index]));
            } else {
                self.load_slot(R2, state);
                self.alu(Alu::And, R2, mask(automaton.row_bits));
            }
            self.stack_address(R3, piece);
            self.mov(R0, 0);
            let again = self.asm.label();
            self.asm.place(again);
            self.asm.push(Insn::Load(Size::B, R1, R3, 0));
            self.mov(R5, R4);
            self.alu(Alu::Add, R5, R1);
            self.asm.push(Insn::Load(Size::B, R5, R5, 0));
            self.alu(Alu::And, R5, mask(automaton.class_bits));
            self.alu(Alu::Lsh, R2, immediate(automaton.class_bits));
            self.alu(Alu::Add, R2, R5);
            self.alu(Alu::Lsh, R2, 1);
            self.mov(R5, R4);
            self.alu(Alu::Add, R5, R2);
            let rows = i16::try_from(CLASSES).expect("it is 256");
            self.asm.push(Insn::Load(Size::H, R2, R5, rows));
            self.alu(Alu::And, R2, mask(automaton.row_bits));
            self.asm.jump_if(Cond::Eq, R1, 0, over);
            self.asm.jump_if(Cond::Eq, R2, i32::from(DEAD), no);
            self.alu(Alu::Add, R3, 1);
            self.alu(Alu::Add, R0, 1);
            self.asm.jump_if(Cond::Lt, R0, immediate(bytes), again);
        }
        self.asm.jump(no);
        self.asm.place(over);
        self.asm.jump_if(Cond::Ne, R2, i32::from(ACCEPTED), no);
    }
}

/// The mask of numbers of so many bits.
fn mask(bits: u32) -> i32 {
    immediate((1 << bits) - 1)
}
