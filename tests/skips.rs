//! `tests/skips`, by which `./test` tells skips that are expected on this machine from others.
#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]

use std::{fs, io::Write, process::Command};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/skips");

/// Whether a run with this output is taken, and what is said of it.
fn judged(output: &str) -> (bool, String) {
    let mut log = tempfile::NamedTempFile::new().unwrap();
    log.write_all(output.as_bytes()).unwrap();
    let judged = Command::new("bash").arg(SCRIPT).arg(log.path()).output().unwrap();
    assert_eq!(judged.stderr, b"", "{}", String::from_utf8_lossy(&judged.stderr));
    (judged.status.success(), String::from_utf8(judged.stdout).unwrap())
}

#[test]
fn a_skip_that_nobody_expects_fails() {
    assert_eq!(judged("test a ... ok\nblock: 3 cases ran, 0 skipped, 0 failed\n"), (true, String::new()));
    let mine = "block: a case of no test: skipped: there is no moon";
    let expected = "unexpected skip: block: a case of no test: there is no moon\n";
    assert_eq!(judged(mine), (false, expected.into()));
    // In the output of a test, which has its name above.
    let unit = "---- sys::tests::moon stdout ----\nskipped: there is no moon\n\ntest result: ok. 1 passed\n";
    assert_eq!(judged(unit), (false, "unexpected skip: sys::tests::moon: there is no moon\n".into()));
}

#[test]
fn what_is_expected_depends_on_who_asks() {
    // SAFETY: it only returns a number.
    let is_root = unsafe { libc::geteuid() } == 0;
    assert_eq!(judged("traced: skipped: needs root\n").0, !is_root);
}

/// A line is a kind of machine and what is skipped there; a kind that the script does not know ends it.
#[test]
fn every_line_is_read() {
    let list = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/skips.txt")).unwrap();
    let lines: Vec<&str> = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert!(!lines.is_empty());
    for line in lines {
        let (_, skip) = line.split_once(' ').unwrap_or_else(|| panic!("`{line}` names no skip"));
        assert!(skip.contains(": "), "`{line}` has no name or no reason");
    }
}
