//! `tapster callgraph` of programs built here: its lines beside a program's own log, ways out of functions that are not
//! returns, and commands that fail.

#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]
#![allow(clippy::unnecessary_wraps, reason = "cases are alike")]

use tapster_testing as support;

use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};
use support::{
    cases::{Cases, Outcome, Skip},
    command::{output, root, text, tool},
    exporter::binary,
};
use tapster::{
    callgraph::{AttachMethod, Graph, GraphRequest, Plan, attach, plan},
    host::Host,
    kernel::Kernel,
};
use tapster_ebpf::callgraph::decode;

/// Threads of the logged program, and calls that each makes besides recursion and sleep.
const THREADS: usize = 8;
const CALLS: usize = 10_000;

struct Programs {
    directory: tempfile::TempDir,
}

impl Programs {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn build(&self, compiler: &str, source: &str, flags: &[&str]) -> Result<PathBuf, Skip> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/callgraph").join(source);
        let built = self.path(source.file_stem().unwrap().to_str().unwrap());
        text(tool(compiler)?.args(flags).arg("-pthread").arg("-o").arg(&built).arg(source));
        Ok(built)
    }

    fn logged(&self) -> Result<PathBuf, Skip> {
        self.build("gcc", "logged.c", &["-O2", "-fno-optimize-sibling-calls"])
    }
}

/// `tapster callgraph WHAT FLAGS -- COMMAND`.
fn callgraph(what: impl AsRef<str>, flags: &[&str], command: &[&str]) -> Output {
    output(binary().args(["callgraph", what.as_ref()]).args(flags).arg("--").args(command))
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// One end of a call, by whoever saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Call {
    is_entry: bool,
    depth: u64,
    function: String,
    value: String,
    time_ns: u64,
}

/// What the program itself has seen, by thread.
fn own_log(path: &Path) -> BTreeMap<u64, Vec<Call>> {
    let mut threads: BTreeMap<u64, Vec<Call>> = BTreeMap::new();
    for line in fs::read_to_string(path).unwrap().lines() {
        let [tid, mark, depth, function, value, time_ns] =
            line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        threads.entry(tid.parse().unwrap()).or_default().push(Call {
            is_entry: mark == "+",
            depth: depth.parse().unwrap(),
            function: function.into(),
            // C writes nothing before a zero.
            value: if value == "0" { "0x0".into() } else { value.into() },
            time_ns: time_ns.parse().unwrap(),
        });
    }
    threads
}

/// What the graph has, by thread; and its summary.
fn graph(lines: &str) -> (BTreeMap<u64, Vec<Call>>, Value) {
    let mut threads: BTreeMap<u64, Vec<Call>> = BTreeMap::new();
    let mut summary = Value::Null;
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if line["event"] == "summary" {
            summary = line;
            continue;
        }
        let is_entry = line["event"] == "entry";
        let value = if is_entry { &line["args"][0] } else { &line["value"] };
        threads.entry(line["tid"].as_u64().unwrap()).or_default().push(Call {
            is_entry,
            depth: line["depth"].as_u64().unwrap(),
            function: line["function"].as_str().unwrap().into(),
            value: value.as_str().unwrap_or_default().into(),
            time_ns: line["time_ns"].as_u64().unwrap(),
        });
    }
    (threads, summary)
}

