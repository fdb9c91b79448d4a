//! Patterns of a program's functions, and programs of other languages: each function's calls are as many as the program
//! makes, whatever the number of functions, and no program comes to harm.

#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]
#![allow(clippy::unnecessary_wraps, reason = "cases are alike")]

use tapster_testing as support;

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Instant,
};
use support::{
    cases::{Cases, Outcome, Skip},
    command::{output, text, tool},
    exporter::{Tapster, binary},
    metrics::{Metrics, whole},
};

/// Functions of the large program.
const MANY: usize = 50_000;

struct Directory(tempfile::TempDir);

impl Directory {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A file of probes, with `PROGRAM` replaced.
    fn probes(&self, program: &Path, text: &str) -> String {
        let file = self.path("probes.yaml");
        fs::write(&file, text.replace("PROGRAM", &program.display().to_string())).unwrap();
        file.to_str().unwrap().to_owned()
    }

    fn build(&self, compiler: &str, source: &str, flags: &[&str]) -> Result<PathBuf, Skip> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(source);
        let built = self.path(source.file_stem().unwrap().to_str().unwrap());
        text(tool(compiler)?.args(flags).arg("-pthread").arg("-o").arg(&built).arg(source));
        Ok(built)
    }
}

fn count(metrics: &Metrics, family: &str, function: &str) -> u64 {
    metrics.histogram(family, &[("func", function)]).count()
}

fn check(file: &str) -> Output {
    output(binary().args(["check", "--offline", "-c", file]))
}

fn every_function(directory: &Directory) -> Outcome {
    let program = directory.build("cc", "programs/calls.c", &["-O1"])?;
    let file = directory.probes(
        &program,
        r#"
probes:
  - name: calls
    function: "PROGRAM:*"
    labels: { func: func }
    metrics: [{ histogram: calls_seconds, help: x, value: duration }]
  - name: entries
    at: "uprobe:PROGRAM:{deeper,j[eu]?p*}"
    labels: { func: func }
    metrics: [{ counter: entries_total, help: x }]
  - name: one
    function: "PROGRAM:*"
    where: func == "deeper" || func == "now"
    labels: { func: func }
    metrics: [{ counter: chosen_total, help: x }]
  - name: pair
    start: { at: "uprobe:PROGRAM:s*", key: [func, frame], save: { from: func } }
    end: { at: "uretprobe:PROGRAM:s*", key: [func, frame] }
    let: { which: start.from }
    labels: { func: which }
    metrics: [{ histogram: pair_seconds, help: x, value: duration }]
"#,
    );
    let tapster = Tapster::start(&["--strict", "-c", &file]);
    text(&mut Command::new(&program));
    let metrics = tapster.scrape();
    let calls = "tapster_calls_seconds";
    for (function, expected) in
        [("quick", 80_000), ("sleeper", 6), ("deeper", 101), ("jumper", 1), ("main", 1), ("work", 8)]
    {
        assert_eq!(count(&metrics, calls, function), expected, "{function}");
    }
    for (function, expected) in [("deeper", 101.0), ("jumper", 2.0)] {
        assert_eq!(
            metrics.find("tapster_entries_total", &[("func", function)]),
            Some(expected),
            "{function}"
        );
    }
    assert_eq!(count(&metrics, "tapster_pair_seconds", "sleeper"), 6);
    assert_eq!(metrics.values("tapster_chosen_total", &[], "func"), ["deeper", "now"]);
    assert_eq!(metrics.find("tapster_chosen_total", &[("func", "deeper")]), Some(101.0));
    // What was in it is at least as long as what is measured of it.
    let sum = |function: &str| metrics.histogram(calls, &[("func", function)]).sum;
    assert!(sum("main") >= sum("sleeper") && sum("sleeper") >= 0.063, "{} {}", sum("main"), sum("sleeper"));
    assert_eq!(whole(metrics.sum("tapster_probe_unmatched_total", &[])), 0, "returns without an entry");
    assert_eq!(whole(metrics.sum("tapster_probe_dropped_total", &[])), 0, "dropped");
    // The first function is not one to return from.
    assert_eq!(metrics.values(calls, &[], "func").iter().filter(|name| *name == "_start").count(), 0);
    let mechanisms = metrics.values("tapster_probe_missed_total", &[("probe", "calls")], "mechanism");
    assert!(mechanisms.iter().any(|way| way.starts_with("uprobe_ret")), "{mechanisms:?}");
    Ok(format!("80000 calls and recursion 101 deep by {}", mechanisms.join(", ")))
}

