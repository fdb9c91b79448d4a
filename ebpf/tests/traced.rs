//! `traced`: whose a process is, by the map of those that are the command's.
#![allow(
    clippy::unwrap_used,
    clippy::format_push_string,
    clippy::format_collect,
    reason = "a panic is the report"
)]

use tapster_testing::compiler as support;

use support::{
    case::{self, context, parse},
    world::World,
};
use tapster_ebpf::{
    attach::Target,
    diagnostic::Diagnostic,
    program::{Program, ROWS, TRACED},
    vm::{Environment, Vm},
};

/// What the map says of a process of the command, and of the one that started it.
const FOLLOWED: u32 = 1;
const PARENT: u32 = 2;
/// Where the task is that the event is about.
const TASK: u64 = 0xffff_8880_0000_1000;

fn compile(fields: &str, command: bool) -> Result<Program, Vec<Diagnostic>> {
    let world = World::new();
    let probe = parse(&format!(
        "probes:
  - name: case
    at: rawtracepoint:test:task
{fields}
    metrics: [{{ counter: case_total }}]
"
    ))
    .unwrap();
    tapster_ebpf::compile(&probe, &Target { command, ..world.target(1) })
}

/// A machine on which process 7 runs, the event's task is of process 8, and the map says this.
fn machine(program: &Program, said: &[(u32, u32)]) -> Vm {
    let mut env = Environment { cpus: 1, pid_tgid: 0x7_0000_0046, ..Environment::default() };
    // After a word the number of the thread, and that of the process.
    let task = [0_u32, 80, 8, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
    env.kernel.insert(TASK, task);
    let mut vm = case::machine(program, env);
    if let Some(map) = program.map_named(TRACED) {
        let map = vm.map_mut(usize::try_from(map).unwrap());
        for (process, value) in said {
            map.insert(&process.to_le_bytes(), &value.to_le_bytes()).unwrap();
        }
    }
    vm
}

/// Whether an event is counted for whose task that is.
fn counts(program: &Program, said: &[(u32, u32)], task: u64) -> bool {
    let mut vm = machine(program, said);
    vm.load(&program.codes[0].assembled.insns);
    vm.run(&context(&[task, 0])).unwrap();
    let rows = vm.map(usize::try_from(ROWS).unwrap());
    rows.iter().any(|(_, row)| row[..8] != [0; 8])
}

#[test]
fn the_current_task_and_another() {
    for (filter, process) in [("traced", 7), ("traced(args.task)", 8), ("traced(curtask) || traced", 7)] {
        let program = compile(&format!("    where: {filter}"), true).unwrap();
        let counts = |said: &[(u32, u32)]| counts(&program, said, TASK);
        assert!(counts(&[(process, FOLLOWED)]), "{filter}");
        // Another's, the thread's number instead of the process's, who starts the command, nobody's.
        for said in [&[(15 - process, FOLLOWED)][..], &[(process * 10, FOLLOWED)], &[(process, PARENT)], &[]]
        {
            assert!(!counts(said), "{filter}: {said:?}");
        }
    }
    // Not any process, and none is number 0.
    let program = compile("    where: traced(args.task)", true).unwrap();
    assert!(!counts(&program, &[(8, FOLLOWED), (7, FOLLOWED)], 0));
    assert!(counts(&compile("    where: '!traced'", true).unwrap(), &[(8, FOLLOWED)], TASK));
}

/// As a number among others: beside values that wait in registers, in a `let`, as a label.
#[test]
fn a_value_like_any_other() {
    for (filter, expected) in [
        ("tid * 2 + traced(args.task) == 141", true),
        ("tid * 2 + traced == 141", false),
        ("traced(args.task) + traced(args.task) * (tid + traced) == 71", true),
        ("'(traced ? 1 : traced(args.task) ? 2 : 3) == 2'", true),
    ] {
        let program = compile(&format!("    where: {filter}"), true).unwrap();
        assert_eq!(counts(&program, &[(8, FOLLOWED)], TASK), expected, "{filter}");
    }
    let program =
        compile("    let: { own: traced(args.task) }\n    labels: { own: own, other: traced }", true)
            .unwrap();
    let mut vm = machine(&program, &[(8, FOLLOWED)]);
    vm.load(&program.codes[0].assembled.insns);
    vm.run(&context(&[TASK, 0])).unwrap();
    let rows = vm.map(usize::try_from(ROWS).unwrap());
    let key: Vec<u8> = rows.iter().map(|(key, _)| key).next().unwrap();
    assert_eq!(key.chunks(8).map(|word| word[0]).collect::<Vec<_>>(), [1, 0]);
}

/// Without a command everything is counted, at no cost; `tracing` says which of both it is.
#[test]
fn nothing_is_asked_without_a_command() {
    let program = compile("    where: traced(args.task) && traced", false).unwrap();
    assert_eq!(program.map_named(TRACED), None);
    let plain = compile("", false).unwrap();
    assert_eq!(program.codes[0].assembled.insns, plain.codes[0].assembled.insns);
    for (filter, command, expected) in [
        ("tracing", true, true),
        ("tracing", false, false),
        ("'tid >= (tracing ? 0 : 1000)'", true, true),
        ("'tid >= (tracing ? 0 : 1000)'", false, false),
    ] {
        let program = compile(&format!("    where: {filter}"), command).unwrap();
        assert_eq!(counts(&program, &[], TASK), expected, "{filter}");
        assert_eq!(program.map_named(TRACED), None, "nobody asks for it");
    }
    // What is known is part of the instruction.
    let known = compile("    where: 'tid >= (tracing ? 0 : 1000)'", false).unwrap();
    let written = compile("    where: tid >= 1000", false).unwrap();
    assert_eq!(known.codes[0].assembled.insns, written.codes[0].assembled.insns);
}

/// Also where there is no command, so that a file is right or wrong by itself.
#[test]
fn only_tasks_have_processes() {
    for command in [false, true] {
        for (filter, message) in [
            ("traced(args.node)", "`traced` takes a `struct task_struct *`, or nothing for the current task"),
            ("traced(tid)", "`traced` takes a `struct task_struct *`, or nothing for the current task"),
            ("traced(args.task, 1)", "`traced` does not take 2 arguments"),
            ("traced(args.tsk)", "`rawtracepoint:test:task` has no argument `tsk`"),
        ] {
            let problems = compile(&format!("    where: {filter}"), command).unwrap_err();
            assert_eq!(problems[0].message, message, "{filter}");
        }
    }
}
