//! State: what events leave for others. Compiled programs run one after the other on maps that stay, beside the evaluator, with
//! the tasks and processors changing in between.
#![allow(
    clippy::unwrap_used,
    clippy::format_push_string,
    clippy::format_collect,
    reason = "a panic is the report"
)]

use tapster_testing::compiler as support;

use support::{
    case::{self, Case, Frame, compile, context, parse},
    expression::Grammar,
    random::Random,
    world::{World, memory},
};
use tapster_ebpf::{
    attach::Target,
    check,
    eval::StateValues,
    insn::{Helper, Insn},
    layout::DropReason,
    probe::KernelVersion,
    program::{DROPS, MapKind, ROWS},
    vm::{Environment, Vm},
};

const NOTE: &str = "    note: { at: 'rawtracepoint:test:stop', ";
const AT: &str = "    at: 'rawtracepoint:test:untyped'\n";
/// Before the kernel kept values with tasks, and after.
const OLD: KernelVersion = KernelVersion(6, 1, 0);
const NEW: KernelVersion = KernelVersion(6, 9, 0);

/// A probe in two machines: its programs, and the language.
struct Machines {
    case: Case,
    vm: Vm,
    state: StateValues,
}

impl Machines {
    fn new(head: &str, expressions: &[&str]) -> Self {
        Self::on(head, expressions, &World::new().target(2))
    }

    fn on(head: &str, expressions: &[&str], target: &Target<'_>) -> Self {
        let expressions: Vec<String> = expressions.iter().map(|text| (*text).to_owned()).collect();
        let case = compile(&Frame { head: head.into() }, &expressions, target).unwrap();
        Self::of(case)
    }

    /// Without the program that gives up what a task left: it has a record of its own, and no task ends here.
    fn of(mut case: Case) -> Self {
        if case.program.codes[0].at.to_string().ends_with("sched_process_free") {
            case.program.codes.remove(0);
            case.typed.events.remove(0);
        }
        let vm = case.machine(Environment::default());
        let state = StateValues::new(&case.typed.states);
        Self { case, vm, state }
    }

    /// Runs all programs; the values of each row, the same by both.
    fn run(&mut self, environment: &Environment, arguments: &[u64]) -> case::Rows {
        let context = context(arguments);
        let rows = usize::try_from(ROWS).unwrap();
        let keys: Vec<Vec<u8>> = self.vm.map(rows).iter().map(|(key, _)| key).collect();
        for key in keys {
            if self.vm.map_mut(rows).remove(&key).is_err() {
                let zeros = vec![0; self.vm.map(rows).get(&key).unwrap().len()];
                self.vm.map_mut(rows).insert(&key, &zeros).unwrap();
            }
        }
        self.vm.env = environment.clone();
        self.case.run(&mut self.vm, &context, 10);
        let mut got = self.case.rows(&self.vm);
        let expected = self.case.expected_after(environment, &context, 10, &mut self.state);
        // Without labels there is a row even if nothing was counted.
        if expected.is_empty() && self.case.typed.labels.is_empty() {
            assert!(got.iter().all(|(_, values)| values.iter().all(|value| *value == 0)));
            got.clear();
        }
        assert_eq!(got, expected, "of {arguments:x?} in {environment:?}\n{}", self.case.yaml);
        got
    }

    /// The same on a processor and in a task: the first value of the only row.
    fn value(&mut self, (cpu, task): (u32, u64), arguments: &[u64]) -> u64 {
        let environment = Environment { cpu, pid_tgid: task, task, ..Environment::default() };
        self.run(&environment, arguments)[0].1[0]
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        let map = self.vm.map(usize::try_from(DROPS).unwrap());
        let counts = map.get(&reason.index().to_le_bytes()).unwrap();
        counts.chunks_exact(8).map(|count| u64::from_le_bytes(count.try_into().unwrap())).sum()
    }

    fn keys(&self, map: &str) -> usize {
        self.vm.map(usize::try_from(self.case.program.map_named(map).unwrap()).unwrap()).len()
    }
}

