//! Calling conventions: where the arguments and the result of a function are when a probe stops at it. The layout of the
//! registers that the kernel passes to kprobes and uprobes (`struct pt_regs`).
//!
//! Source: `arch/x86/include/asm/ptrace.h` and the System V ABI; `arch/arm64/include/uapi/asm/ptrace.h` and the
//! procedure call standard for `AArch64`.

/// A processor architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// `x86_64`
    X86_64,
    /// `aarch64`
    Aarch64,
}

impl Arch {
    /// Byte offset of the register that holds an argument; `None` for an argument on the stack.
    pub fn argument(self, index: u32) -> Option<u32> {
        match self {
            // rdi, rsi, rdx, rcx, r8, r9
            Self::X86_64 => [112, 104, 96, 88, 72, 64].get(usize::try_from(index).ok()?).copied(),
            // x0 to x7
            Self::Aarch64 => (index < 8).then_some(index * 8),
        }
    }

    /// Byte offset of the register that holds the result: rax, x0.
    pub fn result(self) -> u32 {
        match self {
            Self::X86_64 => 80,
            Self::Aarch64 => 0,
        }
    }

    /// Byte offset of the stack pointer.
    pub fn stack_pointer(self) -> u32 {
        match self {
            Self::X86_64 => 152,
            Self::Aarch64 => 248,
        }
    }

    /// Byte offset of the instruction pointer.
    pub fn instruction_pointer(self) -> u32 {
        match self {
            Self::X86_64 => 128,
            Self::Aarch64 => 256,
        }
    }

    /// Byte offset of the register that holds the return address at the entry of a function; `None` if the address is on the
    /// stack.
    pub fn link(self) -> Option<u32> {
        match self {
            Self::X86_64 => None,
            // x30
            Self::Aarch64 => Some(240),
        }
    }

    /// Byte offset of the register in which Go keeps the goroutine: r14 (Go 1.17 and later), x28.
    pub fn goroutine(self) -> u32 {
        match self {
            Self::X86_64 => 8,
            Self::Aarch64 => 224,
        }
    }

    /// As [`Self::argument`], by Go's calling convention. Go returns results in the same registers.
    pub fn go_argument(self, index: u32) -> Option<u32> {
        match self {
            // rax, rbx, rcx, rdi, rsi, r8, r9, r10, r11
            Self::X86_64 => [80, 40, 88, 112, 104, 72, 64, 56, 48].get(usize::try_from(index).ok()?).copied(),
            Self::Aarch64 => (index < 16).then_some(index * 8),
        }
    }

    /// Bytes by which the stack pointer is higher after the return than at the entry: the size of the return address, if it
    /// is on the stack.
    pub fn popped(self) -> u32 {
        match self {
            Self::X86_64 => 8,
            Self::Aarch64 => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_where_the_kernel_puts_them() {
        // The order of `struct pt_regs`, eight bytes each.
        let x86 = [
            "r15", "r14", "r13", "r12", "bp", "bx", "r11", "r10", "r9", "r8", "ax", "cx", "dx", "si", "di",
            "orig_ax", "ip", "cs", "flags", "sp", "ss",
        ];
        let offset =
            |name: &str| u32::try_from(x86.iter().position(|known| *known == name).unwrap() * 8).unwrap();
        for (index, name) in ["di", "si", "dx", "cx", "r8", "r9"].into_iter().enumerate() {
            assert_eq!(Arch::X86_64.argument(u32::try_from(index).unwrap()), Some(offset(name)), "{name}");
        }
        assert_eq!(Arch::X86_64.argument(6), None);
        assert_eq!(Arch::X86_64.result(), offset("ax"));
        assert_eq!(Arch::X86_64.stack_pointer(), offset("sp"));
        assert_eq!(Arch::X86_64.goroutine(), offset("r14"));
        assert_eq!(Arch::X86_64.instruction_pointer(), offset("ip"));
        for (index, name) in (0..).zip(["ax", "bx", "cx", "di", "si", "r8", "r9", "r10", "r11"]) {
            assert_eq!(Arch::X86_64.go_argument(index), Some(offset(name)), "{name}");
        }
        // x0 to x30, then sp.
        assert_eq!(
            (0..9).map_while(|index| Arch::Aarch64.argument(index)).collect::<Vec<_>>(),
            [0, 8, 16, 24, 32, 40, 48, 56]
        );
        assert_eq!(Arch::Aarch64.result(), 0);
        assert_eq!(Arch::Aarch64.stack_pointer(), 31 * 8);
        assert_eq!(Arch::Aarch64.link(), Some(30 * 8));
        assert_eq!(Arch::Aarch64.instruction_pointer(), 32 * 8);
    }
}
