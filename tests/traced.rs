//! Probes that keep to a command: `tapster report sched -- COMMAND` counts what it and its children slept, by their own
//! clocks, and nothing of others that do the same beside them.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]
#![allow(clippy::cast_precision_loss, reason = "a few sleeps")]

use tapster_testing as support;

use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use support::{
    cases::{Attempt, Cases, Outcome, Skip, say, unless_hidden},
    command::{text, tool},
    control::sleeps::{SleepControl, mark},
    exporter::{binary, orphans, within},
    fixture,
    metrics::whole,
    others::Others,
    waits,
};

const SLEPT: &str = "tapster_off_cpu_duration_seconds";
/// The name of a task of `programs/family.c` while it sleeps.
const NAP: &str = "nap";
/// How far sums may be from the programs' own clocks.
const TOLERANCE: f64 = 0.02;
/// How often a command that sleeps once is run again when the control lost that as well: a task of the control plane is current
/// some times a second for a while, and this is a second of tries.
const ATTEMPTS: usize = 5;

/// `tapster report` of what the arguments say while a shell runs a script: the report, what the script printed, and the
/// exit status.
fn report(arguments: &[&str], script: &str, directory: &Path) -> (Value, String, Option<i32>) {
    let file = directory.join("report.json");
    let mut command = binary();
    command.arg("report").args(arguments).args(["--json", "-o", file.to_str().unwrap(), "--"]);
    let output = command.args(["sh", "-c", script]).stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(stderr, "", "{script}");
    let report = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    (report, String::from_utf8(output.stdout).unwrap(), output.status.code())
}

/// The sum and count of all rows of a metric with these labels.
fn sum(report: &Value, metric: &str, labels: &[(&str, &str)]) -> (f64, u64) {
    let metric = report["metrics"].as_array().unwrap().iter().find(|found| found["name"] == metric).unwrap();
    let rows = metric["rows"].as_array().unwrap().iter();
    let rows = rows.filter(|row| labels.iter().all(|(name, value)| row["labels"][*name] == *value));
    rows.fold((0.0, 0), |(sum, count), row| {
        let own = row["sum"].as_f64().or(row["value"].as_f64()).unwrap();
        (sum + own, count + row["count"].as_u64().unwrap_or_default())
    })
}

fn build(directory: &Path, name: &str) -> Result<PathBuf, Skip> {
    let program = directory.join(name);
    let source = fixture::file(format!("programs/{name}.c"));
    text(tool("cc")?.args(["-O1", "-Wall", "-pthread"]).arg("-o").arg(&program).arg(source));
    Ok(program)
}

/// The report of a family's sleeps, how many it made, how many were hidden, and how far the sum is off.
fn one_family(program: &str, directory: &Path) -> Result<(Value, u64, u64, f64), Skip> {
    let control = SleepControl::new(&[NAP], true)?;
    let script = format!("{} {program} 3 2 10 10; exit 7", mark());
    let (found, said, status) = report(&["sched"], &script, directory);
    assert_eq!((status, &found["command"]["status"]), (Some(7), &Value::from(7)));
    assert_eq!(found["losses"], Value::from(Vec::<Value>::new()));
    let truth: Value = serde_json::from_str(&said).unwrap();
    let (slept, sleeps) = (truth["slept"].as_f64().unwrap(), truth["sleeps"].as_u64().unwrap());
    assert_eq!((truth["tasks"].as_u64(), sleeps), (Some(21), 210), "{said}");
    let (ours, count) = sum(&found, SLEPT, &[("reason", "sleep")]);
    let (hidden, off) = compare((ours, count), (slept, sleeps), control.lost(NAP, sleeps));
    Ok((found, sleeps, hidden, off))
}

/// Compares seconds and sleeps that were counted with those that there were: how many are missing, which may be no more than a
/// control lost, and how far the sum is off if they were as long as the others.
fn compare((ours, count): (f64, u64), (slept, sleeps): (f64, u64), lost: u64) -> (u64, f64) {
    let told = format!("{ours} s in {count} sleeps of {slept} s in {sleeps}, the control lost {lost}");
    assert!(count <= sleeps && ours / slept - 1.0 <= TOLERANCE, "too much: {told}");
    let hidden = sleeps - count;
    assert!(hidden <= lost, "too few: {told}");
    let off = (ours + hidden as f64 * slept / sleeps as f64) / slept - 1.0;
    assert!(off.abs() <= TOLERANCE, "too little: {told}");
    (hidden, off)
}

