//! Every condition of a `where` counts, at whichever event and whatever it needs: with one of them false, nothing is counted.
#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use tapster_testing::compiler as support;

use support::{
    case::{self, context, parse},
    world::World,
};
use tapster_ebpf::{
    program::{Program, ROWS},
    vm::Environment,
};

/// Runs all programs in their order on these arguments; the sum of the first metric.
fn counted(program: &Program, arguments: [u64; 3]) -> u64 {
    let mut vm = case::machine(program, Environment { cpus: 1, ..Environment::default() });
    for code in &program.codes {
        vm.load(&code.assembled.insns);
        vm.run(&context(&arguments)).unwrap();
    }
    let row = vm.map(usize::try_from(ROWS).unwrap()).get_cpu(&0_u32.to_le_bytes(), 0).unwrap();
    let from = usize::try_from(program.layout.metrics[0].offset).unwrap();
    u64::from_le_bytes(row[from..from + 8].try_into().unwrap())
}

#[test]
fn each_condition_counts() {
    let all = "arg0 == 1 && arg1 == 2 && arg2 == 3";
    let pair = |start: &str, end: &str| {
        format!(
            "  start: {{ at: 'rawtracepoint:test:untyped', key: 7, save: {{ saved: arg0 }}{start} }}\n  end: {{ at: 'rawtracepoint:test:stop', key: 7{end} }}\n  metrics: [{{ counter: a_total }}]\n"
        )
    };
    for probe in [
        format!("  at: 'rawtracepoint:test:untyped'\n  where: {all}\n  metrics: [{{ counter: a_total }}]\n"),
        format!("  at: 'rawtracepoint:test:untyped'\n  metrics: [{{ counter: a_total, where: {all} }}]\n"),
        pair(&format!(", where: {all}"), ""),
        pair("", &format!(", where: {all}")),
        // What the start says is known later than the rest.
        pair("", ", where: arg1 == 2 && start.saved == 1 && arg2 == 3"),
        pair("", ", where: start.saved == 1 && arg1 == 2 && start.saved + arg2 == 4"),
    ] {
        let program = tapster_ebpf::compile(
            &parse(&format!("probes:\n- name: a\n{probe}")).unwrap(),
            &World::new().target(1),
        )
        .unwrap();
        assert_eq!(counted(&program, [1, 2, 3]), 1, "all hold: {probe}");
        for wrong in 0..3 {
            let mut arguments = [1, 2, 3];
            arguments[wrong] += 10;
            assert_eq!(counted(&program, arguments), 0, "arg{wrong} does not: {probe}");
        }
    }
}
