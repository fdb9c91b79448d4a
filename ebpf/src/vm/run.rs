//! One run: registers, memory, and the effect of each instruction.

use super::alu::{alu32, alu64, holds32, holds64, low, to_big_endian};
use super::memory::{AddressSpace, CONTEXT_START, FRAME_POINTER, SESSION_COOKIE, map_address};
use super::{Environment, Fault, MapContents};
use crate::insn::{Alu, FP, Insn, KernelFunction, R0, R1, R5, Reg, Size, Src};

/// The next instruction of a run.
pub(super) enum Next {
    Following,
    /// The one that is this many slots after the end of the present one.
    Jump(i16),
    Exit(u64),
}

/// A run of a program.
#[derive(Debug)]
pub(super) struct ProgramRun<'a> {
    registers: [Option<u64>; 11],
    pub(super) memory: AddressSpace<'a>,
    pub(super) env: &'a mut Environment,
}

/// A constant operand, sign extended.
fn extend(imm: i32) -> u64 {
    i64::from(imm).cast_unsigned()
}

impl<'a> ProgramRun<'a> {
    pub(super) fn new(context: &'a [u8], maps: &'a mut [MapContents], env: &'a mut Environment) -> Self {
        let mut registers = [None; 11];
        registers[usize::from(R1.0)] = Some(CONTEXT_START);
        registers[usize::from(FP.0)] = Some(FRAME_POINTER);
        Self { registers, memory: AddressSpace::new(context, maps, env.session_cookie), env }
    }

    pub(super) fn get(&self, reg: Reg) -> Result<u64, Fault> {
        let value = self.registers.get(usize::from(reg.0)).ok_or(Fault::NoRegister(reg))?;
        value.ok_or(Fault::Uninitialised(reg))
    }

    fn set(&mut self, reg: Reg, value: u64) -> Result<(), Fault> {
        if reg == FP {
            return Err(Fault::ReadOnly(reg));
        }
        *self.registers.get_mut(usize::from(reg.0)).ok_or(Fault::NoRegister(reg))? = Some(value);
        Ok(())
    }

    fn source(&self, src: Src) -> Result<u64, Fault> {
        match src {
            Src::Reg(reg) => self.get(reg),
            Src::Imm(imm) => Ok(extend(imm)),
        }
    }

    fn address(&self, base: Reg, offset: i16) -> Result<u64, Fault> {
        Ok(self.get(base)?.wrapping_add_signed(offset.into()))
    }

    /// Operands of an arithmetic instruction; a move does not read `dst`.
    fn operands(&self, insn: &Insn, op: Alu, dst: Reg, src: Src, width: i32) -> Result<(u64, u64), Fault> {
        if let Src::Imm(imm) = src {
            let refused = match op {
                Alu::Div | Alu::Mod => imm == 0,
                Alu::Lsh | Alu::Rsh | Alu::Arsh => !(0..width).contains(&imm),
                Alu::Neg => imm != 0,
                Alu::Add | Alu::Sub | Alu::Mul | Alu::Or | Alu::And | Alu::Xor | Alu::Mov => false,
            };
            if refused {
                return Err(Fault::BadConstant(*insn));
            }
        } else if op == Alu::Neg {
            return Err(Fault::BadConstant(*insn));
        }
        let src = self.source(src)?;
        let dst = if op == Alu::Mov { 0 } else { self.get(dst)? };
        Ok((dst, src))
    }

    /// Executes a load. It never fails for kernel memory: the kernel turns a fault of a load through a BTF pointer into 0
    /// (`BPF_PROBE_MEM`).
    fn load(&self, address: u64, size: Size) -> Result<u64, Fault> {
        let size = u64::from(size.bytes());
        self.memory.aligned(address, size)?;
        let mut wide = [0; 8];
        if let Some(bytes) = self.memory.kernel(self.env, address, size)? {
            wide[..bytes.len()].copy_from_slice(&bytes);
        }
        Ok(u64::from_le_bytes(wide))
    }

    fn store(&mut self, address: u64, size: Size, value: u64) -> Result<(), Fault> {
        self.memory.aligned(address, size.bytes().into())?;
        let bytes = value.to_le_bytes();
        let len = match size {
            Size::B => 1,
            Size::H => 2,
            Size::W => 4,
            Size::DW => 8,
        };
        self.memory.write(address, &bytes[..len])
    }

