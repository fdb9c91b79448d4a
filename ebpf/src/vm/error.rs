//! The reasons why a run ends before `exit`.

use crate::insn::Reg;

/// The end of a run that the verifier would have refused, or that reached a limit of the machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("instruction {index}: {fault}")]
pub struct VmError {
    /// Index of the instruction in the program (not its slot).
    pub index: usize,
    /// The mistake.
    pub fault: Fault,
}

/// The mistake of an instruction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It read a register that was not written, or that a call destroyed.
    #[error("`{0:?}` is read before it is written")]
    Uninitialised(Reg),
    /// It wrote the frame pointer.
    #[error("`{0:?}` is read only")]
    ReadOnly(Reg),
    /// It used a register other than `r0` to `r10`.
    #[error("there is no register `{0:?}`")]
    NoRegister(Reg),
    /// It read a byte of the stack that was not written.
    #[error("stack at {address:#x} (r10 {offset:+}) is read before it is written")]
    UninitialisedStack {
        /// Address of the first such byte.
        address: u64,
        /// Its offset from the frame pointer.
        offset: i64,
    },
    /// It accessed memory outside of the stack, the context and the map values.
    #[error("{size} bytes at {address:#x} are not within the {region}")]
    OutOfBounds {
        /// The region that it left: `stack`, `context` or `map value`.
        region: &'static str,
        /// Address of the access.
        address: u64,
        /// Bytes accessed.
        size: u64,
    },
    /// It accessed the stack or the context unaligned, or memory atomically and unaligned, which the verifier refuses.
    #[error("{size} bytes at {address:#x} are not aligned")]
    Misaligned {
        /// Address of the access.
        address: u64,
        /// Bytes accessed.
        size: u64,
    },
    /// It stored, or passed to a helper, a pointer neither to the stack nor into a map value.
    #[error("{address:#x} is neither on the stack nor in a map value")]
    NotOwn {
        /// The pointer.
        address: u64,
    },
    /// It passed something else than the context to a function of the kernel that expects it.
    #[error("`r1` is not the context")]
    NotContext,
    /// It passed something else than a map to a helper that expects one.
    #[error("{0:#x} is not a map")]
    NotMap(u64),
    /// It loaded a map by a number that was not declared.
    #[error("there is no map {0}")]
    NoMap(u32),
    /// It used a per-CPU map on a CPU beyond `Environment::cpus`.
    #[error("there is no CPU {0}")]
    NoCpu(u32),
    /// It divided by a constant zero, shifted by a constant of the width or more, or negated with an operand.
    #[error("the verifier refuses the constant of `{0}`")]
    BadConstant(crate::insn::Insn),
    /// It accessed 1 or 2 bytes atomically.
    #[error("atomics take 4 or 8 bytes")]
    AtomicSize,
    /// It called a helper that this machine does not have.
    #[error("this machine has no helper `{0}`")]
    NoHelper(&'static str),
    /// It passed a size of 0 to a helper that requires at least one byte.
    #[error("the helper wants a size above 0")]
    ZeroSize,
    /// It jumped before the start, past the end or into the middle of a 64-bit constant.
    #[error("jump to slot {0}, where no instruction starts")]
    BadJump(i64),
    /// The last instruction was neither a jump nor `exit`.
    #[error("the program ends without `exit`")]
    FellOff,
    /// The run executed more instructions than `Environment::step_limit`.
    #[error("no `exit` after {0} instructions")]
    StepLimit(usize),
}
