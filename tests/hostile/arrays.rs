//! An array whose attributes do not answer, as those of one that waits for a disk which is dead.

use crate::support::{
    cases::Cases,
    exporter::{Tapster, within},
    fixture,
    metrics::Metrics,
};
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

/// How long a test waits for what comes in a moment.
const PATIENCE: Duration = Duration::from_secs(30);

/// The sysfs of this host with two arrays more.
pub(crate) fn host_with_arrays(sys: &Path) {
    for entry in fs::read_dir("/sys").unwrap().flatten().filter(|entry| entry.file_name() != "block") {
        symlink(entry.path(), sys.join(entry.file_name())).unwrap();
    }
    fs::create_dir(sys.join("block")).unwrap();
    for entry in fs::read_dir("/sys/block").unwrap().flatten() {
        symlink(entry.path(), sys.join("block").join(entry.file_name())).unwrap();
    }
    for (array, numbers) in [("md0", "9:0\n"), ("md1", "9:1\n")] {
        let md = sys.join("block").join(array).join("md");
        fs::create_dir_all(&md).unwrap();
        fs::write(sys.join("block").join(array).join("dev"), numbers).unwrap();
        for (name, text) in [("level", "raid1"), ("array_state", "clean"), ("raid_disks", "2")] {
            fs::write(md.join(name), text).unwrap();
        }
    }
}

/// From now on reading the state of `md0` waits for somebody who writes to what is there; its path.
pub(crate) fn stop_answering(sys: &Path) -> PathBuf {
    let path = sys.join("block/md0/md/array_state");
    fs::remove_file(&path).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

/// The names of a process's threads.
fn threads(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    tasks
        .filter_map(|task| Some(fs::read_to_string(task.path().join("comm")).ok()?.trim().to_owned()))
        .collect()
}

#[test]
fn one_that_does_not_answer_holds_up_nothing() {
    let Some(mut cases) = Cases::as_root("hostile arrays") else { return };
    cases.run("one that does not answer", || {
        let directory = tempfile::tempdir().unwrap();
        let sys = directory.path();
        host_with_arrays(sys);
        let probes = fixture::file("probes/live.yaml");
        let tapster =
            Tapster::start(&["-c", probes.to_str().unwrap(), "--path.sysfs", sys.to_str().unwrap()]);
        let is_in = |scrape: &Metrics, array: &str, state: &str| {
            scrape.find("tapster_raid_array_state", &[("array", array), ("state", state)]) == Some(1.0)
        };
        let age = |scrape: &Metrics| scrape.sum("tapster_source_age_seconds", &[("source", "arrays")]);
        let first = tapster.scrape();
        assert!(is_in(&first, "md0", "clean") && age(&first) < 5.0, "{first:?}");
        let probes = first.values("tapster_probe_up", &[], "probe").len();
        let path = stop_answering(sys);
        fs::write(sys.join("block/md1/md/array_state"), "active").unwrap();
        // The first one waits for it a second, those after it not at all; with a lock none would ever end.
        let begun = Instant::now();
        for _ in 0..20 {
            let scrape = tapster.scrape();
            assert!(is_in(&scrape, "md0", "clean"), "as it was: {scrape:?}");
            assert!(is_in(&scrape, "md1", "active"), "as it is: {scrape:?}");
            assert_eq!(scrape.values("tapster_probe_up", &[], "probe").len(), probes);
        }
        assert!(begun.elapsed() < 20 * Duration::from_secs(1), "each waited: {:?}", begun.elapsed());
        let last = age(&tapster.scrape());
        assert!(last >= 1.0, "{last}");
        // Threads that wait for it do not add up: they are named after what they do.
        let waiting = || threads(tapster.pid()).iter().filter(|name| *name == "read").count();
        assert!(within(PATIENCE, || waiting() == 1).is_some(), "{} threads wait", waiting());
        assert_eq!(tapster.get("/").status, 200);
        let log = tapster.log();
        let told = log.iter().filter(|line| line.contains("does not answer")).count();
        assert_eq!(told, 1, "{log:#?}");
        // The disk comes back.
        let writer = fs::OpenOptions::new().write(true).open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "broken").unwrap();
        drop(writer);
        assert!(within(PATIENCE, || is_in(&tapster.scrape(), "md0", "broken")).is_some());
        let last = age(&tapster.scrape());
        assert!(last < 5.0, "{last}");
        assert!(within(PATIENCE, || waiting() == 0).is_some(), "{} threads wait", waiting());
        Ok("20 scrapes beside it".into())
    });
    cases.finish();
}
