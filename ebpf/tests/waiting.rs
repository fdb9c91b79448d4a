//! What is told of a start that waits is what its end puts into the row: the programs on the virtual machine, and the start
//! that they left there.
#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use tapster_testing::compiler as support;

use support::{
    case::{self, context, parse},
    random::Random,
    world::World,
};
use tapster_ebpf::{
    attach::Target,
    probe::KernelVersion,
    program::{Program, ROWS, STARTS},
    vm::Environment,
};

const PROBE: &str = "
probes:
  - name: told
    start: { at: 'rawtracepoint:test:untyped', key: [arg0, pid], save: { small: (s32)arg1, text: comm } }
    end: ENDS
    let: { half: start.small - 1, twice: half * 2, at_the_end: arg3 }
    labels:
      half: half
      sign: 'start.small < 0 ? -1 : twice'
      key: arg0 >> 4
      text: start.text
      late: duration > 5
      ended: at_the_end
      fixed: 7
      whose: pid
      least: min(half, 5)
    metrics:
      - { in_flight: told_in_flight }
      - { oldest: told_oldest_seconds }
      - { counter: told_total }
";
const ONE_END: &str = "{ at: 'rawtracepoint:test:stop', key: [arg0, pid] }";

fn program(ends: &str) -> Program {
    let world = World::new();
    let probe = parse(&PROBE.replace("ENDS", ends)).unwrap();
    // Without a table all starts are in the map.
    let target = Target { kernel: KernelVersion(5, 10, 0), ..world.target(1) };
    tapster_ebpf::compile(&probe, &target).unwrap()
}

/// Names of the labels that are known of a start.
fn known(program: &Program) -> Vec<&str> {
    let labels = &program.waiting.as_ref().unwrap().labels;
    labels.iter().map(|label| program.labels[label.place].name.as_str()).collect()
}

#[test]
fn labels_of_a_start_are_those_of_its_row() {
    let program = program(ONE_END);
    assert_eq!(known(&program), ["half", "sign", "key", "text", "fixed", "whose", "least"]);
    let waiting = program.waiting.as_ref().unwrap();
    assert!(waiting.keeps);
    let layout = program.layout.start.as_ref().unwrap();
    let mut vm = case::machine(
        &program,
        Environment { cpus: 1, pid_tgid: 0x4d << 32 | 0x4e, ..Environment::default() },
    );
    let map = |index: u32| usize::try_from(index).unwrap();
    let index = |end: &str| program.codes.iter().position(|code| code.at.to_string().ends_with(end)).unwrap();
    let (start, stop) = (index("untyped"), index("stop"));
    let mut negative = 0;
    for seed in 0..200 {
        let mut random = Random(seed);
        let arguments = context(&[random.word(), random.value(), random.value(), random.value()]);
        vm.load(&program.codes[start].assembled.insns);
        vm.run(&arguments).unwrap();
        let (key, value) = vm.map(map(STARTS)).iter().next().unwrap();
        let told = waiting.labels(layout, &key, &value);
        assert_eq!(waiting.task(layout, &key), Some(77));
        vm.load(&program.codes[stop].assembled.insns);
        vm.run(&arguments).unwrap();
        let (row, _) = vm.map(map(ROWS)).iter().next().unwrap();
        for (label, told) in waiting.labels.iter().zip(told) {
            let slot = program.layout.labels[label.place];
            let bytes = &row[map(slot.offset)..map(slot.offset + slot.size)];
            assert_eq!(told, bytes, "`{}`, seed {seed}", program.labels[label.place].name);
            negative += u32::from(told == (-1_i64).to_le_bytes());
        }
        vm.map_mut(map(ROWS)).remove(&row).unwrap();
    }
    assert!(negative > 20, "{negative} of 200");
}

#[test]
fn where_ends_differ_the_label_is_not_known() {
    // The second reads its key from elsewhere: what is made of the key's expression is its own.
    let ends = format!("[{ONE_END}, {{ at: 'rawtracepoint:test:untyped', key: [arg2, pid] }}]");
    assert_eq!(known(&program(&ends)), ["half", "sign", "text", "fixed", "whose", "least"]);
}
