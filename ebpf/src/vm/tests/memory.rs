//! Loads and stores in each region.

use super::*;

const KERNEL: u64 = 0xffff_8880_0000_1000;

const SIZES: [Size; 4] = [Size::B, Size::H, Size::W, Size::DW];

#[test]
fn stores_keep_the_low_bytes_and_loads_zero_extend() {
    for size in SIZES {
        let bits = size.bytes() * 8;
        let mask = u64::MAX >> (64 - bits);
        let stored = [
            set(R2, 0x8877_6655_c4b3_a291),
            Insn::Store(size, FP, -8, R2),
            Insn::Load(size, R0, FP, -8),
            Insn::Exit,
        ];
        assert_eq!(run(&stored), Ok(0x8877_6655_c4b3_a291 & mask));
        let constant = [Insn::StoreImm(size, FP, -8, -2), Insn::Load(size, R0, FP, -8), Insn::Exit];
        assert_eq!(run(&constant), Ok((u64::MAX - 1) & mask));
    }
}

#[test]
fn memory_is_little_endian() {
    let program = [
        set(R2, 0x8877_6655_4433_2211),
        Insn::Store(Size::DW, FP, -8, R2),
        Insn::Load(Size::H, R0, FP, -6),
        Insn::Exit,
    ];
    assert_eq!(run(&program), Ok(0x4433));
}

#[test]
fn the_stack_has_512_bytes() {
    for (offset, size, fits) in [
        (-512, Size::DW, true),
        (-513, Size::B, false),
        (-520, Size::DW, false),
        (-1, Size::B, true),
        (0, Size::B, false),
        (-8, Size::DW, true),
        (i16::MIN, Size::B, false),
        (i16::MAX, Size::B, false),
    ] {
        let got = run(&[Insn::StoreImm(size, FP, offset, 0), mov(R0, 0), Insn::Exit]);
        match got {
            Ok(_) => assert!(fits, "{offset}"),
            Err(Fault::OutOfBounds { region, .. }) => assert!(!fits && region == "stack", "{offset}"),
            Err(fault) => panic!("{offset}: {fault}"),
        }
    }
}

#[test]
fn stack_bytes_must_be_written_before_they_are_read() {
    let read = |written: Insn| run(&[written, Insn::Load(Size::DW, R0, FP, -16), Insn::Exit]);
    assert_eq!(read(Insn::StoreImm(Size::DW, FP, -16, 5)), Ok(5));
    let fault = read(Insn::StoreImm(Size::W, FP, -16, 5)).expect_err("half is missing");
    assert!(matches!(fault, Fault::UninitialisedStack { offset: -12, .. }), "{fault}");
    assert!(fault.to_string().contains("(r10 -12)"), "{fault}");
    // The next run starts afresh.
    let mut vm = Vm::new(
        &[
            Insn::Load(Size::B, R2, R1, 0),
            Insn::JumpIf(Cond::Eq, R2, Src::Imm(0), 1),
            Insn::StoreImm(Size::B, FP, -1, 1),
            Insn::Load(Size::B, R0, FP, -1),
            Insn::Exit,
        ],
        &[],
        Environment::default(),
    );
    assert_eq!(vm.run(&[1]), Ok(1));
    assert!(vm.run(&[0]).is_err());
}

#[test]
fn stack_and_context_accesses_are_aligned() {
    let fault = run(&[Insn::StoreImm(Size::W, FP, -6, 0)]);
    assert!(matches!(fault, Err(Fault::Misaligned { size: 4, .. })), "{fault:?}");
    let fault = run_with(&[Insn::Load(Size::DW, R0, R1, 4)], &[0; 16], Environment::default());
    assert!(matches!(fault, Err(Fault::Misaligned { size: 8, .. })), "{fault:?}");
}

