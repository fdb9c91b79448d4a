//! Calls that fail from the first instruction to the second scrape.

use super::{
    super::support::{
        cases::{Outcome, Skip},
        command::tool,
        exporter::{Ended, Tapster, binary, within},
        http,
        metrics::Metrics,
    },
    Before, Failures, Step, fork, is_of_memory, look_for_panics, made, probes,
};
use std::{fs, path::Path, process::Command, time::Duration};

pub(super) const FAILURES: &Failures = &[
    ("bpf", &["EPERM", "ENOMEM", "EMFILE", "E2BIG", "EINVAL"]),
    ("perf_event_open", &["EACCES", "EMFILE", "ENODEV"]),
    ("openat", &["EMFILE", "EACCES", "EIO", "ENOENT"]),
    ("read", &["EIO", "ENOMEM"]),
    ("mmap", &["ENOMEM"]),
    ("clone3", &["EAGAIN"]),
    ("accept4", &["EMFILE", "ECONNABORTED"]),
    ("epoll_wait", &["EINTR"]),
];

/// How starts went.
#[derive(Debug, Default)]
struct Tally {
    ended: usize,
    down: usize,
    whole: usize,
}

/// The exporter under `strace`, which lets call number `nth` of each thread fail. What is traced is the child.
fn command(call: &str, error: &str, nth: usize, log: &Path) -> Result<Command, Skip> {
    let mut command = tool("strace")?;
    command.args(["-D", "-f", "-qq", "--seccomp-bpf", "-e", &format!("trace={call}")]);
    command.args(["-e", &format!("inject={call}:error={error}:when={nth}"), "-o"]).arg(log);
    command.arg(binary().get_program());
    Ok(command)
}

/// Starts it once. `false` if no thread made so many calls.
fn once(call: &str, error: &str, nth: usize, tally: &mut Tally) -> Result<bool, Skip> {
    let what = format!("{call} number {nth}, {error}");
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("calls");
    let file = probes();
    let arguments = ["-c", file.to_str().unwrap()];
    match Tapster::start_by(command(call, error, nth, &log)?, "127.0.0.1:0", &arguments) {
        Err(Ended { status, log }) => {
            let said = log.join("\n");
            // The loader of programs has its own words and 127.
            let is_meant = matches!(status.code(), Some(1 | 2 | 127)) || is_of_memory(call, &said);
            assert!(is_meant && !said.is_empty(), "{what}: {status}: {said}");
            look_for_panics(call, &said, &what);
            tally.ended += 1;
        }
        Ok(tapster) => {
            // A request that fails is one scrape; another is whole. Each is of another thread, which fails too.
            let scrape = || {
                let answers = (0..3).filter_map(|_| http::get(tapster.address, "/metrics", None).ok());
                let whole = answers.into_iter().find(|answer| answer.status == 200);
                Metrics::parse(whole.unwrap_or_else(|| panic!("{what}: no scrape of three")).text())
            };
            let made = made();
            let before = Before::new(made, &scrape());
            fork();
            let after = scrape();
            let log = tapster.log().join("\n");
            look_for_panics(call, &log, &what);
            if before.check(&after, &log, &what) > 0 { tally.down += 1 } else { tally.whole += 1 }
        }
    }
    // Whoever traces may write its last lines after what it traced has ended.
    let is_reached = || fs::read_to_string(&log).unwrap_or_default().contains("(INJECTED)");
    Ok(within(Duration::from_secs(2), is_reached).is_some())
}

/// How often the program that only says its version makes a call.
fn calls_of_version(call: &str) -> Result<usize, Skip> {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("calls");
    let mut command = tool("strace")?;
    command.args(["-f", "-qq", "-e", &format!("trace={call}"), "-o"]).arg(&log);
    assert!(command.arg(binary().get_program()).arg("--version").output().unwrap().status.success());
    Ok(fs::read_to_string(&log).unwrap().lines().count())
}

/// Call after call until no thread makes so many, or `most` were tried. Every error at each call where all are tried, else one
/// after the other.
pub(super) fn sweep(call: &str, errors: &[&str], step: Step, most: usize) -> Outcome {
    // The first of these are the linker's, which fails in its own way before there is a program.
    let before = if call == "mmap" { calls_of_version(call)? } else { 0 };
    let (mut tally, mut nth, mut starts) = (Tally::default(), before + 1, 0);
    while starts < most {
        let mut is_reached = false;
        let here = if step(nth) == nth + 1 { errors } else { &errors[starts % errors.len()..][..1] };
        for error in here {
            is_reached |= once(call, error, nth, &mut tally)?;
            starts += 1;
        }
        if !is_reached {
            break;
        }
        nth = step(nth);
    }
    assert!(nth > before + 1, "no call of {call} was reached");
    let Tally { ended, down, whole } = tally;
    Ok(format!(
        "{starts} starts up to call {nth}: {ended} ended with a sentence, {down} had probes down, {whole} were whole"
    ))
}
