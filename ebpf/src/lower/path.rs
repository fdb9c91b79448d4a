//! Writes the path of a file to the stack.
//!
//! A path is found from its end: each name stands in front of the one before. So it is put together in memory of the CPU, from the end of
//! the room there, and then copied. The place of its beginning is kept in that memory too, because the verifier does not follow what is there:
//! of all the rounds after which a path may be whole it so sees one.

use super::{Lowering, immediate};
use crate::{
    asm::JumpLabel,
    insn::{Alu, Cond, FP, Helper, Insn, R0, R1, R2, R3, R8, Size},
    layout::{DropReason, PATH_PLACE, PATH_TEXT, PATHS},
    typed::{CUT_PATH, MOST_PATH, PathRead},
};

/// Most names of a path.
const MOST_NAMES: i32 = 64;
/// Longest name; the kernel has none that is longer.
const NAME_MASK: i32 = 255;
/// Places in the memory of the CPU, the room and the zeros behind it.
const PLACE_MASK: i32 = (2 * MOST_PATH - 1).cast_signed();

/// Slots of a walk from a file to the root.
struct PathWalk {
    /// The address of the CPU's memory.
    base: i16,
    /// The `struct dentry` that is looked at.
    dentry: i16,
    /// Address and length of its name.
    name: i16,
    length: i16,
    /// Memory could not be read.
    failed: JumpLabel,
    /// It is longer than there is room for.
    cut: JumpLabel,
}

