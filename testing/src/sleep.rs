//! How much of the time asleep has no reason, and with what stacks.
//!
//! `tests/probes/reasons.yaml` has the stacks, the library's `sched_off_cpu` the time.

use super::metrics::{Metrics, whole};
use std::{collections::BTreeMap, fmt::Write as _};

/// How much of the time asleep may be without a reason.
const UNEXPLAINED: f64 = 0.02;
/// Stacks that are shown of those without a reason.
const SHOWN: usize = 12;
/// Reasons of who waits because it wants to: of those a host at rest is full.
const CHOSEN: [&str; 6] = ["sleep", "poll", "select", "epoll", "signal_wait", "futex"];

/// Sleep in a time.
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

/// Label sets of a counter or a sum, and how much each grew.
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

/// Stacks without a reason, the longest first, for who adds a pattern.
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

/// What part of the sleep between two scrapes has no reason, of all and of what big sleeps of who has nothing to do
/// would hide; a failure, with the stacks, where it is too much of any.
pub fn unexplained(after: &Metrics, before: &Metrics) -> String {
    for reason in ["max_series", "max_inflight", "busy", "fault"] {
        let dropped = whole(after.sum("tapster_probe_dropped_total", &[("reason", reason)]));
        assert_eq!(dropped, 0, "{reason}");
    }
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
    format!("sleep without a reason: {figures}{stacks}")
}
