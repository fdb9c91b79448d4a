//! State that events leave for others, beside bpftrace, which says the same with its maps: of one load both count the same.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]

use tapster_testing as support;

use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};
use support::{
    cases::{Cases, Outcome, Skip},
    command::{output, tool},
    device::{LoopDevice, filled_file, memory_directory},
    exporter::within,
};
use tapster::{
    exporter::{Exporter, StartOptions},
    host::Host,
    kernel::Kernel,
    load::{self, Attached},
    source::Source,
    sys::{self, Map, PossibleCpus},
};
use tapster_ebpf::{
    declaration,
    diagnostic::SourceFile,
    layout::DropReason,
    program::{DROPS, MapKind, ROWS},
};

/// The name of the tasks of the load.
const LOAD: &str = "stateload";
/// Reads of the load, each of a block.
const READS: u64 = 4000;

/// Per CPU: the device that completed last on the processor on which a task of the load stops running. Per task: the system call
/// that it is in. By key: whether a file that is written to was opened under this number and not closed since.
const PROBES: &str = r#"
probes:
  - name: device
    rows: per_cpu
    state: { device: { per: cpu } }
    note: { at: "tracepoint:block:block_rq_complete", set: { device: args.dev } }
    at: "tracepoint:sched:sched_switch"
    where: args.prev_comm == "stateload"
    labels: { device: state.device }
    metrics: [{ counter: device_total, help: x }]
  - name: call
    rows: per_cpu
    state: { call: { per: task, default: -1 } }
    note: { at: "tracepoint:raw_syscalls:sys_enter", where: comm == "stateload", set: { call: args.id } }
    at: "tracepoint:sched:sched_switch"
    where: args.prev_comm == "stateload"
    labels: { call: state.call + 1 }
    metrics: [{ counter: call_total, help: x }]
  - name: written
    rows: per_cpu
    state: { opened: { per: key } }
    note:
      - at: "tracepoint:syscalls:sys_exit_openat"
        where: comm == "stateload" && args.ret >= 0
        set: { "opened[pid][args.ret]": 1 }
      - at: "tracepoint:syscalls:sys_enter_close"
        where: comm == "stateload"
        clear: "opened[pid][args.fd]"
    at: "tracepoint:syscalls:sys_enter_write"
    where: comm == "stateload"
    labels: { opened: "state.opened[pid][args.fd]" }
    metrics: [{ counter: written_total, help: x }]
"#;

/// The same, each map under the name of the probe.
const SCRIPT: &str = r#"
BEGIN { printf("ready\n"); }
tracepoint:block:block_rq_complete { @last[cpu] = args->dev; }
tracepoint:raw_syscalls:sys_enter /comm == "stateload"/ { @in[tid] = args->id + 1; }
tracepoint:sched:sched_switch /args->prev_comm == "stateload"/ {
  @device[@last[cpu]] = count();
  @call[@in[tid]] = count();
}
tracepoint:syscalls:sys_exit_openat /comm == "stateload" && args->ret >= 0/ { @opened[pid, args->ret] = 1; }
tracepoint:syscalls:sys_enter_close /comm == "stateload"/ { delete(@opened[pid, args->fd]); }
tracepoint:syscalls:sys_enter_write /comm == "stateload"/ { @written[@opened[pid, args->fd]] = count(); }
END { clear(@last); clear(@in); clear(@opened); }
"#;

type Counts = BTreeMap<u64, u64>;

/// bpftrace with the script.
struct Script {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Script {
    fn start() -> Result<Self, Skip> {
        let mut command = tool("bpftrace")?;
        command.args(["-q", "-f", "json", "-e", SCRIPT]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| Skip(format!("bpftrace: {error}")))?;
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while output.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
            if line.contains("ready") {
                thread::sleep(Duration::from_millis(300));
                return Ok(Self { child, output });
            }
            line.clear();
        }
        let _ = child.wait();
        Err(Skip("bpftrace does not run here".into()))
    }

