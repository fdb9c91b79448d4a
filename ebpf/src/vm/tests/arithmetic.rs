//! Every arithmetic operation at its edges.

use super::*;

const MIN: u64 = 1 << 63;
const MAX: u64 = u64::MAX;
/// Garbage in the upper half, to test that 32-bit operations ignore and clear it.
const UP: u64 = 0xdead_beef << 32;

#[test]
fn alu64() {
    let table = [
        (Alu::Add, MAX, 1, 0),
        (Alu::Add, MIN, MIN, 0),
        (Alu::Sub, 0, 1, MAX),
        (Alu::Sub, MIN, 1, MIN - 1),
        (Alu::Mul, 1 << 32, 1 << 32, 0),
        (Alu::Mul, MAX, MAX, 1),
        (Alu::Mul, 0xffff_ffff, 0xffff_ffff, 0xffff_fffe_0000_0001),
        (Alu::Div, MAX, 2, MAX / 2),
        (Alu::Div, MIN, MAX, 0),
        (Alu::Div, 7, 0, 0),
        (Alu::Mod, 7, 4, 3),
        (Alu::Mod, MAX, 10, 5),
        (Alu::Mod, MAX, 0, MAX),
        (Alu::Or, UP, 1, UP | 1),
        (Alu::And, MAX, UP, UP),
        (Alu::Xor, MAX, UP, !UP),
        (Alu::Lsh, 1, 63, MIN),
        (Alu::Lsh, 1, 64, 1),
        (Alu::Lsh, 1, 65, 2),
        (Alu::Lsh, 1, MAX, MIN),
        (Alu::Rsh, MIN, 63, 1),
        (Alu::Rsh, MIN, 64, MIN),
        (Alu::Rsh, MAX, 1 << 32, MAX),
        (Alu::Arsh, MIN, 63, MAX),
        (Alu::Arsh, MIN, 64, MIN),
        (Alu::Arsh, 0x4000_0000_0000_0000, 62, 1),
        (Alu::Mov, UP, 3, 3),
        (Alu::Mov, 3, UP, UP),
    ];
    for (op, dst, src, expected) in table {
        let got = compute(|dst, src| Insn::Alu64(op, dst, src), dst, src);
        assert_eq!(got, expected, "{op:?} {dst:#x} {src:#x}: {got:#x}");
    }
}

#[test]
fn alu32_ignores_and_clears_the_upper_half() {
    let table = [
        (Alu::Add, 0xffff_ffff, 1, 0),
        (Alu::Sub, 0, 1, 0xffff_ffff),
        (Alu::Mul, 0x1_0000, 0x1_0000, 0),
        (Alu::Mul, 0xffff_ffff, 0xffff_ffff, 1),
        (Alu::Div, 0xffff_ffff, 2, 0x7fff_ffff),
        (Alu::Div, 7, 0, 0),
        (Alu::Mod, 7, 4, 3),
        (Alu::Mod, 0x8000_0001, 0, 0x8000_0001),
        (Alu::Or, 0xf0, 0x0f, 0xff),
        (Alu::And, 0xff, 0x0f, 0x0f),
        (Alu::Xor, 0xff, 0x0f, 0xf0),
        (Alu::Lsh, 1, 31, 0x8000_0000),
        (Alu::Lsh, 1, 32, 1),
        (Alu::Lsh, 0x8000_0000, 1, 0),
        (Alu::Rsh, 0x8000_0000, 31, 1),
        (Alu::Rsh, 0x8000_0000, 33, 0x4000_0000),
        (Alu::Arsh, 0x8000_0000, 31, 0xffff_ffff),
        (Alu::Arsh, 0x8000_0000, 32, 0x8000_0000),
        (Alu::Mov, 0, 0x8000_0000, 0x8000_0000),
    ];
    for (op, dst, src, expected) in table {
        let got = compute(|dst, src| Insn::Alu32(op, dst, src), UP | dst, UP | src);
        assert_eq!(got, expected, "{op:?} {dst:#x} {src:#x}: {got:#x}");
    }
}

