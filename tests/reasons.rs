//! The table of reasons for sleeps (docs/adr/0017-reasons.md) against stacks of programs that slept in one known way each,
//! taken by `tests/programs/waits` on five kernels from `/proc/PID/stack`.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]

#[path = "support/yaml.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod yaml;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};
use tapster_ebpf::{glob::Glob, yaml::Data};

/// Of functions that no entry gives a priority.
const PRIORITY: u32 = 50;

struct Pattern {
    priority: u32,
    reason: String,
    glob: Glob,
}

fn table() -> Vec<Pattern> {
    let file = yaml::read(&fixture("reasons.yaml"));
    let mut patterns = Vec::new();
    for entry in yaml::items(&file, "reasons") {
        let reason = yaml::text(yaml::get(entry, "reason").unwrap());
        assert!(!yaml::text(yaml::get(entry, "text").unwrap()).is_empty(), "{reason}");
        let priority =
            yaml::get(entry, "priority").map_or(PRIORITY, |node| yaml::text(node).parse().unwrap());
        for function in yaml::items(entry, "functions") {
            assert!(matches!(function.data, Data::Scalar { .. }), "{reason}");
            patterns.push(Pattern {
                priority,
                reason: reason.to_owned(),
                glob: Glob::new(yaml::text(function)),
            });
        }
    }
    patterns
}

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/reasons").join(name)
}

/// A function without what a compiler appends to the name of a part or a variant.
fn plain(function: &str) -> &str {
    function.split('.').next().unwrap_or(function)
}

/// The reason of a stack: of all that match, what has the highest priority, and of equals the innermost.
fn reason<'a>(table: &'a [Pattern], innermost_first: &[&str]) -> Option<&'a str> {
    let matching = innermost_first
        .iter()
        .rev()
        .flat_map(|function| table.iter().filter(|pattern| pattern.glob.matches(plain(function))));
    matching.max_by_key(|pattern| pattern.priority).map(|pattern| pattern.reason.as_str())
}

/// What the programs call a reason that the table has in finer or coarser form.
fn also(expected: &str) -> &[&str] {
    match expected {
        "nanosleep" => &["sleep"],
        "tty_read" => &["tty"],
        // The lock itself is not in `/proc/PID/stack`, which leaves out what belongs to the scheduler: only who took it.
        "inode_lock" => &["file_write"],
        "mutex" => &["file_position"],
        _ => &[],
    }
}

#[test]
fn stacks_of_known_sleeps_have_their_reason() {
    let table = table();
    let (mut right, mut wrong) = (BTreeMap::<(&str, &str), u64>::new(), BTreeMap::new());
    let text = std::fs::read_to_string(fixture("stacks.tsv")).unwrap();
    for line in text.lines().skip(1) {
        let [kernel, kind, expected, samples, functions] =
            line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let functions: Vec<&str> = functions.split_whitespace().collect();
        let samples: u64 =
            samples.trim_end_matches(|letter: char| letter.is_ascii_alphabetic()).parse().unwrap();
        let found = reason(&table, &functions).unwrap_or("none");
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

#[test]
fn a_reason_has_one_sentence() {
    let file = yaml::read(&fixture("reasons.yaml"));
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
    assert!(texts.len() > 100);
}
