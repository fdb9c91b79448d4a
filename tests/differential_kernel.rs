//! The third voice: the programs of `ebpf/tests/differential.rs` loaded into this kernel and run there by
//! `BPF_PROG_TEST_RUN`. Nothing is attached; the structs that they read stand in this process's own memory.
#![allow(
    clippy::unwrap_used,
    clippy::format_push_string,
    clippy::format_collect,
    reason = "a panic is the report"
)]

use tapster_testing::compiler as support;

use std::os::fd::AsFd;
use support::{
    case::{Case, Frame, Rows, compile_all, context, gauges, walk_head},
    expression::{Grammar, INTEGERS, OPERATORS},
    random::Random,
    world::{MEMORY, Places, World, memory},
};
use tapster::{
    host::Host,
    kernel::Kernel,
    load::{self, Attached},
    sys::{Capabilities, Capability, Map, PossibleCpus, prog_test_run_raw_tp},
};
use tapster_ebpf::{program::ROWS, vm::Environment};

/// Below what any process may map.
const BAD: u64 = 0x18;
/// Nothing measures time here.
const STEP_NS: u64 = 1000;

/// Whether this process may load programs; says so if not.
fn privileged() -> bool {
    let capabilities = Capabilities::of_process().unwrap();
    let enough = capabilities.has(Capability::SysAdmin)
        || capabilities.has(Capability::Bpf) && capabilities.has(Capability::Perfmon);
    if !enough {
        println!("skipped: needs CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN");
    }
    enough
}

/// This thread as the helpers report it.
fn this_thread() -> Environment {
    let link = std::fs::read_link("/proc/thread-self").unwrap();
    let parts: Vec<u64> = link.to_str().unwrap().split('/').filter_map(|part| part.parse().ok()).collect();
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let real = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    Environment {
        pid_tgid: parts[0] << 32 | parts[1],
        uid_gid: real("Gid:") << 32 | real("Uid:"),
        comm: std::fs::read("/proc/thread-self/comm").unwrap().trim_ascii_end().to_vec(),
        ..Environment::default()
    }
}

/// A probe in the kernel, and its rows.
struct Voice {
    attached: Attached,
    rows: Map,
}

impl Voice {
    fn new(case: &Case) -> Self {
        let attached =
            load::load(case.program.clone(), None).unwrap_or_else(|error| panic!("{error}\n{}", case.yaml));
        let rows = Map::open(attached.map(ROWS).unwrap(), PossibleCpus::of_host().unwrap()).unwrap();
        Self { attached, rows }
    }

    /// Runs every program once on empty rows.
    fn run(&self, case: &Case, arguments: &[u64]) -> Rows {
        let keys: Vec<Vec<u8>> = self.rows.dump().unwrap().iter().map(|(key, _)| key.to_vec()).collect();
        for key in keys {
            if case.typed.labels.is_empty() {
                self.rows.update(&key, &vec![0; self.rows.value_size()]).unwrap();
            } else {
                self.rows.delete(&key).unwrap();
            }
        }
        for index in 0..case.program.codes.len() {
            prog_test_run_raw_tp(self.attached.program_fd(index).unwrap().as_fd(), arguments).unwrap();
        }
        let mut rows = Rows::new();
        for (key, copies) in self.rows.dump().unwrap().iter() {
            // The copy of the CPU that it ran on is the one with a time in it.
            let size = usize::try_from(case.program.layout.row_size).unwrap();
            let counted = copies.chunks(size).find(|copy| copy[..8] != [0; 8]);
            rows.extend(counted.map(|copy| (key.to_vec(), gauges(&case.program, copy))));
        }
        rows.sort();
        rows
    }
}

fn agree(case: &Case, voice: &Voice, environment: &Environment, arguments: &[u64]) -> usize {
    let context = context(arguments);
    let mut vm = case.machine(environment.clone());
    case.run(&mut vm, &context, STEP_NS);
    let expected = case.expected(environment, &context, STEP_NS);
    let (kernel, machine) = (voice.run(case, arguments), case.rows(&vm));
    let keys = |rows: &Rows| rows.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
    assert_eq!(keys(&kernel), keys(&expected), "rows for {arguments:x?}\n{}", case.yaml);
    let mut compared = 0;
    for (((key, kernel), (_, machine)), (_, expected)) in kernel.iter().zip(&machine).zip(&expected) {
        for (index, ((kernel, machine), expected)) in kernel.iter().zip(machine).zip(expected).enumerate() {
            compared += 1;
            assert!(
                kernel == expected && machine == expected,
                "the kernel gives {kernel:#x}, the virtual machine {machine:#x}, the language {expected:#x}\n{}\narguments {arguments:x?}, row {key:x?}\n{}",
                case.expressions[index],
                case.yaml.split("metrics:").next().unwrap_or(""),
            );
        }
    }
    compared
}

/// Memory of this process that stays where it is, with the nodes in it.
fn own_memory(random: &mut Random) -> (Vec<u8>, Places) {
    let mut block = vec![0_u8; MEMORY];
    let (bytes, places) = memory(random, u64::try_from(block.as_ptr().addr()).unwrap(), BAD);
    block.copy_from_slice(&bytes);
    (block, places)
}

