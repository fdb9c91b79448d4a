//! eBPF instructions and their eight-byte encoding.
//!
//! Source: `Documentation/bpf/standardization/instruction-set.rst` of the kernel (RFC 9669). Linux 5.10 has all instructions
//! of this module, except for those with another version in their comment.

mod asm;
#[cfg(test)]
mod tests;

use std::fmt;

/// A register, `r0` to `r10`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reg(pub u8);

/// Register of the return value of helpers and of the program.
pub const R0: Reg = Reg(0);
/// Register of the first helper argument; the context at the entry of a program.
pub const R1: Reg = Reg(1);
/// Register of the second helper argument.
pub const R2: Reg = Reg(2);
/// Register of the third helper argument.
pub const R3: Reg = Reg(3);
/// Register of the fourth helper argument.
pub const R4: Reg = Reg(4);
/// Register of the fifth helper argument.
pub const R5: Reg = Reg(5);
/// Register that helper calls preserve.
pub const R6: Reg = Reg(6);
/// Register that helper calls preserve.
pub const R7: Reg = Reg(7);
/// Register that helper calls preserve.
pub const R8: Reg = Reg(8);
/// Register that helper calls preserve.
pub const R9: Reg = Reg(9);
/// Frame pointer, read only.
pub const FP: Reg = Reg(10);

impl fmt::Debug for Reg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

/// Width of a memory access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Size {
    /// 1 byte.
    B,
    /// 2 bytes.
    H,
    /// 4 bytes.
    W,
    /// 8 bytes.
    DW,
}

impl Size {
    /// The size for this number of bytes; `None` if no access has that width.
    pub fn from_bytes(bytes: u32) -> Option<Self> {
        match bytes {
            1 => Some(Self::B),
            2 => Some(Self::H),
            4 => Some(Self::W),
            8 => Some(Self::DW),
            _ => None,
        }
    }

    /// Bytes accessed.
    pub fn bytes(self) -> u32 {
        match self {
            Self::B => 1,
            Self::H => 2,
            Self::W => 4,
            Self::DW => 8,
        }
    }

    /// Bits accessed.
    pub fn bits(self) -> u8 {
        match self {
            Self::B => 8,
            Self::H => 16,
            Self::W => 32,
            Self::DW => 64,
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::W => 0x00,
            Self::H => 0x08,
            Self::B => 0x10,
            Self::DW => 0x18,
        }
    }
}

/// Arithmetic operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alu {
    /// `dst += src`
    Add,
    /// `dst -= src`
    Sub,
    /// `dst *= src`
    Mul,
    /// Unsigned division; by zero it gives 0.
    Div,
    /// `dst |= src`
    Or,
    /// `dst &= src`
    And,
    /// Shift left.
    Lsh,
    /// Logical shift right.
    Rsh,
    /// `dst = -dst`
    Neg,
    /// Unsigned remainder; by zero it leaves `dst`.
    Mod,
    /// `dst ^= src`
    Xor,
    /// `dst = src`
    Mov,
    /// Arithmetic shift right.
    Arsh,
}

impl Alu {
    fn code(self) -> u8 {
        match self {
            Self::Add => 0x00,
            Self::Sub => 0x10,
            Self::Mul => 0x20,
            Self::Div => 0x30,
            Self::Or => 0x40,
            Self::And => 0x50,
            Self::Lsh => 0x60,
            Self::Rsh => 0x70,
            Self::Neg => 0x80,
            Self::Mod => 0x90,
            Self::Xor => 0xa0,
            Self::Mov => 0xb0,
            Self::Arsh => 0xc0,
        }
    }
}

/// Condition of a jump; the `S` ones compare as signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cond {
    /// `==`
    Eq,
    /// `!=`
    Ne,
    /// unsigned `>`
    Gt,
    /// unsigned `>=`
    Ge,
    /// unsigned `<`
    Lt,
    /// unsigned `<=`
    Le,
    /// `dst & src != 0`
    Set,
    /// signed `>`
    Sgt,
    /// signed `>=`
    Sge,
    /// signed `<`
    Slt,
    /// signed `<=`
    Sle,
}

