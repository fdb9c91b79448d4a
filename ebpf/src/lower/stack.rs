//! Stacks: each is taken and kept under its hash, which is its number from then on.
//!
//! The kernel has a kind of maps for stacks (`BPF_MAP_TYPE_STACK_TRACE`), which keeps one stack for each bucket: of two
//! stacks with the same bucket one is not kept, however empty the map is. Here a stack is written into memory of the CPU,
//! hashed to 64 bits, and put into an ordinary hash map if it is new.

use super::{
    CONTEXT, Lowering,
    expression::VALUES,
    immediate, offset,
    update::{EXISTS, FULL, NOEXIST},
};
use crate::{
    asm::JumpLabel,
    insn::{Alu, Cond, Helper, Insn, R0, R1, R2, R3, R4, R5, Size},
    layout::{DropReason, STACK_HEADER, StackLayout, asked_frames},
    program::map_named,
    typed::{LOST_STACK, NO_STACK, Side, Typed},
};

/// `BPF_F_USER_STACK | BPF_F_USER_BUILD_ID`
const BY_BUILD_ID: i32 = 1 << 8 | 1 << 11;
/// `BPF_STACK_BUILD_ID_IP`: a frame whose file is unknown, with its address.
const STATUS_ADDRESS: i32 = 2;
/// Initial value of hashes. With 0, a stack of zeros would have the number that stands for no stack.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
/// An odd number without pattern (of `MurmurHash3`), sign-extended to 64 bits.
const FACTOR: i32 = 0x85eb_ca6b_u32.cast_signed();

