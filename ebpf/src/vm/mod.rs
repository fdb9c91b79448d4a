//! Runs instructions without a kernel, to test the output of the compiler.
//!
//! Arithmetic, maps and helpers behave as the kernel's. Behaviour that the verifier would refuse for any input (reading a
//! register or stack byte that was never written, leaving a memory region, a constant shift that is too wide) is a
//! [`VmError`] when the run reaches it. The machine does not check what needs all paths at once (loops, unreachable code) and
//! what needs types: a register is a number here, so a load through a pointer that may be null reads kernel memory at 0 and
//! gives 0.
//!
//! In order of use: tests set up `map` and `environment`, `memory` lays out addresses, `alu` computes, `run` executes one
//! instruction, `helper` one call, and [`Vm`] loops.

mod alu;
mod environment;
mod error;
mod helper;
mod map;
mod memory;
mod run;
#[cfg(test)]
mod tests;

pub use environment::{Environment, Memory};
pub use error::{Fault, VmError};
pub use map::{Errno, MapContents, VmMap, VmMapKind};

use crate::insn::Insn;
use run::{Next, ProgramRun};

/// A program, its maps and the environment that it sees.
#[derive(Debug)]
pub struct Vm {
    program: Vec<Insn>,
    /// Slot at which each instruction starts, then the slot after the last.
    starts: Vec<i64>,
    maps: Vec<MapContents>,
    /// The environment; it may be changed between runs.
    pub env: Environment,
}

impl Vm {
    /// Makes a machine with empty maps, numbered as `Insn::Map` numbers them.
    pub fn new(program: &[Insn], maps: &[VmMap], env: Environment) -> Self {
        let maps = maps.iter().map(|map| MapContents::new(*map, env.cpus)).collect();
        let mut vm = Self { program: Vec::new(), starts: Vec::new(), maps, env };
        vm.load(program);
        vm
    }

    /// Replaces the program and keeps the maps, which the programs of a probe share.
    pub fn load(&mut self, program: &[Insn]) {
        self.program = program.to_vec();
        self.starts.clear();
        let mut start = 0;
        for insn in program {
            self.starts.push(start);
            start += if insn.slots() == 2 { 2 } else { 1 };
        }
        self.starts.push(start);
    }

    /// The contents of a map. Panics if there is no map with that number.
    pub fn map(&self, index: usize) -> &MapContents {
        &self.maps[index]
    }

    /// As [`Vm::map`], for changes that user space would make.
    pub fn map_mut(&mut self, index: usize) -> &mut MapContents {
        &mut self.maps[index]
    }

    /// Runs the program on a context and returns `r0`.
    pub fn run(&mut self, context: &[u8]) -> Result<u64, VmError> {
        for map in &mut self.maps {
            map.recycle();
        }
        let limit = self.env.step_limit;
        let mut run = ProgramRun::new(context, &mut self.maps, &mut self.env);
        let mut index = 0;
        for _ in 0..limit {
            let at = |fault| VmError { index, fault };
            let insn = self.program.get(index).ok_or_else(|| at(Fault::FellOff))?;
            match run.step(insn).map_err(at)? {
                Next::Following => index += 1,
                Next::Jump(offset) => {
                    let slot = self.starts[index + 1] + i64::from(offset);
                    index = self.starts.binary_search(&slot).map_err(|_| at(Fault::BadJump(slot)))?;
                }
                Next::Exit(value) => {
                    run.env.session_cookie = run.memory.session;
                    return Ok(value);
                }
            }
        }
        Err(VmError { index, fault: Fault::StepLimit(limit) })
    }
}
