//! The meaning of operators, computed here and now: for constants, and as the second opinion in tests.
//!
//! [`evaluate`] gives a whole typed expression its value at an event, from what the language says and
//! without regard to how it is lowered, so that tests can hold compiled programs against it.

mod tree;

pub use tree::{Inputs, Value, evaluate};

use crate::expr::{Binary, Unary};

/// The result of an operator on two 64-bit values, as signed or unsigned numbers.
///
/// Division by zero gives 0, its remainder the dividend, shifts use the low six bits of the right side:
/// what eBPF does (RFC 9669), carried over to signed numbers.
pub fn binary(operator: Binary, unsigned: bool, a: u64, b: u64) -> u64 {
    let (sa, sb) = (a.cast_signed(), b.cast_signed());
    let shift = u32::try_from(b & 63).unwrap_or(0);
    let less = if unsigned { a < b } else { sa < sb };
    match operator {
        Binary::Add => a.wrapping_add(b),
        Binary::Sub => a.wrapping_sub(b),
        Binary::Mul => a.wrapping_mul(b),
        Binary::Div if b == 0 => 0,
        Binary::Div if unsigned => a / b,
        Binary::Div => sa.wrapping_div(sb).cast_unsigned(),
        Binary::Mod if b == 0 => a,
        Binary::Mod if unsigned => a % b,
        Binary::Mod => sa.wrapping_rem(sb).cast_unsigned(),
        Binary::Shl => a << shift,
        Binary::Shr if unsigned => a >> shift,
        Binary::Shr => (sa >> shift).cast_unsigned(),
        Binary::BitAnd => a & b,
        Binary::BitOr => a | b,
        Binary::BitXor => a ^ b,
        Binary::Eq => u64::from(a == b),
        Binary::Ne => u64::from(a != b),
        Binary::Lt => u64::from(less),
        Binary::Ge => u64::from(!less),
        Binary::Gt => u64::from(!less && a != b),
        Binary::Le => u64::from(less || a == b),
        Binary::And => u64::from(a != 0 && b != 0),
        Binary::Or => u64::from(a != 0 || b != 0),
    }
}

/// The result of a prefix operator; there is no memory here to read with `*`.
pub fn unary(operator: Unary, a: u64) -> u64 {
    match operator {
        Unary::Neg => a.wrapping_neg(),
        Unary::BitNot => !a,
        Unary::Not => u64::from(a == 0),
        Unary::Deref => 0,
    }
}

/// A value cut to `bits` and extended by its sign.
pub fn extend(value: u64, bits: u8, signed: bool) -> u64 {
    let unused = 64 - u32::from(bits.clamp(1, 64));
    if signed {
        ((value << unused).cast_signed() >> unused).cast_unsigned()
    } else {
        value << unused >> unused
    }
}
