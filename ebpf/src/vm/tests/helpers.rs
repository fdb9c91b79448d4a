//! Helpers that report the environment or copy memory.

use super::*;

const KERNEL: u64 = 0xffff_8880_0000_1000;
const USER: u64 = 0x7f00_0000_1000;

const EFAULT: u64 = (-14i64).cast_unsigned();

/// Fills 16 stack bytes with 0x77, calls `helper(r10 -16, size, src)` and returns `r0` and the bytes.
fn copy(helper: Helper, size: u64, src: u64, env: &Environment) -> Result<(u64, [u8; 16]), Fault> {
    let program = [
        set(R2, 0x7777_7777_7777_7777),
        Insn::Store(Size::DW, FP, -16, R2),
        Insn::Store(Size::DW, FP, -8, R2),
        mov(R6, R1),
        mov(R1, FP),
        add(R1, -16),
        set(R2, size),
        set(R3, src),
        Insn::Call(helper),
        mov(R6, R0),
        // Hand everything out through the map.
        Insn::Store(Size::DW, FP, -24, R6),
        Insn::StoreImm(Size::W, FP, -28, 0),
        Insn::Map(R1, 0),
        mov(R2, FP),
        add(R2, -28),
        mov(R3, FP),
        add(R3, -24),
        mov(R4, 0),
        Insn::Call(Helper::MapUpdate),
        Insn::Exit,
    ];
    let out = VmMap { kind: VmMapKind::Array, key_size: 4, value_size: 24, max_entries: 1 };
    let mut vm = Vm::new(&program, &[out], env.clone());
    vm.run(&[]).map_err(|error| error.fault)?;
    let value = vm.map(0).get(&[0; 4]).expect("element 0");
    let (result, bytes) = value.split_at(8);
    Ok((u64::from_le_bytes(result.try_into().expect("8 bytes")), bytes.try_into().expect("16 bytes")))
}

fn environment() -> Environment {
    let mut env = Environment::default();
    env.kernel.insert(KERNEL, b"kernel\0rest".to_vec());
    env.user.insert(USER, b"user\0".to_vec());
    env
}

/// 16 bytes that begin with these; the rest is as `copy` filled them.
fn then_fill(start: &[u8]) -> [u8; 16] {
    let mut bytes = [0x77; 16];
    bytes[..start.len()].copy_from_slice(start);
    bytes
}

#[test]
fn reads_copy_all_or_zero_the_buffer() {
    let env = environment();
    for (helper, size, src, result, bytes) in [
        (Helper::ReadKernel, 6, KERNEL, 0, &b"kernel"[..]),
        (Helper::ReadKernel, 11, KERNEL, 0, b"kernel\0rest"),
        (Helper::ReadKernel, 12, KERNEL, EFAULT, &[0; 12]),
        (Helper::ReadKernel, 4, KERNEL - 1, EFAULT, &[0; 4]),
        (Helper::ReadKernel, 8, 0, EFAULT, &[0; 8]),
        (Helper::ReadKernel, 4, USER, EFAULT, &[0; 4]),
        (Helper::ReadKernel, 0, 0, 0, &[]),
        (Helper::ReadUser, 5, USER, 0, b"user\0"),
        (Helper::ReadUser, 6, USER, EFAULT, &[0; 6]),
        (Helper::ReadUser, 4, KERNEL, EFAULT, &[0; 4]),
        (Helper::ReadUser, 2, u64::MAX, EFAULT, &[0; 2]),
    ] {
        let got = copy(helper, size, src, &env);
        assert_eq!(got, Ok((result, then_fill(bytes))), "{helper:?} {size} {src:#x}");
    }
}

#[test]
fn string_reads_stop_at_nul_or_truncate() {
    let mut env = environment();
    env.user.insert(USER + 0x100, b"long".to_vec());
    env.kernel.insert(KERNEL + 0x100, vec![0]);
    for (helper, size, src, result, bytes) in [
        (Helper::ReadKernelStr, 16, KERNEL, 7, &b"kernel\0"[..]),
        (Helper::ReadKernelStr, 7, KERNEL, 7, b"kernel\0"),
        (Helper::ReadKernelStr, 6, KERNEL, 6, b"kerne\0"),
        (Helper::ReadKernelStr, 1, KERNEL, 1, b"\0"),
        (Helper::ReadKernelStr, 0, KERNEL, 0, b""),
        (Helper::ReadKernelStr, 8, KERNEL + 0x100, 1, b"\0"),
        (Helper::ReadKernelStr, 8, KERNEL + 7, EFAULT, &[0; 8]),
        (Helper::ReadKernelStr, 8, 0, EFAULT, &[0; 8]),
        (Helper::ReadUserStr, 16, USER, 5, b"user\0"),
        (Helper::ReadUserStr, 3, USER, 3, b"us\0"),
        // The byte that NUL replaces is read too.
        (Helper::ReadUserStr, 4, USER + 0x100, 4, b"lon\0"),
        (Helper::ReadUserStr, 5, USER + 0x100, EFAULT, &[0; 5]),
        (Helper::ReadUserStr, 4, KERNEL, EFAULT, &[0; 4]),
    ] {
        let got = copy(helper, size, src, &env);
        assert_eq!(got, Ok((result, then_fill(bytes))), "{helper:?} {size} {src:#x}");
    }
}

