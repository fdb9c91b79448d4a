//! Programs that begin, end, are killed and are refused: what a program did itself is never hidden, so counts are equal.

use crate::{
    Contained, Window, assert_between,
    memory::LimitedMemory,
    numbers, program,
    support::{
        cases::{Cases, Outcome, Skip},
        command::text,
        exporter::Tapster,
        trace::Trace,
    },
    vmstat,
};
use std::{
    fs,
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    process::Command,
};

fn execs() -> Outcome {
    const PROGRAMS: u64 = 25;
    let contained = Contained::new()?;
    let tapster = contained.start("process_execs");
    let script = format!("i=0; while [ $i -lt {PROGRAMS} ]; do /bin/true; i=$((i + 1)); done");
    let (window, _) = Window::of(&tapster, || text(&mut contained.shell(&script)));
    let found = window.count("tapster_process_execs_total", &contained.labels(&[]));
    assert_eq!(found, PROGRAMS);
    Ok(format!("{found} in a container"))
}

fn exits() -> Outcome {
    const TIMES: u64 = 12;
    let directory = tempfile::tempdir().unwrap();
    let program = program("ends", directory.path())?;
    let tapster = Tapster::start(&["--strict", "--probes", "process_exits,process_killed"]);
    let (window, _) = Window::of(&tapster, || text(Command::new(program).args(["ends", &TIMES.to_string()])));
    for code in ["77", "78"] {
        let labels = [("signal", "none"), ("code", code)];
        assert_eq!(window.count("tapster_process_exits_total", &labels), TIMES, "code {code}");
    }
    for signal in ["SIGKILL", "SIGUSR2", "SIGSEGV"] {
        let labels = [("comm", "ends-by-signal"), ("signal", signal)];
        assert_eq!(window.count("tapster_process_killed_total", &labels), TIMES, "{signal}");
        let by_signal = window.count("tapster_process_exits_total", &[("signal", signal), ("code", "0")]);
        assert!(by_signal >= TIMES, "{signal}: {by_signal}");
    }
    assert_eq!(window.count("tapster_process_killed_total", &[("comm", "ends-by-signal")]), 3 * TIMES);
    Ok(format!("{TIMES} each of two codes, one of them with threads, and of three signals"))
}

fn lifetimes() -> Outcome {
    const LIVES: u64 = 12;
    let directory = tempfile::tempdir().unwrap();
    let program = program("ends", directory.path())?;
    let trace = Trace::of(&["sched/sched_process_exit"])?;
    let tapster = Tapster::start(&["--strict", "--probes", "process_lifetime"]);
    let (window, _) =
        Window::of(&tapster, || text(Command::new(program).args(["lives", &LIVES.to_string(), "750"])));
    let trace = trace.stop();
    let found = window.histogram("tapster_process_lifetime_seconds", &[]);
    // Threads and threads of the kernel are in the trace too.
    let others = trace.iter().filter(|event| window.outer.contains(&event.ns)).count() as u64 - LIVES;
    assert_between("lives", found.count(), (LIVES, LIVES + others), 0);
    let own = found.buckets.iter().find(|(bound, _)| (*bound - 1.0).abs() < 1e-9).unwrap().1;
    assert_between("lives of three quarters of a second", own, (LIVES, LIVES + others), 0);
    assert!(found.sum >= 0.75 * LIVES as f64, "{} s", found.sum);
    Ok(format!("{LIVES} of 0.75 s, {} in all", found.count()))
}

fn oom_kills() -> Outcome {
    const KILLS: u64 = 4;
    let memory = LimitedMemory::of_mib(30)?;
    let contained = Contained::new()?;
    let directory = tempfile::tempdir().unwrap();
    let program = program("ends", directory.path())?;
    let tapster = contained.start("oom_kills");
    let before = vmstat("oom_kill");
    let (window, ()) = Window::of(&tapster, || {
        for _ in 0..KILLS {
            let enter =
                format!("echo $$ >{} && exec {} greedy 300", memory.procs().display(), program.display());
            let status = contained.shell(&enter).status().unwrap();
            assert!(!status.success(), "it got 300 MiB where there are 30");
        }
    });
    let labels = contained.labels(&[("comm", "ends-greedy")]);
    let found = window.count("tapster_oom_kills_total", &labels);
    assert_eq!((found, found, found), (KILLS, memory.kills(), vmstat("oom_kill") - before));
    Ok(format!("{found}, as the cgroup and /proc/vmstat have it"))
}

