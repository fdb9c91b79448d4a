//! Updates of maps that may fail, and what is said of that.

use super::Lowering;
use crate::{
    insn::{Alu, Cond, R0, Reg},
    layout::DropReason,
};

/// `BPF_NOEXIST`: of two CPUs with the same new key one makes the entry.
pub(super) const NOEXIST: i32 = 1;
/// `-EEXIST`: the map has an entry of the key.
pub(super) const EXISTS: i32 = -17;
/// `-E2BIG`: the map is full.
pub(super) const FULL: i32 = -7;

impl Lowering<'_> {
    /// Makes a negative number of an error that a map's update returned: before 6.4 the kernel's function returns 32 bits, and what
    /// is above them is anything. A result that is no error is 0 in either case.
    pub(super) fn widen_error(&mut self, register: Reg) {
        self.alu(Alu::Lsh, register, 32);
        self.alu(Alu::Arsh, register, 32);
    }

    /// Counts a failed update by the error in `r0`; 0 is success.
    pub(super) fn count_failure(&mut self, full: DropReason) {
        let (done, busy) = (self.asm.label(), self.asm.label());
        self.asm.jump_if(Cond::Eq, R0, 0, done);
        self.widen_error(R0);
        self.asm.jump_if(Cond::Ne, R0, FULL, busy);
        self.drop_event(full);
        self.asm.jump(done);
        self.asm.place(busy);
        self.drop_event(DropReason::Busy);
        self.asm.place(done);
    }
}
