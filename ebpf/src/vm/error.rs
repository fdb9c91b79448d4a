//! Why a run stopped short of `exit`.

use crate::insn::Reg;

/// A run that the verifier would have refused, or a limit of the machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("instruction {index}: {fault}")]
pub struct VmError {
    /// Place of the instruction in the program given (not its slot).
    pub index: usize,
    /// What was wrong with it.
    pub fault: Fault,
}

/// What an instruction did wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A register was read before it was written, or after a call destroyed it.
    #[error("`{0:?}` is read before it is written")]
    Uninitialised(Reg),
    /// The frame pointer was written.
    #[error("`{0:?}` is read only")]
    ReadOnly(Reg),
    /// There are registers `r0` to `r10`.
    #[error("there is no register `{0:?}`")]
    NoRegister(Reg),
    /// A stack byte was read before it was written.
    #[error("stack at {address:#x} (r10 {offset:+}) is read before it is written")]
    UninitialisedStack {
        /// First such byte.
        address: u64,
        /// The same from the frame pointer.
        offset: i64,
    },
    /// An access left the stack, the context or a map value.
    #[error("{size} bytes at {address:#x} are not within the {region}")]
    OutOfBounds {
        /// `stack`, `context` or `map value`.
        region: &'static str,
        /// Where the access starts.
        address: u64,
        /// Bytes accessed.
        size: u64,
    },
    /// The verifier wants aligned accesses of the stack and the context, and aligned atomics.
    #[error("{size} bytes at {address:#x} are not aligned")]
    Misaligned {
        /// Where the access starts.
        address: u64,
        /// Bytes accessed.
        size: u64,
    },
    /// A store, or an argument of a helper, points neither to the stack nor into a map value.
    #[error("{address:#x} is neither on the stack nor in a map value")]
    NotOwn {
        /// The pointer.
        address: u64,
    },
    /// A function of the kernel wants the context and got something else.
    #[error("`r1` is not the context")]
    NotContext,
    /// A helper wants a map and got something else.
    #[error("{0:#x} is not a map")]
    NotMap(u64),
    /// `Insn::Map` of a number that was not declared.
    #[error("there is no map {0}")]
    NoMap(u32),
    /// A per-CPU map was used on a CPU beyond `Environment::cpus`.
    #[error("there is no CPU {0}")]
    NoCpu(u32),
    /// Constant division by zero, a constant shift of the width or more, or a negation with an operand.
    #[error("the verifier refuses the constant of `{0}`")]
    BadConstant(crate::insn::Insn),
    /// An atomic of 1 or 2 bytes.
    #[error("atomics take 4 or 8 bytes")]
    AtomicSize,
    /// A helper that this machine does not have.
    #[error("this machine has no helper `{0}`")]
    NoHelper(&'static str),
    /// The size given to a helper that wants at least one byte.
    #[error("the helper wants a size above 0")]
    ZeroSize,
    /// A jump before the start, past the end or into the middle of a 64-bit constant.
    #[error("jump to slot {0}, where no instruction starts")]
    BadJump(i64),
    /// The last instruction was neither a jump nor `exit`.
    #[error("the program ends without `exit`")]
    FellOff,
    /// More instructions than `Environment::step_limit`.
    #[error("no `exit` after {0} instructions")]
    StepLimit(usize),
}