fn refusals() -> Outcome {
    const REFUSALS: u64 = 300;
    let directory = tempfile::tempdir().unwrap();
    let program = program("ends", directory.path())?;
    let tapster = Tapster::start(&["--strict", "--probes", "capability_refusals"]);
    let (window, said) =
        Window::of(&tapster, || text(Command::new(program).args(["refused", &REFUSALS.to_string()])));
    assert_eq!(numbers(&said, "refused")[0][0], 300, "{said}");
    let labels = [("comm", "ends-refused"), ("capability", "CAP_SYS_CHROOT")];
    assert_eq!(window.count("tapster_capability_refusals_total", &labels), REFUSALS);
    Ok(format!("{REFUSALS} of CAP_SYS_CHROOT"))
}

/// Lines of the kernel's log, from where it is read on.
fn log_lines(log: &mut fs::File) -> Vec<String> {
    let mut lines = Vec::new();
    let mut record = [0; 8192];
    // A read is a record, and an error when there is no more.
    while let Ok(size) = log.read(&mut record) {
        let text = String::from_utf8_lossy(&record[..size]).into_owned();
        lines.push(text.split_once(';').unwrap().1.lines().next().unwrap().to_owned());
    }
    lines
}

/// Lines as the kernel writes them, written by this test, and read again from the log.
fn warnings() -> Outcome {
    const KINDS: [(&str, &str); 5] = [
        ("bug", "BUG: "),
        ("warning", "WARNING: "),
        ("oops", "Oops: "),
        ("hung_task", "INFO: task "),
        ("rcu_stall", "INFO: rcu"),
    ];
    const NAMED: [&str; 6] = [
        "Oops: [123]: segfault at 0 ip 0000",
        "traps: BUG: [4194304] trap invalid opcode ip:0",
        "WARNING: x invoked oom-killer: gfp_mask=0xcc0",
        "CPU: 1 UID: 0 PID: 1234 Comm: BUG: x Not tainted 6.18.0",
        "Out of memory: Killed process 1234 (BUG: x)",
        "oom_reaper: reaped process 1234 (Oops: x)",
    ];
    const LOG: &str = "/dev/kmsg";
    let open =
        |options: &mut fs::OpenOptions| options.open(LOG).map_err(|error| Skip(format!("`{LOG}`: {error}")));
    let mut log = open(fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK))?;
    let tapster = Tapster::start(&["--strict", "--probes", "kernel_warnings"]);
    log.seek(SeekFrom::End(0)).unwrap();
    let (window, ()) = Window::of(&tapster, || {
        // What does not end its line may be continued, and is not shown before.
        let own = KINDS.map(|(_, begins)| format!("{begins}this is a test\n"));
        let more = ["no bug: this is a test\n", "watchdog: BUG: this is a test\n"].map(str::to_owned);
        // Programs that call themselves so.
        let named = NAMED.map(|line| format!("{line}\n"));
        for line in more.iter().chain(&own).chain(&named) {
            fs::OpenOptions::new().write(true).open(LOG).unwrap().write_all(line.as_bytes()).unwrap();
        }
    });
    let lines = log_lines(&mut log);
    assert!(lines.iter().any(|line| line.contains("no bug")), "{lines:#?}");
    assert!(NAMED.iter().all(|named| lines.iter().any(|line| line.contains(named))), "{lines:#?}");
    for (kind, begins) in KINDS {
        let is_named = |line: &&String| NAMED.iter().any(|named| line.contains(named));
        let own = lines.iter().filter(|line| line.contains(begins) && !is_named(line)).count() as u64;
        assert!(own > u64::from(kind == "bug"), "{lines:#?}");
        assert_eq!(
            window.count("tapster_kernel_warnings_total", &[("kind", kind)]),
            own,
            "{kind}: {lines:#?}"
        );
    }
    Ok(format!("{} lines of {}", window.count("tapster_kernel_warnings_total", &[]), lines.len()))
}

pub(crate) fn all(cases: &mut Cases) {
    cases.run("programs started, in a container", execs);
    cases.run("processes that end, by code and signal", exits);
    cases.run("lives of processes, beside the kernel's trace", lifetimes);
    cases.run("kills for want of memory, beside the cgroup's count and /proc/vmstat", oom_kills);
    cases.run("rights that were refused", refusals);
    cases.run("lines of the kernel's log that tell of a fault, beside the log", warnings);
}
