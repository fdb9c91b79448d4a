//! Patterns of kernel functions: each function's calls in each process are those of the kernel's function tracer.

use crate::{kernel::Kernel, machine::Results};
use std::collections::{BTreeMap, BTreeSet};

/// Calls by process and function, from lines like `dd-84 [000] ..... 12.3: vfs_read <-ksys_read`.
fn traced(trace: &str) -> BTreeMap<(String, String), u64> {
    let mut calls = BTreeMap::new();
    for line in trace.lines().filter(|line| !line.starts_with('#')) {
        let Some((head, call)) = line.split_once(": ") else { continue };
        let pid = head.split(" [").next().and_then(|task| task.trim().rsplit('-').next());
        let (Some(pid), Some(function)) = (pid, call.split_whitespace().next()) else { continue };
        *calls.entry((pid.to_owned(), function.to_owned())).or_insert(0) += 1;
    }
    calls
}

/// Calls by process and function, of processes with these names.
fn traced_of(trace: &str, names: &[&str]) -> BTreeMap<(String, String), u64> {
    let own: Vec<&str> = names
        .iter()
        .flat_map(|name| {
            let tasks = trace.lines().filter_map(move |line| line.trim_start().strip_prefix(name));
            tasks.filter_map(|rest| rest.strip_prefix('-')?.split_whitespace().next())
        })
        .collect();
    // What the compiler has changed is left out, which `check` says.
    let probed = |(pid, function): &(String, String)| own.contains(&pid.as_str()) && !function.contains('.');
    traced(trace).into_iter().filter(|(call, _)| probed(call)).collect()
}

