//! What an event costs whoever causes it: the entry of a function, its return, both as a pair, and a probe whose
//! condition no event meets; ours beside bpftrace's equal probe, of a program's function and of the kernel.
//!
//! Needs root, `bpftrace` and `bpftool`; where one is missing it says so and ends. Each is attached alone, to a program
//! that only this benchmark runs: this one, called with other arguments, which makes a number of calls and says how long
//! they took. So its clocks have all that a call costs, the way into the kernel included; it is measured without probes
//! before and after, and that is taken off. The time on a CPU is the steadier one where others work too. Then the kernel counts the same again (`bpf_stats`): the run of the
//! programs alone. Rounds change who comes first, and the ratio is that of the sums over all rounds.
//!
//! `TAPSTER_BENCH_CALLS` and `TAPSTER_BENCH_ROUNDS` say how much.
#![expect(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a benchmark stops where something is wrong"
)]

mod support;

use std::{fmt::Write, fs, path::Path, process::Command};
use support::{Bpftrace, Loaded, output};
use tapster::{
    exporter::{Exporter, StartOptions},
    host::Host,
    kernel::Kernel,
    source::Source,
    sys,
};
use tapster_ebpf::{declaration, diagnostic::SourceFile};

/// The function of a program that is called.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tapster_bench_target(number: u64) -> u64 {
    std::hint::black_box(number) + 1
}

/// Functions that begin as those of distributions do, and places that pass a probe: with the `nop` of one byte alone, and with one
/// of five behind it. Each returns at once.
#[cfg(target_arch = "x86_64")]
mod written {
    std::arch::global_asm!(
        ".macro tapster_bench_function name, mark",
        ".globl \\name",
        ".type \\name, @function",
        "\\name:",
        ".if \\mark",
        ".byte 0xf3, 0x0f, 0x1e, 0xfa",
        ".endif",
        "push rbp",
        "mov rbp, rsp",
        "lea rax, [rdi + 1]",
        "pop rbp",
        "ret",
        ".size \\name, . - \\name",
        ".endm",
        ".macro tapster_bench_place name, probe, long",
        ".globl \\name",
        ".type \\name, @function",
        "\\name:",
        "990: nop",
        ".if \\long",
        ".byte 0x0f, 0x1f, 0x44, 0x00, 0x00",
        ".endif",
        "lea rax, [rdi + 1]",
        "ret",
        ".size \\name, . - \\name",
        ".pushsection .note.stapsdt, \"\", \"note\"",
        ".balign 4",
        ".4byte 992f - 991f, 994f - 993f, 3",
        "991: .asciz \"stapsdt\"",
        "992: .balign 4",
        "993: .8byte 990b, 0, 0",
        ".asciz \"bench\"",
        ".asciz \"\\probe\"",
        ".asciz \"8@%rdi\"",
        "994: .balign 4",
        ".popsection",
        ".endm",
        ".pushsection .text",
        "tapster_bench_function tapster_bench_plain, 0",
        "tapster_bench_function tapster_bench_marked, 1",
        "tapster_bench_place tapster_bench_short, short, 0",
        "tapster_bench_place tapster_bench_long, long, 1",
        ".popsection",
    );
    unsafe extern "C" {
        pub(crate) fn tapster_bench_plain(number: u64) -> u64;
        pub(crate) fn tapster_bench_marked(number: u64) -> u64;
        pub(crate) fn tapster_bench_short(number: u64) -> u64;
        pub(crate) fn tapster_bench_long(number: u64) -> u64;
    }
}

/// The function of that name, of those in assembly.
#[cfg(target_arch = "x86_64")]
fn written(name: &str) -> Option<unsafe extern "C" fn(u64) -> u64> {
    Some(match name {
        "plain" => written::tapster_bench_plain,
        "marked" => written::tapster_bench_marked,
        "short" => written::tapster_bench_short,
        "long" => written::tapster_bench_long,
        _ => return None,
    })
}
#[cfg(not(target_arch = "x86_64"))]
fn written(_: &str) -> Option<unsafe extern "C" fn(u64) -> u64> {
    None
}

