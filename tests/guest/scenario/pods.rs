//! Containers as runtimes make them, in each arrangement of cgroups, and many that are short.

use crate::{
    kernel::Kernel,
    machine::Results,
    support::{
        metrics::whole,
        pods::{Container, LABELS, OFF_CPU, RUN_QUEUE, Storm, Truth, Worst},
    },
};

/// How far times may be from the kernel's count: on emulated processors waits were up to 4 % above it and sleeps up to 5.3 %, for a
/// reason that has not been found; on a host they are within `TOLERANCE`. What is asked here is whose they are.
const EMULATED: f64 = 0.08;

const SWITCHES: &str = "tapster_site_who_total";
const CHOSEN: &str = "tapster_site_chosen_total";

pub(crate) fn check(_: &Kernel, results: &Results) -> String {
    let arrangements: [(&str, &[&str]); 3] =
        [("unified", &["v2"]), ("old", &["v1"]), ("hybrid", &["v2", "v1"])];
    arrangements.map(|(name, versions)| arrangement(results, name, versions)).join("; ")
}

fn arrangement(results: &Results, name: &str, versions: &[&str]) -> String {
    let [before, after, gone] =
        ["before", "after", "gone"].map(|when| results.metrics(&format!("{name}-{when}.prom")));
    let containers: Vec<Container> = versions.iter().flat_map(|version| Container::all(version)).collect();
    let mut worst = Worst::within(EMULATED, EMULATED);
    for container in &containers {
        let truth = Truth::parse(results.text(&format!("{name}-{}.json", container.name)));
        let is_whole = worst.compare((&before, &after), container, truth);
        assert!(is_whole, "{name}: {} is short of {truth:?}", container.name);
        for family in [OFF_CPU, RUN_QUEUE] {
            assert_eq!(gone.find(family, &container.labels()), None, "{name}: {} is gone", container.name);
        }
    }
    for reason in ["max_series", "max_inflight", "busy", "fault", "each_limit"] {
        let found = gone.sum("tapster_probe_dropped_total", &[("reason", reason)]);
        assert_eq!(whole(found), 0, "{name}: {reason}");
    }
    let storm = Storm::parse(results.text(&format!("{name}-storm.json")));
    let sum = |labels: &[(&str, &str)]| whole(gone.sum(SWITCHES, labels));
    let all = sum(&[]);
    assert!((storm.least..=storm.most).contains(&all), "{name}: {all} switches of {storm:?}");
    assert_eq!(all, whole(gone.sum(CHOSEN, &[])), "{name}: all are in a pod");
    let started = [("path", "/some/way/to/it/pathtest"), ("file", "/some/way/to/it/pathtest")];
    assert_eq!(whole(after.sum("tapster_starts_by_path_total", &started)), 3, "{name}: started by its path");
    assert_eq!(all, sum(&[(LABELS[2], "~gone"), ("cgroup", "~gone")]), "{name}: all are gone");
    assert_eq!(whole(gone.sum("tapster_probe_series", &[("probe", "site_who")])), 0, "{name}: rows are left");
    format!(
        "{name}: {} containers, {worst}, {all} of {} to {} switches",
        containers.len(),
        storm.least,
        storm.most
    )
}
