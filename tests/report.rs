//! `tapster report`: counts beside those of `fio`, exit statuses, signals, and probes that do not come up.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]

use tapster_testing as support;

use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};
use support::{
    cases::{Attempt, Cases, Outcome, Skip, unless_hidden},
    command::{root, tool},
    control::disk::DiskControl,
    device::{LoopDevice, filled_file, memory_directory, wait_quiet},
    exporter::{binary, orphans, within},
    fio::{Job, Report},
    load::assert_all,
};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
const DURATION: &str = "tapster_block_io_duration_seconds";
const BYTES: &str = "tapster_block_io_bytes_total";
/// How often a job is tried of which the kernel hid events from the control too: some in ten thousand, so that four jobs of
/// 2048 events each are enough.
const ATTEMPTS: usize = 4;

fn privileged() -> Result<(), Skip> {
    root()?;
    for path in ["/sys/kernel/btf/vmlinux", "/sys/kernel/tracing/available_events"] {
        fs::File::open(path).map_err(|error| Skip(format!("{path}: {error}")))?;
    }
    Ok(())
}

/// `tapster report`, in a group of processes of its own, which no terminal sends signals to.
fn report(arguments: &[&str]) -> Command {
    let mut command = binary();
    command.arg("report").args(arguments).stdin(Stdio::null()).process_group(0);
    command
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

/// A device in memory that nobody else uses.
struct Disk {
    device: LoopDevice,
    _directory: TempDir,
}

impl Disk {
    fn new() -> Result<Self, Skip> {
        privileged()?;
        let directory = memory_directory()?;
        let device = LoopDevice::over(&filled_file(&directory.path().join("disk"), 16 * MIB), &[])?;
        wait_quiet(&device.name());
        Ok(Self { device, _directory: directory })
    }

    fn job<'a>(&'a self, pattern: &'a str) -> Job<'a> {
        Job { target: &self.device.path, pattern, block_bytes: 4096, depth: 8, bytes: 8 * MIB, extra: &[] }
    }
}

/// The row of a metric with these labels.
fn row<'a>(report: &'a Value, metric: &str, labels: &Value) -> Option<&'a Value> {
    let metrics = report["metrics"].as_array().unwrap();
    let metric = metrics.iter().find(|found| found["name"] == metric).unwrap();
    metric["rows"].as_array().unwrap().iter().find(|row| row["labels"] == *labels)
}

/// A report of `block_io` while `fio` runs, and what `fio` says; tried again while an event is hidden from programs.
fn while_fio_runs(disk: &Disk, pattern: &str) -> Result<(Value, Report), Skip> {
    tool("fio")?;
    let job = disk.job(pattern);
    unless_hidden("report: beside fio", ATTEMPTS, || {
        wait_quiet(&disk.device.name());
        let control = DiskControl::new(&disk.device.name())?;
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut command = report(&["block_io", "--json", "--output", file.path().to_str().unwrap(), "--"]);
        command.arg(tool("fio")?.get_program());
        let fio = job.run_by(command);
        let found: Value = serde_json::from_str(&fs::read_to_string(file.path()).unwrap()).unwrap();
        let labels = serde_json::json!({ "device": disk.device.name(), "operation": job.operation() });
        let count = row(&found, DURATION, &labels).map_or(0, |row| row["count"].as_u64().unwrap());
        assert!(count <= fio.ios, "{count} I/Os, fio made {}", fio.ios);
        if count == fio.ios {
            return Ok(Attempt::Done((found, fio)));
        }
        let why = format!("{count} of {} I/Os", fio.ios);
        Ok(Attempt::Short { why, lost: control.lost_bios() })
    })
}

/// Counts, bytes, times and the distribution agree with `fio`'s.
fn beside_fio() -> Outcome {
    let disk = Disk::new()?;
    let mut figures = Vec::new();
    for pattern in ["randread", "randwrite"] {
        let (found, fio) = while_fio_runs(&disk, pattern)?;
        let labels =
            serde_json::json!({ "device": disk.device.name(), "operation": disk.job(pattern).operation() });
        let duration = row(&found, DURATION, &labels).unwrap();
        let bytes = row(&found, BYTES, &labels).unwrap();
        assert_eq!(bytes["value"].as_u64(), Some(fio.bytes));
        let buckets = duration["buckets"].as_array().unwrap();
        let counted: u64 = buckets.iter().map(|bucket| bucket["count"].as_u64().unwrap()).sum();
        assert_eq!(counted, fio.ios);
        let average = duration["average"].as_f64().unwrap();
        // Ours is inside fio's time of each I/O.
        assert!(average > 0.0 && average <= fio.mean * 1.0001, "{average} beside fio's {}", fio.mean);
        let quantile = |q: &str| duration["quantiles"][q].as_f64().unwrap();
        let max = duration["max"]["value"].as_f64().unwrap();
        assert!(quantile("0.5") <= quantile("0.99") && quantile("0.99") <= max, "{duration}");
        assert_eq!(duration["max"]["source"], "bucket");
        assert_eq!(found["command"]["status"], 0);
        assert_eq!(found["ended_by"], "command");
        assert_eq!(found["losses"], serde_json::json!([]));
        // What was written before the command is not in it: the other direction has nothing.
        let other = if pattern == "randread" { "write" } else { "read" };
        let other = serde_json::json!({ "device": disk.device.name(), "operation": other });
        assert_eq!(row(&found, DURATION, &other), None);
        figures.push(format!(
            "{pattern}: {} of {} I/Os, {} bytes, average {:.1} µs, fio {:.1} µs",
            duration["count"],
            fio.ios,
            fio.bytes,
            average * 1e6,
            fio.mean * 1e6
        ));
    }
    Ok(figures.join("; "))
}

