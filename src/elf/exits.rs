//! Where a function ends: the instructions with which it returns, and those with which it jumps to another function that
//! returns in its place.
//!
//! A probe at the return instruction leaves the stack as it is. A return probe of the kernel replaces the return address,
//! which ends programs that look at it: exceptions, Go, `setjmp`, switched stacks; and it sees at most 64 nested calls. The
//! price is that instructions must be told apart with certainty, because a probe replaces a byte where it is set. If anything in
//! a function cannot be decoded, it has no exits here: its entries are probed, its returns are not.

use super::{MachineCode, entry};
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};
use tapster_ebpf::attach::Arch;

/// Most ends of a function.
const MOST: usize = 1 << 14;

/// The ends of a function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exits {
    /// Offsets in the file of instructions that return.
    pub returns: Vec<u64>,
    /// Unconditional jumps out of the function: offset in the file, and target address.
    pub jumps: Vec<(u64, u64)>,
    /// Targets of conditional jumps out of the function.
    pub conditional: Vec<u64>,
    /// Whether it jumps to a computed address, which may be inside or outside.
    pub computed: bool,
    /// Whether it jumps to its own beginning.
    pub repeats: bool,
    /// Whether nothing in it can jump behind a mark for jumps at its beginning: execution gets there only from the beginning, or
    /// by a call of that place.
    pub begins_once: bool,
}

/// Why the ends of a function are unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownExits {
    /// Its code cannot be read, or is very long.
    #[error("its code cannot be read")]
    NoCode,
    /// Not all of it is code.
    #[error("not all of it reads as code")]
    NotCode,
    /// There are more ends than any function has.
    #[error("it ends at too many places")]
    TooMany,
    /// The symbol has no length, and the code does not show it.
    #[error("where it ends is not told")]
    NoEnd,
}

impl Exits {
    /// Whether it may jump to the function at this address, or behind the mark of that function.
    pub fn may_jump_to(&self, address: u64) -> bool {
        let is_there = |to: u64| to == address || to == address.wrapping_add(entry::MARK);
        self.computed
            || self.conditional.iter().any(|to| is_there(*to))
            || self.jumps.iter().any(|(_, to)| is_there(*to))
    }

    /// Fails if there are more ends than any function has: each would become a probe.
    fn check(&self) -> Result<(), UnknownExits> {
        let count = self.returns.len().max(self.jumps.len()).max(self.conditional.len());
        if count > MOST { Err(UnknownExits::TooMany) } else { Ok(()) }
    }

    /// Whether there are exits that no probe can see.
    pub fn has_unseen(&self) -> bool {
        self.computed || !self.conditional.is_empty()
    }
}

/// Finds the ends in the code of a function: its own first, then parts of it elsewhere. `sized` is whether the length of its own
/// code is known; otherwise it is an upper bound.
pub fn exits(arch: Arch, code: &[MachineCode], sized: bool) -> Result<Exits, UnknownExits> {
    match arch {
        Arch::X86_64 => x86_64(code, sized),
        Arch::Aarch64 => aarch64(code, sized),
    }
}

struct CodeRanges<'c> {
    code: &'c [MachineCode],
}

impl CodeRanges<'_> {
    fn has(&self, address: u64) -> bool {
        self.code.iter().any(|part| within(part, address))
    }
}

fn within(part: &MachineCode, address: u64) -> bool {
    address
        .checked_sub(part.address)
        .and_then(|distance| usize::try_from(distance).ok())
        .is_some_and(|distance| distance < part.bytes.len())
}

/// Addresses in code, a bit for each.
struct Marks<'c> {
    code: &'c [MachineCode],
    bits: Vec<Vec<u64>>,
}

impl<'c> Marks<'c> {
    fn new(code: &'c [MachineCode]) -> Self {
        Self { code, bits: code.iter().map(|part| vec![0; part.bytes.len() / 64 + 1]).collect() }
    }

    fn mark(&mut self, address: u64) {
        for (part, bits) in self.code.iter().zip(&mut self.bits).filter(|(part, _)| within(part, address)) {
            let at = usize::try_from(address - part.address).unwrap_or(0);
            bits[at / 64] |= 1 << (at % 64);
        }
    }

