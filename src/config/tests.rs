//! Tests of what runs.

use super::*;
use std::io::Write;

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn names(config: &Config) -> Vec<&str> {
    config.probes.iter().map(|probe| probe.name.value.as_str()).collect()
}

#[test]
fn the_library_runs_alone_or_beside_files() {
    assert_eq!(
        names(&load(&ProbeSelection::default()).unwrap()),
        ["block_io", "block_request", "raid_member", "raid_member"]
    );
    let own = file(
        "library: [block_io]\nprobes:\n  - name: forks\n    at: tracepoint:sched:sched_process_fork\n    metrics: [{counter: forks_total}]\n",
    );
    let selection = |probes: &[&str]| ProbeSelection {
        files: vec![own.path().into(), own.path().into()],
        probes: probes.iter().map(ToString::to_string).collect(),
        ..ProbeSelection::default()
    };
    assert_eq!(names(&load(&selection(&[])).unwrap()), ["forks", "block_io", "forks"]);
    assert_eq!(names(&load(&selection(&["block_io"])).unwrap()), ["block_io"]);
    let error = load(&selection(&["block_oi"])).unwrap_err().to_string();
    assert_eq!(error, "there is no probe `block_oi`; did you mean `block_io`?");
}

#[test]
fn a_directory_means_its_files() {
    let directory = tempfile::tempdir().unwrap();
    let selection = ProbeSelection { files: vec![directory.path().into()], ..ProbeSelection::default() };
    assert!(matches!(load(&selection), Err(ConfigError::Nothing)));
    let probe = |name: &str| {
        format!(
            "probes:\n  - name: {name}\n    at: tracepoint:sched:sched_process_fork\n    metrics: [{{counter: {name}_total}}]\n"
        )
    };
    let marks = selection.marks();
    for (file, name) in [("b.yml", "second"), ("a.yaml", "first"), (".c.yaml", "hidden"), ("d.txt", "text")] {
        fs::write(directory.path().join(file), probe(name)).unwrap();
    }
    fs::create_dir(directory.path().join("e.yaml")).unwrap();
    assert_ne!(marks, selection.marks());
    assert_eq!(names(&load(&selection).unwrap()), ["first", "second"]);
    let marks = selection.marks();
    fs::write(directory.path().join("b.yml"), probe("other")).unwrap();
    assert_ne!(marks, selection.marks());
    assert_eq!(names(&load(&selection).unwrap()), ["first", "other"]);
}

#[test]
fn words_are_shipped_probes_or_files() {
    let own = file(
        "library: [block_io]\nprobes:\n  - name: forks\n    at: tracepoint:sched:sched_process_fork\n    metrics: [{counter: forks_total}]\n",
    );
    let path = own.path().display().to_string();
    let named = |words: &[&str]| {
        load(&ProbeSelection {
            words: words.iter().map(ToString::to_string).collect(),
            ..ProbeSelection::default()
        })
    };
    assert_eq!(names(&named(&[]).unwrap()), names(&load(&ProbeSelection::default()).unwrap()));
    assert_eq!(
        names(&named(&["block_request", &path, "block_io"]).unwrap()),
        ["block_request", "forks", "block_io"]
    );
    // A group includes probes that are off by default.
    assert_eq!(
        names(&named(&["sched"]).unwrap()),
        ["sched_off_cpu", "sched_run_queue", "sched_switches", "sched_migrations"]
    );
    assert_eq!(names(&named(&["block_io", "block"]).unwrap()), ["block_io", "block_request"]);
    for (word, expected) in [
        ("shed", "`shed` is neither a shipped probe nor a file of probes; did you mean `sched`?"),
        ("block_oi", "`block_oi` is neither a shipped probe nor a file of probes; did you mean `block_io`?"),
        ("", "`` is neither a shipped probe nor a file of probes"),
        ("missing.yaml", "cannot read `missing.yaml`: No such file or directory (os error 2)"),
        ("./block_io", "cannot read `./block_io`: No such file or directory (os error 2)"),
    ] {
        assert_eq!(named(&[word]).unwrap_err().to_string(), expected);
    }
    // A directory stands for its files, and words go with `-c` and `--probes`.
    let directory = tempfile::tempdir().unwrap();
    fs::copy(own.path(), directory.path().join("own.yaml")).unwrap();
    let selection = ProbeSelection {
        words: vec![directory.path().display().to_string(), "syscalls".into()],
        files: vec![own.path().into()],
        probes: vec!["forks".into(), "syscalls".into()],
        ..ProbeSelection::default()
    };
    assert_eq!(names(&load(&selection).unwrap()), ["forks", "forks", "syscalls"]);
    assert_eq!(selection.paths(), [own.path(), directory.path()]);
}

