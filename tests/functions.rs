//! Functions of a program whose calls, results and times are known to the program itself.
//!
//! Probes are attached to a program that the test builds, and to nothing else of the host.

#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]

use tapster_testing as support;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};
use support::{
    cases::{Cases, Outcome, Skip},
    command::{text, tool},
    exporter::{Tapster, within},
    metrics::Metrics,
};
use tapster::{elf, host::Host, kernel::Kernel, sys};
use tapster_ebpf::{
    attach::{Place, SiteRequest},
    probe::KernelVersion,
};

const PROBES: &str = r#"
probes:
  - name: quick
    function: PROGRAM:quick
    save: { text: "str(arg1, 16)", number: arg0 }
    labels: { text: start.text }
    metrics:
      - { histogram: quick_duration_seconds, help: x, value: duration }
      - { counter: quick_result_total, help: x, value: retval }
      - { counter: quick_number_total, help: x, value: start.number }
  - name: sleeper
    function: PROGRAM:sleeper
    where: (s32)retval < 0
    metrics:
      - { histogram: sleeper_duration_seconds, help: x, value: duration }
  - name: never
    function: PROGRAM:sleeper
    where: (s32)retval > 0
    metrics: [{ counter: never_total, help: x }]
  - name: deeper
    function: PROGRAM:deeper
    metrics:
      - { histogram: deeper_duration_seconds, help: x, value: duration }
      - { max: deeper_longest_seconds, help: x, value: duration }
  - name: jumper
    function: PROGRAM:jumper
    metrics: [{ histogram: jumper_duration_seconds, help: x, value: duration }]
  - name: entries
    at: "uprobe:PROGRAM:jumper"
    metrics: [{ counter: entries_total, help: x }]
"#;

fn build(directory: &Path, extra: &[&str]) -> Result<PathBuf, Skip> {
    let program = directory.join("calls");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/calls.c");
    text(tool("cc")?.args(["-O1", "-pthread"]).args(extra).arg("-o").arg(&program).arg(source));
    Ok(program)
}

/// Lines `NAME NUMBER` that the program printed.
fn lines(output: &str, name: &str) -> Vec<u64> {
    let numbers = output.lines().filter_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    numbers.collect()
}

fn calls(extra: &[&str]) -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let program = build(directory.path(), extra)?;
    let file = directory.path().join("probes.yaml");
    fs::write(&file, PROBES.replace("PROGRAM", &program.display().to_string())).unwrap();
    let tapster = Tapster::start(&["--strict", "-c", file.to_str().unwrap()]);
    let output = text(&mut Command::new(&program));
    let metrics = tapster.scrape();
    let total = |name: &str, labels: &[(&str, &str)]| support::metrics::whole(metrics.sum(name, labels));
    for (word, letter) in [("even", b'e'), ("odd", b'o')] {
        let labels = [("text", word)];
        // Four threads of each kind, numbers from 0 to 9999.
        assert_eq!(metrics.histogram("tapster_quick_duration_seconds", &labels).count(), 40_000, "{word}");
        let numbers = 4 * (9_999 * 10_000 / 2);
        assert_eq!(total("tapster_quick_number_total", &labels), numbers, "{word}");
        assert_eq!(
            total("tapster_quick_result_total", &labels),
            2 * numbers + 40_000 * u64::from(letter),
            "{word}"
        );
    }
    let results: u64 =
        ["even", "odd"].iter().map(|word| total("tapster_quick_result_total", &[("text", word)])).sum();
    assert_eq!(lines(&output, "quick"), [results], "what the program added up");
    let sleeper = as_long(&metrics, "tapster_sleeper_duration_seconds", &lines(&output, "sleeper"));
    assert_eq!(total("tapster_never_total", &[]), 0);
    let deeper = metrics.histogram("tapster_deeper_duration_seconds", &[]);
    // More than the 64 that the kernel's return probes see.
    assert_eq!(deeper.count(), 101, "calls of a function by itself");
    // Every level waits for the one below.
    let longest = metrics.sum("tapster_deeper_longest_seconds", &[]);
    assert!((0.005..=seconds(lines(&output, "deeper")[0])).contains(&longest), "{longest}");
    assert!(deeper.sum >= 101.0 * 0.005, "{}", deeper.sum);
    // The call that jumped out has no return, and the next one at the same place is not taken for it.
    assert_eq!(total("tapster_entries_total", &[]), 2);
    let jumper = as_long(&metrics, "tapster_jumper_duration_seconds", &lines(&output, "jumper"));
    let unmatched = total("tapster_probe_unmatched_total", &[]);
    assert_eq!(unmatched, 0, "returns without an entry");
    assert_eq!(total("tapster_probe_dropped_total", &[]), 0, "dropped");
    Ok(format!("80000 calls on 8 threads, {sleeper}, recursion 101 deep, after a jump {jumper}"))
}

