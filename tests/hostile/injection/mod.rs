//! System calls that fail, one at a time: each of some, with each error that the kernel has for it, at the start and while it
//! runs. What comes is a sentence and an end, one probe that is down with its cause, or one scrape that fails; never a panic, a
//! process that hangs, or a wrong number.

mod scrape;
mod start;

use super::support::{cases::Cases, metrics::Metrics};
use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

/// Probes of each kind that this takes: a tracepoint, a raw one, a place in a program, a timer.
const PROBES: [&str; 4] = ["forks", "wakeups", "getenv", "ticks"];
/// Processes that are made, to be counted.
const FORKS: u32 = 3;
/// Words that are in no line of a log that was meant.
const PANICS: [&str; 3] = ["panicked", "a bug in tapster", "overflow"];

/// Calls and the errors that the kernel may answer with.
type Failures = [(&'static str, &'static [&'static str])];

/// The configuration.
fn probes() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hostile/injection/probes.yaml"))
}

/// Processes and threads that this host has made.
fn made() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let line = stat.lines().find_map(|line| line.strip_prefix("processes "));
    line.unwrap().trim().parse().unwrap()
}

/// Makes some, one after the other.
fn fork() {
    for _ in 0..FORKS {
        assert!(Command::new("true").status().unwrap().success());
    }
}

/// What the host had made, and what each probe had counted after that.
#[derive(Debug)]
struct Before {
    made: f64,
    counted: BTreeMap<String, f64>,
}

/// What a probe that is up has counted; `None` for one that is down.
fn counted(metrics: &Metrics, probe: &str) -> Option<f64> {
    let is_up = metrics.find("tapster_probe_up", &[("probe", probe)]) == Some(1.0);
    is_up.then(|| metrics.sum(&format!("tapster_{probe}_total"), &[]))
}

impl Before {
    fn new(made: f64, metrics: &Metrics) -> Self {
        let of = |probe: &str| Some((probe.to_owned(), counted(metrics, probe)?));
        Self { made, counted: PROBES.into_iter().filter_map(of).collect() }
    }

    /// Whether what is counted now can be, after `fork`. A probe that is down says why, in the metric and in the log. Gives how
    /// many are down.
    fn check(&self, metrics: &Metrics, log: &str, what: &str) -> usize {
        let made = made() - self.made;
        let mut down = 0;
        for probe in PROBES {
            let reasons = metrics.values("tapster_probe_up", &[("probe", probe)], "reason");
            assert_eq!(reasons.len(), 1, "{what}: {probe} is not told of");
            let Some(now) = counted(metrics, probe) else {
                assert!(
                    !reasons[0].is_empty() && reasons[0] != "internal",
                    "{what}: {probe} is down: {reasons:?}"
                );
                let is_said = log.contains(&format!("\"probe\":\"{probe}\""));
                assert!(is_said, "{what}: {probe} is down ({reasons:?}) and nothing says why: {log}");
                down += 1;
                continue;
            };
            let family = format!("tapster_{probe}_total");
            let is_there = metrics.0.iter().any(|sample| sample.name == family);
            assert!(is_there, "{what}: {probe} is up without {family}");
            let Some(before) = self.counted.get(probe) else { continue };
            assert!(now >= *before, "{what}: {family} was {before} and is {now}");
            if probe == "forks" {
                // One on each processor may have been counted by the host and not yet by the probe.
                let processors = std::thread::available_parallelism().unwrap().get();
                let most = made + f64::from(u32::try_from(processors).unwrap());
                let fresh = now - before;
                assert!(
                    (f64::from(FORKS)..=most).contains(&fresh),
                    "{what}: {fresh} forks, of {FORKS} to {most}"
                );
            }
        }
        down
    }
}

/// Whether the runtime of the language ended it because the kernel gave it no memory: in its own words, and by a signal.
fn is_of_memory(call: &str, log: &str) -> bool {
    let words = ["memory allocation of", "failed to allocate an alternative stack: Cannot allocate memory"];
    call == "mmap" && words.iter().any(|words| log.contains(words))
}

/// No line of a log has the words of a mistake.
fn look_for_panics(call: &str, log: &str, what: &str) {
    for word in PANICS {
        assert!(is_of_memory(call, log) || !log.contains(word), "{what}: {log}");
    }
}

/// The next call to let fail.
type Step = fn(usize) -> usize;

/// Some of the first calls, further and further apart.
fn some(nth: usize) -> usize {
    nth + 1 + nth / 2
}

/// Every call.
fn every(nth: usize) -> usize {
    nth + 1
}

#[test]
fn calls_that_fail_at_the_start() {
    let Some(mut cases) = Cases::as_root("injection at the start") else { return };
    for (call, errors) in start::FAILURES {
        cases.run(call, || start::sweep(call, errors, some, 6));
    }
    cases.finish();
}

#[test]
fn calls_that_fail_at_a_scrape() {
    let Some(mut cases) = Cases::as_root("injection at a scrape") else { return };
    for (call, errors) in scrape::FAILURES {
        cases.run(call, || scrape::sweep(call, errors, some, 3));
    }
    cases.finish();
}

/// The calls that are asked for by name, or all.
fn chosen(
    failures: &'static Failures,
) -> impl Iterator<Item = &'static (&'static str, &'static [&'static str])> {
    let only = std::env::var("TAPSTER_CALL").ok();
    failures.iter().filter(move |(call, _)| only.as_deref().is_none_or(|only| only == *call))
}

#[test]
#[ignore = "some minutes for each call, half an hour for `read`"]
fn every_call_that_fails_at_the_start() {
    let Some(mut cases) = Cases::as_root("injection at the start") else { return };
    for (call, errors) in chosen(start::FAILURES) {
        cases.run(call, || start::sweep(call, errors, every, usize::MAX));
    }
    cases.finish();
}

#[test]
#[ignore = "some minutes for each call, half an hour for `read`"]
fn every_call_that_fails_at_a_scrape() {
    let Some(mut cases) = Cases::as_root("injection at a scrape") else { return };
    for (call, errors) in chosen(scrape::FAILURES) {
        cases.run(call, || scrape::sweep(call, errors, every, usize::MAX));
    }
    cases.finish();
}