    /// Ends it; what it counted, by the names of its maps.
    fn stop(mut self) -> BTreeMap<String, Counts> {
        sys::send_signal(self.child.id(), libc::SIGINT).unwrap();
        let mut text = String::new();
        self.output.read_to_string(&mut text).unwrap();
        let mut maps: BTreeMap<String, Counts> = BTreeMap::new();
        for line in text.lines() {
            let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
            for (name, map) in line["data"].as_object().into_iter().flatten() {
                for (key, value) in map.as_object().into_iter().flatten() {
                    if let (Ok(key), Some(value)) = (key.parse(), value.as_u64()) {
                        maps.entry(name.trim_start_matches('@').to_owned()).or_default().insert(key, value);
                    }
                }
            }
        }
        maps
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        if within(Duration::from_secs(5), || matches!(self.child.try_wait(), Ok(Some(_)))).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn attached(kernel: &Kernel) -> Vec<Attached> {
    let (file, diagnostics) = declaration::parse(&SourceFile::new("state", PROBES));
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    let bring = |probe| {
        let program = tapster_ebpf::compile(probe, &kernel.target()).unwrap();
        let mut attached = load::load(program, kernel.btf.as_ref().ok()).unwrap();
        attached.attach(kernel).unwrap();
        attached
    };
    file.probes.iter().map(bring).collect()
}

fn map(attached: &Attached, index: u32) -> Map {
    Map::open(attached.map(index).unwrap(), PossibleCpus::of_host().unwrap()).unwrap()
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().unwrap())
}

/// The counter by the only label.
fn counts(attached: &Attached) -> Counts {
    let rows = map(attached, ROWS).dump().unwrap();
    rows.iter().map(|(key, copies)| (word(key), copies.chunks_exact(8).map(word).sum())).collect()
}

fn dropped(attached: &Attached, reason: DropReason) -> u64 {
    let copies = map(attached, DROPS).lookup(&reason.index().to_le_bytes()).unwrap().unwrap();
    copies.chunks_exact(8).map(word).sum()
}

/// A program of the system under the name of the load.
fn named(directory: &Path, program: &str) -> Result<PathBuf, Skip> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).map(|path| path.join(program)).find(|path| path.is_file());
    let place = directory.join(program);
    fs::create_dir(&place).unwrap();
    let copy = place.join(LOAD);
    fs::copy(found.ok_or_else(|| Skip(format!("`{program}` is not installed")))?, &copy).unwrap();
    Ok(copy)
}

/// Reads a device block by block, and writes a file and its standard output piece by piece.
fn run_load(directory: &Path, device: &LoopDevice) -> Result<(), Skip> {
    let (dd, tee) = (named(directory, "dd")?, named(directory, "tee")?);
    let mut read = Command::new(dd);
    read.arg(format!("if={}", device.path.display())).arg("of=/dev/null");
    read.args(["bs=4k", "iflag=direct", "status=none"]).arg(format!("count={READS}"));
    let read = output(&mut read);
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let input = File::open(filled_file(&directory.join("in"), 4 << 20)).unwrap();
    let tee =
        Command::new(tee).arg(directory.join("out")).stdin(input).stdout(Stdio::null()).status().unwrap();
    assert!(tee.success());
    Ok(())
}