/// The story's table: device, operation, total, count, average.
fn table() -> Outcome {
    let disk = Disk::new()?;
    let device = disk.device.path.display().to_string();
    unless_hidden("report: table", ATTEMPTS, || {
        wait_quiet(&disk.device.name());
        let control = DiskControl::new(&disk.device.name())?;
        let script = format!(
            "dd if={device} of=/dev/null bs=4096 count=500 iflag=direct 2>/dev/null && echo the command wrote this"
        );
        let output = report(&["block_io", "--", "sh", "-c", &script]).output().unwrap();
        let (stdout, stderr) = texts(&output);
        assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""), "{stdout}");
        assert!(stdout.starts_with("the command wrote this\nIn "), "{stdout}");
        let mut lines = stdout.lines().skip_while(|line| !line.starts_with(DURATION));
        assert!(
            lines.next().unwrap().ends_with(": Time from the submission of a block I/O to its completion.")
        );
        let titles: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
        assert_eq!(
            titles,
            ["device", "operation", "total", "count", "average", "p50", "p99", "max", "percent"],
            "{stdout}"
        );
        let name = disk.device.name();
        let found = lines
            .map_while(|line| line.strip_prefix("  "))
            .find(|line| line.starts_with(&format!("{name} ")));
        let line = found.unwrap_or_else(|| panic!("{stdout}"));
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(cells[1], "read");
        if cells[4] == "500" {
            return Ok(Attempt::Done(line.to_owned()));
        }
        Ok(Attempt::Short { why: line.to_owned(), lost: control.lost_bios() })
    })
}

/// The command's exit status is that of the report, as a shell would have it; nothing is left in the kernel.
fn exit_statuses() -> Outcome {
    privileged()?;
    let before = orphans()?;
    let file = tempfile::NamedTempFile::new().unwrap();
    let plain = file.path().to_str().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let marker = directory.path().join("ran");
    let touch = format!("touch {}", marker.display());
    for (command, expected, message) in [
        (&["true"][..], 0, ""),
        (&["sh", "-c", "exit 7"], 7, ""),
        (&["sh", "-c", "kill -TERM $$"], 143, ""),
        (&["sh", "-c", "kill -KILL $$"], 137, ""),
        (&["/nonexistent/command"], 127, "error: `/nonexistent/command` cannot be started: No such file"),
        (&["no-such-command"], 127, "error: `no-such-command` cannot be started: No such file"),
        (&[plain], 126, "cannot be started: Permission denied"),
        (&["/"], 126, "error: `/` cannot be started: Permission denied"),
    ] {
        let output = report(&["block_io", "--"]).args(command).output().unwrap();
        let (stdout, stderr) = texts(&output);
        assert_eq!(output.status.code(), Some(expected), "{command:?}: {stderr}");
        assert!(stderr.contains(message) && stderr.lines().count() <= 1, "{command:?}: {stderr}");
        // What was not started has no report.
        assert_eq!(stdout.is_empty(), expected == 126 || expected == 127, "{command:?}: {stdout}");
        let note = match expected {
            7 => "the command ended with status 7\n",
            137 => "the command was ended by signal 9\n",
            _ => "",
        };
        assert!(stdout.ends_with(note), "{stdout}");
    }
    // A report that cannot be written: the command does not run for nothing.
    let output =
        report(&["block_io", "--output", "/nonexistent/report", "--", "sh", "-c", &touch]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        texts(&output).1,
        "error: cannot write `/nonexistent/report`: No such file or directory (os error 2)\n"
    );
    assert!(!marker.exists());
    let clean = || orphans().is_ok_and(|left| left.is_subset(&before));
    assert!(within(Duration::from_secs(3), clean).is_some(), "programs that nobody holds");
    Ok("0, 7, 143, 137, 127 and 126".into())
}

