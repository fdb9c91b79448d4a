//! What `tapster import` makes: of scripts in the manner of bpftrace's tools, of declarations in that of `ebpf_exporter`, of what
//! is neither, and of the examples in the documents.
//!
//! After a change: `TAPSTER_ACCEPT=1 cargo test --test import`, and read the diff as somebody would who moves to tapster.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]

use tapster_testing as support;

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::Arc,
};
use support::{
    cases::{Cases, Outcome, Skip},
    command::{output, tool},
    exporter::binary,
    fixture,
    golden::Golden,
};
use tapster::import::{ForeignFormat, ImportHints, Imported, RemarkKind, import};
use tapster_ebpf::{declaration, diagnostic::SourceFile};

/// Files of a directory of `tests/import` with this end, sorted.
fn files(directory: &str, end: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(fixture::file(format!("import/{directory}"))).unwrap();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == end));
    found.sort();
    found
}

fn source(path: &Path) -> Arc<SourceFile> {
    SourceFile::new(path.file_name().unwrap().to_str().unwrap(), fs::read_to_string(path).unwrap())
}

/// What a file becomes, with the C code beside it.
fn imported(path: &Path) -> (Arc<SourceFile>, Imported) {
    let file = source(path);
    let hints =
        ImportHints { parameters: Vec::new(), code: fs::read_to_string(path.with_extension("bpf.c")).ok() };
    let made = import(&file, ForeignFormat::of(&file), &hints).unwrap_or_else(|error| panic!("{error}"));
    (file, made)
}

/// The file that comes of it, behind what is said of it.
fn shown(file: &SourceFile, made: &Imported) -> String {
    let said: Vec<String> = made.remarks.iter().map(|remark| format!("## {}", remark.told(file))).collect();
    [said, vec![made.text.clone()]].concat().join("\n")
}

fn all() -> Vec<PathBuf> {
    [files("scripts", "bt"), files("exporter", "yaml")].concat()
}

#[test]
fn files_become_what_is_expected() {
    let mut golden = Golden::new("import");
    let all = all();
    for path in &all {
        let (file, made) = imported(path);
        let stem = path.file_stem().unwrap().to_str().unwrap();
        golden.compare(&format!("import/expected/{stem}.yaml"), &shown(&file, &made));
    }
    golden.finish();
    assert!(all.len() >= 24, "{}", all.len());
    assert_eq!(files("expected", "yaml").len(), all.len(), "an expected file of no script");
}

/// What is made has no mistake, and each remark stands in it as a comment.
#[test]
fn what_is_made_is_well_declared() {
    let (mut probes, mut losses) = (0, 0);
    for path in all() {
        let (file, made) = imported(&path);
        let (parsed, diagnostics) = declaration::parse(&SourceFile::new("made", &made.text));
        let said: String = diagnostics.iter().map(ToString::to_string).collect();
        assert!(diagnostics.is_empty(), "{}: {said}{}", path.display(), made.text);
        assert_eq!(parsed.probes.len(), made.probes.len(), "{}", path.display());
        let comments = made.text.lines().filter_map(|line| line.trim_start().strip_prefix('#'));
        let comments = comments.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ");
        for remark in &made.remarks {
            let words = remark.text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(comments.contains(&words), "{}: `{}` is no comment", path.display(), remark.text);
            let told = remark.told(&file).to_string();
            assert!(told.starts_with(&file.name) && !told.ends_with('.'), "{told}");
        }
        probes += parsed.probes.len();
        losses += made.remarks.iter().filter(|remark| remark.kind == RemarkKind::Loss).count();
    }
    assert!(probes > 25 && losses > 10, "{probes} probes, {losses} left out");
}

#[test]
fn formats_are_told_by_name_and_content() {
    let of = |name: &str, text: &str| ForeignFormat::of(&SourceFile::new(name, text));
    for (name, text) in [
        ("a.bt", "metrics: {}"),
        ("-", "#!/usr/bin/env bpftrace\nBEGIN { }"),
        ("x", "kprobe:f { @ = count(); }"),
        ("x", ""),
    ] {
        assert_eq!(of(name, text), ForeignFormat::Bpftrace, "{name}: {text}");
    }
    for (name, text) in
        [("-", "metrics:\n  counters: []"), ("x.yaml", "a: 1"), ("-", "tracing: { spans: [] }")]
    {
        assert_eq!(of(name, text), ForeignFormat::EbpfExporter, "{name}: {text}");
    }
}

