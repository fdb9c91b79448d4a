//! Tests of the machine, and their shared functions.

mod arithmetic;
mod control;
mod helpers;
mod maps;
mod memory;

use super::*;
use crate::insn::*;

/// `dst = constant`, 64 bits.
fn set(dst: Reg, value: u64) -> Insn {
    Insn::Imm64(dst, value)
}

/// `dst = src`
fn mov(dst: Reg, src: impl Into<Src>) -> Insn {
    Insn::Alu64(Alu::Mov, dst, src.into())
}

fn add(dst: Reg, src: impl Into<Src>) -> Insn {
    Insn::Alu64(Alu::Add, dst, src.into())
}

/// Runs a program without context and maps.
fn run(program: &[Insn]) -> Result<u64, Fault> {
    run_with(program, &[], Environment::default())
}

fn run_with(program: &[Insn], context: &[u8], env: Environment) -> Result<u64, Fault> {
    Vm::new(program, &[], env).run(context).map_err(|error| error.fault)
}

/// `r0 = dst op src`, with both in registers.
fn compute(insn: impl Fn(Reg, Src) -> Insn, dst: u64, src: u64) -> u64 {
    let program = [set(R2, dst), set(R3, src), insn(R2, R3.into()), mov(R0, R2), Insn::Exit];
    run(&program).expect("defined for all operands")
}