impl Cond {
    fn code(self) -> u8 {
        match self {
            Self::Eq => 0x10,
            Self::Gt => 0x20,
            Self::Ge => 0x30,
            Self::Set => 0x40,
            Self::Ne => 0x50,
            Self::Sgt => 0x60,
            Self::Sge => 0x70,
            Self::Lt => 0xa0,
            Self::Le => 0xb0,
            Self::Slt => 0xc0,
            Self::Sle => 0xd0,
        }
    }
}

/// Second operand: a register or a sign-extended 32-bit constant.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Src {
    /// A register.
    Reg(Reg),
    /// A constant.
    Imm(i32),
}

impl From<Reg> for Src {
    fn from(reg: Reg) -> Self {
        Self::Reg(reg)
    }
}

impl From<i32> for Src {
    fn from(imm: i32) -> Self {
        Self::Imm(imm)
    }
}

impl fmt::Debug for Src {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reg(reg) => write!(f, "{reg:?}"),
            Self::Imm(imm) => write!(f, "{imm}"),
        }
    }
}

/// A kernel helper function; its number is its index in `enum bpf_func_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Helper {
    /// `bpf_map_lookup_elem(map, key)`
    MapLookup = 1,
    /// `bpf_map_update_elem(map, key, value, flags)`
    MapUpdate = 2,
    /// `bpf_map_delete_elem(map, key)`
    MapDelete = 3,
    /// `bpf_ktime_get_ns()`
    KtimeNs = 5,
    /// `bpf_get_smp_processor_id()`
    CpuId = 8,
    /// `bpf_get_current_pid_tgid()`
    PidTgid = 14,
    /// `bpf_get_current_uid_gid()`
    UidGid = 15,
    /// `bpf_get_current_comm(buf, size)`
    Comm = 16,
    /// `bpf_skb_load_bytes(skb, offset, to, size)`: writes zeros if it fails
    SkbLoadBytes = 26,
    /// `bpf_get_current_task()`
    Task = 35,
    /// `bpf_get_stack(ctx, buf, size, flags)`, 4.18
    GetStack = 67,
    /// `bpf_skb_cgroup_id(skb)`: the cgroup of the socket that the packet belongs to, 0 for none
    SkbCgroupId = 79,
    /// `bpf_get_current_cgroup_id()`
    CgroupId = 80,
    /// `bpf_probe_read_user(dst, size, src)`, 5.5
    ReadUser = 112,
    /// `bpf_probe_read_kernel(dst, size, src)`, 5.5
    ReadKernel = 113,
    /// `bpf_probe_read_user_str(dst, size, src)`, 5.5
    ReadUserStr = 114,
    /// `bpf_probe_read_kernel_str(dst, size, src)`, 5.5
    ReadKernelStr = 115,
    /// `bpf_ringbuf_reserve(map, size, flags)`, 5.8
    RingReserve = 131,
    /// `bpf_ringbuf_submit(record, flags)`, 5.8
    RingSubmit = 132,
    /// `bpf_get_task_stack(task, buf, size, flags)`, 5.9
    GetTaskStack = 141,
    /// `bpf_task_storage_get(map, task, value, flags)`, in programs of all kinds 5.13
    TaskStorageGet = 156,
    /// `bpf_get_current_task_btf()`, 5.11
    TaskBtf = 158,
    /// `bpf_get_attach_cookie(ctx)`, 5.15
    AttachCookie = 174,
    /// `bpf_xdp_get_buff_len(xdp)`, 5.18
    XdpLength = 188,
    /// `bpf_xdp_load_bytes(xdp, offset, to, size)`: writes nothing if it fails, 5.18
    XdpLoadBytes = 189,
}

