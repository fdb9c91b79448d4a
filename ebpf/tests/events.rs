//! Several events of one probe: what each feeds, on two processors, and those that a kernel does not have.
#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use tapster_testing::compiler as support;

use support::{
    case::{self, context, parse},
    world::World,
};
use tapster_ebpf::{
    declaration,
    diagnostic::SourceFile,
    program::{Program, ROWS},
    vm::{Environment, Vm},
};

const PROBE: &str = "
probes:
  - name: several
    events:
      - { at: 'rawtracepoint:test:untyped', let: { amount: (u32)arg1 }, labels: { kind: '\"more\"' } }
      - { at: 'rawtracepoint:test:typed', where: args.node != 0, labels: { kind: '\"none of the others\"' }, values: { things_total: 1 } }
      - { at: 'rawtracepoint:test:stop', let: { amount: arg1 }, labels: { kind: '\"more\"' }, values: { level: -amount } }
    metrics:
      - { counter: things_total }
      - { sum: level, value: amount }
";

fn run(program: &Program, vm: &mut Vm, (cpu, point, words): (u32, &str, [u64; 2])) {
    vm.env.cpu = cpu;
    let code = program.codes.iter().find(|code| code.at.to_string().ends_with(&format!(":{point}"))).unwrap();
    vm.load(&code.assembled.insns);
    vm.run(&context(&[words[0], words[1], 0, 0, 0, 0, 0, 0, 0, 0])).unwrap();
}

/// The numbers of both metrics in the row of a kind, of both processors.
fn numbers(program: &Program, vm: &Vm, kind: &str) -> Option<[i128; 2]> {
    let map = vm.map(usize::try_from(ROWS).unwrap());
    let (key, _) =
        map.iter().find(|(key, _)| key.split(|byte| *byte == 0).next() == Some(kind.as_bytes()))?;
    let number = |index: usize| {
        let (metric, slot) = (&program.metrics[index], program.layout.metrics[index]);
        let from = usize::try_from(slot.offset).unwrap();
        let words = |cpu| {
            let row = map.get_cpu(&key, cpu).unwrap();
            vec![u64::from_le_bytes(row[from..from + 8].try_into().unwrap())]
        };
        let mut joined = words(0);
        metric.kind.join(&mut joined, &words(1), metric.signed);
        metric.kind.number(&joined, metric.signed).unwrap()
    };
    Some([number(0), number(1)])
}

#[test]
fn each_event_feeds_what_it_names() {
    let world = World::new();
    let program = tapster_ebpf::compile(&parse(PROBE).unwrap(), &world.target(2)).unwrap();
    assert_eq!((program.codes.len(), program.labels.len()), (3, 1), "a label that only events name is one");
    assert!(program.layout.per_cpu, "nothing of it has to be shared");
    let mut vm = case::machine(&program, Environment { cpus: 2, ..Environment::default() });
    for event in [
        (0, "untyped", [0, 7]),
        (1, "untyped", [0, 5 | 1 << 40]),
        (1, "stop", [0, 20]),
        (0, "typed", [1, 0]),
        (0, "typed", [0, 0]),
    ] {
        run(&program, &mut vm, event);
    }
    assert_eq!(numbers(&program, &vm, "more"), Some([2, -8]), "7 + 5 - 20, and two events that count");
    assert_eq!(numbers(&program, &vm, "none of the others"), Some([1, 0]), "the condition of its own event");
    assert_eq!(vm.map(usize::try_from(ROWS).unwrap()).len(), 2, "texts of two lengths in one label");
}

#[test]
fn what_is_optional_and_not_there_is_named() {
    let world = World::new();
    let yaml = |second: &str| {
        format!(
            "probes:\n  - name: cache\n    events:\n      - {{ at: 'rawtracepoint:test:untyped' }}\n      - {{ at: {second}, optional: true, where: arg0 > 1 }}\n    metrics: [{{ counter: cache_total }}]\n"
        )
    };
    let compiled = |second: &str| tapster_ebpf::compile(&parse(&yaml(second)).unwrap(), &world.target(1));
    let one = compiled("'tracepoint:test:nothing'").unwrap();
    let said: Vec<String> = one.absent.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("`tracepoint:test:nothing` is optional and left out: "), "{said:?}");
    assert_eq!(one.codes.len(), 1);
    let both = compiled("{ one_of: ['tracepoint:test:nothing', 'rawtracepoint:test:nor_this'] }").unwrap();
    assert_eq!(both.absent[0].at, "tracepoint:test:nothing or rawtracepoint:test:nor_this");
    assert!(both.absent[0].why.contains("; "), "why of each: {}", both.absent[0].why);
    let there = compiled("'rawtracepoint:test:stop'").unwrap();
    assert_eq!((there.absent.len(), there.codes.len()), (0, 2));
    let all = compiled("{ all_of: ['rawtracepoint:test:stop', 'tracepoint:test:nothing'] }").unwrap();
    assert_eq!((all.absent.len(), all.codes.len()), (1, 2), "each of `all_of` for itself");
    let wrong = compiled("'rawtracepoint:test:typed'").map(|program| program.codes.len());
    assert_eq!(wrong, Ok(2), "`arg0` is the first argument");
}

/// A plain list means what it did, and a warning says what that is.
#[test]
fn a_list_of_attach_points_is_the_first_of_them() {
    let text =
        |at: &str| format!("probes:\n  - name: x\n    at: {at}\n    metrics: [{{ counter: x_total }}]\n");
    let old = "['tracepoint:test:nothing', 'rawtracepoint:test:stop']";
    let (file, said) = declaration::parse(&SourceFile::new("old.yaml", text(old)));
    assert!(said.len() == 1 && !said[0].is_error(), "{said:?}");
    assert_eq!(said[0].message, "a list behind `at` is the first of them that the kernel has, not all");
    let world = World::new();
    let points = |probe: &tapster_ebpf::probe::Probe| {
        let program: Program = tapster_ebpf::compile(probe, &world.target(1)).unwrap();
        program.codes.iter().map(|code| code.at.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(points(&file.probes[0]), ["rawtracepoint:test:stop"]);
    assert_eq!(points(&parse(&text(&format!("{{ one_of: {old} }}"))).unwrap()), ["rawtracepoint:test:stop"]);
    let all = "{ all_of: ['rawtracepoint:test:untyped', 'rawtracepoint:test:stop'] }";
    assert_eq!(
        points(&parse(&text(all)).unwrap()),
        ["rawtracepoint:test:untyped", "rawtracepoint:test:stop"]
    );
    let (_, said) = declaration::parse(&SourceFile::new("one.yaml", text("['rawtracepoint:test:stop']")));
    assert!(said.is_empty(), "one is one by either word: {said:?}");
}