/// A program of that many functions, all of which it calls once.
fn large(directory: &Directory) -> Result<PathBuf, Skip> {
    let mut source = String::from(".text\n.globl main\n.type main,@function\nmain:\n    push %rbp\n");
    for number in 0..MANY {
        writeln!(source, "    call f_{number:05}").unwrap();
    }
    source.push_str("    xor %eax, %eax\n    pop %rbp\n    ret\n.size main, . - main\n");
    for number in 0..MANY {
        let name = format!("f_{number:05}");
        writeln!(
            source,
            ".globl {name}\n.type {name},@function\n{name}:\n    push %rbp\n    mov ${number}, %eax\n    pop %rbp\n    ret\n.size {name}, . - {name}"
        )
        .unwrap();
    }
    source.push_str(".section .note.GNU-stack,\"\",@progbits\n");
    let (file, program) = (directory.path("large.s"), directory.path("large"));
    fs::write(&file, source).unwrap();
    if !cfg!(target_arch = "x86_64") {
        return Err(Skip("the program is written for x86-64".into()));
    }
    text(tool("cc")?.arg("-o").arg(&program).arg(&file));
    Ok(program)
}

fn fifty_thousand(directory: &Directory) -> Outcome {
    let program = large(directory)?;
    let file = directory.probes(
        &program,
        "probes: [{ name: many, function: \"PROGRAM:f_*\", metrics: [{ counter: a_total, help: x }] }]",
    );
    let refused = check(&file);
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{stderr}");
    let message =
        format!("error: {MANY} functions of `{}` match `f_*`, and 1000 are taken at most", program.display());
    assert!(stderr.contains(&message), "{stderr}");
    assert!(stderr.contains("narrow the pattern, or set `max_functions: 50000`"), "{stderr}");
    let probes = r#"
probes:
  - name: thousand
    function: "PROGRAM:f_10[0-9][0-9][0-9]"
    save: { none: pid }
    labels: { func: func }
    metrics: [{ counter: thousand_total, help: x, value: retval }, { counter: thousand_calls_total, help: x }]
"#;
    let file = directory.probes(&program, probes);
    let begun = Instant::now();
    let tapster = Tapster::start(&["--strict", "-c", &file]);
    let up = begun.elapsed();
    text(&mut Command::new(&program));
    let metrics = tapster.scrape();
    for number in 10_000..11_000_u32 {
        let labels = [("func", format!("f_{number}"))];
        let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(metrics.find("tapster_thousand_calls_total", &labels), Some(1.0), "{labels:?}");
        // Each returns its number: no function is taken for another.
        assert_eq!(metrics.find("tapster_thousand_total", &labels), Some(f64::from(number)), "{labels:?}");
    }
    let attached = tapster.wait_for("probes attached").unwrap();
    Ok(format!(
        "{MANY} refused; 1000, entry and return, attached in {} ms of {} ms until it serves",
        attached["attach_ms"],
        up.as_millis()
    ))
}

fn without_symbols(directory: &Directory) -> Outcome {
    let program = directory.build("cc", "programs/calls.c", &["-O1", "-no-pie"])?;
    let symbols = text(tool("nm")?.arg(&program));
    let address = symbols.lines().find_map(|line| line.strip_suffix(" T deeper")).unwrap();
    let stripped = directory.path("stripped");
    text(tool("strip")?.arg("-o").arg(&stripped).arg(&program));
    let refused = |program: &Path, function: &str| {
        let file = directory.probes(
            program,
            &format!("probes: [{{ name: a, function: \"PROGRAM:{function}\", metrics: [{{ counter: a_total, help: x }}] }}]"),
        );
        let refused = check(&file);
        assert_eq!(refused.status.code(), Some(2), "{function}");
        let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(stderr.matches("error: ").count(), 1, "one message: {stderr}");
        stderr
    };
    assert!(refused(&stripped, "*").contains("is stripped: it has no symbols"));
    assert!(refused(&program, "out").contains("`out` of `"), "data");
    assert!(refused(&program, "out").contains("is not a function"), "data");
    assert!(refused(&program, "nanosleep@plt").contains("has no function"));
    assert!(
        refused(&program, "nanosleep").contains("only calls `nanosleep`") || cfg!(not(target_env = "gnu"))
    );
    assert!(refused(&program, "quikc").contains("did you mean `quick`?"));
    assert!(refused(&program, "slep*").contains("did you mean `slee*`?"));
    assert!(refused(&program, "_start").contains("returns of `_start`"));
    let bytes = fs::read(&program).unwrap();
    for length in [0, 20, 64, 1000, bytes.len() / 2, bytes.len() - 1] {
        let cut = directory.path("cut");
        fs::write(&cut, &bytes[..length]).unwrap();
        // What the message is depends on where it was cut; it is one, and nothing is attached.
        refused(&cut, "quick");
    }
    let probes = format!(
        "probes: [{{ name: a, function: \"PROGRAM:0x{address}\", labels: {{ func: func }}, metrics: [{{ counter: deeper_total, help: x }}] }}]"
    );
    let tapster = Tapster::start(&["--strict", "-c", &directory.probes(&stripped, &probes)]);
    text(&mut Command::new(&stripped));
    let shown = format!("{:#x}", u64::from_str_radix(address, 16).unwrap());
    assert_eq!(tapster.scrape().find("tapster_deeper_total", &[("func", &shown)]), Some(101.0));
    Ok(format!("101 calls of the function at {shown} without symbols; data, calls and cut files refused"))
}