/// A way to watch the same events: one of ours, and bpftrace's.
struct Contest {
    name: &'static str,
    /// What the called program calls: `user`, `kernel`, or a function in assembly.
    load: &'static str,
    /// Everything of a probe but its name.
    ours: &'static str,
    script: &'static str,
    /// Programs that bpftrace makes of it.
    programs: usize,
}

const fn contest(
    name: &'static str,
    load: &'static str,
    ours: &'static str,
    script: &'static str,
    programs: usize,
) -> Contest {
    Contest { name, load, ours, script, programs }
}

const COUNT: &str = "metrics: [{ counter: bench_total }]";
const TIME: &str = "metrics: [{ histogram: bench_seconds, value: duration }]";

/// bpftrace 0.17 has no typed raw tracepoints, so there its tracepoint of the same event stands. COUNT and TIME stand for those, PROGRAM for the path of this program. Ours has eight buckets for each power of two
/// and a sum; bpftrace's has one, and gets a sum.
const CONTESTS: [Contest; 24] = [
    contest(
        "uprobe, entry",
        "user",
        "at: 'uprobe:PROGRAM:tapster_bench_target', COUNT",
        "uprobe:PROGRAM:tapster_bench_target { @ = count(); }",
        1,
    ),
    contest(
        "uprobe, return",
        "user",
        "at: 'uretprobe:PROGRAM:tapster_bench_target', COUNT",
        "uretprobe:PROGRAM:tapster_bench_target { @ = count(); }",
        1,
    ),
    contest(
        "uprobe, pair",
        "user",
        "function: 'PROGRAM:tapster_bench_target', TIME",
        "uprobe:PROGRAM:tapster_bench_target { @s[tid] = nsecs; } uretprobe:PROGRAM:tapster_bench_target /@s[tid]/ { $d = nsecs - @s[tid]; @h = hist($d); @t = sum($d); delete(@s[tid]); }",
        2,
    ),
    contest(
        "uprobe, filtered out",
        "user",
        "at: 'uprobe:PROGRAM:tapster_bench_target', where: arg0 == 0xffffffffff, COUNT",
        "uprobe:PROGRAM:tapster_bench_target /arg0 == 0xffffffffff/ { @ = count(); }",
        1,
    ),
    contest(
        "entry, without a mark",
        "plain",
        "at: 'uprobe:PROGRAM:tapster_bench_plain', COUNT",
        "uprobe:PROGRAM:tapster_bench_plain { @ = count(); }",
        1,
    ),
    contest(
        "pair, without a mark",
        "plain",
        "function: 'PROGRAM:tapster_bench_plain', TIME",
        "uprobe:PROGRAM:tapster_bench_plain { @s[tid] = nsecs; } uretprobe:PROGRAM:tapster_bench_plain /@s[tid]/ { $d = nsecs - @s[tid]; @h = hist($d); @t = sum($d); delete(@s[tid]); }",
        2,
    ),
    contest(
        "entry, with a mark",
        "marked",
        "at: 'uprobe:PROGRAM:tapster_bench_marked', COUNT",
        "uprobe:PROGRAM:tapster_bench_marked { @ = count(); }",
        1,
    ),
    contest(
        "pair, with a mark",
        "marked",
        "function: 'PROGRAM:tapster_bench_marked', TIME",
        "uprobe:PROGRAM:tapster_bench_marked { @s[tid] = nsecs; } uretprobe:PROGRAM:tapster_bench_marked /@s[tid]/ { $d = nsecs - @s[tid]; @h = hist($d); @t = sum($d); delete(@s[tid]); }",
        2,
    ),
    contest(
        "usdt, one nop",
        "short",
        "at: 'usdt:PROGRAM:bench:short', COUNT",
        "usdt:PROGRAM:bench:short { @ = count(); }",
        1,
    ),
    contest(
        "usdt, both nops",
        "long",
        "at: 'usdt:PROGRAM:bench:long', COUNT",
        "usdt:PROGRAM:bench:long { @ = count(); }",
        1,
    ),
    contest(
        "raw tracepoint, entry",
        "kernel",
        "at: 'rawtracepoint:raw_syscalls:sys_enter', COUNT",
        "tracepoint:raw_syscalls:sys_enter { @ = count(); }",
        1,
    ),
    contest(
        "raw tracepoint, filtered out",
        "kernel",
        "at: 'rawtracepoint:raw_syscalls:sys_enter', where: args.id == 4711, COUNT",
        "tracepoint:raw_syscalls:sys_enter /args->id == 4711/ { @ = count(); }",
        1,
    ),
    contest(
        "tracepoint, entry",
        "kernel",
        "at: 'tracepoint:syscalls:sys_enter_getppid', COUNT",
        "tracepoint:syscalls:sys_enter_getppid { @ = count(); }",
        1,
    ),
    contest(
        "tracepoint, return",
        "kernel",
        "at: 'tracepoint:syscalls:sys_exit_getppid', COUNT",
        "tracepoint:syscalls:sys_exit_getppid { @ = count(); }",
        1,
    ),
    contest(
        "tracepoint, pair",
        "kernel",
        "start: { at: 'tracepoint:syscalls:sys_enter_getppid', key: tid }, end: { at: 'tracepoint:syscalls:sys_exit_getppid', key: tid }, TIME",
        "tracepoint:syscalls:sys_enter_getppid { @s[tid] = nsecs; } tracepoint:syscalls:sys_exit_getppid /@s[tid]/ { $d = nsecs - @s[tid]; @h = hist($d); @t = sum($d); delete(@s[tid]); }",
        2,
    ),
    contest(
        "tracepoint, filtered out",
        "kernel",
        "at: 'tracepoint:raw_syscalls:sys_enter', where: args.id == 4711, COUNT",
        "tracepoint:raw_syscalls:sys_enter /args->id == 4711/ { @ = count(); }",
        1,
    ),
    contest(
        "fentry, entry",
        "kernel",
        "at: 'fentry:__task_pid_nr_ns', COUNT",
        "kfunc:__task_pid_nr_ns { @ = count(); }",
        1,
    ),
    contest(
        "fentry, return",
        "kernel",
        "at: 'fexit:__task_pid_nr_ns', COUNT",
        "kretfunc:__task_pid_nr_ns { @ = count(); }",
        1,
    ),
    contest(
        "fentry, pair",
        "kernel",
        "function: __task_pid_nr_ns, TIME",
        "kfunc:__task_pid_nr_ns { @s[tid] = nsecs; } kretfunc:__task_pid_nr_ns /@s[tid]/ { $d = nsecs - @s[tid]; @h = hist($d); @t = sum($d); delete(@s[tid]); }",
        2,
    ),
    contest(
        "fentry, filtered out",
        "kernel",
        "at: 'fentry:__task_pid_nr_ns', where: args.type == 4711, COUNT",
        "kfunc:__task_pid_nr_ns /args->type == 4711/ { @ = count(); }",
        1,
    ),
    contest(
        "kprobe, entry",
        "kernel",
        "at: 'kprobe:__task_pid_nr_ns', COUNT",
        "kprobe:__task_pid_nr_ns { @ = count(); }",
        1,
    ),
    contest(
        "kprobe, return",
        "kernel",
        "at: 'kretprobe:__task_pid_nr_ns', COUNT",
        "kretprobe:__task_pid_nr_ns { @ = count(); }",
        1,
    ),
    contest(
        "kprobe, pair",
        "kernel",
        "start: { at: 'kprobe:__task_pid_nr_ns', key: frame }, end: { at: 'kretprobe:__task_pid_nr_ns', key: frame }, TIME",
        "kprobe:__task_pid_nr_ns { @s[tid] = nsecs; } kretprobe:__task_pid_nr_ns /@s[tid]/ { $d = nsecs - @s[tid]; @h = hist($d); @t = sum($d); delete(@s[tid]); }",
        2,
    ),
    contest(
        "kprobe, filtered out",
        "kernel",
        "at: 'kprobe:__task_pid_nr_ns', where: arg1 == 4711, COUNT",
        "kprobe:__task_pid_nr_ns /arg1 == 4711/ { @ = count(); }",
        1,
    ),
];

