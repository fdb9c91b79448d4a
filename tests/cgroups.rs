//! Cgroups that are chosen in the kernel, beside a task that counts its own calls: it makes a cgroup, goes there, calls at once, leaves
//! it and removes it, so that each call is one of the first in its cgroup.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]

use tapster_testing as support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use support::{
    cases::{Cases, Outcome, Skip},
    exporter::Tapster,
    fixture,
    metrics::{Metrics, whole},
    pods::Tree,
    processor::pin,
};
use tapster::{
    exporter::{Exporter, StartOptions},
    host::Host,
    kernel::Kernel,
    source::Source,
    sys::{Map, PossibleCpus},
};
use tapster_ebpf::{declaration, diagnostic::SourceFile, layout::CGROUPS, program::ROWS};

/// The name of the thread whose calls are counted.
const NAME: &str = "chooser";
/// Cgroups that are made, of which every second is a pod.
const GROUPS: u64 = 200;
/// Calls in each of them.
const CALLS: u64 = 7;
/// One in so many of the pods also starts a program.
const STARTS: u64 = 10;

/// A tree of cgroups, and where this process is in its hierarchy.
struct Hierarchy {
    tree: Tree,
    home: PathBuf,
}

impl Hierarchy {
    /// Those of this machine in which a task of this process has the cgroup that probes see.
    fn of(version: &str) -> Result<Self, Skip> {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let path = |controllers: &dyn Fn(&str) -> bool| {
            own.lines().find_map(|line| {
                let mut fields = line.splitn(3, ':').skip(1);
                let found = controllers(fields.next()?);
                fields.next().filter(|_| found).map(str::to_owned)
            })
        };
        let old = path(&|names| names.split(',').any(|name| name == "cpu"));
        if version == "v2" && old.as_ref().is_some_and(|path| path != "/") {
            return Err(Skip("the test is in a cgroup of the processor controller in version 1".into()));
        }
        let home = if version == "v2" { path(&str::is_empty) } else { old };
        let trees = Tree::all()?;
        let tree = trees.into_iter().find(|(found, _)| *found == version).map(|(_, tree)| tree);
        let tree = tree.ok_or_else(|| Skip(format!("no cgroup of {version} can be made")))?;
        let root = tree.0.parent().unwrap().to_owned();
        Ok(Self { tree, home: root.join(home.unwrap_or_default().trim_start_matches('/')) })
    }
}

fn enter(group: &Path) {
    fs::write(group.join("cgroup.procs"), std::process::id().to_string()).unwrap();
}

fn call(times: u64) {
    for _ in 0..times {
        // SAFETY: it takes no memory.
        assert!(unsafe { libc::getpgid(0) } >= 0);
    }
}

fn no_losses(metrics: &Metrics) {
    for reason in ["max_series", "busy", "fault", "each_limit"] {
        let found = metrics.sum("tapster_probe_dropped_total", &[("reason", reason)]);
        assert_eq!(whole(found), 0, "{reason}");
    }
}

/// What the loop did: calls in pods and outside, programs started in pods, cgroups made.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    pods: u64,
    others: u64,
    forks: u64,
    made: u64,
}

impl Counts {
    fn of(metrics: &Metrics) -> Self {
        let sum = |name: &str, labels: &[(&str, &str)]| {
            whole(metrics.sum(&format!("tapster_{name}_total"), labels))
        };
        Self {
            pods: sum("chosen_calls", &[("chosen", "yes")]),
            others: sum("chosen_calls", &[("chosen", "no")]),
            forks: sum("chosen_forks", &[]),
            made: sum("chosen_cgroups", &[]),
        }
    }
}

