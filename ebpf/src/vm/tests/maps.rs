//! Map helpers, and map values through pointers.

use super::*;

const ENOENT: Errno = -2;
const E2BIG: Errno = -7;
const EEXIST: Errno = -17;
const EINVAL: Errno = -22;

fn declared(kind: VmMapKind) -> VmMap {
    VmMap { kind, key_size: 4, value_size: 8, max_entries: 2 }
}

/// Calls a map helper with `key` and, for updates, `value` and `flags`, all from the context.
fn call(vm: &mut Vm, helper: Helper, key: u32, value: u64, flags: u64) -> Result<Errno, Fault> {
    vm.load(&[
        mov(R6, R1),
        Insn::Load(Size::DW, R2, R6, 0),
        Insn::Store(Size::W, FP, -4, R2),
        Insn::Load(Size::DW, R2, R6, 8),
        Insn::Store(Size::DW, FP, -16, R2),
        Insn::Load(Size::DW, R4, R6, 16),
        Insn::Map(R1, 0),
        mov(R2, FP),
        add(R2, -4),
        mov(R3, FP),
        add(R3, -16),
        Insn::Call(helper),
        Insn::Exit,
    ]);
    let context = [u64::from(key).to_le_bytes(), value.to_le_bytes(), flags.to_le_bytes()].concat();
    vm.run(&context).map(u64::cast_signed).map_err(|error| error.fault)
}

fn update(vm: &mut Vm, key: u32, value: u64, flags: u64) -> Errno {
    call(vm, Helper::MapUpdate, key, value, flags).expect("no fault")
}

fn machine(kind: VmMapKind) -> Vm {
    Vm::new(&[], &[declared(kind)], Environment::default())
}

/// `r0` = address of the value of key 7 in map 0, then `rest`.
fn lookup_then(rest: &[Insn]) -> Vec<Insn> {
    let mut program = vec![
        Insn::StoreImm(Size::W, FP, -4, 7),
        Insn::Map(R1, 0),
        mov(R2, FP),
        add(R2, -4),
        Insn::Call(Helper::MapLookup),
    ];
    program.extend_from_slice(rest);
    program
}

#[test]
fn hash_updates_obey_flags_and_the_limit() {
    for kind in [VmMapKind::Hash, VmMapKind::PercpuHash] {
        let mut vm = machine(kind);
        assert_eq!(update(&mut vm, 1, 10, 2), ENOENT);
        assert_eq!(update(&mut vm, 1, 10, 1), 0);
        assert_eq!(update(&mut vm, 1, 11, 1), EEXIST);
        assert_eq!(update(&mut vm, 1, 12, 2), 0);
        assert_eq!(update(&mut vm, 1, 13, 3), EINVAL);
        assert_eq!(update(&mut vm, 2, 20, 0), 0);
        assert_eq!(update(&mut vm, 3, 30, 0), E2BIG);
        assert_eq!(update(&mut vm, 3, 30, 2), ENOENT);
        assert_eq!(update(&mut vm, 2, 21, 0), 0);
        assert_eq!(call(&mut vm, Helper::MapDelete, 1, 0, 0), Ok(0));
        assert_eq!(call(&mut vm, Helper::MapDelete, 1, 0, 0), Ok(ENOENT));
        assert_eq!(update(&mut vm, 3, 30, 0), 0);
        let seen: Vec<_> = vm.map(0).iter().map(|(key, value)| (key[0], value[0])).collect();
        assert_eq!(seen, [(2, 21), (3, 30)]);
        assert_eq!(vm.map(0).len(), 2);
    }
}

#[test]
fn array_updates() {
    for kind in [VmMapKind::Array, VmMapKind::PercpuArray] {
        let mut vm = machine(kind);
        assert_eq!(update(&mut vm, 1, 10, 0), 0);
        assert_eq!(update(&mut vm, 1, 11, 2), 0);
        assert_eq!(update(&mut vm, 1, 12, 1), EEXIST);
        assert_eq!(update(&mut vm, 2, 12, 0), E2BIG);
        assert_eq!(update(&mut vm, 1, 12, 3), EINVAL);
        assert_eq!(call(&mut vm, Helper::MapDelete, 1, 0, 0), Ok(EINVAL));
        assert_eq!(call(&mut vm, Helper::MapLookup, 2, 0, 0), Ok(0));
        assert_ne!(call(&mut vm, Helper::MapLookup, 0, 0, 0), Ok(0));
        let seen: Vec<_> = vm.map(0).iter().map(|(key, value)| (key[0], value[0])).collect();
        assert_eq!(seen, [(0, 0), (1, 11)]);
    }
}

#[test]
fn values_are_read_and_written_through_the_pointer() {
    let program = lookup_then(&[
        Insn::JumpIf(Cond::Ne, R0, Src::Imm(0), 1),
        Insn::Exit,
        mov(R1, 5),
        Insn::AtomicAdd(Size::DW, R0, 0, R1),
        Insn::Load(Size::DW, R0, R0, 0),
        Insn::Exit,
    ]);
    let mut vm = Vm::new(&program, &[declared(VmMapKind::Hash)], Environment::default());
    let key = 7u32.to_le_bytes();
    assert_eq!(vm.run(&[]), Ok(0));
    vm.map_mut(0).insert(&key, &37u64.to_le_bytes()).expect("room");
    assert_eq!(vm.run(&[]), Ok(42));
    assert_eq!(vm.map(0).get(&key), Some(42u64.to_le_bytes().to_vec()));
}