/// The events of the scripts.
const EVENTS: [&str; 9] = [
    "tapster_bench_target",
    "tapster_bench_plain",
    "tapster_bench_marked",
    "short",
    "long",
    "sys_enter",
    "sys_enter_getppid",
    "sys_exit_getppid",
    "__task_pid_nr_ns",
];

/// What one call costs, nanoseconds: by the clocks of who calls, and the programs' run by the kernel's count.
#[derive(Clone, Copy, Default)]
#[expect(clippy::struct_field_names, reason = "numbers carry their unit in the name")]
struct Cost {
    wall_ns: f64,
    cpu_ns: f64,
    run_ns: f64,
}

impl Cost {
    fn add(&mut self, other: Self) {
        self.wall_ns += other.wall_ns;
        self.cpu_ns += other.cpu_ns;
        self.run_ns += other.run_ns;
    }

    /// Less what it costs without probes.
    fn beyond(mut self, bare: (f64, f64)) -> Self {
        self.wall_ns -= bare.0;
        self.cpu_ns -= bare.1;
        self
    }
}

/// Time that this thread was on a CPU.
fn cpu_time_ns() -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time outlives the call.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) }, 0);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// Makes the calls and prints how many nanoseconds they took: by the clock on the wall, and on a CPU.
fn caller(load: &str, calls: u64) {
    let written = written(load);
    let (begun, cpu) = (std::time::Instant::now(), cpu_time_ns());
    for number in 0..calls {
        if let Some(function) = written {
            // SAFETY: it takes a number and only returns another.
            std::hint::black_box(unsafe { function(number) });
        } else if load == "user" {
            std::hint::black_box(tapster_bench_target(number));
        } else {
            // SAFETY: it reads nothing and only returns a number.
            std::hint::black_box(unsafe { libc::syscall(libc::SYS_getppid) });
        }
    }
    println!("{} {}", begun.elapsed().as_nanos(), cpu_time_ns() - cpu);
}

