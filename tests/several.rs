//! Several events that feed one probe, starts that are kept, and the time between events, against what this test does itself and
//! against bpftrace.

#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]
#![allow(clippy::unnecessary_wraps, reason = "cases are alike")]

use tapster_testing as support;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead, BufReader},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use support::{
    cases::{Cases, Outcome, Skip},
    command::{text, tool},
    exporter::{Tapster, binary, within},
    metrics::{Metrics, whole},
};

/// How long the exporter may take to see a change.
const PATIENCE: Duration = Duration::from_secs(30);

fn write(directory: &Path, probes: &str) -> PathBuf {
    let file = directory.join("probes.yaml");
    fs::write(&file, probes.replace("PID", &std::process::id().to_string())).unwrap();
    file
}

fn start(file: &Path) -> Tapster {
    Tapster::start(&["--strict", "-c", file.to_str().unwrap()])
}

fn absent(metrics: &Metrics, probe: &str) -> u64 {
    whole(metrics.sum("tapster_probe_event_absent", &[("probe", probe)]))
}

const SEVERAL: &str = r#"
probes:
  - name: directories
    help: Directories that are there.
    events:
      # Which of these a library calls depends on the processor.
      - at: { all_of: ["tracepoint:syscalls:sys_exit_mkdir", "tracepoint:syscalls:sys_exit_mkdirat"] }
        optional: true
        where: pid == PID && args.ret == 0
        values: { directories: 1, directories_made_total: 1 }
      - at: { all_of: ["tracepoint:syscalls:sys_exit_rmdir", "tracepoint:syscalls:sys_exit_unlinkat"] }
        optional: true
        where: pid == PID && args.ret == 0
        values: { directories: -1 }
    metrics:
      - { sum: directories }
      - { counter: directories_made_total }
  - name: transfers
    help: Bytes by direction.
    events:
      - at: "tracepoint:syscalls:sys_exit_pread64"
        let: { bytes: args.ret }
        labels: { kind: "'read'" }
        where: pid == PID
      - at: "tracepoint:syscalls:sys_exit_pwrite64"
        let: { bytes: args.ret }
        labels: { kind: "'written'" }
        where: pid == PID
      - at: "tracepoint:syscalls:sys_exit_of_nothing"
        optional: true
        let: { bytes: args.ret }
        labels: { kind: "'nothing'" }
    let: { kib: bytes / 1024 }
    metrics:
      - { counter: transfers_total }
      - { counter: transfer_bytes_total, value: bytes, unit: bytes }
      - { counter: transfer_kib_total, value: kib, where: kib > 1 }
"#;

/// Events with amounts and labels of their own, and one that this kernel does not have.
fn several() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let probes = write(directory.path(), SEVERAL);
    let nothing = "tracepoint:syscalls:sys_exit_of_nothing";
    let sentence = format!("`{nothing}` is optional and left out: ");
    for arguments in [&["check"][..], &["check", "--offline"], &["list", "-c"]] {
        let output = binary().args(arguments).arg(&probes).output().unwrap();
        let shown = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{arguments:?} {shown}");
        assert_eq!(shown.matches(&sentence).count(), 1, "{arguments:?}\n{shown}");
    }
    let tapster = start(&probes);
    let before = tapster.scrape();
    let made: Vec<PathBuf> = (0..17).map(|number| directory.path().join(format!("d{number}"))).collect();
    for path in &made {
        fs::create_dir(path).unwrap();
    }
    for path in &made[..5] {
        fs::remove_dir(path).unwrap();
    }
    let file =
        File::options().read(true).write(true).create_new(true).open(directory.path().join("f")).unwrap();
    let sizes = [100, 2048, 5000];
    for size in sizes {
        assert_eq!(file.write_at(&vec![1; size], 0).unwrap(), size);
    }
    assert_eq!(file.read_at(&mut [0; 3000], 0).unwrap(), 3000);
    let after = tapster.scrape();
    let since = |name: &str, kind: &str| {
        let labels = [("kind", kind)];
        after.since(&before, name, if kind.is_empty() { &[] } else { &labels })
    };
    assert_eq!(since("tapster_directories_made_total", ""), 17);
    assert_eq!(whole(after.sum("tapster_directories", &[])), 12, "17 made, 5 removed");
    let shown = |kind| {
        ["tapster_transfers_total", "tapster_transfer_bytes_total", "tapster_transfer_kib_total"]
            .map(|name| since(name, kind))
    };
    assert_eq!(shown("written"), [3, 7148, 2 + 4]);
    assert_eq!(shown("read"), [1, 3000, 2]);
    assert_eq!(whole(after.sum("tapster_probe_dropped_total", &[])), 0, "dropped");
    let one = [("probe", "transfers"), ("attach_point", nothing)];
    assert_eq!(whole(after.sum("tapster_probe_event_absent", &one)), 1);
    assert_eq!(whole(after.sum("tapster_probe_up", &[])), 2, "both are up");
    let page = tapster.get("/");
    assert!(page.text().contains("<b>without</b>") && page.text().contains(nothing), "{}", page.text());
    let log = tapster.log();
    assert_eq!(log.iter().filter(|line| line.contains(nothing)).count(), 1, "{log:?}");
    Ok(format!(
        "12 of {} directories left, transfers by kind, and the event that is not there is named",
        made.len()
    ))
}

