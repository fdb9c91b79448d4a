//! What a switch between tasks costs with the scheduler's probes: the library's `sched_off_cpu` beside programs that do
//! nothing at the same events, beside programs that only ask for the time there, beside its twin whose starts are all in a
//! hash map, and beside bpftrace's equal script; then the whole library.
//!
//! Needs root, `perf`, `bpftrace` and `bpftool`; where one is missing it says so and ends. The load is `perf bench sched
//! pipe`, two processes that wake each other: on one CPU, where a switch is all that happens, and where the scheduler
//! puts them. Each is attached alone, between two runs without any probe, and the rounds change the order. Shown is what
//! a switch takes longer than without probes by the CPU time of both processes and by the clock on the wall, in percent with
//! the standard error of the mean over the rounds, and then, in a run of its own because the counting costs something itself,
//! the run of the programs by the kernel's count.
//!
//! `TAPSTER_BENCH_LOOPS` and `TAPSTER_BENCH_ROUNDS` say how much. `TAPSTER_BENCH_ONLY` names some of them, separated by `;`,
//! that alone are measured, and `TAPSTER_BENCH_PLACE`, `one` or `any`, where.
#![expect(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a benchmark stops where something is wrong"
)]

mod support;

use std::{process::Command, time::Instant};
use support::{Bpftrace, output};
use tapster::{
    host::Host,
    kernel::Kernel,
    load::{self, Attached},
    sys,
};
use tapster_ebpf::{
    declaration,
    diagnostic::SourceFile,
    insn::{Alu, Helper, Insn, R0},
    probe::{KernelVersion, Probe},
};

/// The shipped probes.
const LIBRARY: &str = include_str!("../config/probes/sched.yaml");

/// `sched_off_cpu` in bpftrace: sleeps by state, histogram and sum. Its histogram has one bucket for each power of two where
/// ours has two; it walks no stack.
const SCRIPT: &str = "
tracepoint:sched:sched_switch /args->prev_pid && args->prev_state && !(args->prev_state & 0x80)/ {
  @start[args->prev_pid] = nsecs;
  @state[args->prev_pid] = args->prev_state;
}
tracepoint:sched:sched_wakeup /@start[args->pid]/ {
  $d = nsecs - @start[args->pid];
  $s = @state[args->pid];
  @hist[$s] = hist($d);
  @sum[$s] = sum($d);
  delete(@start[args->pid]);
  delete(@state[args->pid]);
}";

/// What is attached.
#[derive(Clone, Copy)]
enum Who {
    /// Programs at the same events that return at once.
    Empty,
    /// Programs at the same events that ask for the time: the least that a measure of durations does.
    Clock,
    OffCpu,
    /// The same as before there was a table of starts.
    Hash,
    Bpftrace,
    Library,
}

/// Where the two processes run.
#[derive(Clone, Copy)]
enum Place {
    OneCpu,
    Anywhere,
}

/// Attached programs.
enum Held {
    Ours(Vec<Attached>),
    Theirs(Bpftrace),
}

impl Held {
    /// Runs and nanoseconds of each program so far.
    fn programs(&self) -> Vec<(u64, u64)> {
        match self {
            Self::Ours(probes) => probes
                .iter()
                .flat_map(Attached::programs)
                .map(|program| (program.runs, program.run_ns))
                .collect(),
            Self::Theirs(script) => {
                let mut programs = script.programs();
                programs.sort_by_key(|program| program.id);
                programs.iter().map(|program| (program.runs, program.run_ns)).collect()
            }
        }
    }
}

fn library(names: &[&str]) -> Vec<Probe> {
    let (file, diagnostics) = declaration::parse(&SourceFile::new("sched.yaml", LIBRARY));
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    file.probes
        .into_iter()
        .filter(|probe| names.is_empty() || names.contains(&probe.name.value.as_str()))
        .collect()
}

fn attach(who: Who, kernel: &Kernel) -> Held {
    if matches!(who, Who::Bpftrace) {
        let is_its = |program: &support::Loaded| ["sched_switch", "sched_wakeup"].contains(&&*program.name);
        return Held::Theirs(Bpftrace::start(SCRIPT, 2, is_its));
    }
    let mut target = kernel.target();
    if matches!(who, Who::Hash) {
        // Before 5.12 programs could not compare and exchange, so there is no table.
        target.kernel = KernelVersion(5, 11, 0);
    }
    let probes = library(if matches!(who, Who::Library) { &[] } else { &["sched_off_cpu"] });
    let load = |probe: &Probe| {
        let mut program = tapster_ebpf::compile(probe, &target).unwrap();
        let end = [Insn::Alu64(Alu::Mov, R0, 0.into()), Insn::Exit];
        for code in &mut program.codes {
            match who {
                Who::Empty => code.assembled.insns = end.to_vec(),
                Who::Clock => code.assembled.insns = [&[Insn::Call(Helper::KtimeNs)], &end[..]].concat(),
                _ => {}
            }
        }
        let mut attached = load::load(program, kernel.btf.as_ref().ok()).unwrap();
        attached.attach(kernel).unwrap();
        attached
    };
    Held::Ours(probes.iter().map(load).collect())
}

/// CPU time of all processes that were waited for.
fn children_ns() -> i64 {
    // SAFETY: all of its members are numbers, of which zero is one.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one `rusage` there.
    assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) }, 0);
    let ns = |time: libc::timeval| time.tv_sec * 1_000_000_000 + time.tv_usec * 1000;
    ns(usage.ru_utime) + ns(usage.ru_stime)
}

/// Nanoseconds of a switch by the clock on the wall and by CPU time: each loop is a way there and one back.
#[derive(Clone, Copy, Default)]
struct Switch {
    wall: f64,
    cpu: f64,
}