/// What is not of its format is told with its place, and nothing is made.
#[test]
fn what_cannot_be_read_is_told() {
    for (text, place, message) in [
        ("kprobe:f { @ = count() @b = 1; }", "1:24", "expected `;` after a statement, found `@b`"),
        ("kprobe:f /pid == 1 { }", "1:20", "expected `/` after a filter, found `{`"),
        ("kprobe:f\n{ @ = \"open; }", "2:7", "the text does not end"),
        ("kprobe:f { /* never ends }", "1:12", "the comment does not end"),
        ("kprobe:f { @ = 99999999999999999999; }", "1:16", "is no number of 64 bits"),
        ("kprobe:f { @ = count(;); }", "1:22", "expected a value, found `;`"),
        ("kprobe:f { @ = `x`; }", "1:16", "`` ` `` has no meaning".trim_matches(' ')),
        ("kprobe:f { 5 = 6; }", "1:14", "only `@maps` and `$variables` can be assigned"),
        ("kprobe:f {", "1:11", "expected a value, found the end of the file"),
        ("{ }", "1:1", "expected a probe such as `kprobe:vfs_read { … }`, found `{`"),
        (&format!("kprobe:f {{ @ = {}1; }}", "(".repeat(80)), "1:", "levels of nesting"),
        (&format!("kprobe:f {{ @ = 1{}; }}", " + 1".repeat(70)), "1:", "more than 64 operators"),
        (&"x".repeat(tapster::import::MAX_BYTES + 1), "1:1", "the file is larger than"),
    ] {
        let file = SourceFile::new("a.bt", text);
        let error = import(&file, ForeignFormat::Bpftrace, &ImportHints::default()).unwrap_err().to_string();
        let message =
            if message.starts_with("``") { "has no meaning in a script of bpftrace" } else { message };
        assert!(error.contains(&format!("a.bt:{place}")) && error.contains(message), "{error}");
    }
    for (text, message) in
        [("", "the file is empty"), ("a: 1", "this is no file of `ebpf_exporter`"), ("a: [", "")]
    {
        let file = SourceFile::new("a.yaml", text);
        let error = import(&file, ForeignFormat::EbpfExporter, &ImportHints::default()).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }
}

/// Scripts in `docs/bpftrace.md` become the probes that stand behind them.
#[test]
fn examples_of_the_document_are_imported() {
    let path = fixture::file("../docs/bpftrace.md");
    let text = fs::read_to_string(&path).unwrap();
    let mut new = String::new();
    let (mut rest, mut number) = (text.as_str(), 0);
    while let Some((before, behind)) = rest.split_once("```bpftrace\n") {
        let (script, behind) = behind.split_once("```\n").unwrap();
        let (between, behind) = behind.split_once("```yaml\n").unwrap();
        let (_, behind) = behind.split_once("```\n").unwrap();
        let name = script.lines().next().unwrap().trim_start_matches("// ");
        assert!(
            name.rsplit_once('.').is_some_and(|(_, end)| end == "bt"),
            "the first line of a script is its name: `{name}`"
        );
        let file = SourceFile::new(name, script);
        let made = import(&file, ForeignFormat::Bpftrace, &ImportHints::default()).unwrap();
        new = format!("{new}{before}```bpftrace\n{script}```\n{between}```yaml\n{}```\n", made.text);
        (rest, number) = (behind, number + 1);
    }
    new.push_str(rest);
    let mut golden = Golden::new("import");
    golden.compare("../docs/bpftrace.md", &new);
    golden.finish();
    assert!(number >= 5, "{number}");
}

/// The command with something on standard input.
fn with(input: &str, arguments: &[&str], directory: &Path) -> (Option<i32>, String, String) {
    let mut child = binary()
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    texts(&child.wait_with_output().unwrap())
}