/// Makes many cgroups that live for a moment.
fn short_lives(hierarchy: &Hierarchy) -> (Counts, Duration) {
    let root = &hierarchy.tree.0;
    let mut counts = Counts::default();
    let mut make = |path: &Path| {
        fs::create_dir(path).unwrap();
        counts.made += 1;
    };
    let parents =
        ["kubepods", "kubepods/besteffort", "elsewhere", "elsewhere/kubepods"].map(|name| root.join(name));
    for parent in &parents {
        make(parent);
    }
    let mut longest = Duration::ZERO;
    for number in 0..GROUPS {
        let is_pod = number % 2 == 0;
        let parent = if is_pod { &parents[1] } else { &parents[3] };
        let group = parent.join(format!("pod{number}"));
        let begun = Instant::now();
        make(&group);
        enter(&group);
        call(CALLS);
        longest = longest.max(begun.elapsed());
        *(if is_pod { &mut counts.pods } else { &mut counts.others }) += CALLS;
        if number % (2 * STARTS) < 2 {
            assert!(Command::new("true").stdin(Stdio::null()).status().unwrap().success());
            counts.forks += u64::from(is_pod);
        }
        enter(&hierarchy.home);
        call(1);
        counts.others += 1;
        fs::remove_dir(&group).unwrap();
    }
    (counts, longest)
}

fn counted(version: &str) -> Outcome {
    let hierarchy = Hierarchy::of(version)?;
    let file = fixture::file("probes/cgroups.yaml");
    let tapster = Tapster::start(&[
        "-c",
        file.to_str().unwrap(),
        "--strict",
        "--probes",
        "chosen_calls,chosen_forks,chosen_cgroups",
    ]);
    // A thread of that name, because the name of the test's own is another.
    let load = move || {
        let done = short_lives(&hierarchy);
        // The cgroups are removed with the tree.
        drop(hierarchy);
        done
    };
    let before = Counts::of(&tapster.scrape());
    assert_eq!(before, Counts::default());
    let (counts, longest) = thread::Builder::new().name(NAME.into()).spawn(load).unwrap().join().unwrap();
    let after = tapster.scrape();
    no_losses(&after);
    let found = Counts::of(&after);
    assert_eq!(found, counts);
    Ok(format!(
        "{} calls in pods, {} elsewhere, {} processes; made, entered and called in within {} µs",
        counts.pods,
        counts.others,
        counts.forks,
        longest.as_micros()
    ))
}

/// A cgroup of version 1 may get another name: what is remembered of it is given up with the next sweep, and what is remembered of
/// one of version 2 is not.
fn renamed() -> Outcome {
    const YAML: &str = r#"
probes:
  - name: renamed
    rows: per_cpu
    at: "tracepoint:syscalls:sys_enter_getpgid"
    where: comm == "chooser"
    labels: { pod: 'cgroup_matches("/tapster-test-*/pods/*")' }
    metrics: [{ counter: renamed_total, help: x }]
"#;
    let hierarchy = Hierarchy::of("v1")?;
    let kernel = Kernel::detect(&Host::default());
    let (file, diagnostics) = declaration::parse(&SourceFile::new("renamed", YAML));
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    let options = StartOptions { run_stats: false, attach: true, command: false };
    let (exporter, ..) = Exporter::start(&file.probes, &kernel, &Host::default(), Vec::new(), options);
    let calls = move || {
        let probes = exporter.probes();
        let reader = probes[0].reader().unwrap_or_else(|| panic!("{:?}", exporter.status()[0].down));
        let map = |index| {
            Map::open(reader.attached().map(index).unwrap(), PossibleCpus::of_host().unwrap()).unwrap()
        };
        let counts = || {
            let rows = map(ROWS).dump().unwrap();
            let word = |bytes: &[u8]| u64::from_le_bytes(bytes[..8].try_into().unwrap());
            let count = |copies: &[u8]| copies.chunks_exact(8).map(word).sum::<u64>();
            let of = |pod: u64| -> u64 {
                rows.iter().filter(|(key, _)| word(key) == pod).map(|(_, copies)| count(copies)).sum()
            };
            [of(0), of(1)]
        };
        let sweep = || reader.sweep(reader.now_ns()).unwrap();
        let [pods, others] = ["pods", "others"].map(|name| hierarchy.tree.0.join(name));
        fs::create_dir(&pods).unwrap();
        fs::create_dir(pods.join("a")).unwrap();
        enter(&pods.join("a"));
        call(3);
        assert_eq!(counts(), [0, 3]);
        fs::rename(&pods, &others).unwrap();
        sweep();
        call(5);
        assert_eq!(counts(), [5, 3]);
        enter(&hierarchy.home);
        call(1);
        let answers = map(reader.program().map_named(CGROUPS).unwrap());
        let hierarchies = || {
            let all = answers.dump().unwrap();
            all.iter()
                .map(|(key, _)| u64::from_le_bytes(key[..8].try_into().unwrap()) >> 48)
                .collect::<Vec<_>>()
        };
        assert!(hierarchies().contains(&0), "{:?}", hierarchies());
        sweep();
        assert!(hierarchies().iter().all(|hierarchy| *hierarchy == 0) && !hierarchies().is_empty());
        // Once half of the room is taken, all is found again.
        for number in 0..answers.max_entries() as u64 / 2 {
            answers.update(&[(1 << 40 | number).to_le_bytes(), [0; 8]].concat(), &[0; 8]).unwrap();
        }
        sweep();
        assert_eq!(hierarchies(), Vec::<u64>::new());
        call(1);
        assert_eq!(counts(), [7, 3]);
    };
    thread::Builder::new().name(NAME.into()).spawn(calls).unwrap().join().unwrap();
    Ok("3 calls before, 5 after".into())
}

