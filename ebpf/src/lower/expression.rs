//! Computes values into registers.

use super::{CONTEXT, Lowering, immediate};
use crate::{
    eval,
    follow::FOLLOWED,
    insn::{Alu, Cond, Helper, Insn, R0, R1, R2, R3, R4, R5, R8, Reg, Size, Src},
    point::PacketHook,
    program::{TRACED, map_named},
    typed::{
        AccessMode, BinaryOperator, Builtin, PACKET, Type, Typed, TypedKind, UnaryOperator,
        unsigned_operation,
    },
};

/// Registers of values, by depth.
pub(super) const VALUES: [Reg; 4] = [R1, R2, R3, R4];

/// Whether computing the expression calls a helper, which clobbers `r0` to `r5`.
fn calls(typed: &Typed) -> bool {
    typed.any(&|typed| match &typed.kind {
        TypedKind::Builtin(_)
        | TypedKind::Comm
        | TypedKind::Stack { .. }
        | TypedKind::Contains { .. }
        | TypedKind::State { .. }
        | TypedKind::TextAt { .. }
        | TypedKind::BytesAt { .. }
        | TypedKind::WordsBetween { .. }
        | TypedKind::WordsOf { .. }
        | TypedKind::MappedAt { .. }
        | TypedKind::TextField { .. }
        | TypedKind::TextLocated { .. }
        | TypedKind::Number(_)
        | TypedKind::Traced(_)
        | TypedKind::CgroupMatches(_)
        | TypedKind::Path(_)
        | TypedKind::Function(None) => true,
        TypedKind::Load { access, .. } => *access != AccessMode::Direct,
        // Texts are compared through the stack.
        TypedKind::Binary(_, left, _) => matches!(left.ty, Type::Text { .. }),
        _ => false,
    })
}