fn spawn(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn send(child: &Child, signal: i32) {
    // SAFETY: it reads no memory of ours, and the process is a child that has not been waited for.
    assert_eq!(unsafe { libc::kill(i32::try_from(child.id()).unwrap(), signal) }, 0);
}

/// The rest of what a process writes, and how it ends.
fn rest(mut child: Child) -> (Option<i32>, String) {
    let begun = Instant::now();
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    let status = child.wait().unwrap().code();
    assert!(begun.elapsed() < Duration::from_secs(20), "it took {:?}", begun.elapsed());
    (status, text)
}

/// Ctrl-C ends the counting, and what was counted is printed: with a limit, and without.
fn interrupted() -> Outcome {
    let disk = Disk::new()?;
    tool("fio")?;
    let mut seen = Vec::new();
    for (limit, line, signal) in [
        (&[][..], "counting with 1 probe; Ctrl-C ends it and prints the report", libc::SIGINT),
        (&["--for", "10m"], "counting with 1 probe for 600 s; Ctrl-C ends it early", libc::SIGTERM),
    ] {
        let control = DiskControl::new(&disk.device.name())?;
        let mut child = spawn(report(&[&["block_io", "--json"], limit].concat()));
        let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        assert_eq!(stderr.next().unwrap().unwrap(), line);
        // The handler is there once the clock runs.
        std::thread::sleep(Duration::from_millis(300));
        let job = disk.job("randread").run();
        wait_quiet(&disk.device.name());
        let lost = control.lost_bios();
        send(&child, signal);
        let (status, text) = rest(child);
        assert_eq!((status, job?.ios), (Some(0), 2048), "{text}");
        let found: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&found["ended_by"], &found["command"]), (&"interrupt".into(), &Value::Null));
        // It ended by the signal and not by its limit.
        assert!(found["seconds"].as_f64().unwrap() < 20.0);
        let labels = serde_json::json!({ "device": disk.device.name(), "operation": "read" });
        let count = row(&found, DURATION, &labels).unwrap()["count"].as_u64().unwrap();
        assert_all("reads before the signal", count, 2048, lost);
        seen.push(count);
    }
    Ok(format!("{seen:?} of 2048 reads before the signal"))
}

/// Signals for the report while a command runs are the command's: it ends as it likes.
fn signals_go_to_the_command() -> Outcome {
    privileged()?;
    for (signal, name) in [(libc::SIGINT, "INT"), (libc::SIGTERM, "TERM")] {
        let script =
            format!("trap 'echo got {name}; exit 5' {name}; echo ready; while :; do sleep 0.05; done");
        let mut child = spawn(report(&["block_io", "--", "sh", "-c", &script]));
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        send(&child, signal);
        let mut text = String::new();
        stdout.read_to_string(&mut text).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(5), "{text}");
        assert!(text.starts_with(&format!("got {name}\nIn ")), "{text}");
        assert!(text.ends_with("the command ended with status 5\n"), "{text}");
    }
    // One that does not catch it dies by it, and the report is printed all the same.
    let mut child = spawn(report(&["block_io", "--", "sh", "-c", "echo ready; exec sleep 60"]));
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut String::new()).unwrap();
    send(&child, libc::SIGINT);
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{text}");
    assert!(text.ends_with("the command was ended by signal 2\n"), "{text}");
    Ok("SIGINT and SIGTERM, caught and not".into())
}

fn probes(directory: &Path, text: &str) -> PathBuf {
    let file = directory.join("probes.yaml");
    fs::write(&file, text).unwrap();
    file
}

