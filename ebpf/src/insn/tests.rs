//! Encoding and listing of every instruction form.
//!
//! The opcodes are written out from RFC 9669 (sections 4.1, 4.3, 5.1 to 5.4), not computed, so that they show a mistake in
//! `code()`.

use super::*;

fn bytes(insn: Insn) -> Vec<u8> {
    let mut slots = Vec::new();
    insn.encode(&mut slots);
    assert_eq!(slots.len(), insn.slots(), "{insn}");
    slots.concat()
}

/// Operation, then the opcodes: 64-bit constant and register, 32-bit constant and register.
const ALU: [(Alu, [u8; 4], &str); 13] = [
    (Alu::Add, [0x07, 0x0f, 0x04, 0x0c], "+="),
    (Alu::Sub, [0x17, 0x1f, 0x14, 0x1c], "-="),
    (Alu::Mul, [0x27, 0x2f, 0x24, 0x2c], "*="),
    (Alu::Div, [0x37, 0x3f, 0x34, 0x3c], "/="),
    (Alu::Or, [0x47, 0x4f, 0x44, 0x4c], "|="),
    (Alu::And, [0x57, 0x5f, 0x54, 0x5c], "&="),
    (Alu::Lsh, [0x67, 0x6f, 0x64, 0x6c], "<<="),
    (Alu::Rsh, [0x77, 0x7f, 0x74, 0x7c], ">>="),
    (Alu::Neg, [0x87, 0x8f, 0x84, 0x8c], ""),
    (Alu::Mod, [0x97, 0x9f, 0x94, 0x9c], "%="),
    (Alu::Xor, [0xa7, 0xaf, 0xa4, 0xac], "^="),
    (Alu::Mov, [0xb7, 0xbf, 0xb4, 0xbc], "="),
    (Alu::Arsh, [0xc7, 0xcf, 0xc4, 0xcc], "s>>="),
];

/// Condition, then the opcodes as in [`ALU`].
const JUMPS: [(Cond, [u8; 4], &str); 11] = [
    (Cond::Eq, [0x15, 0x1d, 0x16, 0x1e], "=="),
    (Cond::Gt, [0x25, 0x2d, 0x26, 0x2e], ">"),
    (Cond::Ge, [0x35, 0x3d, 0x36, 0x3e], ">="),
    (Cond::Set, [0x45, 0x4d, 0x46, 0x4e], "&"),
    (Cond::Ne, [0x55, 0x5d, 0x56, 0x5e], "!="),
    (Cond::Sgt, [0x65, 0x6d, 0x66, 0x6e], "s>"),
    (Cond::Sge, [0x75, 0x7d, 0x76, 0x7e], "s>="),
    (Cond::Lt, [0xa5, 0xad, 0xa6, 0xae], "<"),
    (Cond::Le, [0xb5, 0xbd, 0xb6, 0xbe], "<="),
    (Cond::Slt, [0xc5, 0xcd, 0xc6, 0xce], "s<"),
    (Cond::Sle, [0xd5, 0xdd, 0xd6, 0xde], "s<="),
];

