//! Functions of a program whose calls, results and times are known to the program itself.
//!
//! Probes are attached to a program that the test builds, and to nothing else of the host.

#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use support::{
    cases::{Cases, Outcome, Skip},
    command::{text, tool},
    exporter::Tapster,
    metrics::Metrics,
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
    let sleeper = within(&metrics, "tapster_sleeper_duration_seconds", &lines(&output, "sleeper"));
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
    let jumper = within(&metrics, "tapster_jumper_duration_seconds", &lines(&output, "jumper"));
    let unmatched = total("tapster_probe_unmatched_total", &[]);
    assert_eq!(unmatched, 0, "returns without an entry");
    assert_eq!(total("tapster_probe_dropped_total", &[]), 0, "dropped");
    Ok(format!("80000 calls on 8 threads, {sleeper}, recursion 101 deep, after a jump {jumper}"))
}

#[expect(clippy::cast_precision_loss, reason = "under a minute")]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Rank by rank a call took as long as the program saw, less what the probes themselves cost.
fn within(metrics: &Metrics, family: &str, own_ns: &[u64]) -> String {
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
    cases.finish();
}
