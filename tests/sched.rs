//! Where the time goes when a program does not run: sleeps by programs that know how long and on what they slept, waits
//! for a processor and switches by the kernel's own counts.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]
#![allow(clippy::cast_precision_loss, reason = "samples are f64, as Prometheus keeps them")]

use tapster_testing as support;

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
    accounting::DelayAccounting,
    cases::{Cases, Outcome, Skip, say},
    command::{text, tool},
    control::sleeps::{SleepControl, SwitchControl, mark},
    exporter::Tapster,
    fixture,
    metrics::{Metrics, whole},
    others::Others,
    slow::SlowDevice,
    waits::{self, FOR_BLOCKS, Family, Truths},
};
use tempfile::TempDir;

/// How long the sleeps take that may be told.
const SLEEP_MS: &str = "50";
/// Programs at a time; nearly all of the time they sleep.
const AT_ONCE: usize = 4;
/// Requests in a second of the slow device. The kernel's throttle grants them for 100 ms at a time, so a program that waits for a
/// processor between its reads is granted more of them at once: with 40 in a second six reads need not sleep at all where
/// processors are busy.
const PER_SECOND: u32 = 20;

/// How much is done: what a change of the code is tried with, or all.
#[derive(Clone, Copy, Debug)]
struct Extent {
    /// Sleeps of each kind.
    sleeps: u32,
    /// Seconds that hogs want one processor.
    hogs: u32,
}

const SHORT: Extent = Extent { sleeps: 6, hogs: 2 };
const WHOLE: Extent = Extent { sleeps: 20, hogs: 10 };

/// Runs a program of one kind with the control's mark to its end, and the line that it says.
fn wait(program: &Path, kind: &str, sleeps: u32, slow: Option<&SlowDevice>) -> String {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("{} exec \"$0\" \"$@\"", mark())).arg(program);
    command.args(["--stacks", kind, &sleeps.to_string(), SLEEP_MS]);
    if let Some(slow) = slow {
        command.env("WAITS_DIRECTORY", slow.directory()).env("WAITS_DEVICE", slow.device());
        command.env("WAITS_SHALLOW", slow.shallow());
    }
    text(&mut command)
}

/// Those on the slow device take turns, each its own: these, and what waits for blocks.
const FOR_FILES: [&str; 4] = ["fsync", "fsync_new", "syncfs", "write_throttle"];

fn is_on_device(kind: &str) -> bool {
    FOR_FILES.contains(&kind) || FOR_BLOCKS.contains(&kind)
}

/// A kind of which somebody else on this host is one as well, for as long as the probes count: its sleeps are not the test's.
const NAMESAKE: &str = "flock";

/// Kinds of sleeps that are run again when they are wrong and a control lost some of their events as well: of one that was lost
/// it is known how long it was at most, of two in a row it is not. What is wrong twice is no accident.
const AGAIN: usize = 3;

/// Where programs sleep, and by which probes they are watched.
struct Ground {
    family: Family,
    program: PathBuf,
    slow: Result<SlowDevice, Skip>,
    directory: TempDir,
}

impl Ground {
    /// Runs programs of these kinds; what they say, and what the probes counted for them.
    fn watch(&self, kinds: &[&str], sleeps: u32) -> (Truths, Metrics) {
        let file = self.directory.path().join("probes.yaml");
        fs::write(&file, &self.family.probes).unwrap();
        let (slower, others): (Vec<&str>, Vec<&str>) = kinds.iter().partition(|kind| is_on_device(kind));
        let control = SleepControl::new(kinds, true);
        let tapster = Tapster::start(&["--strict", "-c", file.to_str().unwrap()]);
        let beside: (&Path, &[&str]) = (&self.program, &[NAMESAKE, "100000", "30"]);
        let mut namesake = Others::new(&[beside], self.directory.path());
        let (truths, next) = (Mutex::new(Truths::default()), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    while let Some(kind) = others.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let line = wait(&self.program, kind, sleeps, None);
                        truths.lock().unwrap().add(&line);
                    }
                });
            }
        });
        let mut truths = truths.into_inner().unwrap();
        match &self.slow {
            Ok(slow) => {
                for kind in slower {
                    if kind == "write_throttle"
                        && let Err(Skip(why)) = slow.limit_dirty(1_000_000)
                    {
                        truths.skipped.push(format!("{kind}: {why}"));
                    } else {
                        truths.add(&wait(&self.program, kind, sleeps, Some(slow)));
                    }
                }
            }
            Err(Skip(why)) => truths.skipped.push(format!("all on a slow device: {why}")),
        }
        let metrics = tapster.scrape();
        assert!(namesake.are_running(), "`{NAMESAKE}` ended too early");
        match control {
            Ok(control) => truths.beside(&control),
            Err(Skip(why)) => truths.skipped.push(why),
        }
        for reason in ["max_series", "max_inflight", "busy", "fault"] {
            assert_eq!(
                whole(metrics.sum("tapster_probe_dropped_total", &[("reason", reason)])),
                0,
                "{reason}"
            );
        }
        if let Ok(directory) = std::env::var("TAPSTER_KEEP") {
            fs::write(Path::new(&directory).join("sched.prom"), tapster.get("/metrics").text()).unwrap();
        }
        (truths, metrics)
    }
}

