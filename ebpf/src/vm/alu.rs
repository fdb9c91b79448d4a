//! Arithmetic and comparisons of numbers.
//!
//! Division and shifts follow RFC 9669, 4.1: a division by zero gives 0, a remainder by zero leaves `dst`, and only the low 6
//! (or 5) bits of a shift are used.

use crate::insn::{Alu, Cond, Size};

/// The low half of a register.
pub(super) fn low(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// The low bytes of a register of a little-endian machine in the order of the network; `None` for a size that has no order.
pub(super) fn to_big_endian(size: Size, value: u64) -> Option<u64> {
    let mut bytes = value.to_le_bytes();
    let low = match size {
        Size::B => return None,
        Size::H => &mut bytes[..2],
        Size::W => &mut bytes[..4],
        Size::DW => &mut bytes[..],
    };
    let count = low.len();
    low.reverse();
    bytes[count..].fill(0);
    Some(u64::from_le_bytes(bytes))
}

/// The result of 64-bit arithmetic.
pub(super) fn alu64(op: Alu, dst: u64, src: u64) -> u64 {
    match op {
        Alu::Add => dst.wrapping_add(src),
        Alu::Sub => dst.wrapping_sub(src),
        Alu::Mul => dst.wrapping_mul(src),
        Alu::Div => dst.checked_div(src).unwrap_or(0),
        Alu::Or => dst | src,
        Alu::And => dst & src,
        Alu::Lsh => dst.wrapping_shl(low(src)),
        Alu::Rsh => dst.wrapping_shr(low(src)),
        Alu::Neg => dst.wrapping_neg(),
        Alu::Mod => dst.checked_rem(src).unwrap_or(dst),
        Alu::Xor => dst ^ src,
        Alu::Mov => src,
        Alu::Arsh => dst.cast_signed().wrapping_shr(low(src)).cast_unsigned(),
    }
}

/// The result of 32-bit arithmetic.
pub(super) fn alu32(op: Alu, dst: u32, src: u32) -> u32 {
    match op {
        Alu::Add => dst.wrapping_add(src),
        Alu::Sub => dst.wrapping_sub(src),
        Alu::Mul => dst.wrapping_mul(src),
        Alu::Div => dst.checked_div(src).unwrap_or(0),
        Alu::Or => dst | src,
        Alu::And => dst & src,
        Alu::Lsh => dst.wrapping_shl(src),
        Alu::Rsh => dst.wrapping_shr(src),
        Alu::Neg => dst.wrapping_neg(),
        Alu::Mod => dst.checked_rem(src).unwrap_or(dst),
        Alu::Xor => dst ^ src,
        Alu::Mov => src,
        Alu::Arsh => dst.cast_signed().wrapping_shr(src).cast_unsigned(),
    }
}

/// Whether a 64-bit comparison is true.
pub(super) fn holds64(cond: Cond, dst: u64, src: u64) -> bool {
    let (signed_dst, signed_src) = (dst.cast_signed(), src.cast_signed());
    match cond {
        Cond::Eq => dst == src,
        Cond::Ne => dst != src,
        Cond::Gt => dst > src,
        Cond::Ge => dst >= src,
        Cond::Lt => dst < src,
        Cond::Le => dst <= src,
        Cond::Set => dst & src != 0,
        Cond::Sgt => signed_dst > signed_src,
        Cond::Sge => signed_dst >= signed_src,
        Cond::Slt => signed_dst < signed_src,
        Cond::Sle => signed_dst <= signed_src,
    }
}

/// Whether a comparison of the low halves is true.
pub(super) fn holds32(cond: Cond, dst: u32, src: u32) -> bool {
    match cond {
        Cond::Eq | Cond::Ne | Cond::Gt | Cond::Ge | Cond::Lt | Cond::Le | Cond::Set => {
            holds64(cond, dst.into(), src.into())
        }
        Cond::Sgt | Cond::Sge | Cond::Slt | Cond::Sle => {
            let extend = |half: u32| i64::from(half.cast_signed()).cast_unsigned();
            holds64(cond, extend(dst), extend(src))
        }
    }
}
