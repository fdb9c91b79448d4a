//! Instructions that change a row, for the kinds of metrics. The value is in `r1`, the row in `r7`; `r2` to `r5` are free.
//!
//! Instructions for buckets avoid jumps where possible: each jump would double the paths that the verifier follows, and in a
//! loop it follows them in every round.

use crate::{
    asm::{Assembler, JumpLabel, immediate, offset},
    histogram::{Buckets, Exponential},
    insn::{Alu, Cond, Insn, R1, R2, R3, R4, R5, R7, Reg, Size},
};

/// Most bounds that are all compared, without jumps; a larger number is searched by halving.
const COMPARED: usize = 48;

/// The row that a program changes.
pub(crate) struct RowWriter<'a> {
    /// The program that is being written.
    pub(crate) asm: &'a mut Assembler,
    /// Whether nothing else writes to the row before the program ends.
    pub(crate) is_alone: bool,
    /// Stack offset of the time that was read at the beginning of the program, if it was.
    pub(crate) now: Option<i16>,
}

impl RowWriter<'_> {
    /// Stack offset of the time that was read at the beginning of the program.
    pub(crate) fn time(&self) -> i16 {
        self.now.expect("programs read the clock first where they note when a value was set")
    }

    /// Adds `value` to a word of the row; changes `r5`.
    pub(crate) fn add(&mut self, row: Reg, offset: i16, value: Reg) {
        if !self.is_alone {
            self.asm.push(Insn::AtomicAdd(Size::DW, row, offset, value));
            return;
        }
        self.asm.push(Insn::Load(Size::DW, R5, row, offset));
        self.asm.alu(Alu::Add, R5, value);
        self.asm.push(Insn::Store(Size::DW, row, offset, R5));
    }

    /// Adds 1 to the bucket of `r1`; the first is at `base` in the row.
    pub(crate) fn bucket(&mut self, buckets: &Buckets, base: i16, signed: bool, done: JumpLabel) {
        let last = buckets.slots() - 1;
        let (lowest, above) = (self.asm.label(), self.asm.label());
        match buckets {
            Buckets::Exponential { thresholds, .. } => self.exponential(thresholds, signed, lowest, above),
            Buckets::Explicit { raw, .. } => self.explicit(raw, signed, lowest, above),
            Buckets::Linear { start, width, count } => {
                self.linear(*start, *width, *count, signed, lowest, above);
            }
        }
        self.asm.comment("bucket number in r3; the test is for the verifier");
        self.asm.jump_if(Cond::Gt, R3, immediate(last), done);
        self.asm.alu(Alu::Lsh, R3, 3);
        self.asm.mov(R4, R7);
        self.asm.alu(Alu::Add, R4, R3);
        self.asm.mov(R2, 1);
        self.add(R4, base, R2);
        self.asm.jump(done);
        for (label, slot) in [(lowest, 0), (above, last)] {
            self.asm.place(label);
            self.asm.mov(R2, 1);
            self.add(R7, base + offset(slot * 8), R2);
            self.asm.jump(done);
        }
    }

    /// Jumps if `r1` compares so with a 64-bit constant.
    fn jump_if_constant(&mut self, cond: Cond, value: u64, to: JumpLabel) {
        if let Ok(small) = i32::try_from(value.cast_signed()) {
            self.asm.jump_if(cond, R1, small, to);
        } else {
            self.asm.push(Insn::Imm64(R2, value));
            self.asm.jump_if(cond, R1, R2, to);
        }
    }

    /// `r3 += 1` if `limit` is less than `value`, both within ±2^62.
    fn add_if_above(&mut self, limit: u64, value: Reg) {
        self.asm.constant(R4, limit);
        self.asm.alu(Alu::Sub, R4, value);
        self.asm.alu(Alu::Rsh, R4, 63);
        self.asm.alu(Alu::Add, R3, R4);
    }

    fn exponential(&mut self, scheme: &Exponential, signed: bool, lowest: JumpLabel, above: JumpLabel) {
        if signed {
            self.asm.jump_if(Cond::Slt, R1, 0, lowest);
        }
        self.jump_if_constant(Cond::Le, scheme.lowest, lowest);
        self.jump_if_constant(Cond::Gt, scheme.highest, above);
        // What is left lies between these powers of two.
        let top = scheme.highest.ilog2();
        let bottom = (scheme.lowest + 1).ilog2();
        self.asm.comment("r2 = value scaled to [2^62, 2^63), r3 = its power of two");
        self.asm.mov(R2, R1);
        self.asm.alu(Alu::Lsh, R2, immediate(62 - top));
        self.asm.mov(R3, immediate(top));
        // Steps of … 4, 2, 1 that add up to the largest shift there can be.
        let steps = immediate(32 - (top - bottom).leading_zeros());
        for log in (0..steps).rev() {
            let step = 1 << log;
            // r4 = 1 if the upper `step` bits are zero; then shift by `step`.
            self.asm.mov(R4, R2);
            self.asm.alu(Alu::Rsh, R4, 63 - step);
            self.asm.alu(Alu::Add, R4, -1);
            self.asm.alu(Alu::Rsh, R4, 63);
            if log > 0 {
                self.asm.alu(Alu::Lsh, R4, log);
            }
            self.asm.alu(Alu::Lsh, R2, R4);
            self.asm.alu(Alu::Sub, R3, R4);
        }
        if scheme.schema > 0 {
            self.asm.alu(Alu::Lsh, R3, i32::from(scheme.schema));
        }
        self.asm.alu(Alu::Add, R3, scheme.first - scheme.min_index);
        for threshold in &scheme.thresholds {
            self.add_if_above(*threshold, R2);
        }
    }

    fn explicit(&mut self, raw: &[i64], signed: bool, lowest: JumpLabel, above: JumpLabel) {
        if !signed {
            // 2^63 and more look negative, and are above every bound.
            self.asm.jump_if(Cond::Slt, R1, 0, above);
        }
        let (Some(first), Some(last)) = (raw.first(), raw.last()) else { return };
        self.jump_if_constant(Cond::Sle, first.cast_unsigned(), lowest);
        self.jump_if_constant(Cond::Sgt, last.cast_unsigned(), above);
        // The value is above bound 0 and not above the last one.
        let inner = raw.get(1..raw.len() - 1).unwrap_or(&[]);
        if inner.len() <= COMPARED {
            self.asm.mov(R3, 1);
            for bound in inner {
                self.add_if_above(bound.cast_unsigned(), R1);
            }
        } else {
            let found = self.asm.label();
            self.search(inner, 1, found);
            self.asm.place(found);
        }
    }

    /// `r3` = `base` + number of bounds below the value, found by halving.
    fn search(&mut self, bounds: &[i64], base: i32, found: JumpLabel) {
        let middle = bounds.len() / 2;
        let Some(bound) = bounds.get(middle) else {
            self.asm.mov(R3, base);
            self.asm.jump(found);
            return;
        };
        let upper = self.asm.label();
        self.asm.constant(R5, bound.cast_unsigned());
        self.asm.jump_if(Cond::Sgt, R1, R5, upper);
        self.search(&bounds[..middle], base, found);
        self.asm.place(upper);
        self.search(
            &bounds[middle + 1..],
            base + i32::try_from(middle).expect("a histogram has at most 512 bounds") + 1,
            found,
        );
    }

    fn linear(
        &mut self,
        start: i64,
        width: u64,
        count: u16,
        signed: bool,
        lowest: JumpLabel,
        above: JumpLabel,
    ) {
        if !signed {
            self.asm.jump_if(Cond::Slt, R1, 0, above);
        }
        let span = i64::try_from(width).unwrap_or(i64::MAX).saturating_mul(i64::from(count) - 1);
        let last = start.saturating_add(span);
        self.jump_if_constant(Cond::Sle, start.cast_unsigned(), lowest);
        self.jump_if_constant(Cond::Sgt, last.cast_unsigned(), above);
        // (value - start - 1) / width + 1: a value equal to a bound belongs below it.
        self.asm.mov(R3, R1);
        self.asm.constant(R4, start.wrapping_add(1).cast_unsigned());
        self.asm.alu(Alu::Sub, R3, R4);
        self.asm.constant(R4, width);
        self.asm.alu(Alu::Div, R3, R4);
        self.asm.alu(Alu::Add, R3, 1);
    }
}
