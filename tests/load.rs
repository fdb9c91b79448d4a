//! A Go and a Rust program under load, with probes on their functions: neither crashes, and every call is counted.
//!
//! Three seconds each; a minute each with
//!
//! ```text
//! cargo test --test load -- --ignored --nocapture
//! ```
#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]

use tapster_testing as support;

use std::{
    fs,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{Command, Output},
};
use support::{
    cases::{Cases, Outcome, Skip},
    command::{output, text, tool},
    exporter::{Tapster, binary},
    fixture,
    metrics::whole,
};

/// Entries of a Go program's functions, and how often one asked for a larger stack. A function looks at its entry whether the
/// stack is large enough, and is told that it is not when others are to run as well; the stack is moved or others run, and the
/// function begins again at its entry, which is a second event of one call.
const GO: &str = r#"
probes:
  - { name: hash, at: "uprobe:PROGRAM:main.hash", metrics: [{ counter: hash_total, help: x }] }
  - { name: grow, at: "uprobe:PROGRAM:main.grow", metrics: [{ counter: grow_total, help: x }] }
  - { name: throw, at: "uprobe:PROGRAM:main.throw", metrics: [{ counter: throw_total, help: x }] }
  - { name: asked, at: "uprobe:PROGRAM:runtime.newstack", metrics: [{ counter: asked_total, help: x }] }
"#;

const RUST: &str = r#"
probes:
  - name: hash
    function: PROGRAM:load_hash
    save: { length: arg1 }
    metrics:
      - { histogram: hash_duration_seconds, help: x, value: duration }
      - { counter: hash_bytes_total, help: x, value: start.length }
  - name: recurse
    function: PROGRAM:load_recurse
    metrics: [{ histogram: recurse_duration_seconds, help: x, value: duration }]
  - { name: throw, function: "PROGRAM:load_throw", metrics: [{ histogram: throw_duration_seconds, help: x, value: duration }] }
  - { name: thrown, at: "uprobe:PROGRAM:load_throw", metrics: [{ counter: thrown_total, help: x }] }
"#;

fn go(directory: &Path) -> Result<PathBuf, Skip> {
    let program = directory.join("load_go");
    let mut go = tool("go")?;
    go.args(["build", "-o"]).arg(&program).arg(fixture::file("programs/load.go"));
    text(go.env("GOCACHE", directory.join("cache")).env("GO111MODULE", "off"));
    Ok(program)
}

fn rust(directory: &Path) -> Result<PathBuf, Skip> {
    let program = directory.join("load_rust");
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--edition", "2024", "-O", "-o"]).arg(&program).arg(fixture::file("programs/load.rs"));
    match rustc.output() {
        Ok(done) => assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr)),
        Err(error) => return Err(Skip(format!("rustc: {error}"))),
    }
    Ok(program)
}

fn start(probes: &str, program: &Path, directory: &Path) -> Tapster {
    let file = directory.join("probes.yaml");
    fs::write(&file, probes.replace("PROGRAM", &program.display().to_string())).unwrap();
    Tapster::start(&["--strict", "-c", file.to_str().unwrap()])
}

/// What the program says of a function; it must have ended well.
fn own(output: &Output, name: &str) -> u64 {
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    said.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        .unwrap_or_else(|| panic!("{said}"))
}

fn go_entries(seconds: f64) -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let program = go(directory.path())?;
    let tapster = start(GO, &program, directory.path());
    let run = output(Command::new(&program).arg(seconds.to_string()));
    let metrics = tapster.scrape();
    let (mut figures, mut again) = (Vec::new(), 0);
    for name in ["hash", "grow", "throw"] {
        let (calls, seen) = (own(&run, name), whole(metrics.sum(&format!("tapster_{name}_total"), &[])));
        assert!(calls > 100 && seen >= calls, "{name}: {seen} seen of {calls}");
        again += seen - calls;
        figures.push(format!("{name} {seen} seen of {calls}"));
    }
    let asked = whole(metrics.sum("tapster_asked_total", &[]));
    assert!(
        again <= asked,
        "{again} entries more than calls, but stacks asked for {asked} times; {figures:?}"
    );
    // What needs no stack of its own never begins again.
    assert_eq!(whole(metrics.sum("tapster_hash_total", &[])), own(&run, "hash"));
    Ok(format!("{seconds} s of Go: {}, stacks asked for {asked} times", figures.join(", ")))
}

/// The table at the end of a graph, which may be long.
fn table(graph: &Path) -> String {
    let mut file = fs::File::open(graph).unwrap();
    let end = file.seek(SeekFrom::End(0)).unwrap();
    file.seek(SeekFrom::Start(end.saturating_sub(8192))).unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Entries and returns, the latter at the instructions.
fn go_calls(seconds: f64) -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let program = go(directory.path())?;
    let graph = directory.path().join("graph");
    let mut command = binary();
    command.arg("callgraph").arg(format!("{}:main.*", program.display())).arg("--file").arg(&graph);
    let run = output(command.arg("--").arg(&program).arg(seconds.to_string()));
    let said = String::from_utf8_lossy(&run.stderr);
    let lost = said.lines().find(|line| line.contains("records were lost"));
    let table = table(&graph);
    let mut figures = Vec::new();
    for name in ["hash", "grow", "throw"] {
        let calls = own(&run, name);
        let row = table.lines().find(|line| line.ends_with(&format!(" main.{name}")));
        let row = row.unwrap_or_else(|| panic!("no main.{name} in\n{table}"));
        let seen: u64 = row.split_whitespace().next().unwrap().parse().unwrap();
        assert!(seen == calls || lost.is_some() && seen < calls, "{name}: {seen} seen of {calls}, {lost:?}");
        figures.push(format!("{name} {seen} of {calls}"));
    }
    Ok(format!("{seconds} s of Go: {}; {}", figures.join(", "), lost.unwrap_or("nothing was lost")))
}

fn rust_calls(seconds: f64) -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let program = rust(directory.path())?;
    let tapster = start(RUST, &program, directory.path());
    let run = output(Command::new(&program).arg(seconds.to_string()));
    let metrics = tapster.scrape();
    let calls = |name: &str| metrics.histogram(&format!("tapster_{name}_duration_seconds"), &[]).count();
    let (hashes, recursions) = (own(&run, "hash"), own(&run, "recurse"));
    assert_eq!((calls("hash"), calls("recurse")), (hashes, recursions), "hash, recurse");
    assert_eq!(whole(metrics.sum("tapster_hash_bytes_total", &[])), 512 * hashes, "arguments");
    // A call that panics is left without a return: it has an entry only.
    assert_eq!(
        whole(metrics.sum("tapster_thrown_total", &[])),
        own(&run, "throw"),
        "entries of what may panic"
    );
    assert_eq!(calls("throw"), own(&run, "returned"), "returns of what may panic");
    assert_eq!(whole(metrics.sum("tapster_probe_unmatched_total", &[])), 0, "unmatched");
    Ok(format!(
        "{seconds} s of Rust: hash {hashes}, recurse {recursions}, throw {} of which {} returned",
        own(&run, "throw"),
        own(&run, "returned")
    ))
}

fn all(seconds: f64) {
    let Some(mut cases) = Cases::as_root("load") else {
        return;
    };
    cases.run("Go, entries", || go_entries(seconds));
    cases.run("Go, entries and returns", || go_calls(seconds));
    cases.run("Rust", || rust_calls(seconds));
    cases.finish();
}

#[test]
fn programs_under_load() {
    all(3.0);
}

#[test]
#[ignore = "takes more than three minutes"]
fn programs_under_load_for_a_minute() {
    all(60.0);
}