fn texts(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

const FORKS: &str = "tracepoint:sched:sched_process_fork { @ = count(); }\nEND { print(@); }\n";

#[test]
fn the_command_writes_probes_and_says_what_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    fs::write(place.join("forks.bt"), FORKS).unwrap();
    // What is made goes to standard output or the file, what is said to standard error.
    let (_, made, said) = with("", &["import", "forks.bt"], place);
    assert!(made.contains("counter: forks_total") && made.starts_with("# Made of forks.bt"), "{made}");
    assert!(said.contains("forks.bt:2:1: note: the end of a script prints"), "{said}");
    assert!(said.contains("forks.bt: 1 probe with 1 metric, 1 note, nothing left out"), "{said}");
    let (_, stdout, _) = with("", &["import", "forks.bt", "-o", "forks.yaml"], place);
    assert_eq!((stdout.as_str(), fs::read_to_string(place.join("forks.yaml")).unwrap()), ("", made.clone()));
    let (_, piped, _) = with(FORKS, &["import", "-"], place);
    assert!(piped.contains("counter: script_total"), "{piped}");
    // Parameters, and a format that the name does not tell.
    let script = "tracepoint:sched:sched_process_fork /pid == $1 && comm == str($2)/ { @ = count(); }";
    let (_, piped, _) = with(script, &["import", "--format", "bpftrace", "-", "77", "sh"], place);
    assert!(piped.contains("pid == 77 && comm == str(\\\"sh\\\")"), "{piped}");
    // Nothing that can be attached.
    let (status, stdout, stderr) = with("interval:s:1 { printf(\"%d\", rand); }", &["import", "-"], place);
    assert_eq!((status, stdout.contains("Nothing of it is a probe")), (Some(1), true), "{stdout}{stderr}");
    // What cannot be read.
    for (arguments, message) in [
        (&["import", "nothing.bt"][..], "cannot read `nothing.bt`: No such file"),
        (&["import", "."], "cannot read `.`"),
        (&["import", "--format", "ebpf_exporter", "forks.bt"], "error: "),
    ] {
        let (status, stdout, stderr) = with("", arguments, place);
        assert_eq!((status, stdout.as_str()), (Some(2), ""), "{stderr}");
        assert!(stderr.contains(message), "{stderr}");
    }
    fs::write(place.join("bytes.bt"), [0xff, 0xfe]).unwrap();
    let (status, _, stderr) = with("", &["import", "bytes.bt"], place);
    assert_eq!((status, stderr.contains("it is not text")), (Some(2), true), "{stderr}");
    // The C code beside a file of ebpf_exporter tells its events; its skeletons are off.
    fs::write(place.join("x.yaml"), "metrics: { counters: [{ name: x_total, help: X }] }").unwrap();
    fs::write(place.join("x.bpf.c"), "SEC(\"tp_btf/sched_switch\")").unwrap();
    let (status, stdout, stderr) = with("", &["import", "x.yaml"], place);
    assert!(stdout.contains("at: \"rawtracepoint:sched_switch\""), "{stdout}");
    assert_eq!((status, stderr.contains("1 is off")), (Some(0), true), "{stderr}");
    fs::write(place.join("made.yaml"), stdout).unwrap();
    let (status, stdout, stderr) = with("", &["check", "--offline", "made.yaml"], place);
    assert_eq!((status, stdout.contains("x  off")), (Some(0), true), "{stdout}{stderr}");
}

/// Scripts whose events every kernel has compile here, and the import says so; what a kernel lacks is status 1.
#[expect(clippy::unnecessary_wraps, reason = "cases are alike")]
fn compiled_here() -> Outcome {
    let mut number = 0;
    for name in ["runqueue", "opens", "calls", "forks", "cpus", "naps", "kills", "texts"] {
        let path = fixture::file(format!("import/scripts/{name}.bt"));
        let (status, _, stderr) = with("", &["import", path.to_str().unwrap()], Path::new("."));
        assert_eq!(status, Some(0), "{name}: {stderr}");
        assert!(stderr.contains("`tapster check` here: "), "{stderr}");
        number += 1;
    }
    let script = "tracepoint:sched:no_such_event { @ = count(); }";
    let (status, stdout, stderr) = with(script, &["import", "-"], Path::new("."));
    assert!(stdout.contains("no_such_event") && stderr.contains("0 of 1 compiled"), "{stdout}{stderr}");
    assert_eq!(status, Some(1));
    Ok(format!("{number} scripts"))
}

