//! Stacks of a program whose calls are known from its source, and of the kernel beside what bpftrace sees.
//!
//! User probes are attached to a program that the test builds, and to nothing else of the host.

#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]

use tapster_testing as support;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};
use support::{
    cases::{Cases, Outcome, Skip},
    command::{output, text, tool},
    exporter::{Tapster, binary, within},
    metrics::{Metrics, whole},
};

const PROBES: &str = r#"
probes:
  - name: samples
    at: profile:hz:199
    where: comm == "NAME"
    labels: { kernel: kstack, user: ustack, leaf: ustack(1) }
    metrics: [{ counter: samples_total, help: x }]
  - name: calls
    at: "uprobe:PROGRAM:probed"
    labels: { user: ustack, kernel: kstack }
    metrics: [{ counter: calls_total, help: x }]
  - name: within
    function: PROGRAM:probed
    save: { stack: ustack(3) }
    labels: { user: start.stack }
    metrics: [{ histogram: within_seconds, help: x, value: duration }]
  - name: faults
    at: software:page-faults:1
    where: comm == "NAME"
    labels: { user: ustack(2) }
    metrics: [{ counter: faults_total, help: x }]
  - name: switches
    at: tracepoint:sched:sched_switch
    where: comm == "NAME"
    labels: { kernel: kstack }
    metrics: [{ counter: switches_total, help: x }]
  - name: woken
    at: rawtracepoint:sched:sched_wakeup
    where: args.p.comm == "NAME"
    labels: { kernel: kstack(args.p) }
    metrics: [{ counter: woken_total, help: x }]
"#;

/// Names of programs have at most 15 bytes.
const NAME: &str = "tapster-stacks";

