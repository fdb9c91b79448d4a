//! What several processors count in one row is all there.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]

mod support;

use std::{fs, thread};
use support::{
    cases::{Cases, Outcome, Skip},
    exporter::Tapster,
    metrics::whole,
};

const PROBES: &str = "probes:
  - name: shared
    rows: shared
    at: 'rawtracepoint:raw_syscalls:sys_enter'
    where: args.id == NUMBER && pid == PROCESS
    labels: { process: pid }
    metrics: [{ counter: shared_calls_total, help: x }]
  - name: own
    rows: per_cpu
    at: 'rawtracepoint:raw_syscalls:sys_enter'
    where: args.id == NUMBER && pid == PROCESS
    labels: { process: pid }
    metrics: [{ counter: own_calls_total, help: x }]
";

/// Processors that count in one row do not undo what others count there.
fn nothing_is_lost() -> Outcome {
    const CALLS: u64 = 300_000;
    let threads = u64::try_from(thread::available_parallelism().map_or(1, usize::from)).unwrap().min(8);
    if threads < 2 {
        return Err(Skip("one processor has nobody to share with".into()));
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("probes.yaml");
    let probes = PROBES
        .replace("NUMBER", &libc::SYS_getppid.to_string())
        .replace("PROCESS", &std::process::id().to_string());
    fs::write(&file, probes).unwrap();
    let tapster = Tapster::start(&["--strict", "-c", file.to_str().unwrap()]);
    let callers: Vec<_> = (0..threads)
        .map(|_| {
            thread::spawn(|| {
                for _ in 0..CALLS {
                    // SAFETY: it reads nothing and only returns a number.
                    std::hint::black_box(unsafe { libc::syscall(libc::SYS_getppid) });
                }
            })
        })
        .collect();
    for caller in callers {
        caller.join().unwrap();
    }
    let metrics = tapster.scrape();
    for family in ["tapster_shared_calls_total", "tapster_own_calls_total"] {
        assert_eq!(whole(metrics.sum(family, &[])), threads * CALLS, "{family}");
    }
    assert_eq!(whole(metrics.sum("tapster_probe_dropped_total", &[])), 0);
    assert_eq!(whole(metrics.sum("tapster_probe_missed_total", &[])), 0);
    Ok(format!("{} calls on {threads} processors", threads * CALLS))
}

#[test]
fn processors_share_a_row() {
    let Some(mut cases) = Cases::as_root("rows") else {
        return;
    };
    cases.run("a row of all processors", nothing_is_lost);
    cases.finish();
}
