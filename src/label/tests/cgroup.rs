//! Paths of cgroups.

use super::super::cgroup::Cgroup;
use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A clock that only the test moves.
#[derive(Clone, Default)]
struct Millis(Arc<AtomicU64>);

impl Millis {
    fn advance(&self, millis: u64) {
        self.0.fetch_add(millis, Ordering::Relaxed);
    }
}

fn open(host: &Host, millis: &Millis) -> Cgroup {
    let (start, millis) = (Instant::now(), millis.clone());
    let clock = move || start + Duration::from_millis(millis.0.load(Ordering::Relaxed));
    Cgroup::new(host, Box::new(clock)).expect("the mount is there")
}

fn host(fixture: &Fixture) -> Host {
    Host { cgroup: Some(fixture.path("cgroup")), ..fixture.host() }
}

/// Makes a cgroup and returns its id.
fn make(fixture: &Fixture, path: &str) -> u64 {
    let path = fixture.path("cgroup").join(path);
    fs::create_dir_all(&path).expect("a writable directory");
    path.metadata().expect("just made").ino()
}

fn remove(fixture: &Fixture, path: &str) {
    fs::remove_dir(fixture.path("cgroup").join(path)).expect("empty");
}

#[test]
fn ids_give_paths_below_the_mount() {
    let fixture = Fixture::new();
    let root = make(&fixture, "");
    let service = make(&fixture, "system.slice/foo.service");
    let slice = make(&fixture, "system.slice");
    fixture.write("cgroup/cgroup.procs", "1\n");
    let mut decoder = open(&host(&fixture), &Millis::default());
    for (id, expected) in
        [(root, "/"), (slice, "/system.slice"), (service, "/system.slice/foo.service"), (0, "~gone")]
    {
        assert_eq!(text(&mut decoder, id), expected);
    }
    assert_eq!(decoder.decode(&[]).as_deref(), Some("~gone"));
}

#[test]
fn walks_are_a_second_apart() {
    let fixture = Fixture::new();
    let millis = Millis::default();
    let root = make(&fixture, "");
    let mut decoder = open(&host(&fixture), &millis);
    assert_eq!(text(&mut decoder, root), "/");
    let late = make(&fixture, "late");
    assert_eq!(text(&mut decoder, late), "~gone");
    millis.advance(999);
    assert_eq!(text(&mut decoder, late), "~gone");
    millis.advance(1);
    assert_eq!(text(&mut decoder, late), "/late");
}

#[test]
fn a_dead_cgroup_keeps_its_path_while_it_is_asked_for() {
    let fixture = Fixture::new();
    let millis = Millis::default();
    let [kept, left] = ["kept", "left"].map(|path| make(&fixture, path));
    let mut decoder = open(&host(&fixture), &millis);
    assert_eq!(text(&mut decoder, kept), "/kept");
    assert_eq!(text(&mut decoder, left), "/left");
    // A file system may give a free inode number to the next directory, so these come first.
    let new: Vec<_> = (0..4).map(|n| make(&fixture, &format!("new{n}"))).collect();
    remove(&fixture, "kept");
    remove(&fixture, "left");
    for (n, id) in new.into_iter().enumerate() {
        millis.advance(1000);
        decoder.refresh(&Arc::default());
        assert_eq!(text(&mut decoder, kept), "/kept");
        // Known since the first of these walks; an unknown id makes another.
        assert_eq!(text(&mut decoder, id), format!("/new{n}"));
        assert_eq!(text(&mut decoder, u64::MAX - u64::try_from(n).expect("small")), "~gone");
    }
    assert_eq!(text(&mut decoder, left), "~gone");
    assert_eq!(text(&mut decoder, kept), "/kept");
}

#[test]
fn the_cache_is_bounded() {
    let fixture = Fixture::new();
    let millis = Millis::default();
    let ids: Vec<_> = (0..10).map(|n| make(&fixture, &n.to_string())).collect();
    let mut decoder = open(&host(&fixture), &millis);
    decoder.limit = 4;
    for _ in 0..3 {
        decoder.refresh(&Arc::default());
        millis.advance(1000);
        let known = ids.iter().filter(|id| text(&mut decoder, **id) != "~gone").count();
        assert!(known <= 4, "{known}");
    }
}

#[test]
fn deep_trees_do_not_hide_the_rest() {
    let fixture = Fixture::new();
    let deep = make(&fixture, &vec!["d"; 100].join("/"));
    let shallow = make(&fixture, "s");
    let mut decoder = open(&host(&fixture), &Millis::default());
    assert_eq!(text(&mut decoder, deep), "~gone");
    assert_eq!(text(&mut decoder, shallow), "/s");
}

#[test]
fn names_that_are_not_utf8_are_escaped() {
    use std::os::unix::ffi::OsStrExt;
    let fixture = Fixture::new();
    let path = fixture.path("cgroup").join(std::ffi::OsStr::from_bytes(b"a\xff"));
    fs::create_dir(&path).expect("a file system that takes any name");
    let mut decoder = open(&host(&fixture), &Millis::default());
    assert_eq!(text(&mut decoder, path.metadata().expect("just made").ino()), "/a\\xff");
}

#[test]
fn the_mount_is_found_in_the_mount_table() {
    let fixture = Fixture::new();
    let id = make(&fixture, "app");
    fs::create_dir(fixture.path("with space")).expect("a writable directory");
    let point = fixture.path("cgroup").display().to_string();
    let spaced = fixture.path("with\\040space").display().to_string();
    let other = "22 1 0:20 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu";
    for (table, expected) in [
        (format!("{other}\n20 41 0:38 / {point} rw,relatime - cgroup2 cgroup2 rw\n"), "/app"),
        (format!("20 41 0:38 / {point} rw shared:4 master:1 - cgroup2 none rw\n{other}"), "/app"),
        // The whole hierarchy is preferred to a part, but a part will do.
        (format!("1 1 0:38 /part {spaced} rw - cgroup2 c rw\n2 1 0:38 / {point} rw - cgroup2 c rw"), "/app"),
        (format!("1 1 0:38 /part {spaced} rw - cgroup2 c rw\n"), "~gone"),
    ] {
        fixture.write("proc/self/mountinfo", &table);
        let mut decoder = open(&fixture.host(), &Millis::default());
        assert_eq!(text(&mut decoder, id), expected, "{table}");
    }
    for table in ["", other, "\n\n- - -\n"] {
        fixture.write("proc/self/mountinfo", table);
        let error = decoder(&Spec::Cgroup, &fixture.host()).err().expect("no cgroup2");
        assert!(matches!(error, LabelError::NoCgroup2 { .. }), "{error}");
    }
}

#[test]
fn the_root_cgroup_of_this_machine() {
    if !is_root() {
        return;
    }
    let mut decoder = match decoder(&Spec::Cgroup, &Host::default()) {
        Ok(decoder) => decoder,
        Err(error) => {
            eprintln!("skipped: {error}");
            return;
        }
    };
    // The root of the hierarchy has id 1; in a container the mount may show another.
    let path = decoder.decode(&1u64.to_le_bytes()).expect("shown");
    assert!(path == "/" || path == "~gone", "{path}");
}
