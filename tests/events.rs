//! The shipped probes of what the kernel does besides block devices and the scheduler: network, interrupts, processes, memory, and
//! whose block I/O it is. What they count is compared with what programs did and with what the kernel itself counts or records.
//!
//! Some kernels hide events from programs while a task of their host's control plane is current (ADR 40): as many may be missing as
//! a control at the same event did not see. What a task of the test does itself is never hidden.
#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]
#![allow(clippy::cast_precision_loss, reason = "samples are f64, as Prometheus keeps them")]

#[path = "events/block.rs"]
mod block;
#[path = "events/cpu.rs"]
mod cpu;
#[path = "events/memory.rs"]
mod memory;
#[path = "events/network.rs"]
mod network;
#[path = "events/process.rs"]
mod process;

use tapster_testing as support;

use std::{
    collections::BTreeMap,
    fs,
    ops::Range,
    path::{Path, PathBuf},
    process::Command,
};
use support::{
    cases::{Cases, Outcome, Skip},
    command::{text, tool},
    exporter::Tapster,
    fixture,
    metrics::{Histogram, Metrics, whole},
    pods::{self, Container, Tree},
    trace::{self, Bounds, Event, Step},
};
use tapster::sys::monotonic_ns;

/// Files of the library whose probes are tested here.
const FILES: [&str; 5] = ["network.yaml", "cpu.yaml", "process.yaml", "memory.yaml", "block_who.yaml"];

/// What probes counted while something happened, and the times between which it was.
struct Window {
    before: Metrics,
    after: Metrics,
    /// Everything that ended in it is counted.
    inner: Range<u64>,
    /// Nothing else is counted but what ended in it.
    outer: Range<u64>,
}

impl Window {
    /// Runs `load` between two scrapes.
    fn of<T>(tapster: &Tapster, load: impl FnOnce() -> T) -> (Self, T) {
        let first = monotonic_ns();
        let before = tapster.scrape();
        let begun = monotonic_ns();
        let done = load();
        let ended = monotonic_ns();
        let after = tapster.scrape();
        let last = monotonic_ns();
        for name in ["tapster_probe_dropped_total", "tapster_probe_missed_total"] {
            assert_eq!(whole(after.sum(name, &[])), 0, "{name}");
        }
        (Self { before, after, inner: begun..ended, outer: first..last }, done)
    }

    /// What two traces say of it, of which one was there before the exporter and one after it.
    fn bounds(
        &self,
        first: &[Event],
        second: &[Event],
        step: impl Fn(&Event) -> Option<Step>,
    ) -> BTreeMap<String, Bounds> {
        trace::bounds(first, second, &self.inner, &self.outer, step)
    }

    fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.after.since(&self.before, name, labels)
    }

    fn seconds(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.after.sum(name, labels) - self.before.sum(name, labels)
    }

    fn histogram(&self, name: &str, labels: &[(&str, &str)]) -> Histogram {
        self.after.histogram_since(&self.before, name, labels)
    }
}

/// Fails unless at least `least` less `hidden`, and at most `most`, were counted.
fn assert_between(what: &str, counted: u64, (least, most): (u64, u64), hidden: u64) {
    assert!(
        counted + hidden >= least && counted <= most,
        "{what}: {counted} counted, between {least} and {most} happened, {hidden} of them hidden"
    );
}

/// A container of a pod, as containerd makes them: a cgroup, and a link to a log that has its names.
struct Contained {
    tree: Tree,
    container: Container,
    logs: tempfile::TempDir,
}

impl Contained {
    fn new() -> Result<Self, Skip> {
        // Where the processor's controller is one of version 1, it is the hierarchy of that.
        let (version, tree) = Tree::all()?.pop().expect("there is one, or it was skipped");
        let logs = tempfile::tempdir().unwrap();
        let container = Container::all(version).remove(0);
        pods::make(&tree.0, logs.path(), std::slice::from_ref(&container))?;
        Ok(Self { tree, container, logs })
    }

    fn start(&self, probes: &str) -> Tapster {
        Tapster::start(&[
            "--strict",
            "--probes",
            probes,
            "--path.containers",
            self.logs.path().to_str().unwrap(),
        ])
    }

    /// A shell that is in it before it does anything else.
    fn shell(&self, script: &str) -> Command {
        let procs = self.tree.0.join(&self.container.path).join("cgroup.procs");
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("echo $$ >{} && {script}", procs.display()));
        command
    }

    fn labels<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        self.container.labels().into_iter().chain(more.iter().copied()).collect()
    }
}

/// Builds a program of `tests/programs`.
fn program(name: &str, directory: &Path) -> Result<PathBuf, Skip> {
    let program = directory.join(name);
    let source = fixture::file(format!("programs/{name}.c"));
    text(tool("cc")?.args(["-O1", "-Wall", "-pthread", "-o"]).arg(&program).arg(source));
    Ok(program)
}

/// What the kernel counts in `/proc/vmstat`.
fn vmstat(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/vmstat").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("the kernel counts no {name}")).parse().unwrap()
}

/// Numbers of the lines that begin with `name`.
fn numbers(output: &str, name: &str) -> Vec<Vec<i64>> {
    let lines = output.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    lines.map(|line| line.split(' ').map(|word| word.parse().unwrap()).collect()).collect()
}

/// Everything that is shipped is named in the documentation, and off unless it is asked for.
#[expect(clippy::unnecessary_wraps, reason = "as the other cases")]
fn documented() -> Outcome {
    let page = fs::read_to_string(fixture::file("../docs/metrics.md")).unwrap();
    let shipped = tapster::config::library().unwrap();
    let is_own = |name: &str| FILES.iter().any(|file| name.ends_with(&format!("/{file}")));
    let own: Vec<_> = shipped.iter().filter(|probe| is_own(&probe.file.name)).collect();
    for probe in &own {
        assert!(!probe.enabled, "`{}` is on", probe.name.value);
        let names = probe.families().map(|(name, _)| format!("tapster_{}", name.value));
        for name in names.chain([probe.name.value.clone()]) {
            assert!(page.contains(&format!("`{name}`")), "docs/metrics.md lacks `{name}`");
        }
    }
    assert!(own.len() > 20, "{} probes", own.len());
    Ok(format!("{} probes", own.len()))
}

#[test]
fn what_the_kernel_does_is_counted() {
    let mut cases = Cases::new("events");
    cases.run("documented", documented);
    let Some(mut cases) = Cases::as_root("events") else { return cases.finish() };
    network::all(&mut cases);
    cpu::all(&mut cases);
    process::all(&mut cases);
    memory::all(&mut cases);
    block::all(&mut cases);
    cases.finish();
}
