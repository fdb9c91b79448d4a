//! Probes as a site writes them, `tests/probes`: each compiles where there are types, passes the verifier where it may
//! be asked, and a few count what a program does that counts for itself.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]

use tapster_testing as support;

use std::{
    fs::{self, File},
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};
use support::{
    cases::{Cases, Outcome, Skip},
    exporter::{Tapster, binary},
    fixture,
    metrics::{Metrics, whole},
};

const SLEEPS: u32 = 25;
const SLEEP: Duration = Duration::from_millis(8);
const CHILDREN: u64 = 12;

fn readable(path: &str) -> Result<(), Skip> {
    File::open(path).map(drop).map_err(|error| Skip(format!("{path}: {error}")))
}

fn privileged() -> Result<(), Skip> {
    support::command::root()?;
    readable("/sys/kernel/btf/vmlinux")?;
    readable("/sys/kernel/tracing/available_events")
}

/// Probes of a file, counted without the program under test.
fn declared(path: &Path) -> usize {
    fs::read_to_string(path).unwrap().lines().filter(|line| line.starts_with("  - name: ")).count()
}

/// `tapster check` on files; its answer has a line for each probe with its state behind the name.
fn check(files: &[PathBuf], more: &[&str], state: &str) -> usize {
    let mut command = binary();
    command.arg("check").args(more);
    for file in files {
        command.arg("-c").arg(file);
    }
    let output = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stderr}\n{stdout}");
    let lines = stdout.lines().filter(|line| line.contains(" instructions, "));
    lines.inspect(|line| assert_eq!(line.split_whitespace().nth(1), Some(state), "{line}")).count()
}

/// Compiling needs types and formats of tracepoints, but no privilege beyond reading them.
fn compiles() -> Outcome {
    readable("/sys/kernel/btf/vmlinux")?;
    readable("/sys/kernel/tracing/available_events")?;
    let files = fixture::yaml_files("probes");
    let count = check(&files, &["--offline"], "compiled");
    Ok(format!("{count} probes of {} files", files.len()))
}

fn verifies() -> Outcome {
    privileged()?;
    let mut sum = 0;
    for file in fixture::yaml_files("probes") {
        let count = check(std::slice::from_ref(&file), &[], "ok");
        // A probe with a variant for older kernels stands twice.
        assert!(count <= declared(&file) && count + 1 >= declared(&file), "{}: {count}", file.display());
        sum += count;
    }
    assert!(sum >= 45, "{sum}");
    Ok(format!("{sum} probes"))
}

/// The numbers of the program itself.
#[derive(Debug, Default)]
struct Truth {
    slept: Duration,
    longest: Duration,
}

/// What a program does that is called `name`; a thread's name is what probes see as `comm`.
fn program(name: &str, directory: &Path) -> Truth {
    let directory = directory.to_owned();
    let body = move || {
        let mut truth = Truth::default();
        for _ in 0..SLEEPS {
            let time = libc::timespec { tv_sec: 0, tv_nsec: SLEEP.subsec_nanos().into() };
            let begun = Instant::now();
            // SAFETY: the time outlives the call, and nothing is asked back.
            let result = unsafe { libc::syscall(libc::SYS_nanosleep, &raw const time, 0) };
            let took = begun.elapsed();
            assert_eq!(result, 0);
            truth.slept += took;
            truth.longest = truth.longest.max(took);
        }
        for _ in 0..CHILDREN {
            assert!(Command::new(directory.join("site_child")).status().unwrap().success());
        }
        let (there, missing) = (directory.join("there"), directory.join("missing"));
        for _ in 0..3 {
            assert!(File::open(&missing).is_err());
        }
        let mut file = File::options().write(true).create(true).truncate(false).open(&there).unwrap();
        for size in [10, 5000, 300, 299] {
            assert_eq!(file.write(&vec![b'x'; size]).unwrap(), size);
        }
        for _ in 0..2 {
            assert_eq!(file.seek(SeekFrom::End(-5)).unwrap(), 5604);
        }
        // SAFETY: it reads no memory of ours, and fails.
        assert_eq!(unsafe { libc::lseek(-1, 7, libc::SEEK_SET) }, -1);
        for _ in 0..5 {
            // SAFETY: it only returns a number.
            let (process, thread) = (std::process::id(), unsafe { libc::gettid() });
            // SAFETY: it reads no memory of ours; the signal is ignored.
            assert_eq!(unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGURG) }, 0);
        }
        truth
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(body).unwrap().join().unwrap()
}

/// The file of live probes with the names of this run.
fn live_file(directory: &Path, name: &str, child: &str) -> PathBuf {
    let text = fs::read_to_string(fixture::file("probes/live.yaml")).unwrap();
    let text = text
        .replace("\"site_program\"", &format!("\"{name}\""))
        .replace("\"site_child\"", &format!("\"{child}\""))
        .replace("args.id == 35", &format!("args.id == {}", libc::SYS_nanosleep));
    let path = directory.join("live.yaml");
    fs::write(&path, text).unwrap();
    path
}