/// The program and its library, linked so that it finds it.
fn build(directory: &Path, extra: &[&str]) -> Result<PathBuf, Skip> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs");
    let flags = ["-O1", "-fno-omit-frame-pointer", "-mno-omit-leaf-frame-pointer"];
    let library = directory.join("libtapster-stacks.so");
    text(
        tool("cc")?
            .args(flags)
            .args(extra.iter().filter(|flag| flag.starts_with("-Wl")))
            .args(["-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(sources.join("stacks_library.c")),
    );
    let program = directory.join(NAME);
    text(
        tool("cc")?
            .args(flags)
            .args(extra)
            .arg("-o")
            .arg(&program)
            .arg(sources.join("stacks.c"))
            .arg(&library)
            .arg(format!("-Wl,-rpath,{}", directory.display())),
    );
    Ok(program)
}

fn start(directory: &Path, program: &Path) -> Tapster {
    let file = directory.join("probes.yaml");
    fs::write(&file, PROBES.replace("PROGRAM", &program.display().to_string()).replace("NAME", NAME))
        .unwrap();
    Tapster::start(&["--strict", "-c", file.to_str().unwrap()])
}

/// Stacks in a label, with how often each was counted.
fn stacks(metrics: &Metrics, name: &str, label: &str) -> BTreeMap<String, u64> {
    let mut stacks = BTreeMap::new();
    for sample in metrics.0.iter().filter(|sample| sample.name == name) {
        let stack = sample.labels.get(label).cloned().unwrap_or_default();
        *stacks.entry(stack).or_default() += whole(sample.value);
    }
    stacks
}

/// What a scrape says as soon as every frame of the program has its function. A scrape waits a bounded time for symbols that
/// are not read yet, and the next ones have them.
fn named(tapster: &Tapster) -> Metrics {
    let mut metrics = tapster.scrape();
    let is_named = |metrics: &Metrics| {
        let calls = stacks(metrics, "tapster_calls_total", "user");
        !calls.keys().any(|stack| stack.contains("tapster-stacks"))
    };
    within(Duration::from_secs(10), || {
        is_named(&metrics) || {
            metrics = tapster.scrape();
            false
        }
    });
    metrics
}

/// How many of these end like this.
fn ending(stacks: &BTreeMap<String, u64>, end: &str) -> u64 {
    stacks.iter().filter(|(stack, _)| stack.ends_with(end)).map(|(_, count)| count).sum()
}

fn assert_calls(calls: &BTreeMap<String, u64>, count: u64) {
    // Before 6.12 the kernel leaves out the caller of a function that was just entered.
    let direct = ending(calls, ";main;first;probed") + ending(calls, ";main;probed");
    let through = ending(calls, ";main;second;third;probed") + ending(calls, ";main;second;probed");
    let back = ending(calls, ";main;library_enter;library_inner;probed")
        + ending(calls, ";main;library_enter;probed");
    assert_eq!((direct, through, back), (count, count, 1), "{calls:#?}");
    assert_eq!(calls.values().sum::<u64>(), 2 * count + 1, "{calls:#?}");
}

/// Everything that the program does, seen after it has ended.
fn ended(extra: &[&str]) -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let program = build(directory.path(), extra)?;
    let tapster = start(directory.path(), &program);
    let used: u64 = text(Command::new(&program).args(["cpu", "2500"])).trim().parse().unwrap();
    text(Command::new(&program).args(["calls", "500"]));
    let metrics = named(&tapster);
    let calls = stacks(&metrics, "tapster_calls_total", "user");
    assert_calls(&calls, 500);
    let within = stacks(&metrics, "tapster_within_seconds_count", "user");
    assert_eq!(within.values().sum::<u64>(), 1001, "{within:#?}");
    assert!(
        within.keys().all(|stack| stack.split(';').count() == 3 && stack.ends_with(";probed")),
        "{within:#?}"
    );
    let samples = stacks(&metrics, "tapster_samples_total", "user");
    let total: u64 = samples.values().sum();
    // Not a rate that goes with the tick of the scheduler: such samples would be taken at the same point of each time slice.
    assert!(total * 1000 >= used * 199 / 2, "{total} samples in {used} ms");
    let inside = |chain: &str| {
        let with = |stack: &&String| stack.contains(chain);
        samples.iter().filter(|(stack, _)| with(stack)).map(|(_, count)| count).sum::<u64>()
    };
    let (own, library) =
        (inside(";main;outer;middle;leaf"), inside(";main;library_enter;library_inner;leaf"));
    assert!(
        own * 10 >= total * 4 && library * 10 >= total * 4 - 20,
        "{own} and {library} of {total}: {samples:#?}"
    );
    // One frame is the innermost.
    let leaves = stacks(&metrics, "tapster_samples_total", "leaf");
    // Of two stacks in one interrupt the kernel looks up the files of the first, and gives addresses for the second.
    assert!(leaves.get("leaf").copied().unwrap_or(0) * 10 >= total * 7, "{leaves:#?}");
    let kernel = stacks(&metrics, "tapster_calls_total", "kernel");
    assert!(kernel.keys().all(|stack| !stack.contains("bpf_prog_")), "{kernel:#?}");
    let switches = stacks(&metrics, "tapster_switches_total", "kernel");
    assert!(!switches.is_empty() && switches.keys().all(|stack| stack.contains("schedule")), "{switches:#?}");
    let faults = stacks(&metrics, "tapster_faults_total", "user");
    assert!(faults.keys().all(|stack| stack.split(';').count() <= 2), "{faults:#?}");
    assert_eq!(whole(metrics.sum("tapster_probe_dropped_total", &[])), 0, "dropped");
    // Nothing of it moves on, and no series is another one later.
    let later = tapster.scrape();
    assert_eq!(stacks(&later, "tapster_calls_total", "user"), calls);
    assert_eq!(stacks(&later, "tapster_samples_total", "user"), samples);
    Ok(format!(
        "1001 calls by caller, {own} and {library} of {total} samples in the leaf, after the program ended"
    ))
}