fn random_cases(name: &str, seed: u64, frame: impl Fn(&mut Grammar) -> Frame) {
    if !privileged() {
        return;
    }
    let world = World::new();
    let cpus = PossibleCpus::of_host().unwrap().get();
    let (mut expressions, mut programs, mut compared, mut runs) = (0, 0, 0, 77);
    let newest = Kernel::detect(&Host::default()).version;
    for round in 0..20 {
        let mut grammar = Grammar::untyped(Random(seed + round));
        let frame = frame(&mut grammar);
        let texts: Vec<String> = (0..60).map(|index| grammar.number(1 + index % 5)).collect();
        let (cases, _) = compile_all(&frame, &texts, &world.target_in_turn(cpus, round, newest));
        for case in &cases {
            let voice = Voice::new(case);
            programs += case.program.codes.len();
            expressions += case.expressions.len();
            for _ in 0..4 {
                let random = &mut grammar.random;
                let (block, places) = own_memory(random);
                let mut environment = this_thread();
                environment.user.insert(u64::try_from(block.as_ptr().addr()).unwrap(), block.clone());
                let mut arguments: Vec<u64> = (0..12).map(|_| random.value()).collect();
                arguments[5] = places.nodes[random.below(3)];
                arguments[6] = if random.one_in(3) { BAD } else { places.nodes[random.below(3)] };
                arguments[7] = places.inners[random.below(2)];
                arguments[8] = places.texts[random.below(4)];
                arguments[9] = if random.one_in(2) { 0 } else { BAD };
                // A key that no run before had.
                runs += 1;
                arguments[11] = runs;
                compared += agree(case, &voice, &environment, &arguments);
                drop(block);
            }
        }
    }
    println!("{name}: {expressions} expressions in {programs} programs, {compared} results compared");
}

#[test]
fn words_and_memory() {
    random_cases("words", 100_000, |_| Frame::at("test:untyped"));
}

#[test]
fn named_ones() {
    random_cases("let", 110_000, |grammar| {
        let mut head = Frame::at("test:untyped").head;
        head += &format!(
            "    let: {{ n: '{}', t: '{}', p: '{}' }}\n",
            grammar.number(2),
            grammar.text(1),
            grammar.node(1)
        );
        head += &format!("    where: '({}) || arg0 > 5'\n", grammar.number(1));
        grammar.numbers.push("n".into());
        grammar.texts.push("t".into());
        grammar.nodes.push("p".into());
        Frame { head }
    });
}

#[test]
fn pairs() {
    random_cases("pairs", 120_000, |grammar| {
        let (number, text, pointer) = (grammar.number(2), grammar.text(1), grammar.node(1));
        grammar.numbers.push("start.n".into());
        grammar.texts.push("start.t".into());
        grammar.nodes.push("start.p".into());
        Frame {
            head: format!(
                "    start:\n      at: \"rawtracepoint:test:untyped\"\n      key: [arg11, comm]\n      save: {{ n: '{number}', t: '{text}', p: '{pointer}' }}\n    end:\n      at: \"rawtracepoint:test:stop\"\n      key: [arg11, comm]\n    labels: {{ text: start.t, number: start.n, place: {{ value: start.p, as: usym }} }}\n"
            ),
        }
    });
}

/// The second event feeds the first metric alone, in a row of its own.
#[test]
fn several_events() {
    random_cases("events", 140_000, |grammar| {
        let (first, second, number) = (grammar.own_values(), grammar.own_values(), grammar.number(2));
        let head = format!(
            "    events:\n      - at: \"rawtracepoint:test:untyped\"\n{first}        labels: {{ which: 1 }}\n      - at: \"rawtracepoint:test:stop\"\n{second}        labels: {{ which: 2 }}\n        values: {{ g0: '{number}' }}\n    labels: {{ text: text }}\n"
        );
        grammar.numbers.push("own".into());
        grammar.texts.push("text".into());
        Frame { head }
    });
}

#[test]
fn between_events() {
    random_cases("between", 150_000, |grammar| {
        let mut event = |at: &str, text: &str| {
            let (number, pointer) = (grammar.number(2), grammar.node(1));
            format!(
                "      - at: \"rawtracepoint:test:{at}\"\n        key: [arg11, comm]\n        save: {{ n: '({number}) + 0', t: '{text}', p: '{pointer}' }}\n"
            )
        };
        let events = [event("untyped", "comm"), event("stop", "str((char *)arg8, 16)")].concat();
        grammar.numbers.push("start.n".into());
        grammar.texts.push("start.t".into());
        grammar.nodes.push("start.p".into());
        Frame { head: format!("    between:\n{events}    labels: {{ text: start.t, number: start.n }}\n") }
    });
}

#[test]
fn lists() {
    random_cases("lists", 130_000, |grammar| Frame {
        head: walk_head(grammar, "untyped", "((struct node *)arg5)", "0"),
    });
}

#[test]
fn every_operator() {
    if !privileged() {
        return;
    }
    let world = World::new();
    let mut expressions = Vec::new();
    for operator in OPERATORS {
        for left in INTEGERS {
            for right in INTEGERS {
                expressions.push(format!("({left})arg0 {operator} ({right})arg1"));
            }
        }
    }
    let (cases, refused) = compile_all(
        &Frame::at("test:untyped"),
        &expressions,
        &world.target(PossibleCpus::of_host().unwrap().get()),
    );
    assert_eq!(refused, 0);
    let mut random = Random(7);
    let mut compared = 0;
    for case in &cases {
        let voice = Voice::new(case);
        for _ in 0..60 {
            let a = random.value();
            let b = match random.below(4) {
                0 => a,
                1 => a.wrapping_add(1),
                2 => random.value() & 0x7f,
                _ => random.value(),
            };
            compared += agree(case, &voice, &this_thread(), &[a, b]);
        }
    }
    println!("operators: {} expressions, {compared} results compared", expressions.len());
}
