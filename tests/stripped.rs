//! Programs without symbols that tell of their functions in another way: Go's own table, and symbols that are packed in a section.
//!
//! Probes are attached to programs that the test builds, and to nothing else of the host.

#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]
#![allow(clippy::unnecessary_wraps, reason = "cases are alike")]

use tapster_testing as support;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};
use support::{
    cases::{Cases, Outcome},
    command::{text, tool},
    exporter::{Tapster, within},
    metrics::{Metrics, whole},
};

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn probes(directory: &Path, program: &Path, probes: &str) -> PathBuf {
    let file = directory.join("probes.yaml");
    fs::write(&file, probes.replace("PROGRAM", program.to_str().unwrap())).unwrap();
    file
}

/// Built as vendors do: `-s -w` leave out symbols and DWARF.
fn go(directory: &Path, mode: &str) -> Outcome {
    let program = directory.join(format!("goroutines-{mode}"));
    text(
        tool("go")?
            .args(["build", "-buildmode", mode, "-ldflags=-s -w", "-o"])
            .arg(&program)
            .arg(source("callgraph/goroutines.go"))
            .env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-cache"))
            .env("GO111MODULE", "off"),
    );
    let symbols = Command::new("readelf").args(["-sW"]).arg(&program).output().unwrap();
    assert!(!String::from_utf8_lossy(&symbols.stdout).contains("main.factorial"), "it has symbols");
    let file = probes(
        directory,
        &program,
        r#"
probes:
  - name: calls
    function: "PROGRAM:main.*"
    labels: { func: func }
    metrics: [{ histogram: go_seconds, help: x, value: duration }]
  - name: entries
    at: "uprobe:PROGRAM:main.panics"
    labels: { stack: ustack(3) }
    metrics: [{ counter: entries_total, help: x }]
"#,
    );
    let tapster = Tapster::start(&["--strict", "-c", file.to_str().unwrap()]);
    assert_eq!(text(&mut Command::new(&program)), "done\n");
    let metrics = tapster.scrape();
    for (function, expected) in [("main.factorial", 8 * 20 * 5), ("main.grow", 8 * 20 * 61)] {
        let calls = metrics.histogram("tapster_go_seconds", &[("func", function)]).count();
        assert_eq!(calls, expected, "{function}");
    }
    let stacks = metrics.values("tapster_entries_total", &[], "stack");
    assert!(!stacks.is_empty() && stacks.iter().all(|stack| stack.ends_with("main.panics")), "{stacks:?}");
    // Who called at once is missing where a function does not begin with `push %rbp`.
    assert!(stacks.iter().any(|stack| stack.contains("main.worker;")), "callers as well: {stacks:?}");
    Ok(format!("{} calls of 8 goroutines, stacks {stacks:?}", 8 * 20 * 66))
}

/// As Fedora does: what `strip` takes away is packed and put back.
fn packed(directory: &Path) -> Outcome {
    let path = |name: &str| directory.join(name);
    let program = path("packed");
    let sources = source("programs");
    let library = path("libtapster-stacks.so");
    let flags = ["-O1", "-fno-omit-frame-pointer", "-mno-omit-leaf-frame-pointer"];
    text(
        tool("cc")?
            .args(flags)
            .args(["-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(sources.join("stacks_library.c")),
    );
    text(
        tool("cc")?
            .args(flags)
            .arg("-o")
            .arg(&program)
            .arg(sources.join("stacks.c"))
            .arg(&library)
            .arg(format!("-Wl,-rpath,{}", directory.display())),
    );
    let only = path("only-symbols");
    text(tool("objcopy")?.arg("--only-keep-debug").arg(&program).arg(&only));
    text(tool("strip")?.arg("--strip-debug").arg(&only));
    text(tool("xz")?.arg("-k").arg(&only));
    text(tool("strip")?.arg(&program));
    let section = format!(".gnu_debugdata={}", path("only-symbols.xz").display());
    text(tool("objcopy")?.args(["--add-section", &section]).arg(&program));
    let file = probes(
        directory,
        &program,
        r#"
probes:
  - name: calls
    at: "uprobe:PROGRAM:probed"
    labels: { user: ustack(3) }
    metrics: [{ counter: calls_total, help: x }]
"#,
    );
    let tapster = Tapster::start(&["--strict", "-c", file.to_str().unwrap()]);
    // It stays until its functions have names: those are read from the file of a program that is there.
    let mut calls = Command::new(&program).args(["wait", "30"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut ready = String::new();
    BufReader::new(calls.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let mut metrics = tapster.scrape();
    let stacks = |metrics: &Metrics| metrics.values("tapster_calls_total", &[], "user");
    within(Duration::from_secs(30), || {
        metrics = tapster.scrape();
        stacks(&metrics).iter().all(|stack| stack.ends_with(";probed"))
    });
    calls.kill().unwrap();
    calls.wait().unwrap();
    assert_eq!((ready.as_str(), whole(metrics.sum("tapster_calls_total", &[]))), ("ready\n", 61));
    let stacks = stacks(&metrics);
    assert!(stacks.iter().all(|stack| stack.ends_with(";probed")), "{stacks:?}");
    assert!(stacks.iter().any(|stack| stack.contains("main;")), "{stacks:?}");
    Ok(format!("61 calls in the stacks {stacks:?}"))
}

#[test]
fn programs_without_symbols() {
    let Some(mut cases) = Cases::as_root("stripped") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    cases.run("Go at a fixed address", || go(directory.path(), "exe"));
    cases.run("Go at any address", || go(directory.path(), "pie"));
    cases.run("symbols that are packed", || packed(directory.path()));
    cases.finish();
}
