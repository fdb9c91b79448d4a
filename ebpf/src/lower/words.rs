//! Texts that are joined by blanks: the words that a program was started with.
//!
//! They are read with the NULs between them, and each NUL becomes a blank: eight bytes at a time, without a jump.

use super::{Lowering, immediate, offset, text::WORD};
use crate::{
    insn::{Alu, Cond, FP, Helper, Insn, R0, R1, R2, R3, R4, Size},
    typed::{AccessMode, MOST_WORDS, Typed},
};

/// The highest bit of each byte is 0.
const LOW_BITS: u64 = 0x7f7f_7f7f_7f7f_7f7f;

impl Lowering<'_> {
    /// Writes at `slot` the texts from `start` to `end`, at most `limit` bytes with the closing NUL; zeros follow up to `room`.
    /// They are in a program's memory.
    pub(super) fn words_between(&mut self, start: &Typed, end: &Typed, limit: u32, slot: i16, room: u32) {
        let used = self.stack.used;
        let (from, length) = (self.stack.take(8), self.stack.take(8));
        let done = self.asm.label();
        self.zero(slot, 0, room);
        self.eval(start, 0);
        self.store_slot(from, R1);
        self.eval(end, 0);
        self.load_slot(R3, from);
        self.asm.jump_if(Cond::Eq, R3, 0, done);
        self.alu(Alu::Sub, R1, R3);
        self.asm.jump_if(Cond::Eq, R1, 0, done);
        self.bounded(length, limit);
        self.asm.jump_if(Cond::Eq, R1, 0, done);
        self.mov(R2, R1);
        self.stack_address(R1, slot);
        self.call(Helper::ReadUser);
        self.keep_result(from);
        self.asm.jump_if(Cond::Ne, R0, 0, done);
        self.blanks(slot, length, limit);
        self.asm.place(done);
        self.stack.used = used;
    }

    /// Writes at `slot` the texts whose addresses stand at `list`, at most `limit` bytes with the closing NUL; zeros follow up
    /// to `room`. The first that cannot be read is the end.
    pub(super) fn words_of(&mut self, list: &Typed, access: AccessMode, limit: u32, slot: i16, room: u32) {
        let used = self.stack.used;
        // A word begins within the limit and has as many bytes itself.
        let buffer = self.stack.take(2 * limit);
        let (base, word, length) = (self.stack.take(8), self.stack.take(8), self.stack.take(8));
        let (read, done) = (self.asm.label(), self.asm.label());
        self.zero(slot, 0, room);
        self.zero(buffer, 0, (2 * limit).next_multiple_of(WORD));
        self.eval(list, 0);
        self.asm.jump_if(Cond::Eq, R1, 0, done);
        self.store_slot(base, R1);
        self.asm.push(Insn::StoreImm(Size::DW, FP, length, 0));
        for index in 0..MOST_WORDS {
            self.load_slot(R1, base);
            self.read(word, 8, immediate(index * 8), access, (Helper::ReadKernel, Helper::ReadUser));
            self.load_slot(R3, word);
            self.asm.jump_if(Cond::Eq, R3, 0, read);
            self.load_slot(R4, length);
            self.asm.jump_if(Cond::Gt, R4, immediate(limit - 1), read);
            self.stack_address(R1, buffer);
            self.alu(Alu::Add, R1, R4);
            self.mov(R2, immediate(limit));
            // Wherever the array is, what it points to is told by each address.
            self.fetch(AccessMode::Auto, (Helper::ReadKernelStr, Helper::ReadUserStr));
            self.keep_result(word);
            self.asm.jump_if(Cond::Slt, R0, 0, read);
            // Before Linux 6.2 the length of an empty text of a program is 0, and not that of its NUL. Without a jump, of which the
            // verifier would follow both ways to each of the words behind.
            self.mov(R1, R0);
            self.alu(Alu::Sub, R1, 1);
            self.alu(Alu::Rsh, R1, 63);
            self.alu(Alu::Add, R0, R1);
            self.load_slot(R1, length);
            self.alu(Alu::Add, R1, R0);
            self.store_slot(length, R1);
        }
        self.asm.place(read);
        // Through memory, where the verifier forgets by which word it came here.
        self.stack_address(R1, word);
        self.mov(R2, 8);
        self.stack_address(R3, length);
        self.call(Helper::ReadKernel);
        self.load_slot(R1, word);
        self.asm.jump_if(Cond::Eq, R1, 0, done);
        self.bounded(length, limit);
        for index in 0..limit.div_ceil(WORD) {
            let behind = offset(index * WORD);
            self.load_slot(R1, buffer + behind);
            self.store_slot(slot + behind, R1);
        }
        self.cut(slot, limit - 1, room);
        self.blanks(slot, length, limit);
        self.asm.place(done);
        self.stack.used = used;
    }

    /// Counts a fault if `r0` is an error, and leaves it in `r0`. It is counted before there is a condition: where the verifier knew
    /// of a count that it is not 0, it would follow all that is behind once more.
    fn keep_result(&mut self, slot: i16) {
        self.store_slot(slot, R0);
        self.count_fault();
        self.load_slot(R0, slot);
    }

    /// Stores in `length` how many bytes the result of `r1` bytes has, of which the last is a NUL; leaves it in `r1`.
    fn bounded(&mut self, length: i16, limit: u32) {
        let fits = self.asm.label();
        self.alu(Alu::Sub, R1, 1);
        self.asm.jump_if(Cond::Le, R1, immediate(limit - 1), fits);
        self.mov(R1, immediate(limit - 1));
        self.asm.place(fits);
        self.store_slot(length, R1);
    }

    /// Makes a blank of each NUL among the first bytes at `slot`, as many as the slot `length` says: less than `limit`.
    fn blanks(&mut self, slot: i16, length: i16, limit: u32) {
        let end = self.asm.label();
        self.constant(R3, LOW_BITS);
        for index in 0..limit.div_ceil(WORD) {
            let (place, whole) = (slot + offset(index * WORD), self.asm.label());
            self.load_slot(R1, place);
            // The highest bit of a byte of `((w & LOW) + LOW) | w | LOW` is 0 where that byte of `w` is; no sum reaches the next.
            self.mov(R0, R1);
            self.alu(Alu::And, R0, R3);
            self.alu(Alu::Add, R0, R3);
            self.alu(Alu::Or, R0, R1);
            self.alu(Alu::Or, R0, R3);
            self.alu(Alu::Xor, R0, -1);
            // From 0x80 to a blank, 0x20.
            self.alu(Alu::Rsh, R0, 2);
            self.load_slot(R2, length);
            self.asm.jump_if(Cond::Ge, R2, immediate((index + 1) * WORD), whole);
            // Of the last word the bytes before the end.
            self.alu(Alu::Sub, R2, immediate(index * WORD));
            self.alu(Alu::Lsh, R2, 3);
            self.mov(R4, 1);
            self.alu(Alu::Lsh, R4, R2);
            self.alu(Alu::Sub, R4, 1);
            self.alu(Alu::And, R0, R4);
            self.alu(Alu::Or, R1, R0);
            self.store_slot(place, R1);
            self.asm.jump(end);
            self.asm.place(whole);
            self.alu(Alu::Or, R1, R0);
            self.store_slot(place, R1);
        }
        self.asm.place(end);
    }
}
