//! Lowers conditions to jumps.

use super::{
    Lowering,
    expression::{VALUES, constant_truth},
    offset,
};
use crate::{
    asm::JumpLabel,
    insn::{Cond, Insn, R1, R2, Reg, Src},
    typed::{BinaryOperator, Type, Typed, TypedKind, UnaryOperator, unsigned_operation},
};

fn condition(operator: BinaryOperator, unsigned: bool, when: bool) -> Cond {
    let operator = match (operator, when) {
        (operator, true) => operator,
        (BinaryOperator::Eq, false) => BinaryOperator::Ne,
        (BinaryOperator::Ne, false) => BinaryOperator::Eq,
        (BinaryOperator::Lt, false) => BinaryOperator::Ge,
        (BinaryOperator::Ge, false) => BinaryOperator::Lt,
        (BinaryOperator::Gt, false) => BinaryOperator::Le,
        (BinaryOperator::Le, false) => BinaryOperator::Gt,
        (other, false) => other,
    };
    match (operator, unsigned) {
        (BinaryOperator::Ne, _) => Cond::Ne,
        (BinaryOperator::Lt, true) => Cond::Lt,
        (BinaryOperator::Le, true) => Cond::Le,
        (BinaryOperator::Gt, true) => Cond::Gt,
        (BinaryOperator::Ge, true) => Cond::Ge,
        (BinaryOperator::Lt, false) => Cond::Slt,
        (BinaryOperator::Le, false) => Cond::Sle,
        (BinaryOperator::Gt, false) => Cond::Sgt,
        (BinaryOperator::Ge, false) => Cond::Sge,
        // Only comparisons come here, and `==` is what is left of them.
        _ => Cond::Eq,
    }
}

impl Lowering<'_> {
    /// Jumps to `to` if the truth of `typed` is `when`, and continues otherwise; registers below `depth` keep their values.
    pub(super) fn branch(&mut self, typed: &Typed, when: bool, to: JumpLabel, depth: usize) {
        if let Some(truth) = constant_truth(typed) {
            if truth == when {
                self.asm.jump(to);
            }
            return;
        }
        match &typed.kind {
            TypedKind::Unary(UnaryOperator::Not, operand) => self.branch(operand, !when, to, depth),
            TypedKind::Binary(operator @ (BinaryOperator::And | BinaryOperator::Or), left, right) => {
                // `a && b` is false as soon as `a` is; `a || b` true as soon as `a` is.
                let decides = *operator == BinaryOperator::Or;
                if when == decides {
                    self.branch(left, when, to, depth);
                    self.branch(right, when, to, depth);
                } else {
                    let on = self.asm.label();
                    self.branch(left, decides, on, depth);
                    self.branch(right, when, to, depth);
                    self.asm.place(on);
                }
            }
            TypedKind::Binary(operator, left, right) if operator.compares() => {
                if matches!(left.ty, Type::Text { .. }) {
                    self.branch_texts(left, right, (*operator == BinaryOperator::Eq) == when, to);
                    return;
                }
                let cond = condition(*operator, unsigned_operation(*operator, left, right), when);
                let small = match right.kind {
                    TypedKind::Constant(value) => i32::try_from(value.cast_signed()).ok(),
                    _ => None,
                };
                if let Some(small) = small {
                    self.eval(left, depth);
                    self.asm.jump_if(cond, value_register(depth), small, to);
                } else {
                    let (a, b) = self.operands(left, right, depth);
                    self.asm.jump_if(cond, a, b, to);
                }
            }
            _ => {
                self.eval(typed, depth);
                let cond = if when { Cond::Ne } else { Cond::Eq };
                self.asm.jump_if(cond, value_register(depth), 0, to);
            }
        }
    }

    /// Computes into the register of `depth` the operand for which the comparison with the other one is true.
    pub(super) fn extreme(&mut self, operator: BinaryOperator, left: &Typed, right: &Typed, depth: usize) {
        let cond = condition(operator, unsigned_operation(operator, left, right), true);
        let end = self.asm.label();
        let small = match right.kind {
            TypedKind::Constant(value) => i32::try_from(value.cast_signed()).ok(),
            _ => None,
        };
        if let Some(small) = small {
            self.eval(left, depth);
            self.asm.jump_if(cond, value_register(depth), small, end);
            self.mov(value_register(depth), small);
        } else {
            let (a, b) = self.operands(left, right, depth);
            self.asm.jump_if(cond, a, b, end);
            self.mov(a, b);
        }
        self.asm.place(end);
    }

    /// Jumps if two texts are equal, or if they are not. Both are padded with zeros to a multiple of eight bytes, so whole
    /// words are compared.
    fn branch_texts(&mut self, left: &Typed, right: &Typed, equal: bool, to: JumpLabel) {
        let size = |typed: &Typed| if let Type::Text { capacity } = typed.ty { capacity } else { 8 };
        let (left_size, right_size) = (size(left), size(right));
        let used = self.stack.used;
        let a = self.stack.take(left_size);
        self.text(left, a, left_size);
        self.hide_text(a, left_size, left);
        let differ = self.asm.label();
        let target = if equal { differ } else { to };
        let words = left_size.max(right_size) / 8;
        if let TypedKind::Text(bytes) = &right.kind {
            for word in 0..words {
                let start = usize::try_from(word * 8).expect("a text has few bytes");
                let mut chunk = [0; 8];
                for (byte, from) in chunk.iter_mut().zip(bytes.iter().skip(start)) {
                    *byte = *from;
                }
                let expected = u64::from_le_bytes(chunk);
                if word * 8 < left_size {
                    self.load_value(R1, at(a, word), &left.ty);
                } else {
                    self.asm.push(Insn::Alu64(crate::insn::Alu::Mov, R1, Src::Imm(0)));
                }
                self.constant(R2, expected);
                self.asm.jump_if(Cond::Ne, R1, R2, target);
            }
        } else {
            let b = self.stack.take(right_size);
            self.text(right, b, right_size);
            self.hide_text(b, right_size, right);
            for word in 0..words {
                for (register, slot, size) in [(R1, a, left_size), (R2, b, right_size)] {
                    if word * 8 < size {
                        self.load_value(register, at(slot, word), &left.ty);
                    } else {
                        self.mov(register, 0);
                    }
                }
                self.asm.jump_if(Cond::Ne, R1, R2, target);
            }
        }
        if equal {
            self.asm.jump(to);
        }
        self.asm.place(differ);
        self.stack.used = used;
    }
}

fn at(base: i16, word: u32) -> i16 {
    base + offset(word * 8)
}

fn value_register(depth: usize) -> Reg {
    VALUES[depth]
}
