//! What `tapster check` says of the table of reasons: which of its patterns match nothing, on a kernel of few functions and
//! on this one beside `grep`.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]

use tapster_testing as support;

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output},
};
use support::{cases::say, command::tool, exporter::binary, fixture, golden::Golden};

const SITE: &str = "probes:
  - name: slept
    at: rawtracepoint:block:block_rq_issue
    labels: { reason: { value: kstack, as: reason } }
    metrics: [{ counter: slept_total, help: Sleeps. }]
reasons:
  - { reason: grabber, text: Waiting for the frame grabber, functions: [vfs_rea?, grab_*] }
  - { reason: part, functions: [split_by_compiler, 'raid0_*;vfs_read', 'nobody;vfs_read'] }
";

fn stdout(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Lines about the table.
fn told(output: &Output) -> Vec<String> {
    let text = stdout(output);
    let lines = text.lines().skip_while(|line| !line.starts_with("reasons: "));
    lines.map(str::to_owned).collect()
}

/// Reasons and the patterns of theirs that match nothing, as `--verbose` lists them.
fn listed(lines: &[String]) -> Vec<(&str, Vec<&str>)> {
    let lines = lines.iter().filter_map(|line| line.strip_prefix("    "));
    lines
        .map(|line| {
            let (reason, patterns) = line.split_once(": nothing matches ").unwrap();
            let patterns = patterns.strip_suffix(", so it cannot be told").unwrap_or(patterns);
            (reason, patterns.split(", ").collect())
        })
        .collect()
}

#[test]
fn a_kernel_of_few_functions() {
    let kernel = fixture::Kernel::new();
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("site.yaml"), SITE).unwrap();
    let check = |more: &[&str]| {
        let arguments = [&["check", "--offline", "-c", "site.yaml"], more].concat();
        kernel.tapster(directory.path(), &arguments)
    };
    let lines = told(&check(&[]));
    let of = "matches no function of this kernel and its loaded modules";
    assert_eq!(
        lines[..2],
        [
            format!("reasons: `grab_*` of `grabber` {of} (site.yaml:7)"),
            format!("reasons: `nobody;vfs_read` of `part` {of} (site.yaml:8)"),
        ],
        "{lines:#?}"
    );
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert!(lines[2].contains("can be told here, by ") && lines[2].ends_with("(--verbose lists them)"));
    // Of the shipped table the kernel has `vfs_read` at most, and `raid0_make_request` of a module.
    let lines = told(&check(&["--verbose"]));
    let listed = listed(&lines);
    assert!(listed.len() > 100, "{lines:#?}");
    let all: BTreeSet<&str> = listed.iter().flat_map(|(_, patterns)| patterns.iter().copied()).collect();
    assert!(all.contains("do_nanosleep") && !all.contains("raid*_make_request"), "{lines:#?}");
    assert!(
        lines.iter().any(|line| line.starts_with("    sleep: ") && line.ends_with(", so it cannot be told"))
    );
    // What asks for no reason is told nothing of them.
    let plain = SITE.split("reasons:\n").next().unwrap().replace(", as: reason", "");
    fs::write(directory.path().join("site.yaml"), plain).unwrap();
    assert_eq!(told(&check(&[])), Vec::<String>::new());
}

