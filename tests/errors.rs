//! What is said about files that are wrong, and hosts that will not do: `tests/errors/NAME.yaml` and what
//! `tapster check` prints about it, `NAME.stderr`.
//!
//! After a change of messages: `TAPSTER_ACCEPT=1 cargo test --test errors`, and read the diff as a user would.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]

use tapster_testing as support;

use std::{
    fmt::Write,
    fs,
    net::TcpListener,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Output},
};
use support::{cases::say, exporter::binary, fixture, golden::Golden};

/// Compares what was printed, and what every refusal of a file has in common.
fn compare(golden: &mut Golden, name: &str, output: &Output) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.status.code() != Some(2) {
        golden.fail(format!("{name}: the exit status is {}, not 2\n{stderr}", output.status));
    }
    // What is right in the file is told of all the same.
    for line in String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.starts_with(' ')) {
        if line.split_whitespace().nth(1) != Some("compiled") {
            golden.fail(format!("{name}: prints to standard output: {line}"));
        }
    }
    for line in stderr.lines().filter_map(|line| line.strip_prefix("error: ")) {
        let first = line.trim_start_matches(|c: char| !c.is_alphabetic() && c != '`').chars().next();
        if first.is_some_and(char::is_uppercase) || line.ends_with('.') {
            golden.fail(format!("{name}: not a message in house style: {line}"));
        }
    }
    golden.compare(&format!("errors/{name}.stderr"), &stderr);
}

/// A file that is wrong in a way that is not to be kept in a repository.
fn made() -> Vec<(&'static str, Vec<u8>)> {
    let probe = |metrics: &str| {
        format!("probes:\n  - name: switches\n    at: tracepoint:sched:sched_switch\n    metrics:\n{metrics}")
            .into_bytes()
    };
    let mut bounds = String::from("      - { histogram: many, value: pid, buckets: [0");
    let mut labels = String::from("      - { counter: a_total }\n    labels:\n");
    let mut probes = String::from("probes:\n");
    for number in 1..10_000 {
        write!(bounds, ", {number}").unwrap();
    }
    for number in 0..100 {
        writeln!(labels, "      label_{number}: pid").unwrap();
    }
    for number in 0..1001 {
        writeln!(probes, "  - {{ name: p{number}, at: \"tracepoint:sched:sched_switch\", metrics: [{{ counter: m{number}_total }}] }}").unwrap();
    }
    let deep = format!("probes: {}1{}\n", "[".repeat(2000), "]".repeat(2000));
    let chain = format!("      - {{ counter: a_total, value: \"{}1\" }}\n", "pid + ".repeat(500));
    let nested =
        format!("      - {{ counter: a_total, value: \"{}1{}\" }}\n", "(".repeat(500), ")".repeat(500));
    let long = format!("      - {{ counter: a_total, value: \"{}\" }}\n", "p".repeat(5000));
    vec![
        ("many_bounds", probe(&(bounds + "] }\n"))),
        ("many_labels", probe(&labels)),
        ("many_probes", probes.into_bytes()),
        ("deep", deep.into_bytes()),
        ("long_chain", probe(&chain)),
        ("nested_expression", probe(&nested)),
        ("long_expression", probe(&long)),
        ("ten_megabytes", format!("# {}\n", "x".repeat(10 << 20)).into_bytes()),
        ("not_utf8", b"probes:\n  - name: switches\n    help: caf\xe9\n".to_vec()),
        ("binary", vec![0; 64]),
        ("control_characters", b"probes: \x1b[31mred\x07\n".to_vec()),
    ]
}

#[test]
fn every_bad_file_is_explained() {
    let kernel = fixture::Kernel::new();
    let mut golden = Golden::new("errors");
    let no_kprobes = fixture::Kernel::without(&["kprobe_events"]);
    let mut names = Vec::new();
    for path in fixture::yaml_files("errors") {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let kernel = if name == "no_kprobes" { &no_kprobes } else { &kernel };
        let output =
            kernel.tapster(&fixture::file("errors"), &["check", "--offline", "-c", &format!("{name}.yaml")]);
        compare(&mut golden, &name, &output);
        names.push(name);
    }
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes) in made() {
        let file = format!("{name}.yaml");
        fs::write(directory.path().join(&file), bytes).unwrap();
        compare(&mut golden, name, &kernel.tapster(directory.path(), &["check", "--offline", "-c", &file]));
        names.push(name.into());
    }
    for (name, file) in [("no_file", "no_such_file.yaml"), ("directory", "/")] {
        compare(&mut golden, name, &kernel.tapster(directory.path(), &["check", "--offline", "-c", file]));
        names.push(name.into());
    }
    for entry in fs::read_dir(fixture::file("errors")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(names.iter().any(|known| known == name), "nothing makes `{}`", path.display());
    }
    golden.finish();
}

