//! Paths of files that programs put together in the kernel, beside where the test put the files and what the kernel says of their
//! mounts.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]

use tapster_testing as support;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use support::{cases::Cases, exporter::Tapster, fixture, metrics::whole};

/// The name of the program.
const NAME: &str = "pathtest";
/// What a label has room for, without the NUL and the mark of what is cut.
const ROOM: usize = 96 - 5;
const SHORT: usize = 32 - 5;

/// Where the mount of a file begins, and what of its file system is mounted there.
fn mount(of: &Path) -> (PathBuf, PathBuf) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = table.lines().map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        (PathBuf::from(fields[4]), PathBuf::from(fields[3]))
    });
    // Of two at one place the later one hides the other.
    mounts.filter(|(at, _)| of.starts_with(at)).max_by_key(|(at, _)| at.components().count()).unwrap()
}

/// A path as it is shown in this room.
fn shown(path: &Path, room: usize) -> String {
    let path = path.to_str().unwrap();
    if path.len() <= room {
        return path.to_owned();
    }
    let begins = path.match_indices('/').map(|(at, _)| &path[at..]);
    let rest = begins.into_iter().find(|rest| rest.len() <= room).unwrap_or_default();
    format!("~cut{rest}")
}

fn programs() -> String {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let source = ["/bin/true", "/usr/bin/true"].into_iter().find(|path| Path::new(path).exists()).unwrap();
    let tapster = Tapster::start(&[
        "-c",
        fixture::file("probes/paths.yaml").to_str().unwrap(),
        "--strict",
        "--probes",
        "starts_by_path",
    ]);
    let mut expected: BTreeMap<[String; 3], u64> = BTreeMap::new();
    let mut longest = 0;
    for (times, place) in
        (1..).zip(["", "a", "some/directories/below/each/other", &"long/".repeat(20), &"n".repeat(200)])
    {
        let place = directory.path().join(place);
        fs::create_dir_all(&place).unwrap();
        let program = fs::canonicalize(place).unwrap().join(NAME);
        fs::copy(source, &program).unwrap();
        for _ in 0..times {
            assert!(Command::new(&program).status().unwrap().success());
        }
        let (at, root) = mount(&program);
        let below = program.strip_prefix(&at).unwrap();
        let (path, file) = (Path::new("/").join(below), root.join(below));
        longest = longest.max(path.as_os_str().len());
        let labels = [shown(&path, ROOM), shown(&file, ROOM), shown(&path, SHORT)];
        *expected.entry(labels).or_default() += times;
    }
    let metrics = tapster.scrape();
    let found: BTreeMap<[String; 3], u64> = metrics
        .0
        .iter()
        .filter(|sample| sample.name == "tapster_starts_by_path_total")
        .map(|sample| {
            (["path", "file", "short"].map(|label| sample.labels[label].clone()), whole(sample.value))
        })
        .collect();
    assert_eq!(found, expected);
    for reason in ["fault", "busy", "max_series"] {
        assert_eq!(whole(metrics.sum("tapster_probe_dropped_total", &[("reason", reason)])), 0, "{reason}");
    }
    format!("{} starts of {} files, of up to {longest} bytes", expected.values().sum::<u64>(), expected.len())
}

#[test]
fn paths_are_those_of_the_mount() {
    let Some(mut cases) = Cases::as_root("paths") else { return };
    cases.run("programs", || Ok(programs()));
    cases.finish();
}
