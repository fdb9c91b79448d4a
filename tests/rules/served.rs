//! The tables of families by which the names in rules are checked are what the exporter serves.

use crate::support::{cases::Outcome, command::root, exporter::Tapster, families};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::symlink,
    thread,
    time::Duration,
};
use tapster::{
    disks::DiskWatch,
    host::Host,
    topology::{self, Watch},
};

/// The tables of the exporter's own families are what the exporter serves: those about pushes only while it pushes.
pub(crate) fn families_are_served() -> Outcome {
    root()?;
    let known = families::series();
    let mut figures = Vec::new();
    // Nobody listens on the port of `discard`, and nobody needs to.
    let directory = tempfile::tempdir().unwrap();
    let web = directory.path().join("web.yml");
    fs::write(&web, "rate_limit: { interval: 0 }\n").unwrap();
    let web = web.display().to_string();
    let push = ["--otlp.endpoint", "http://127.0.0.1:9", "--otlp.interval", "1s", "--web.config.file", &web];
    for arguments in [&[][..], &push] {
        let tapster = Tapster::start(&[&["--run-stats"], arguments].concat());
        let response = tapster.get("/metrics");
        let served: BTreeSet<&str> = response
            .text()
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .collect();
        for name in &served {
            assert!(known.contains_key(*name), "testing/src/families.rs does not know `{name}`");
        }
        let is_pushed = !arguments.is_empty();
        for (name, _) in families::PUSH.iter().chain(&families::WEB) {
            assert_eq!(served.contains(name), is_pushed, "`{name}` with {arguments:?}");
        }
        let metrics = tapster.scrape();
        for (name, labels) in
            families::OWN.iter().chain(families::PUSH.iter().chain(&families::WEB).filter(|_| is_pushed))
        {
            assert!(served.contains(name), "`{name}` is not served");
            for sample in metrics.0.iter().filter(|sample| sample.name == *name) {
                let found: BTreeSet<&str> = sample.labels.keys().map(String::as_str).collect();
                assert_eq!(found, labels.iter().copied().collect::<BTreeSet<_>>(), "{name}");
            }
        }
        for result in families::RESULTS.iter().filter(|_| is_pushed) {
            let found = metrics.find("tapster_otlp_pushes_total", &[("result", result)]);
            assert!(found.is_some(), "no pushes are `{result}`");
        }
        figures.push(format!("{}", served.len()));
    }
    Ok(format!("{} families, {} while pushing", figures[0], figures[1]))
}

/// The table of the families of arrays is what the topology makes of one that has all of them.
pub(crate) fn arrays_are_described() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let md = directory.path().join("block/md0/md");
    let member = directory.path().join("block/sda");
    fs::create_dir_all(md.join("dev-sda")).unwrap();
    fs::create_dir_all(&member).unwrap();
    symlink(&member, md.join("dev-sda/block")).unwrap();
    for (file, text) in [
        ("dev", "9:0"),
        ("md/level", "raid1"),
        ("md/raid_disks", "2"),
        ("md/degraded", "1"),
        ("md/array_state", "active"),
        ("md/sync_action", "recover"),
        ("md/sync_completed", "64 / 128"),
        ("md/dev-sda/slot", "0"),
        ("md/dev-sda/state", "in_sync"),
        ("../sda/dev", "8:0"),
        ("size", "8"),
    ] {
        fs::write(md.with_file_name(file), format!("{text}\n")).unwrap();
    }
    fs::create_dir_all(directory.path().join("dev/md")).unwrap();
    symlink("../md0", directory.path().join("dev/md/data")).unwrap();
    let host = Host { sys: directory.path().into(), dev: directory.path().join("dev"), ..Host::default() };
    fs::create_dir_all(md.with_file_name("slaves/sda")).unwrap();
    let arrays = Watch::new(&host).refresh();
    let made: BTreeMap<String, Vec<String>> = topology::families(&arrays)
        .into_iter()
        .chain(DiskWatch::new(&host).families(&arrays))
        .map(|family| (family.name.to_string(), family.label_names.to_vec()))
        .collect();
    let table: BTreeMap<String, Vec<String>> = families::ARRAYS
        .into_iter()
        .map(|(name, labels)| (name.to_owned(), labels.iter().map(ToString::to_string).collect()))
        .collect();
    assert_eq!(made, table);
    Ok(format!("{} families", table.len()))
}

/// The kernel's own count of switches is there beside a probe of the scheduler, grows as the probe counts, and is not read otherwise.
pub(crate) fn switches_are_compared() -> Outcome {
    root()?;
    let [(own, _)] = families::SCHED;
    let other = Tapster::start(&["--probes", "block_io"]);
    assert_eq!(other.scrape().find(own, &[]), None);
    drop(other);
    let tapster = Tapster::start(&["--probes", "sched_switches"]);
    let read = || {
        let metrics = tapster.scrape();
        let own = metrics.find(own, &[]).expect("a probe of the scheduler is there");
        (own, metrics.sum("tapster_context_switches_total", &[]))
    };
    let before = read();
    thread::sleep(Duration::from_secs(3));
    let after = read();
    let (own, counted) = (after.0 - before.0, after.1 - before.1);
    assert!(own > 100.0, "{own} switches in three seconds");
    // The one is read some moments after the other.
    assert!((own - counted).abs() < 0.05 * own + 100.0, "{own} by the kernel, {counted} counted");
    Ok(format!("{own} switches by the kernel, {counted} counted"))
}