#[test]
fn each_processor_has_its_own_and_a_default() {
    let head = format!("    state: {{ last: {{ per: cpu, default: 7 }} }}\n{AT}    set: {{ last: arg0 }}\n");
    let mut machines = Machines::new(&head, &["state.last"]);
    // An event reads what was there before it.
    assert_eq!(machines.value((0, 1), &[11]), 7);
    assert_eq!(machines.value((1, 1), &[12]), 7);
    assert_eq!(machines.value((0, 2), &[13]), 11);
    assert_eq!(machines.value((1, 2), &[14]), 12);
    assert_eq!(machines.value((0, 1), &[u64::MAX]), 13);
    assert_eq!(machines.value((0, 1), &[0]), u64::MAX);
}

#[test]
fn each_task_has_its_own_whatever_the_kernel() {
    let world = World::new();
    let head = format!(
        "    state: {{ depth: {{ per: task, default: 100 }}, name: {{ per: task }} }}\n{NOTE}add: {{ depth: 1 }}, set: {{ name: comm }} }}\n{AT}"
    );
    for (kernel, kind) in [(NEW, MapKind::TaskStorage), (OLD, MapKind::Hash)] {
        let target = Target { kernel, ..world.target(2) };
        let mut machines =
            Machines::on(&head, &["state.depth + (state.name == \"test\" ? 1000 : 0)"], &target);
        let map = machines.case.program.maps.iter().find(|map| map.name == "taskstate").unwrap();
        assert_eq!(map.kind, kind, "{kernel}");
        // A processor does not matter.
        for (cpu, task, expected) in [(0, 5, 1101), (1, 5, 1102), (0, 6, 1101), (0, 5, 1103)] {
            let environment = Environment { cpu, pid_tgid: 9 << 32 | task, task, ..Environment::default() };
            assert_eq!(machines.run(&environment, &[task])[0].1[0], expected, "{kernel}");
        }
        assert_eq!(machines.keys("taskstate"), 2);
    }
}

/// Where the kernel does not do it, a program gives up what a task has left when it is gone.
#[test]
fn what_a_task_left_goes_with_it() {
    let world = World::new();
    let head = format!("    state: {{ flag: {{ per: task }} }}\n{AT}    set: {{ flag: 1 }}\n");
    let expressions = ["state.flag".to_owned()];
    let case =
        compile(&Frame { head: head.clone() }, &expressions, &Target { kernel: OLD, ..world.target(2) })
            .unwrap();
    let [free, set] = case.program.codes.as_slice() else { panic!("{} programs", case.program.codes.len()) };
    assert_eq!(free.at.to_string(), "tracepoint:sched:sched_process_free");
    let map = usize::try_from(case.program.map_named("taskstate").unwrap()).unwrap();
    let mut vm = case.machine(Environment::default());
    for tid in [70, 71] {
        vm.env.pid_tgid = 9 << 32 | tid;
        vm.load(&set.assembled.insns);
        vm.run(&context(&[0; 12])).unwrap();
    }
    assert_eq!(vm.map(map).len(), 2);
    // The record of the event has the number; it runs in another task.
    let mut record = vec![0; 32];
    record[24..28].copy_from_slice(&70_i32.to_le_bytes());
    for _ in 0..2 {
        vm.load(&free.assembled.insns);
        vm.run(&record).unwrap();
        assert_eq!(vm.map(map).len(), 1);
    }
    // Where the kernel does it, there is no such program.
    let case = compile(&Frame { head }, &expressions, &Target { kernel: NEW, ..world.target(2) }).unwrap();
    assert_eq!(case.program.codes.len(), 1);
}

