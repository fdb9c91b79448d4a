//! Where a probe for the beginning of a function goes: to its first instruction, or behind the mark that it begins with.
//!
//! Compilers mark where computed jumps may go by `endbr64`, an instruction that does nothing; nearly every function of a
//! distribution begins with one. A probe on it costs a second trap, because the kernel has a copy of it run by the processor and
//! stops that after one step. What follows is most often a `push` or another instruction that the kernel does by itself, without
//! that trap. Registers and stack are the same there, and who calls the function passes both.
//!
//! The place behind the mark is taken where all of this is sure: the kernel does the instruction itself, no jump within the function leads
//! there, which would be counted as a call, and no other function begins there. A jump from elsewhere to that place is a call that left out
//! the mark, and is counted like others.

use super::{Function, Functions, exits::Exits};
use std::os::unix::fs::FileExt;
use tapster_ebpf::attach::Arch;

/// `endbr64`
const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];
/// Its length.
pub(super) const MARK: u64 = 4;
/// `push %rbp`
const PUSH_FRAME: u8 = 0x55;
/// Bytes that tell what the instruction behind the mark is.
const LOOK: usize = 6;

/// What a function begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// A mark, and an instruction that the kernel does by itself: `push %rbp`, by which it knows that the function has no frame yet.
    MarkAndFrame,
    /// A mark, and another such instruction.
    Mark,
    /// Anything else.
    Plain,
}

impl Beginning {
    /// Looks at the first bytes of a function.
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

/// Whether the kernel does an instruction by itself instead of having the processor run a copy of it: `arch/x86/kernel/uprobes.c`, all
/// that the oldest kernels here know. The `nop` of five bytes is one since 6.18, where it becomes a call; before, it costs what the mark costs.
fn is_done_by_kernel(code: &[u8]) -> bool {
    // `push`, of a register up to rdi and from r8 on; `nop`, of one byte and of five; `call`, `jmp`, and jumps with a condition, near
    // and far.
    matches!(
        code,
        [0x50..=0x57 | 0x90 | 0xe8 | 0xe9 | 0xeb | 0x70..=0x7f, ..]
            | [0x41, 0x50..=0x57, ..]
            | [0x0f, 0x80..=0x8f, ..]
            | [0x0f, 0x1f, 0x44, 0x00, 0x00, ..]
    )
}

impl Functions {
    /// Where a probe for the beginning of a function goes, bytes from the start of the file. `exits` is what is known of its code;
    /// `stacks`, whether the program's stack is taken there.
    pub fn entry(&self, function: &Function, exits: Option<&Exits>, stacks: bool) -> u64 {
        let passes = exits.is_some_and(|exits| exits.begins_once) && self.has_mark(function, stacks);
        if passes { function.offset + MARK } else { function.offset }
    }

    /// Whether a function begins with a mark that a probe may pass, if its code is as it should be.
    ///
    /// Since Linux 6.12 the kernel adds the caller to the stack of a program at `push %rbp`, because the function has no frame of its own
    /// yet, and, if it is built with `CONFIG_X86_KERNEL_IBT`, at a mark. Where stacks are taken, other instructions are none to stop at.
    pub fn has_mark(&self, function: &Function, stacks: bool) -> bool {
        // Without a length, what is behind a jump may be another function.
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
        match Beginning::of(self.arch, bytes) {
            Beginning::MarkAndFrame => true,
            Beginning::Mark => !stacks,
            Beginning::Plain => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_passed_where_the_kernel_does_what_follows() {
        let beginning = |behind: &[u8]| Beginning::of(Arch::X86_64, &[&ENDBR64, behind].concat());
        assert_eq!(beginning(&[0x55, 0x48, 0x89, 0xe5]), Beginning::MarkAndFrame);
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
            assert_eq!(beginning(behind), Beginning::Mark, "{behind:x?}");
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
            assert_eq!(beginning(behind), Beginning::Plain, "{behind:x?}");
        }
        assert_eq!(Beginning::of(Arch::X86_64, &[0x55]), Beginning::Plain, "there is no mark");
        assert_eq!(Beginning::of(Arch::Aarch64, &[0xf3, 0x0f, 0x1e, 0xfa, 0x55]), Beginning::Plain);
    }
}