/// Calls of one directory, whose names nobody else uses.
const MADE: u64 = 40;
const SCRIPT: &str = "
tracepoint:syscalls:sys_enter_mkdir, tracepoint:syscalls:sys_enter_mkdirat
{
  @since[tid] = nsecs;
  @path[tid] = args->pathname;
}
tracepoint:syscalls:sys_exit_mkdir, tracepoint:syscalls:sys_exit_mkdirat
/@since[tid]/
{
  @calls[str(@path[tid], 64)] = count();
  @us[comm] = hist((nsecs - @since[tid]) / 1000);
  if (args->ret < 0) {
    @failed[str(@path[tid], 64)] = count();
  }
  delete(@since[tid]);
  delete(@path[tid]);
}
";

/// A script run by bpftrace, and what becomes of it run by tapster, over the same calls.
fn counts_are_those_of_bpftrace() -> Outcome {
    let mut bpftrace = tool("bpftrace")?;
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    let script = place.join("made.bt");
    fs::write(&script, SCRIPT).unwrap();
    let load = place.join("load");
    // Every second one is there already.
    let calls = format!(
        "for i in $(seq {MADE}); do mkdir {}/d$((i / 2)) 2>/dev/null; done\nexit 0\n",
        place.display()
    );
    fs::write(&load, calls).unwrap();
    let probes = place.join("made.yaml");
    let made = output(binary().args(["import", script.to_str().unwrap(), "-o", probes.to_str().unwrap()]));
    assert!(made.status.success(), "{}", texts(&made).2);
    // Both are attached while the load runs: tapster before bpftrace begins, and until it has ended.
    let command = format!("/bin/sh {}", load.display());
    bpftrace.args(["-q", "-f", "json", script.to_str().unwrap(), "-c", &command]);
    let mut report = binary();
    report
        .args(["report", "--json", "--top", "100", probes.to_str().unwrap(), "--"])
        .arg(bpftrace.get_program());
    let theirs = place.join("theirs");
    report.args(bpftrace.get_args()).args(["-o", theirs.to_str().unwrap()]);
    let ran = output(&mut report);
    let (status, stdout, stderr) = texts(&ran);
    let theirs = fs::read_to_string(&theirs).unwrap_or_default();
    let Some(theirs) = by_path(&theirs, "@calls", place).zip(by_path(&theirs, "@failed", place)) else {
        return Err(Skip(format!("bpftrace does not run here: {theirs}{stderr}")));
    };
    assert_eq!(status, Some(0), "{stderr}");
    let ours: serde_json::Value =
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"));
    let counted = (
        counted(&ours, "tapster_made_calls_total", place),
        counted(&ours, "tapster_made_failed_total", place),
    );
    assert_eq!(counted, theirs, "{stdout}");
    assert_eq!(counted.0.values().sum::<u64>(), MADE);
    assert_eq!(counted.1.values().sum::<u64>(), MADE / 2 - 1);
    Ok(format!("{MADE} calls of {} paths, {} failed", counted.0.len(), MADE / 2 - 1))
}

/// A map of bpftrace's, by the paths of this test.
fn by_path(json: &str, map: &str, place: &Path) -> Option<BTreeMap<String, u64>> {
    let lines = json.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let found = lines.filter(|line| line["type"] == "map").find_map(|line| line["data"].get(map).cloned())?;
    let rows = found.as_object()?.iter();
    let rows = rows.filter(|(path, _)| path.starts_with(place.to_str().unwrap()));
    Some(rows.map(|(path, count)| (path.clone(), count.as_u64().unwrap())).collect())
}