#[test]
fn keys_are_found_by_all_their_parts_and_given_up() {
    let head = format!(
        "    state: {{ of: {{ per: key, max: 3, default: -1 }} }}\n{NOTE}where: arg2 == 1, set: {{ 'of[arg0][comm]': arg1 }} }}\n{AT}    where: arg2 != 3\n    labels: {{ a: arg3 }}\n    clear: 'of[arg0][comm]'\n"
    );
    // Cleared by the event that counts, so each key is found once.
    let mut machines = Machines::new(&head, &["state.of[arg0][comm]"]);
    let minus = u64::MAX;
    assert_eq!(machines.value((0, 1), &[5, 50, 0, 0]), minus);
    assert_eq!(machines.value((0, 1), &[5, 50, 1, 0]), 50);
    assert_eq!(machines.value((1, 1), &[5, 50, 0, 0]), minus);
    let named = |machines: &mut Machines, name: &str, arguments: &[u64]| {
        let environment = Environment { comm: name.as_bytes().to_vec(), ..Environment::default() };
        machines.run(&environment, arguments).first().map(|(_, values)| values[0])
    };
    // Of another name it is another key; with 3 the event does not count, and clears nothing.
    assert_eq!(named(&mut machines, "one", &[5, 51, 3, 0]), None);
    assert_eq!(named(&mut machines, "one", &[5, 51, 1, 0]), Some(51));
    for _ in 0..10 {
        // More keys than there is room for were never there at a time.
        assert_eq!(named(&mut machines, "two", &[5, 52, 1, 0]), Some(52));
    }
    assert_eq!(machines.keys("state0"), 0);
    assert_eq!(machines.dropped(DropReason::State), 0);
}

#[test]
fn what_has_no_room_is_counted_and_the_event_too() {
    let head = format!(
        "    state: {{ of: {{ per: key, max: 2, timeout: 10s }} }}\n{AT}    set: {{ 'of[arg0]': arg1 }}\n"
    );
    let mut machines = Machines::new(&head, &["state.of[arg0]"]);
    assert_eq!(machines.value((0, 1), &[1, 10]), 0);
    assert_eq!(machines.value((0, 1), &[2, 20]), 0);
    assert_eq!(machines.value((0, 1), &[1, 11]), 10);
    let full = Environment::default();
    // The language has room for all; the programs count what they have none for.
    let before = machines.state.clone();
    machines.run(&full, &[3, 30]);
    machines.state = before;
    assert_eq!(machines.dropped(DropReason::State), 1);
    assert_eq!(machines.value((0, 1), &[1, 12]), 11);
    assert_eq!(machines.keys("state0"), 2);
    // Before the value is the time at which it was set, by which it is given up.
    let map = machines.case.program.map_named("state0").unwrap();
    let value = machines.vm.map(usize::try_from(map).unwrap()).get(&1_u64.to_le_bytes()).unwrap();
    let words: Vec<u64> =
        value.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
    assert_eq!(words, [Environment::default().ktime_ns, 12]);
}

#[test]
fn what_is_added_is_added_to_the_default() {
    for (per, target) in [("per: cpu", "n"), ("per: task", "n"), ("per: key, timeout: 1h", "n[arg0]")] {
        let head = format!(
            "    state: {{ n: {{ {per}, default: 40 }} }}\n    note:\n      - {{ at: 'rawtracepoint:test:stop', where: arg1 > 0, add: {{ '{target}': arg1 }} }}\n      - {{ at: 'rawtracepoint:test:typed', where: arg1 == 0, clear: ['{target}'] }}\n{AT}"
        );
        let mut machines = Machines::new(&head, &[&format!("state.{target}")]);
        for (argument, expected) in
            [(2, 42), (3, 45), (0, 40), (1, 41), (u64::MAX >> 1, 41 + (u64::MAX >> 1))]
        {
            assert_eq!(machines.value((1, 3), &[8, argument, 0, 0]), expected, "{per}");
        }
    }
}

/// A row for which there is no room is no reason not to leave what others ask for.
#[test]
fn what_is_left_does_not_depend_on_the_row() {
    let head = format!(
        "    max_series: 1\n    labels: {{ a: arg0 }}\n    state: {{ last: {{ per: cpu }} }}\n{AT}    set: {{ last: arg0 }}\n"
    );
    let case = compile(&Frame { head }, &["state.last".into()], &World::new().target(2)).unwrap();
    let mut vm = case.machine(Environment::default());
    for argument in [1, 2, 1] {
        case.run(&mut vm, &context(&[argument]), 0);
    }
    let rows = case.rows(&vm);
    assert_eq!(
        rows,
        [(1_u64.to_le_bytes().to_vec(), vec![2])],
        "{}",
        case.program.codes[0].assembled.listing()
    );
}