fn ping_pong(place: Place, loops: u64) -> Switch {
    let mut command = match place {
        Place::Anywhere => Command::new("perf"),
        Place::OneCpu => {
            let mut pinned = Command::new("taskset");
            pinned.args(["-c", "1", "perf"]);
            pinned
        }
    };
    command.args(["bench", "sched", "pipe", "-l"]).arg(loops.to_string());
    let (begun, cpu) = (Instant::now(), children_ns());
    let said = output(&mut command);
    assert!(said.contains("usecs/op"), "perf said: {said}");
    let each = 1.0 / (2 * loops) as f64;
    Switch { wall: begun.elapsed().as_nanos() as f64 * each, cpu: (children_ns() - cpu) as f64 * each }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The rounds of one that is attached.
#[derive(Default)]
struct Rounds {
    bare: Vec<Switch>,
    with: Vec<Switch>,
    run: Vec<f64>,
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

impl Rounds {
    /// Nanoseconds without and more with, and how many percent that is, with its standard error.
    fn more(&self, of: impl Fn(&Switch) -> f64) -> (f64, f64, String) {
        let [bare, with] =
            [&self.bare, &self.with].map(|rounds| rounds.iter().map(&of).collect::<Vec<f64>>());
        let more: Vec<f64> = with.iter().zip(&bare).map(|(with, bare)| 100.0 * (with / bare - 1.0)).collect();
        let (middle, count) = (mean(&more), more.len() as f64);
        let squares: f64 = more.iter().map(|more| (more - middle).powi(2)).sum();
        let error = (squares / (count - 1.0) / count).sqrt();
        (mean(&bare), mean(&with) - mean(&bare), format!("{middle:5.1} ± {error:3.1} %"))
    }
}

fn measure(place: Place, loops: u64, rounds: u64, kernel: &Kernel) {
    const ALL: [(Who, &str); 6] = [
        (Who::Empty, "programs that do nothing"),
        (Who::Clock, "programs that ask for the time"),
        (Who::OffCpu, "sched_off_cpu"),
        (Who::Hash, "sched_off_cpu, starts in a hash map"),
        (Who::Bpftrace, "bpftrace"),
        (Who::Library, "all of sched"),
    ];
    let only = std::env::var("TAPSTER_BENCH_ONLY").ok();
    let chosen =
        |index: &usize| only.as_ref().is_none_or(|only| only.split(';').any(|name| name == ALL[*index].1));
    let mut all: [Rounds; ALL.len()] = Default::default();
    for round in 0..rounds {
        let mut order: Vec<usize> = (0..ALL.len()).filter(chosen).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let before = ping_pong(place, loops);
            let held = attach(ALL[index].0, kernel);
            let with = ping_pong(place, loops);
            let counting = sys::enable_run_stats().unwrap();
            let first = held.programs();
            ping_pong(place, loops / 4);
            let last = held.programs();
            drop((counting, held));
            let after = ping_pong(place, loops);
            let middle = |of: fn(&Switch) -> f64| f64::midpoint(of(&before), of(&after));
            let bare = Switch { wall: middle(|switch| switch.wall), cpu: middle(|switch| switch.cpu) };
            let ran: u64 = first.iter().zip(&last).map(|(first, last)| last.1 - first.1).sum();
            all[index].bare.push(bare);
            all[index].with.push(with);
            all[index].run.push(ran as f64 / (loops / 2) as f64);
        }
    }
    let hash = &all[3];
    let hash = (!hash.run.is_empty()).then(|| (hash.more(|switch| switch.cpu).1, mean(&hash.run)));
    for (rounds, (_, name)) in all.iter().zip(ALL).filter(|(rounds, _)| !rounds.run.is_empty()) {
        let (bare_cpu, cpu, percent_cpu) = rounds.more(|switch| switch.cpu);
        let (bare_wall, wall, percent_wall) = rounds.more(|switch| switch.wall);
        let run = mean(&rounds.run);
        let ratios = hash.map(|(of_cpu, of_run)| format!("{:4.2} {:4.2}", cpu / of_cpu, run / of_run));
        println!(
            "{name:36} {bare_cpu:6.0} {cpu:6.0} {percent_cpu}   {bare_wall:6.0} {wall:6.0} {percent_wall}   {run:6.0}   {}",
            ratios.unwrap_or_default(),
        );
    }
}

fn main() {
    // `cargo test --benches` asks for a list of tests.
    if std::env::args().any(|argument| argument == "--list" || argument == "--test") {
        return;
    }
    for tool in ["perf", "bpftrace", "bpftool"] {
        if Command::new(tool).arg("--version").output().is_err() {
            println!("skipped: `{tool}` is not installed");
            return;
        }
    }
    let kernel = Kernel::detect(&Host::default());
    if kernel.requirements().is_err() {
        println!("skipped: needs the capabilities to load programs");
        return;
    }
    let (loops, rounds) = (number("TAPSTER_BENCH_LOOPS", 300_000), number("TAPSTER_BENCH_ROUNDS", 6));
    let wanted = std::env::var("TAPSTER_BENCH_PLACE").ok();
    for (place, word, name, loops) in [
        (Place::OneCpu, "one", "on one CPU", loops),
        (Place::Anywhere, "any", "wherever the scheduler puts them", loops / 10),
    ] {
        if wanted.as_ref().is_some_and(|wanted| wanted != word) {
            continue;
        }
        println!(
            "Linux {}, {rounds} rounds, `perf bench sched pipe -l {loops}` {name}; ns for one switch",
            kernel.release
        );
        println!(
            "                                     CPU time                       wall clock                     run      of the hash's"
        );
        println!(
            "                                     without  more                  without  more                  programs CPU  run"
        );
        measure(place, loops, rounds, &kernel);
        println!();
    }
}