    /// Whether all that `others` mark is marked here.
    fn have_all(&self, others: &Self) -> bool {
        let pairs = self.bits.iter().flatten().zip(others.bits.iter().flatten());
        pairs.into_iter().all(|(own, other)| other & !own == 0)
    }
}

fn x86_64(code: &[MachineCode], sized: bool) -> Result<Exits, UnknownExits> {
    let all = CodeRanges { code };
    let start = code.first().ok_or(UnknownExits::NoCode)?.address;
    let mut exits = Exits::default();
    let behind_mark = start.wrapping_add(entry::MARK);
    let mut begins_once = true;
    let mut boundaries = Marks::new(code);
    let mut targets = Marks::new(code);
    for (index, part) in code.iter().enumerate() {
        let sized = sized || index > 0;
        let mut decoder = Decoder::with_ip(64, &part.bytes, part.address, DecoderOptions::NONE);
        let mut insn = Instruction::default();
        // If the length is unknown: the code goes on at least to the furthest target of its jumps.
        let mut furthest = part.address;
        let mut ended = sized;
        while decoder.can_decode() {
            exits.check()?;
            decoder.decode_out(&mut insn);
            if insn.is_invalid() || is_odd(insn.mnemonic()) {
                return Err(UnknownExits::NotCode);
            }
            let at = insn.ip();
            boundaries.mark(at);
            let place = part.offset.wrapping_add(at.wrapping_sub(part.address));
            let mut stops = false;
            match insn.mnemonic() {
                Mnemonic::Ret => {
                    exits.returns.push(place);
                    stops = true;
                }
                Mnemonic::Hlt | Mnemonic::Ud2 | Mnemonic::Ud1 | Mnemonic::Int3 => stops = true,
                Mnemonic::Jmp if insn.op0_kind() != OpKind::NearBranch64 => {
                    // A jump table may lead anywhere within.
                    begins_once = false;
                    // Compilers that mark anything mark jumps by a table, which stay within the function, by this prefix.
                    if insn.segment_prefix() != Register::DS {
                        exits.computed = true;
                    }
                    // The function may go on behind it, if a table leads there.
                    if !sized && at >= furthest {
                        return Err(UnknownExits::NoEnd);
                    }
                }
                Mnemonic::Call => {}
                mnemonic if insn.op0_kind() == OpKind::NearBranch64 => {
                    let target = insn.near_branch_target();
                    let jump = mnemonic == Mnemonic::Jmp;
                    stops = jump;
                    begins_once &= target != behind_mark;
                    // If the length is unknown, the code behind the jump may be another function.
                    if all.has(target) && (sized || target <= furthest || !jump) {
                        targets.mark(target);
                        furthest = furthest.max(target);
                        exits.repeats |= target == start;
                    } else if jump {
                        exits.jumps.push((place, target));
                    } else {
                        exits.conditional.push(target);
                    }
                }
                _ => {}
            }
            if !sized && stops && at >= furthest {
                ended = true;
                break;
            }
        }
        if !ended {
            return Err(UnknownExits::NoEnd);
        }
    }
    // Every target of a jump must be the beginning of an instruction; otherwise some of it is no code.
    if !boundaries.have_all(&targets) {
        return Err(UnknownExits::NotCode);
    }
    Ok(Exits { begins_once, ..exits })
}

/// Instructions that no compiler makes for a program, but that data may look like.
fn is_odd(mnemonic: Mnemonic) -> bool {
    matches!(
        mnemonic,
        Mnemonic::In
            | Mnemonic::Out
            | Mnemonic::Insb
            | Mnemonic::Insd
            | Mnemonic::Outsb
            | Mnemonic::Outsd
            | Mnemonic::Cli
            | Mnemonic::Sti
            | Mnemonic::Retf
            | Mnemonic::Iret
            | Mnemonic::Iretd
            | Mnemonic::Iretq
            | Mnemonic::Enter
            | Mnemonic::Int1
    )
}