/// A counter of a report, by the paths of this test.
fn counted(report: &serde_json::Value, metric: &str, place: &Path) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    let metrics = report["metrics"].as_array().unwrap();
    let rows =
        metrics.iter().filter(|one| one["name"] == metric).flat_map(|one| one["rows"].as_array().unwrap());
    for row in rows {
        let path = row["labels"]["path"].as_str().unwrap();
        if path.starts_with(place.to_str().unwrap()) {
            found.insert(path.to_owned(), row["value"].as_u64().unwrap());
        }
    }
    found
}

/// Programs of the load that write to the file that counts as their second, and as their third.
const SECOND: u64 = 25;
const THIRD: u64 = 10;
/// A file is known by the number that opening it gave, until it is closed: what one event leaves for others is state.
const SHARED: &str = r#"
tracepoint:syscalls:sys_enter_openat /comm == "importload"/ { @path[tid] = args->filename; }
tracepoint:syscalls:sys_exit_openat /@path[tid]/
{
  if (args->ret >= 0 && str(@path[tid]) == "counted") { @open[pid, args->ret] = 1; }
  delete(@path[tid]);
}
tracepoint:syscalls:sys_enter_close /comm == "importload"/ { delete(@open[pid, args->fd]); }
tracepoint:syscalls:sys_enter_write
{
  @calls[tid]++;
  if (@open[pid, args->fd]) { @writes[comm] = count(); }
  if (@open[pid, args->fd] && @calls[tid] > 2) { @later[comm] = count(); }
}
tracepoint:sched:sched_process_exit { delete(@calls[tid]); }
"#;

/// A copy of an installed program, whose name nobody else uses.
fn load_program(name: &str, place: &Path) -> Result<(), Skip> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).map(|path| path.join(name)).find(|path| path.is_file());
    let found = found.ok_or_else(|| Skip(format!("`{name}` is not installed")))?;
    fs::copy(found, place.join("importload")).unwrap();
    Ok(())
}

/// What a script counts in bpftrace, and as the probes that it becomes, over the same calls.
struct BothCounts {
    theirs: String,
    ours: serde_json::Value,
}

impl BothCounts {
    /// Runs both while a shell does this at the place, where the program of the load is.
    fn of(name: &str, script: &str, calls: &str, place: &Path) -> Result<Self, Skip> {
        let mut bpftrace = tool("bpftrace")?;
        let (source, probes) = (format!("{name}.bt"), format!("{name}.yaml"));
        fs::write(place.join(&source), script).unwrap();
        fs::write(place.join("load"), format!("cd {}\n{calls}\nexit 0\n", place.display())).unwrap();
        let made = output(binary().args(["import", &source, "-o", &probes]).current_dir(place));
        let (status, _, said) = texts(&made);
        assert_eq!(status, Some(0), "{said}");
        assert!(said.contains("nothing left out"), "{said}");
        let command = format!("/bin/sh {}", place.join("load").display());
        bpftrace
            .args(["-q", "-f", "json", "-c", &command, "-o"])
            .arg(place.join("theirs"))
            .arg(place.join(&source));
        let mut report = binary();
        report.args(["report", "--json", "--top", "100", &probes, "--"]).current_dir(place);
        report.arg(bpftrace.get_program()).args(bpftrace.get_args());
        let (status, stdout, stderr) = texts(&output(&mut report));
        let theirs = fs::read_to_string(place.join("theirs")).unwrap_or_default();
        if !theirs.contains("importload") {
            return Err(Skip(format!("bpftrace does not run here: {theirs}{stderr}")));
        }
        assert_eq!(status, Some(0), "{stderr}");
        let ours = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"));
        Ok(Self { theirs, ours })
    }

    /// What both say of the load in a map and in the metric of it.
    fn both(&self, map: &str, metric: &str) -> [u64; 2] {
        let lines =
            self.theirs.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let theirs =
            lines.filter(|line| line["type"] == "map").find_map(|line| line["data"].get(map).cloned());
        let theirs = theirs.and_then(|map| map.get("importload")?.as_u64());
        let metrics = self.ours["metrics"].as_array().unwrap().iter().filter(|one| one["name"] == metric);
        let rows = metrics.flat_map(|one| one["rows"].as_array().unwrap());
        let of_load = rows.filter(|row| row["labels"]["comm"] == "importload");
        [theirs.unwrap_or(0), of_load.map(|row| row["value"].as_u64().unwrap()).sum()]
    }
}