const LATER: &str = "
probes:
  - name: calls
    events:
      - { at: 'tracepoint:syscalls:sys_exit_pread64', where: pid == PID, labels: { kind: '\"read\"' } }
      - { at: 'uprobe:PROGRAM:called', optional: true, labels: { kind: '\"call\"' } }
    metrics: [{ counter: calls_total, help: x }]
";
const CALLED: &str = "
void called(void) { __asm__ volatile(\"\"); }
int main(void) { for (int i = 0; i < 7; i++) called(); return 0; }
";

/// A program of which an optional event is, and which comes while the others run.
fn later() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("program");
    let probes = write(directory.path(), &LATER.replace("PROGRAM", program.to_str().unwrap()));
    let tapster = start(&probes);
    let metrics = tapster.scrape();
    assert_eq!((absent(&metrics, "calls"), whole(metrics.sum("tapster_probe_up", &[]))), (1, 1));
    let file = File::open(&probes).unwrap();
    file.read_at(&mut [0; 8], 0).unwrap();
    let source = directory.path().join("source.c");
    let built = directory.path().join("built");
    fs::write(&source, CALLED).unwrap();
    text(tool("cc")?.arg("-O0").arg("-o").arg(&built).arg(&source));
    fs::rename(&built, &program).unwrap();
    assert!(within(PATIENCE, || absent(&tapster.scrape(), "calls") == 0).is_some(), "{:#?}", tapster.log());
    text(&mut Command::new(&program));
    file.read_at(&mut [0; 8], 0).unwrap();
    let metrics = tapster.scrape();
    let counted = |kind| whole(metrics.sum("tapster_calls_total", &[("kind", kind)]));
    assert_eq!((counted("call"), counted("read")), (7, 2), "nothing began again");
    fs::remove_file(&program).unwrap();
    assert!(within(PATIENCE, || absent(&tapster.scrape(), "calls") == 1).is_some(), "{:#?}", tapster.log());
    assert_eq!(whole(tapster.scrape().sum("tapster_probe_up", &[])), 1, "the other goes on");
    Ok("attached when the program came, told of when it went".into())
}

const KEPT: &str = "
probes:
  - name: kept
    start: { at: 'tracepoint:syscalls:sys_enter_pwrite64', key: tid, first: true, where: pid == PID }
    end: { at: 'tracepoint:syscalls:sys_enter_pread64', key: tid, where: pid == PID }
    metrics: [{ counter: kept_total }, { counter: kept_seconds_total, value: duration }]
  - name: replaced
    start: { at: 'tracepoint:syscalls:sys_enter_pwrite64', key: tid, where: pid == PID }
    end: { at: 'tracepoint:syscalls:sys_enter_pread64', key: tid, where: pid == PID }
    metrics: [{ counter: replaced_total }, { counter: replaced_seconds_total, value: duration }]
  - name: gaps
    between: { at: 'tracepoint:syscalls:sys_enter_pwrite64', key: tid, where: pid == PID, save: { place: args.pos } }
    labels: { before: start.place }
    metrics: [{ counter: gaps_total }, { counter: gap_seconds_total, value: duration }]
";
const STEP: Duration = Duration::from_millis(30);
const ROUNDS: u64 = 5;

/// Three starts before each end: one probe counts from the first, the other from the last, and a third between them.
fn first() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let tapster = start(&write(directory.path(), KEPT));
    let file =
        File::options().read(true).write(true).create_new(true).open(directory.path().join("f")).unwrap();
    let (mut from_first, mut from_last, mut writes) = ([Duration::ZERO; 2], [Duration::ZERO; 2], Vec::new());
    let write = |place: u64| {
        let before = Instant::now();
        file.write_at(b"x", place).unwrap();
        (before, Instant::now())
    };
    for _ in 0..ROUNDS {
        let mut times = Vec::new();
        for place in 0..3 {
            times.push(write(place));
            thread::sleep(STEP);
        }
        let before = Instant::now();
        file.read_at(&mut [0; 1], 0).unwrap();
        let after = Instant::now();
        // At least from behind a write to before the read, at most the other way round.
        for (sum, (began, ended)) in [(&mut from_first, times[0]), (&mut from_last, times[2])] {
            *sum = [sum[0] + (before - ended), sum[1] + (after - began)];
        }
        writes.extend(times);
    }
    let metrics = tapster.scrape();
    let mut shown = Vec::new();
    for (name, [least, most]) in [("kept", from_first), ("replaced", from_last)] {
        assert_eq!(whole(metrics.sum(&format!("tapster_{name}_total"), &[])), ROUNDS);
        let seconds = metrics.sum(&format!("tapster_{name}_seconds_total"), &[]);
        assert!(
            (least.as_secs_f64()..=most.as_secs_f64()).contains(&seconds),
            "{name}: {seconds} s, {least:?} to {most:?}"
        );
        shown.push(format!("{name} {seconds:.4} s"));
    }
    for place in 0..3_usize {
        // From the write at this place to the next one, which the last of all does not have.
        let place_of = |(index, _): &(usize, _)| index % 3 == place;
        let pairs: Vec<_> =
            writes.windows(2).enumerate().filter(place_of).map(|(_, pair)| (pair[0], pair[1])).collect();
        let least: Duration = pairs.iter().map(|((_, ended), (began, _))| *began - *ended).sum();
        let most: Duration = pairs.iter().map(|((began, _), (_, ended))| *ended - *began).sum();
        let number = place.to_string();
        let labels = [("before", number.as_str())];
        assert_eq!(whole(metrics.sum("tapster_gaps_total", &labels)), u64::try_from(pairs.len()).unwrap());
        let seconds = metrics.sum("tapster_gap_seconds_total", &labels);
        assert!(
            (least.as_secs_f64()..=most.as_secs_f64()).contains(&seconds),
            "{place}: {seconds} s, {least:?} to {most:?}"
        );
    }
    let lost = metrics.sum("tapster_probe_dropped_total", &[]);
    assert_eq!((whole(lost), whole(metrics.sum("tapster_probe_unmatched_total", &[]))), (0, 0));
    Ok(format!("{}; {} gaps", shown.join(", "), 3 * ROUNDS - 1))
}

