//! Patterns of tracepoints, parts of texts, named structs and texts at entries and returns, against what a thread does itself.

#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]
#![allow(clippy::unnecessary_wraps, reason = "cases are alike")]

use tapster_testing as support;

use std::{
    fs::{self, File},
    os::fd::AsRawFd,
    path::Path,
    process,
    ptr::null_mut,
};
use support::{
    cases::{Cases, Outcome, Skip},
    exporter::{Tapster, binary},
    metrics::whole,
};

/// How often the thread makes each call.
const PPID: u64 = 30;
const PGID: u64 = 20;
const KILLS: u64 = 7;
const TGKILLS: u64 = 5;

/// `NAME` is that of the thread.
const PROBES: &str = r#"
probes:
  - name: entries
    at: "tracepoint:syscalls:sys_enter_{getppid,getpgid,getsid}"
    where: comm == "NAME"
    labels: { call: tracepoint }
    metrics: [{ counter: entries_total, help: x }]
  - name: without
    # The same with one program and without a label.
    at: "tracepoint:syscalls:sys_enter_get{ppid,pgid}"
    where: prefix(comm, "tapster_") && contains(comm, "BEHIND")
    metrics: [{ counter: without_total, help: x }]
  - name: chosen
    at: "tracepoint:syscalls:sys_e*_getp?id"
    where: comm == "NAME" && tracepoint != "sys_enter_getppid"
    labels: { call: tracepoint }
    metrics: [{ counter: chosen_total, help: x }]
  - name: signals
    # `sig` is the second argument of one and the third of the other.
    at: "tracepoint:syscalls:sys_enter_{kill,tgkill}"
    where: comm == "NAME"
    labels: { call: tracepoint, signal: args.sig }
    metrics: [{ counter: signals_total, help: x }]
  - name: calls
    start: { at: "tracepoint:syscalls:sys_enter_get{ppid,pgid}", key: tid, where: comm == "NAME" }
    end: { at: "tracepoint:syscalls:sys_exit_get{ppid,pgid}", key: tid }
    labels: { call: tracepoint }
    metrics: [{ histogram: calls_seconds, help: x, value: duration }]
  - name: named
    at: tracepoint:syscalls:sys_enter_getpgid
    where: comm == "NAME"
    let: { leader: "*curtask.group_leader", sched: leader.se }
    labels: { process: leader.tgid, runs: sched.sum_exec_runtime > 0 }
    metrics: [{ counter: named_total, help: x }]
  - name: opened
    start:
      at: tracepoint:syscalls:sys_enter_openat
      key: tid
      where: comm == "NAME"
      save: { at_entry: "str(args.filename, 64)", name: args.filename }
    end: { at: "tracepoint:syscalls:sys_exit_openat", key: tid }
    labels: { at_entry: start.at_entry, at_return: "str(start.name, 64)" }
    metrics: [{ counter: opened_total, help: x }]
"#;

/// Opens a file by a name that stands in memory that nobody has touched: a page of a file that was mapped and not read.
fn open_by_untouched_name(directory: &Path) -> String {
    let name = directory.join("untouched").to_str().unwrap().to_owned();
    let page = directory.join("page");
    fs::write(&page, format!("{name}\0{}", "\0".repeat(4096))).unwrap();
    let file = File::open(&page).unwrap();
    // SAFETY: a new mapping, of a file that is as long as that.
    let text =
        unsafe { libc::mmap(null_mut(), 4096, libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd(), 0) };
    assert_ne!(text, libc::MAP_FAILED);
    // SAFETY: the mapping has a NUL; there is no file of that name.
    let opened = unsafe { libc::openat(libc::AT_FDCWD, text.cast(), libc::O_RDONLY) };
    assert_eq!(opened, -1);
    // SAFETY: it was mapped above.
    assert_eq!(unsafe { libc::munmap(text, 4096) }, 0);
    name
}