/// The same with maps that several events share, which become state.
fn shared_maps_count_as_in_bpftrace() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    // It writes what it reads to its standard output, then to each file, and closes them.
    load_program("tee", place)?;
    let calls = format!(
        "for i in $(seq {SECOND}); do echo $i | ./importload counted other >/dev/null; done\nfor i in $(seq {THIRD}); do echo $i | ./importload other counted >/dev/null; done"
    );
    let counts = BothCounts::of("shared", SHARED, &calls, place)?;
    assert_eq!(counts.both("@writes", "tapster_shared_writes_total"), [SECOND + THIRD; 2]);
    assert_eq!(counts.both("@later", "tapster_shared_later_total"), [THIRD; 2]);
    Ok(format!("{} writes to the file that counts, {THIRD} of them a program's third", SECOND + THIRD))
}

/// Blocks that the load writes to its standard output, and its runs whose output is full: these tell it on standard error.
const BLOCKS: u64 = 12;
const FULL: u64 = 5;
/// Starts of one action under several conditions, ends that delete whatever they count, and a count that an event reads and deletes.
const TAKEN: &str = r#"
tracepoint:syscalls:sys_enter_write /comm == "importload"/
{
  if (args->fd == 1) { @output[tid] = 1; @where[tid] = 1; }
  if (args->fd == 2) { @where[tid] = 2; }
  @fd[tid] = args->fd - 1;
  @calls[tid]++;
}
tracepoint:syscalls:sys_exit_write /@where[tid]/
{
  @writes[comm] = count();
  if (args->ret < 0) { @failed[comm] = count(); }
  delete(@where[tid]);
}
tracepoint:syscalls:sys_exit_write /@output[tid]/ { if (args->ret > 0) { @done[comm] = count(); } delete(@output[tid]); }
tracepoint:syscalls:sys_exit_write /@fd[tid] > 0/ { @told[comm] = count(); delete(@fd[tid]); }
tracepoint:sched:sched_process_exit /comm == "importload"/
{
  if (@calls[tid] > 9) { @many[comm] = count(); }
  delete(@calls[tid]);
}
"#;

/// The same with starts and ends that are under conditions of their own.
fn starts_are_taken_as_in_bpftrace() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    load_program("dd", place)?;
    let calls = format!(
        "./importload if=/dev/zero of=blocks bs=4 count={BLOCKS} status=none\nfor i in $(seq {FULL}); do ./importload if=/dev/zero of=/dev/full bs=4 count=1 status=none; done 2>told"
    );
    let counts = BothCounts::of("taken", TAKEN, &calls, place)?;
    let [told, of_probes] = counts.both("@told", "tapster_taken_told_total");
    assert!(told >= FULL && told == of_probes, "{told}, {of_probes}");
    for (map, metric, wanted) in [
        ("@writes", "tapster_taken_writes_total", BLOCKS + FULL + told),
        ("@failed", "tapster_taken_failed_total", FULL),
        ("@done", "tapster_taken_done_total", BLOCKS),
        ("@many", "tapster_taken_many_total", 1),
    ] {
        assert_eq!(counts.both(map, metric), [wanted; 2], "{map}: {}", counts.ours);
    }
    Ok(format!("{BLOCKS} blocks written, {FULL} not, {told} writes of what went wrong"))
}

#[test]
fn scripts_on_this_kernel() {
    let Some(mut cases) = Cases::as_root("import") else { return };
    cases.run("compiled here", compiled_here);
    cases.run("counts are those of bpftrace", counts_are_those_of_bpftrace);
    cases.run("shared maps count as in bpftrace", shared_maps_count_as_in_bpftrace);
    cases.run("starts are taken as in bpftrace", starts_are_taken_as_in_bpftrace);
    cases.finish();
}
