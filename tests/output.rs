//! Results that cannot be written: status 1 and a sentence, whatever was asked for. A reader that has gone is no error.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]
#![allow(clippy::unnecessary_wraps, reason = "cases are alike")]

use tapster_testing as support;

use std::{
    fs::{self, File},
    process::{Command, Output, Stdio},
};
use support::{
    cases::{Cases, Outcome, Skip},
    exporter::binary,
};

/// What prints without any right.
const PLAIN: [&[&str]; 6] = [
    &["--help"],
    &["--version"],
    &["report", "--help"],
    &["help", "run"],
    &["schema"],
    &["list", "--library"],
];
/// What looks at the kernel.
const KERNEL: [&[&str]; 8] = [
    &["list"],
    &["check"],
    &["check", "--offline"],
    &["compile", "block_io"],
    &["compile", "block_io", "--emit", "obj"],
    &["report", "block_io", "--", "true"],
    &["report", "block_io", "--for", "100ms", "--json"],
    &["raid"],
];

fn tapster(arguments: &[&str]) -> Command {
    let mut command = binary();
    command.args(arguments).stdin(Stdio::null());
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Into a device that is always full.
fn full(arguments: &[&str]) {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = tapster(arguments).stdout(full).output().unwrap();
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {message}");
    let last = message.lines().last().unwrap_or_default();
    assert_eq!(
        last, "error: standard output cannot be written: No space left on device (os error 28)",
        "{arguments:?}"
    );
}

/// Into a pipe that nobody reads any more.
fn closed(arguments: &[&str]) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = tapster(arguments).stdout(writer).output().unwrap();
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {message}");
    assert!(!message.contains("error") && !message.contains("panicked"), "{arguments:?}: {message}");
}

/// What is said beside the result goes to a device that is always full: the result is there all the same. What is said otherwise.
fn unheard(arguments: &[&str]) -> String {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let heard = tapster(arguments).output().unwrap();
    let unheard = tapster(arguments).stderr(full).output().unwrap();
    let said = stderr(&heard);
    assert_eq!(unheard.status.code(), heard.status.code(), "{arguments:?}: {said}");
    assert_eq!(unheard.stdout.is_empty(), heard.stdout.is_empty(), "{arguments:?}: {said}");
    said
}

fn all(arguments: &[&[&str]]) -> Outcome {
    for arguments in arguments {
        full(arguments);
        closed(arguments);
        unheard(arguments);
    }
    Ok(format!("{} forms", arguments.len()))
}

/// Into a file on a full device.
fn files() -> Outcome {
    for arguments in [
        &["compile", "block_io", "-o", "/dev/full"][..],
        &["compile", "block_io", "--emit", "obj", "-o", "/dev/full"],
        &["report", "block_io", "-o", "/dev/full", "--", "true"],
    ] {
        let output = tapster(arguments).stdout(Stdio::null()).output().unwrap();
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {message}");
        let expected = "error: cannot write `/dev/full`: No space left on device (os error 28)";
        assert_eq!(message.lines().last(), Some(expected), "{arguments:?}");
    }
    Ok("told with its name".into())
}

/// A report of probes whose first attach point this processor does not have says that of each, and counts at the next.
fn alternatives() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("probes.yaml");
    let probe = |counter: &str| {
        let name = counter.replace('-', "_");
        format!(
            "  - name: {name}\n    at: {{ one_of: [\"hardware:{counter}:100000\", \"profile:hz:99\"] }}\n    metrics: [{{ counter: {name}_total }}]\n"
        )
    };
    let probes: String = ["cpu-cycles", "cache-misses", "backend-stalls"].map(probe).concat();
    fs::write(&file, format!("probes:\n{probes}")).unwrap();
    let said = unheard(&["report", file.to_str().unwrap(), "--for", "100ms"]);
    if said.contains("is passed over for the next alternative") {
        Ok("counted without a word".into())
    } else {
        Err(Skip("this processor has all counters".into()))
    }
}

/// Completions go to a directory; on one that is full the file cannot be written.
fn completions() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tapster.bash");
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let output = tapster(&["generate", "completions", directory.path().to_str().unwrap()]).output().unwrap();
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.starts_with("error: cannot write `") && !message.contains("panicked"), "{message}");
    Ok("no panic".into())
}

#[test]
fn output() {
    let mut cases = Cases::new("output");
    cases.run("without rights", || all(&PLAIN));
    cases.run("completions", completions);
    if let Some(mut cases) = Cases::as_root("output") {
        cases.run("of the kernel", || all(&KERNEL));
        cases.run("files", files);
        cases.run("alternatives", alternatives);
        cases.finish();
    }
    cases.finish();
}