fn beside_bpftrace() -> Outcome {
    let directory = memory_directory()?;
    let device = LoopDevice::over(&filled_file(&directory.path().join("disk"), 32 << 20), &[])?;
    let kernel = Kernel::detect(&Host::default());
    let probes = attached(&kernel);
    let script = Script::start()?;
    run_load(directory.path(), &device)?;
    let seen = script.stop();
    let mut figures = Vec::new();
    for probe in &probes {
        let name = &probe.program.name;
        let own = counts(probe);
        let other = seen.get(name).cloned().unwrap_or_default();
        let (total, total_of_other): (u64, u64) = (own.values().sum(), other.values().sum());
        // Some hosts hide an event in ten thousand from a program.
        let bound = total / 1000 + 2;
        let keys: BTreeSet<u64> = own.keys().chain(other.keys()).copied().collect();
        for key in keys {
            let [mine, theirs] = [&own, &other].map(|counts| counts.get(&key).copied().unwrap_or(0));
            assert!(
                mine.abs_diff(theirs) <= bound,
                "{name} {key}: {mine}, bpftrace {theirs}\n{own:?}\n{other:?}"
            );
        }
        for reason in [DropReason::State, DropReason::Busy, DropReason::Fault] {
            assert_eq!(dropped(probe, reason), 0, "{name}: {reason:?}");
        }
        figures.push(format!("{name} {total} in {} label sets, bpftrace {total_of_other}", own.len()));
    }
    let [of_device, call, written] = probes.as_slice() else { panic!("{} probes", probes.len()) };
    let number = support::observer::number(&device.name());
    let own = counts(of_device).get(&number).copied().unwrap_or(0);
    assert!(own > 0, "no switch after a completion of the load's device {number}: {:?}", counts(of_device));
    assert!(counts(call).values().sum::<u64>() > 0, "no task of the load ever stopped");
    let kind = call.program.maps.iter().find(|map| map.name == "taskstate").unwrap().kind;
    // `tee` writes what it reads to its output and to the file that it opened, alternately.
    let by_opened = counts(written);
    let [others, opened] = [0, 1].map(|key| by_opened.get(&key).copied().unwrap_or(0));
    assert!(opened > 0 && others >= opened, "{by_opened:?}");
    // Every file was closed, or its task has ended with it open; what was opened under its number since replaced it.
    let index = written.program.map_named("state0").unwrap();
    let left = map(written, index).dump().unwrap().len();
    assert!(left < 16, "{left} keys are left");
    let kind = if kind == MapKind::TaskStorage { "with the task" } else { "by the task's number" };
    Ok(format!("{}; kept {kind}, {left} keys left", figures.join(", ")))
}

/// Keys that are not set again are given up after the timeout, and others are not.
fn by_age() -> String {
    let yaml = r#"
probes:
  - name: aged
    state: { seen: { per: key, timeout: 1m } }
    at: "tracepoint:syscalls:sys_enter_getppid"
    set: { "seen[tid]": 1 }
    metrics: [{ counter: aged_total, help: x, value: "state.seen[tid]" }]
"#;
    let kernel = Kernel::detect(&Host::default());
    let (file, _) = declaration::parse(&SourceFile::new("aged", yaml));
    let host = Host::default();
    let options = StartOptions { run_stats: false, attach: true, command: false };
    let (exporter, ..) = Exporter::start(&file.probes, &kernel, &host, Vec::new(), options);
    let probes = exporter.probes();
    let Some(reader) = probes[0].reader() else { panic!("{:?}", exporter.status()[0].down) };
    let index = reader.program().map_named("state0").unwrap();
    let keys = || map(reader.attached(), index).dump().unwrap();
    // SAFETY: the call takes nothing and returns a number.
    unsafe { libc::syscall(libc::SYS_getppid) };
    // SAFETY: as above.
    let own = u64::try_from(unsafe { libc::gettid() }).unwrap();
    let has_own = || keys().iter().any(|(key, _)| word(key) == own);
    assert!(has_own(), "the call of this thread was noted");
    reader.sweep(reader.now_ns() + 59_000_000_000).unwrap();
    assert!(has_own(), "after less than a minute it is still there");
    reader.sweep(reader.now_ns() + 61_000_000_000).unwrap();
    assert!(!has_own(), "after a minute it is given up");
    let dropped = exporter.status().remove(0).dropped;
    let expired = dropped.iter().find(|(reason, _)| reason == "expired").map_or(0, |(_, count)| *count);
    assert!(expired >= 1, "{expired} are counted");
    format!("{expired} given up")
}

#[test]
fn what_events_leave_for_others() {
    let Some(mut cases) = Cases::as_root("state") else { return };
    cases.run("beside bpftrace", beside_bpftrace);
    cases.run("by age", || Ok(by_age()));
    cases.finish();
}