/// Milliseconds that attaching took, by the log.
fn attach_ms(log: &str) -> f64 {
    let rest = log.split("attach_ms=").nth(1).unwrap_or_else(|| panic!("{log}"));
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

/// Both ends of all functions of a file system: as many calls of each in each thread as traced. Kernels without links for
/// many take so many functions only one by one.
fn file_system(kernel: &Kernel, results: &Results) -> String {
    let log = results.text("ext4.log");
    let after = results.metrics("ext4-after.prom");
    if after.find("tapster_probe_up", &[("probe", "ext4"), ("reason", "")]) != Some(1.0) {
        let why = log.lines().find(|line| line.contains("probe is down")).unwrap_or_else(|| panic!("{log}"));
        assert!(
            kernel.release.starts_with("5.") && why.contains("places are too many for this kernel"),
            "{why}"
        );
        return format!("ext4_*: {}", why.split("down: ").last().unwrap_or(why));
    }
    let before = results.metrics("ext4-before.prom");
    let calls = traced_of(results.text("ext4.trace"), &["dd", "fio", "cp", "ls", "rm"]);
    let (mut functions, mut sum) = (BTreeSet::new(), 0);
    for ((tid, function), expected) in &calls {
        let labels = [("func", function.as_str()), ("tid", tid.as_str())];
        let counted = after.histogram_since(&before, "tapster_ext4_seconds", &labels).count();
        assert_eq!(counted, *expected, "calls of {function} in thread {tid}");
        functions.insert(function);
        sum += expected;
    }
    let ways = after.values("tapster_probe_missed_total", &[("probe", "ext4")], "mechanism");
    let mechanism: Vec<String> = BTreeSet::from_iter(ways).into_iter().collect();
    let mechanism = mechanism.join(" and ");
    // One by one they are a tenth of all.
    let (least, least_calls) = if mechanism.contains("session") { (50, 5000) } else { (5, 500) };
    assert!(functions.len() >= least && sum >= least_calls, "{sum} calls of {functions:?}");
    let drops = after.since(&before, "tapster_probe_dropped_total", &[]);
    assert_eq!(drops, 0, "dropped");
    let attach = attach_ms(log);
    // All of them one by one would be minutes.
    assert!(attach < 30_000.0, "time: attached in {attach} ms");
    format!(
        "both ends by {mechanism} attached in {attach} ms, {sum} calls of {} functions as traced",
        functions.len()
    )
}

pub(crate) fn check(kernel: &Kernel, results: &Results) -> String {
    let (before, after) = (results.metrics("before.prom"), results.metrics("after.prom"));
    let trace = results.text("globs.trace");
    // Processes that ended while all three looked, and all but one began then, too.
    let calls = traced_of(trace, &["dd", "ls", "mkdir", "cat", "rm", "ln"]);
    let (mut compared, mut sum) = (BTreeMap::<&str, u64>::new(), 0);
    for ((pid, function), expected) in &calls {
        let labels = [("func", function.as_str()), ("pid", pid.as_str())];
        let entries = after.since(&before, "tapster_entries_total", &labels);
        assert_eq!(entries, *expected, "entries of {function} in process {pid}");
        let whole = after.histogram_since(&before, "tapster_calls_duration_seconds", &labels).count();
        assert_eq!(whole, *expected, "calls of {function} in process {pid}");
        *compared.entry(function).or_default() += expected;
        sum += expected;
    }
    for needed in ["vfs_read", "vfs_write", "vfs_open", "vfs_statx"] {
        assert!(compared.contains_key(needed), "{needed} is not among {compared:?}");
    }
    assert!(compared["vfs_write"] >= 300, "{compared:?}");
    // By name and by number it is the same argument; and of two functions, the first of which jumps to the other, each
    // has its own call, though they share a frame. Some kernels have made one of them, 7.3 comes past neither.
    let synced: Vec<_> = compared.iter().filter(|(function, _)| function.starts_with("vfs_fsync")).collect();
    let typed = synced.len();
    for (function, expected) in synced {
        let of = |same| after.since(&before, "tapster_typed_total", &[("func", function), ("same", same)]);
        assert_eq!((of("1"), of("0")), (*expected, 0), "{function}");
    }
    let drops = after.since(&before, "tapster_probe_dropped_total", &[]);
    assert_eq!(drops, 0, "dropped");
    let check = results.text("check");
    assert!(!trace.contains(".part.") || check.contains("that the compiler changed"), "{check}");
    let mechanism = check.lines().find_map(|line| line.trim().strip_prefix("kprobe:vfs_* by "));
    let mechanism = mechanism.unwrap_or_else(|| panic!("{check}"));
    refusals(results.text("wrong"));
    let many = results.metrics("many.prom");
    let log = results.text("many.log");
    let attach = attach_ms(log);
    let up: Vec<String> = ["many", "pairs"]
        .iter()
        .map(|probe| {
            let is_up = many.find("tapster_probe_up", &[("probe", probe), ("reason", "")]) == Some(1.0);
            let why = log.lines().find(|line| line.contains("probe is down") && line.contains(probe));
            format!("{probe} {}", if is_up { "up" } else { why.unwrap_or("down") })
        })
        .collect();
    let time = |name: &str| results.text(name).trim().parse::<f64>().unwrap();
    format!(
        "{sum} calls of {} functions ({mechanism}) as traced, {typed} of them with typed arguments; {}; {}, attached in {attach} ms, ended in {:.1} s",
        compared.len(),
        file_system(kernel, results),
        up.join(", "),
        time("ended") - time("ending")
    )
}

fn refusals(wrong: &str) {
    let line = |part: &str| wrong.lines().any(|line| line.contains(part));
    assert!(line("functions of this kernel match `*`, and 1000 are taken at most"), "{wrong}");
    assert!(line("narrow the pattern, or set `max_functions: "), "{wrong}");
    assert!(
        line("error: this kernel has no function `vfs_raed`") && line("did you mean `vfs_read`"),
        "{wrong}"
    );
    assert!(line("no function of this kernel matches `vfx_*`") && line("did you mean `vfs_*`"), "{wrong}");
    assert!(line("not every function of `kprobe:vfs_*` has the argument `count`"), "{wrong}");
    assert_eq!(wrong.matches("error: ").count(), 4, "one message each: {wrong}");
}
