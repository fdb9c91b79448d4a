//! Where the time goes when a program does not run: sleeps by programs that know how long and on what they slept, waits
//! for a processor and switches by the kernel's own counts.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]
#![allow(clippy::cast_precision_loss, reason = "samples are f64, as Prometheus keeps them")]

mod support;

use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use support::{
    cases::{Cases, Outcome, Skip, say},
    command::{root, text, tool},
    exporter::Tapster,
    fixture,
    metrics::whole,
    slow::SlowDevice,
    waits::{self, Truths},
};

/// Sleeps of each kind, and how long those take that may be told.
const SLEEPS: &str = "20";
const SLEEP_MS: &str = "50";
/// Programs at a time; nearly all of the time they sleep.
const AT_ONCE: usize = 4;
/// Requests in a second of the slow device.
const PER_SECOND: u32 = 40;

/// Runs a program of one kind to its end, and the line that it says.
fn wait(program: &Path, kind: &str, slow: Option<&SlowDevice>) -> String {
    let mut command = Command::new(program);
    command.args(["--stacks", kind, SLEEPS, SLEEP_MS]);
    if let Some(slow) = slow {
        command.env("WAITS_DIRECTORY", slow.directory()).env("WAITS_DEVICE", slow.device());
        command.env("WAITS_SHALLOW", slow.shallow());
    }
    text(&mut command)
}

/// Those on the slow device take turns, each its own.
const ON_DEVICE: [&str; 12] = [
    "file_read",
    "file_write_part",
    "direct_read",
    "direct_write",
    "device_read",
    "device_direct",
    "fsync",
    "fsync_new",
    "syncfs",
    "page_fault",
    "block_request",
    "write_throttle",
];

fn sleeps() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let program = waits::build(directory.path())?;
    let family = waits::family();
    let file = directory.path().join("probes.yaml");
    fs::write(&file, &family.probes).unwrap();
    let kinds = text(Command::new(&program).arg("--list"));
    let kinds: Vec<&str> = kinds.lines().filter(|kind| !ON_DEVICE.contains(kind)).collect();
    let slow = SlowDevice::new(PER_SECOND);
    let tapster = Tapster::start(&["--strict", "-c", file.to_str().unwrap()]);
    let (truths, next) = (Mutex::new(Truths::default()), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(kind) = kinds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let line = wait(&program, kind, None);
                    truths.lock().unwrap().add(&line);
                }
            });
        }
    });
    let mut truths = truths.into_inner().unwrap();
    match &slow {
        Ok(slow) => {
            for kind in ON_DEVICE {
                if kind == "write_throttle"
                    && let Err(Skip(why)) = slow.limit_dirty(1_000_000)
                {
                    truths.skipped.push(format!("{kind}: {why}"));
                } else {
                    truths.add(&wait(&program, kind, Some(slow)));
                }
            }
        }
        Err(Skip(why)) => truths.skipped.push(format!("all on a slow device: {why}")),
    }
    let metrics = tapster.scrape();
    for reason in ["max_series", "max_inflight", "busy", "fault"] {
        assert_eq!(whole(metrics.sum("tapster_probe_dropped_total", &[("reason", reason)])), 0, "{reason}");
    }
    if let Ok(directory) = std::env::var("TAPSTER_KEEP") {
        fs::write(Path::new(&directory).join("sched.prom"), tapster.get("/metrics").text()).unwrap();
    }
    Ok(truths.check(&family, &metrics))
}

/// What the kernel counted for a program that never sleeps.
struct Hog {
    queued: f64,
    voluntary: u64,
    involuntary: u64,
}

impl Hog {
    fn of(json: &Value) -> Self {
        Self {
            queued: json["run_queue_seconds"].as_f64().unwrap(),
            voluntary: json["voluntary"].as_u64().unwrap(),
            involuntary: json["involuntary"].as_u64().unwrap(),
        }
    }
}