/// A program whose files have no build id is known while it runs.
fn without_build_id() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let program = build(directory.path(), &["-Wl,--build-id=none"])?;
    let tapster = start(directory.path(), &program);
    let mut running = Command::new(&program).args(["wait", "20"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(running.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let metrics = named(&tapster);
    running.kill().unwrap();
    running.wait().unwrap();
    let calls = stacks(&metrics, "tapster_calls_total", "user");
    assert_calls(&calls, 20);
    // Another process with other addresses, which is gone when it is asked for: its stacks read the same.
    text(Command::new(&program).args(["calls", "20"]));
    let later = stacks(&named(&tapster), "tapster_calls_total", "user");
    let twice: BTreeMap<String, u64> =
        calls.iter().map(|(stack, count)| (stack.clone(), 2 * count)).collect();
    assert_eq!(later, twice);
    Ok(format!("{} stacks of a running process, and of one that had ended", calls.len()))
}

/// A program without symbols: the file and the addresses, the same in each run.
fn stripped() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let program = build(directory.path(), &[])?;
    let symbols = text(tool("nm")?.arg(&program));
    let address = |name: &str| -> u64 {
        let line = symbols.lines().find(|line| line.ends_with(&format!(" {name}"))).unwrap();
        u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap()
    };
    let (probed, first, second) = (address("probed"), address("first"), address("third"));
    text(tool("strip")?.arg(&program));
    let file = directory.path().join("probes.yaml");
    fs::write(
        &file,
        format!(
            "probes:\n  - name: calls\n    at: \"uprobe:{}:{probed:#x}\"\n    labels: {{ user: ustack(2) }}\n    metrics: [{{ counter: calls_total, help: x }}]\n",
            program.display()
        ),
    )
    .unwrap();
    let tapster = Tapster::start(&["--strict", "-c", file.to_str().unwrap()]);
    for _ in 0..3 {
        text(Command::new(&program).args(["calls", "10"]));
    }
    let calls = stacks(&tapster.scrape(), "tapster_calls_total", "user");
    assert!((2..=3).contains(&calls.len()), "three runs at three addresses are one stack each: {calls:#?}");
    for stack in calls.keys() {
        let (caller, innermost) = stack.rsplit_once(';').unwrap();
        assert_eq!(innermost, format!("[{NAME}+{probed:#x}]"));
        // What a library offers to others stays known.
        assert!(caller.starts_with('[') || caller == "library_enter", "{stack}");
    }
    // Return addresses are within the callers, as `nm` has shown them.
    let around = |start: u64| {
        let inside = |stack: &&String| {
            let caller = stack.split(';').next().unwrap().trim_end_matches(']');
            let address =
                caller.rsplit_once("+0x").map(|(_, digits)| u64::from_str_radix(digits, 16).unwrap());
            address.is_some_and(|address| (start..start + 64).contains(&address))
        };
        calls.iter().filter(|(stack, _)| inside(stack)).map(|(_, count)| count).sum::<u64>()
    };
    let direct = (around(first), around(second));
    Ok(format!("91 calls of three runs in {} stacks by address, {direct:?} by direct callers", calls.len()))
}

/// The kernel's stack at the same events as bpftrace's.
fn beside_bpftrace() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let program = build(directory.path(), &[])?;
    let tapster = start(directory.path(), &program);
    let script = format!("tracepoint:sched:sched_switch /comm == \"{NAME}\"/ {{ @[kstack] = count(); }}");
    let command = format!("{} cpu 1000", program.display());
    let ran = output(tool("bpftrace")?.args(["-q", "-f", "json", "-e", &script, "-c", &command]));
    let shown = String::from_utf8_lossy(&ran.stdout).into_owned();
    let line = shown.lines().find(|line| line.contains("\"@\"") && line.contains("schedule"));
    let Some(line) = line else { return Err(Skip(format!("bpftrace does not run here: {shown}"))) };
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    let mut theirs: BTreeMap<String, u64> = BTreeMap::new();
    for (stack, count) in value["data"]["@"].as_object().unwrap() {
        let mut functions: Vec<&str> = stack
            .split('\n')
            .map(|frame| frame.split('+').next().unwrap().trim())
            .filter(|frame| !frame.is_empty())
            .collect();
        // Where others are attached as well, the kernel comes by this function, which we leave out.
        functions.retain(|function| !function.starts_with("__traceiter_"));
        functions.reverse();
        *theirs.entry(functions.join(";")).or_default() += count.as_u64().unwrap();
    }
    let ours = stacks(&tapster.scrape(), "tapster_switches_total", "kernel");
    let both: u64 =
        theirs.iter().map(|(stack, count)| ours.get(stack).copied().unwrap_or(0).min(*count)).sum();
    let (all, seen) = (theirs.values().sum::<u64>(), ours.values().sum::<u64>());
    // They begin and end a moment apart: before the program is executed it has another name.
    assert!(both * 100 >= all * 95, "{both} of {all} alike\nours {ours:#?}\ntheirs {theirs:#?}");
    Ok(format!("{both} of bpftrace's {all} switches have the same stack, we saw {seen}"))
}

