//! The two sides of a stack.

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
