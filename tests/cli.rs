//! What a person types: one rule for what all commands take, old forms, wrong usage, the version.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]
#![allow(clippy::unnecessary_wraps, reason = "cases are alike")]

use tapster_testing as support;

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};
use support::{
    cases::{Cases, Outcome, Skip},
    command::tool,
    exporter::{Tapster, binary},
    fixture,
};

const EXECS: &str = "probes:
  - name: execs
    at: \"tracepoint:sched:sched_process_exec\"
    labels: { comm: comm }
    metrics: [{ counter: execs_total, help: Programs started. }]
";

/// The command with something on standard input.
fn with(input: &str, arguments: &[&str]) -> Output {
    let mut child = binary()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that does not read it has ended.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn texts(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Files, directories, standard input and names of shipped probes mean the same to all commands.
fn words() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("execs.yaml");
    fs::write(&file, EXECS).unwrap();
    let (file, directory) = (file.to_str().unwrap(), directory.path().to_str().unwrap());
    let commands: [&[&str]; 4] = [
        &["check", "--offline"],
        &["compile", "--emit", "ast"],
        &["report", "--for", "0.1", "--json"],
        &["list"],
    ];
    let mut tried = 0;
    for command in commands {
        let ways: [&[&str]; 6] =
            [&[file], &[directory], &["-"], &["-c", file], &["-c", directory], &["-c", "-"]];
        // What stands behind `list` is what is looked for.
        for way in ways.iter().filter(|way| command[0] != "list" || way[0] == "-c") {
            let (status, stdout, stderr) = texts(&with(EXECS, &[command, way].concat()));
            assert_eq!(status, Some(0), "{command:?} {way:?}: {stdout}{stderr}");
            assert!(stdout.contains("execs"), "{command:?} {way:?}: {stdout}");
            assert!(!stdout.contains("block_io"), "{command:?} {way:?}: {stdout}");
            tried += 1;
        }
        if command[0] == "list" {
            continue;
        }
        // A shipped probe, beside a file, and of both those that `--probes` says.
        for (way, block) in [
            (&["block_io"][..], true),
            (&["block_io", "-c", file], true),
            (&["block_io", file, "--probes", "execs"], false),
            (&["--probes", "block_io"], true),
        ] {
            let (status, stdout, stderr) = texts(&with("", &[command, way].concat()));
            assert_eq!(status, Some(0), "{command:?} {way:?}: {stdout}{stderr}");
            assert_eq!(stdout.contains("block_io"), block, "{command:?} {way:?}: {stdout}");
            tried += 1;
        }
        let (status, _, stderr) = texts(&with("", &[command, &["block_oi"]].concat()));
        let expected = "`block_oi` is neither a shipped probe nor a file of probes; did you mean `block_io`?";
        assert_eq!((status, stderr.contains(expected)), (Some(2), true), "{command:?}: {stderr}");
    }
    Ok(format!("{tried} ways"))
}

/// `run` takes them too, and what came by standard input stays when the configuration is read again.
fn run() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("execs.yaml");
    fs::write(&file, EXECS).unwrap();
    let up = |tapster: &Tapster| -> BTreeSet<String> {
        let metrics = tapster.scrape();
        let probes = metrics.0.iter().filter(|sample| sample.name == "tapster_probe_up");
        probes.map(|sample| sample.labels["probe"].clone()).collect()
    };
    let both = ["block_io".to_owned(), "execs".to_owned()];
    let tapster = Tapster::start(&["block_io", file.to_str().unwrap()]);
    assert_eq!(up(&tapster), BTreeSet::from(both.clone()));
    drop(tapster);
    // A shell hands standard input over to it.
    let mut command = Command::new("sh");
    let script = "exec \"$0\" \"$@\" <execs.yaml";
    command.current_dir(directory.path()).args(["-c", script]).arg(binary().get_program());
    let started = Tapster::start_by(command, "127.0.0.1:0", &["-", "block_io", "--web.enable-lifecycle"]);
    let tapster = started.unwrap_or_else(|ended| panic!("{:#?}", ended.log));
    assert_eq!(up(&tapster), BTreeSet::from(both.clone()));
    let url = format!("http://{}/-/reload", tapster.address);
    let answer = tool("curl")?.args(["-s", "-X", "POST", &url]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&answer.stdout), "configuration reloaded: 2 probes went on\n");
    assert_eq!(up(&tapster), BTreeSet::from(both));
    Ok("words, standard input, a reload".into())
}

/// The first line of the log says what runs.
fn first_line() -> Outcome {
    let tapster = Tapster::start(&["block_io"]);
    let log = tapster.log();
    let first: serde_json::Value = serde_json::from_str(&log[0]).unwrap();
    assert_eq!(
        (&first["message"], &first["version"]),
        (&"tapster starts".into(), &env!("CARGO_PKG_VERSION").into())
    );
    assert!(
        first["built_for"].is_string()
            && first.get("commit").is_none()
            && first["compiler"].as_str().unwrap().starts_with("rustc "),
        "{first}"
    );
    Ok(log[0].clone())
}

