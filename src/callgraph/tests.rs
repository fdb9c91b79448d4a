//! Calls from artificial records, and how they are printed.

use super::{
    pairing::{CallStep, Graph, GraphLine},
    plan::FollowedFunction,
    print::{Output, Printer},
    summary::{Summary, Sums, Unreturned},
};
use crate::elf::Exits;
use tapster_ebpf::callgraph::{CallEvent, Record, Stacks, Task};

const MAIN: u32 = 0;
const READ: u32 = 1;
const HASH: u32 = 2;
/// Jumps to `HASH` instead of calling it.
const JUMP: u32 = 3;
/// Its returns are not probed.
const OPAQUE: u32 = 4;
/// It contains nothing but a return.
const EMPTY: u32 = 5;

const A: Task = Task { pid: 100, tid: 100 };
const B: Task = Task { pid: 100, tid: 101 };
const CHILD: Task = Task { pid: 200, tid: 200 };

fn functions() -> Vec<FollowedFunction> {
    let names = ["main", "read", "hash", "jump", "opaque", "empty"];
    (0_u64..)
        .zip(names)
        .map(|(index, name)| FollowedFunction {
            name: name.into(),
            address: 0x1000 * (index + 1),
            exits: (name != "opaque").then(|| Exits {
                returns: vec![0x1010 * (index + 1)],
                jumps: if name == "jump" { vec![(0, 0x3000)] } else { Vec::new() },
                ..Exits::default()
            }),
            at_once: name == "empty",
            is_trigger: name == "read",
        })
        .collect()
}

/// Records at times that advance by a microsecond.
#[derive(Default)]
struct Script {
    records: Vec<Record>,
    time_ns: u64,
}

impl Script {
    fn add(&mut self, task: Task, event: CallEvent) -> &mut Self {
        self.time_ns += 1000;
        self.records.push(Record { time_ns: 1_000_000 + self.time_ns, task, event });
        self
    }

    fn wait(&mut self, time_ns: u64) -> &mut Self {
        self.time_ns += time_ns;
        self
    }

    /// The caller is derived from the stack pointer, as if each value belonged to one call instruction.
    fn enter(&mut self, task: Task, function: u32, stack: u64) -> &mut Self {
        self.enter_from(task, function, stack, stack + 1)
    }

    fn enter_from(&mut self, task: Task, function: u32, stack: u64, caller: u64) -> &mut Self {
        let mut comm = [0; 16];
        comm[..6].copy_from_slice(b"hasher");
        let arguments = [u64::from(function), 0xffff, 0, 0];
        self.add(task, CallEvent::Entry { function, stack, caller, arguments, comm, goroutine: 0 })
    }

    fn leave(&mut self, task: Task, function: u32, stack: u64) -> &mut Self {
        self.add(task, CallEvent::Return { function, stack, value: u64::from(function) + 0x10, goroutine: 0 })
    }

    /// Calls that made lines, as text: the thread's last digit, depth, direction, name.
    fn run_as(&self, triggered: bool) -> (Vec<String>, Summary) {
        let functions = functions();
        let mut graph = Graph::new(&functions, triggered, Some(Stacks::Thread));
        let mut lines = Vec::new();
        for record in &self.records {
            graph.record(record, &mut |line: &GraphLine<'_>| {
                let arrow = match line.step {
                    CallStep::Enter(_) => "->",
                    CallStep::Return { .. } => "<-",
                };
                let name = &functions[line.function].name;
                lines.push(format!("{}{}{arrow}{name}", line.task.tid, " ".repeat(line.depth + 1)));
            });
        }
        (lines, graph.finish())
    }

    fn run(&self) -> (Vec<String>, Summary) {
        self.run_as(false)
    }
}

fn sums(summary: &Summary, function: u32) -> Sums {
    summary.functions[usize::try_from(function).unwrap()].clone()
}

