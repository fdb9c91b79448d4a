//! Rows where there are many CPUs: as many copies as there is room for, each CPU in one of them, and no addition that another
//! CPU's may undo.
#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use tapster_testing::compiler as support;

use support::{
    case::{self, context, parse},
    world::World,
};
use tapster_ebpf::{
    insn::{Insn, R7},
    layout::COPIES_BUDGET,
    program::{Program, ROWS},
    vm::Environment,
};

const PROBE: &str = "
probes:
  - name: rows
    at: 'rawtracepoint:test:untyped'
    labels: { kind: arg0 }
    max_series: MOST
    rows: HOW
    metrics:
      - { counter: seen_total }
      - { histogram: size_bytes, value: arg1, unit: bytes, buckets: { exponential: { schema: 3, min: 3, max: 30 } } }
";

fn program(most: u32, how: &str, cpus: u32) -> Program {
    let probe = parse(&PROBE.replace("MOST", &most.to_string()).replace("HOW", how)).unwrap();
    tapster_ebpf::compile(&probe, &World::new().target(cpus)).unwrap()
}

/// What each copy of the row of `kind` 7 has counted after one event on every CPU.
fn counted(program: &Program, cpus: u32) -> Vec<u64> {
    let mut vm = case::machine(program, Environment { cpus, ..Environment::default() });
    for cpu in 0..cpus {
        vm.env.cpu = cpu;
        vm.run(&context(&[7, 100, 0])).unwrap();
    }
    let value = vm.map(usize::try_from(ROWS).unwrap()).get(&7_u64.to_le_bytes()).unwrap();
    let stride = usize::try_from(program.layout.copies.stride).unwrap();
    value.chunks(stride).map(|copy| u64::from_le_bytes(copy[..8].try_into().unwrap())).collect()
}

#[test]
fn every_cpu_counts_in_its_copy() {
    for (most, cpus, copies, shared_by) in [
        (1024, 1, 1, 1),
        (1024, 2, 2, 1),
        (1024, 8, 8, 1),
        (1024, 32, 8, 4),
        (1024, 128, 8, 16),
        // Four of five in one, and one in another.
        (4096, 5, 2, 4),
        (16, 96, 96, 1),
        (2, 512, 512, 1),
        (100_000, 8, 1, 8),
    ] {
        let program = program(most, "auto", cpus);
        assert_eq!(program.layout.shared_by(cpus), shared_by, "{most} rows, {cpus} processors");
        let counted = counted(&program, cpus);
        assert_eq!(counted.len(), copies, "{most} rows, {cpus} processors");
        assert_eq!(counted.iter().sum::<u64>(), u64::from(cpus));
        assert!(counted.iter().all(|count| *count <= u64::from(shared_by)), "{counted:?}");
        let rows = &program.maps[usize::try_from(ROWS).unwrap()];
        assert_eq!(rows.value_size, program.layout.value_size());
        if !program.layout.per_cpu && copies > 1 {
            let all = u64::from(rows.value_size) * u64::from(rows.max_entries);
            assert!(all <= COPIES_BUDGET && all > COPIES_BUDGET / 4, "{all} bytes");
        }
    }
    // As it is asked for.
    assert_eq!(counted(&program(1024, "shared", 128), 128), [128]);
    assert_eq!(counted(&program(1024, "per_cpu", 128), 128), [1; 128]);
}

/// Where another CPU writes the same words, they are added to in one step; where none does, that would only take longer.
#[test]
fn shared_rows_are_added_to_in_one_step() {
    for (most, how, cpus) in [
        (1024, "auto", 2),
        (1024, "auto", 32),
        (1024, "auto", 128),
        (1024, "shared", 2),
        (1024, "per_cpu", 128),
    ] {
        let program = program(most, how, cpus);
        let insns = &program.codes[0].assembled.insns;
        // The row is in `r7`; drops are counted in one step in any case.
        let at_once = insns.iter().any(|insn| matches!(insn, Insn::AtomicAdd(_, R7, ..)));
        assert_eq!(at_once, !program.layout.per_cpu, "{most} rows, {how}, {cpus} processors");
    }
}