fn sleeps(extent: Extent) -> Outcome {
    let accounting = DelayAccounting::on();
    let directory = tempfile::tempdir().unwrap();
    let program = waits::build(directory.path())?;
    let kinds = text(Command::new(&program).arg("--list"));
    // Those on the device in the order in which they are here.
    let others = kinds.lines().filter(|kind| !is_on_device(kind));
    let kinds: Vec<&str> = others.chain(FOR_BLOCKS).chain(FOR_FILES).collect();
    let slow = SlowDevice::new(PER_SECOND);
    let ground = Ground { family: waits::family().marked(), program, slow, directory };
    let (mut truths, metrics) = ground.watch(&kinds, extent.sleeps);
    match accounting {
        Ok(_) if ground.slow.is_ok() => {
            assert!(truths.accounted() >= 6, "the kernel accounts delays of {} kinds", truths.accounted());
        }
        Ok(_) => {}
        Err(Skip(why)) => truths.skipped.push(format!("the kernel's accounting of delays: {why}")),
    }
    let hidden = truths.hidden(&ground.family, &metrics);
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut repeated = String::new();
    if (1..=AGAIN).contains(&hidden.len()) {
        for (_, why) in &hidden {
            say(format_args!("retried: sched: {}", why.lines().next().unwrap_or_default()));
        }
        let again: Vec<String> = hidden.into_iter().map(|(kind, _)| kind).collect();
        truths.forget(&again);
        let kinds: Vec<&str> = again.iter().map(String::as_str).collect();
        let (second, metrics) = ground.watch(&kinds, extent.sleeps);
        let wrong = second.wrong(&ground.family, &metrics);
        assert!(wrong.is_empty(), "twice: {wrong:#?}");
        repeated = format!(", right at the second time: {}", again.join(", "));
    }
    Ok(truths.check(&ground.family, &metrics, &release) + &repeated)
}

/// Kinds whose wake-up is lost if it comes before the sleep. Who waits for a processor comes late.
const LOST_IF_EARLY: [&str; 2] = ["pause", "stopped"];

/// A waker without patience wakes only who sleeps: otherwise a program sleeps for ever, and the test with it.
fn early_wake_ups() -> Outcome {
    const TIMES: u64 = 300;
    let directory = tempfile::tempdir().unwrap();
    let program = waits::build(directory.path())?;
    for kind in LOST_IF_EARLY {
        let mut command = tool("timeout")?;
        command.arg("20").arg(&program).args([kind, &TIMES.to_string(), "0"]).env("TMPDIR", directory.path());
        let said: Value = serde_json::from_str(&text(&mut command)).unwrap();
        assert_eq!(said["sleeps"], Value::from(TIMES), "{said}");
    }
    Ok(format!("{TIMES} each of {}", LOST_IF_EARLY.join(" and ")))
}

/// What the kernel counted for a program that never sleeps.
struct Hog {
    queued: f64,
    /// The same by the accounting of delays; `None` where it told nothing.
    delayed: Option<f64>,
    voluntary: u64,
    involuntary: u64,
}