/// A command that lasts longer than is counted goes on, and its exit status is that of the report.
fn time_and_command() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let marker = directory.path().join("ended");
    let script = format!("sleep 1; echo > {}; exit 7", marker.display());
    let arguments = ["report", "block_io", "--for", "0.2", "--json", "--", "sh", "-c", &script];
    let (status, stdout, stderr) = texts(&with("", &arguments));
    assert_eq!(status, Some(7), "{stderr}");
    assert!(marker.exists() && stderr.contains("the command goes on"), "{stderr}");
    let found: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&found["ended_by"], &found["command"]["status"]), (&"time".into(), &serde_json::Value::Null));
    let seconds = found["seconds"].as_f64().unwrap();
    assert!((0.2..1.0).contains(&seconds), "{seconds} s");
    // One that ends before is a command as ever.
    let (status, stdout, _) =
        texts(&with("", &["report", "block_io", "--for", "1m", "--json", "--", "true"]));
    let found: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((status, &found["ended_by"]), (Some(0), &"command".into()));
    Ok(format!("counted {seconds:.2} s of it"))
}

/// Functions of the kernel with their types, those of a program, timers and counters.
fn lists() -> Outcome {
    fs::File::open("/sys/kernel/btf/vmlinux").map_err(|error| Skip(format!("/sys/kernel/btf: {error}")))?;
    let list = |pattern: &str| {
        let (status, stdout, stderr) = texts(&with("", &["list", pattern]));
        assert_eq!(status, Some(0), "{pattern}: {stdout}{stderr}");
        stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        list("fentry:vfs_read"),
        [
            "fentry:vfs_read",
            "    struct file * args.file",
            "    char * args.buf",
            "    size_t args.count",
            "    loff_t * args.pos"
        ]
    );
    assert_eq!(list("kprobe:vfs_read")[1], "    struct file * args.file");
    assert_eq!(list("fexit:vfs_read").last().unwrap(), "    ssize_t retval");
    assert_eq!(list("kretprobe:vfs_read"), ["kretprobe:vfs_read", "    ssize_t retval"]);
    let several = list("fentry:vfs_*");
    assert!(several.iter().filter(|line| line.starts_with("fentry:vfs_")).count() > 10, "{several:?}");
    let own = std::env::current_exe().unwrap();
    let own = own.to_str().unwrap();
    let found = list(&format!("uprobe:{own}:*lists_this_test*"));
    assert!(found[0].starts_with(&format!("uprobe:{own}:")) && found.len() == 1, "{found:?}");
    assert_eq!(list("uprobe:libc.so.6:malloc"), ["uprobe:libc.so.6:malloc"]);
    assert_eq!(list("interval:s:*")[0], "interval:s:1");
    assert!(list("software").contains(&"software:page-faults:1".to_owned()));
    // A pattern as a probe has it, and a tracepoint by the names that a probe takes.
    assert!(list("fentry:vfs_rea?").contains(&"fentry:vfs_read".to_owned()));
    assert!(list("fentry:vfs_[rw]*").contains(&"fentry:vfs_write".to_owned()));
    assert_eq!(list("rawtracepoint:sys_enter")[0], "rawtracepoint:raw_syscalls:sys_enter");
    assert_eq!(list("rt:sched:sched_switch")[0], "rawtracepoint:sched:sched_switch");
    // A name that means one of several functions: which one, only a program knows.
    let (_, _, said) = texts(&with("", &["list", "uprobe:libc.so.6:memmove"]));
    assert!(said.contains("`memmove`") && said.contains("is chosen among several functions"), "{said}");
    for (pattern, message) in [
        ("fentry:vfs_raed", "did you mean `fentry:vfs_read`"),
        ("uprobe:libc.so.6:maloc", "did you mean `malloc`"),
        ("uprobe:/nonexistent:x", "there is no `/nonexistent`"),
        ("block_request", "`tapster list --library block_request`"),
    ] {
        let (status, _, stderr) = texts(&with("", &["list", pattern]));
        assert_eq!((status, stderr.contains(message)), (Some(1), true), "{pattern}: {stderr}");
    }
    Ok(format!("{} lines of fentry:vfs_*", several.len()))
}

/// What `lists` looks for among the functions of this program.
#[unsafe(no_mangle)]
extern "C" fn tapster_lists_this_test_function() {}

#[test]
fn commands_on_this_kernel() {
    std::hint::black_box(tapster_lists_this_test_function as extern "C" fn());
    let Some(mut cases) = Cases::as_root("cli") else { return };
    cases.run("words", words);
    cases.run("run", run);
    cases.run("first line", first_line);
    cases.run("time and command", time_and_command);
    cases.run("lists", lists);
    cases.finish();
}

#[test]
fn each_shipped_probe_is_listed_once() {
    let (status, stdout, stderr) = texts(&with("", &["list", "--library"]));
    assert_eq!((status, stderr.as_str()), (Some(0), ""));
    let names: Vec<&str> = stdout.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(names.len(), names.iter().collect::<BTreeSet<_>>().len(), "{names:#?}");
    assert!(names.contains(&"raid_member (group raid)"), "{names:#?}");
}

