//! Formats instructions as text, in the pseudo assembly of the kernel's verifier log.
//!
//! Jump offsets stay relative and in slots, as in the log.

use super::{Alu, Cond, Helper, Insn, KernelFunction, Reg, Size, Src};
use std::fmt;

impl Alu {
    /// The operator between `dst` and `src`; for a negation, which has no `src`, the prefix.
    fn operator(self) -> &'static str {
        match self {
            Self::Add => "+=",
            Self::Sub => "-=",
            Self::Mul => "*=",
            Self::Div => "/=",
            Self::Or => "|=",
            Self::And => "&=",
            Self::Lsh => "<<=",
            Self::Rsh => ">>=",
            Self::Neg => "-",
            Self::Mod => "%=",
            Self::Xor => "^=",
            Self::Mov => "=",
            Self::Arsh => "s>>=",
        }
    }
}

impl Cond {
    fn operator(self) -> &'static str {
        match self {
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Gt => ">",
            Self::Ge => ">=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Set => "&",
            Self::Sgt => "s>",
            Self::Sge => "s>=",
            Self::Slt => "s<",
            Self::Sle => "s<=",
        }
    }
}

impl Size {
    fn type_name(self) -> &'static str {
        match self {
            Self::B => "u8",
            Self::H => "u16",
            Self::W => "u32",
            Self::DW => "u64",
        }
    }
}

impl Helper {
    /// The kernel's name of the helper, without `bpf_`.
    pub fn name(self) -> &'static str {
        match self {
            Self::MapLookup => "map_lookup_elem",
            Self::MapUpdate => "map_update_elem",
            Self::MapDelete => "map_delete_elem",
            Self::KtimeNs => "ktime_get_ns",
            Self::CpuId => "get_smp_processor_id",
            Self::PidTgid => "get_current_pid_tgid",
            Self::UidGid => "get_current_uid_gid",
            Self::Comm => "get_current_comm",
            Self::Task => "get_current_task",
            Self::GetStack => "get_stack",
            Self::GetTaskStack => "get_task_stack",
            Self::CgroupId => "get_current_cgroup_id",
            Self::ReadUser => "probe_read_user",
            Self::ReadKernel => "probe_read_kernel",
            Self::ReadUserStr => "probe_read_user_str",
            Self::ReadKernelStr => "probe_read_kernel_str",
            Self::RingReserve => "ringbuf_reserve",
            Self::RingSubmit => "ringbuf_submit",
            Self::TaskStorageGet => "task_storage_get",
            Self::TaskBtf => "get_current_task_btf",
            Self::AttachCookie => "get_attach_cookie",
            Self::SkbLoadBytes => "skb_load_bytes",
            Self::SkbCgroupId => "skb_cgroup_id",
            Self::XdpLength => "xdp_get_buff_len",
            Self::XdpLoadBytes => "xdp_load_bytes",
        }
    }
}

impl KernelFunction {
    /// The name of the function in the kernel.
    pub fn name(self) -> &'static str {
        match self {
            Self::SessionIsReturn => "bpf_session_is_return",
            Self::SessionCookie => "bpf_session_cookie",
        }
    }
}

/// A register, with the name of its width: `r1` or `w1`.
struct RegisterName(char, Reg);

impl fmt::Display for RegisterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.0, self.1.0)
    }
}

/// A second operand; a register has the name of its width.
struct OperandText(char, Src);

impl fmt::Display for OperandText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Src::Reg(reg) => RegisterName(self.0, reg).fmt(f),
            Src::Imm(imm) => imm.fmt(f),
        }
    }
}

/// A memory operand: `*(u64 *)(r10 -8)`.
struct MemoryOperand(Size, Reg, i16);

impl fmt::Display for MemoryOperand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "*({} *)({:?} {:+})", self.0.type_name(), self.1, self.2)
    }
}

fn alu(f: &mut fmt::Formatter<'_>, width: char, op: Alu, dst: Reg, src: Src) -> fmt::Result {
    let dst = RegisterName(width, dst);
    if op == Alu::Neg {
        return write!(f, "{dst} = {}{dst}", op.operator());
    }
    write!(f, "{dst} {} {}", op.operator(), OperandText(width, src))
}

fn jump(f: &mut fmt::Formatter<'_>, width: char, cond: Cond, dst: Reg, src: Src, offset: i16) -> fmt::Result {
    write!(
        f,
        "if {} {} {} goto {offset:+}",
        RegisterName(width, dst),
        cond.operator(),
        OperandText(width, src)
    )
}

impl fmt::Display for Insn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Alu64(op, dst, src) => alu(f, 'r', op, dst, src),
            Self::Alu32(op, dst, src) => alu(f, 'w', op, dst, src),
            Self::ToBigEndian(size, dst) => write!(f, "{dst:?} = be{} {dst:?}", size.bits()),
            Self::Imm64(dst, value) => write!(f, "{dst:?} = {value:#x} ll"),
            Self::Map(dst, index) => write!(f, "{dst:?} = map[{index}] ll"),
            Self::Load(size, dst, src, offset) => write!(f, "{dst:?} = {}", MemoryOperand(size, src, offset)),
            Self::Store(size, dst, offset, src) => {
                write!(f, "{} = {src:?}", MemoryOperand(size, dst, offset))
            }
            Self::StoreImm(size, dst, offset, imm) => {
                write!(f, "{} = {imm}", MemoryOperand(size, dst, offset))
            }
            Self::AtomicAdd(size, dst, offset, src) => {
                write!(f, "lock {} += {src:?}", MemoryOperand(size, dst, offset))
            }
            Self::Exchange(dst, offset, src) => {
                write!(f, "{src:?} = xchg({}, {src:?})", MemoryOperand(Size::DW, dst, offset))
            }
            Self::CompareExchange(dst, offset, src) => {
                write!(f, "r0 = cmpxchg({}, r0, {src:?})", MemoryOperand(Size::DW, dst, offset))
            }
            Self::Jump(offset) => write!(f, "goto {offset:+}"),
            Self::JumpIf(cond, dst, src, offset) => jump(f, 'r', cond, dst, src, offset),
            Self::MayGoto(offset) => write!(f, "may_goto {offset:+}"),
            Self::JumpIf32(cond, dst, src, offset) => jump(f, 'w', cond, dst, src, offset),
            Self::Call(helper) => write!(f, "call {}#{}", helper.name(), helper as i32),
            Self::CallKernel(function, number) => write!(f, "call {}#{number}", function.name()),
            Self::Exit => f.write_str("exit"),
        }
    }
}