#[test]
fn what_is_off_runs_when_it_is_named() {
    let own = file(
        "probes:\n  - name: forks\n    at: tracepoint:sched:sched_process_fork\n    metrics: [{counter: forks_total}]\n\
         \x20 - name: execs\n    enabled: false\n    at: tracepoint:sched:sched_process_exec\n    metrics: [{counter: execs_total}]\n",
    );
    let selection = |probes: &[&str]| ProbeSelection {
        files: vec![own.path().into()],
        probes: probes.iter().map(ToString::to_string).collect(),
        ..ProbeSelection::default()
    };
    let config = load(&selection(&[])).unwrap();
    assert_eq!(names(&config), ["forks"]);
    assert_eq!(config.off.len(), 1);
    assert_eq!(names(&load(&selection(&["execs"])).unwrap()), ["execs"]);
    assert_eq!(names(&load(&selection(&["execs", "forks"])).unwrap()), ["forks", "execs"]);
    let near = load(&selection(&["exces"])).unwrap_err().to_string();
    assert_eq!(near, "there is no probe `exces`; did you mean `execs`?");
    let all_off = file(
        "probes:\n  - name: execs\n    enabled: false\n    at: tracepoint:sched:sched_process_exec\n    metrics: [{counter: execs_total}]\n",
    );
    let selection = ProbeSelection { files: vec![all_off.path().into()], ..ProbeSelection::default() };
    let nothing = load(&selection).unwrap_err().to_string();
    assert!(nothing.contains("all are off") && nothing.ends_with("--probes execs"), "{nothing}");
    assert_eq!(survey(&selection).unwrap().off.len(), 1);
}

#[test]
fn a_file_that_cannot_be_read_hides_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let good = "probes: [{ name: forks, at: \"tracepoint:sched:sched_process_fork\", metrics: [{ counter: forks_total }] }]\n";
    fs::write(directory.path().join("b.yaml"), good).unwrap();
    std::os::unix::fs::symlink("/nonexistent", directory.path().join("a.yaml")).unwrap();
    let selection = ProbeSelection { files: vec![directory.path().into()], ..ProbeSelection::default() };
    let config = survey(&selection).unwrap();
    assert_eq!((names(&config), config.unread.len()), (vec!["forks"], 1));
    assert!(load(&selection).unwrap_err().to_string().contains("a.yaml"));
}

#[test]
fn mistakes_are_told_and_the_rest_is_kept() {
    let wrong = file("library: [block_oi]\nprobes: [{name: x}]\n");
    let config =
        load(&ProbeSelection { files: vec![wrong.path().into()], ..ProbeSelection::default() }).unwrap();
    assert_eq!(config.diagnostics.len(), 3);
    assert!(
        load(&ProbeSelection { files: vec!["/nonexistent".into()], ..ProbeSelection::default() })
            .unwrap_err()
            .to_string()
            .contains("/nonexistent")
    );
}

/// What is said of two files, and of a flag beside them.
#[test]
fn the_strongest_override_holds() {
    let one = file(
        "library: [block]\noverrides: { block: { max_series: 100, schema: 2 }, block_io: { schema: 1 } }\n",
    );
    let two = file("overrides: { block_request: { max_series: 200, metrics: { exclude: \"*_total\" } } }\n");
    let load = |flags: &[&str]| {
        load(&ProbeSelection {
            files: vec![one.path().into(), two.path().into()],
            overrides: flags.iter().map(ToString::to_string).collect(),
            ..ProbeSelection::default()
        })
        .unwrap()
    };
    let most = |config: &Config| config.probes.iter().map(|probe| probe.max_series).collect::<Vec<_>>();
    let config = load(&[]);
    assert!(config.diagnostics.is_empty(), "{:?}", config.diagnostics);
    assert_eq!((names(&config), most(&config)), (vec!["block_io", "block_request"], vec![100, 200]));
    assert!(config.probes[1].metrics.iter().all(|metric| !metric.name.value.ends_with("_total")));
    assert!(config.probes[0].meaning.ends_with("overrides: max_series: 100, schema: 1"));
    let config = load(&["block.max_series=300"]);
    assert_eq!(most(&config), [300, 300]);
    // That of the second file does nothing any more.
    let said: Vec<String> = config.diagnostics.iter().map(|diagnostic| diagnostic.message.clone()).collect();
    assert_eq!(
        said,
        ["`max_series` of `block` changes nothing", "`max_series` of `block_request` changes nothing"]
    );
    // Two files cannot say the same.
    let both = file("overrides: { block: { schema: 0 } }\n");
    let config = survey(&ProbeSelection {
        files: vec![one.path().into(), both.path().into()],
        ..ProbeSelection::default()
    })
    .unwrap();
    assert!(config.diagnostics[0].message.starts_with("`schema` of `block` is given twice: `"));
    assert!(config.diagnostics[0].is_error());
}

/// Units of shipped histograms follow from their names, by which bounds are read.
#[test]
fn names_of_shipped_histograms_say_their_units() {
    for probe in library().unwrap() {
        for (name, kind) in probe.families() {
            let metric = probe.metrics.iter().find(|metric| metric.name == *name);
            let has_unit = metric.is_some_and(|metric| metric.unit.is_some());
            let is_plain = kind != tapster_ebpf::names::FamilyKind::Histogram;
            assert!(is_plain || has_unit || name.value.ends_with("_seconds"), "{}", name.value);
        }
    }
}
