//! Writes texts and bytes to the stack, padded with zeros.

use super::{CONTEXT, Lowering, immediate, offset};
use crate::{
    insn::{Alu, Cond, FP, Helper, Insn, R0, R1, R2, R3, R4, Size},
    typed::{AccessMode, Type, Typed, TypedKind},
};

/// Most bytes that a string helper copies here in one call; longer texts are refused before.
pub(super) const WORD: u32 = 8;

impl Lowering<'_> {
    /// Writes at `slot` a text of at most `room` bytes, with its NUL, or bytes; zeros follow both. No value may be in `r1` to
    /// `r4`.
    pub(super) fn text(&mut self, typed: &Typed, slot: i16, room: u32) {
        match &typed.kind {
            TypedKind::Text(bytes) => {
                for word in 0..room / WORD {
                    let start = usize::try_from(word * WORD).expect("a text has few bytes");
                    let mut chunk = [0; 8];
                    for (byte, from) in chunk.iter_mut().zip(bytes.iter().skip(start)) {
                        *byte = *from;
                    }
                    self.store_word(slot, word, u64::from_le_bytes(chunk));
                }
            }
            TypedKind::Comm => {
                let size = room.min(16);
                // Linux 6.0 and 6.1 write nothing behind the name's end.
                self.zero(slot, 0, room);
                self.stack_address(R1, slot);
                self.mov(R2, immediate(size));
                self.call(Helper::Comm);
            }
            TypedKind::TextAt { base, offset, access, limit } => {
                self.zero(slot, 0, room);
                self.eval(base, 0);
                let end = self.asm.label();
                self.asm.jump_if(Cond::Eq, R1, 0, end);
                self.read(
                    slot,
                    (*limit).min(room),
                    *offset,
                    *access,
                    (Helper::ReadKernelStr, Helper::ReadUserStr),
                );
                self.asm.place(end);
            }
            TypedKind::BytesAt { base, offset, access, size } => {
                self.zero(slot, 0, room);
                self.eval(base, 0);
                let end = self.asm.label();
                if !matches!(base.kind, TypedKind::Context) {
                    self.asm.jump_if(Cond::Eq, R1, 0, end);
                }
                self.read(slot, (*size).min(room), *offset, *access, (Helper::ReadKernel, Helper::ReadUser));
                self.asm.place(end);
            }
            TypedKind::WordsBetween { start, end, limit } => {
                self.words_between(start, end, (*limit).min(room), slot, room);
            }
            TypedKind::WordsOf { list, access, limit } => {
                self.words_of(list, *access, (*limit).min(room), slot, room);
            }
            TypedKind::Numbers(words) => {
                self.zero(slot, 0, room);
                for (place, word) in (0..room / WORD).zip(words) {
                    self.eval(word, 0);
                    self.store_slot(slot + offset(place * WORD), R1);
                }
            }
            TypedKind::MappedAt { base, access } => {
                self.zero(slot, 0, room);
                self.eval(base, 0);
                let end = self.asm.label();
                self.asm.jump_if(Cond::Eq, R1, 0, end);
                // Ten zeros, two bytes of ones, then the four of the address.
                self.store_word(slot, 1, 0xffff_0000);
                self.read(slot + 12, 4, 0, *access, (Helper::ReadKernel, Helper::ReadUser));
                self.asm.place(end);
            }
            TypedKind::TextField { offset: place, size } => {
                self.zero(slot, 0, room);
                self.mov(R1, CONTEXT);
                self.read(
                    slot,
                    (*size).min(room),
                    immediate(*place),
                    AccessMode::Kernel,
                    (Helper::ReadKernelStr, Helper::ReadUserStr),
                );
            }
            TypedKind::TextLocated { offset: place, relative } => {
                self.zero(slot, 0, room);
                self.asm.push(Insn::Load(Size::W, R3, CONTEXT, offset(*place)));
                // The low half is the offset, the high one the length.
                self.alu(Alu::And, R3, 0xffff);
                self.mov(R1, CONTEXT);
                self.alu(Alu::Add, R1, R3);
                let behind = if *relative { immediate(*place + 4) } else { 0 };
                // The room may be that of a longer text that this one shares a place with.
                let Type::Text { capacity } = typed.ty else { return };
                self.read(
                    slot,
                    capacity.min(room),
                    behind,
                    AccessMode::Kernel,
                    (Helper::ReadKernelStr, Helper::ReadUserStr),
                );
            }
            TypedKind::Path(read) => self.path(read, slot, room),
            TypedKind::Cut { text, most } => {
                self.text(text, slot, room);
                self.cut(slot, *most, room);
            }
            TypedKind::Conditional(condition, then, otherwise) => {
                let (no, end) = (self.asm.label(), self.asm.label());
                self.branch(condition, false, no, 0);
                self.text(then, slot, room);
                self.asm.jump(end);
                self.asm.place(no);
                self.text(otherwise, slot, room);
                self.asm.place(end);
            }
            TypedKind::Let(index) => {
                let from = self.lets.slot(*index);
                self.copy(from, slot, &typed.ty, room);
            }
            TypedKind::Saved(index) => {
                let from = self.saved[*index];
                self.copy(from, slot, &typed.ty, room);
            }
            TypedKind::State { state, key } => self.copy_state(*state, key, slot, room),
            // Numbers are never asked for as a text: the checker refuses them.
            _ => self.zero(slot, 0, room),
        }
    }

    /// `r3` = 1 if the text has these bytes in it, else 0; clobbers `r0` to `r5`. Each place is compared without a jump, so
    /// that the verifier follows one path, however long the text is.
    pub(super) fn contains(&mut self, text: &Typed, sought: &[u8]) {
        let Type::Text { capacity } = text.ty else {
            unreachable!("only texts are searched: this is a bug in tapster")
        };
        let used = self.stack.used;
        let slot = self.stack.take(capacity);
        self.text(text, slot, capacity);
        self.hide_text(slot, capacity, text);
        let length = u32::try_from(sought.len()).expect("a text has few bytes");
        let chunks: Vec<(u32, u32, u64)> = sought
            .chunks(8)
            .zip(0..)
            .map(|(chunk, index)| {
                let value = chunk.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
                (index * WORD, u32::try_from(chunk.len()).expect("a chunk has at most 8 bytes"), value)
            })
            .collect();
        // Its highest bit stays as long as every place differs.
        self.mov(R3, -1);
        if let [(_, _, value)] = chunks.as_slice() {
            self.constant(R4, *value);
        }
        // The last byte of the room is a NUL.
        for place in 0..capacity.saturating_sub(length) {
            for (behind, size, value) in &chunks {
                self.window(slot, place + behind, *size);
                if chunks.len() > 1 {
                    self.constant(R4, *value);
                }
                self.alu(Alu::Xor, R1, R4);
                if *behind == 0 {
                    self.mov(R0, R1);
                } else {
                    self.alu(Alu::Or, R0, R1);
                }
            }
            // The highest bit of `x | -x` is that of any number but 0.
            self.mov(R1, R0);
            self.alu(Alu::Neg, R1, 0);
            self.alu(Alu::Or, R0, R1);
            self.alu(Alu::And, R3, R0);
        }
        self.alu(Alu::Rsh, R3, 63);
        self.alu(Alu::Xor, R3, 1);
        self.stack.used = used;
    }

    /// `r1` = up to eight bytes of the stack from `at` bytes after `slot` on; clobbers `r2`. The verifier takes only whole words
    /// at their places.
    fn window(&mut self, slot: i16, at: u32, size: u32) {
        let (word, before) = (at / WORD, at % WORD);
        self.load_slot(R1, slot + offset(word * WORD));
        let behind = (before + size).saturating_sub(WORD);
        let bits = |bytes: u32| immediate(bytes * 8);
        if behind == 0 {
            let above = WORD - before - size;
            if above > 0 {
                self.alu(Alu::Lsh, R1, bits(above));
            }
            if size < WORD {
                self.alu(Alu::Rsh, R1, bits(WORD - size));
            }
            return;
        }
        self.alu(Alu::Rsh, R1, bits(before));
        self.load_slot(R2, slot + offset((word + 1) * WORD));
        self.alu(Alu::Lsh, R2, bits(WORD - behind));
        if size < WORD {
            self.alu(Alu::Rsh, R2, bits(WORD - size));
        }
        self.alu(Alu::Or, R1, R2);
    }

    fn store_word(&mut self, slot: i16, word: u32, value: u64) {
        let place = slot + offset(word * WORD);
        if let Ok(small) = i32::try_from(value.cast_signed()) {
            self.asm.push(Insn::StoreImm(Size::DW, FP, place, small));
        } else {
            self.constant(R0, value);
            self.asm.push(Insn::Store(Size::DW, FP, place, R0));
        }
    }

    /// Writes zeros from `from` to `to`, bytes after `slot`.
    pub(super) fn zero(&mut self, slot: i16, from: u32, to: u32) {
        for word in from / WORD..to / WORD {
            self.store_word(slot, word, 0);
        }
    }

    /// Writes zeros from the byte `most` on.
    pub(super) fn cut(&mut self, slot: i16, most: u32, room: u32) {
        let (word, kept) = (most / WORD, most % WORD);
        if kept > 0 && most < room {
            let place = slot + offset(word * WORD);
            self.load_slot(R0, place);
            self.constant(R1, (1 << (kept * 8)) - 1);
            self.alu(Alu::And, R0, R1);
            self.store_slot(place, R0);
        }
        self.zero(slot, most.next_multiple_of(WORD), room);
    }

    fn copy(&mut self, from: i16, to: i16, ty: &Type, room: u32) {
        let size = if ty.is_wide() { ty.room().min(room) } else { 0 };
        for word in 0..size / WORD {
            let behind = offset(word * WORD);
            self.asm.push(Insn::Load(Size::DW, R0, FP, from + behind));
            self.asm.push(Insn::Store(Size::DW, FP, to + behind, R0));
        }
        self.zero(to, size, room);
    }
}