fn build_hog(directory: &Path) -> Result<PathBuf, Skip> {
    let program = directory.join("hog");
    text(tool("cc")?.args(["-O1", "-Wall"]).arg("-o").arg(&program).arg(fixture::file("programs/hog.c")));
    Ok(program)
}

const HOGS: [&str; 3] = ["hog-1", "hog-2", "hog-3"];

/// Three of them on one processor: what the kernel counted for each, at least and at most while it had its name.
fn hogs(program: &Path) -> Vec<(Hog, Hog)> {
    let started = HOGS.map(|name| {
        let mut command = Command::new(program);
        command.args([name, "0", "3"]).stdout(Stdio::piped()).spawn().unwrap()
    });
    let ended = started.map(|child| child.wait_with_output().unwrap());
    let counted = |output: &std::process::Output| {
        assert!(output.status.success(), "a hog ended with {}", output.status);
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        (Hog::of(&json["least"]), Hog::of(&json["most"]))
    };
    ended.iter().map(counted).collect()
}

/// Switches of all processors since the start, as the kernel counts them.
fn kernel_switches() -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    stat.lines().find_map(|line| line.strip_prefix("ctxt ")).unwrap().parse().unwrap()
}

fn queue() -> Outcome {
    if !Path::new("/proc/self/schedstat").exists() {
        return Err(Skip("this kernel does not count waits for a processor".into()));
    }
    let directory = tempfile::tempdir().unwrap();
    let program = build_hog(directory.path())?;
    let probes = fixture::file("probes/sleeps.yaml");
    let tapster = Tapster::start(&["--strict", "-c", probes.to_str().unwrap()]);
    // What happens between two readings of the kernel's count is on either side of a scrape.
    let reading = || (kernel_switches(), tapster.scrape(), kernel_switches());
    let (first, before, second) = reading();
    let hogs = hogs(&program);
    let (third, metrics, fourth) = reading();
    for reason in ["max_series", "max_inflight", "busy", "fault"] {
        assert_eq!(whole(metrics.sum("tapster_probe_dropped_total", &[("reason", reason)])), 0, "{reason}");
    }
    let switches = metrics.since(&before, "tapster_site_switches_total", &[]);
    let (least, most) = (third - second, fourth - first);
    assert!(
        (least..=most).contains(&switches),
        "{switches} switches, the kernel counts between {least} and {most}"
    );
    let mut figures = vec![format!("{switches} switches of {least} to {most}")];
    for (name, (least, most)) in HOGS.iter().zip(&hogs) {
        let comm = ("comm", *name);
        let queued = least.queued;
        let ours = metrics.sum("tapster_site_queue_duration_seconds_sum", &[comm]);
        // The others run two thirds of the time.
        assert!(queued > 1.0, "{name} waited {queued} s for the processor");
        assert!(
            ours >= 0.98 * queued && ours <= 1.02 * most.queued,
            "{name}: {ours} s, by the kernel's count {queued} to {} s",
            most.queued
        );
        let count = |kind: &str| whole(metrics.sum("tapster_site_switches_total", &[comm, ("kind", kind)]));
        let (wished, others) = (count("voluntary"), count("involuntary"));
        assert!(
            (least.voluntary..=most.voluntary).contains(&wished)
                && (least.involuntary..=most.involuntary).contains(&others),
            "{name}: {wished} switches that it wished for, of {} to {}, and {others} others, of {} to {}",
            least.voluntary,
            most.voluntary,
            least.involuntary,
            most.involuntary
        );
        figures.push(format!(
            "{name} waited {ours:.4} s ({:+.3} %) and was preempted {others} times",
            (ours / queued - 1.0) * 100.0
        ));
    }
    Ok(figures.join(", "))
}

#[test]
#[ignore = "three quarters of a minute, and exact only where nothing else wants the processors"]
fn time_without_a_processor() {
    let mut cases = Cases::new("sched");
    if let Err(Skip(reason)) = root() {
        say(format_args!("sched: skipped: {reason}"));
        return cases.finish();
    }
    cases.run("sleeps of every kind", sleeps);
    cases.run("waits for a processor", queue);
    cases.finish();
}