impl Lowering<'_> {
    /// Computes a number or pointer into the register of that depth; registers of lower depths keep their values.
    pub(super) fn eval(&mut self, typed: &Typed, depth: usize) {
        let dst = VALUES[depth];
        match &typed.kind {
            TypedKind::Constant(value) | TypedKind::Symbol(value) => self.constant(dst, *value),
            TypedKind::Builtin(builtin) => self.builtin(*builtin, dst, &typed.ty),
            TypedKind::Stack { side, frames, task } => self.stack(*side, *frames, task.as_deref(), depth),
            TypedKind::Duration => {
                let slot = self.duration.expect("only what follows the start uses it");
                self.load_value(dst, slot, &typed.ty);
            }
            TypedKind::Saved(index) => {
                let slot = self.saved[*index];
                self.load_value(dst, slot, &typed.ty);
            }
            TypedKind::Let(index) => {
                let slot = self.lets.slot(*index);
                self.load_value(dst, slot, &typed.ty);
            }
            TypedKind::State { state, key } => self.read_state(*state, key, dst, &typed.ty),
            TypedKind::Item => {
                self.mov(dst, R8);
                self.unlink(dst, &typed.ty);
            }
            TypedKind::Argument(offset) => {
                self.asm.push(Insn::Load(Size::DW, dst, CONTEXT, super::offset(*offset)));
            }
            TypedKind::Field { offset, size } => {
                if let Some(entered) = self.entered.filter(|_| *offset == self.host.arch.stack_pointer()) {
                    return self.load_value(dst, entered, &typed.ty);
                }
                let width = width(*size);
                self.asm.push(Insn::Load(width, dst, CONTEXT, super::offset(*offset)));
                if let Type::Int { bits, signed: true } = typed.ty {
                    self.extend(dst, bits, true);
                }
            }
            TypedKind::Load { base, offset, size, access, bits } => {
                self.load(typed, base, (*offset, *size, *access, *bits), depth);
            }
            TypedKind::Unary(UnaryOperator::Neg, operand) => {
                self.eval(operand, depth);
                self.alu(Alu::Neg, dst, 0);
            }
            TypedKind::Unary(UnaryOperator::BitNot, operand) => {
                self.eval(operand, depth);
                self.alu(Alu::Xor, dst, -1);
            }
            TypedKind::Binary(operator, left, right)
                if !operator.compares() && !matches!(operator, BinaryOperator::And | BinaryOperator::Or) =>
            {
                self.arithmetic(*operator, left, right, depth);
            }
            TypedKind::Unary(..) | TypedKind::Binary(..) => self.truth(typed, depth),
            TypedKind::Extreme(operator, left, right) => self.extreme(*operator, left, right, depth),
            TypedKind::Conditional(condition, then, otherwise) => {
                let (no, end) = (self.asm.label(), self.asm.label());
                self.branch(condition, false, no, depth);
                self.eval(then, depth);
                self.asm.jump(end);
                self.asm.place(no);
                self.eval(otherwise, depth);
                self.asm.place(end);
            }
            TypedKind::Cast(operand) => {
                self.eval(operand, depth);
                if let Type::Int { bits, signed } = typed.ty {
                    self.extend(dst, bits, signed);
                }
            }
            TypedKind::Swap(operand) => {
                self.eval(operand, depth);
                let size = match typed.ty {
                    Type::Int { bits: 16, .. } => Size::H,
                    Type::Int { bits: 32, .. } => Size::W,
                    _ => Size::DW,
                };
                self.asm.push(Insn::ToBigEndian(size, dst));
            }
            TypedKind::Number(operand) => self.number(operand),
            TypedKind::Traced(process) => self.traced(process, depth),
            TypedKind::CgroupMatches(test) => self.cgroup_matches(test, depth),
            TypedKind::Contains { text, sought } => {
                self.contains(text, sought);
                self.mov(dst, R3);
            }
            TypedKind::Context => self.mov(dst, CONTEXT),
            TypedKind::Function(Some(number)) => self.constant(dst, u64::from(*number)),
            TypedKind::Function(None) => {
                self.mov(R1, CONTEXT);
                self.call(Helper::AttachCookie);
                self.mov(dst, R0);
            }
            // Texts are never asked for as a number: the checker refuses them.
            TypedKind::Text(_)
            | TypedKind::Comm
            | TypedKind::Cut { .. }
            | TypedKind::Path(_)
            | TypedKind::TextAt { .. }
            | TypedKind::BytesAt { .. }
            | TypedKind::WordsBetween { .. }
            | TypedKind::WordsOf { .. }
            | TypedKind::Numbers(_)
            | TypedKind::MappedAt { .. }
            | TypedKind::TextField { .. }
            | TypedKind::TextLocated { .. } => self.mov(dst, 0),
        }
    }

    /// Computes a condition as 1 or 0 into the register of that depth.
    fn truth(&mut self, typed: &Typed, depth: usize) {
        let (no, end) = (self.asm.label(), self.asm.label());
        self.branch(typed, false, no, depth);
        self.mov(VALUES[depth], 1);
        self.asm.jump(end);
        self.asm.place(no);
        self.mov(VALUES[depth], 0);
        self.asm.place(end);
    }

    fn builtin(&mut self, builtin: Builtin, dst: Reg, ty: &Type) {
        let helper = match builtin {
            Builtin::Pid | Builtin::Tid => Helper::PidTgid,
            Builtin::Uid | Builtin::Gid => Helper::UidGid,
            Builtin::Cpu => Helper::CpuId,
            Builtin::Nsecs => Helper::KtimeNs,
            Builtin::Cgroup => Helper::CgroupId,
            Builtin::Task => Helper::Task,
            Builtin::PacketLength => Helper::XdpLength,
            Builtin::PacketCgroup => Helper::SkbCgroupId,
        };
        // One clock reading serves the whole event, so that `nsecs` and `duration` agree.
        if builtin == Builtin::Nsecs
            && let Some(now) = self.now
        {
            self.load_value(dst, now, ty);
            return;
        }
        if matches!(builtin, Builtin::PacketLength | Builtin::PacketCgroup) {
            self.mov(R1, CONTEXT);
        }
        self.call(helper);
        self.mov(dst, R0);
        match builtin {
            Builtin::Pid | Builtin::Gid => self.alu(Alu::Rsh, dst, 32),
            Builtin::Tid | Builtin::Uid | Builtin::Cpu => {
                self.asm.push(Insn::Alu32(Alu::Mov, dst, Src::Reg(dst)));
            }
            Builtin::Nsecs
            | Builtin::Cgroup
            | Builtin::Task
            | Builtin::PacketLength
            | Builtin::PacketCgroup => {}
        }
    }

    /// Truncates to this many bits, and extends by the sign or zeros.
    pub(super) fn extend(&mut self, dst: Reg, bits: u8, signed: bool) {
        if bits >= 64 {
            return;
        }
        if bits == 32 && !signed {
            self.asm.push(Insn::Alu32(Alu::Mov, dst, Src::Reg(dst)));
            return;
        }
        let unused = i32::from(64 - bits);
        self.alu(Alu::Lsh, dst, unused);
        self.alu(if signed { Alu::Arsh } else { Alu::Rsh }, dst, unused);
    }

    /// Converts the result of a load to the value: extracts bitfields, extends signs.
    fn narrow(&mut self, dst: Reg, ty: &Type, size: u32, bits: Option<(u32, u32)>) {
        let Type::Int { bits: type_bits, signed } = *ty else { return };
        let (shift, width) = bits.unwrap_or((0, u32::from(type_bits)));
        if bits.is_none() && (!signed || size == 8) {
            return;
        }
        let left = immediate(64_u32.saturating_sub(shift + width));
        let right = immediate(64_u32.saturating_sub(width));
        if left > 0 {
            self.alu(Alu::Lsh, dst, left);
        }
        if right > 0 {
            self.alu(if signed { Alu::Arsh } else { Alu::Rsh }, dst, right);
        }
    }

    /// Reads memory. A null pointer gives 0, by a test before the load: the verifier requires it for arguments and members
    /// that may be null.
    fn load(
        &mut self,
        typed: &Typed,
        base: &Typed,
        (offset, size, access, bits): (i32, u32, AccessMode, Option<(u32, u32)>),
        depth: usize,
    ) {
        let dst = VALUES[depth];
        let (there, end) = (self.asm.label(), self.asm.label());
        if matches!(base.kind, TypedKind::Item) {
            self.mov(dst, R8);
        } else {
            self.eval(base, depth);
            self.asm.jump_if(Cond::Ne, dst, 0, there);
            self.mov(dst, 0);
            self.asm.jump(end);
        }
        self.asm.place(there);
        if access == AccessMode::Direct {
            self.asm.push(Insn::Load(width(size), dst, dst, direct(offset)));
        } else {
            let slot = self.stack.take(8);
            // One of the helpers for packets leaves what was there if it fails. And an old verifier does not know of what a helper
            // writes that nothing of what was there is read again.
            if access == AccessMode::Packet || self.unknown.is_some() {
                self.forget_slot(slot);
            }
            self.read(slot, size, offset, access, (Helper::ReadKernel, Helper::ReadUser));
            self.asm.push(Insn::Load(width(size), dst, crate::insn::FP, slot));
            self.stack.used -= 8;
        }
        self.narrow(dst, &typed.ty, size, bits);
        self.asm.place(end);
    }

    /// Copies from the address in `r1` plus `offset` to the stack with a helper; failures are counted.
    pub(super) fn read(
        &mut self,
        slot: i16,
        size: u32,
        offset: i32,
        access: AccessMode,
        helpers: (Helper, Helper),
    ) {
        if access == AccessMode::Packet {
            return self.read_packet(slot, size, offset);
        }
        self.mov(R3, R1);
        if offset != 0 {
            self.alu(Alu::Add, R3, offset);
        }
        self.stack_address(R1, slot);
        self.mov(R2, immediate(size));
        self.fetch(access, helpers);
        self.count_fault();
    }

    /// Calls the helper that copies `r2` bytes from the address in `r3` to that in `r1`.
    pub(super) fn fetch(&mut self, access: AccessMode, (kernel, user): (Helper, Helper)) {
        if access != AccessMode::Auto {
            return self.call(kernel);
        }
        // The kernel's half of the address space is the negative one, on x86-64 and arm64 alike.
        let (is_user, done) = (self.asm.label(), self.asm.label());
        self.asm.jump_if(Cond::Sge, R3, 0, is_user);
        self.call(kernel);
        self.asm.jump(done);
        self.asm.place(is_user);
        self.call(user);
        self.asm.place(done);
    }

    /// Copies from the place of the packet in `r1` plus `offset` to the stack; failures are counted.
    fn read_packet(&mut self, slot: i16, size: u32, offset: i32) {
        self.mov(R2, R1);
        // The helpers take 32 bits.
        self.alu(Alu::Add, R2, offset.wrapping_sub(immediate(PACKET)));
        self.mov(R1, CONTEXT);
        self.stack_address(R3, slot);
        self.mov(R4, immediate(size));
        let is_xdp = self.event.mechanism.link.packets() == Some(PacketHook::Xdp);
        self.call(if is_xdp { Helper::XdpLoadBytes } else { Helper::SkbLoadBytes });
        self.count_fault();
    }

    /// Counts a fault where there certainly is one; clobbers `r1` and `r5`.
    pub(super) fn count_one_fault(&mut self) {
        if let Some(faults) = self.faults {
            self.load_slot(R1, faults);
            self.alu(Alu::Add, R1, 1);
            self.hide_from_old(R1);
            self.store_slot(faults, R1);
        }
    }

    /// Counts a fault if `r0` is an error; clobbers `r0`, `r1` and `r5`.
    pub(super) fn count_fault(&mut self) {
        if let Some(faults) = self.faults {
            // Errors are negative. Without a jump and without constants in the count: the verifier would walk
            // on twice from every read, and once more for every count that it knew.
            self.load_slot(R1, faults);
            self.alu(Alu::Rsh, R0, 63);
            self.alu(Alu::Add, R1, R0);
            self.hide_from_old(R1);
            self.store_slot(faults, R1);
        }
    }

    /// Moves a tracked pointer into `r1` as a plain number: through memory, where the verifier forgets its type.
    fn number(&mut self, operand: &Typed) {
        self.eval(operand, 0);
        let from = self.stack.take(8);
        let to = self.stack.take(8);
        self.store_slot(from, R1);
        self.stack_address(R1, to);
        self.mov(R2, 8);
        self.stack_address(R3, from);
        self.call(Helper::ReadKernel);
        self.load_slot(R1, to);
        self.stack.used -= 16;
    }

    /// Computes 1 or 0: whether the map of processes has this process, as one that belongs to the command.
    fn traced(&mut self, process: &Typed, depth: usize) {
        let (dst, end) = (VALUES[depth], self.asm.label());
        self.eval(process, depth);
        let key = self.stack.take(8);
        self.store_slot(key, dst);
        self.lookup(map_named(self.layout, TRACED), key);
        self.stack.used -= 8;
        self.mov(dst, 0);
        self.asm.jump_if(Cond::Eq, R0, 0, end);
        self.asm.push(Insn::Load(Size::W, R0, R0, 0));
        self.asm.jump_if(Cond::Ne, R0, FOLLOWED, end);
        self.mov(dst, 1);
        self.asm.place(end);
    }

    /// Computes both sides into two registers, the left one into the register of `depth`.
    pub(super) fn operands(&mut self, left: &Typed, right: &Typed, depth: usize) -> (Reg, Reg) {
        let dst = VALUES[depth];
        if !calls(right) && depth + 1 < VALUES.len() {
            self.eval(left, depth);
            self.eval(right, depth + 1);
            return (dst, VALUES[depth + 1]);
        }
        self.eval(left, depth);
        let slot = self.stack.take(8);
        self.hide(dst, left);
        self.store_slot(slot, dst);
        self.eval(right, depth);
        self.mov(R5, dst);
        self.load_value(dst, slot, &left.ty);
        self.stack.used -= 8;
        (dst, R5)
    }

    fn arithmetic(&mut self, operator: BinaryOperator, left: &Typed, right: &Typed, depth: usize) {
        let unsigned = unsigned_operation(operator, left, right);
        let dst = VALUES[depth];
        if let TypedKind::Constant(value) = right.kind
            && self.by_constant(operator, unsigned, left, value, depth)
        {
            return;
        }
        let (a, b) = self.operands(left, right, depth);
        debug_assert_eq!(a, dst, "the left operand is where the result goes");
        match (operator, unsigned) {
            (BinaryOperator::Div | BinaryOperator::Mod, false) => self.signed_division(operator, a, b),
            _ => self.alu(operation(operator, unsigned), a, b),
        }
    }

    /// Uses a constant as an immediate operand, if the instruction can contain it.
    fn by_constant(
        &mut self,
        operator: BinaryOperator,
        unsigned: bool,
        left: &Typed,
        value: u64,
        depth: usize,
    ) -> bool {
        let dst = VALUES[depth];
        let shift = matches!(operator, BinaryOperator::Shl | BinaryOperator::Shr);
        let value = if shift { value & 63 } else { value };
        let Ok(small) = i32::try_from(value.cast_signed()) else { return false };
        let division = matches!(operator, BinaryOperator::Div | BinaryOperator::Mod);
        if division && (!unsigned || small <= 0) {
            // The instruction sign-extends its constant, and refuses 0.
            return false;
        }
        self.eval(left, depth);
        self.alu(operation(operator, unsigned), dst, small);
        true
    }

    /// Computes `a / b` or `a % b` of signed numbers with the unsigned instruction; the quotient is rounded towards zero, as
    /// in C.
    fn signed_division(&mut self, operator: BinaryOperator, a: Reg, b: Reg) {
        let (a_done, b_done, end) = (self.asm.label(), self.asm.label(), self.asm.label());
        self.mov(R0, 0);
        self.asm.jump_if(Cond::Sge, a, 0, a_done);
        self.alu(Alu::Neg, a, 0);
        self.alu(Alu::Xor, R0, 1);
        self.asm.place(a_done);
        self.asm.jump_if(Cond::Sge, b, 0, b_done);
        self.alu(Alu::Neg, b, 0);
        if operator == BinaryOperator::Div {
            self.alu(Alu::Xor, R0, 1);
        }
        self.asm.place(b_done);
        self.alu(operation(operator, true), a, b);
        self.asm.jump_if(Cond::Eq, R0, 0, end);
        self.alu(Alu::Neg, a, 0);
        self.asm.place(end);
    }
}

