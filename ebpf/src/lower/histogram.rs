//! A value's bucket; the value is in `r1`, the row in `r7`.
//!
//! No jumps where it can be helped: each would double the paths that the verifier walks, and in a loop
//! it walks them for every round.

use super::{Lowering, immediate, offset};
use crate::{
    asm::Label,
    histogram::{Buckets, Exponential},
    insn::{Alu, Cond, Insn, R1, R2, R3, R4, R5, R7, Reg},
};

/// Up to so many bounds all are compared, without jumps; above it they are searched by halving.
const COMPARED: usize = 48;

impl Lowering<'_> {
    /// Adds 1 to the bucket of `r1`; the first is at `base` in the row.
    pub(crate) fn bucket(&mut self, buckets: &Buckets, base: i16, signed: bool, done: Label) {
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
        self.alu(Alu::Lsh, R3, 3);
        self.mov(R4, R7);
        self.alu(Alu::Add, R4, R3);
        self.mov(R2, 1);
        self.add(R4, base, R2);
        self.asm.jump(done);
        for (label, slot) in [(lowest, 0), (above, last)] {
            self.asm.place(label);
            self.mov(R2, 1);
            self.add(R7, base + offset(slot * 8), R2);
            self.asm.jump(done);
        }
    }

    /// Jumps if `r1` compares so with a constant of 64 bits.
    fn jump_if_constant(&mut self, cond: Cond, value: u64, to: Label) {
        if let Ok(small) = i32::try_from(value.cast_signed()) {
            self.asm.jump_if(cond, R1, small, to);
        } else {
            self.asm.push(Insn::Imm64(R2, value));
            self.asm.jump_if(cond, R1, R2, to);
        }
    }

    /// `r3 += 1` if `limit` is less than `value`, both within ±2^62.
    fn add_if_above(&mut self, limit: u64, value: Reg) {
        self.constant(R4, limit);
        self.alu(Alu::Sub, R4, value);
        self.alu(Alu::Rsh, R4, 63);
        self.alu(Alu::Add, R3, R4);
    }

    fn exponential(&mut self, scheme: &Exponential, signed: bool, lowest: Label, above: Label) {
        if signed {
            self.asm.jump_if(Cond::Slt, R1, 0, lowest);
        }
        self.jump_if_constant(Cond::Le, scheme.lowest, lowest);
        self.jump_if_constant(Cond::Gt, scheme.highest, above);
        // What is left lies between these powers of two.
        let top = scheme.highest.ilog2();
        let bottom = (scheme.lowest + 1).ilog2();
        self.asm.comment("r2 = value scaled to [2^62, 2^63), r3 = its power of two");
        self.mov(R2, R1);
        self.alu(Alu::Lsh, R2, immediate(62 - top));
        self.mov(R3, immediate(top));
        // Steps of … 4, 2, 1 that add up to the largest shift there can be.
        let steps = immediate(32 - (top - bottom).leading_zeros());
        for log in (0..steps).rev() {
            let step = 1 << log;
            // r4 = 1 if the upper `step` bits are zero; then shift by `step`.
            self.mov(R4, R2);
            self.alu(Alu::Rsh, R4, 63 - step);
            self.alu(Alu::Add, R4, -1);
            self.alu(Alu::Rsh, R4, 63);
            if log > 0 {
                self.alu(Alu::Lsh, R4, log);
            }
            self.alu(Alu::Lsh, R2, R4);
            self.alu(Alu::Sub, R3, R4);
        }
        if scheme.schema > 0 {
            self.alu(Alu::Lsh, R3, i32::from(scheme.schema));
        }
        self.alu(Alu::Add, R3, scheme.first - scheme.min_index);
        for threshold in &scheme.thresholds {
            self.add_if_above(*threshold, R2);
        }
    }

    fn explicit(&mut self, raw: &[i64], signed: bool, lowest: Label, above: Label) {
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
            self.mov(R3, 1);
            for bound in inner {
                self.add_if_above(bound.cast_unsigned(), R1);
            }
        } else {
            let found = self.asm.label();
            self.search(inner, 1, found);
            self.asm.place(found);
        }
    }

    /// `r3` = `base` + number of bounds below the value, by halving.
    fn search(&mut self, bounds: &[i64], base: i32, found: Label) {
        let middle = bounds.len() / 2;
        let Some(bound) = bounds.get(middle) else {
            self.mov(R3, base);
            self.asm.jump(found);
            return;
        };
        let upper = self.asm.label();
        self.constant(R5, bound.cast_unsigned());
        self.asm.jump_if(Cond::Sgt, R1, R5, upper);
        self.search(&bounds[..middle], base, found);
        self.asm.place(upper);
        self.search(
            &bounds[middle + 1..],
            base + i32::try_from(middle).expect("a histogram has at most 512 bounds") + 1,
            found,
        );
    }

    fn linear(&mut self, start: i64, width: u64, count: u16, signed: bool, lowest: Label, above: Label) {
        if !signed {
            self.asm.jump_if(Cond::Slt, R1, 0, above);
        }
        let span = i64::try_from(width).unwrap_or(i64::MAX).saturating_mul(i64::from(count) - 1);
        let last = start.saturating_add(span);
        self.jump_if_constant(Cond::Sle, start.cast_unsigned(), lowest);
        self.jump_if_constant(Cond::Sgt, last.cast_unsigned(), above);
        // (value - start - 1) / width + 1: a value equal to a bound belongs below it.
        self.mov(R3, R1);
        self.constant(R4, start.wrapping_add(1).cast_unsigned());
        self.alu(Alu::Sub, R3, R4);
        self.constant(R4, width);
        self.alu(Alu::Div, R3, R4);
        self.alu(Alu::Add, R3, 1);
    }
}