/// Children, their children whose parents have ended, and threads of all: every sleep, and no other's.
fn children_and_threads() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let family = build(directory.path(), "family")?;
    let name = family.display().to_string();
    // Three times as many beside them that do the same, begun before and ended after.
    let beside: &[&str] = &["9", "2", "1000000", "10"];
    let mut others = Others::new(&[(&family, beside)], directory.path());
    let (found, sleeps, hidden, off) = one_family(&name, directory.path())?;
    assert!(others.are_running(), "the others ended too early");
    // Whatever is short has its reason as well.
    let (short, _) = sum(&found, SLEPT, &[("reason", "short")]);
    assert!(short == 0.0, "{short} s without a stack");
    // Nobody else waited for a processor or was switched either: far fewer than those beside.
    let (_, waits) = sum(&found, "tapster_run_queue_duration_seconds", &[]);
    let (switches, _) = sum(&found, "tapster_context_switches_total", &[]);
    assert!(waits >= sleeps && (210.0..500.0).contains(&switches), "{waits} waits, {switches} switches");
    let (idle, _) = sum(&found, "tapster_context_switches_total", &[("kind", "from_idle")]);
    assert!(idle == 0.0, "{idle} switches from idle tasks, which are nobody's");
    // All of it where that is asked for: the 63 others alone sleep 63 times as long as the report takes.
    let (all, _, _) =
        report(&["sched_off_cpu", "--system-wide"], &format!("{name} 0 0 20 10"), directory.path());
    let (everybody, _) = sum(&all, SLEPT, &[("reason", "sleep")]);
    let seconds = all["seconds"].as_f64().unwrap();
    assert!(everybody > 40.0 * seconds, "{everybody} s in {seconds} s");
    Ok(format!(
        "{sleeps} sleeps of 21 tasks, {hidden} of them hidden, the sum {:+.2} % off, beside 63 others; all of the host {everybody:.1} s in {seconds:.2} s",
        off * 100.0
    ))
}

/// Sleeps of several kinds by programs that know how long and on what, with others of the same names beside them; the
/// wake-up is another task's each time.
fn sleeps_of_kinds() -> Outcome {
    const KINDS: [&str; 6] = ["nanosleep", "pipe_read", "futex_mutex", "epoll", "tcp_receive", "flock"];
    let directory = tempfile::tempdir().unwrap();
    let program = waits::build(directory.path())?;
    let family = waits::family();
    let probes = directory.path().join("probes.yaml");
    fs::write(&probes, &family.probes).unwrap();
    let beside: Vec<[&str; 3]> = KINDS.iter().map(|kind| [*kind, "100000", "30"]).collect();
    let beside: Vec<(&Path, &[&str])> =
        beside.iter().map(|arguments| (program.as_path(), arguments.as_slice())).collect();
    let mut others = Others::new(&beside, directory.path());
    let each: Vec<String> =
        KINDS.iter().map(|kind| format!("{} {kind} 10 20 &", program.display())).collect();
    let script = format!("{} {} wait", mark(), each.join(" "));
    let control = SleepControl::new(&KINDS, true)?;
    let (found, said, _) = report(&[probes.to_str().unwrap()], &script, directory.path());
    let (seen, hidden, worst) = kinds_seen(&found, &said, &KINDS, &control);
    assert!(others.are_running(), "the others ended too early");
    Ok(format!("{seen} kinds, {hidden} sleeps hidden, at most {:+.2} % off ({})", worst.0 * 100.0, worst.1))
}

