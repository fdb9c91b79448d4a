//! Arrays that change while they are watched.

use crate::{kernel::Kernel, machine::Results, support::metrics::Metrics};
use std::collections::BTreeSet;

const FAMILY: &str = "tapster_raid_member_duration_seconds";

fn is_one(metrics: &Metrics, name: &str, labels: &[(&str, &str)]) -> bool {
    metrics.find(name, labels).is_some_and(|value| (value - 1.0).abs() < f64::EPSILON)
}

fn writes(metrics: &Metrics, member: &str) -> u64 {
    metrics.histogram(FAMILY, &[("array", "md1"), ("member", member), ("operation", "write")]).count()
}

/// Rows of members, as `mdadm --detail` and `tapster raid` print them, each as its words.
fn rows(text: &str) -> BTreeSet<Vec<&str>> {
    let is_row =
        |words: &Vec<&str>| words.len() > 4 && words[1..3].iter().all(|word| word.parse::<u32>().is_ok());
    text.lines().map(|line| line.split_whitespace().collect()).filter(is_row).collect()
}

pub(crate) fn check(_: &Kernel, results: &Results) -> String {
    let scrape = |name: &str| results.metrics(&format!("{name}.prom"));
    let state = |name: &str, member: &str, slot: &str, state: &str| {
        let metrics = scrape(name);
        let found: Vec<String> =
            metrics.values("tapster_raid_member_info", &[("array", "md1"), ("member", member)], "state");
        assert_eq!(found, [state], "{name}: {member}");
        let labels = [("array", "md1"), ("level", "raid1"), ("member", member), ("slot", slot)];
        assert!(is_one(&metrics, "tapster_raid_member_info", &labels), "{name}: {member} in slot {slot}");
    };
    let degraded = |name: &str| scrape(name).find("tapster_raid_array_degraded", &[("array", "md1")]);
    let number = |name: &str, expected: f64| {
        let found = degraded(name);
        assert!(
            found.is_some_and(|found| (found - expected).abs() < f64::EPSILON),
            "{name}: degraded is {found:?}"
        );
    };
    state("whole", "ram0", "0", "in_sync");
    state("whole", "ram1", "1", "in_sync");
    number("whole", 0.0);
    assert!(is_one(
        &scrape("whole"),
        "tapster_raid_array_sync_action",
        &[("array", "md1"), ("action", "idle")]
    ));
    let failed: Vec<String> =
        scrape("failed").values("tapster_raid_member_info", &[("member", "ram1")], "state");
    assert!(failed.iter().all(|state| state.contains("faulty")), "failed: {failed:?}");
    number("failed", 1.0);
    assert_eq!(scrape("removed").find("tapster_raid_member_info", &[("member", "ram1")]), None, "removed");
    number("degraded", 1.0);
    assert_eq!(
        writes(&scrape("degraded"), "ram0") - writes(&scrape("removed"), "ram0"),
        256,
        "writes to the one left"
    );
    assert_eq!(
        scrape("degraded").find(&format!("{FAMILY}_count"), &[("member", "ram1")]),
        None,
        "it has left"
    );
    let recovering = scrape("recovering");
    assert!(
        is_one(&recovering, "tapster_raid_array_sync_action", &[("array", "md1"), ("action", "recover")]),
        "{}",
        results.text("recovering.mdstat")
    );
    let ratio = recovering.find("tapster_raid_array_sync_completed_ratio", &[("array", "md1")]);
    assert!(ratio.is_some_and(|ratio| (0.0..1.0).contains(&ratio)), "recovering: {ratio:?}");
    number("recovering", 1.0);
    state("recovered", "ram2", results.text("slot").trim(), "in_sync");
    number("recovered", 0.0);
    for member in ["ram0", "ram2"] {
        let taken = writes(&scrape("replaced"), member) - writes(&scrape("recovered"), member);
        assert_eq!(taken, 256, "{member} after the replacement");
    }
    assert_eq!(scrape("stopped").find("tapster_raid_member_info", &[]), None, "stopped");
    assert_eq!(scrape("stopped").find(&format!("{FAMILY}_count"), &[]), None, "stopped");
    for member in ["ram0", "ram2"] {
        let taken = writes(&scrape("again"), member) - writes(&scrape("back"), member);
        assert_eq!(taken, 256, "{member} after the array came back");
    }
    for name in ["failed", "recovering", "stopped", "again"] {
        assert_eq!(scrape(name).find("tapster_probe_up", &[]), Some(3.0), "{name}: probes up");
    }
    for (name, count) in [("whole", 2), ("failed", 3), ("removed", 2), ("recovering", 2), ("recovered", 2)] {
        let (theirs, ours) = (results.text(&format!("{name}.mdadm")), results.text(&format!("{name}.raid")));
        assert_eq!(rows(ours), rows(theirs), "{name}: `tapster raid`, and mdadm:\n{ours}\n{theirs}");
        assert_eq!(rows(ours).len(), count, "{name}:\n{ours}");
        let muted = ours.contains("md1: members are not compared while the array does `recover`");
        assert_eq!(muted, name == "recovering", "{name}:\n{ours}");
    }
    "fail, remove, degraded, recover, replaced, stopped, assembled: states and counts as they were".to_owned()
}