#[test]
fn recursion_pairs_by_the_stack() {
    let mut script = Script::default();
    for depth in 0..50 {
        script.enter(A, HASH, 0x8000 - depth * 32);
    }
    for depth in (0..50).rev() {
        script.leave(A, HASH, 0x8000 - depth * 32);
    }
    let (lines, summary) = script.run();
    assert_eq!(lines.len(), 100);
    assert_eq!(lines[49], format!("100{}->hash", " ".repeat(50)));
    assert_eq!(lines[50], format!("100{}<-hash", " ".repeat(50)));
    let sums = sums(&summary, HASH);
    // From the first entry to the last return: the innermost took 1 µs, the outermost 99.
    assert_eq!((sums.calls, sums.timed, sums.total_ns, sums.max_ns), (50, 50, 99_000, 99_000));
    assert_eq!((sums.sum_ns, sums.self_ns), (2_500_000, 99_000));
    assert_eq!(summary.unreturned, Unreturned::default());
}

#[test]
fn threads_do_not_mix() {
    let mut script = Script::default();
    // Both at equal stack pointers.
    script.enter(A, MAIN, 0x8000).enter(B, READ, 0x8000).enter(A, HASH, 0x7000).enter(B, HASH, 0x7000);
    script.leave(A, HASH, 0x7000).leave(A, MAIN, 0x8000).leave(B, HASH, 0x7000).leave(B, READ, 0x8000);
    let (lines, summary) = script.run();
    let of =
        |thread: &str| -> Vec<&str> { lines.iter().filter_map(|line| line.strip_prefix(thread)).collect() };
    assert_eq!(of("100"), [" ->main", "  ->hash", "  <-hash", " <-main"]);
    assert_eq!(of("101"), [" ->read", "  ->hash", "  <-hash", " <-read"]);
    assert_eq!(summary.without_entry, 0);
}

#[test]
fn what_longjmp_leaves_is_taken_away() {
    let mut script = Script::default();
    script.enter(A, MAIN, 0x8000);
    // Three deep, then back in `main`, which calls again from the same instruction and from another.
    script.enter(A, READ, 0x7000).enter(A, HASH, 0x6000).enter(A, HASH, 0x5000).wait(50_000);
    script.enter(A, READ, 0x7000).enter(A, HASH, 0x6000).wait(50_000);
    script.enter_from(A, HASH, 0x7000, 77).leave(A, HASH, 0x7000);
    // Once more, noticed by the return of `main`.
    script.enter(A, READ, 0x7000).leave(A, MAIN, 0x8000);
    let (lines, summary) = script.run();
    assert_eq!(
        lines,
        [
            "100 ->main",
            "100  ->read",
            "100   ->hash",
            "100    ->hash",
            "100  ->read",
            "100   ->hash",
            "100  ->hash",
            "100  <-hash",
            "100  ->read",
            "100 <-main"
        ]
    );
    assert_eq!(summary.unreturned, Unreturned { unwound: 6, ..Unreturned::default() });
    assert_eq!((sums(&summary, READ).calls, sums(&summary, READ).timed), (3, 0));
    // A call that was left counts up to its last event. So `main` has the waiting time.
    assert!(sums(&summary, MAIN).self_ns >= 100_000, "{summary:?}");
}

#[test]
fn a_jump_to_another_function_returns_for_both() {
    let mut script = Script::default();
    script.enter(A, MAIN, 0x8000).enter(A, JUMP, 0x7000).enter(A, HASH, 0x7000).leave(A, HASH, 0x7000);
    script.enter(A, JUMP, 0x7000).add(A, CallEvent::Leave { function: JUMP, stack: 0x7000, goroutine: 0 });
    script.enter(A, EMPTY, 0x7000).leave(A, MAIN, 0x8000);
    let (lines, summary) = script.run();
    assert_eq!(
        lines,
        [
            "100 ->main",
            "100  ->jump",
            "100   ->hash",
            "100   <-hash",
            "100  <-jump",
            "100  ->jump",
            "100  <-jump",
            "100  ->empty",
            "100  <-empty",
            "100 <-main"
        ]
    );
    assert_eq!((summary.unreturned, summary.without_entry), (Unreturned::default(), 0));
    // `read` never jumps: its caller calls the function that begins at the same place.
    let mut script = Script::default();
    script.enter(A, READ, 0x7000).enter(A, HASH, 0x7000).leave(A, HASH, 0x7000);
    assert_eq!(script.run().0, ["100 ->read", "100 ->hash", "100 <-hash"]);
}