/// Nanoseconds of one call in a process of its own, by both clocks.
fn run(program: &Path, load: &str, calls: u64) -> (f64, f64) {
    let said = output(Command::new(program).args(["--caller", load]).arg(calls.to_string()));
    let (wall, cpu) = said.trim().split_once(' ').unwrap();
    let each = |text: &str| text.parse::<f64>().unwrap() / calls as f64;
    (each(wall), each(cpu))
}

/// Calls with programs attached, `programs` says how often each ran and how long.
fn attached(program: &Path, load: &str, calls: u64, programs: impl Fn() -> Vec<(u64, u64)>) -> Cost {
    let (wall_ns, cpu_ns) = run(program, load, calls);
    // The kernel's counting costs something itself, so it is on only now.
    let counting = sys::enable_run_stats().unwrap();
    let before = programs();
    run(program, load, calls);
    let after = programs();
    drop(counting);
    // A pair is two programs. What others on this host call is in the mean of a run, too.
    let run_ns = before
        .iter()
        .zip(&after)
        .map(|((runs, ns), (more, longer))| {
            assert!(more > runs, "a program did not run");
            (longer - ns) as f64 / (more - runs) as f64
        })
        .sum();
    Cost { wall_ns, cpu_ns, run_ns }
}

fn ours(contest: &Contest, kernel: &Kernel, program: &Path, calls: u64) -> Result<Cost, String> {
    let body = contest.ours.replace("PROGRAM", &program.display().to_string());
    let yaml =
        format!("probes:\n  - {{ name: bench, {} }}\n", body.replace("COUNT", COUNT).replace("TIME", TIME));
    let (file, diagnostics) = declaration::parse(&SourceFile::new("bench", yaml));
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    let options = StartOptions { run_stats: false, attach: true, command: false };
    let (exporter, failures, _) =
        Exporter::start(&file.probes, kernel, &Host::default(), Vec::new(), options);
    if let Some(failure) = failures.first() {
        return Err(failure.down.message.lines().next().unwrap_or_default().to_owned());
    }
    let programs = || {
        let status = exporter.status().remove(0);
        status.programs.iter().map(|program| (program.runs, program.run_ns)).collect()
    };
    Ok(attached(program, contest.load, calls, programs))
}