#[test]
fn the_context_can_be_read_within_its_length_and_not_written() {
    let context: Vec<u8> = (1..=16).collect();
    let load = |size, offset| {
        run_with(&[Insn::Load(size, R0, R1, offset), Insn::Exit], &context, Environment::default())
    };
    assert_eq!(load(Size::DW, 8), Ok(0x100f_0e0d_0c0b_0a09));
    assert_eq!(load(Size::B, 15), Ok(16));
    for offset in [-1, 16] {
        let fault = load(Size::B, offset);
        assert!(matches!(fault, Err(Fault::OutOfBounds { region: "context", .. })), "{fault:?}");
    }
    let write = run_with(&[Insn::StoreImm(Size::B, R1, 0, 0)], &context, Environment::default());
    assert!(matches!(write, Err(Fault::NotOwn { .. })), "{write:?}");
}

#[test]
fn kernel_loads_give_0_where_nothing_is_mapped() {
    let mut env = Environment::default();
    env.kernel.insert(KERNEL, vec![1, 2, 3, 4]);
    env.kernel.insert(KERNEL + 4, vec![5, 6, 7, 8]);
    let load = |size, address| {
        run_with(&[set(R2, address), Insn::Load(size, R0, R2, 0), Insn::Exit], &[], env.clone())
    };
    assert_eq!(load(Size::W, KERNEL), Ok(0x0403_0201));
    // Adjacent blocks are one memory; alignment is not asked for.
    assert_eq!(load(Size::W, KERNEL + 3), Ok(0x0706_0504));
    assert_eq!(load(Size::DW, KERNEL + 1), Ok(0));
    assert_eq!(load(Size::B, KERNEL - 1), Ok(0));
    assert_eq!(load(Size::DW, 0), Ok(0));
    assert_eq!(load(Size::DW, u64::MAX - 3), Ok(0));
}

#[test]
fn kernel_memory_is_not_written() {
    let mut env = Environment::default();
    env.kernel.insert(KERNEL, vec![0; 8]);
    for insn in [
        Insn::StoreImm(Size::B, R2, 0, 1),
        Insn::Store(Size::B, R2, 0, R2),
        Insn::AtomicAdd(Size::DW, R2, 0, R2),
        Insn::Exchange(R2, 0, R2),
    ] {
        assert_eq!(
            run_with(&[set(R2, KERNEL), insn], &[], env.clone()),
            Err(Fault::NotOwn { address: KERNEL })
        );
    }
}

#[test]
fn atomic_add_wraps_at_its_width() {
    let add_to = |size, old: u64, value: u64| {
        run(&[
            set(R2, old),
            Insn::Store(Size::DW, FP, -8, R2),
            set(R3, value),
            Insn::AtomicAdd(size, FP, -8, R3),
            Insn::Load(Size::DW, R0, FP, -8),
            Insn::Exit,
        ])
    };
    assert_eq!(add_to(Size::DW, u64::MAX, 2), Ok(1));
    assert_eq!(add_to(Size::W, 0x7_ffff_ffff, 2), Ok(0x7_0000_0001));
    assert_eq!(add_to(Size::W, 1, 0x9_0000_0001), Ok(2));
    assert_eq!(add_to(Size::H, 1, 1), Err(Fault::AtomicSize));
    assert_eq!(add_to(Size::B, 1, 1), Err(Fault::AtomicSize));
    let misaligned = [mov(R3, 1), Insn::AtomicAdd(Size::DW, FP, -12, R3)];
    assert!(matches!(run(&misaligned), Err(Fault::Misaligned { .. })));
}

#[test]
fn exchanges_give_what_was_there() {
    let after = |insn, expected: u64| {
        let run_and = |last| {
            run(&[
                set(R2, 5),
                Insn::Store(Size::DW, FP, -8, R2),
                set(R0, expected),
                set(R3, 9),
                insn,
                last,
                Insn::Exit,
            ])
        };
        let memory = run_and(Insn::Load(Size::DW, R0, FP, -8)).unwrap();
        let (r0, r3) =
            (run_and(Insn::Alu64(Alu::Mov, R0, R0.into())), run_and(Insn::Alu64(Alu::Mov, R0, R3.into())));
        (memory, r0.unwrap(), r3.unwrap())
    };
    assert_eq!(after(Insn::Exchange(FP, -8, R3), 7), (9, 7, 5));
    assert_eq!(after(Insn::CompareExchange(FP, -8, R3), 5), (9, 5, 9));
    assert_eq!(after(Insn::CompareExchange(FP, -8, R3), 6), (5, 5, 9));
}
