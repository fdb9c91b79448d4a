//! The shipped probes of functions and system calls, as they are shipped but for the file that they attach to: a copy of
//! the library or program that this test made, which nothing else on the host uses. What they count is compared with
//! what `strace`, `OpenSSL`, `PostgreSQL`, `MariaDB` and a program of our own say they did.
//!
//! Those of file systems and of the page cache need kprobes: they are in `tests/guest`.
#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]
#![allow(clippy::unnecessary_wraps, reason = "cases are alike")]

#[path = "library/databases.rs"]
mod databases;
#[path = "library/tls.rs"]
mod tls;

use tapster_testing as support;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    time::Duration,
};
use support::{
    cases::{Cases, Outcome, Skip, say},
    command::{root, text, tool},
    exporter::{Tapster, binary, within},
    fixture,
    metrics::{Metrics, whole},
};

/// A process that is ended when dropped.
struct Server(Child);

impl Server {
    /// Waits until it ends by itself.
    fn finish(&mut self) -> ExitStatus {
        let ended = within(Duration::from_mins(1), || self.0.try_wait().unwrap().is_some());
        assert!(ended.is_some(), "it does not end");
        self.0.wait().unwrap()
    }

    /// Asks it to end as a service is asked, and waits.
    fn terminate(&mut self) {
        let pid = i32::try_from(self.0.id()).unwrap();
        // SAFETY: it is a child that was not waited for, so the number is still its own.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        self.finish();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// A directory that all users may enter: databases do not run as root.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

/// A library of this host, copied, with the name that programs ask for; and the directory that it is in.
fn copied(name: &str, directory: &Path) -> Result<PathBuf, Skip> {
    let machine = format!("{}-linux-gnu", std::env::consts::ARCH);
    let places = ["/lib", "/usr/lib", "/lib64", "/usr/lib64"];
    let found = places
        .iter()
        .flat_map(|place| [Path::new(place).join(&machine).join(name), Path::new(place).join(name)])
        .find(|path| path.is_file())
        .ok_or_else(|| Skip(format!("there is no `{name}`")))?;
    let copy = directory.join(name);
    fs::copy(found, &copy).unwrap();
    Ok(copy)
}

/// Runs probes of the shipped file; `from` stands there, and `to` is attached to instead.
fn start(probes: &str, from: &str, to: &Path, directory: &Path) -> Tapster {
    let shipped = fs::read_to_string(fixture::file("../config/probes/functions.yaml")).unwrap();
    let probe = format!("probe:{from}:");
    let (plain, entry) = (format!("function: {from}:"), format!("u{probe}"));
    assert!(shipped.contains(&plain) || shipped.contains(&entry), "`{from}` is in no shipped probe");
    let to = to.display();
    let changed = shipped
        .replace(&plain, &format!("function: {to}:"))
        .replace(&entry, &format!("uprobe:{to}:"))
        .replace(&format!("uret{probe}"), &format!("uretprobe:{to}:"));
    let file = directory.join("functions.yaml");
    fs::write(&file, changed).unwrap();
    Tapster::start(&["--strict", "-c", file.to_str().unwrap(), "--probes", probes])
}

/// Nothing was lost.
fn assert_whole(metrics: &Metrics) {
    for name in ["tapster_probe_dropped_total", "tapster_probe_missed_total"] {
        assert_eq!(whole(metrics.sum(name, &[])), 0, "{name}");
    }
}

fn program(directory: &Path) -> Result<PathBuf, Skip> {
    let program = directory.join("library");
    text(tool("cc")?.args(["-O1", "-o"]).arg(&program).arg(fixture::file("programs/library.c")));
    Ok(program)
}

/// Numbers of the lines that begin with `name`.
fn numbers(output: &str, name: &str) -> Vec<Vec<i64>> {
    let lines = output.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    lines.map(|line| line.split(' ').map(|word| word.parse().unwrap()).collect()).collect()
}

#[expect(clippy::cast_precision_loss, reason = "under a minute")]
fn seconds(ns: i64) -> f64 {
    ns as f64 / 1e9
}

/// One line of `strace -c`: calls, and how many of them failed.
fn strace_row(table: &str, name: &str) -> (u64, u64) {
    let row = table.lines().find(|line| line.split_whitespace().next_back() == Some(name));
    let words: Vec<&str> =
        row.unwrap_or_else(|| panic!("no {name} in\n{table}")).split_whitespace().collect();
    let errors = if words.len() > 5 { words[4].parse().unwrap() } else { 0 };
    (words[3].parse().unwrap(), errors)
}

fn system_calls() -> Outcome {
    let directory = directory();
    let program = program(directory.path())?;
    let table = directory.path().join("strace");
    let mut strace = tool("strace")?;
    let tapster = Tapster::start(&["--strict", "--probes", "syscalls,syscall_duration"]);
    let before = tapster.scrape();
    let output = text(strace.args(["-c", "-o"]).arg(&table).arg(&program).arg("syscalls"));
    let after = tapster.scrape();
    let table = fs::read_to_string(table).unwrap();
    let count = |name: &str, error: &str| {
        after.since(&before, "tapster_syscalls_total", &[("syscall", name), ("error", error)])
    };
    let mut figures = Vec::new();
    for (name, errors) in [
        ("sched_get_priority_max", "EINVAL"),
        ("sched_rr_get_interval", "EINVAL"),
        ("getsid", "ESRCH"),
        ("acct", "ENOENT"),
    ] {
        let (calls, failed) = strace_row(&table, name);
        assert_eq!((count(name, "ok"), count(name, errors)), (calls - failed, failed), "{name}");
        let all = after.since(&before, "tapster_syscalls_total", &[("syscall", name)]);
        assert_eq!(all, calls, "{name} with any error");
        let timed = after.histogram_since(&before, "tapster_syscall_duration_seconds", &[("syscall", name)]);
        assert_eq!(timed.count(), calls, "{name} in time");
        figures.push(format!("{name} {calls} of which {failed} {errors}"));
    }
    assert_eq!(count("unknown", "ENOSYS"), 40, "what no kernel has");
    // Others on this host sleep too, but hardly five times within the same bucket and all in that while.
    let sleeps: Vec<i64> = numbers(&output, "clock_nanosleep").into_iter().flatten().collect();
    let slept =
        after.histogram_since(&before, "tapster_syscall_duration_seconds", &[("syscall", "clock_nanosleep")]);
    let own = sleeps.iter().filter(|ns| **ns >= 20_000_000).count();
    assert_eq!(own, 5, "{sleeps:?}");
    assert!(slept.count() >= 5 && slept.sum >= 0.1, "{} sleeps of {} s", slept.count(), slept.sum);
    assert_whole(&after);
    Ok(figures.join(", "))
}

/// Calls of 32 bits have other numbers: `int 0x80` of a program of 64 bits, beside the same number of 64 bits.
fn compat_calls() -> Outcome {
    if std::env::consts::ARCH != "x86_64" {
        return Err(Skip("`int 0x80` is of x86-64".into()));
    }
    let directory = directory();
    let program = program(directory.path())?;
    if !Command::new(&program).arg("compat").status().unwrap().success() {
        return Err(Skip("this kernel takes no calls of 32 bits".into()));
    }
    let table = directory.path().join("strace");
    let mut strace = tool("strace")?;
    let tapster = Tapster::start(&["--strict", "--probes", "syscalls,syscall_duration"]);
    let before = tapster.scrape();
    text(strace.args(["-c", "-o"]).arg(&table).arg(&program).arg("compat"));
    let after = tapster.scrape();
    let table = fs::read_to_string(table).unwrap();
    let count = |name: &str, error: &str| {
        after.since(&before, "tapster_syscalls_total", &[("syscall", name), ("error", error)])
    };
    let mut figures = Vec::new();
    for (name, label, error) in [("getpgid", "compat_132", "ESRCH"), ("utime", "utime", "ENOENT")] {
        let (calls, failed) = strace_row(&table, name);
        assert_eq!((count(label, "ok"), count(label, error)), (calls - failed, failed), "{label}\n{table}");
        let timed = after.histogram_since(&before, "tapster_syscall_duration_seconds", &[("syscall", label)]);
        assert_eq!(timed.count(), calls, "{label} in time");
        figures.push(format!("{label} {calls} of which {failed} {error}"));
    }
    assert_whole(&after);
    Ok(figures.join(", "))
}

/// Both probes stand at raw tracepoints: no record is written for them.
fn raw_tracepoints() -> Outcome {
    let checked = text(binary().args(["check", "--probes", "syscalls,syscall_duration"]));
    let points: Vec<&str> =
        checked.lines().filter_map(|line| line.trim().split_once(" by ")).map(|(at, _)| at).collect();
    let [enter, exit] = ["enter", "exit"].map(|end| format!("rawtracepoint:raw_syscalls:sys_{end}"));
    assert_eq!(points, [&*exit, &*enter, &*exit], "{checked}");
    Ok(points.join(", "))
}

fn malloc() -> Outcome {
    let directory = directory();
    let program = program(directory.path())?;
    let library = copied("libc.so.6", directory.path())?;
    let tapster = start("malloc", "libc.so.6", &library, directory.path());
    let mut command = Command::new(&program);
    let output = text(command.arg("malloc").env("LD_LIBRARY_PATH", directory.path()));
    let own = numbers(&output, "malloc").remove(0).into_iter().map(|number| u64::try_from(number).unwrap());
    let own: Vec<u64> = own.collect();
    let metrics = tapster.scrape();
    let labels = [("comm", "library_malloc")];
    // The one that could not be served is a call, too.
    assert_eq!(metrics.histogram("tapster_malloc_duration_seconds", &labels).count(), own[0] + own[2]);
    let sizes = metrics.histogram("tapster_malloc_size_bytes", &labels);
    assert_eq!(whole(sizes.sum) - (1 << 47), own[1], "bytes");
    // Sizes go round from 16 to 1015.
    for (bound, count) in [(16.0, 20), (32.0, 16 * 20), (512.0, 256 * 20), (1024.0, 503 * 20)] {
        let bucket = sizes.buckets.iter().find(|(upper, _)| (*upper - bound).abs() < 0.5);
        assert_eq!(bucket.map(|(_, count)| *count), Some(count), "up to {bound} bytes");
    }
    assert_eq!(whole(metrics.sum("tapster_malloc_failures_total", &labels)), own[2]);
    assert_whole(&metrics);
    Ok(format!("{} calls, {} bytes, {} refused", own[0] + own[2], own[1], own[2]))
}

fn getaddrinfo() -> Outcome {
    let directory = directory();
    let program = program(directory.path())?;
    let library = copied("libc.so.6", directory.path())?;
    let tapster = start("getaddrinfo", "libc.so.6", &library, directory.path());
    let mut command = Command::new(&program);
    let output = text(command.arg("getaddrinfo").env("LD_LIBRARY_PATH", directory.path()));
    let own = numbers(&output, "getaddrinfo");
    let metrics = tapster.scrape();
    let mut figures = Vec::new();
    for (error, name) in [(0, "ok"), (-2, "EAI_NONAME")] {
        let own_ns: Vec<i64> = own.iter().filter(|line| line[0] == error).map(|line| line[1]).collect();
        let labels = [("comm", "library"), ("error", name)];
        let seen = metrics.histogram("tapster_getaddrinfo_duration_seconds", &labels);
        assert_eq!(seen.count(), u64::try_from(own_ns.len()).unwrap(), "{name}");
        let sum = own_ns.iter().sum();
        assert!(
            0.0 < seen.sum && seen.sum < seconds(sum),
            "{name}: {} s, the program says {sum} ns",
            seen.sum
        );
        figures.push(format!("{} {name}", seen.count()));
    }
    assert_eq!(metrics.histogram("tapster_getaddrinfo_duration_seconds", &[]).count(), 500);
    assert_whole(&metrics);
    Ok(figures.join(", "))
}

/// Everything that is shipped is named in the documentation, and off unless it is asked for.
#[expect(clippy::unnecessary_wraps, reason = "as the other cases")]
fn documented() -> Outcome {
    let page = fs::read_to_string(fixture::file("../docs/metrics.md")).unwrap();
    let shipped = tapster::config::library().unwrap();
    let own: Vec<_> = shipped.iter().filter(|probe| probe.file.name.ends_with("functions.yaml")).collect();
    for probe in &own {
        assert!(!probe.enabled, "`{}` is on", probe.name.value);
        assert!(
            page.contains(&format!("`{}`", probe.name.value)),
            "docs/metrics.md lacks `{}`",
            probe.name.value
        );
        for (name, _) in probe.families() {
            let name = format!("`tapster_{}`", name.value);
            assert!(page.contains(&name), "docs/metrics.md lacks {name}");
        }
    }
    Ok(format!("{} probes", own.len()))
}

#[test]
fn what_the_library_counts_happened() {
    let mut cases = Cases::new("library");
    cases.run("documented", documented);
    if let Err(Skip(reason)) = root() {
        say(format_args!("library: skipped: {reason}"));
        return cases.finish();
    }
    cases.run("system calls, beside strace", system_calls);
    cases.run("system calls of 32 bits, beside strace", compat_calls);
    cases.run("system calls at raw tracepoints", raw_tracepoints);
    cases.run("malloc", malloc);
    cases.run("getaddrinfo", getaddrinfo);
    cases.run("TLS, the side of the server", tls::server);
    cases.run("TLS, the side of the client", tls::client);
    cases.run("PostgreSQL", databases::postgresql);
    cases.run("MariaDB", databases::mariadb);
    cases.finish();
}