fn live() -> Outcome {
    privileged()?;
    // Paths are labels here, of which 64 bytes are kept.
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    // At most 15 bytes are kept of a name.
    let name = format!("site_{}", std::process::id());
    let child = directory.path().join("site_child");
    fs::copy("/bin/true", &child).map_err(|error| Skip(format!("/bin/true: {error}")))?;
    let file = live_file(directory.path(), &name, "site_child");
    let tapster = Tapster::start(&["-c", file.to_str().unwrap(), "--strict"]);
    let truth = program(&name, directory.path());
    let metrics = tapster.scrape();
    let count = |family: &str, labels: &[(&str, &str)]| whole(metrics.sum(family, labels));

    assert_eq!(count("tapster_live_forks_total", &[]), CHILDREN, "forks");
    assert_eq!(count("tapster_live_execs_total", &[("file", child.to_str().unwrap())]), CHILDREN, "execs");
    sleeps(&metrics, &truth);

    let (there, missing) = (directory.path().join("there"), directory.path().join("missing"));
    let opens = |path: &Path, mode: &str, result: &str| {
        count(
            "tapster_live_opens_total",
            &[("file", path.to_str().unwrap()), ("mode", mode), ("result", result)],
        )
    };
    assert_eq!(opens(&missing, "read", "ENOENT"), 3);
    assert_eq!(opens(&there, "write", "ok"), 1);

    assert_eq!(count("tapster_live_written_bytes_total", &[]), 5609);
    assert_eq!(count("tapster_live_last_write_bytes", &[]), 299);
    assert_eq!(count("tapster_live_largest_write_bytes", &[]), 5000);
    let sizes = metrics.histogram("tapster_live_write_bytes", &[]);
    assert_eq!(sizes.buckets, [(10.0, 1), (300.0, 2), (4096.0, 0), (f64::INFINITY, 1)]);
    assert_eq!(whole(sizes.sum), 5609);
    let steps = metrics.histogram("tapster_live_write_lengths", &[]);
    assert_eq!(steps.buckets, [(0.0, 0), (100.0, 1), (200.0, 0), (300.0, 2), (f64::INFINITY, 1)]);

    let seeks = |offset: &str, negative: &str, whence: &str| {
        count("tapster_live_seeks_total", &[("offset", offset), ("negative", negative), ("whence", whence)])
    };
    assert_eq!(seeks("-5", "0", "0x2"), 2);
    assert_eq!(seeks("7", "1", "0x0"), 1);
    // SI_TKILL; the signal's default is to be ignored.
    let signals = [("signal", "23"), ("code", "-6"), ("result", "ignored")];
    assert_eq!(
        count("tapster_live_signals_total", &signals),
        5,
        "{:?}",
        metrics.values("tapster_live_signals_total", &[], "code")
    );

    for reason in ["max_series", "max_inflight", "busy", "fault"] {
        assert_eq!(count("tapster_probe_dropped_total", &[("reason", reason)]), 0, "{reason}");
    }
    Ok(format!(
        "{SLEEPS} sleeps of {:.3} s by the program and {:.3} s by the probe",
        truth.slept.as_secs_f64(),
        metrics.sum("tapster_live_sleep_seconds_sum", &[])
    ))
}

/// A sleep takes what was asked at least, and inside the kernel less than its caller sees.
fn sleeps(metrics: &Metrics, truth: &Truth) {
    let sleeps = metrics.histogram("tapster_live_sleep_seconds", &[]);
    assert_eq!(sleeps.count(), u64::from(SLEEPS));
    let (least, most) = ((SLEEP * SLEEPS).as_secs_f64(), truth.slept.as_secs_f64());
    assert!(least < sleeps.sum && sleeps.sum < most, "{least} < {} < {most}", sleeps.sum);
    // Both bounds are the story of one call: an entry and an exit apart. A loaded host may stop it in between.
    assert!(most - sleeps.sum < 0.1 * most + 0.01, "{} of {most}", sleeps.sum);
    let below: u64 =
        sleeps.buckets.iter().filter(|(bound, _)| *bound < SLEEP.as_secs_f64()).map(|(_, count)| count).sum();
    assert_eq!(below, 0, "{:?}", sleeps.buckets);
    let longest = metrics.sum("tapster_live_sleep_longest_seconds", &[]);
    assert!(
        SLEEP.as_secs_f64() < longest && longest <= truth.longest.as_secs_f64(),
        "{longest} of {:?}",
        truth.longest
    );
}

#[test]
fn probes_of_a_site() {
    let mut cases = Cases::new("site");
    cases.run("compile", compiles);
    cases.run("verify", verifies);
    cases.run("live", live);
    cases.finish();
}