/// Both at tracepoints of one kind, so that an event that the kernel hides from one because it came within another program is
/// hidden from both.
const SOFTIRQ: &str = "
probes:
  - name: softirq_wait
    max_inflight: 1024
    start: { at: 'tracepoint:irq:softirq_raise', key: [cpu, args.vec], first: FIRST, where: nsecs >= FROM && nsecs < UNTIL }
    end: { at: 'tracepoint:irq:softirq_entry', key: [cpu, args.vec] }
    labels: { vec: args.vec }
    metrics: [{ counter: softirqs_total }, { counter: softirq_wait_seconds_total, value: duration }]
";
const SCRIPT: &str = "
BEGIN { printf(\"ready\\n\"); }
tracepoint:irq:softirq_raise /nsecs >= FROM && nsecs < UNTIL/ {
  if (@start[cpu, args->vec] == 0) { @start[cpu, args->vec] = nsecs; } else { @again[args->vec] = count(); }
}
tracepoint:irq:softirq_entry /@start[cpu, args->vec] != 0/ {
  @waits[args->vec] = count(); @ns[args->vec] = sum(nsecs - @start[cpu, args->vec]); @start[cpu, args->vec] = 0;
}
interval:ms:100 /nsecs > UNTIL + 500000000/ { clear(@start); exit(); }
";
const WINDOW: Duration = Duration::from_secs(4);

/// A process that is ended when the test is.
struct Beside(Child);

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

fn boottime_ns() -> u64 {
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    let seconds: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    Duration::from_secs_f64(seconds).as_nanos().try_into().unwrap()
}

/// Waits of soft interrupts from the first time that each is raised, in one window of time, beside bpftrace.
fn softirqs() -> Outcome {
    let monotonic = tapster::sys::monotonic_ns();
    if boottime_ns().abs_diff(monotonic) > 50_000_000 {
        return Err(Skip("this host was suspended, so that bpftrace reads another clock".into()));
    }
    // Both are attached by then.
    let from = monotonic + 12_000_000_000;
    let until = from + u64::try_from(WINDOW.as_nanos()).unwrap();
    let at = |text: &str| text.replace("FROM", &from.to_string()).replace("UNTIL", &until.to_string());
    let mut bpftrace = tool("bpftrace")?;
    bpftrace.args(["-q", "-f", "json", "-e", &at(SCRIPT)]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Beside(bpftrace.spawn().unwrap());
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines().map_while(Result::ok);
    if !lines.by_ref().any(|line| line.contains("ready")) {
        return Err(Skip("bpftrace does not run here".into()));
    }
    let directory = tempfile::tempdir().unwrap();
    let exporters = ["true", "false"].map(|first| {
        let file = directory.path().join(format!("{first}.yaml"));
        fs::write(&file, at(SOFTIRQ).replace("FIRST", first)).unwrap();
        start(&file)
    });
    assert!(tapster::sys::monotonic_ns() < from, "it took too long to attach");
    let mut theirs: BTreeMap<String, [u64; 3]> = BTreeMap::new();
    for line in lines {
        let Ok(value) = serde_json::from_str::<serde_json::Value>(&line) else { continue };
        for (column, name) in ["@waits", "@ns", "@again"].into_iter().enumerate() {
            for (vec, number) in value["data"][name].as_object().into_iter().flatten() {
                theirs.entry(vec.clone()).or_default()[column] = number.as_u64().unwrap();
            }
        }
    }
    assert!(!theirs.is_empty(), "bpftrace saw nothing");
    let [kept, replaced] = exporters.map(|tapster| tapster.scrape());
    let missed = whole(kept.sum("tapster_probe_missed_total", &[]));
    let (mut all, mut again_in_all, mut seconds, mut of_last) = (0, 0, 0.0, 0.0);
    for (vec, [waits, ns, again]) in &theirs {
        let labels = [("vec", vec.as_str())];
        let ours = whole(kept.sum("tapster_softirqs_total", &labels));
        // At the ends of the window each reads its own clock.
        assert!(
            ours.abs_diff(*waits) <= 4 + missed,
            "vec {vec}: {ours} waits, by bpftrace {waits}, missed {missed}"
        );
        let (mine, other) = (
            kept.sum("tapster_softirq_wait_seconds_total", &labels),
            Duration::from_nanos(*ns).as_secs_f64(),
        );
        // Each has its own moment in the same event, and the programs of the other are in between.
        let allowed = 0.05_f64.mul_add(other, 0.000_02 * Duration::from_secs(*waits + 10).as_secs_f64());
        assert!(
            (mine - other).abs() <= allowed,
            "vec {vec}: {mine} s in {ours} waits, by bpftrace {other} s in {waits}"
        );
        all += ours;
        again_in_all += again;
        seconds += mine;
        of_last += replaced.sum("tapster_softirq_wait_seconds_total", &labels);
    }
    // Whether something is raised again while it waits is a matter of the host's load.
    assert!(of_last <= seconds * 1.05 + 0.001, "{of_last} s from the last raise, {seconds} s from the first");
    Ok(format!(
        "{all} waits as bpftrace has them, {again_in_all} raised again meanwhile; {seconds:.4} s from the first raise, {of_last:.4} s from the last"
    ))
}

#[test]
fn several_events_feed_one_probe() {
    let Some(mut cases) = Cases::as_root("events") else { return };
    cases.run("several events", several);
    cases.run("an optional event that comes", later);
    cases.run("the first start is kept", first);
    cases.run("soft interrupts", softirqs);
    cases.finish();
}
