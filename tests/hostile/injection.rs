//! System calls that fail at the start, one at a time: each of some, with each error that the kernel has for it. Whatever fails, what
//! comes is a sentence and an end, one probe that is down with its cause, or a scrape that says what happened; never a panic, a
//! process that hangs, or a wrong number.

use super::support::{
    cases::{Cases, Outcome, Skip},
    command::tool,
    exporter::{Ended, Tapster, binary, within},
    http,
    metrics::Metrics,
};
use std::{fs, path::Path, process::Command, time::Duration};

/// Probes of each kind that this takes: a tracepoint, a raw one, a place in a program, a timer.
const PROBES: [&str; 4] = ["forks", "wakeups", "getenv", "ticks"];
/// Calls and the errors that the kernel may answer with.
const FAILURES: [(&str, &[&str]); 5] = [
    ("bpf", &["EPERM", "ENOMEM", "EMFILE", "E2BIG", "EINVAL"]),
    ("perf_event_open", &["EACCES", "EMFILE", "ENODEV"]),
    ("openat", &["EMFILE", "EACCES", "EIO", "ENOENT"]),
    ("read", &["EIO", "ENOMEM"]),
    ("mmap", &["ENOMEM"]),
];
/// Processes that are made, to be counted.
const FORKS: u32 = 3;
/// Words that are in no line of a log that was meant.
const PANICS: [&str; 3] = ["panicked", "a bug in tapster", "overflow"];

/// How a start with a failure went.
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
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/injection.yaml");
    let arguments = ["-c", file.to_str().unwrap()];
    let started = Tapster::start_by(command(call, error, nth, &log)?, "127.0.0.1:0", &arguments);
    let said = |lines: &[String]| lines.join("\n");
    match started {
        Err(Ended { status, log }) => {
            // The loader of programs has its own words and 127; who gets no memory has a sentence and a signal.
            let of_memory = call == "mmap" && said(&log).contains("memory allocation of");
            let is_meant = matches!(status.code(), Some(1 | 2 | 127)) || of_memory;
            assert!(is_meant && !log.is_empty(), "{what}: {status}: {}", said(&log));
            for word in PANICS {
                assert!(!said(&log).contains(word), "{what}: {}", said(&log));
            }
            tally.ended += 1;
        }
        Ok(tapster) => {
            let count = |metrics: &Metrics| metrics.sum("tapster_forks_total", &[]);
            // A request that fails is one scrape; the next is whole.
            let scrape = || {
                let answers = (0..3).filter_map(|_| http::get(tapster.address, "/metrics", None).ok());
                let whole = answers.into_iter().find(|answer| answer.status == 200);
                Metrics::parse(whole.unwrap_or_else(|| panic!("{what}: no scrape of three")).text())
            };
            let before = scrape();
            for _ in 0..FORKS {
                assert!(Command::new("true").status().unwrap().success());
            }
            let after = scrape();
            let mut down = 0;
            for probe in PROBES {
                let reasons = after.values("tapster_probe_up", &[("probe", probe)], "reason");
                assert_eq!(reasons.len(), 1, "{what}: {probe} is not told of");
                let up = after.find("tapster_probe_up", &[("probe", probe)]) == Some(1.0);
                if up {
                    let family = format!("tapster_{probe}_total");
                    assert!(
                        after.0.iter().any(|sample| sample.name == family),
                        "{what}: {probe} is up without {family}"
                    );
                } else {
                    assert!(
                        !reasons[0].is_empty() && reasons[0] != "internal",
                        "{what}: {probe}: {reasons:?}"
                    );
                    let log = said(&tapster.log());
                    let is_said = log.contains(&format!("\"probe\":\"{probe}\""));
                    assert!(is_said, "{what}: {probe} is down and nothing says why: {log}");
                    down += 1;
                }
                if up && probe == "forks" && before.find("tapster_probe_up", &[("probe", probe)]) == Some(1.0)
                {
                    let counted = count(&after) - count(&before);
                    assert!(counted >= f64::from(FORKS), "{what}: {counted} of {FORKS} forks");
                }
            }
            let log = said(&tapster.log());
            for word in PANICS {
                assert!(!log.contains(word), "{what}: {log}");
            }
            if down > 0 { tally.down += 1 } else { tally.whole += 1 }
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

/// Call after call, `step` by `step`, until no thread makes so many, or `most` were tried.
fn sweep(call: &str, errors: &[&str], step: impl Fn(usize) -> usize, most: usize) -> Outcome {
    // The first of these are the linker's, which fails in its own way before there is a program.
    let before = if call == "mmap" { calls_of_version(call)? } else { 0 };
    let (mut tally, mut nth, mut starts) = (Tally::default(), before + 1, 0);
    while starts < most {
        let mut is_reached = false;
        // All errors at every call, or where calls are passed over, one after the other.
        let here: Vec<&str> =
            if step(nth) == nth + 1 { errors.to_vec() } else { vec![errors[starts % errors.len()]] };
        for error in here {
            is_reached |= once(call, error, nth, &mut tally)?;
            starts += 1;
        }
        if !is_reached {
            break;
        }
        nth = step(nth);
    }
    let Tally { ended, down, whole } = tally;
    Ok(format!(
        "{starts} starts up to call {nth}: {ended} ended with a sentence, {down} had probes down, {whole} were whole"
    ))
}

#[test]
fn calls_that_fail_at_the_start() {
    let Some(mut cases) = Cases::as_root("injection") else { return };
    for (call, errors) in FAILURES {
        cases.run(call, || sweep(call, errors, |nth| nth + 1 + nth / 2, 8));
    }
    cases.finish();
}

/// Every call but those of `read`, of which there are thousands: these by steps that grow.
#[test]
#[ignore = "some minutes"]
fn every_call_that_fails_at_the_start() {
    let Some(mut cases) = Cases::as_root("injection") else { return };
    for (call, errors) in FAILURES {
        let step = |nth: usize| if call == "read" && nth > 100 { nth + nth / 8 } else { nth + 1 };
        cases.run(call, || sweep(call, errors, step, usize::MAX));
    }
    cases.finish();
}
