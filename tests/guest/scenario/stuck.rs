//! Members that do not answer are seen while they do not, and nothing else is.

use crate::{kernel::Kernel, machine::Results, support::metrics::Metrics};
use std::collections::BTreeMap;

/// Families of what has not completed, and the labels that tell whose it is.
const IN_FLIGHT: [(&str, &[&str]); 3] =
    [("block_io", &["device"]), ("block_device", &["device"]), ("raid_member", &["array", "member", "slot"])];

/// What waits, and how old the oldest is: all series that are not 0 in both.
fn waiting(metrics: &Metrics) -> BTreeMap<String, (f64, f64)> {
    let mut all: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for (family, labels) in IN_FLIGHT {
        for sample in &metrics.0 {
            let of: Vec<&str> =
                labels.iter().filter_map(|label| Some(sample.labels.get(*label)?.as_str())).collect();
            let key = || format!("{family} {} {}", of.join(" "), sample.labels["operation"]);
            if sample.name == format!("tapster_{family}_in_flight") {
                all.entry(key()).or_default().0 += sample.value;
            } else if sample.name == format!("tapster_{family}_oldest_seconds") {
                all.entry(key()).or_default().1 += sample.value;
            }
        }
    }
    all
}

pub(crate) fn check(_: &Kernel, results: &Results) -> String {
    let disk = results.text("scsi").trim();
    let scrape = |name: &str| results.metrics(&format!("{name}.prom"));
    let seen = |name: &str| {
        let mut all = waiting(&scrape(name));
        all.retain(|_, waits| *waits != (0.0, 0.0));
        all
    };
    // Healthy ones show 0, and are there.
    let healthy = waiting(&scrape("healthy"));
    assert!(seen("healthy").is_empty(), "{healthy:?}");
    for series in [
        "block_io md0 read",
        "block_io dm-0 write",
        "raid_member md0 dm-0 0 read",
        "raid_member md1 ram2 1 write",
    ] {
        assert!(healthy.contains_key(series), "{series}: {healthy:?}");
    }
    let member = |array: &str, member: &str| format!("raid_member {array} {member} 0 read");
    let suspended = ["block_io md0 read".into(), "block_io dm-0 read".into(), member("md0", "dm-0")];
    let slow = [
        "block_io md1 read".into(),
        format!("block_io {disk} read"),
        format!("block_device {disk} read"),
        member("md1", disk),
    ];
    let (first, second) = (seen("first"), seen("second"));
    for (name, found) in [("first", &first), ("second", &second)] {
        let mut expected: Vec<&String> = suspended.iter().chain(&slow).collect();
        expected.sort();
        assert_eq!(found.keys().collect::<Vec<_>>(), expected, "{name}: {found:?}");
    }
    for (series, (number, age)) in &second {
        let grown = age - first[series].1;
        assert!((*number - 1.0).abs() < 1e-9 && grown >= 3.0, "{series}: {number}, {age} s, {grown} s more");
    }
    // They are in no histogram, as they have not completed; and then they are, with all of their time.
    let reads = |name: &str, device: &str| {
        let labels = [("device", device), ("operation", "read")];
        scrape(name).histogram("tapster_block_io_duration_seconds", &labels)
    };
    let after = |name: &str| seen(name).into_keys().collect::<Vec<_>>();
    let mut still = slow.to_vec();
    still.sort();
    assert_eq!(after("resumed"), still, "one was resumed, the other is slow");
    assert_eq!(after("after"), Vec::<String>::new());
    for (device, name, least) in [("dm-0", "resumed", second["block_io dm-0 read"].1), (disk, "after", 35.0)]
    {
        let (before, now) = (reads("second", device), reads(name, device));
        assert_eq!(now.count(), before.count() + 1, "{device}");
        assert!(now.sum - before.sum >= least, "{device}: {} s", now.sum - before.sum);
    }
    let verdicts = |file: &str| -> Vec<String> {
        results
            .text(file)
            .lines()
            .filter(|line| line.contains("does not answer"))
            .map(str::to_owned)
            .collect()
    };
    let suspended = "it is suspended, which `dmsetup resume` ends";
    let found = verdicts("suspended-raid.txt");
    let [of_suspended] = found.as_slice() else { panic!("{}", results.text("suspended-raid.txt")) };
    let begin = "md0: `dm-0` (slot 0) does not answer: 1 I/O in flight, the oldest for ";
    assert!(of_suspended.starts_with(begin), "{of_suspended}");
    let before = verdicts("before-raid.txt");
    let begin = format!(
        "md1: `{disk}` (slot 0) does not answer: 1 I/O in flight since before, and none completed in "
    );
    let is_told = |found: &[String]| match found {
        [first, second] => {
            *first == format!("md0: `dm-0` (slot 0) does not answer: {suspended}")
                && second.starts_with(&begin)
        }
        _ => false,
    };
    assert!(is_told(&before), "{}", results.text("before-raid.txt"));
    assert!(verdicts("after-raid.txt").is_empty(), "{}", results.text("after-raid.txt"));
    format!(
        "seen after {:.1} s, {:.1} s old 3 s later, while the kernel counted {} for the suspended one\n{}{}",
        scrape("first").sum("tapster_block_io_oldest_seconds", &[("device", "dm-0")]),
        second["block_io dm-0 read"].1,
        results.text("inflight").trim(),
        results.text("suspended-raid.txt"),
        results.text("before-raid.txt"),
    )
}