fn theirs(contest: &Contest, program: &Path, calls: u64) -> Cost {
    let script = contest.script.replace("PROGRAM", &program.display().to_string());
    // The kernel keeps 15 characters of a program's name, which bpftrace takes from the event.
    let is_its =
        |program: &Loaded| EVENTS.iter().any(|event| event.get(..15).unwrap_or(event) == program.name);
    let bpftrace = Bpftrace::start(&script, contest.programs, is_its);
    let programs = || {
        let mut programs: Vec<Loaded> = bpftrace.programs();
        programs.sort_by_key(|program| program.id);
        programs.iter().map(|program| (program.runs, program.run_ns)).collect()
    };
    attached(program, contest.load, calls, programs)
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--caller") {
        return caller(&arguments[at + 1], arguments[at + 2].parse().unwrap());
    }
    // `cargo test --benches` asks for a list of tests.
    if arguments.iter().any(|argument| argument == "--list" || argument == "--test") {
        return;
    }
    for tool in ["bpftrace", "bpftool"] {
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
    let (calls, rounds) = (number("TAPSTER_BENCH_CALLS", 200_000), number("TAPSTER_BENCH_ROUNDS", 6));
    let wanted = std::env::var("TAPSTER_BENCH_ONLY").unwrap_or_default();
    // A copy, so that the probes are of a file that nobody else runs.
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("called");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("Linux {}, {calls} calls, {rounds} rounds, load before: {}", kernel.release, load.trim());
    println!(
        "ns for one call: what it takes longer by the caller's clock on the wall, on a CPU, and the run of the programs"
    );
    println!("                              wall clock              CPU                     run");
    println!(
        "event                          ours bpftrace ratio    ours bpftrace ratio    ours bpftrace ratio  CPU round by round"
    );
    for contest in CONTESTS.iter().filter(|contest| contest.name.starts_with(&wanted)) {
        let (mut our_sum, mut their_sum, mut each) = (Cost::default(), Cost::default(), String::new());
        let mut refused = None;
        for round in 0..rounds {
            let before = run(&program, contest.load, calls);
            let theirs_first = (round % 2 == 1).then(|| theirs(contest, &program, calls));
            let mine = match ours(contest, &kernel, &program, calls) {
                Ok(cost) => cost,
                Err(message) => {
                    refused = Some(message);
                    break;
                }
            };
            let other = theirs_first.unwrap_or_else(|| theirs(contest, &program, calls));
            let after = run(&program, contest.load, calls);
            let bare = (f64::midpoint(before.0, after.0), f64::midpoint(before.1, after.1));
            let (mine, other) = (mine.beyond(bare), other.beyond(bare));
            let _ = write!(each, " {:.0}:{:.0}", mine.cpu_ns, other.cpu_ns);
            our_sum.add(mine);
            their_sum.add(other);
        }
        if let Some(message) = refused {
            println!("{:28}  skipped: {message}", contest.name);
            continue;
        }
        let columns = [
            (our_sum.wall_ns, their_sum.wall_ns),
            (our_sum.cpu_ns, their_sum.cpu_ns),
            (our_sum.run_ns, their_sum.run_ns),
        ];
        let mut line = format!("{:28}", contest.name);
        for (ours, theirs) in columns {
            let mean = |sum: f64| sum / rounds as f64;
            let _ = write!(line, " {:7.0} {:8.0} {:5.2}", mean(ours), mean(theirs), ours / theirs);
        }
        println!("{line} {each}");
    }
}