/// At an end, the change belongs to the pair: it is made where a start was found, and by the conditions on it.
#[test]
fn starts_and_ends_change_it_too() {
    let head = "    state: { running: { per: cpu }, done: { per: cpu } }
    start: { at: 'rawtracepoint:test:untyped', key: arg0, save: { n: arg1 }, set: { running: arg1 } }
    end: { at: 'rawtracepoint:test:stop', key: arg2, where: 'start.n != 9', add: { done: start.n } }
";
    let mut machines = Machines::new(head, &["state.running * 1000 + state.done"]);
    let environment = Environment::default();
    let mut run = |arguments: [u64; 3]| machines.run(&environment, &arguments).first().map(|row| row.1[0]);
    assert_eq!(run([1, 5, 1]), Some(5000));
    assert_eq!(run([1, 6, 1]), Some(6005));
    // The pair is over, and does not count.
    assert_eq!(run([1, 9, 1]), None);
    assert_eq!(run([1, 2, 1]), Some(2011));
    assert_eq!(run([1, 1, 1]), Some(1013));
}

/// What a state is set to decides what it is: also through other states, in any order.
#[test]
fn types_follow_from_what_is_set() {
    let world = World::new();
    let typed = |head: &str| {
        let yaml = Frame { head: format!("{head}{AT}") }.yaml(&["1".into()]);
        let probe = parse(&yaml).unwrap_or_else(|error| panic!("{error:?}"));
        check::check(&probe, &world.target(2)).unwrap_or_else(|error| panic!("{error:?}"))
    };
    let all = typed(
        "    let: { x: 'state.b == \"x\" && state.n && state.back && state.p.ua && state.since' }
    state: { b: { per: cpu, default: ten_letters }, a: { per: cpu }, n: { per: task }, back: { per: cpu }, p: { per: cpu }, since: { per: cpu } }
    where: x
    note:
      - at: 'rawtracepoint:test:stop'
        set: { b: state.a, a: 'str(comm, 5)', n: state.n + 1, back: '(s8)arg0', p: '(struct node *)arg5', since: nsecs }
"
        .replace("ten_letters", "'\"ten letters\"'")
        .as_str(),
    );
    let of = |name: &str| all.states.iter().find(|state| state.name == name).unwrap();
    assert_eq!(format!("{:?}", of("b").ty), "Text { capacity: 16 }");
    assert_eq!(of("b").default, [u64::from_le_bytes(*b"ten lett"), u64::from_le_bytes(*b"ers\0\0\0\0\0")]);
    assert_eq!(format!("{:?}", of("a").ty), "Text { capacity: 8 }");
    assert_eq!(format!("{:?}", of("n").ty), "Int { bits: 64, signed: false }");
    assert_eq!(format!("{:?}", of("back").ty), "Int { bits: 8, signed: true }");
    assert!(format!("{:?}", of("p").ty).starts_with("Pointer"));
}

/// A read is a look-up and a load, and a change of the same is two instructions more.
#[test]
fn a_processor_s_state_costs_one_lookup() {
    let head = format!("    state: {{ last: {{ per: cpu }} }}\n{NOTE}set: {{ last: arg0 }} }}\n{AT}");
    let case = compile(&Frame { head }, &["state.last".into()], &World::new().target(2)).unwrap();
    let calls = |index: usize| {
        let insns = &case.program.codes[index].assembled.insns;
        insns.iter().filter(|insn| matches!(insn, Insn::Call(_))).collect::<Vec<_>>()
    };
    assert_eq!(calls(0), [&Insn::Call(Helper::MapLookup)], "{}", case.program.codes[0].assembled.listing());
    assert!(
        case.program.codes[0].assembled.insns.len() <= 16,
        "{}",
        case.program.codes[0].assembled.listing()
    );
}

