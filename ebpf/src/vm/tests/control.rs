//! Jumps, registers and the limits of a run.

use super::*;

const MIN: u64 = 1 << 63;
const MAX: u64 = u64::MAX;

const CONDS: [Cond; 11] = [
    Cond::Eq,
    Cond::Ne,
    Cond::Gt,
    Cond::Ge,
    Cond::Lt,
    Cond::Le,
    Cond::Set,
    Cond::Sgt,
    Cond::Sge,
    Cond::Slt,
    Cond::Sle,
];

/// Operands, and the [`CONDS`] that are true for them.
const TABLE: [(u64, u64, [u8; 11]); 8] = [
    (0, 0, [1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 1]),
    (1, 0, [0, 1, 1, 1, 0, 0, 0, 1, 1, 0, 0]),
    (0, 1, [0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1]),
    (MAX, 1, [0, 1, 1, 1, 0, 0, 1, 0, 0, 1, 1]),
    (1, MAX, [0, 1, 0, 0, 1, 1, 1, 1, 1, 0, 0]),
    (MIN, MIN - 1, [0, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1]),
    (MIN, MAX, [0, 1, 0, 0, 1, 1, 1, 0, 0, 1, 1]),
    (MAX, MAX, [1, 0, 0, 1, 0, 1, 1, 0, 1, 0, 1]),
];

/// Returns 1 if the jump is taken.
fn taken(jump: Insn, dst: u64, src: u64) -> u64 {
    let program = [set(R2, dst), set(R3, src), mov(R0, 1), jump, mov(R0, 0), Insn::Exit];
    run(&program).expect("no fault")
}

#[test]
fn conditions_on_64_bits() {
    for (dst, src, row) in TABLE {
        for (cond, expected) in CONDS.into_iter().zip(row) {
            let got = taken(Insn::JumpIf(cond, R2, R3.into(), 1), dst, src);
            assert_eq!(got, u64::from(expected), "{dst:#x} {cond:?} {src:#x}");
        }
    }
}

#[test]
fn conditions_on_the_low_half() {
    for (dst, src, row) in TABLE {
        // The same bits one half lower, under garbage that differs.
        let squeeze = |value: u64| (value >> 32) & 0x8000_0000 | value & 0x7fff_ffff;
        let (dst, src) = (0xaaaa << 32 | squeeze(dst), 0x5555 << 32 | squeeze(src));
        for (cond, expected) in CONDS.into_iter().zip(row) {
            let got = taken(Insn::JumpIf32(cond, R2, R3.into(), 1), dst, src);
            assert_eq!(got, u64::from(expected), "{dst:#x} {cond:?} {src:#x}");
        }
    }
}

#[test]
fn conditions_on_constants() {
    let k = Src::Imm;
    assert_eq!(taken(Insn::JumpIf(Cond::Eq, R2, k(-1), 1), MAX, 0), 1);
    assert_eq!(taken(Insn::JumpIf(Cond::Eq, R2, k(-1), 1), 0xffff_ffff, 0), 0);
    assert_eq!(taken(Insn::JumpIf32(Cond::Eq, R2, k(-1), 1), 0xffff_ffff, 0), 1);
    assert_eq!(taken(Insn::JumpIf(Cond::Gt, R2, k(-1), 1), MAX, 0), 0);
    assert_eq!(taken(Insn::JumpIf(Cond::Slt, R2, k(0), 1), MIN, 0), 1);
    assert_eq!(taken(Insn::JumpIf(Cond::Set, R2, k(i32::MIN), 1), MIN, 0), 1);
    assert_eq!(taken(Insn::JumpIf32(Cond::Set, R2, k(i32::MIN), 1), MIN, 0), 0);
}

#[test]
fn offsets_count_slots() {
    // Over an Imm64, which takes two.
    let over = [mov(R0, 1), Insn::Jump(2), set(R0, 2), Insn::Exit];
    assert_eq!(run(&over), Ok(1));
    let into = [mov(R0, 1), Insn::Jump(1), set(R0, 2), Insn::Exit];
    assert_eq!(run(&into), Err(Fault::BadJump(3)));
    // Backwards: 3, 2, 1, 0.
    let count = [
        mov(R0, 0),
        mov(R1, 3),
        add(R0, R1),
        add(R1, -1),
        Insn::JumpIf(Cond::Ne, R1, Src::Imm(0), -3),
        Insn::Exit,
    ];
    assert_eq!(run(&count), Ok(6));
}

#[test]
fn jumps_and_falls_out_of_the_program() {
    assert_eq!(run(&[Insn::Jump(-2)]), Err(Fault::BadJump(-1)));
    assert_eq!(run(&[Insn::Jump(1)]), Err(Fault::BadJump(2)));
    assert_eq!(run(&[Insn::Jump(0)]), Err(Fault::FellOff));
    assert_eq!(run(&[]), Err(Fault::FellOff));
    assert_eq!(run(&[mov(R0, 0)]), Err(Fault::FellOff));
}

#[test]
fn an_endless_loop_is_stopped() {
    let env = Environment { step_limit: 10, ..Environment::default() };
    assert_eq!(run_with(&[Insn::Jump(-1)], &[], env), Err(Fault::StepLimit(10)));
}

#[test]
fn registers_start_uninitialised() {
    assert_eq!(run(&[Insn::Exit]), Err(Fault::Uninitialised(R0)));
    for reg in [R2, R3, R4, R5, R6, R7, R8, R9] {
        assert_eq!(run(&[mov(R0, reg), Insn::Exit]), Err(Fault::Uninitialised(reg)));
        assert_eq!(run(&[add(reg, 1), Insn::Exit]), Err(Fault::Uninitialised(reg)));
        assert_eq!(
            run(&[Insn::JumpIf(Cond::Eq, reg, Src::Imm(0), 0), Insn::Exit]),
            Err(Fault::Uninitialised(reg))
        );
    }
    for reg in [R1, FP] {
        assert!(run(&[mov(R0, reg), Insn::Exit]).is_ok());
    }
}

#[test]
fn a_call_destroys_its_argument_registers_only() {
    for reg in [R1, R2, R3, R4, R5] {
        let program = [mov(reg, 1), Insn::Call(Helper::Task), mov(R0, reg), Insn::Exit];
        assert_eq!(run(&program), Err(Fault::Uninitialised(reg)));
    }
    for reg in [R6, R7, R8, R9] {
        let program = [mov(reg, 9), Insn::Call(Helper::Task), mov(R0, reg), Insn::Exit];
        assert_eq!(run(&program), Ok(9));
    }
}

#[test]
fn registers_that_cannot_be_written() {
    assert_eq!(run(&[mov(FP, 0)]), Err(Fault::ReadOnly(FP)));
    assert_eq!(run(&[mov(Reg(11), 0)]), Err(Fault::NoRegister(Reg(11))));
}

#[test]
fn errors_name_the_instruction() {
    let error = Vm::new(&[set(R0, 0), mov(R0, R7)], &[], Environment::default()).run(&[]);
    assert_eq!(error, Err(VmError { index: 1, fault: Fault::Uninitialised(R7) }));
    let text = error.expect_err("just compared").to_string();
    assert_eq!(text, "instruction 1: `r7` is read before it is written");
}