/// How many kinds the report has as the programs say, how many of their sleeps were hidden, and the kind that is furthest off.
fn kinds_seen(
    report: &Value,
    said: &str,
    kinds: &[&'static str],
    control: &SleepControl,
) -> (usize, u64, (f64, &'static str)) {
    let mut worst: (f64, &str) = (0.0, "");
    let (mut seen, mut all_hidden) = (0, 0);
    for line in said.lines() {
        let truth: Value = serde_json::from_str(line).unwrap();
        let kind = kinds.iter().find(|kind| truth["kind"] == **kind).unwrap();
        if let Some(why) = truth["skipped"].as_str() {
            say(format_args!("traced: {kind}: {why}"));
            continue;
        }
        let number = |name: &str| truth[name].as_f64().unwrap();
        let slept = number("seconds") - number("run_seconds") - number("run_queue_seconds");
        let sleeps = truth["voluntary"].as_u64().unwrap();
        let ours = sum(report, SLEPT, &[("comm", kind)]);
        let (hidden, off) = compare(ours, (slept, sleeps), control.lost(kind, sleeps));
        seen += 1;
        all_hidden += hidden;
        if off.abs() > worst.0.abs() {
            worst = (off, kind);
        }
    }
    assert!(seen >= 4, "{said}");
    (seen, all_hidden, worst)
}

/// A site's probe asks the same, at any event and of the current task; who starts the command is not of it.
fn a_site_s_probe() -> String {
    let directory = tempfile::tempdir().unwrap();
    let probes = directory.path().join("probes.yaml");
    fs::write(
        &probes,
        "probes:
  - name: execs
    at: tracepoint:sched:sched_process_exec
    labels: { own: traced, tracing: tracing, comm: comm }
    metrics: [{ counter: execs_total, help: Programs started. }]
  - name: ends
    at: rawtracepoint:sched:sched_process_exit
    where: traced && args.p.pid == args.p.tgid
    metrics: [{ counter: ends_total, help: Processes ended. }]
",
    )
    .unwrap();
    let file = probes.to_str().unwrap();
    let script = "i=0; while [ $i -lt 20 ]; do /bin/true; i=$((i+1)); done; setsid /bin/true";
    // The same beside it, for as long.
    let endless = "while :; do /bin/true; done";
    let mut others = Others::new(&[(Path::new("sh"), &["-c", endless])], directory.path());
    let execs = "tapster_execs_total";
    let (found, _, status) = report(&[file], script, directory.path());
    let own = [("own", "1"), ("tracing", "1")];
    let count = |comm: &str| sum(&found, execs, &[own[0], own[1], ("comm", comm)]).0;
    // `setsid` may run the program itself or in a child.
    assert_eq!((status, count("true"), count("sh"), count("setsid")), (Some(0), 21.0, 1.0, 1.0), "{found}");
    let foreign = sum(&found, execs, &[("own", "0"), ("comm", "true")]).0;
    assert!(foreign >= 1.0, "the others started nothing");
    let ends = sum(&found, "tapster_ends_total", &[]).0;
    assert!((21.0..=23.0).contains(&ends), "{ends} processes of the command ended");
    // Everything is `traced` where there is no command.
    let output = binary().args(["report", file, "--json", "--for", "300ms"]).output().unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let all = sum(&found, execs, &[("comm", "true")]).0;
    let traced = sum(&found, execs, &[("own", "1"), ("tracing", "0"), ("comm", "true")]).0;
    assert_eq!(whole(traced), whole(all));
    assert!(all >= 1.0 && others.are_running(), "{all} programs started");
    format!("21 programs of the command, {foreign} of others, {ends} ends")
}

/// What a site's own table says of a sleep is the label, and its sentence is what people read.
fn a_site_s_reason() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let nap = format!("{} {} 0 0 1 200", mark(), build(directory.path(), "family")?.display());
    let table = directory.path().join("table.yaml");
    let text = "A nap, as it was ordered";
    fs::write(
        &table,
        format!(
            "reasons: [{{ reason: nap, text: '{text}', priority: 90, functions: [hrtimer_nanosleep] }}]\n"
        ),
    )
    .unwrap();
    // The table of one file, the probe of another.
    let table = table.to_str().unwrap();
    let (found, said, slept, count) = unless_hidden("traced: a site's reason", ATTEMPTS, || {
        let control = SleepControl::new(&[NAP], true)?;
        let (found, said, _) = report(&[table, "sched_off_cpu"], &nap, directory.path());
        let (slept, count) = sum(&found, SLEPT, &[("reason", "nap")]);
        if count == 0 {
            return Ok(Attempt::Short { why: format!("no nap: {found}"), lost: control.lost(NAP, 1) });
        }
        Ok(Attempt::Done((found, said, slept, count)))
    })?;
    let truth: Value = serde_json::from_str(&said).unwrap();
    let off = slept / truth["slept"].as_f64().unwrap() - 1.0;
    assert!(
        off.abs() <= TOLERANCE && count == 1,
        "{slept} s in {count} sleeps, by its clock {said}: {found}"
    );
    assert_eq!(sum(&found, SLEPT, &[("reason", "sleep")]).1, 0);
    assert_eq!(found["metrics"][0]["sentences"]["nap"], text);
    unless_hidden("traced: a site's sentence", ATTEMPTS, || {
        let control = SleepControl::new(&["sleep"], true)?;
        let script = format!("{} exec sleep 0.2", mark());
        let mut command = binary();
        let output =
            command.args(["report", "sched_off_cpu", table, "--", "sh", "-c", &script]).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        if printed.lines().any(|line| line.starts_with(&format!("  {text}  "))) {
            return Ok(Attempt::Done(()));
        }
        let why = format!("no line of the report begins with {text:?}");
        Ok(Attempt::Short { why, lost: control.lost_wakeups("sleep") })
    })?;
    // Without a probe there is nothing to do.
    let output = binary().args(["report", table, "--", "sleep", "0.2"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    Ok(format!("one nap of {slept:.4} s, {:+.2} % off", off * 100.0))
}

#[test]
fn a_command_and_its_children() {
    let Some(mut cases) = Cases::as_root("traced") else {
        return;
    };
    let before = orphans();
    cases.run("children and threads", children_and_threads);
    cases.run("sleeps of kinds", sleeps_of_kinds);
    cases.run("a site's probe", || Ok(a_site_s_probe()));
    cases.run("a site's reason", a_site_s_reason);
    if let Ok(before) = before {
        let gone = || orphans().is_ok_and(|after| after.is_subset(&before));
        assert!(within(Duration::from_secs(10), gone).is_some(), "programs are left in the kernel");
    }
    cases.finish();
}