/// The example, with the test's cgroups in place of those of a site, beside what the kernel says of the moves of each task.
fn moves() -> Outcome {
    const MOVES: u64 = 40;
    const PATTERN: &str = "/{system.slice,kubepods,kubepods.slice}/*";
    let hierarchy = Hierarchy::of("v2")?;
    let example = fs::read_to_string(fixture::repository().join("examples/cgroup/chosen.yaml")).unwrap();
    assert!(example.contains(PATTERN), "{example}");
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = directory.path().join("chosen.yaml");
    fs::write(&file, example.replace(PATTERN, "/tapster-test-*/chosen")).unwrap();
    // Of all tasks of this process, which go into the cgroup together.
    let told = || {
        let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
        let of = |task: PathBuf| {
            let text = fs::read_to_string(task.join("sched")).ok()?;
            let line = text.lines().find(|line| line.starts_with("se.nr_migrations"))?;
            line.rsplit(' ').next()?.parse::<u64>().ok()
        };
        tasks
            .map(of)
            .sum::<Option<u64>>()
            .ok_or_else(|| Skip("the kernel does not tell moves of a task".into()))
    };
    told()?;
    let tapster =
        Tapster::start(&["-c", file.to_str().unwrap(), "--strict", "--probes", "chosen_migrations"]);
    let [chosen, other] = ["chosen", "other"].map(|name| hierarchy.tree.0.join(name));
    fs::create_dir(&chosen).unwrap();
    fs::create_dir(&other).unwrap();
    let mut expected = 0;
    for group in [&chosen, &other] {
        // It stays there until the first move.
        pin(1)?;
        enter(group);
        let before = told()?;
        for number in 0..MOVES {
            pin(usize::try_from(number % 2).unwrap())?;
        }
        let moved = told()? - before;
        enter(&hierarchy.home);
        assert!(moved >= MOVES, "{moved}");
        expected = if *group == chosen { moved } else { expected };
    }
    let found = tapster.scrape();
    no_losses(&found);
    let path = format!("/{}/chosen", hierarchy.tree.0.file_name().unwrap().to_str().unwrap());
    let counted = |labels: &[(&str, &str)]| whole(found.sum("tapster_chosen_migrations_total", labels));
    assert_eq!((counted(&[("cgroup", &path)]), counted(&[])), (expected, expected));
    Ok(format!("{expected} moves, as many as the kernel says"))
}

#[test]
fn chosen_cgroups_count_from_their_first_event() {
    let Some(mut cases) = Cases::as_root("cgroups") else { return };
    cases.run("short cgroups of version 2", || counted("v2"));
    cases.run("short cgroups of version 1", || counted("v1"));
    cases.run("a cgroup with another name", renamed);
    cases.run("moves of tasks", moves);
    cases.finish();
}