#[test]
fn events_that_meet_need_an_order() {
    let world = World::new();
    let wrong = |head: &str| {
        let yaml = Frame { head: head.into() }.yaml(&["state.n".into()]);
        let found = parse(&yaml).and_then(|probe| check::check(&probe, &world.target(2)));
        found.err().map(|diagnostics| diagnostics.iter().map(ToString::to_string).collect::<String>())
    };
    let state = "    state: { n: { per: cpu } }\n";
    let note = "    note: { at: 'rawtracepoint:test:untyped', where: arg0 == 1, set: { n: 1 } }\n";
    let met = wrong(&format!("{state}{note}{AT}")).unwrap();
    assert!(met.contains("meets another event that uses `n`: which comes first is open"), "{met}");
    assert_eq!(wrong(&format!("{state}{note}{AT}    where: arg0 == 2\n")), None);
    assert_eq!(wrong(&format!("{state}{}{AT}", note.replace("untyped", "stop"))), None);
}

/// A machine with memory in both halves of the address space, and arguments that point into it.
fn machine(random: &mut Random) -> (Environment, Vec<u64>) {
    const KERNEL: u64 = 0xffff_8880_0010_0000;
    let (bytes, places) = memory(random, KERNEL, 0x18);
    let mut environment = Environment {
        pid_tgid: (0x3e8 << 32) | (random.word() % 2),
        comm: random.pick(&["test", "", "abcdefgh", "fifteen letters"]).as_bytes().to_vec(),
        cpu: u32::try_from(random.below(2)).unwrap(),
        ..Environment::default()
    };
    environment.task = environment.pid_tgid;
    environment.kernel.insert(KERNEL, bytes);
    let mut arguments: Vec<u64> = (0..12).map(|_| random.value()).collect();
    arguments[5] = places.nodes[random.below(3)];
    arguments[6] = if random.one_in(3) { 0 } else { places.nodes[random.below(3)] };
    arguments[7] = places.inners[random.below(2)];
    arguments[8] = places.texts[random.below(4)];
    arguments[9] = 0;
    arguments[11] = random.word() % 3;
    (environment, arguments)
}

/// Expressions that the checker takes, over the arguments and the state.
struct Choice<'w> {
    grammar: Grammar,
    world: &'w World,
}

