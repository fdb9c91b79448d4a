//! Rows of shipped probes where there are many processors, and that what several processors count in one row is all there, but for
//! what the kernel leaves out and tells.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]
#![allow(clippy::unnecessary_wraps, reason = "cases are alike")]

use tapster_testing as support;

use serde_json::Value;
use std::{fs, os::unix::fs::symlink, thread, time::Duration};
use support::{
    cases::{Cases, Outcome, Skip},
    command::{output, text, tool},
    exporter::{Tapster, binary, within},
    metrics::whole,
};

/// What `check` says of shipped probes on a host that may bring up so many processors: how many share a row of each, and how much
/// memory each takes, KiB.
fn checked(cpus: u32) -> Vec<(String, u32, u64)> {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join("devices/system/cpu")).unwrap();
    fs::write(directory.path().join("devices/system/cpu/possible"), format!("0-{}\n", cpus - 1)).unwrap();
    symlink("/sys/kernel", directory.path().join("kernel")).unwrap();
    let probes = "block_io,block_request,raid_member,sched,syscalls,syscall_duration";
    let mut command = binary();
    command.args(["check", "--offline", "--probes", probes, "--path.sysfs"]).arg(directory.path());
    let mut found: Vec<(String, u32, u64)> = Vec::new();
    for line in text(&mut command).lines() {
        if let Some(shared) = line.trim().strip_prefix("rows are shared by ") {
            let count = shared.strip_suffix(" processors each").unwrap();
            found.last_mut().unwrap().1 = count.parse().unwrap();
        } else if let Some((before, _)) = line.split_once(" of kernel memory") {
            let name = line.split_whitespace().next().unwrap().to_owned();
            let (rest, unit) = before.rsplit_once(' ').unwrap();
            let amount: u64 = rest.rsplit(' ').next().unwrap().parse().unwrap();
            found.push((name, 1, if unit == "MiB" { amount << 10 } else { amount }));
        }
    }
    found
}

/// What is counted often is in rows of each processor, also on large hosts, and where there is no room for that, a few of them
/// share one. Memory stays within what is said of it.
fn many_processors() -> Outcome {
    let mut figures = Vec::new();
    for cpus in [2, 8, 32, 128] {
        let found = checked(cpus);
        assert_eq!(found.len(), 9, "{found:?}");
        for (name, shared_by, kib) in &found {
            let most = match name.as_str() {
                "sched_run_queue" | "sched_switches" | "sched_migrations" | "syscalls" => 1,
                "syscall_duration" => cpus.div_ceil(32),
                _ => cpus.div_ceil(4),
            };
            assert!(*shared_by <= most, "{name}: a row for {shared_by} of {cpus} processors");
            assert!(*kib <= 30 << 10, "{name}: {kib} KiB for {cpus} processors");
            if name.starts_with("block") || name == "sched_off_cpu" {
                figures.push(format!("{name} on {cpus}: {shared_by}, {kib} KiB"));
            }
        }
    }
    Ok(figures.join("; "))
}

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

/// Runs that the kernel left out of the programs whose names begin so, as it tells `bpftool`.
fn left_out(name: &str) -> Result<u64, Skip> {
    let output = output(tool("bpftool")?.args(["-j", "prog", "show"]));
    let list: Vec<Value> = serde_json::from_str(&String::from_utf8_lossy(&output.stdout)).unwrap_or_default();
    let own = list.iter().filter(|program| program["name"].as_str().is_some_and(|own| own.starts_with(name)));
    Ok(own.filter_map(|program| program["recursion_misses"].as_u64()).sum())
}

/// Interrupts free memory, too: one that comes while the program runs finds it running, and the kernel leaves that run out.
fn what_is_left_out_is_told() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("probes.yaml");
    let name = format!("f{}", std::process::id());
    let probes = format!(
        "probes:
  - name: {name}
    at: 'rawtracepoint:kmem:kmem_cache_free'
    labels: {{ stack: {{ value: kstack(16), as: kstack }} }}
    metrics: [{{ counter: frees_total, help: x }}]
"
    );
    fs::write(&file, probes).unwrap();
    let tapster = Tapster::start(&["--strict", "-c", file.to_str().unwrap()]);
    left_out(&name)?;
    let told = || whole(tapster.scrape().sum("tapster_probe_missed_total", &[("probe", &name)]));
    let free_memory = || (0..1000).for_each(|_| drop(fs::read_dir("/proc/self/task")));
    let is_left_out = || {
        free_memory();
        left_out(&name).is_ok_and(|left_out| left_out > 0)
    };
    within(Duration::from_mins(1), is_left_out).expect("no interrupt came while the program ran");
    let (least, own, most) = (left_out(&name)?, told(), left_out(&name)?);
    assert!((least..=most).contains(&own), "{own}, and by the kernel {least} to {most}");
    Ok(format!("{own} runs"))
}

#[test]
fn rows_are_of_each_processor_or_of_few() {
    let Some(mut cases) = Cases::as_root("rows") else {
        return;
    };
    cases.run("shipped probes on many processors", many_processors);
    cases.run("a row of all processors", nothing_is_lost);
    cases.run("what the kernel leaves out", what_is_left_out_is_told);
    cases.finish();
}