impl Helper {
    /// The first version of the kernel that has it, by its first two numbers; `None` for those that every kernel with BTF has.
    pub fn since(self) -> Option<(u16, u16)> {
        match self {
            Self::MapLookup
            | Self::MapUpdate
            | Self::MapDelete
            | Self::KtimeNs
            | Self::CpuId
            | Self::PidTgid
            | Self::UidGid
            | Self::Comm
            | Self::SkbLoadBytes
            | Self::SkbCgroupId
            | Self::Task
            | Self::GetStack
            | Self::CgroupId => None,
            Self::ReadUser | Self::ReadKernel | Self::ReadUserStr | Self::ReadKernelStr => Some((5, 5)),
            Self::RingReserve | Self::RingSubmit => Some((5, 8)),
            Self::GetTaskStack => Some((5, 9)),
            Self::TaskBtf => Some((5, 11)),
            Self::TaskStorageGet => Some((5, 13)),
            Self::AttachCookie => Some((5, 15)),
            Self::XdpLength | Self::XdpLoadBytes => Some((5, 18)),
        }
    }
}

/// A function of the kernel that programs may call; its number is the number of its type in the kernel's BTF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KernelFunction {
    /// `bpf_session_is_return(ctx)`: whether a session program runs at a return, 6.10
    SessionIsReturn,
    /// `bpf_session_cookie(ctx)`: eight bytes that the entry of a call leaves for its return, 6.10
    SessionCookie,
}

/// One instruction, or the two halves of one for `Imm64` and `Map`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Insn {
    /// 64-bit arithmetic.
    Alu64(Alu, Reg, Src),
    /// 32-bit arithmetic; the upper half of `dst` becomes 0.
    Alu32(Alu, Reg, Src),
    /// The low bytes of `dst` in the order of the network, zero extended: on a little-endian machine they change places. The size
    /// is not `B`.
    ToBigEndian(Size, Reg),
    /// `dst = constant` of 64 bits (two slots).
    Imm64(Reg, u64),
    /// `dst = map` by its index in the object (two slots; relocated when loaded).
    Map(Reg, u32),
    /// `dst = *(size *)(src + offset)`, zero extended.
    Load(Size, Reg, Reg, i16),
    /// `*(size *)(dst + offset) = src`
    Store(Size, Reg, i16, Reg),
    /// `*(size *)(dst + offset) = constant`
    StoreImm(Size, Reg, i16, i32),
    /// Atomic `*(size *)(dst + offset) += src`; size is `W` or `DW`.
    AtomicAdd(Size, Reg, i16, Reg),
    /// Atomic exchange of `*(u64 *)(dst + offset)` and `src`, a full barrier. 5.12, on arm64 5.18.
    Exchange(Reg, i16, Reg),
    /// Atomic `if *(u64 *)(dst + offset) == r0 { it = src }`; `r0` is what it was. A full barrier. 5.12, on arm64 5.18.
    CompareExchange(Reg, i16, Reg),
    /// Unconditional jump by a number of slots.
    Jump(i16),
    /// Conditional jump on 64-bit operands.
    JumpIf(Cond, Reg, Src, i16),
    /// Conditional jump on the low 32 bits.
    JumpIf32(Cond, Reg, Src, i16),
    /// Continues, or jumps after millions of rounds: a bound that the kernel counts, so that the verifier does not follow a
    /// loop round by round. 6.9.
    MayGoto(i16),
    /// Helper call.
    Call(Helper),
    /// Call of a kernel function by its number in the kernel's BTF. 5.13.
    CallKernel(KernelFunction, i32),
    /// Return `r0`.
    Exit,
}

/// An encoded slot: eight bytes, little endian.
pub type EncodedInsn = [u8; 8];