#[test]
fn lost_records_do_not_shift_what_follows() {
    let mut script = Script::default();
    // The return of `hash` is lost, then the entry of another.
    script.enter(A, MAIN, 0x8000).enter(A, READ, 0x7000).enter(A, HASH, 0x6000).leave(A, READ, 0x7000);
    script.leave(A, HASH, 0x7000).enter(A, READ, 0x7000).leave(A, READ, 0x7000).leave(A, MAIN, 0x8000);
    script.leave(B, READ, 0x8000);
    let (lines, summary) = script.run();
    assert_eq!(
        lines,
        [
            "100 ->main",
            "100  ->read",
            "100   ->hash",
            "100  <-read",
            "100  ->read",
            "100  <-read",
            "100 <-main"
        ]
    );
    assert_eq!((summary.unreturned.unwound, summary.without_entry), (1, 2));
    // A function that does not exist.
    let mut script = Script::default();
    script.enter(A, 99, 0x8000);
    assert!(script.run().0.is_empty());
}

#[test]
fn a_trigger_shows_what_is_beneath_it() {
    let mut script = Script::default();
    script.enter(A, MAIN, 0x8000).enter(A, HASH, 0x7000).leave(A, HASH, 0x7000);
    script.enter(A, READ, 0x7000).enter(A, HASH, 0x6000).leave(A, HASH, 0x6000).leave(A, READ, 0x7000);
    script.enter(A, HASH, 0x7000).leave(A, HASH, 0x7000).leave(A, MAIN, 0x8000).leave(B, HASH, 0x1000);
    let (lines, summary) = script.run_as(true);
    assert_eq!(lines, ["100 ->read", "100  ->hash", "100  <-hash", "100 <-read"]);
    assert_eq!((sums(&summary, HASH).calls, sums(&summary, MAIN).calls), (1, 0));
}

#[test]
fn a_copied_process_returns_from_calls_of_the_first() {
    let mut script = Script::default();
    script.enter(A, MAIN, 0x8000).enter(A, READ, 0x7000).add(A, CallEvent::Fork { child: CHILD });
    script.leave(CHILD, READ, 0x7000).enter(CHILD, HASH, 0x7000).leave(CHILD, HASH, 0x7000);
    script
        .leave(A, READ, 0x7000)
        .add(CHILD, CallEvent::Exec)
        .enter(CHILD, MAIN, 0x9000)
        .add(CHILD, CallEvent::End);
    script.leave(A, MAIN, 0x8000);
    let (lines, summary) = script.run();
    assert_eq!(
        lines,
        [
            "100 ->main",
            "100  ->read",
            "200  <-read",
            "200  ->hash",
            "200  <-hash",
            "100  <-read",
            "200 ->main",
            "100 <-main"
        ]
    );
    // Each call counts in the process that made it.
    assert_eq!((sums(&summary, READ).calls, sums(&summary, READ).timed), (1, 1));
    assert_eq!((sums(&summary, MAIN).calls, sums(&summary, MAIN).timed), (2, 2));
    assert_eq!(summary.unreturned, Unreturned { ended: 1, ..Unreturned::default() });
}

#[test]
fn without_returns_nothing_is_beneath() {
    let mut script = Script::default();
    script.enter(A, MAIN, 0x8000).enter(A, OPAQUE, 0x7000).enter(A, HASH, 0x6000).leave(A, HASH, 0x6000);
    let (lines, summary) = script.run();
    assert_eq!(lines, ["100 ->main", "100  ->opaque", "100  ->hash", "100  <-hash"]);
    assert_eq!(summary.unreturned, Unreturned { not_taken: 1, running: 1, ..Unreturned::default() });
}