/// What of `marked.c` is counted: sums, so that arguments and results are those of each call, and who called.
const MARKED: &str = r#"
probes:
  - name: framed
    function: PROGRAM:framed
    save: { number: arg0 }
    metrics:
      - { histogram: framed_duration_seconds, help: x, value: duration }
      - { counter: framed_number_total, help: x, value: start.number }
      - { counter: framed_result_total, help: x, value: retval }
  - name: kept
    at: "uprobe:PROGRAM:kept"
    labels: { func: func }
    metrics: [{ counter: kept_number_total, help: x, value: arg0 }]
  - name: callers
    at: "uprobe:PROGRAM:kept"
    labels: { user: ustack(2) }
    metrics: [{ counter: callers_total, help: x }]
  - name: frames
    at: "uprobe:PROGRAM:framed"
    labels: { user: ustack(2) }
    metrics: [{ counter: frames_total, help: x }]
  - name: plain
    at: "uprobe:PROGRAM:plain"
    metrics: [{ counter: plain_total, help: x }]
  - name: rounds
    function: PROGRAM:rounds
    metrics: [{ histogram: rounds_duration_seconds, help: x, value: duration }]
  - name: passed
    at: "uprobe:PROGRAM:passed"
    metrics: [{ counter: passed_total, help: x }, { counter: passed_number_total, help: x, value: arg0 }]
  - name: several
    function: "PROGRAM:*ed"
    labels: { func: func }
    metrics: [{ histogram: several_duration_seconds, help: x, value: duration }]
"#;

fn marked_program(directory: &Path) -> Result<PathBuf, Skip> {
    if std::env::consts::ARCH != "x86_64" {
        return Err(Skip("the program is written for x86-64".into()));
    }
    let program = directory.join("marked");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/marked.c");
    let flags = ["-O1", "-fno-omit-frame-pointer", "-mno-red-zone", "-Wl,--build-id"];
    text(tool("cc")?.args(flags).arg("-o").arg(&program).arg(source));
    Ok(program)
}

/// Functions that begin with a mark are counted as the program calls them, wherever the probe is.
fn marks() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let program = marked_program(directory.path())?;
    let file = directory.path().join("probes.yaml");
    fs::write(&file, MARKED.replace("PROGRAM", &program.display().to_string())).unwrap();
    let tapster = Tapster::start(&["--strict", "-c", file.to_str().unwrap()]);
    let mut command = Command::new(&program);
    let mut child = command.arg("stay").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let printed = BufReader::new(child.stdout.take().unwrap()).lines().take(5);
    let output: Vec<String> = printed.map(Result::unwrap).collect();
    let output = output.join("\n");
    let metrics = tapster.scrape();
    let total = |name: &str, labels: &[(&str, &str)]| support::metrics::whole(metrics.sum(name, labels));
    assert_eq!(metrics.histogram("tapster_framed_duration_seconds", &[]).count(), 100);
    assert_eq!(total("tapster_framed_number_total", &[]), 4950);
    assert_eq!([total("tapster_framed_result_total", &[])], *lines(&output, "framed"));
    assert_eq!(total("tapster_kept_number_total", &[("func", "kept")]), 4950);
    assert_eq!(total("tapster_plain_total", &[]), 100);
    // Fifty rounds of each call begin behind the mark.
    assert_eq!(metrics.histogram("tapster_rounds_duration_seconds", &[]).count(), 100);
    // A fifth of the calls leave out the mark.
    assert_eq!(total("tapster_passed_total", &[]), 100, "calls behind the mark too");
    assert_eq!(total("tapster_passed_number_total", &[]), 4950);
    for function in ["framed", "passed"] {
        let labels = [("func", function)];
        assert_eq!(metrics.histogram("tapster_several_duration_seconds", &labels).count(), 100, "{function}");
    }
    assert_eq!(total("tapster_frames_total", &[]), 100);
    // Functions of programs get their names in the background; of a file that only its owner may read, while it is run.
    let mut callers = Vec::new();
    let named = within(Duration::from_secs(30), || {
        let metrics = tapster.scrape();
        callers = metrics.values("tapster_callers_total", &[], "user");
        callers.extend(metrics.values("tapster_frames_total", &[], "user"));
        callers.iter().all(|stack| !stack.contains('['))
    });
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(named.is_some(), "{callers:?}");
    assert!(
        callers.iter().all(|stack| stack.ends_with(";kept") || stack.ends_with(";framed")),
        "{callers:?}"
    );
    // Who called has no frame of its own yet. Since 6.12 the kernel looks for it at `push %rbp`; at `endbr64` only some are built so.
    if Kernel::detect(&Host::default()).version >= KernelVersion(6, 12, 0) {
        assert_eq!(callers[1..], ["main;framed"], "{callers:?}");
    }
    assert_eq!(total("tapster_probe_dropped_total", &[]), 0);
    assert_eq!(total("tapster_probe_unmatched_total", &[]), 0);
    Ok(format!("500 calls of five functions, stacks {callers:?}"))
}