#[test]
fn two_files_are_told_apart() {
    let kernel = fixture::Kernel::new();
    let directory = fixture::file("errors");
    let output = kernel.tapster(&directory, &["check", "--offline", "-c", "units.yaml", "-c", "pairs.yaml"]);
    for arguments in [["-c", "units.yaml", "pairs.yaml"], ["units.yaml", "pairs.yaml", "-v"]] {
        let other = kernel.tapster(&directory, &[&["check", "--offline"], &arguments[..]].concat());
        assert_eq!(other.stderr, output.stderr, "{arguments:?}");
    }
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    for file in ["--> units.yaml:", "--> pairs.yaml:"] {
        assert!(stderr.contains(file), "{stderr}");
    }
}

/// Runs a command that must fail with this status and say this.
fn refused(command: &mut Command, status: i32, says: &[&str]) {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{command:?}\n{stderr}");
    for text in says {
        assert!(stderr.contains(text), "{command:?}\nsays nothing of `{text}`:\n{stderr}");
    }
    assert!(!stderr.contains("panicked") && !stderr.contains("RUST_BACKTRACE"), "{stderr}");
}

fn good_file(directory: &Path) -> String {
    let path = directory.join("good.yaml");
    fs::write(&path, "probes: [{ name: switches, at: \"tracepoint:sched:sched_switch\", metrics: [{ counter: a_total }] }]\n").unwrap();
    path.display().to_string()
}

#[test]
fn wrong_usage_is_status_2() {
    let directory = tempfile::tempdir().unwrap();
    let good = good_file(directory.path());
    refused(binary().arg("--no-such-flag"), 2, &["--no-such-flag"]);
    refused(
        binary().args(["check", "--offline", "-c", &good, "--probes", "swithces"]),
        2,
        &["there is no probe `swithces`", "did you mean `switches`?"],
    );
    refused(binary().args(["compile", "blok_io"]), 2, &["blok_io", "hint: "]);
    refused(binary().args(["compile", &good, "--emit", "machine"]), 2, &["machine", "possible values"]);
}

#[test]
fn a_host_without_tracefs_and_btf_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let good = good_file(directory.path());
    let empty = directory.path().join("sys");
    fs::create_dir(&empty).unwrap();
    let empty = empty.display().to_string();
    let says = ["has no BTF", "CONFIG_DEBUG_INFO_BTF=y", "tracefs is not mounted", "mount -t tracefs"];
    refused(
        binary().args(["run", "-c", &good, "--path.sysfs", &empty, "--web.listen-address", "127.0.0.1:0"]),
        1,
        &says,
    );
    refused(binary().args(["list", "--path.sysfs", &empty]), 1, &says[2..]);
    refused(
        binary().args(["check", "--offline", "-c", &good, "--path.sysfs", &empty]),
        2,
        &["this kernel has no tracepoint `sched:sched_switch`", "tracefs cannot be read"],
    );
}

#[test]
fn an_empty_configuration_is_refused() {
    let kernel = fixture::Kernel::new();
    let directory = tempfile::tempdir().unwrap();
    for text in ["", "# nothing\n", "probes: []\n", "library: false\n"] {
        fs::write(directory.path().join("empty.yaml"), text).unwrap();
        refused(
            &mut kernel.command(directory.path(), &["check", "--offline", "-c", "empty.yaml"]),
            2,
            &["no probe"],
        );
    }
}

/// Needs root to give it up.
#[test]
fn without_privilege_it_says_what_is_missing() {
    // SAFETY: it only returns a number.
    if unsafe { libc::geteuid() } != 0 {
        return say("errors: privileges: skipped: needs root to drop them");
    }
    let directory = tempfile::tempdir().unwrap();
    let good = good_file(directory.path());
    // Nobody may not enter the directories of root, so the program goes where all may.
    let copy = directory.path().join("tapster");
    // By another process: a child that this one's other tests begin meanwhile would have the copy open for writing, and
    // what somebody may write cannot be run.
    assert!(
        Command::new("cp")
            .args([env!("CARGO_BIN_EXE_tapster").as_ref(), copy.as_os_str()])
            .status()
            .unwrap()
            .success()
    );
    let open =
        |path: &Path| fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    open(directory.path());
    open(&copy);
    let nobody = |arguments: &[&str]| {
        let mut command = Command::new(&copy);
        command.args(arguments).current_dir("/").uid(65_534).gid(65_534);
        command
    };
    let says = ["this process lacks CAP_BPF and CAP_PERFMON", "hint: run as root"];
    refused(&mut nobody(&["run", "-c", &good, "--web.listen-address", "127.0.0.1:0"]), 1, &says);
    refused(&mut nobody(&["check", "-c", &good]), 1, &says);
    refused(&mut nobody(&["list"]), 1, &["tracefs at ", "hint: run as root"]);
}

/// Needs privilege to come as far as the port.
#[test]
fn a_port_in_use_is_named() {
    // SAFETY: it only returns a number.
    if unsafe { libc::geteuid() } != 0 {
        return say("errors: port in use: skipped: needs root");
    }
    let directory = tempfile::tempdir().unwrap();
    let good = good_file(directory.path());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refused(
        binary().args(["run", "-c", &good, "--web.listen-address", &address]),
        1,
        &["the port is in use", "--web.listen-address"],
    );
    refused(
        binary().args(["run", "-c", &good, "--web.listen-address", "nonsense"]),
        2,
        &["`nonsense` is not a listen address: expected `:18277`"],
    );
}