/// Probes that are down are said, with the reason; the others are reported, and without any the command does not run.
fn probes_that_are_down() -> Outcome {
    privileged()?;
    let directory = tempfile::tempdir().unwrap();
    let marker = directory.path().join("ran");
    let touch = ["sh", "-c", &format!("touch {}", marker.display())].map(str::to_owned);
    let touch: Vec<&str> = touch.iter().map(String::as_str).collect();
    let missing = "probes:
  - name: missing
    at: tracepoint:no_such_category:no_such_event
    metrics: [{counter: missing_total, help: Never counted.}]
";
    // A mistake: nothing can be run.
    let file = probes(directory.path(), missing);
    let output = report(&[file.to_str().unwrap(), "--"]).args(&touch).output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert_eq!((output.status.code(), stdout.as_str()), (Some(2), ""), "{stderr}");
    assert!(stderr.starts_with("error: the probe `missing` is down (compile):\nerror: "), "{stderr}");
    assert!(!marker.exists());
    // A refusal of the kernel: there are no descriptors for its maps.
    let shell = format!("ulimit -n 6; exec {} report block_io -- \"$@\"", env!("CARGO_BIN_EXE_tapster"));
    let output = Command::new("sh").args(["-c", &shell, "sh"]).args(&touch).output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert_eq!((output.status.code(), stdout.as_str()), (Some(1), ""), "{stderr}");
    assert!(stderr.starts_with("error: the probe `block_io` is down (map): the kernel refused"), "{stderr}");
    assert!(!marker.exists());
    // One of two.
    let file = probes(
        directory.path(),
        &format!(
            "{missing}  - name: execs
    at: tracepoint:sched:sched_process_exec
    labels: {{ comm: comm }}
    metrics: [{{counter: execs_total, help: Programs started.}}]
"
        ),
    );
    let output = report(&[file.to_str().unwrap(), "--"]).args(&touch).output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(marker.exists());
    assert!(stderr.contains("no_such_category:no_such_event"), "{stderr}");
    assert!(stdout.contains("tapster_execs_total: Programs started.\n  comm "), "{stdout}");
    assert!(stdout.lines().any(|line| line.starts_with("  touch ")), "{stdout}");
    let note = stdout.lines().find(|line| line.starts_with("the probe `missing` was down (compile): "));
    assert!(note.is_some_and(|note| note.contains("no_such_event")), "{stdout}");
    let output = report(&[file.to_str().unwrap(), "--json", "--for", "10ms"]).output().unwrap();
    let found: Value = serde_json::from_str(&texts(&output).0).unwrap();
    let states: Vec<_> = found["probes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|probe| {
            (probe["name"].as_str().unwrap(), probe["up"].as_bool().unwrap(), probe["reason"].as_str())
        })
        .collect();
    assert_eq!(states, [("missing", false, Some("compile")), ("execs", true, None)]);
    Ok("said, and the other one reported".into())
}

/// Events that had no room are said below the table.
fn losses() -> Outcome {
    privileged()?;
    let directory = tempfile::tempdir().unwrap();
    let file = probes(
        directory.path(),
        "probes:
  - name: execs
    at: tracepoint:sched:sched_process_exec
    where: args.old_pid != 0
    max_series: 2
    labels: { pid: pid }
    metrics: [{counter: execs_total, help: Programs started.}]
",
    );
    let script = "for i in 1 2 3 4 5 6 7 8 9 10; do /bin/true; done";
    let output = report(&[file.to_str().unwrap(), "--", "sh", "-c", script]).output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""));
    let note = stdout.lines().find_map(|line| {
        line.strip_suffix(" events were not counted as they happened: `max_series` of `execs`")
    });
    // One of them is the shell; others of the host may be among them.
    let lost: u64 = note.unwrap_or_else(|| panic!("{stdout}")).parse().unwrap();
    assert!(lost >= 9, "{stdout}");
    Ok(format!("{lost} events without room"))
}

#[test]
fn reports_of_this_kernel() {
    let mut cases = Cases::new("report");
    cases.run("beside fio", beside_fio);
    cases.run("table", table);
    cases.run("exit statuses", exit_statuses);
    cases.run("interrupted", interrupted);
    cases.run("signals go to the command", signals_go_to_the_command);
    cases.run("probes that are down", probes_that_are_down);
    cases.run("losses", losses);
    cases.finish();
}

/// What needs no kernel: usage and configuration.
#[test]
fn bad_usage_and_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let wrong = probes(directory.path(), "probes: [{name: x}]\n");
    let ran = directory.path().join("ran");
    let mut seen = BTreeSet::new();
    for (arguments, message) in [
        (
            &["block_oi"][..],
            "error: `block_oi` is neither a shipped probe nor a file of probes; did you mean `block_io`?\n",
        ),
        (&["missing.yaml"], "error: cannot read `missing.yaml`: No such file or directory (os error 2)\n"),
        (&[wrong.to_str().unwrap()], "error: "),
        (&["--for", "10x"], "error: invalid value '10x' for '--for <TIME>'"),
        (&["--top", "0"], "error: invalid value '0' for '--top <NUMBER>'"),
        (&["--sort", "size"], "error: invalid value 'size' for '--sort <COLUMN>'"),
        (&["--json", "--bars"], "error: the argument '--json' cannot be used with '--bars'"),
    ] {
        let mut command = report(arguments);
        if !arguments.contains(&"--for") {
            command.args(["--", "touch"]).arg(&ran);
        }
        let output = command.current_dir(directory.path()).output().unwrap();
        let (stdout, stderr) = texts(&output);
        assert_eq!((output.status.code(), stdout.as_str()), (Some(2), ""), "{arguments:?}: {stderr}");
        assert!(stderr.starts_with(message), "{arguments:?}: {stderr}");
        assert!(seen.insert(stderr));
    }
    assert!(!ran.exists());
}