/// The thread's calls; the name of the file that it opened.
fn work(name: &str, directory: &Path) -> String {
    let directory = directory.to_owned();
    let body = move || {
        let call = |times: u64, number: libc::c_long, arguments: [libc::c_long; 3]| {
            let [a, b, c] = arguments;
            for _ in 0..times {
                // SAFETY: they take and return only numbers, and signal 0 is none.
                assert!(unsafe { libc::syscall(number, a, b, c) } >= 0);
            }
        };
        let process = libc::c_long::from(process::id().cast_signed());
        // SAFETY: it only returns a number.
        let thread = libc::c_long::from(unsafe { libc::gettid() });
        call(PPID, libc::SYS_getppid, [0; 3]);
        call(PGID, libc::SYS_getpgid, [0; 3]);
        call(KILLS, libc::SYS_kill, [process, 0, 0]);
        call(TGKILLS, libc::SYS_tgkill, [process, thread, 0]);
        open_by_untouched_name(&directory)
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(body).unwrap().join().unwrap()
}

fn patterns() -> Outcome {
    if !Path::new("/sys/kernel/tracing/events/syscalls/sys_enter_getppid").exists() {
        return Err(Skip("this kernel has no tracepoints of system calls".into()));
    }
    let directory = tempfile::tempdir().unwrap();
    let behind = format!("{:07}", process::id());
    let name = format!("tapster_{behind}");
    let file = directory.path().join("probes.yaml");
    fs::write(&file, PROBES.replace("NAME", &name).replace("BEHIND", &behind[1..])).unwrap();
    let output = binary().arg("check").arg(&file).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    for line in [
        "tracepoint:syscalls:sys_enter_{getppid,getpgid,getsid} by tracepoint, 3 tracepoints",
        "tracepoint:syscalls:sys_enter_{kill,tgkill} by tracepoint, 2 tracepoints",
        "signals  ok        2 programs",
        "entries  ok        1 program,",
    ] {
        assert!(told.contains(line), "{line}:\n{told}");
    }
    let tapster = Tapster::start(&["--strict", "-c", file.to_str().unwrap()]);
    let opened = work(&name, directory.path());
    let metrics = tapster.scrape();
    let count = |family: &str, labels: &[(&str, &str)]| whole(metrics.sum(family, labels));
    let of_call = |family: &str, call: &str| count(family, &[("call", call)]);
    for (call, expected) in
        [("sys_enter_getppid", PPID), ("sys_enter_getpgid", PGID), ("sys_enter_getsid", 0)]
    {
        assert_eq!(of_call("tapster_entries_total", call), expected, "{call}");
    }
    assert_eq!(count("tapster_without_total", &[]), PPID + PGID);
    for (call, expected) in [
        ("sys_enter_getppid", 0),
        ("sys_enter_getpgid", PGID),
        ("sys_exit_getppid", PPID),
        ("sys_exit_getpgid", PGID),
    ] {
        assert_eq!(of_call("tapster_chosen_total", call), expected, "{call}");
    }
    for (call, expected) in [("sys_enter_kill", KILLS), ("sys_enter_tgkill", TGKILLS)] {
        assert_eq!(count("tapster_signals_total", &[("call", call), ("signal", "0")]), expected, "{call}");
    }
    for (call, expected) in [("sys_exit_getppid", PPID), ("sys_exit_getpgid", PGID)] {
        assert_eq!(metrics.histogram("tapster_calls_seconds", &[("call", call)]).count(), expected, "{call}");
    }
    let own = process::id().to_string();
    assert_eq!(count("tapster_named_total", &[("process", &own), ("runs", "1")]), PGID);
    assert_eq!(count("tapster_opened_total", &[("at_entry", ""), ("at_return", &opened)]), 1, "{opened}");
    for reason in ["max_series", "max_inflight", "busy"] {
        assert_eq!(count("tapster_probe_dropped_total", &[("reason", reason)]), 0, "{reason}");
    }
    // What could not be read at the entry, and nothing else.
    assert_eq!(count("tapster_probe_dropped_total", &[("reason", "fault"), ("probe", "opened")]), 1);
    Ok(format!("{PPID}, {PGID}, {KILLS} and {TGKILLS} calls by the names of their tracepoints"))
}

/// Many tracepoints, each with its own link: they are there before the first scrape, and leave nothing behind. Each takes its time to
/// be detached, so these are not all system calls.
fn many_calls() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("probes.yaml");
    let probe = "probes:\n  - name: all\n    at: \"tracepoint:syscalls:sys_enter_g*\"\n    where: pid == PID\n    labels: { call: tracepoint }\n    metrics: [{ counter: all_total, help: x }]\n";
    fs::write(&file, probe.replace("PID", &process::id().to_string())).unwrap();
    let begun = std::time::Instant::now();
    let tapster = Tapster::start(&["--strict", "-c", file.to_str().unwrap()]);
    let attached = begun.elapsed();
    let before = tapster.scrape();
    for _ in 0..PPID {
        // SAFETY: it only returns a number.
        unsafe { libc::getppid() };
    }
    let after = tapster.scrape();
    let counted = after.since(&before, "tapster_all_total", &[("call", "sys_enter_getppid")]);
    assert_eq!(counted, PPID);
    let begun = std::time::Instant::now();
    tapster.signal(libc::SIGTERM);
    assert!(tapster.ended().status.success());
    let detached = begun.elapsed();
    let events = fs::read_to_string("/sys/kernel/tracing/available_events").unwrap_or_default();
    let count = events.lines().filter(|line| line.starts_with("syscalls:sys_enter_g")).count();
    assert!(count > 20, "{count} system calls");
    Ok(format!("{count} tracepoints are there after {attached:?} and gone after {detached:?}"))
}

#[test]
fn tracepoints() {
    let Some(mut cases) = Cases::as_root("tracepoints") else {
        return;
    };
    cases.run("patterns", patterns);
    cases.run("many system calls", many_calls);
    cases.finish();
}
