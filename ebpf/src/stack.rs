//! Stacks: whose they are, and the numbers that stand for none.

/// The number of a stack that is not there: of the kernel, while a program runs; of a program, in a kernel thread.
pub const NO_STACK: u64 = 0;
/// The number of stacks that could not be kept.
pub const LOST_STACK: u64 = 1;

/// Whose stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The kernel's.
    Kernel,
    /// The program's.
    User,
}

impl Side {
    /// The name in the language, which is also that of its decoder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kstack",
            Self::User => "ustack",
        }
    }

    /// Bytes that a frame takes: an address; `struct bpf_stack_build_id`.
    pub fn frame_size(self) -> u32 {
        match self {
            Self::Kernel => 8,
            Self::User => 32,
        }
    }
}