#[test]
fn negation() {
    for (value, wide, narrow) in [
        (0, 0, 0),
        (1, MAX, 0xffff_ffff),
        (MAX, 1, 1),
        (MIN, MIN, 0),
        (0x8000_0000, 0xffff_ffff_8000_0000, 0x8000_0000),
    ] {
        assert_eq!(compute(|dst, _| Insn::Alu64(Alu::Neg, dst, Src::Imm(0)), value, 0), wide);
        assert_eq!(compute(|dst, _| Insn::Alu32(Alu::Neg, dst, Src::Imm(0)), value, 0), narrow);
    }
}

#[test]
fn byte_order() {
    let swapped = |size, value| compute(|dst, _| Insn::ToBigEndian(size, dst), value, 0);
    for (size, value, expected) in [
        (Size::H, 0x1122_3344_5566_7788, 0x8877),
        (Size::W, 0x1122_3344_5566_7788, 0x8877_6655),
        (Size::DW, 0x1122_3344_5566_7788, 0x8877_6655_4433_2211),
        (Size::H, MAX, 0xffff),
        (Size::W, 0x80, 0x8000_0000),
        (Size::DW, 1, 1 << 56),
    ] {
        assert_eq!(swapped(size, value), expected, "{size:?} {value:#x}");
    }
    let program = [set(R0, 1), Insn::ToBigEndian(Size::B, R0), Insn::Exit];
    assert_eq!(run(&program), Err(Fault::BadConstant(Insn::ToBigEndian(Size::B, R0))));
}

#[test]
fn constants_are_sign_extended_to_64_bits_and_not_beyond_32() {
    let with = |insn: Insn| run(&[set(R0, 0), insn, Insn::Exit]).expect("no fault");
    assert_eq!(with(mov(R0, -1)), MAX);
    assert_eq!(with(Insn::Alu32(Alu::Mov, R0, Src::Imm(-1))), 0xffff_ffff);
    assert_eq!(with(add(R0, i32::MIN)), 0xffff_ffff_8000_0000);
    assert_eq!(with(Insn::Alu32(Alu::Sub, R0, Src::Imm(1))), 0xffff_ffff);
    assert_eq!(with(Insn::Alu64(Alu::Or, R0, Src::Imm(-2))), MAX - 1);
    assert_eq!(with(set(R0, UP | 5)), UP | 5);
}

#[test]
fn a_div_by_a_negative_constant_is_unsigned() {
    let program = [set(R0, MAX), Insn::Alu64(Alu::Div, R0, Src::Imm(-1)), Insn::Exit];
    assert_eq!(run(&program), Ok(1));
    let program = [set(R0, UP | 0xffff_ffff), Insn::Alu32(Alu::Mod, R0, Src::Imm(-1)), Insn::Exit];
    assert_eq!(run(&program), Ok(0));
}

#[test]
fn constants_the_verifier_refuses() {
    let refused = [
        Insn::Alu64(Alu::Div, R0, Src::Imm(0)),
        Insn::Alu32(Alu::Mod, R0, Src::Imm(0)),
        Insn::Alu64(Alu::Lsh, R0, Src::Imm(64)),
        Insn::Alu64(Alu::Arsh, R0, Src::Imm(-1)),
        Insn::Alu32(Alu::Rsh, R0, Src::Imm(32)),
        Insn::Alu64(Alu::Neg, R0, Src::Imm(1)),
        Insn::Alu64(Alu::Neg, R0, Src::Reg(R1)),
    ];
    for insn in refused {
        assert_eq!(run(&[set(R0, 1), insn, Insn::Exit]), Err(Fault::BadConstant(insn)));
    }
    for insn in [Insn::Alu64(Alu::Lsh, R0, Src::Imm(63)), Insn::Alu32(Alu::Lsh, R0, Src::Imm(31))] {
        assert!(run(&[set(R0, 1), insn, Insn::Exit]).is_ok());
    }
}
