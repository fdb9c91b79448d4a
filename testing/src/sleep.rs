//! Measures how much of the time asleep has no reason, and shows the stacks.
//!
//! `tests/probes/reasons.yaml` gives the stacks, the library's `sched_off_cpu` the time.

use super::metrics::{Metrics, whole};
use std::{collections::BTreeMap, fmt::Write as _};

/// Largest part of the time asleep that may have no reason.
const UNEXPLAINED: f64 = 0.02;
/// Most stacks without a reason that are shown.
const SHOWN: usize = 12;
/// Reasons of tasks that wait by choice; on an idle host, these dominate.
const CHOSEN: [&str; 6] = ["sleep", "poll", "select", "epoll", "signal_wait", "futex"];

/// Time asleep.
#[derive(Debug, Default)]
struct Sleep {
    whole: f64,
    unexplained: f64,
}

impl Sleep {
    fn add(&mut self, seconds: f64, reason: &str) {
        self.whole += seconds;
        if ["unknown", "~lost"].contains(&reason) {
            self.unexplained += seconds;
        }
    }

    fn part(&self) -> f64 {
        self.unexplained / self.whole
    }
}

/// Label sets of a counter or a sum, with the growth of each.
fn grown<'m>(
    after: &'m Metrics,
    before: &Metrics,
    name: &'m str,
) -> Vec<(&'m BTreeMap<String, String>, f64)> {
    let samples = |metrics: &'m Metrics| metrics.0.iter().filter(move |sample| sample.name == name);
    let old: BTreeMap<_, f64> = before
        .0
        .iter()
        .filter(|sample| sample.name == name)
        .map(|sample| (&sample.labels, sample.value))
        .collect();
    let growth = |labels: &BTreeMap<String, String>, value| value - old.get(labels).copied().unwrap_or(0.0);
    samples(after).map(|sample| (&sample.labels, growth(&sample.labels, sample.value))).collect()
}

/// Stacks without a reason, the longest time first, to help with a new pattern.
fn stacks(after: &Metrics, before: &Metrics) -> String {
    let mut found: Vec<_> = grown(after, before, "tapster_site_slept_seconds_total")
        .into_iter()
        .filter(|(labels, seconds)| labels["reason"] == "unknown" && *seconds > 0.0)
        .collect();
    found.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    found.iter().take(SHOWN).fold(String::new(), |mut lines, (labels, seconds)| {
        let [comm, state, stack] = ["comm", "state", "stack"].map(|name| labels[name].as_str());
        let _ = write!(lines, "\n  {seconds:.3} s of `{comm}`, {state}: {stack}");
        lines
    })
}

/// Sleeps for each that the kernel may refuse: under emulation, where a map operation takes long, a run of this in four guests had one.
const SLEEPS_OF_A_BUSY: u64 = 5_000;

/// The part of the time asleep between two scrapes that has no reason: of everything, and of what remains without idle tasks,
/// whose long sleeps would hide it. Fails, with the stacks, if either is too large.
pub fn unexplained(after: &Metrics, before: &Metrics) -> String {
    let dropped = |reason| whole(after.sum("tapster_probe_dropped_total", &[("reason", reason)]));
    for reason in ["max_series", "max_inflight", "fault"] {
        assert_eq!(dropped(reason), 0, "{reason}");
    }
    // An event inside the map operation of another is what a kernel may refuse, once in a long while.
    let (refused, sleeps) =
        (dropped("busy"), whole(after.sum("tapster_off_cpu_duration_seconds_count", &[])));
    assert!(refused * SLEEPS_OF_A_BUSY <= sleeps, "{refused} of {sleeps} were refused");
    let [mut all, mut uninterruptible, mut busy, mut unchosen] = [(); 4].map(|()| Sleep::default());
    for (labels, seconds) in grown(after, before, "tapster_off_cpu_duration_seconds_sum") {
        let reason = labels["reason"].as_str();
        all.add(seconds, reason);
        if labels["state"] == "uninterruptible" {
            uninterruptible.add(seconds, reason);
        }
        if !reason.starts_with("idle_") && labels["state"] != "idle" {
            busy.add(seconds, reason);
            if !CHOSEN.contains(&reason) {
                unchosen.add(seconds, reason);
            }
        }
    }
    let kinds = [
        ("of all", all),
        ("of uninterruptible", uninterruptible),
        ("without idle threads of the kernel", busy),
        ("without what programs chose to wait for", unchosen),
    ];
    let figures = kinds
        .iter()
        .map(|(name, sleep)| format!("{:.3} % {name} ({:.1} s)", sleep.part() * 100.0, sleep.whole))
        .collect::<Vec<_>>()
        .join(", ");
    let stacks = stacks(after, before);
    let good = kinds.iter().all(|(_, sleep)| sleep.whole >= 1.0 && sleep.part() < UNEXPLAINED);
    assert!(good, "sleep without a reason: {figures}; its stacks:{stacks}");
    format!("sleep without a reason: {figures}; {refused} of {sleeps} refused{stacks}")
}
