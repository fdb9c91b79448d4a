//! Where a probe for the entry of a function goes: to its first instruction, or behind the mark with which it begins.
//!
//! Compilers mark the targets of computed jumps by `endbr64`, an instruction without effect; nearly every function of a
//! distribution begins with one. A probe on it costs a second trap, because the kernel makes the processor run a copy of it and
//! stops that after one step. The next instruction is most often a `push` or another one that the kernel emulates, without
//! that trap. Registers and stack are the same there, and every call of the function passes both.
//!
//! The probe goes behind the mark if all of this is certain: the kernel emulates the instruction, no jump within the function
//! leads there, which would be counted as a call, and no other function begins there. A jump from elsewhere to that place is a
//! call that left out the mark, and is counted like others.

use super::{FileFunctions, Function, exits::Exits};
use std::os::unix::fs::FileExt;
use tapster_ebpf::attach::Arch;

/// `endbr64`
const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];
/// Its length.
pub(super) const MARK: u64 = 4;
/// `push %rbp`
const PUSH_FRAME: u8 = 0x55;
/// Bytes that identify the instruction behind the mark.
const LOOK: usize = 6;

/// The beginning of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FunctionStart {
    /// A mark, and `push %rbp`, which the kernel emulates and by which it knows that the function has no frame yet.
    MarkAndFrame,
    /// A mark, and another instruction that the kernel emulates.
    Mark,
    /// Anything else.
    Plain,
}

impl FunctionStart {
    /// Classifies the first bytes of a function.
    fn of(arch: Arch, bytes: &[u8]) -> Self {
        let behind = match arch {
            Arch::X86_64 => bytes.strip_prefix(&ENDBR64),
            Arch::Aarch64 => None,
        };
        match behind {
            Some([PUSH_FRAME, ..]) => Self::MarkAndFrame,
            Some(code) if is_done_by_kernel(code) => Self::Mark,
            _ => Self::Plain,
        }
    }
}

/// Whether the kernel emulates an instruction instead of having the processor run a copy of it: `arch/x86/kernel/uprobes.c`, as
/// far as the oldest supported kernels do. The `nop` of five bytes is one since 6.18, where it becomes a call; before, it costs
/// what the mark costs.
fn is_done_by_kernel(code: &[u8]) -> bool {
    // `push`, of a register up to rdi and from r8 on; `nop`, of one byte and of five; `call`, `jmp`, and jumps with a condition,
    // near and far.
    matches!(
        code,
        [0x50..=0x57 | 0x90 | 0xe8 | 0xe9 | 0xeb | 0x70..=0x7f, ..]
            | [0x41, 0x50..=0x57, ..]
            | [0x0f, 0x80..=0x8f, ..]
            | [0x0f, 0x1f, 0x44, 0x00, 0x00, ..]
    )
}

impl FileFunctions {
    /// Where a probe for the entry of a function goes, bytes from the start of the file. `exits` comes from its code;
    /// `stacks` is whether the probe takes the program's stack there.
    pub fn entry(&self, function: &Function, exits: Option<&Exits>, stacks: bool) -> u64 {
        let passes = exits.is_some_and(|exits| exits.begins_once) && self.has_mark(function, stacks);
        if passes { function.offset + MARK } else { function.offset }
    }

    /// Whether a function begins with a mark that a probe may pass, provided that its code allows it.
    ///
    /// Since Linux 6.12 the kernel adds the caller to the stack of a program at `push %rbp`, because the function has no frame of
    /// its own yet, and, if it is built with `CONFIG_X86_KERNEL_IBT`, at a mark. If stacks are taken, a probe must not be at
    /// other instructions.
    pub fn has_mark(&self, function: &Function, stacks: bool) -> bool {
        // If the length is unknown, the code behind a jump may be another function.
        let length = function.room.min(function.size);
        if length <= MARK {
            return false;
        }
        let mut bytes = [0; ENDBR64.len() + LOOK];
        let length = usize::try_from(length).unwrap_or(bytes.len()).min(bytes.len());
        let bytes = &mut bytes[..length];
        if self.file.read_exact_at(bytes, function.offset).is_err() {
            return false;
        }
        match FunctionStart::of(self.arch, bytes) {
            FunctionStart::MarkAndFrame => true,
            FunctionStart::Mark => !stacks,
            FunctionStart::Plain => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_passed_where_the_kernel_does_what_follows() {
        let beginning = |behind: &[u8]| FunctionStart::of(Arch::X86_64, &[&ENDBR64, behind].concat());
        assert_eq!(beginning(&[0x55, 0x48, 0x89, 0xe5]), FunctionStart::MarkAndFrame);
        for behind in [
            &[0x53][..],                     // push %rbx
            &[0x41, 0x57],                   // push %r15
            &[0x90],                         // nop
            &[0xe8, 0, 0, 0, 0],             // call
            &[0xeb, 0x10],                   // jmp
            &[0x74, 0x10],                   // je
            &[0x0f, 0x84, 0, 0, 0, 0],       // je, far
            &[0x0f, 0x1f, 0x44, 0x00, 0x00], // nopl 0(%rax,%rax)
        ] {
            assert_eq!(beginning(behind), FunctionStart::Mark, "{behind:x?}");
        }
        for behind in [
            &[0x48, 0x83, 0xec, 0x08][..], // sub $8,%rsp
            &[0xc3],                       // ret
            &[0xf3, 0x90],                 // pause
            &[0xf2, 0xe9, 0, 0, 0, 0],     // bnd jmp
            &[0x41, 0x89, 0xc0],           // mov %eax,%r8d
            &[0x0f, 0x0b],                 // ud2
            &[],
        ] {
            assert_eq!(beginning(behind), FunctionStart::Plain, "{behind:x?}");
        }
        assert_eq!(FunctionStart::of(Arch::X86_64, &[0x55]), FunctionStart::Plain, "there is no mark");
        assert_eq!(FunctionStart::of(Arch::Aarch64, &[0xf3, 0x0f, 0x1e, 0xfa, 0x55]), FunctionStart::Plain);
    }
}