fn slot(code: u8, dst: Reg, src: Reg, offset: i16, imm: i32) -> EncodedInsn {
    let [o0, o1] = offset.to_le_bytes();
    let [i0, i1, i2, i3] = imm.to_le_bytes();
    [code, dst.0 | (src.0 << 4), o0, o1, i0, i1, i2, i3]
}

impl Insn {
    /// Number of slots: 2 for 64-bit constants and maps, otherwise 1.
    pub fn slots(&self) -> usize {
        match self {
            Self::Imm64(..) | Self::Map(..) => 2,
            _ => 1,
        }
    }

    /// Appends the encoding to `out`. A `Map` is written with `BPF_PSEUDO_MAP_FD` and a zero fd.
    pub fn encode(&self, out: &mut Vec<EncodedInsn>) {
        const ZERO: Reg = Reg(0);
        let alu = |class: u8, op: Alu, dst: Reg, src: Src| match src {
            Src::Reg(reg) => slot(class | op.code() | 0x08, dst, reg, 0, 0),
            Src::Imm(imm) => slot(class | op.code(), dst, ZERO, 0, imm),
        };
        let jump = |class: u8, cond: Cond, dst: Reg, src: Src, offset: i16| match src {
            Src::Reg(reg) => slot(class | cond.code() | 0x08, dst, reg, offset, 0),
            Src::Imm(imm) => slot(class | cond.code(), dst, ZERO, offset, imm),
        };
        let last = match *self {
            Self::Alu64(op, dst, src) => alu(0x07, op, dst, src),
            Self::Alu32(op, dst, src) => alu(0x04, op, dst, src),
            // `BPF_ALU | BPF_END | BPF_TO_BE`
            Self::ToBigEndian(size, dst) => slot(0xdc, dst, ZERO, 0, size.bits().into()),
            Self::Imm64(dst, value) => {
                let [low, high] = halves(value);
                out.push(slot(0x18, dst, ZERO, 0, low));
                slot(0, ZERO, ZERO, 0, high)
            }
            Self::Map(dst, _) => {
                out.push(slot(0x18, dst, Reg(1), 0, 0));
                slot(0, ZERO, ZERO, 0, 0)
            }
            Self::Load(size, dst, src, offset) => slot(0x61 | size.code(), dst, src, offset, 0),
            Self::Store(size, dst, offset, src) => slot(0x63 | size.code(), dst, src, offset, 0),
            Self::StoreImm(size, dst, offset, imm) => slot(0x62 | size.code(), dst, ZERO, offset, imm),
            Self::AtomicAdd(size, dst, offset, src) => slot(0xc3 | size.code(), dst, src, offset, 0),
            // `BPF_XCHG` and `BPF_CMPXCHG`
            Self::Exchange(dst, offset, src) => slot(0xdb, dst, src, offset, 0xe1),
            Self::CompareExchange(dst, offset, src) => slot(0xdb, dst, src, offset, 0xf1),
            Self::Jump(offset) => slot(0x05, ZERO, ZERO, offset, 0),
            Self::JumpIf(cond, dst, src, offset) => jump(0x05, cond, dst, src, offset),
            Self::JumpIf32(cond, dst, src, offset) => jump(0x06, cond, dst, src, offset),
            Self::MayGoto(offset) => slot(0xe5, ZERO, ZERO, offset, 0),
            Self::Call(helper) => slot(0x85, ZERO, ZERO, 0, helper as i32),
            // `BPF_PSEUDO_KFUNC_CALL`
            Self::CallKernel(_, number) => slot(0x85, ZERO, Reg(2), 0, number),
            Self::Exit => slot(0x95, ZERO, ZERO, 0, 0),
        };
        out.push(last);
    }
}

/// The low and the high 32 bits of a 64-bit constant.
fn halves(value: u64) -> [i32; 2] {
    let [low, high] = [value & u64::from(u32::MAX), value >> 32];
    [low, high].map(|half| u32::try_from(half).expect("32 bits are left").cast_signed())
}
