//! The table of reasons for sleeps (docs/adr/0017-reasons.md) against stacks of programs that slept in one known way each,
//! taken by `tests/programs/waits` on five kernels from `/proc/PID/stack`.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};
use tapster::reason::Reasons;
use tapster_ebpf::{glob::Glob, yaml::Node};
use tapster_testing::yaml;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// What was recorded under an older name, or is told more finely.
fn also(expected: &str) -> &[&str] {
    match expected {
        "nanosleep" => &["sleep"],
        "tty_read" => &["tty"],
        "mutex" => &["file_position"],
        _ => &[],
    }
}

#[test]
fn stacks_of_known_sleeps_have_their_reason() {
    let table = Reasons::shipped();
    let (mut right, mut wrong) = (BTreeMap::<(&str, &str), u64>::new(), BTreeMap::new());
    let text = std::fs::read_to_string(file("tests/fixtures/reasons/stacks.tsv")).unwrap();
    for line in text.lines().skip(1) {
        let [kernel, kind, expected, samples, functions] =
            line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let functions: Vec<&str> = functions.split_whitespace().collect();
        let samples: u64 =
            samples.trim_end_matches(|letter: char| letter.is_ascii_alphabetic()).parse().unwrap();
        let found = table.of(functions.iter().copied()).unwrap_or("none");
        let mut accepted =
            expected.split(',').flat_map(|one| std::iter::once(one).chain(also(one).iter().copied()));
        let is_right = accepted.any(|one| one == found);
        *right.entry((kernel, kind)).or_default() += if is_right { samples } else { 0 };
        let (of, wrongly) = wrong.entry((kernel, kind)).or_insert((0, BTreeSet::new()));
        *of += samples;
        if !is_right {
            wrongly.insert(format!("{found} for {}", functions.join(" ")));
        }
    }
    assert!(right.len() > 280, "{} kinds on all kernels", right.len());
    let low: Vec<_> = wrong.iter().filter(|(case, (of, _))| right[case] * 100 < of * 95).collect();
    assert!(low.is_empty(), "less than 95 % have the right reason: {low:#?}");
}

/// Rows of a file of the tests, without its heading.
fn rows(name: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(file("tests/fixtures/reasons").join(name)).unwrap();
    text.lines().skip(1).map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

/// Names of functions in an entry, callers apart, without the one that is every function.
fn patterns(entry: &Node) -> impl Iterator<Item = &str> {
    let lists = ["functions", "innermost"].map(|key| yaml::items(entry, key)).into_iter().flatten();
    lists.flat_map(|pattern| yaml::text(pattern).split(';')).filter(|part| *part != "*")
}

/// `functions.tsv` is made of what five kernels and all their modules say of themselves
/// (`cargo test --release --test guest -- --ignored functions_of_reasons`); `elsewhere.tsv` says by hand why none of
/// those has a function.
#[test]
fn each_pattern_is_of_a_function_that_some_kernel_has() {
    let table = yaml::read(&file("config/reasons/linux.yaml"));
    let (found, elsewhere) = (rows("functions.tsv"), rows("elsewhere.tsv"));
    let mut known: BTreeSet<&str> = BTreeSet::new();
    for row in &found {
        let [pattern, kernels, function] = row.as_slice() else { panic!("{row:?}") };
        assert!(!kernels.is_empty() && Glob::new(pattern).matches(function), "{row:?}");
        assert!(known.insert(pattern), "`{pattern}` is there twice");
    }
    for row in &elsewhere {
        let [pattern, why] = row.as_slice() else { panic!("{row:?}") };
        let is_reason = ["inlined", "arm64", "OpenZFS"].contains(&why.as_str()) || why.starts_with("CONFIG_");
        assert!(is_reason, "{row:?}");
        assert!(known.insert(pattern), "`{pattern}` is in both files");
    }
    let mut used: BTreeSet<&str> = BTreeSet::new();
    for entry in yaml::items(&table, "reasons") {
        let reason = yaml::text(yaml::get(entry, "reason").unwrap());
        let before = used.len();
        used.extend(patterns(entry));
        assert!(used.len() > before, "`{reason}` has no pattern of its own");
    }
    let missing: Vec<_> = used.difference(&known).collect();
    assert!(missing.is_empty(), "no kernel has {missing:?}");
    let stale: Vec<_> = known.difference(&used).collect();
    assert!(stale.is_empty(), "not in the table: {stale:?}");
    assert!(
        found.len() > 1200 && elsewhere.len() * 10 < found.len(),
        "{} and {}",
        found.len(),
        elsewhere.len()
    );
}

/// A thread of the kernel is idle where its own function sleeps, and not where it has work.
#[test]
fn threads_that_have_work_are_not_idle() {
    let table = Reasons::shipped();
    for (stack, reason) in [
        ("ret_from_fork_asm;ret_from_fork;kthread;worker_thread", Some("idle_worker")),
        ("ret_from_fork_asm;ret_from_fork;kthread;worker_thread;process_one_work;some_work", None),
        ("ret_from_fork_asm;ret_from_fork;kthread;some_thread", Some("idle_kernel")),
        ("ret_from_fork_asm;ret_from_fork;kthread;some_thread;some_wait", None),
        ("ret_from_fork_asm;ret_from_fork;kthread;kjournald2", Some("idle_file_system")),
        (
            "ret_from_fork_asm;ret_from_fork;kthread;kjournald2;jbd2_journal_commit_transaction",
            Some("journal"),
        ),
        (
            "ret_from_fork;kthread;worker_thread;process_one_work;wb_workfn;wb_writeback;wbt_wait;rq_qos_wait",
            Some("block_throttle"),
        ),
        ("entry_SYSCALL_64_after_hwframe;do_syscall_64;some_call;some_thread", None),
    ] {
        assert_eq!(table.of(stack.rsplit(';')), reason, "{stack}");
    }
}

#[test]
fn a_reason_has_one_sentence() {
    let file = yaml::read(&file("config/reasons/linux.yaml"));
    let mut texts: BTreeMap<&str, &str> = BTreeMap::new();
    for entry in yaml::items(&file, "reasons") {
        let of = |key| yaml::text(yaml::get(entry, key).unwrap());
        let known = texts.insert(of("reason"), of("text"));
        assert!(known.is_none_or(|known| known == of("text")), "`{}` has two", of("reason"));
        let is_identifier = |id: &str| {
            id.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit())
        };
        assert!(is_identifier(of("reason")), "{}", of("reason"));
    }
    assert!(texts.len() > 160);
}
