//! Differences of cgroups that end: their counts move to the series of all that are gone, and a receiver gets them once.

use crate::{
    receiver::{Options, Receiver, Transport},
    series::{self, Series},
    support::{
        cases::{Cases, Outcome},
        exporter::{Tapster, within},
        fixture,
        metrics::whole,
        pods::{LABELS, NONE, Tree},
    },
};
use std::{fs, path::Path, process::Command, thread::sleep, time::Duration};

const SWITCHES: &str = "tapster_site_who_total";

/// A cgroup named like a container, in which somebody sleeps again and again for a second, and its end.
fn live(sleeper: &Path, cgroup: &Path) {
    fs::create_dir_all(cgroup).unwrap();
    for _ in 0..12 {
        let mut child = Command::new(sleeper).arg("0.1").spawn().unwrap();
        fs::write(cgroup.join("cgroup.procs"), child.id().to_string()).unwrap();
        assert!(child.wait().unwrap().success());
    }
    // The kernel may need a moment to see that it is empty.
    let removed = within(Duration::from_secs(5), || fs::remove_dir(cgroup).is_ok());
    assert!(removed.is_some(), "{} cannot be removed", cgroup.display());
}

/// Cgroups that live long enough to be pushed under their own names, while the receiver is away for a part of the time.
fn lives(count: u32) -> Outcome {
    let trees = Tree::all()?;
    let directory = tempfile::tempdir().unwrap();
    // The probe counts switches of programs of this name.
    let sleeper = directory.path().join("storm");
    fs::copy("/bin/sleep", &sleeper).unwrap();
    let receiver = Receiver::start(Options::of(Transport::Http));
    let endpoint = format!("http://{}", receiver.address());
    let probes = fixture::file("probes/who.yaml");
    let tapster = Tapster::start(&[
        "-c",
        probes.to_str().unwrap(),
        "--otlp.endpoint",
        &endpoint,
        "--otlp.interval",
        "100ms",
        "--otlp.push-timeout",
        "1s",
        "--otlp.temporality",
        "delta",
    ]);
    let pod = trees[0].1.0.join("kubepods/pod0a1b");
    receiver.wait(1);
    std::thread::scope(|scope| {
        for number in 0..count {
            let (sleeper, cgroup) = (&sleeper, pod.join(format!("{number:064x}")));
            scope.spawn(move || live(sleeper, &cgroup));
            sleep(Duration::from_millis(150));
            if number == count / 3 {
                receiver.go_away();
            }
            if number == count / 2 {
                receiver.come_back();
            }
        }
    });
    // A sleeper that slept before it was moved was counted where this test is, which is no container.
    let is_over = || {
        let metrics = tapster.scrape();
        let containers = metrics.values(SWITCHES, &[], LABELS[2]);
        !containers.is_empty() && containers.iter().all(|name| matches!(name.as_str(), NONE | "~gone"))
    };
    assert!(within(Duration::from_secs(30), is_over).is_some(), "rows of cgroups that are gone stay");
    let before = receiver.received().len();
    receiver.wait(before + 3);
    let scraped = whole(tapster.scrape().sum(SWITCHES, &[]));
    let sums = series::summed(receiver.taken().iter().map(|request| &request.request));
    let (mut pushed, mut gone, mut names) = (0.0, 0.0, 0_u32);
    for ((name, labels), series) in &sums {
        if let Series::Counter(count) = series
            && name == SWITCHES
        {
            pushed += count;
            names += 1;
            if labels.get(LABELS[2]).is_some_and(|container| container == "~gone") {
                gone += count;
            }
        }
    }
    // What a scrape has, all of it with what is gone, a receiver of differences has once.
    assert_eq!(whole(pushed), scraped, "differences of {names} series");
    assert!(scraped > 10 * u64::from(count), "{scraped} switches of {count} cgroups");
    assert!(names * 2 > count, "only {names} series were pushed under a name of their own");
    assert!(gone * 5.0 < pushed, "{gone} of {pushed} are with what is gone");
    Ok(format!(
        "{scraped} switches in differences of {names} series, {gone} of them of what nobody saw living"
    ))
}

#[test]
fn what_is_gone_is_not_sent_twice() {
    let _host = crate::host();
    let Some(mut cases) = Cases::as_root("gone") else {
        return;
    };
    cases.run("cgroups that live for a second", || lives(40));
    cases.finish();
}