impl Lowering<'_> {
    /// Puts a stack's number into the register of that depth.
    pub(super) fn stack(&mut self, side: Side, frames: u32, task: Option<&Typed>, depth: usize) {
        let dst = VALUES[depth];
        let Some(layout) = self.layout.stacks.iter().find(|stack| stack.side == side).copied() else {
            return self.constant(dst, NO_STACK);
        };
        let bytes = asked_frames(self.event.mechanism, side, frames).min(layout.frames) * side.frame_size();
        let used = self.stack.used;
        let (base, hash) = (self.stack.take(8), self.stack.take(8));
        let (none, busy, lost, done) =
            (self.asm.label(), self.asm.label(), self.asm.label(), self.asm.label());
        let owner = task.map(|task| {
            self.eval(task, depth);
            let slot = self.stack.take(8);
            self.store_slot(slot, dst);
            // What the verifier takes for a pointer that may be 0 is none after this.
            self.asm.jump_if(Cond::Eq, dst, 0, none);
            slot
        });
        self.asm.comment(format!("{}: into memory of this CPU, unless that is in use", side.name()));
        self.claim_scratch(layout.scratch(), base, none, busy);
        match owner {
            Some(slot) => self.load_slot(R1, slot),
            None => self.mov(R1, CONTEXT),
        }
        self.load_slot(R2, base);
        self.alu(Alu::Add, R2, 8 + header());
        self.mov(R3, immediate(bytes));
        self.mov(R4, if side == Side::User { BY_BUILD_ID } else { 0 });
        self.call(if task.is_some() { Helper::GetTaskStack } else { Helper::GetStack });
        let (taken, empty) = (self.asm.label(), self.asm.label());
        self.load_slot(R2, base);
        self.asm.jump_if(Cond::Sle, R0, 0, empty);
        self.asm.jump_if(Cond::Le, R0, immediate(bytes), taken);
        self.asm.place(empty);
        self.asm.push(Insn::StoreImm(Size::DW, R2, 0, 0));
        self.asm.place(none);
        self.constant(dst, NO_STACK);
        self.asm.jump(done);
        self.asm.place(taken);
        self.hash(side, base, hash);
        self.keep(&layout, base, hash, lost);
        self.load_slot(dst, hash);
        self.asm.jump(done);
        self.asm.place(busy);
        self.drop_event(DropReason::Busy);
        self.asm.place(lost);
        self.constant(dst, LOST_STACK);
        self.asm.place(done);
        self.stack.used = used;
    }

    /// Reserves this CPU's memory in an array, and stores its address in the slot.
    pub(super) fn claim_scratch(&mut self, map: &str, base: i16, none: JumpLabel, busy: JumpLabel) {
        let key = self.index_key(0);
        self.lookup(map_named(self.layout, map), key);
        self.asm.jump_if(Cond::Eq, R0, 0, none);
        self.store_slot(base, R0);
        if self.host.exchanges() {
            self.mov(R1, 1);
            self.asm.push(Insn::Exchange(R0, 0, R1));
        } else {
            self.asm.push(Insn::Load(Size::DW, R1, R0, 0));
        }
        self.asm.jump_if(Cond::Ne, R1, 0, busy);
        if !self.host.exchanges() {
            // Who comes in between is an interrupt, which is done before this goes on.
            self.asm.push(Insn::StoreImm(Size::DW, R0, 0, 1));
        }
    }

    /// Hashes `r0` bytes of frames after `r2` into the slot, and writes the header.
    fn hash(&mut self, side: Side, base: i16, hash: i16) {
        self.asm.comment("header: bytes of the frames");
        self.mov(R1, R0);
        self.mov(R5, R0);
        self.alu(Alu::Lsh, R5, 32);
        self.asm.push(Insn::Store(Size::DW, R2, 8, R5));
        self.asm.comment("r3 = hash of the frames");
        self.alu(Alu::Add, R2, 8 + header());
        self.constant(R3, SEED);
        self.mov(R4, 0);
        // What frames are known by, together.
        self.mov(R0, 0);
        let again = self.asm.label();
        self.asm.place(again);
        let words = offset(side.frame_size() / 8);
        for word in 0..words {
            self.asm.push(Insn::Load(Size::DW, R5, R2, word * 8));
            if side == Side::User && word == 0 {
                self.alu(Alu::Or, R0, R5);
            }
            self.mix();
        }
        let size = immediate(side.frame_size());
        self.alu(Alu::Add, R2, size);
        self.alu(Alu::Add, R4, size);
        self.asm.jump_if(Cond::Gt, R1, R4, again);
        if side == Side::User {
            let known = self.asm.label();
            self.asm.comment("addresses mean something in one process only");
            self.alu(Alu::And, R0, STATUS_ADDRESS);
            self.asm.jump_if(Cond::Eq, R0, 0, known);
            self.store_slot(hash, R3);
            self.call(Helper::PidTgid);
            self.alu(Alu::Rsh, R0, 32);
            self.load_slot(R2, base);
            self.asm.push(Insn::Load(Size::DW, R1, R2, 8));
            self.alu(Alu::Or, R1, R0);
            self.asm.push(Insn::Store(Size::DW, R2, 8, R1));
            self.load_slot(R3, hash);
            self.mov(R5, R0);
            self.mix();
            self.asm.place(known);
        }
        // Beyond the numbers that stand for no stack.
        self.alu(Alu::Or, R3, 2);
        self.store_slot(hash, R3);
    }

    /// Mixes `r5` into the hash in `r3`.
    fn mix(&mut self) {
        self.alu(Alu::Xor, R3, R5);
        self.alu(Alu::Mul, R3, FACTOR);
        self.mov(R5, R3);
        self.alu(Alu::Rsh, R5, 29);
        self.alu(Alu::Xor, R3, R5);
    }

    /// Inserts the stack in this CPU's memory under its hash, and releases the memory.
    fn keep(&mut self, layout: &StackLayout, base: i16, hash: i16, lost: JumpLabel) {
        let stacks = map_named(self.layout, layout.map());
        let (kept, full) = (self.asm.label(), self.asm.label());
        self.asm.comment("stacks[hash] = stack, where it is new");
        self.lookup(stacks, hash);
        self.mov(R1, R0);
        self.mov(R0, 0);
        self.asm.jump_if(Cond::Ne, R1, 0, kept);
        self.asm.push(Insn::Map(R1, stacks));
        self.stack_address(R2, hash);
        self.load_slot(R3, base);
        self.alu(Alu::Add, R3, 8);
        self.mov(R4, NOEXIST);
        self.call(Helper::MapUpdate);
        self.asm.place(kept);
        self.load_slot(R2, base);
        self.asm.push(Insn::StoreImm(Size::DW, R2, 0, 0));
        let there = self.asm.label();
        self.asm.jump_if(Cond::Eq, R0, 0, there);
        self.widen_error(R0);
        // Another CPU inserted the same stack first.
        self.asm.jump_if(Cond::Eq, R0, EXISTS, there);
        self.asm.jump_if(Cond::Eq, R0, FULL, full);
        self.drop_event(DropReason::Busy);
        self.asm.jump(lost);
        self.asm.place(full);
        self.drop_event(DropReason::Stack);
        self.asm.jump(lost);
        self.asm.place(there);
    }
}

/// Size of the header of a value, bytes.
fn header() -> i32 {
    immediate(STACK_HEADER)
}