    /// Reads the memory of an atomic instruction, which must be writable.
    fn atomic_load(&mut self, address: u64, size: Size) -> Result<u64, Fault> {
        let bytes = u64::from(size.bytes());
        if bytes < 4 {
            return Err(Fault::AtomicSize);
        }
        // Some architectures trap on a misaligned atomic even where the verifier lets it pass.
        if !address.is_multiple_of(bytes) {
            return Err(Fault::Misaligned { address, size: bytes });
        }
        self.memory.argument(address, bytes)?;
        self.load(address, size)
    }

    /// Executes one instruction.
    pub(super) fn step(&mut self, insn: &Insn) -> Result<Next, Fault> {
        match *insn {
            Insn::Alu64(op, dst, src) => {
                let (a, b) = self.operands(insn, op, dst, src, 64)?;
                self.set(dst, alu64(op, a, b))?;
            }
            Insn::Alu32(op, dst, src) => {
                let (a, b) = self.operands(insn, op, dst, src, 32)?;
                self.set(dst, alu32(op, low(a), low(b)).into())?;
            }
            Insn::ToBigEndian(size, dst) => {
                let value = to_big_endian(size, self.get(dst)?).ok_or(Fault::BadConstant(*insn))?;
                self.set(dst, value)?;
            }
            Insn::Imm64(dst, value) => self.set(dst, value)?,
            Insn::Map(dst, map) => {
                let known = usize::try_from(map).is_ok_and(|map| map < self.memory.maps.len());
                if !known {
                    return Err(Fault::NoMap(map));
                }
                self.set(dst, map_address(map))?;
            }
            Insn::Load(size, dst, src, offset) => {
                let value = self.load(self.address(src, offset)?, size)?;
                self.set(dst, value)?;
            }
            Insn::Store(size, dst, offset, src) => {
                self.store(self.address(dst, offset)?, size, self.get(src)?)?;
            }
            Insn::StoreImm(size, dst, offset, imm) => {
                self.store(self.address(dst, offset)?, size, extend(imm))?;
            }
            Insn::AtomicAdd(size, dst, offset, src) => {
                let (address, value) = (self.address(dst, offset)?, self.get(src)?);
                let old = self.atomic_load(address, size)?;
                self.store(address, size, old.wrapping_add(value))?;
            }
            Insn::Exchange(dst, offset, src) => {
                let (address, value) = (self.address(dst, offset)?, self.get(src)?);
                let old = self.atomic_load(address, Size::DW)?;
                self.store(address, Size::DW, value)?;
                self.set(src, old)?;
            }
            Insn::CompareExchange(dst, offset, src) => {
                let (address, value) = (self.address(dst, offset)?, self.get(src)?);
                let (old, expected) = (self.atomic_load(address, Size::DW)?, self.get(R0)?);
                if old == expected {
                    self.store(address, Size::DW, value)?;
                }
                self.set(R0, old)?;
            }
            Insn::Jump(offset) => return Ok(Next::Jump(offset)),
            // Its bound lies beyond the step limit.
            Insn::MayGoto(_) => {}
            Insn::JumpIf(cond, dst, src, offset) => {
                if holds64(cond, self.get(dst)?, self.source(src)?) {
                    return Ok(Next::Jump(offset));
                }
            }
            Insn::JumpIf32(cond, dst, src, offset) => {
                if holds32(cond, low(self.get(dst)?), low(self.source(src)?)) {
                    return Ok(Next::Jump(offset));
                }
            }
            Insn::Call(helper) => {
                let value = self.call(helper)?;
                self.registers[usize::from(R1.0)..=usize::from(R5.0)].fill(None);
                self.set(R0, value)?;
            }
            Insn::CallKernel(function, _) => {
                if self.get(R1)? != CONTEXT_START {
                    return Err(Fault::NotContext);
                }
                let value = match function {
                    // Of a `bool` the rest of the register says nothing.
                    KernelFunction::SessionIsReturn => 0xa5a5_a500 | u64::from(self.env.is_return),
                    KernelFunction::SessionCookie => SESSION_COOKIE,
                };
                self.registers[usize::from(R1.0)..=usize::from(R5.0)].fill(None);
                self.set(R0, value)?;
            }
            Insn::Exit => return Ok(Next::Exit(self.get(R0)?)),
        }
        Ok(Next::Following)
    }
}
