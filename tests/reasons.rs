//! The table of reasons for sleeps (docs/adr/0017-reasons.md) against stacks of programs that slept in one known way each,
//! taken by `tests/programs/waits` on five kernels from `/proc/PID/stack`.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]

#[path = "support/yaml.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod yaml;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};
use tapster::reason::Reasons;

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
    assert!(texts.len() > 100);
}
