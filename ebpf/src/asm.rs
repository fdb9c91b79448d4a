//! Instructions with labels and comments, resolved to jump offsets at the end.

use crate::insn::{Alu, Cond, FP, Insn, Reg, Size, Src};

/// A target of jumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JumpLabel(usize);

#[derive(Clone, Debug)]
enum Item {
    Insn(Insn),
    Label(JumpLabel),
    Jump(JumpLabel),
    JumpIf(Cond, Reg, Src, JumpLabel),
    MayGoto(JumpLabel),
    Comment(String),
}

/// A program that is being written.
#[derive(Clone, Debug, Default)]
pub struct Assembler {
    items: Vec<Item>,
    labels: usize,
}

/// Why instructions cannot be assembled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AsmError {
    /// A jump offset has 16 bits.
    #[error("the program is too long: a jump spans {0} instructions")]
    TooFar(i64),
    /// A label was used but never placed; a mistake in the compiler.
    #[error("a jump goes nowhere; this is a mistake in the compiler")]
    Unplaced,
}

/// A finished program, with its comments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assembled {
    /// The instructions.
    pub insns: Vec<Insn>,
    /// Comments, each before the instruction of that index.
    pub comments: Vec<(usize, String)>,
}

impl Assembler {
    /// Appends an instruction.
    pub fn push(&mut self, insn: Insn) {
        self.items.push(Item::Insn(insn));
    }

    /// `dst = src`
    pub fn mov(&mut self, dst: Reg, src: impl Into<Src>) {
        self.alu(Alu::Mov, dst, src);
    }

    /// Arithmetic in 64 bits: `dst = dst op src`.
    pub fn alu(&mut self, op: Alu, dst: Reg, src: impl Into<Src>) {
        self.push(Insn::Alu64(op, dst, src.into()));
    }

    /// `dst = value`, in as few slots as possible.
    pub fn constant(&mut self, dst: Reg, value: u64) {
        match i32::try_from(value.cast_signed()) {
            Ok(small) => self.mov(dst, small),
            Err(_) => self.push(Insn::Imm64(dst, value)),
        }
    }

    /// Reads a word of the stack.
    pub fn load_slot(&mut self, dst: Reg, offset: i16) {
        self.push(Insn::Load(Size::DW, dst, FP, offset));
    }

    /// Makes a label, to be placed later.
    pub fn label(&mut self) -> JumpLabel {
        self.labels += 1;
        JumpLabel(self.labels - 1)
    }

    /// Places a label here.
    pub fn place(&mut self, label: JumpLabel) {
        self.items.push(Item::Label(label));
    }

    /// Jumps to a label.
    pub fn jump(&mut self, to: JumpLabel) {
        self.items.push(Item::Jump(to));
    }

    /// Jumps to a label if the condition holds.
    pub fn jump_if(&mut self, cond: Cond, dst: Reg, src: impl Into<Src>, to: JumpLabel) {
        self.items.push(Item::JumpIf(cond, dst, src.into(), to));
    }

    /// Bounds a loop by a count that the kernel keeps, see [`Insn::MayGoto`].
    pub fn may_goto(&mut self, to: JumpLabel) {
        self.items.push(Item::MayGoto(to));
    }

    /// Adds a comment on the instructions that follow.
    pub fn comment(&mut self, text: impl Into<String>) {
        self.items.push(Item::Comment(text.into()));
    }

    /// Removes instructions that no path reaches, such as the branches of a constant condition: the kernel refuses a program
    /// that has any (`unreachable insn`, `check_cfg` in `kernel/bpf/verifier.c`).
    fn without_unreachable(self) -> Self {
        let mut places = vec![self.items.len(); self.labels];
        for (at, item) in self.items.iter().enumerate() {
            if let Item::Label(JumpLabel(label)) = item {
                places[*label] = at;
            }
        }
        let mut reached = vec![false; self.items.len()];
        let mut starts = vec![0];
        while let Some(mut at) = starts.pop() {
            while let Some(seen) = reached.get_mut(at).filter(|seen| !**seen) {
                *seen = true;
                at = match &self.items[at] {
                    Item::Insn(Insn::Exit) => break,
                    Item::Jump(JumpLabel(label)) => places[*label],
                    Item::JumpIf(_, _, _, JumpLabel(label)) | Item::MayGoto(JumpLabel(label)) => {
                        starts.push(places[*label]);
                        at + 1
                    }
                    Item::Insn(_) | Item::Label(_) | Item::Comment(_) => at + 1,
                };
            }
        }
        let kept = self
            .items
            .into_iter()
            .zip(reached)
            .filter(|(item, reached)| *reached || matches!(item, Item::Label(_)));
        Self { items: kept.map(|(item, _)| item).collect(), labels: self.labels }
    }

