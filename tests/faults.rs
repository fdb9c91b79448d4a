//! The deliberate faults of `tests/faults`: what their files say, and that each can still be put into the sources. That each is
//! caught is tried by `tests/faults/try`; what came of it is in docs/faults.md.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files, sorted.
fn patches() -> Vec<PathBuf> {
    let files = fs::read_dir(root().join("tests/faults")).unwrap().map(|entry| entry.unwrap().path());
    let mut patches: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "patch")).collect();
    patches.sort();
    patches
}

/// What is changed by one; nothing of the tests themselves, but for the guests, which skip by what they are told.
fn is_product(path: &str) -> bool {
    ["src/", "ebpf/src/", "sys/src/", "config/", "helm/", "dashboards/", "tests/guest/"]
        .iter()
        .any(|directory| path.starts_with(directory))
}

#[test]
fn each_says_what_it_is_and_is_in_the_table() {
    let document = fs::read_to_string(root().join("docs/faults.md")).unwrap();
    let patches = patches();
    assert!(patches.len() >= 30, "{} faults", patches.len());
    for path in patches {
        let (name, text) = (path.file_stem().unwrap().to_str().unwrap(), fs::read_to_string(&path).unwrap());
        let (head, diff) = text.split_once("\n\n").unwrap();
        let mut lines = head.lines();
        let fault = lines.next().unwrap();
        assert!(fault.ends_with('.') && !fault.contains("caught by:"), "{name}: {fault}");
        let (commands, others): (Vec<&str>, Vec<&str>) =
            lines.partition(|line| line.starts_with("caught by: "));
        assert!(!commands.is_empty() && commands.iter().all(|line| line.contains("cargo test ")), "{name}");
        assert!(matches!(others.as_slice(), ["run: short" | "run: long"]), "{name}: {others:?}");
        let mut changed = diff.lines().filter_map(|line| line.strip_prefix("+++ b/")).peekable();
        assert!(changed.peek().is_some() && changed.all(is_product), "{name}");
        assert!(document.contains(&format!("| {name} | {fault} |")), "{name} is not in docs/faults.md");
    }
}

#[test]
#[ignore = "the sources may change as they like; before a release the faults follow them"]
fn each_can_be_put_in() {
    let refused: Vec<String> = patches()
        .iter()
        .filter_map(|path| {
            let output =
                Command::new("git").args(["apply", "--check"]).arg(path).current_dir(root()).output();
            let output = output.unwrap();
            let said = || format!("{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
            (!output.status.success()).then(said)
        })
        .collect();
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}