#[test]
fn accesses_beyond_a_value_fail_on_either_side_of_each_element() {
    for offset in [-1, 8, i16::MIN, i16::MAX] {
        let program = lookup_then(&[Insn::Load(Size::B, R0, R0, offset), Insn::Exit]);
        for others in [0u32, 1] {
            let mut vm = Vm::new(&program, &[declared(VmMapKind::Hash); 2], Environment::default());
            for key in (0..others).chain([7]) {
                vm.map_mut(0).insert(&key.to_le_bytes(), &[0; 8]).expect("room");
            }
            let fault = vm.run(&[]).map_err(|error| error.fault);
            assert!(matches!(fault, Err(Fault::OutOfBounds { region: "map value", .. })), "{fault:?}");
        }
    }
}

#[test]
fn percpu_values_are_separate() {
    for kind in [VmMapKind::PercpuArray, VmMapKind::PercpuHash] {
        let env = Environment { cpus: 3, ..Environment::default() };
        let mut vm = Vm::new(&[], &[VmMap { value_size: 4, ..declared(kind) }], env);
        let key = 1u32.to_le_bytes();
        for (cpu, value) in [(0, 5), (2, 6)] {
            vm.env.cpu = cpu;
            assert_eq!(update(&mut vm, 1, value, 0), 0);
        }
        let padded = [5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(vm.map(0).get(&key), Some(padded.to_vec()));
        assert_eq!(vm.map(0).get_cpu(&key, 2), Some(&[6, 0, 0, 0][..]));
        assert_eq!(vm.map(0).get_cpu(&key, 3), None);
        vm.map_mut(0).insert(&key, &[1; 24]).expect("the same layout");
        assert_eq!(vm.map(0).get_cpu(&key, 1), Some(&[1; 4][..]));
        vm.env.cpu = 3;
        assert_eq!(call(&mut vm, Helper::MapLookup, 1, 0, 0), Err(Fault::NoCpu(3)));
    }
}

#[test]
fn a_pointer_kept_over_an_update_points_to_the_old_element() {
    // r6 = lookup(7); update(7, 9); *r6 = 1
    let program = lookup_then(&[
        mov(R6, R0),
        Insn::StoreImm(Size::DW, FP, -16, 9),
        Insn::Map(R1, 0),
        mov(R2, FP),
        add(R2, -4),
        mov(R3, FP),
        add(R3, -16),
        mov(R4, 0),
        Insn::Call(Helper::MapUpdate),
        Insn::StoreImm(Size::DW, R6, 0, 1),
        Insn::Exit,
    ]);
    let key = 7u32.to_le_bytes();
    for (kind, expected) in [(VmMapKind::Hash, 9), (VmMapKind::PercpuHash, 1)] {
        let env = Environment { cpus: 1, ..Environment::default() };
        let mut vm = Vm::new(&program, &[declared(kind)], env);
        for _ in 0..3 {
            vm.map_mut(0).insert(&key, &[0; 8]).expect("room");
            assert_eq!(vm.run(&[]), Ok(0));
            assert_eq!(vm.map(0).get(&key).map(|value| value[0]), Some(expected));
        }
    }
}

#[test]
fn arguments_are_checked() {
    let with = |program: &[Insn]| {
        let maps = [declared(VmMapKind::Hash)];
        Vm::new(program, &maps, Environment::default()).run(&[0; 8]).map_err(|error| error.fault)
    };
    let lookup = Insn::Call(Helper::MapLookup);
    assert_eq!(with(&[Insn::Map(R1, 1)]), Err(Fault::NoMap(1)));
    assert_eq!(with(&[mov(R1, 5), lookup]), Err(Fault::NotMap(5)));
    assert_eq!(with(&[Insn::Map(R1, 0), lookup]), Err(Fault::Uninitialised(R2)));
    assert!(matches!(with(&[mov(R2, R1), Insn::Map(R1, 0), lookup]), Err(Fault::NotOwn { .. })));
    let key = with(&[mov(R2, FP), add(R2, -4), Insn::Map(R1, 0), lookup]);
    assert!(matches!(key, Err(Fault::UninitialisedStack { offset: -4, .. })), "{key:?}");
    let opaque = with(&[Insn::Map(R1, 0), Insn::Load(Size::DW, R0, R1, 0)]);
    assert!(matches!(opaque, Err(Fault::OutOfBounds { .. })), "{opaque:?}");
}

#[test]
fn user_space_access_checks_sizes() {
    let mut vm = machine(VmMapKind::Hash);
    let map = vm.map_mut(0);
    assert!(map.is_empty());
    assert_eq!(map.insert(&[0; 3], &[0; 8]), Err(EINVAL));
    assert_eq!(map.insert(&[0; 4], &[0; 7]), Err(EINVAL));
    assert_eq!(map.insert(&[0; 4], &[0; 8]), Ok(()));
    assert_eq!(map.remove(&[0; 4]), Ok(()));
    assert_eq!(map.remove(&[0; 4]), Err(ENOENT));
    assert_eq!(map.get(&[0; 4]), None);
}
