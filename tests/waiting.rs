//! What waits for its end is seen while it waits: calls of a function, and I/O of a device that does not answer.
//!
//! Probes of functions are attached to a program that the test builds, and to nothing else of the host.

#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]

use tapster_testing as support;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use support::{
    cases::{Cases, Outcome},
    command::{output, text, tool},
    device::{LoopDevice, filled_file, memory_directory, wait_quiet},
    exporter::{Tapster, within},
    metrics::{Metrics, whole},
};

/// Long enough for a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

const HOLDS: &str = r#"
probes:
  - name: hold
    function: PROGRAM:hold
    save: { kind: "str(arg0, 8)" }
    labels: { kind: start.kind, func: func, late: "duration > 1s", pid: pid }
    metrics:
      - { counter: hold_calls_total }
      - { in_flight: hold_in_flight }
      - { oldest: hold_oldest_seconds }
"#;

/// Ended with the test, whatever becomes of it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn calls() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("holds");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/holds.c");
    text(tool("cc")?.args(["-O1", "-pthread", "-o"]).arg(&program).arg(source));
    let file = directory.path().join("probes.yaml");
    fs::write(&file, HOLDS.replace("PROGRAM", program.to_str().unwrap())).unwrap();
    let tapster = Tapster::start(&["--strict", "-c", file.to_str().unwrap()]);
    let number = |metrics: &Metrics, kind: &str| metrics.find("tapster_hold_in_flight", &[("kind", kind)]);
    let age = |metrics: &Metrics, kind: &str| metrics.sum("tapster_hold_oldest_seconds", &[("kind", kind)]);
    assert_eq!(number(&tapster.scrape(), "even"), None, "nothing was called");

    let begun = Instant::now();
    let mut held = Command::new(&program).arg("5").stdin(Stdio::piped()).spawn().map(Running).unwrap();
    let all = within(LIMIT, || tapster.scrape().find("tapster_hold_in_flight", &[]) == Some(5.0));
    assert!(all.is_some(), "{:?}", tapster.scrape());
    let first = tapster.scrape();
    assert_eq!((number(&first, "even"), number(&first, "odd")), (Some(3.0), Some(2.0)));
    let sample = first.0.iter().find(|sample| sample.name == "tapster_hold_in_flight").unwrap();
    let labels: Vec<&str> = sample.labels.keys().map(String::as_str).collect();
    // Whether it was late is not known before the end; the process is a part of the key.
    assert_eq!(labels, ["func", "kind", "pid"]);
    assert_eq!((&*sample.labels["func"], &*sample.labels["pid"]), ("hold", &*held.0.id().to_string()));
    thread::sleep(Duration::from_millis(1500));
    let second = tapster.scrape();
    for kind in ["even", "odd"] {
        let grown = age(&second, kind) - age(&first, kind);
        assert!(grown >= 1.5 && age(&second, kind) <= begun.elapsed().as_secs_f64(), "{kind}: {grown}");
    }

    // Two of them end, later than a second after they began; what still waits is what is shown.
    held.0.stdin.as_mut().unwrap().write_all(b"xx").unwrap();
    let two = within(LIMIT, || tapster.scrape().sum("tapster_hold_calls_total", &[("late", "1")]) >= 2.0);
    assert!(two.is_some(), "{:?}", tapster.scrape());
    assert_eq!(tapster.scrape().find("tapster_hold_in_flight", &[]), Some(3.0));
    // A process that is killed ends no call, and none of its calls waits any more.
    held.0.kill().unwrap();
    held.0.wait().unwrap();
    let after = tapster.scrape();
    assert_eq!(after.find("tapster_hold_in_flight", &[]), Some(0.0), "{after:?}");
    assert_eq!(after.find("tapster_hold_oldest_seconds", &[]), Some(0.0));
    assert_eq!(whole(after.sum("tapster_hold_calls_total", &[])), 2);
    Ok(format!("5 calls, the oldest seen at {:.1} s, 3 of a process that was killed", age(&second, "even")))
}

/// A file system that is mounted and can be stopped, as it was when dropped.
struct Frozen {
    at: PathBuf,
}