fn same_as_the_log(programs: &Programs) -> Outcome {
    let program = programs.logged()?;
    let (log, json) = (programs.path("log"), programs.path("graph.json"));
    let [path, log_path, json_path] = [&program, &log, &json].map(|path| path.to_str().unwrap());
    let (threads, calls) = (THREADS.to_string(), CALLS.to_string());
    let flags = ["--format", "json", "--args", "1", "--output", json_path];
    let run = callgraph(format!("{path}:t_*"), &flags, &[path, log_path, &threads, &calls, "3"]);
    assert_eq!(run.status.code(), Some(3), "the command's: {}", stderr(&run));
    assert_eq!(stderr(&run), "", "nothing lost, nothing to note");
    let expected = own_log(&log);
    let (found, summary) = graph(&fs::read_to_string(&json).unwrap());
    assert_eq!(expected.len(), THREADS);
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    let mut count = 0;
    let (mut worst, mut sleeps) = (0.0_f64, Vec::new());
    for (tid, expected) in &expected {
        let found = &found[tid];
        assert_eq!(found.len(), expected.len(), "lines of thread {tid}");
        let mut begun = Vec::new();
        for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
            let same = Call { time_ns: expected.time_ns, ..found.clone() };
            assert_eq!(&same, expected, "line {index} of thread {tid}");
            // The program looks at its clock after it has entered and before it returns.
            if found.is_entry {
                assert!(found.time_ns <= expected.time_ns, "{found:?} {expected:?}");
                begun.push((found.time_ns, expected.time_ns));
            } else {
                assert!(found.time_ns >= expected.time_ns, "{found:?} {expected:?}");
                let (from, own_from) = begun.pop().unwrap();
                if found.function == "t_sleeps" {
                    let (took, own) = (found.time_ns - from, expected.time_ns - own_from);
                    sleeps.push(took);
                    #[allow(clippy::cast_precision_loss, reason = "some milliseconds")]
                    let ratio = took as f64 / own as f64;
                    worst = worst.max(ratio);
                }
            }
            count += 1;
        }
    }
    assert_eq!(sleeps.len(), 5 * THREADS);
    assert!(sleeps.iter().all(|sleep| *sleep >= 20_000_000), "{sleeps:?}");
    // A bucket of the default histograms is a factor of 2 wide; the sleeps are far within one.
    assert!(worst < 1.5, "the program's own time of a sleep is exceeded {worst} times");
    let row = |name: &str| {
        let functions = summary["functions"].as_array().unwrap();
        functions.iter().find(|row| row["function"] == name).unwrap().clone()
    };
    assert_eq!(row("t_work")["calls"], THREADS * CALLS / 2);
    assert_eq!(row("t_recursive")["timed"], THREADS * 50);
    assert!(row("t_sleeps")["total_ns"].as_u64().unwrap() >= 100_000_000 * u64::try_from(THREADS).unwrap());
    Ok(format!(
        "{count} lines of {THREADS} threads as the program's own log has them; sleeps at most {worst:.3} times its own time"
    ))
}

/// Numbers and places of memory differ from run to run.
fn shape(output: &str) -> Vec<String> {
    output
        .lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once("):").map(|(_, call)| call.to_owned()))
        .collect()
}

fn ways_out(programs: &Programs) -> Outcome {
    let program = programs.build("gcc", "jumps.c", &["-O2", "-fcf-protection=none"])?;
    let (path, file) = (program.to_str().unwrap(), programs.path("jumps.txt"));
    let flags = ["--args", "0", "--file", file.to_str().unwrap()];
    let run = callgraph(format!("{path}:t_*"), &flags, &[path]);
    assert_eq!((run.status.code(), stdout(&run).as_str()), (Some(0), "xdone\n"), "{}", stderr(&run));
    let text = fs::read_to_string(&file).unwrap();
    let lines = shape(&text);
    let jumper = [
        "->t_jumper",
        " ->t_deep",
        "  ->t_deep",
        "   ->t_deep",
        "    ->t_deep",
        " ->t_leaf",
        " <-t_leaf return=0x8",
        "<-t_jumper return=0x8",
    ];
    let expected = [
        &["->t_tail", " ->t_leaf", " <-t_leaf return=0x3", "<-t_tail return=0x3"][..],
        &["->t_tail_pointer", " ->t_leaf", " <-t_leaf return=0x3", "<-t_tail_pointer return=0x3"],
        &["->t_tail_out", "<-t_tail_out"],
        &jumper,
        &jumper,
        &["->t_empty", "<-t_empty"],
    ]
    .concat();
    assert_eq!(lines[..expected.len()], expected, "{text}");
    for line in ["->t_handler", "  ->t_in_child", "<-t_forks return=0x1", "<-t_forks return=0x0"] {
        assert!(lines.iter().any(|found| found.trim_start() == line.trim_start()), "{line}\n{text}");
    }
    // Eight by `longjmp`, and one on a stack of its own, which ends with a jump to what switches back.
    assert!(stderr(&run).contains("9 were left by longjmp or an exception"), "{}", stderr(&run));
    let run = callgraph(path, &["--output", "folded"], &[path, "now"]);
    assert_eq!(run.status.code(), Some(128 + 15), "ended by a signal: {}", stderr(&run));
    Ok(format!("{} lines", lines.len()))
}

fn exceptions(programs: &Programs) -> Outcome {
    let program = programs.build("g++", "throws.cc", &["-O2"])?;
    let path = program.to_str().unwrap();
    let run = callgraph(path, &["--args", "0", "--trigger", "story::Hasher::attempt"], &[path]);
    let text = stdout(&run);
    assert_eq!(run.status.code(), Some(0), "{text}\n{}", stderr(&run));
    let lines = shape(&text);
    let attempts: Vec<_> =
        lines.iter().filter(|line| line.starts_with("<-story::Hasher::attempt(int)")).collect();
    assert_eq!(attempts.len(), 10, "{text}");
    assert_eq!(lines[1], " ->story::Hasher::read(int)", "{text}");
    assert!(!text.contains("main"), "only what is beneath the trigger: {text}");
    assert!(stderr(&run).contains("calls without a return: "), "{}", stderr(&run));
    Ok(format!("{} lines", lines.len()))
}