impl Lowering<'_> {
    /// Writes a path at `slot`, with zeros up to `room` bytes.
    pub(super) fn path(&mut self, read: &PathRead, slot: i16, room: u32) {
        let used = self.stack.used;
        let [base, dentry, parent, name, length, root] = [(); 6].map(|()| self.stack.take(8));
        let [failed, cut, done, busy, end, release] = [(); 6].map(|()| self.asm.label());
        let walk = PathWalk { base, dentry, name, length, failed, cut };
        self.asm.comment("path");
        self.zero(slot, 0, room);
        if let Some(mount) = &read.root {
            self.eval(mount, 0);
            self.store_slot(root, R1);
        }
        self.eval(&read.dentry, 0);
        self.asm.jump_if(Cond::Eq, R1, 0, end);
        self.store_slot(dentry, R1);
        self.claim_scratch(PATHS, base, end, busy);
        self.load_slot(R1, base);
        self.asm.push(Insn::StoreImm(Size::DW, R1, place_word(), immediate(MOST_PATH)));
        // In a register: the verifier of 5.10 takes it for a loop without an end where no register changes. No walk is in the
        // same program, whose element this would be.
        self.mov(R8, 0);
        let (again, at_mount, at_root) = (self.asm.label(), self.asm.label(), self.asm.label());
        self.asm.place(again);
        if read.root.is_some() {
            self.load_slot(R1, dentry);
            self.load_slot(R2, root);
            self.asm.jump_if(Cond::Eq, R1, R2, at_mount);
        }
        self.read_word(&walk, (read.offsets.parent, 8), parent);
        self.load_slot(R1, dentry);
        self.load_slot(R2, parent);
        self.asm.jump_if(Cond::Eq, R1, R2, at_root);
        self.prepend(&walk, read, true);
        self.load_slot(R1, parent);
        self.store_slot(dentry, R1);
        self.alu(Alu::Add, R8, 1);
        self.asm.jump_if(Cond::Lt, R8, MOST_NAMES, again);
        self.asm.place(cut);
        self.asm.comment("the beginning is missing");
        self.move_place(&walk, CUT_PATH.len().try_into().expect("it has four"));
        let mark = i32::from_le_bytes(*CUT_PATH);
        self.asm.push(Insn::StoreImm(Size::W, R1, text_start(), mark));
        self.asm.jump(done);
        self.asm.place(at_mount);
        self.jump_if_begun(&walk, done);
        self.move_place(&walk, 1);
        self.asm.push(Insn::StoreImm(Size::B, R1, text_start(), i32::from(b'/')));
        self.asm.jump(done);
        self.asm.place(at_root);
        // What is in no directory has a name without one: `[eventfd]`. That of a file system's root is `/`.
        self.jump_if_begun(&walk, done);
        self.prepend(&walk, read, false);
        self.asm.place(done);
        self.load_slot(R3, base);
        self.asm.push(Insn::Load(Size::DW, R2, R3, place_word()));
        self.alu(Alu::And, R2, PLACE_MASK);
        self.alu(Alu::Add, R3, R2);
        self.alu(Alu::Add, R3, immediate(PATH_TEXT));
        self.stack_address(R1, slot);
        self.mov(R2, immediate(read.limit.next_multiple_of(8).min(room)));
        self.call(Helper::ReadKernel);
        self.asm.jump(release);
        self.asm.place(failed);
        self.count_one_fault();
        self.asm.place(release);
        self.load_slot(R1, base);
        self.asm.push(Insn::StoreImm(Size::DW, R1, 0, 0));
        self.asm.jump(end);
        self.asm.place(busy);
        self.drop_event(DropReason::Busy);
        self.asm.place(end);
        self.stack.used = used;
    }

    /// Reads what stands at an offset from the `struct dentry` into a slot.
    fn read_word(&mut self, walk: &PathWalk, (offset, size): (u32, u32), to: i16) {
        self.asm.push(Insn::StoreImm(Size::DW, FP, to, 0));
        self.stack_address(R1, to);
        self.mov(R2, immediate(size));
        self.load_slot(R3, walk.dentry);
        self.alu(Alu::Add, R3, immediate(offset));
        self.call(Helper::ReadKernel);
        self.asm.jump_if(Cond::Ne, R0, 0, walk.failed);
    }

    /// Writes the name of the `struct dentry` before what is there, and a `/` before that.
    fn prepend(&mut self, walk: &PathWalk, read: &PathRead, slash: bool) {
        let before = i32::from(slash);
        self.read_word(walk, (read.offsets.name, 8), walk.name);
        self.read_word(walk, (read.offsets.length, 4), walk.length);
        self.load_slot(R3, walk.length);
        self.alu(Alu::And, R3, NAME_MASK);
        self.load_slot(R1, walk.base);
        self.asm.push(Insn::Load(Size::DW, R2, R1, place_word()));
        self.alu(Alu::Sub, R2, R3);
        if slash {
            self.alu(Alu::Sub, R2, before);
        }
        // The NUL, and the mark of what does not fit, take some of the room.
        let mark = u32::try_from(CUT_PATH.len()).expect("it has four");
        let least = MOST_PATH - (read.limit - 1) + mark;
        self.asm.jump_if(Cond::Slt, R2, immediate(least), walk.cut);
        self.asm.push(Insn::Store(Size::DW, R1, place_word(), R2));
        self.alu(Alu::And, R2, NAME_MASK);
        self.alu(Alu::Add, R1, R2);
        if slash {
            self.asm.push(Insn::StoreImm(Size::B, R1, text_start(), i32::from(b'/')));
        }
        self.alu(Alu::Add, R1, immediate(PATH_TEXT) + before);
        self.mov(R2, R3);
        self.load_slot(R3, walk.name);
        self.call(Helper::ReadKernel);
        self.asm.jump_if(Cond::Ne, R0, 0, walk.failed);
    }

    /// Jumps if some of the path is there.
    fn jump_if_begun(&mut self, walk: &PathWalk, to: JumpLabel) {
        self.load_slot(R1, walk.base);
        self.asm.push(Insn::Load(Size::DW, R2, R1, place_word()));
        self.asm.jump_if(Cond::Ne, R2, immediate(MOST_PATH), to);
    }

    /// Moves the beginning to the front; `r1` is the CPU's memory and so much more as the place says.
    fn move_place(&mut self, walk: &PathWalk, bytes: i32) {
        self.load_slot(R1, walk.base);
        self.asm.push(Insn::Load(Size::DW, R2, R1, place_word()));
        self.alu(Alu::Sub, R2, bytes);
        self.asm.push(Insn::Store(Size::DW, R1, place_word(), R2));
        self.alu(Alu::And, R2, NAME_MASK);
        self.alu(Alu::Add, R1, R2);
    }
}

/// Offset of the word of the place, for an instruction.
fn place_word() -> i16 {
    super::offset(PATH_PLACE)
}

/// Offset of the text, for an instruction.
fn text_start() -> i16 {
    super::offset(PATH_TEXT)
}