/// Runs are counted by the kernel where that was asked for, or while somebody else has it count. Else nothing is said of them.
fn run_statistics() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let program = marked_program(directory.path())?;
    let file = directory.path().join("probes.yaml");
    let yaml = "probes: [{ name: plain, at: 'uprobe:PROGRAM:plain', metrics: [{ counter: plain_total, help: x }] }]\n";
    fs::write(&file, yaml.replace("PROGRAM", &program.display().to_string())).unwrap();
    let config = file.to_str().unwrap();
    let call = || drop(text(&mut Command::new(&program)));
    let counted = |tapster: &Tapster| {
        let metrics = tapster.scrape();
        let runs = metrics.find("tapster_probe_runs_total", &[("probe", "plain")]);
        let seconds = metrics.find("tapster_probe_run_seconds_total", &[("probe", "plain")]);
        assert_eq!(runs.is_some(), seconds.is_some());
        assert!(metrics.sum("tapster_probe_missed_total", &[("probe", "plain")]) < 0.5);
        runs.zip(seconds)
    };
    // Another test, or somebody at this host, may have runs counted for a while.
    let alone = |tapster: &Tapster| {
        call();
        counted(tapster).is_none()
    };
    let mut tapster = Tapster::start(&["--strict", "-c", config]);
    let mut tries = 0;
    while !alone(&tapster) {
        tries += 1;
        assert!(tries < 20, "runs are counted, though nobody asked for it");
        drop(tapster);
        std::thread::sleep(Duration::from_millis(500));
        tapster = Tapster::start(&["--strict", "-c", config]);
    }
    let other = sys::enable_run_stats().unwrap();
    call();
    drop(other);
    let (runs, seconds) = counted(&tapster).expect("runs while somebody had them counted");
    assert!((runs - 100.0).abs() < 0.5 && seconds > 0.0, "{runs} in {seconds} s");
    drop(tapster);
    let tapster = Tapster::start(&["--strict", "--no-run-stats", "--run-stats", "-c", config]);
    assert_eq!(counted(&tapster), Some((0.0, 0.0)), "none so far, and that is known");
    let mut before = 0.0;
    for round in [100.0, 200.0] {
        call();
        let (runs, seconds) = counted(&tapster).unwrap();
        assert!((runs - round).abs() < 0.5 && seconds > before, "{runs} in {seconds} s");
        before = seconds;
    }
    Ok(format!("200 runs in {before} s"))
}

/// Where the probes of `marked.c` go: behind the mark, where the kernel does what stands there and nothing else comes there.
fn places() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let program = marked_program(directory.path())?;
    let file = elf::functions(&program.display().to_string()).unwrap();
    let place = |function: &str, stacks: bool, at_return: bool| {
        let wanted = SiteRequest { function, at_return, whole: at_return, most: 10, stacks };
        let site = elf::choose(&file, &wanted).unwrap().sites.remove(0);
        let Place::File { entry, at } = site.place else { panic!("`{function}` is in no file") };
        assert_eq!(site.name, function);
        at.iter().map(|at| at - entry).collect::<Vec<_>>()
    };
    for (function, distance, with_stack) in
        [("framed", 4, 4), ("kept", 4, 0), ("passed", 4, 0), ("plain", 0, 0), ("rounds", 0, 0)]
    {
        assert_eq!(place(function, false, false), [distance], "{function}");
        assert_eq!(place(function, true, false), [with_stack], "{function}, with its stack");
    }
    assert_eq!(place("kept", false, true), [15], "a return is where it was");
    Ok("three of five functions are probed behind their mark".into())
}

#[expect(clippy::cast_precision_loss, reason = "under a minute")]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Rank by rank a call took as long as the program saw, less what the probes themselves cost.
fn as_long(metrics: &Metrics, family: &str, own_ns: &[u64]) -> String {
    let ours = metrics.histogram(family, &[]);
    assert_eq!(ours.count(), u64::try_from(own_ns.len()).unwrap(), "{family}");
    let mut own = own_ns.to_vec();
    own.sort_unstable();
    for (rank, own) in (1..).zip(&own) {
        let (lower, upper) = ours.bucket_of_rank(rank);
        assert!(
            lower <= seconds(*own),
            "{family}: rank {rank} within ({lower}, {upper}], the program saw {own} ns"
        );
        // What the probes themselves cost stands between the program's clock and ours.
        let cost = 1e-3;
        assert!(
            upper >= seconds(*own) - cost,
            "{family}: rank {rank} within ({lower}, {upper}], the program saw {own} ns"
        );
    }
    assert!(ours.sum <= seconds(own.iter().sum()), "{family}: {} s in all", ours.sum);
    format!("{} as long as the program says", ours.count())
}

#[test]
fn calls_are_counted_and_timed() {
    let Some(mut cases) = Cases::as_root("functions") else {
        return;
    };
    cases.run("a program at any address", || calls(&["-pie", "-fPIE"]));
    cases.run("a program at a fixed address", || calls(&["-no-pie"]));
    cases.run("functions that begin with a mark", marks);
    cases.run("places behind marks", places);
    cases.run("runs that are counted", run_statistics);
    cases.finish();
}