fn refusals(programs: &Programs) -> Outcome {
    let program = programs.logged()?;
    let path = program.to_str().unwrap();
    let stripped = programs.path("stripped");
    text(tool("strip")?.arg("-o").arg(&stripped).arg(&program));
    let script = programs.path("script");
    fs::write(&script, "#!/bin/sh\n").unwrap();
    let cut = programs.path("cut");
    fs::write(&cut, &fs::read(&program).unwrap()[..1000]).unwrap();
    let of = |name: &str| programs.path(name).display().to_string();
    for (what, flags, expected) in [
        (of("stripped"), &[][..], "is stripped"),
        (format!("{path}:t_data"), &[], "no function of"),
        (format!("{path}:t_wrok"), &[], "did you mean `t_work`?"),
        (of("missing"), &[], "there is no `"),
        (of("missing") + ":main", &[], "there is no `"),
        (of("script"), &[], "is not a program"),
        (of("cut"), &[], "error: "),
        (path.to_owned(), &["--trigger", "nowhere"], "is named `nowhere`"),
        (path.to_owned(), &["--limit", "3"], "are followed at most"),
        (path.to_owned(), &["--args", "5"], "expected 0 to 4"),
        (path.to_owned(), &["--buffer", "3"], "a power of 2"),
        (path.to_owned(), &["--output", "x", "--file", "y"], "the old word for `--output`"),
        (path.to_owned(), &["--output", "/nonexistent/file"], "cannot write `/nonexistent/file`"),
        (path.to_owned(), &["--file", "/nonexistent/file"], "cannot write `/nonexistent/file`"),
    ] {
        let run = callgraph(&what, flags, &["true"]);
        let status = if expected.starts_with("cannot write") { 1 } else { 2 };
        assert_eq!(run.status.code(), Some(status), "{what} {flags:?}: {}", stderr(&run));
        assert!(stderr(&run).contains(expected), "{what}: {}", stderr(&run));
        assert!(!stderr(&run).contains("panicked") && run.stdout.is_empty());
    }
    let run = callgraph(path, &[], &["/nonexistent/command"]);
    assert_eq!(run.status.code(), Some(127), "{}", stderr(&run));
    let run = callgraph(path, &[], &[env!("CARGO_MANIFEST_DIR")]);
    assert_eq!(run.status.code(), Some(126), "{}", stderr(&run));
    let run = callgraph(path, &[], &["true"]);
    assert_eq!(run.status.code(), Some(0));
    assert!(stderr(&run).contains("does it run this file?"), "{}", stderr(&run));
    Ok("refused with a sentence and 2; 126 and 127 for commands that cannot be run".into())
}

/// The plan of a program for the functions of the log.
fn planned(path: &str) -> Plan {
    plan(&GraphRequest { what: format!("{path}:t_*"), trigger: None, limit: 100 }).unwrap()
}

fn older_kernels(programs: &Programs) -> Outcome {
    let program = programs.logged()?;
    let path = program.to_str().unwrap();
    let log = programs.path("older.log");
    let kernel = Kernel::detect(&Host::default());
    let btf = kernel.target().btf.ok_or_else(|| Skip("the kernel has no BTF".into()))?;
    for method in [AttachMethod::Cookie, AttachMethod::Program] {
        let plan = planned(path);
        let mut attached = attach(&plan, btf, 1 << 20, method).unwrap();
        assert_eq!(attached.method, method);
        text(Command::new(path).arg(&log).args(["2", "100", "0"]));
        let mut graph = Graph::new(&plan.functions, plan.triggered, plan.stacks);
        let mut lines = 0;
        attached.ring.read(|bytes| graph.record(&decode(bytes).unwrap(), &mut |_| lines += 1));
        let expected: usize = own_log(&log).values().map(Vec::len).sum();
        assert_eq!(lines, expected, "{method:?}");
        assert_eq!(attached.losses().unwrap().records, 0);
    }
    Ok("each place with its own event, with cookies and without".into())
}