/// The width of a load.
fn width(bytes: u32) -> Size {
    Size::from_bytes(bytes).expect("only integers of 1, 2, 4 and 8 bytes are values")
}

/// The offset of a load that the verifier follows.
fn direct(bytes: i32) -> i16 {
    i16::try_from(bytes).expect("the checker takes no other offset for one that the verifier follows")
}

fn operation(operator: BinaryOperator, unsigned: bool) -> Alu {
    match operator {
        BinaryOperator::Sub => Alu::Sub,
        BinaryOperator::Mul => Alu::Mul,
        BinaryOperator::Div => Alu::Div,
        BinaryOperator::Mod => Alu::Mod,
        BinaryOperator::Shl => Alu::Lsh,
        BinaryOperator::Shr if unsigned => Alu::Rsh,
        BinaryOperator::Shr => Alu::Arsh,
        BinaryOperator::BitAnd => Alu::And,
        BinaryOperator::BitOr => Alu::Or,
        BinaryOperator::BitXor => Alu::Xor,
        // Comparisons and logic are made of jumps and never come here.
        BinaryOperator::Add
        | BinaryOperator::Eq
        | BinaryOperator::Ne
        | BinaryOperator::Lt
        | BinaryOperator::Le
        | BinaryOperator::Gt
        | BinaryOperator::Ge
        | BinaryOperator::And
        | BinaryOperator::Or => Alu::Add,
    }
}

/// The truth of a constant condition; `None` for others.
pub(super) fn constant_truth(typed: &Typed) -> Option<bool> {
    match &typed.kind {
        TypedKind::Constant(value) => Some(*value != 0),
        TypedKind::Unary(UnaryOperator::Not, operand) => {
            constant_truth(operand).map(|truth| eval::unary(UnaryOperator::Not, u64::from(truth)) != 0)
        }
        _ => None,
    }
}