impl Frozen {
    fn freeze(&self, flag: &str) {
        text(tool("fsfreeze").unwrap_or_else(|_| Command::new("fsfreeze")).arg(flag).arg(&self.at));
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("-u").arg(&self.at).output();
        let _ = Command::new("umount").arg(&self.at).output();
    }
}

/// A loop device over a file of a file system that is frozen takes writes, and completes none.
fn device() -> Outcome {
    tool("fsfreeze")?;
    let directory = memory_directory()?;
    let below = LoopDevice::over(&filled_file(&directory.path().join("below"), 64 << 20), &[])?;
    text(tool("mkfs.ext4")?.arg("-q").arg(&below.path));
    let at = directory.path().join("mounted");
    fs::create_dir(&at).unwrap();
    let mounted = output(tool("mount")?.arg(&below.path).arg(&at));
    if !mounted.status.success() {
        let why = String::from_utf8_lossy(&mounted.stderr).trim().to_owned();
        return Err(support::cases::Skip(format!("mount: {why}")));
    }
    let frozen = Frozen { at };
    let device = LoopDevice::over(&filled_file(&frozen.at.join("file"), 8 << 20), &[])?;
    let name = device.name();
    wait_quiet(&name);
    let tapster = Tapster::start(&["--strict", "--probes", "block"]);
    let write = || {
        let of = format!("of={}", device.path.display());
        let mut dd = Command::new("dd");
        dd.args(["if=/dev/zero", "bs=4k", "count=1", "oflag=direct", "conv=notrunc", &of])
            .stderr(Stdio::null());
        dd
    };
    assert!(write().status().unwrap().success());
    let labels = [("device", name.as_str()), ("operation", "write")];
    let families = ["block_io", "block_device"];
    let number =
        |metrics: &Metrics, family: &str| metrics.find(&format!("tapster_{family}_in_flight"), &labels);
    let age =
        |metrics: &Metrics, family: &str| metrics.find(&format!("tapster_{family}_oldest_seconds"), &labels);
    let healthy = tapster.scrape();
    for family in families {
        assert_eq!((number(&healthy, family), age(&healthy, family)), (Some(0.0), Some(0.0)), "{family}");
    }

    frozen.freeze("-f");
    let begun = Instant::now();
    let mut writer = write().spawn().map(Running).unwrap();
    let waits = within(LIMIT, || number(&tapster.scrape(), "block_device") == Some(1.0));
    assert!(waits.is_some(), "{:?}", tapster.scrape());
    let first = tapster.scrape();
    thread::sleep(Duration::from_millis(1500));
    let second = tapster.scrape();
    let took = begun.elapsed().as_secs_f64();
    for family in families {
        assert_eq!((number(&first, family), number(&second, family)), (Some(1.0), Some(1.0)), "{family}");
        let [first, second] = [&first, &second].map(|scrape| age(scrape, family).unwrap());
        assert!(
            second - first >= 1.5 && second <= took,
            "{family}: {first} s, then {second} s after {took} s"
        );
    }
    let count = |metrics: &Metrics| whole(metrics.sum("tapster_block_io_duration_seconds_count", &labels));
    assert_eq!(count(&healthy), count(&second), "nothing completed");

    frozen.freeze("-u");
    assert!(writer.0.wait().unwrap().success());
    let ended = within(LIMIT, || count(&tapster.scrape()) == count(&healthy) + 1);
    assert!(ended.is_some(), "{:?}", tapster.scrape());
    let after = tapster.scrape();
    for family in families {
        assert_eq!((number(&after, family), age(&after, family)), (Some(0.0), Some(0.0)), "{family}");
    }
    let sum = "tapster_block_io_duration_seconds_sum";
    let held = after.sum(sum, &labels) - healthy.sum(sum, &labels);
    assert!(held >= age(&second, "block_io").unwrap(), "it was counted with its whole time: {held} s");
    device.detach();
    drop(frozen);
    below.detach();
    Ok(format!("a write that waited {held:.1} s"))
}

#[test]
fn what_waits_is_seen() {
    let Some(mut cases) = Cases::as_root("waiting") else { return };
    cases.run("calls of a function", calls);
    cases.run("a device that does not answer", device);
    cases.finish();
}