    /// Removes unreachable instructions and resolves the labels.
    pub fn finish(self) -> Result<Assembled, AsmError> {
        let this = self.without_unreachable();
        let mut places: Vec<Option<i64>> = vec![None; this.labels];
        let mut slot: i64 = 0;
        for item in &this.items {
            match item {
                Item::Insn(insn) => slot += width(insn),
                Item::Jump(_) | Item::JumpIf(..) | Item::MayGoto(_) => slot += 1,
                Item::Label(JumpLabel(index)) => places[*index] = Some(slot),
                Item::Comment(_) => {}
            }
        }
        let mut result = Assembled::default();
        let mut slot: i64 = 0;
        for item in this.items {
            let offset = |label: JumpLabel, slot: i64| {
                let distance = places[label.0].ok_or(AsmError::Unplaced)? - slot - 1;
                i16::try_from(distance).map_err(|_| AsmError::TooFar(distance))
            };
            let insn = match item {
                Item::Insn(insn) => insn,
                Item::Jump(label) => Insn::Jump(offset(label, slot)?),
                Item::JumpIf(cond, dst, src, label) => Insn::JumpIf(cond, dst, src, offset(label, slot)?),
                Item::MayGoto(label) => Insn::MayGoto(offset(label, slot)?),
                Item::Label(_) => continue,
                Item::Comment(text) => {
                    result.comments.push((result.insns.len(), text));
                    continue;
                }
            };
            slot += width(&insn);
            result.insns.push(insn);
        }
        Ok(result)
    }
}

/// Converts a value to an offset of an instruction. Offsets into contexts, rows, texts and entries all have limits below its
/// range.
pub(crate) fn offset(bytes: u32) -> i16 {
    i16::try_from(bytes).expect("what a program reads and writes is within 32 KiB of its beginning")
}

/// Converts a value to a constant of an instruction.
pub(crate) fn immediate(value: u32) -> i32 {
    i32::try_from(value).expect("sizes and numbers of buckets, elements and bits are small")
}

/// Number of slots of an instruction, for distances.
fn width(insn: &Insn) -> i64 {
    i64::try_from(insn.slots()).expect("it has one or two")
}

impl Assembled {
    /// Formats the program as a listing: slot numbers, instructions, comments.
    pub fn listing(&self) -> String {
        use std::fmt::Write;
        let mut text = String::new();
        let mut slot = 0;
        let mut comments = self.comments.iter().peekable();
        for (index, insn) in self.insns.iter().enumerate() {
            while let Some((_, comment)) = comments.next_if(|(at, _)| *at == index) {
                let _ = writeln!(text, "        ; {comment}");
            }
            let _ = writeln!(text, "{slot:6}: {insn}");
            slot += insn.slots();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::insn::{R0, R1};

    #[test]
    fn offsets_count_slots_in_both_directions() {
        let mut asm = Assembler::default();
        let (back, out) = (asm.label(), asm.label());
        asm.place(back);
        asm.jump_if(Cond::Eq, R1, 0, out);
        asm.push(Insn::Imm64(R0, 1));
        asm.jump(back);
        asm.place(out);
        asm.push(Insn::Exit);
        let insns = asm.finish().unwrap().insns;
        assert_eq!(insns[0], Insn::JumpIf(Cond::Eq, R1, Src::Imm(0), 3));
        assert_eq!(insns[2], Insn::Jump(-4));
    }

    #[test]
    fn what_is_never_reached_is_left_out() {
        let mut asm = Assembler::default();
        let (then, end) = (asm.label(), asm.label());
        asm.push(Insn::Alu64(Alu::Mov, R0, Src::Imm(0)));
        asm.jump(end);
        asm.place(then);
        asm.push(Insn::Imm64(R0, 1));
        asm.jump_if(Cond::Eq, R0, 0, then);
        asm.place(end);
        asm.push(Insn::Exit);
        asm.push(Insn::Exit);
        let insns = asm.finish().unwrap().insns;
        assert_eq!(insns, [Insn::Alu64(Alu::Mov, R0, Src::Imm(0)), Insn::Jump(0), Insn::Exit]);
    }

    #[test]
    fn too_far_is_an_error() {
        let mut asm = Assembler::default();
        let out = asm.label();
        asm.jump_if(Cond::Eq, R1, 0, out);
        for _ in 0..40_000 {
            asm.push(Insn::Alu64(Alu::Add, R0, Src::Imm(1)));
        }
        asm.place(out);
        assert_eq!(asm.finish(), Err(AsmError::TooFar(40_000)));
        let mut asm = Assembler::default();
        let nowhere = asm.label();
        asm.jump(nowhere);
        assert_eq!(asm.finish(), Err(AsmError::Unplaced));
    }
}