impl Hog {
    fn of(json: &Value) -> Self {
        Self {
            queued: json["run_queue_seconds"].as_f64().unwrap(),
            delayed: json["delay_seconds"].as_f64(),
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
fn hogs(program: &Path, seconds: u32) -> Vec<(Hog, Hog)> {
    let started = HOGS.map(|name| {
        let mut command = Command::new(program);
        command.args([name, "0", &seconds.to_string()]).stdout(Stdio::piped()).spawn().unwrap()
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

fn queue(extent: Extent) -> Outcome {
    if !Path::new("/proc/self/schedstat").exists() {
        return Err(Skip("this kernel does not count waits for a processor".into()));
    }
    let directory = tempfile::tempdir().unwrap();
    let program = build_hog(directory.path())?;
    let probes = fixture::file("probes/sleeps.yaml");
    let tapster = Tapster::start(&["--strict", "-c", probes.to_str().unwrap()]);
    let control = SwitchControl::new(&HOGS)?;
    // What happens between two readings of the counts of the kernel and of the control is on either side of a scrape.
    let reading = || {
        let first = (kernel_switches(), control.all());
        let metrics = tapster.scrape();
        (first, metrics, (control.all(), kernel_switches()))
    };
    let ((first, seen_first), before, (seen_second, second)) = reading();
    let accounting = DelayAccounting::on();
    let hogs = hogs(&program, extent.hogs);
    drop(accounting);
    let ((third, seen_third), metrics, (seen_fourth, fourth)) = reading();
    for reason in ["max_series", "max_inflight", "busy", "fault"] {
        assert_eq!(whole(metrics.sum("tapster_probe_dropped_total", &[("reason", reason)])), 0, "{reason}");
    }
    let switches = metrics.since(&before, "tapster_site_switches_total", &[]);
    let (least, most) = (third - second, fourth - first);
    let (seen_least, seen_most) = (seen_third - seen_second, seen_fourth - seen_first);
    assert!(
        (seen_least..=seen_most).contains(&switches) && switches <= most,
        "{switches} switches, the control sees {seen_least} to {seen_most}, the kernel counts {least} to {most}"
    );
    let mut delays = 0;
    let mut figures = vec![format!(
        "{switches} switches of {least} to {most}, of which a control saw {seen_least} to {seen_most}"
    )];
    for (name, (least, most)) in HOGS.iter().zip(&hogs) {
        let comm = ("comm", *name);
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
        // Some kernels run no program at a switch away from a task of the host's control plane (`support::control`). If the hog
        // came next it leaves the processor twice in a row, and a wait has no end. It is taken for no longer than the longest.
        let waits = metrics.histogram("tapster_site_queue_duration_seconds", &[comm]);
        let ours = waits.sum;
        let hidden = others.saturating_sub(waits.count());
        let lost = control.lost(name);
        assert!(hidden <= lost, "{name}: {} waits of {others}, the control lost {lost}", waits.count());
        let hidden_seconds = hidden as f64 * waits.bucket_of_rank(waits.count()).1;
        // The others run two thirds of the time.
        assert!(
            least.queued > f64::from(extent.hogs) / 3.0,
            "{name} waited {} s for the processor",
            least.queued
        );
        assert!(
            ours + hidden_seconds >= 0.98 * least.queued && ours <= 1.02 * most.queued,
            "{name}: {ours} s and {hidden} hidden waits, by the kernel's count {} to {} s",
            least.queued,
            most.queued
        );
        if let (Some(delayed), Some(most)) = (least.delayed, most.delayed) {
            assert!(
                ours + hidden_seconds >= 0.98 * delayed && ours <= 1.02 * most,
                "{name}: {ours} s, by the kernel's accounting of delays {delayed} to {most} s"
            );
            delays += 1;
        }
        figures.push(format!(
            "{name} waited {ours:.4} s ({:+.3} %) and was preempted {others} times, {hidden} hidden",
            (ours / least.queued - 1.0) * 100.0
        ));
    }
    figures.push(format!("{delays} of {} also beside the accounting of delays", HOGS.len()));
    Ok(figures.join(", "))
}

fn without_a_processor(extent: Extent) {
    let Some(mut cases) = Cases::as_root("sched") else {
        return;
    };
    cases.run("sleeps of every kind", || sleeps(extent));
    cases.run("wake-ups that come early", early_wake_ups);
    cases.run("waits for a processor", || queue(extent));
    cases.finish();
}

#[test]
fn some_time_without_a_processor() {
    without_a_processor(SHORT);
}

#[test]
#[ignore = "a minute: five times as many sleeps, and longer waits"]
fn time_without_a_processor() {
    without_a_processor(WHOLE);
}
