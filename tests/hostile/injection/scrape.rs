//! Calls that fail while it runs: in the first scrape after that, by any thread.

use super::{
    super::support::{
        cases::{Outcome, Skip},
        command::tool,
        exporter::{Ended, Tapster, within},
        http,
        metrics::Metrics,
    },
    Before, Failures, Step, fork, is_of_memory, look_for_panics, made, probes,
};
use std::{
    fs,
    io::ErrorKind,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

pub(super) const FAILURES: &Failures = &[
    // Not `ENOENT`, by which the kernel says that a map has no more rows.
    ("bpf", &["EPERM", "ENOMEM", "EAGAIN", "EINVAL"]),
    ("openat", &["EMFILE", "EACCES", "EIO", "ENOENT"]),
    ("read", &["EIO", "ENOMEM"]),
    ("mmap", &["ENOMEM"]),
    ("clone3", &["EAGAIN"]),
    ("accept4", &["EMFILE", "ENFILE", "ECONNABORTED", "ENOMEM", "EPERM"]),
    ("epoll_wait", &["EINTR"]),
];
/// How long it may take until all is well again.
const PATIENCE: Duration = Duration::from_secs(30);

/// How scrapes went.
#[derive(Debug, Default)]
struct Tally {
    failed: usize,
    down: usize,
    whole: usize,
    ended: usize,
}

/// `strace`, which lets call number `nth` of each thread of a process fail until this goes.
#[derive(Debug)]
struct Tracer(Child);

impl Tracer {
    fn attach(mut command: Command, pid: u32) -> Self {
        let mut tracer = Self(command.args(["-p", &pid.to_string()]).stderr(Stdio::null()).spawn().unwrap());
        let is_traced = || {
            let mut tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
            tasks.all(|task| {
                let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
                !status.contains("TracerPid:\t0\n")
            })
        };
        let attached = within(PATIENCE, || is_traced() || tracer.0.try_wait().unwrap().is_some());
        assert!(attached.is_some() && is_traced(), "strace does not attach");
        tracer
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let pid = i32::try_from(self.0.id()).unwrap();
        // It lets go of what it traces.
        // SAFETY: it reads no memory of ours, and the child has not been waited for.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        // It waits for ever for the threads of a process that was aborted.
        if within(Duration::from_secs(3), || matches!(self.0.try_wait(), Ok(Some(_)))).is_none() {
            let _ = self.0.kill();
        }
        let _ = self.0.wait();
    }
}

fn injecting(call: &str, error: &str, nth: usize, log: &Path) -> Result<Command, Skip> {
    let mut command = tool("strace")?;
    command.args(["-f", "-qq", "-e", &format!("trace={call}")]);
    command.args(["-e", &format!("inject={call}:error={error}:when={nth}"), "-o"]).arg(log);
    Ok(command)
}

fn start() -> Tapster {
    let file = probes();
    let tapster = Tapster::start(&["-c", file.to_str().unwrap()]);
    tapster.scrape();
    tapster
}

/// One scrape with a call that fails, and those after it. `false` if no thread made so many calls.
fn once(tapster: &mut Tapster, call: &str, error: &str, nth: usize, tally: &mut Tally) -> Result<bool, Skip> {
    let what = format!("{call} number {nth}, {error}");
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("calls");
    let made = made();
    let before = Before::new(made, &tapster.scrape());
    let tracer = Tracer::attach(injecting(call, error, nth, &log)?, tapster.pid());
    fork();
    let answer = http::get(tapster.address, "/metrics", None);
    drop(tracer);
    let said = tapster.log().join("\n");
    look_for_panics(call, &said, &what);
    match &answer {
        Ok(answer) if answer.status == 200 => {
            let down = before.check(&Metrics::parse(answer.text()), &said, &what);
            if down > 0 { tally.down += 1 } else { tally.whole += 1 }
        }
        Ok(answer) => {
            assert!(answer.status >= 500 && !answer.text().is_empty(), "{what}: {}", answer.head);
            tally.failed += 1;
        }
        Err(error) => {
            let is_hanging = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
            assert!(!is_hanging, "{what}: no answer");
            tally.failed += 1;
        }
    }
    // Whoever gets no memory has a sentence and a signal, and is started again by who looks after it.
    let has_ended = || is_of_memory(call, &tapster.log().join("\n"));
    let is_well = || {
        let answer = http::get(tapster.address, "/metrics", None).ok().filter(|answer| answer.status == 200);
        answer.is_some_and(|answer| before.check(&Metrics::parse(answer.text()), &said, &what) == 0)
    };
    let settled = within(PATIENCE, || has_ended() || is_well());
    assert!(settled.is_some(), "{what}: it does not get well: {}", tapster.log().join("\n"));
    if has_ended() {
        let Ended { status, log } = std::mem::replace(tapster, start()).ended();
        assert_eq!(status.code(), None, "{what}: {log:?}");
        tally.ended += 1;
    }
    let calls = fs::read_to_string(&log).unwrap_or_default();
    Ok(calls.contains("(INJECTED)"))
}

/// Call after call until no thread makes so many in a scrape, or `most` were tried. Every error at each call where all are tried,
/// else one after the other.
pub(super) fn sweep(call: &str, errors: &[&str], step: Step, most: usize) -> Outcome {
    let mut tapster = start();
    let (mut tally, mut nth, mut scrapes) = (Tally::default(), 1, 0);
    while scrapes < most {
        let mut is_reached = false;
        let here = if step(nth) == nth + 1 { errors } else { &errors[scrapes % errors.len()..][..1] };
        for error in here {
            is_reached |= once(&mut tapster, call, error, nth, &mut tally)?;
            scrapes += 1;
        }
        if !is_reached {
            break;
        }
        nth = step(nth);
    }
    assert!(nth > 1, "no call of {call} was reached");
    let Tally { failed, down, whole, ended } = tally;
    Ok(format!(
        "{scrapes} scrapes up to call {nth}: {failed} failed, {down} had probes down, {whole} were whole, {ended} ended it with a sentence"
    ))
}