#[test]
fn buffers_must_fit_and_be_own_memory() {
    let env = environment();
    for helper in [Helper::ReadKernel, Helper::ReadUser, Helper::ReadKernelStr, Helper::ReadUserStr] {
        for size in [17, u64::MAX] {
            let fault = copy(helper, size, KERNEL, &env);
            assert!(matches!(fault, Err(Fault::OutOfBounds { region: "stack", .. })), "{fault:?}");
        }
        let foreign = [set(R1, KERNEL), mov(R2, 4), set(R3, KERNEL), Insn::Call(helper)];
        assert_eq!(run(&foreign), Err(Fault::NotOwn { address: KERNEL }));
    }
}

#[test]
fn a_filled_buffer_counts_as_written() {
    let program = [
        mov(R1, FP),
        add(R1, -16),
        mov(R2, 16),
        set(R3, KERNEL),
        Insn::Call(Helper::ReadKernelStr),
        // Beyond the string: readable, but not zero.
        Insn::Load(Size::DW, R0, FP, -8),
        Insn::Exit,
    ];
    let got = run_with(&program, &[], environment()).expect("no fault");
    assert_ne!(got, 0);
}

#[test]
fn own_memory_is_kernel_memory() {
    let program = [
        mov(R6, R1),
        mov(R1, FP),
        add(R1, -8),
        mov(R2, 8),
        mov(R3, R6),
        Insn::Call(Helper::ReadKernel),
        Insn::Load(Size::DW, R0, FP, -8),
        Insn::Exit,
    ];
    assert_eq!(run_with(&program, &9u64.to_le_bytes(), Environment::default()), Ok(9));
}

#[test]
fn comm_is_terminated_and_nothing_is_written_behind_it() {
    for (comm, size, expected) in [
        (&b"cat"[..], 16, then_fill(b"cat\0")),
        (b"cat", 4, then_fill(b"cat\0")),
        (b"cat", 2, then_fill(b"c\0")),
        (b"cat", 1, then_fill(b"\0")),
        (b"a\0b", 4, then_fill(b"a\0")),
        (b"0123456789abcdefgh", 16, *b"0123456789abcde\0"),
    ] {
        let env = Environment { comm: comm.to_vec(), ..Environment::default() };
        assert_eq!(copy(Helper::Comm, size, 0, &env), Ok((0, expected)));
    }
    assert_eq!(copy(Helper::Comm, 0, 0, &Environment::default()), Err(Fault::ZeroSize));
}

#[test]
fn scalars_come_from_the_environment() {
    let env = Environment {
        pid_tgid: 1,
        uid_gid: 2,
        task: 3,
        cgroup_id: 4,
        cpu: 1,
        ktime_ns: 6,
        ..Environment::default()
    };
    for (helper, expected) in [
        (Helper::PidTgid, 1),
        (Helper::UidGid, 2),
        (Helper::Task, 3),
        (Helper::CgroupId, 4),
        (Helper::CpuId, 1),
        (Helper::KtimeNs, 6),
    ] {
        assert_eq!(run_with(&[Insn::Call(helper), Insn::Exit], &[], env.clone()), Ok(expected));
    }
}

#[test]
fn the_clock_advances_by_its_step() {
    let program = [
        Insn::Call(Helper::KtimeNs),
        mov(R6, R0),
        Insn::Call(Helper::KtimeNs),
        Insn::Alu64(Alu::Sub, R0, R6.into()),
        Insn::Exit,
    ];
    let env = Environment { ktime_ns: 100, ktime_step_ns: 7, ..Environment::default() };
    let mut vm = Vm::new(&program, &[], env);
    assert_eq!(vm.run(&[]), Ok(7));
    assert_eq!(vm.env.ktime_ns, 114);
}
