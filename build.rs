//! Finds out what the program is built from: the commit, the target, the compiler. The same sources, commit and tools give the
//! same texts, wherever they are.
//!
//! The commit is that of `TAPSTER_COMMIT`, which packaging sets, or of the clone that this is. Otherwise it is left out: a parent
//! directory's history is not this one's. In development builds it is left out too, as each commit would build all anew.

use std::{
    env,
    path::Path,
    process::{Command, exit},
};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=TAPSTER_COMMIT");
    let variable = |name: &str| {
        env::var(name).unwrap_or_else(|_| {
            println!("cargo::error=cargo does not set `{name}`");
            exit(1)
        })
    };
    let given = env::var("TAPSTER_COMMIT").ok().filter(|commit| !commit.is_empty());
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = given.or_else(|| is_release.then(commit).flatten()).unwrap_or_default();
    let target = variable("TARGET");
    let compiler = output(&variable("RUSTC"), &["--version"])
        // `rustc 1.95.0 (0123abcd 2026-01-01)`
        .and_then(|text| Some(text.split(" (").next()?.to_owned()))
        .unwrap_or_else(|| "an unknown compiler".into());
    let version = variable("CARGO_PKG_VERSION");
    let of = if commit.is_empty() { String::new() } else { format!("commit {commit}, ") };
    println!("cargo::rustc-env=TAPSTER_VERSION={version} ({of}{target}, {compiler})");
    println!("cargo::rustc-env=TAPSTER_COMMIT={commit}");
    println!("cargo::rustc-env=TAPSTER_TARGET={target}");
    println!("cargo::rustc-env=TAPSTER_COMPILER={compiler}");
}

/// The commit of the clone that this directory is, and whether files differ from it.
fn commit() -> Option<String> {
    let git = |arguments: &[&str]| output("git", arguments);
    let top = git(&["rev-parse", "--show-toplevel"])?;
    let here = env::current_dir().ok()?.canonicalize().ok()?;
    if Path::new(&top).canonicalize().ok()? != here {
        return None;
    }
    // What a commit, a checkout or an edit changes.
    for file in ["HEAD", "logs/HEAD", "index"] {
        let path = git(&["rev-parse", "--git-path", file])?;
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    for sources in ["src", "ebpf", "sys", "config", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={sources}");
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changes = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changes.is_empty() { commit } else { format!("{commit}, with changes") })
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