fn aarch64(code: &[MachineCode], sized: bool) -> Result<Exits, UnknownExits> {
    if !sized {
        return Err(UnknownExits::NoEnd);
    }
    let all = CodeRanges { code };
    let start = code.first().ok_or(UnknownExits::NoCode)?.address;
    let mut exits = Exits::default();
    for part in code {
        let (words, rest) = part.bytes.as_chunks::<4>();
        if !rest.is_empty() || part.address % 4 != 0 {
            return Err(UnknownExits::NotCode);
        }
        for (step, word) in (0_u64..).step_by(4).zip(words) {
            exits.check()?;
            let word = u32::from_le_bytes(*word);
            let (at, place) = (part.address.wrapping_add(step), part.offset.wrapping_add(step));
            // A distance in instructions, in so many bits from a bit on.
            let target = |bits: u32, from: u32| {
                let distance = (word << (32 - bits - from)).cast_signed() >> (32 - bits);
                at.wrapping_add_signed(i64::from(distance) * 4)
            };
            let jump = match word {
                // ret, retaa, retab
                _ if word & 0xffff_fc1f == 0xd65f_0000 || matches!(word, 0xd65f_0bff | 0xd65f_0fff) => {
                    exits.returns.push(place);
                    continue;
                }
                // br, and with a signed address
                _ if word & 0xfefe_f800 == 0xd61e_0800 || word & 0xffff_fc1f == 0xd61f_0000 => {
                    exits.computed = true;
                    continue;
                }
                // b
                _ if word >> 26 == 0b00_0101 => (target(26, 0), true),
                // b.cond; cbz and cbnz
                _ if word >> 24 == 0b0101_0100 || word & 0x7e00_0000 == 0x3400_0000 => (target(19, 5), false),
                // tbz and tbnz
                _ if word & 0x7e00_0000 == 0x3600_0000 => (target(14, 5), false),
                _ => continue,
            };
            match jump {
                (target, _) if all.has(target) => exits.repeats |= target == start,
                (target, true) => exits.jumps.push((place, target)),
                (target, false) => exits.conditional.push(target),
            }
        }
    }
    Ok(exits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(bytes: &[u8]) -> Vec<MachineCode> {
        vec![MachineCode { address: 0x1000, offset: 0x500, bytes: bytes.to_vec() }]
    }

    #[test]
    fn returns_and_jumps_of_x86() {
        // test edi,edi; je +1; ret; jmp 0x2000
        let bytes = [0x85, 0xff, 0x74, 0x01, 0xc3, 0xe9, 0xf6, 0x0f, 0x00, 0x00];
        let found = exits(Arch::X86_64, &code(&bytes), true).unwrap();
        assert_eq!(found.returns, [0x504]);
        assert_eq!(found.jumps, [(0x505, 0x2000)]);
        assert!(!found.has_unseen() && found.may_jump_to(0x2000) && !found.may_jump_to(0x3000));
        // endbr64; rep ret; ret 8
        let found =
            exits(Arch::X86_64, &code(&[0xf3, 0x0f, 0x1e, 0xfa, 0xf3, 0xc3, 0xc2, 8, 0]), true).unwrap();
        assert_eq!(found.returns, [0x504, 0x506]);
        // jmp rax, and the same for a table; jne away
        assert!(exits(Arch::X86_64, &code(&[0xff, 0xe0]), true).unwrap().computed);
        assert!(!exits(Arch::X86_64, &code(&[0x3e, 0xff, 0xe0]), true).unwrap().computed);
        assert_eq!(exits(Arch::X86_64, &code(&[0x75, 0x10, 0xc3]), true).unwrap().conditional, [0x1012]);
        // dec edi; jne to the beginning
        assert!(exits(Arch::X86_64, &code(&[0xff, 0xcf, 0x75, 0xfc, 0xc3]), true).unwrap().repeats);
    }

    #[test]
    fn a_function_that_jumps_behind_its_mark_begins_again_there() {
        let once = |code: &[MachineCode]| exits(Arch::X86_64, code, true).unwrap().begins_once;
        // endbr64; push %rbx; pop %rbx; then what is given
        let begins = |end: &[u8]| once(&code(&[&[0xf3, 0x0f, 0x1e, 0xfa, 0x53, 0x5b], end].concat()));
        assert!(begins(&[0xc3]));
        // dec %edi; jne behind the mark, to the pop, to the mark
        assert!(!begins(&[0xff, 0xcf, 0x75, 0xfa, 0xc3]));
        assert!(begins(&[0xff, 0xcf, 0x75, 0xfb, 0xc3]));
        assert!(begins(&[0xff, 0xcf, 0x75, 0xf6, 0xc3]));
        // jmp behind the mark; by a table, wherever that leads
        assert!(!begins(&[0xeb, 0xfc]));
        assert!(!begins(&[0x3e, 0xff, 0xe0]));
        // From a part of it elsewhere.
        let own =
            MachineCode { address: 0x1000, offset: 0x500, bytes: vec![0xf3, 0x0f, 0x1e, 0xfa, 0x53, 0xc3] };
        let part = MachineCode { address: 0x2000, offset: 0x900, bytes: vec![0xe9, 0xff, 0xef, 0xff, 0xff] };
        assert!(once(std::slice::from_ref(&own)) && !once(&[own, part]));
    }

    #[test]
    fn what_is_not_all_code_has_no_exits() {
        // A jump into the middle of `mov eax, 0xc3c3c3c3`, whose bytes look like returns; an invalid one; one cut short; `in`.
        for bytes in [
            &[0xeb, 0x01, 0xb8, 0xc3, 0xc3, 0xc3, 0xc3][..],
            &[0x06, 0xc3],
            &[0xc3, 0xe9, 0x00],
            &[0xec, 0xc3],
        ] {
            assert_eq!(exits(Arch::X86_64, &code(bytes), true), Err(UnknownExits::NotCode), "{bytes:x?}");
        }
        assert_eq!(exits(Arch::X86_64, &[], true), Err(UnknownExits::NoCode));
    }

    #[test]
    fn a_function_without_a_length_ends_where_its_code_does() {
        // je over the first return; ret; ret; then bytes of something else
        let bytes = [0x74, 0x01, 0xc3, 0xc3, 0x06, 0x06];
        assert_eq!(exits(Arch::X86_64, &code(&bytes), false).unwrap().returns, [0x502, 0x503]);
        assert_eq!(exits(Arch::X86_64, &code(&[0x90, 0x90]), false), Err(UnknownExits::NoEnd));
        // je to the return; jmp rax; ret
        let found = exits(Arch::X86_64, &code(&[0x74, 0x02, 0xff, 0xe0, 0xc3]), false).unwrap();
        assert!(found.computed && found.returns == [0x504]);
        assert_eq!(exits(Arch::X86_64, &code(&[0xff, 0xe0, 0xc3]), false), Err(UnknownExits::NoEnd));
    }

    #[test]
    fn parts_elsewhere_belong_to_the_function() {
        // je to the part; ret.  part: nop; jmp back to the ret
        let own =
            MachineCode { address: 0x1000, offset: 0x500, bytes: vec![0x0f, 0x84, 0xfa, 0x0f, 0, 0, 0xc3] };
        let part =
            MachineCode { address: 0x2000, offset: 0x900, bytes: vec![0x90, 0xe9, 0x00, 0xf0, 0xff, 0xff] };
        let found = exits(Arch::X86_64, &[own, part], true).unwrap();
        assert_eq!(found, Exits { returns: vec![0x506], begins_once: true, ..Exits::default() });
    }

    #[test]
    fn returns_and_jumps_of_arm64() {
        let words = |words: &[u32]| {
            vec![MachineCode {
                address: 0x1000,
                offset: 0x500,
                bytes: words.iter().flat_map(|word| word.to_le_bytes()).collect(),
            }]
        };
        // cbz x0, +8; ret; b +0x1000; br x16; b.ne -12; tbz w0, #0, away
        let code = words(&[0xb400_0040, 0xd65f_03c0, 0x1400_0400, 0xd61f_0200, 0x54ff_ffa1, 0x3600_4000]);
        let found = exits(Arch::Aarch64, &code, true).unwrap();
        assert_eq!(found.returns, [0x504]);
        assert_eq!(found.jumps, [(0x508, 0x2008)]);
        assert_eq!(found.conditional, [0x1814]);
        assert!(found.computed && !found.repeats);
        // paciasp; retaa; a conditional jump to the beginning
        let found = exits(Arch::Aarch64, &words(&[0xd503_233f, 0xd65f_0bff, 0x54ff_ffc0]), true).unwrap();
        assert_eq!(found.returns, [0x504]);
        assert!(found.repeats);
        assert_eq!(exits(Arch::Aarch64, &words(&[0xd65f_03c0]), false), Err(UnknownExits::NoEnd));
    }
}
