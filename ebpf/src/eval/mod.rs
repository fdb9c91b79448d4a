//! The meaning of operators: for constants, and as a second opinion in tests.
//!
//! [`evaluate`] computes a whole typed expression at an event from the definition of the language, independently of the
//! lowering, so that tests can compare compiled programs with it.

mod state;
mod tree;

pub use state::StateValues;
pub use tree::{Inputs, Value, evaluate};

use crate::{
    expr::{BinaryOperator, UnaryOperator},
    typed::Type,
};

/// The result of an infix operator on two 64-bit values, as signed or unsigned numbers.
///
/// Division by zero gives 0, its remainder is the dividend, and shifts use the low six bits of the right side, as in eBPF
/// (RFC 9669); the same rules hold for signed numbers.
pub fn binary(operator: BinaryOperator, unsigned: bool, a: u64, b: u64) -> u64 {
    let (sa, sb) = (a.cast_signed(), b.cast_signed());
    let shift = u32::try_from(b & 63).unwrap_or(0);
    let less = if unsigned { a < b } else { sa < sb };
    match operator {
        BinaryOperator::Add => a.wrapping_add(b),
        BinaryOperator::Sub => a.wrapping_sub(b),
        BinaryOperator::Mul => a.wrapping_mul(b),
        BinaryOperator::Div if b == 0 => 0,
        BinaryOperator::Div if unsigned => a / b,
        BinaryOperator::Div => sa.wrapping_div(sb).cast_unsigned(),
        BinaryOperator::Mod if b == 0 => a,
        BinaryOperator::Mod if unsigned => a % b,
        BinaryOperator::Mod => sa.wrapping_rem(sb).cast_unsigned(),
        BinaryOperator::Shl => a << shift,
        BinaryOperator::Shr if unsigned => a >> shift,
        BinaryOperator::Shr => (sa >> shift).cast_unsigned(),
        BinaryOperator::BitAnd => a & b,
        BinaryOperator::BitOr => a | b,
        BinaryOperator::BitXor => a ^ b,
        BinaryOperator::Eq => u64::from(a == b),
        BinaryOperator::Ne => u64::from(a != b),
        BinaryOperator::Lt => u64::from(less),
        BinaryOperator::Ge => u64::from(!less),
        BinaryOperator::Gt => u64::from(!less && a != b),
        BinaryOperator::Le => u64::from(less || a == b),
        BinaryOperator::And => u64::from(a != 0 && b != 0),
        BinaryOperator::Or => u64::from(a != 0 || b != 0),
    }
}

/// The result of a prefix operator. `*` is not one of them, because there is no memory here.
pub fn unary(operator: UnaryOperator, a: u64) -> u64 {
    match operator {
        UnaryOperator::Neg => a.wrapping_neg(),
        UnaryOperator::BitNot => !a,
        UnaryOperator::Not => u64::from(a == 0),
        UnaryOperator::Deref => 0,
    }
}

/// The low bytes of a number in the opposite order: 2, 4 or 8 of them, as wide as the type is.
pub fn swapped(value: u64, ty: &Type) -> u64 {
    let bits = if let Type::Int { bits, .. } = ty { *bits } else { 64 };
    // The bytes that are kept are the highest of all eight when these are exchanged.
    value.swap_bytes() >> (64 - u32::from(bits.clamp(8, 64)))
}

/// A value truncated to `bits` and sign-extended.
pub fn extend(value: u64, bits: u8, signed: bool) -> u64 {
    let unused = 64 - u32::from(bits.clamp(1, 64));
    if signed {
        ((value << unused).cast_signed() >> unused).cast_unsigned()
    } else {
        value << unused >> unused
    }
}