fn losses(programs: &Programs) -> Outcome {
    let program = programs.logged()?;
    let path = program.to_str().unwrap();
    let log = programs.path("lossy.log");
    let kernel = Kernel::detect(&Host::default());
    let btf = kernel.target().btf.ok_or_else(|| Skip("the kernel has no BTF".into()))?;
    let plan = planned(path);
    // A ring for some dozens of records, which nobody reads while they are made.
    let mut attached = attach(&plan, btf, 4096, AttachMethod::Multi).unwrap();
    text(Command::new(path).arg(&log).args(["2", "1000", "0"]));
    let mut graph = Graph::new(&plan.functions, plan.triggered, plan.stacks);
    let mut records = 0;
    attached.ring.read(|bytes| {
        records += 1;
        graph.record(&decode(bytes).unwrap(), &mut |_| {});
    });
    let lost = attached.losses().unwrap().records;
    let calls: usize = own_log(&log).values().map(Vec::len).sum();
    // Besides calls: the new process, its program, and the ends of three threads.
    let made = u64::try_from(calls + 5).unwrap();
    assert!(records > 10, "{records} records");
    assert_eq!(records + lost, made, "{records} read and {lost} lost");
    // The ring goes on when there is room again.
    text(Command::new(path).arg(&log).args(["1", "2", "0"]));
    let mut more = 0;
    attached.ring.read(|_| more += 1);
    assert!(more > 10, "{more} records");
    Ok(format!("{records} records read and {lost} counted as lost are the {made} that were made"))
}

fn goroutines(programs: &Programs) -> Outcome {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/callgraph/goroutines.go");
    let built = programs.path("goroutines");
    text(
        tool("go")?
            .args(["build", "-o"])
            .arg(&built)
            .arg(source)
            .env("GOCACHE", programs.path("cache"))
            .env("GO111MODULE", "off"),
    );
    let (path, file) = (built.to_str().unwrap(), programs.path("goroutines.json"));
    let flags = ["--output", "json", "--args", "1", "--file", file.to_str().unwrap()];
    let run = callgraph(format!("{path}:main.*"), &flags, &[path]);
    assert_eq!((run.status.code(), stdout(&run).as_str()), (Some(0), "done\n"), "{}", stderr(&run));
    let lines = fs::read_to_string(&file).unwrap();
    let (_, summary) = graph(&lines);
    for (name, calls, timed) in [
        ("main.worker", 8, 8),
        ("main.factorial", 8 * 20 * 5, 8 * 20 * 5),
        ("main.grow", 8 * 20 * 61, 8 * 20 * 61),
        ("main.recovers", 8 * 20, 8 * 20),
        ("main.panics", 8 * 20, 8 * 10),
    ] {
        let functions = summary["functions"].as_array().unwrap();
        let row = functions.iter().find(|row| row["function"] == name).unwrap();
        assert_eq!((&row["calls"], &row["timed"]), (&calls.into(), &timed.into()), "{row}");
    }
    let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let factorials =
        events.filter(|event| event["function"] == "main.factorial" && event["event"] == "return");
    // Results of 5! and of what it needs, in Go's own convention.
    assert_eq!(factorials.filter(|event| event["value"] == "0x78").count(), 8 * 20);
    // All of the runtime, the garbage collector and the scheduler included.
    let run = callgraph(path, &["--output", "folded"], &[path]);
    assert_eq!(run.status.code(), Some(0), "{}", stderr(&run));
    assert!(stdout(&run).contains("done\n"));
    Ok("calls of 8 goroutines whole, and all of the runtime without harm".into())
}

fn old_go(programs: &Programs) -> Outcome {
    // What tells a Go program is a section.
    let program = programs.logged()?;
    let path = programs.path("go");
    let note = programs.path("note");
    fs::write(&note, "go").unwrap();
    let section = format!(".go.buildinfo={}", note.display());
    text(tool("objcopy")?.args(["--add-section", &section]).arg(&program).arg(&path));
    let log = programs.path("go.log");
    let path = path.to_str().unwrap();
    let run =
        callgraph(format!("{path}:t_*"), &["--args", "1"], &[path, log.to_str().unwrap(), "1", "10", "0"]);
    assert_eq!(run.status.code(), Some(0));
    assert!(stderr(&run).contains("is built by a Go before 1.18"), "{}", stderr(&run));
    let lines = shape(&stdout(&run));
    let entries = own_log(&log).values().flatten().filter(|call| call.is_entry).count();
    assert_eq!(lines.len(), entries);
    assert!(lines.iter().all(|line| line.starts_with("->")), "{lines:?}");
    Ok(format!("{entries} entries"))
}

#[test]
fn cases() {
    let mut cases = Cases::new("callgraph");
    let programs = Programs { directory: tempfile::tempdir().unwrap() };
    for (name, case) in [
        ("as the program's own log", same_as_the_log as fn(&Programs) -> Outcome),
        ("ways out", ways_out),
        ("exceptions", exceptions),
        ("refusals", refusals),
        ("older kernels", older_kernels),
        ("losses", losses),
        ("goroutines", goroutines),
        ("old go", old_go),
    ] {
        cases.run(name, || {
            root()?;
            case(&programs)
        });
    }
    cases.finish();
}