impl Choice<'_> {
    /// An expression that `make` makes; of those that have always the same result none.
    fn taken(&mut self, make: impl Fn(&mut Grammar) -> String) -> String {
        const STATE: &str = "    state: { c: { per: cpu }, s: { per: cpu }, t: { per: task }, ts: { per: task }, k: { per: key, timeout: 1h }, kt: { per: key, timeout: 1h } }
    let: { all: 'state.c + state.t + state.k[1] + (state.s == comm) + (state.ts == comm) + (state.kt[1][comm] == comm)' }
    where: all || true
    note: { at: 'rawtracepoint:test:stop', set: { c: arg0, s: comm, t: arg0, ts: comm, 'k[arg0]': arg0, 'kt[arg0][comm]': comm } }
";
        for _ in 0..100 {
            let text = make(&mut self.grammar);
            let frame = Frame { head: format!("{STATE}{AT}") };
            if compile(&frame, std::slice::from_ref(&text), &self.world.target(2)).is_ok() {
                return text;
            }
        }
        "arg0".into()
    }

    fn number(&mut self) -> String {
        self.taken(|grammar| grammar.number(1))
    }

    /// A text of up to eleven bytes.
    fn text(&mut self) -> String {
        let text = self.taken(|grammar| format!("str({}, 12) == comm", grammar.text(1)));
        text.strip_suffix(" == comm").unwrap_or("comm").to_owned()
    }

    /// A part of a key, of which there are few.
    fn part(&mut self) -> String {
        format!("({}) & 3", self.number())
    }

    fn changes(&mut self, indent: &str) -> String {
        let mut text = format!("{indent}set:\n");
        text += &format!("{indent}  c: '{}'\n{indent}  s: '{}'\n", self.number(), self.text());
        text += &format!(
            "{indent}  ts: '{}'\n{indent}  'kt[{}][comm]': '{}'\n",
            self.text(),
            self.part(),
            self.text()
        );
        if self.grammar.random.one_in(2) {
            text += &format!("{indent}  t: '{}'\n", self.number());
        }
        text += &format!("{indent}add:\n{indent}  'k[{}]': '{}'\n", self.part(), self.number());
        if self.grammar.random.one_in(2) {
            text += &format!("{indent}  t: '{}'\n", self.number());
        }
        let clear = self.grammar.random.pick(&["c", "s", "ts", "t"]).to_owned();
        text + &format!("{indent}clear: ['{clear}', 'kt[{}][comm]']\n", self.part())
    }

    fn filter(&mut self, indent: &str) -> String {
        format!("{indent}where: '({}) || arg11 == 1'\n", self.number())
    }

    /// Random states of every kind, and what events of every role do to them.
    fn head(&mut self) -> String {
        let (part, other) = (self.part(), self.part());
        self.grammar.numbers.extend(["state.c".into(), "state.t".into(), format!("state.k[{part}]")]);
        self.grammar.texts.extend(["state.s".into(), "state.ts".into(), format!("state.kt[{other}][comm]")]);
        let (default, other) = (self.grammar.constant(), self.grammar.constant());
        let mut head = format!(
            "    state:\n      c: {{ per: cpu, default: '{default}' }}\n      s: {{ per: cpu, default: '\"abc\"' }}\n      t: {{ per: task, default: 5 }}\n      ts: {{ per: task }}\n      k: {{ per: key, timeout: 1h, default: '{other}' }}\n      kt: {{ per: key }}\n"
        );
        head += "    note:\n      - at: 'rawtracepoint:test:stop'\n";
        head += &(self.filter("        ") + &self.changes("        "));
        if self.grammar.random.one_in(3) {
            head += "    start:\n      at: 'rawtracepoint:test:more'\n      key: 7\n";
            head += &self.changes("      ");
            head += "    end:\n      at: 'rawtracepoint:test:untyped'\n      key: 7\n";
            head += &self.changes("      ");
        } else {
            head += AT;
            head += &(self.filter("    ") + &self.changes("    "));
            if self.grammar.random.one_in(2) {
                head += "    labels: { a: state.c, s: state.s }\n";
            }
        }
        head
    }
}

#[test]
fn random_state_in_both_machines() {
    let world = World::new();
    let (mut taken, mut compared, mut left, mut refused) = (0, 0, 0, Vec::new());
    for seed in 0..200 {
        let mut choice = Choice { grammar: Grammar::untyped(Random(80_000 + seed)), world: &world };
        let head = choice.head();
        // Each is read, which else would be a mistake.
        let all = [
            "state.s == comm",
            "state.ts == comm",
            "state.kt[1][comm] == comm",
            "state.c + state.t + state.k[1]",
        ];
        let random = (0..8).map(|_| choice.taken(|grammar| grammar.number(2)));
        let texts: Vec<String> = random.chain(all.map(str::to_owned)).collect();
        let grammar = &mut choice.grammar;
        let kernels = [KernelVersion(5, 10, 0), OLD, NEW];
        let kernel = kernels[grammar.random.below(3)];
        let target = Target { kernel, ..world.target(2) };
        let case = match compile(&Frame { head }, &texts, &target) {
            Ok(case) => case,
            Err(error) => {
                refused.push(error);
                continue;
            }
        };
        taken += 1;
        let mut machines = Machines::of(case);
        for _ in 0..8 {
            let (environment, arguments) = machine(&mut grammar.random);
            compared += machines.run(&environment, &arguments).len() * texts.len();
        }
        left += (0..6).map(|state| machines.state.len(state)).sum::<usize>();
    }
    assert!(
        taken > 100 && left > taken,
        "{taken} of 200 probes are accepted, {left} values are left\n{}",
        refused.join("\n")
    );
    println!("{taken} probes, {compared} values compared, {left} values left");
}