/// Labels that are the target's in Prometheus are told of, and no others; shipped probes have none of them.
#[test]
fn labels_that_a_target_has() {
    let kernel = fixture::Kernel::new();
    let directory = tempfile::tempdir().unwrap();
    let site = "probes:
  - name: switches
    at: tracepoint:sched:sched_switch
    labels: { pod: pid, k8s_pod_name: pid, job: pid, jobs: pid }
    metrics: [{ counter: switches_total, help: Switches. }]
";
    fs::write(directory.path().join("site.yaml"), site).unwrap();
    let output = kernel.tapster(directory.path(), &["check", "--offline", "site.yaml"]);
    assert!(stdout(&output).starts_with("switches  compiled"), "{output:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    let marked = |name: &str| format!("shows the label `{name}` as `exported_{name}`");
    for (name, hint) in [("pod", "name it `k8s_pod_name`, or set"), ("job", "rename it, or set")] {
        assert!(told.contains(&marked(name)) && told.contains(hint), "{name}:\n{told}");
    }
    assert_eq!(told.matches("warning: ").count(), 2, "{told}");
    let library = fixture::file("../config/probes");
    let output = kernel.tapster(directory.path(), &["check", "--offline", "-c", library.to_str().unwrap()]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!told.contains("exported_"), "{told}");
}

/// What is accepted and probably not meant: `tests/warnings/NAME.yaml`, and what is said of it. It makes no check fail.
#[test]
fn what_is_probably_not_meant() {
    let kernel = fixture::Kernel::new();
    let mut golden = Golden::new("check");
    let directory = tempfile::tempdir().unwrap();
    // A function of a program, which any compiler makes.
    let source = directory.path().join("program.c");
    fs::write(
        &source,
        "int work(const char *a) { return a[0]; }\nint main(int n, char **v) { return work(v[0]); }\n",
    )
    .unwrap();
    let built =
        Command::new("cc").arg("-O0").arg("-o").arg(directory.path().join("program")).arg(&source).status();
    assert!(built.unwrap().success());
    for path in fixture::yaml_files("warnings") {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        fs::copy(&path, directory.path().join(format!("{name}.yaml"))).unwrap();
        let output = kernel.tapster(directory.path(), &["check", "--offline", "-c", &format!("{name}.yaml")]);
        let told = stdout(&output);
        assert!(
            told.lines().filter(|line| !line.starts_with(' ')).all(|line| line.contains("  compiled")),
            "{told}"
        );
        golden.compare(&format!("warnings/{name}.stderr"), &String::from_utf8_lossy(&output.stderr));
    }
    golden.finish();
}

/// A file that is wrong, or that cannot be read, hides nothing of the others.
#[test]
fn every_file_of_a_directory_has_its_verdict() {
    let kernel = fixture::Kernel::new();
    let directory = tempfile::tempdir().unwrap();
    let probe = |name: &str, rest: &str| {
        format!(
            "  - name: {name}\n    at: tracepoint:sched:sched_switch\n    metrics: [{{ counter: {name}_total }}]\n{rest}"
        )
    };
    let files = [
        ("a_typo.yaml", format!("probes:\n{}{}", probe("typo", "    wehre: pid\n"), probe("beside", ""))),
        ("b_syntax.yaml", "probes: [{ name: x\n".to_owned()),
        ("d_good.yaml", format!("probes:\n{}", probe("good", ""))),
        ("e_types.yaml", format!("probes:\n{}", probe("types", "    where: comm\n"))),
        ("f_off.yaml", format!("probes:\n{}", probe("idle", "    enabled: false\n"))),
    ];
    for (name, text) in &files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    std::os::unix::fs::symlink("/nonexistent", directory.path().join("c_gone.yaml")).unwrap();
    let check = |directory: &Path| kernel.tapster(directory, &["check", "--offline", "-c", "."]);
    let output = check(directory.path());
    let (stdout, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    for place in ["a_typo.yaml:5:5", "b_syntax.yaml:2:1", "cannot read `./c_gone.yaml`", "e_types.yaml:5:12"]
    {
        assert!(stderr.contains(place), "nothing of {place}:\n{stderr}");
    }
    let verdicts: Vec<Vec<&str>> = stdout
        .lines()
        .filter(|line| !line.starts_with(' '))
        .map(|line| line.split_whitespace().take(2).collect())
        .collect();
    assert_eq!(verdicts, [["beside", "compiled"], ["good", "compiled"], ["idle", "off"]], "{stdout}");
    // Only those that are wrong make it fail.
    for name in ["a_typo.yaml", "b_syntax.yaml", "c_gone.yaml", "e_types.yaml"] {
        fs::remove_file(directory.path().join(name)).unwrap();
    }
    let output = check(directory.path());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Functions of this kernel and its modules by name, without what compilers append.
fn functions() -> BTreeSet<String> {
    let text = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    let words = text.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let functions = words.filter(|words| matches!(words[..], [_, "t" | "T" | "w" | "W", _, ..]));
    functions.map(|words| words[2].split('.').next().unwrap().to_owned()).collect()
}

/// Of these patterns those that match a whole line of a file, by `grep`.
fn grep(patterns: &[&str], names: &Path) -> usize {
    let lines: Vec<String> =
        patterns.iter().map(|pattern| pattern.replace('?', ".").replace('*', ".*")).collect();
    let file = names.with_extension("patterns");
    fs::write(&file, lines.join("\n") + "\n").unwrap();
    let mut grep: Command = tool("grep").unwrap_or_else(|why| panic!("{}", why.0));
    let output = grep.args(["-c", "-x", "-f"]).arg(&file).arg(names).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// `grep` finds nothing for what is said to match nothing, and something for each other pattern.
#[test]
fn this_kernel() {
    let names = functions();
    if names.len() < 1000 || !Path::new("/sys/kernel/btf/vmlinux").exists() {
        say("check: skipped: this kernel does not tell its functions");
        return;
    }
    let output =
        binary().args(["check", "--offline", "--verbose", "--probes", "sched_off_cpu"]).output().unwrap();
    let lines = told(&output);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("names");
    fs::write(&file, names.iter().map(String::as_str).collect::<Vec<_>>().join("\n") + "\n").unwrap();
    let (table, _) = tapster::reason::shipped();
    let listed = listed(&lines);
    let missing: BTreeSet<(&str, &str)> = listed
        .iter()
        .flat_map(|(reason, patterns)| patterns.iter().map(move |pattern| (*reason, *pattern)))
        .collect();
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for entry in &table {
        for pattern in &entry.patterns {
            let text = pattern.pattern.value.as_str();
            // A caller is another matter.
            if text.contains(';') {
                continue;
            }
            let is_missing = missing.contains(&(entry.reason.value.as_str(), text));
            if is_missing { &mut without } else { &mut with }.push(text);
        }
    }
    assert_eq!(grep(&without, &file), 0, "grep finds some of {without:?}");
    for pattern in &with {
        assert!(
            names.contains(*pattern) || grep(&[pattern], &file) > 0,
            "grep finds nothing for `{pattern}`"
        );
    }
    assert!(with.len() > 200 && !without.is_empty(), "{} and {}", with.len(), without.len());
    say(format_args!(
        "check: {} patterns that this kernel has, {} that it has not",
        with.len(),
        without.len()
    ));
}