#[test]
fn the_version_says_what_was_built() {
    let (status, stdout, _) = texts(&with("", &["--version"]));
    let version = env!("CARGO_PKG_VERSION");
    let arch = std::env::consts::ARCH;
    assert_eq!(status, Some(0));
    assert!(stdout.starts_with(&format!("tapster {version} (")), "{stdout}");
    assert!(stdout.contains(&format!("{arch}-unknown-linux-")) && stdout.contains(", rustc 1."), "{stdout}");
    assert_eq!(texts(&with("", &["-V"])).1, format!("tapster {version}\n"));
}

/// What a probe can name is listed by that name, and a pattern means what it means in a probe.
#[test]
fn what_probes_take_is_listed() {
    let kernel = fixture::Kernel::new();
    let list = |word: &str| {
        let (status, stdout, stderr) = texts(&kernel.tapster(Path::new("/"), &["list", word]));
        let points = stdout.lines().filter(|line| !line.starts_with(' ')).map(str::to_owned);
        (status, points.collect::<Vec<_>>(), stderr)
    };
    for (word, expected) in [
        ("kprobe:vfs_rea?", &["kprobe:vfs_read"][..]),
        ("kr:vfs_[!t]*v", &["kretprobe:vfs_readv"]),
        ("kprobe:vfs_read", &["kprobe:vfs_read"]),
        ("fentry:__traceiter_block_rq_issu?", &["fentry:__traceiter_block_rq_issue"]),
        ("tracepoint:block:block_rq_iss??", &["tracepoint:block:block_rq_issue"]),
        ("t:block:block_rq_issue", &["tracepoint:block:block_rq_issue"]),
        ("rt:block:block_rq_issue", &["rawtracepoint:block:block_rq_issue"]),
        ("rawtracepoint:block_rq_issue", &["rawtracepoint:block:block_rq_issue"]),
        ("profile:hz:50", &["profile:hz:50"]),
        ("p:hz:99", &["profile:hz:99"]),
        ("interval:s:10", &["interval:s:10"]),
        ("software:cs", &["software:context-switches:1"]),
        ("software:faults", &["software:page-faults:1"]),
        // What cannot be traced is taken by its name, and by no pattern.
        ("kprobe:vfs_untraced", &["kprobe:vfs_untraced"]),
        ("kprobe:vfs_*", &["kprobe:vfs_read", "kprobe:vfs_readv", "kprobe:vfs_twice"]),
    ] {
        let (status, points, stderr) = list(word);
        assert_eq!(status, Some(0), "{word}: {stderr}");
        assert_eq!(points, expected, "{word}");
    }
    let left_out = "a pattern leaves out 1 that cannot be traced (`vfs_untraced`)";
    for (word, status, message) in [
        ("kprobe:vfs_*", 0, left_out),
        ("kprobe:vfs_u*", 1, left_out),
        ("kprobe:vfs_x?", 1, "no function of this kernel that `kprobe` can take matches `vfs_x?`"),
        ("h:cycles:1000", 1, "this CPU shows no counters"),
        ("rt:sched:block_rq_issue", 1, "no attach point matches `rt:sched:block_rq_issue`"),
    ] {
        let (found, _, stderr) = list(word);
        assert_eq!((found, stderr.contains(message)), (Some(status), true), "{word}: {stderr}");
    }
}

/// What was asked for wrongly is status 2, and says what is right.
#[test]
fn wrong_usage() {
    for (arguments, message) in [
        (
            &["run", "--web.listen-address", "18277"][..],
            "expected `:18277`, `0.0.0.0:18277`, `[::]:18277` or",
        ),
        (&["run", "--log.level", "a=b=c"], "`a=b=c` is not a log level"),
        (&["report", "--for", "10x"], "expected a number and a unit"),
        (&["raid", "--stuck", "2"], "`2` has no unit: did you mean `2s`?"),
        (&["repotr"], "a similar subcommand exists: 'report'"),
        // Flags that would do nothing.
        (&["list", "--pid", "1"], "`--pid` says where a program or library is looked for"),
        (&["list", "--pid", "1", "kprobe:vfs_read"], "`--pid` says where a program or library is looked for"),
        (&["list", "--pid", "1", "--library"], "`--pid` says where a program or library is looked for"),
        (
            &["list", "--container", "x", "sched"],
            "`--container` says where a program or library is looked for",
        ),
        (&["list", "--container", "x", "-c", "/dev/null", "usdt:libc"], "`--container` says where"),
        (&["raid", "--critical-ratio", "3"], "--check"),
        (
            &["callgraph", "sh", "--format", "folded", "--args", "2", "--", "true"],
            "`--args` does nothing with `folded`",
        ),
    ] {
        let (status, stdout, stderr) = texts(&with("", arguments));
        assert_eq!((status, stderr.contains(message)), (Some(2), true), "{arguments:?}: {stdout}{stderr}");
    }
}