#[test]
fn goroutines_keep_their_calls_on_other_threads() {
    let functions = functions();
    let mut graph = Graph::new(&functions, false, Some(Stacks::Goroutine));
    let stack = 0_u64.wrapping_sub(0x100);
    let entry = |function, stack, goroutine| CallEvent::Entry {
        function,
        stack,
        caller: stack,
        arguments: [0; 4],
        comm: [0; 16],
        goroutine,
    };
    let events = [
        (A, entry(READ, stack, 1)),
        (A, entry(READ, stack, 2)),
        (B, entry(HASH, stack - 64, 1)),
        // A thread ends; its goroutine goes on elsewhere.
        (B, CallEvent::End),
        (A, CallEvent::Return { function: HASH, stack: stack - 64, value: 1, goroutine: 1 }),
        (A, CallEvent::Return { function: READ, stack, value: 2, goroutine: 1 }),
        (A, CallEvent::End),
    ];
    let mut lines = Vec::new();
    for (task, event) in events {
        let record = Record { time_ns: 1, task, event };
        graph.record(&record, &mut |line| lines.push((line.task.tid, line.depth, line.function)));
    }
    let (read, hash) = (1, 2);
    assert_eq!(lines, [(100, 0, read), (100, 0, read), (101, 1, hash), (100, 1, hash), (100, 0, read)]);
    let summary = graph.finish();
    assert_eq!(
        (summary.without_entry, summary.unreturned),
        (0, Unreturned { ended: 1, ..Unreturned::default() })
    );
}

fn printed(script: &Script, output: Output) -> String {
    let functions = functions();
    let mut graph = Graph::new(&functions, false, Some(Stacks::Thread));
    let mut out = Vec::new();
    let mut printer = Printer::new(&mut out, &functions, output, 1);
    for record in &script.records {
        graph.record(record, &mut |line| printer.line(line));
    }
    printer.summary(&graph.finish(), &["1 note".into()]);
    assert!(printer.failure().is_none());
    String::from_utf8(out).unwrap()
}

fn story() -> Script {
    let mut script = Script::default();
    script
        .enter(A, MAIN, 0x8000)
        .wait(30_000)
        .enter(A, READ, 0x7000)
        .enter(B, HASH, 0x8000)
        .wait(407_358_500);
    script.leave(A, READ, 0x7000).leave(B, HASH, 0x8000).enter(A, HASH, 0x7000);
    script
}

#[test]
fn text_is_as_the_story_shows_it() {
    assert_eq!(
        printed(&story(), Output::Text),
        "     0 hasher(100):->main arg0=0x0
    31 hasher(100): ->read arg0=0x1
     0 hasher(101):->hash arg0=0x2
407391 hasher(100): <-read return=0x11
407360 hasher(101):<-hash return=0x12
407393 hasher(100): ->hash arg0=0x2

calls  total µs   self µs  average µs  maximum µs  function
    2  407360.5  407360.5    407360.5    407360.5  hash
    1  407360.5  407360.5    407360.5    407360.5  read
    1         -         -           -           -  main
"
    );
}

#[test]
fn folded_chains_have_the_time_of_their_last() {
    assert_eq!(printed(&story(), Output::Folded), "main 33000\nmain;read 407360500\nhash 407360500\n");
}

#[test]
fn json_is_an_object_on_each_line() {
    let text = printed(&story(), Output::Json);
    let values: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(values.len(), 7);
    assert_eq!(
        values[1],
        serde_json::json!({
            "event": "entry", "time_ns": 1_032_000, "since_ns": 31_000, "pid": 100, "tid": 100, "comm": "hasher",
            "depth": 1, "function": "read", "args": ["0x1"],
        })
    );
    assert_eq!(values[3]["value"], "0x11");
    assert_eq!(values[3]["duration_ns"], 407_360_500);
    assert_eq!(values[6]["notes"][0], "1 note");
    assert_eq!(values[6]["functions"][0]["function"], "hash");
}