fn exceptions(directory: &Directory) -> Outcome {
    let program = directory.build("g++", "callgraph/throws.cc", &["-O1"])?;
    let file = directory.probes(
        &program,
        r#"
probes:
  - name: attempt
    function: "PROGRAM:story::Hasher::attempt"
    save: { n: arg1 }
    labels: { func: func }
    metrics: [{ counter: attempts_total, help: x }, { counter: attempts_n_total, help: x, value: start.n }]
  - name: read
    function: "PROGRAM:story::Hasher::read(int)"
    metrics: [{ counter: reads_total, help: x }]
  - name: entries
    at: "uprobe:PROGRAM:story::*"
    labels: { func: func }
    metrics: [{ counter: story_total, help: x }]
"#,
    );
    let tapster = Tapster::start(&["--strict", "-c", &file]);
    assert_eq!(text(&mut Command::new(&program)), "-10 50\n", "the program is as it was");
    let metrics = tapster.scrape();
    let attempt = [("func", "story::Hasher::attempt(int)")];
    assert_eq!(metrics.find("tapster_attempts_total", &attempt), Some(10.0));
    assert_eq!(metrics.find("tapster_attempts_n_total", &attempt), Some(50.0));
    assert_eq!(metrics.find("tapster_story_total", &[("func", "story::Hasher::read(int)")]), Some(60.0));
    assert_eq!(whole(metrics.sum("tapster_reads_total", &[])), 0, "all are left by an exception");
    Ok("10 calls whole, 60 left by exceptions, by their names in C++".into())
}

fn goroutines(directory: &Directory) -> Outcome {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/callgraph/goroutines.go");
    let program = directory.path("goroutines");
    text(
        tool("go")?
            .args(["build", "-o"])
            .arg(&program)
            .arg(source)
            .env("GOCACHE", directory.path("cache"))
            .env("GO111MODULE", "off"),
    );
    let file = directory.probes(
        &program,
        r#"
probes:
  - name: calls
    function: "PROGRAM:main.*"
    labels: { func: func }
    metrics: [{ histogram: go_seconds, help: x, value: duration }]
  - name: factorial
    function: "PROGRAM:main.factorial"
    save: { n: arg0 }
    metrics: [{ counter: numbers_total, help: x, value: start.n }, { counter: results_total, help: x, value: retval }]
  - name: returns
    at: "uretprobe:PROGRAM:main.grow"
    metrics: [{ counter: returns_total, help: x }]
"#,
    );
    let tapster = Tapster::start(&["--strict", "-c", &file]);
    for _ in 0..3 {
        assert_eq!(text(&mut Command::new(&program)), "done\n");
    }
    let metrics = tapster.scrape();
    // Eight goroutines of 20 rounds, three times; every other panic has no return.
    for (function, expected) in [
        ("main.factorial", 8 * 20 * 5),
        ("main.grow", 8 * 20 * 61),
        ("main.recovers", 8 * 20),
        ("main.panics", 8 * 10),
    ] {
        assert_eq!(count(&metrics, "tapster_go_seconds", function), 3 * expected, "{function}");
    }
    // The last one may have told that it is done, and not returned before the program ends.
    let workers = count(&metrics, "tapster_go_seconds", "main.worker");
    assert!((3 * 7..=3 * 8).contains(&workers), "{workers} workers");
    let rounds = f64::from(3 * 8 * 20);
    assert_eq!(metrics.find("tapster_numbers_total", &[]), Some(rounds * 15.0), "5 + 4 + 3 + 2 + 1");
    assert_eq!(metrics.find("tapster_results_total", &[]), Some(rounds * 153.0), "120 + 24 + 6 + 2 + 1");
    assert_eq!(metrics.find("tapster_returns_total", &[]), Some(rounds * 61.0));
    Ok("calls of goroutines whole while their stacks grow and move".into())
}

#[test]
fn patterns_and_languages() {
    let Some(mut cases) = Cases::as_root("globs") else {
        return;
    };
    let directory = Directory(tempfile::tempdir().unwrap());
    cases.run("every function of a program", || every_function(&directory));
    cases.run("50 000 functions", || fifty_thousand(&directory));
    cases.run("without symbols, damaged, data", || without_symbols(&directory));
    cases.run("exceptions", || exceptions(&directory));
    cases.run("goroutines", || goroutines(&directory));
    cases.finish();
}