#[test]
fn arithmetic_opcodes() {
    for (op, [k64, x64, k32, x32], _) in ALU {
        assert_eq!(bytes(Insn::Alu64(op, R3, Src::Imm(-2))), [k64, 0x03, 0, 0, 0xfe, 0xff, 0xff, 0xff]);
        assert_eq!(bytes(Insn::Alu64(op, R3, R9.into())), [x64, 0x93, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes(Insn::Alu32(op, R3, Src::Imm(i32::MAX))), [k32, 0x03, 0, 0, 0xff, 0xff, 0xff, 0x7f]);
        assert_eq!(bytes(Insn::Alu32(op, R3, R9.into())), [x32, 0x93, 0, 0, 0, 0, 0, 0]);
    }
}

#[test]
fn byte_order_opcodes() {
    for (size, bits) in [(Size::H, 16), (Size::W, 32), (Size::DW, 64)] {
        assert_eq!(bytes(Insn::ToBigEndian(size, R3)), [0xdc, 0x03, 0, 0, bits, 0, 0, 0]);
    }
}

#[test]
fn jump_opcodes() {
    for (cond, [k64, x64, k32, x32], _) in JUMPS {
        assert_eq!(bytes(Insn::JumpIf(cond, R1, Src::Imm(7), -2)), [k64, 0x01, 0xfe, 0xff, 7, 0, 0, 0]);
        assert_eq!(bytes(Insn::JumpIf(cond, R1, R2.into(), 300)), [x64, 0x21, 0x2c, 0x01, 0, 0, 0, 0]);
        assert_eq!(
            bytes(Insn::JumpIf32(cond, R1, Src::Imm(-1), 1)),
            [k32, 0x01, 1, 0, 0xff, 0xff, 0xff, 0xff]
        );
        assert_eq!(bytes(Insn::JumpIf32(cond, R1, R2.into(), i16::MIN)), [x32, 0x21, 0, 0x80, 0, 0, 0, 0]);
    }
}

#[test]
fn memory_opcodes() {
    // Width, then the opcodes: load, store, store of a constant.
    let table = [
        (Size::W, 0x61, 0x63, 0x62),
        (Size::H, 0x69, 0x6b, 0x6a),
        (Size::B, 0x71, 0x73, 0x72),
        (Size::DW, 0x79, 0x7b, 0x7a),
    ];
    for (size, load, store, store_imm) in table {
        assert_eq!(bytes(Insn::Load(size, R2, FP, -8)), [load, 0xa2, 0xf8, 0xff, 0, 0, 0, 0]);
        assert_eq!(bytes(Insn::Store(size, FP, -16, R4)), [store, 0x4a, 0xf0, 0xff, 0, 0, 0, 0]);
        assert_eq!(bytes(Insn::StoreImm(size, FP, 8, -1)), [store_imm, 0x0a, 8, 0, 0xff, 0xff, 0xff, 0xff]);
    }
    assert_eq!(bytes(Insn::AtomicAdd(Size::W, R1, 4, R2)), [0xc3, 0x21, 4, 0, 0, 0, 0, 0]);
    assert_eq!(bytes(Insn::AtomicAdd(Size::DW, R1, 8, R2)), [0xdb, 0x21, 8, 0, 0, 0, 0, 0]);
    assert_eq!(bytes(Insn::Exchange(R1, 8, R2)), [0xdb, 0x21, 8, 0, 0xe1, 0, 0, 0]);
    assert_eq!(bytes(Insn::CompareExchange(R1, 8, R2)), [0xdb, 0x21, 8, 0, 0xf1, 0, 0, 0]);
}

#[test]
fn wide_and_control_opcodes() {
    assert_eq!(
        bytes(Insn::Imm64(R5, 0x8877_6655_4433_2211)),
        [0x18, 0x05, 0, 0, 0x11, 0x22, 0x33, 0x44, 0, 0, 0, 0, 0x55, 0x66, 0x77, 0x88]
    );
    assert_eq!(bytes(Insn::Map(R1, 3)), [0x18, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes(Insn::Jump(-1)), [0x05, 0, 0xff, 0xff, 0, 0, 0, 0]);
    assert_eq!(bytes(Insn::Exit), [0x95, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn helpers_have_the_numbers_and_names_of_the_kernel() {
    let table = [
        (Helper::MapLookup, 1, "map_lookup_elem"),
        (Helper::MapUpdate, 2, "map_update_elem"),
        (Helper::MapDelete, 3, "map_delete_elem"),
        (Helper::KtimeNs, 5, "ktime_get_ns"),
        (Helper::CpuId, 8, "get_smp_processor_id"),
        (Helper::PidTgid, 14, "get_current_pid_tgid"),
        (Helper::UidGid, 15, "get_current_uid_gid"),
        (Helper::Comm, 16, "get_current_comm"),
        (Helper::Task, 35, "get_current_task"),
        (Helper::CgroupId, 80, "get_current_cgroup_id"),
        (Helper::ReadUser, 112, "probe_read_user"),
        (Helper::ReadKernel, 113, "probe_read_kernel"),
        (Helper::ReadUserStr, 114, "probe_read_user_str"),
        (Helper::ReadKernelStr, 115, "probe_read_kernel_str"),
    ];
    for (helper, number, name) in table {
        assert_eq!(bytes(Insn::Call(helper)), [0x85, 0, 0, 0, number, 0, 0, 0]);
        assert_eq!(Insn::Call(helper).to_string(), format!("call {name}#{number}"));
    }
}

#[test]
fn sizes_and_bytes_agree() {
    for size in [Size::B, Size::H, Size::W, Size::DW] {
        assert_eq!(Size::from_bytes(size.bytes()), Some(size));
    }
    for bytes in [0, 3, 5, 6, 7, 9, 16] {
        assert_eq!(Size::from_bytes(bytes), None);
    }
}

#[test]
fn operators_print() {
    for (op, _, text) in ALU.into_iter().filter(|row| row.0 != Alu::Neg) {
        assert_eq!(Insn::Alu64(op, R0, Src::Imm(5)).to_string(), format!("r0 {text} 5"));
        assert_eq!(Insn::Alu64(op, R0, R6.into()).to_string(), format!("r0 {text} r6"));
        assert_eq!(Insn::Alu32(op, R0, Src::Imm(-5)).to_string(), format!("w0 {text} -5"));
        assert_eq!(Insn::Alu32(op, R0, R6.into()).to_string(), format!("w0 {text} w6"));
    }
    for (cond, _, text) in JUMPS {
        assert_eq!(Insn::JumpIf(cond, R1, R2.into(), 4).to_string(), format!("if r1 {text} r2 goto +4"));
        assert_eq!(Insn::JumpIf(cond, R1, Src::Imm(-9), 4).to_string(), format!("if r1 {text} -9 goto +4"));
        assert_eq!(Insn::JumpIf32(cond, R1, R2.into(), -4).to_string(), format!("if w1 {text} w2 goto -4"));
        assert_eq!(Insn::JumpIf32(cond, R1, Src::Imm(0), 0).to_string(), format!("if w1 {text} 0 goto +0"));
    }
}

#[test]
fn other_forms_print() {
    let table = [
        (Insn::Alu64(Alu::Neg, R2, Src::Imm(0)), "r2 = -r2"),
        (Insn::Alu32(Alu::Neg, R2, Src::Imm(0)), "w2 = -w2"),
        (Insn::ToBigEndian(Size::H, R2), "r2 = be16 r2"),
        (Insn::ToBigEndian(Size::DW, R2), "r2 = be64 r2"),
        (Insn::Imm64(R1, 0x123), "r1 = 0x123 ll"),
        (Insn::Imm64(R1, u64::MAX), "r1 = 0xffffffffffffffff ll"),
        (Insn::Map(R1, 2), "r1 = map[2] ll"),
        (Insn::Load(Size::DW, R1, R6, 8), "r1 = *(u64 *)(r6 +8)"),
        (Insn::Load(Size::W, R1, FP, -4), "r1 = *(u32 *)(r10 -4)"),
        (Insn::Load(Size::H, R1, R6, 0), "r1 = *(u16 *)(r6 +0)"),
        (Insn::Load(Size::B, R1, R6, i16::MIN), "r1 = *(u8 *)(r6 -32768)"),
        (Insn::Store(Size::DW, FP, -8, R0), "*(u64 *)(r10 -8) = r0"),
        (Insn::StoreImm(Size::W, FP, -8, -1), "*(u32 *)(r10 -8) = -1"),
        (Insn::AtomicAdd(Size::DW, R1, 0, R2), "lock *(u64 *)(r1 +0) += r2"),
        (Insn::AtomicAdd(Size::W, R1, 4, R2), "lock *(u32 *)(r1 +4) += r2"),
        (Insn::Exchange(R1, 16, R2), "r2 = xchg(*(u64 *)(r1 +16), r2)"),
        (Insn::CompareExchange(R1, 0, R2), "r0 = cmpxchg(*(u64 *)(r1 +0), r0, r2)"),
        (Insn::Jump(-3), "goto -3"),
        (Insn::Jump(12), "goto +12"),
        (Insn::Exit, "exit"),
    ];
    for (insn, text) in table {
        assert_eq!(insn.to_string(), text);
    }
}