/// More stacks than there is room for.
fn too_many() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let program = build(directory.path(), &[])?;
    let file = directory.path().join("probes.yaml");
    let probes = format!(
        "probes:\n  - name: calls\n    at: \"uprobe:{}:probed\"\n    max_series: 3\n    labels: {{ user: ustack }}\n    metrics: [{{ counter: calls_total, help: x }}]\n",
        program.display()
    );
    fs::write(&file, probes).unwrap();
    let tapster = Tapster::start(&["--strict", "-c", file.to_str().unwrap()]);
    text(Command::new(&program).args(["calls", "30"]));
    let metrics = tapster.scrape();
    let calls = stacks(&metrics, "tapster_calls_total", "user");
    assert_eq!(calls.values().sum::<u64>(), 61, "every call is counted: {calls:#?}");
    assert_eq!((calls.len(), calls["~lost"]), (2, 31), "{calls:#?}");
    let lost = metrics.sum("tapster_probe_dropped_total", &[("reason", "max_stacks")]);
    assert_eq!(whole(lost), 31);
    Ok("61 calls counted, 31 of them without room for their stack".into())
}

/// `tapster report` with stacks, for people and for flame graphs.
fn report() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let program = build(directory.path(), &[])?;
    let file = directory.path().join("probes.yaml");
    let probes = format!(
        "probes:\n  - name: calls\n    at: \"uprobe:{}:probed\"\n    labels: {{ comm: comm, user: ustack }}\n    metrics: [{{ counter: calls_total, help: Calls. }}]\n",
        program.display()
    );
    fs::write(&file, probes).unwrap();
    let report = |flags: &[&str]| {
        let mut command = binary();
        command.arg("report").arg(&file).args(flags).arg("--").arg(&program).args(["calls", "30"]);
        text(&mut command)
    };
    let shown = report(&[]);
    assert!(shown.contains("  tapster-stacks     30 "), "{shown}");
    assert!(shown.contains("    user\n        probed\n        "), "{shown}");
    let folded = report(&["--folded"]);
    let mut total = 0;
    for line in folded.lines() {
        let (stack, count) = line.rsplit_once(' ').unwrap();
        assert!(stack.starts_with("tapster-stacks;") && stack.ends_with(";probed"), "{line}");
        total += count.parse::<u64>().unwrap();
    }
    assert_eq!(total, 61, "{folded}");
    Ok(format!("{} lines for a flame graph", folded.lines().count()))
}

/// A wake-up shows what the woken task was sleeping in.
fn of_another_task() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let sleep = directory.path().join(NAME);
    fs::copy(tool("sleep")?.get_program(), &sleep).unwrap();
    let program = build(&tempfile::tempdir().unwrap().keep(), &[]);
    let program = program?;
    let tapster = start(directory.path(), &program);
    fs::remove_dir_all(program.parent().unwrap()).unwrap();
    text(Command::new(&sleep).arg("0.2"));
    let woken = within(Duration::from_secs(5), || {
        let stacks = stacks(&tapster.scrape(), "tapster_woken_total", "kernel");
        stacks.keys().any(|stack| stack.contains("hrtimer_nanosleep"))
    });
    assert!(woken.is_some(), "{:#?}", stacks(&tapster.scrape(), "tapster_woken_total", "kernel"));
    Ok("woken from hrtimer_nanosleep".into())
}

#[test]
fn stacks_are_those_of_the_source() {
    let Some(mut cases) = Cases::as_root("stacks") else {
        return;
    };
    cases.run("a program at any address", || ended(&["-pie", "-fPIE"]));
    cases.run("a program at a fixed address", || ended(&["-no-pie"]));
    cases.run("a program without a build id", without_build_id);
    cases.run("a program without symbols", stripped);
    cases.run("too many", too_many);
    cases.run("another task's", of_another_task);
    cases.run("beside bpftrace", beside_bpftrace);
    cases.run("report", report);
    cases.finish();
}
