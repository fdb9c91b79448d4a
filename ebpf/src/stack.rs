//! Sides of stacks, and the reserved stack numbers.

/// The number of a stack that does not exist: the kernel's while a program runs, a program's in a kernel thread.
pub const NO_STACK: u64 = 0;
/// The number of stacks that were not kept.
pub const LOST_STACK: u64 = 1;

/// The side of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The kernel.
    Kernel,
    /// The program.
    User,
}

impl Side {
    /// Its name in expressions, which is also the name of its decoder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kstack",
            Self::User => "ustack",
        }
    }

    /// Size of a frame, bytes: an address, or `struct bpf_stack_build_id`.
    pub fn frame_size(self) -> u32 {
        match self {
            Self::Kernel => 8,
            Self::User => 32,
        }
    }
}
