//! The configuration is read again while the exporter counts: what is declared as before misses no event, the rest is
//! exchanged, and what is wrong leaves what ran.

use super::{
    held::Held,
    host,
    support::{
        cases::{Cases, Outcome, Skip},
        exporter::{Tapster, binary, orphan_maps, orphans, within},
        http,
        load::Load,
        metrics::{Metrics, whole},
    },
};
use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

const GOOD: &str = "tapster_config_last_reload_successful";
const UP: &str = "tapster_probe_up";

/// Probes that count processes that this thread makes, by these names of a probe and a metric.
fn forks(probes: &[(&str, &str)]) -> String {
    // SAFETY: it has no condition.
    let thread = unsafe { libc::gettid() };
    let probe = |(name, metric): &(&str, &str)| {
        format!(
            "  - name: {name}\n    at: tracepoint:sched:sched_process_fork\n    metrics: [{{counter: {metric}, help: Forks., where: tid == {thread}}}]\n"
        )
    };
    format!("probes:\n{}", probes.iter().map(probe).collect::<String>())
}

fn post(tapster: &Tapster) -> http::Response {
    http::request(tapster.address, "POST", "/-/reload", "").unwrap()
}

/// Makes this many processes.
fn fork(count: usize) {
    for _ in 0..count {
        assert!(Command::new("true").status().unwrap().success());
    }
}

fn number(metrics: &Metrics, name: &str) -> u64 {
    whole(metrics.sum(name, &[]))
}

/// Whether a probe is up.
fn up(metrics: &Metrics, probe: &str) -> Option<f64> {
    metrics.find(UP, &[("probe", probe)])
}

fn kept_changed_new_and_removed() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("probes.yaml");
    let path = file.display().to_string();
    fs::write(&file, forks(&[("kept", "kept_total"), ("other", "other_total"), ("gone", "gone_total")]))
        .unwrap();
    let tapster = Tapster::start(&["-c", &path, "--web.enable-lifecycle"]);
    let before = Held::by(tapster.pid());
    fork(10);
    let first = tapster.scrape();
    // Comments, order of probes and layout say nothing.
    let text = format!(
        "# said\n\n{}",
        forks(&[("new", "new_total"), ("other", "else_total"), ("kept", "kept_total")])
    );
    fs::write(&file, text.replace("help: Forks.", "help:   Forks.")).unwrap();
    let answer = post(&tapster);
    assert_eq!(
        (answer.status, answer.text()),
        (200, "configuration reloaded: 1 probe went on, changed: other, new: new, removed: gone\n")
    );
    let held = Held::by(tapster.pid());
    assert_eq!(held.counts(), before.counts(), "what was removed is gone, what is new is there");
    assert_eq!(held.programs.intersection(&before.programs).count(), 1, "one goes on");
    fork(10);
    let second = tapster.scrape();
    assert_eq!((number(&first, "tapster_kept_total"), number(&second, "tapster_kept_total")), (10, 20));
    assert_eq!(number(&second, "tapster_else_total"), 10, "the changed one begins anew");
    assert_eq!(number(&second, "tapster_new_total"), 10);
    for gone in ["tapster_other_total", "tapster_gone_total"] {
        assert_eq!(second.find(gone, &[]), None);
    }
    assert_eq!([up(&second, "kept"), up(&second, "new"), up(&second, "gone")], [Some(1.0), Some(1.0), None]);
    assert!(
        tapster.get("/").text().replace("<wbr>", "").contains(&format!("{path}:4")),
        "the page says where probes are now"
    );
    Ok(format!(
        "{} forks before and {} after a reload in the one that went on, {} in the changed one",
        number(&first, "tapster_kept_total"),
        number(&second, "tapster_kept_total"),
        number(&second, "tapster_else_total")
    ))
}

fn what_is_wrong_leaves_what_ran() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("probes.yaml");
    let path = file.display().to_string();
    let good = forks(&[("one", "one_total"), ("two", "two_total")]);
    fs::write(&file, &good).unwrap();
    let tapster = Tapster::start(&["-c", &path, "--web.enable-lifecycle"]);
    assert_eq!(tapster.scrape().find(GOOD, &[]), Some(1.0));
    let held = Held::by(tapster.pid());
    let mut said = Vec::new();
    for (text, expected) in [
        (good.replace("probes:", "prbes:"), "did you mean `probes`?"),
        ("probes: [".into(), "probes.yaml:"),
        (String::new(), "there is no probe to run"),
        (good.replace("name: two", "name: one"), "one"),
    ] {
        fs::write(&file, text).unwrap();
        let answer = post(&tapster);
        assert_eq!(answer.status, 500, "{}", answer.text());
        assert!(answer.text().contains(expected), "{expected}: {}", answer.text());
        let metrics = tapster.scrape();
        assert_eq!(
            (metrics.find(GOOD, &[]), up(&metrics, "one"), up(&metrics, "two")),
            (Some(0.0), Some(1.0), Some(1.0))
        );
        assert_eq!(Held::by(tapster.pid()), held, "nothing changed");
        let page = tapster.get("/");
        assert!(page.text().contains("Not all of the configuration runs."));
        said.push(answer.text().lines().next().unwrap_or_default().to_owned());
    }
    fs::remove_file(&file).unwrap();
    assert!(post(&tapster).text().contains("cannot read"), "the file is gone");
    // One of two does not compile any more: it goes on as it was, and the other is exchanged.
    let text = forks(&[("one", "one_total"), ("two", "second_total")]);
    fs::write(&file, text.replacen("sched_process_fork", "sched_process_frok", 1)).unwrap();
    let answer = post(&tapster);
    assert_eq!(answer.status, 500);
    assert!(
        answer.text().contains("probe `one` does not come up as it is declared now"),
        "{}",
        answer.text()
    );
    fork(5);
    let metrics = tapster.scrape();
    assert_eq!(
        (metrics.find(GOOD, &[]), up(&metrics, "one"), up(&metrics, "two")),
        (Some(0.0), Some(1.0), Some(1.0))
    );
    assert!(number(&metrics, "tapster_one_total") >= 5 && number(&metrics, "tapster_second_total") >= 5);
    assert!(tapster.log().iter().any(|line| line.contains("sched_process_frok")), "the log says why");
    // Repaired.
    fs::write(&file, forks(&[("one", "one_total"), ("two", "second_total")])).unwrap();
    assert_eq!(post(&tapster).text(), "configuration reloaded: 2 probes went on\n");
    let metrics = tapster.scrape();
    assert_eq!(metrics.find(GOOD, &[]), Some(1.0));
    assert!(
        metrics
            .find("tapster_config_last_reload_success_timestamp_seconds", &[])
            .is_some_and(|time| time > 1.6e9)
    );
    assert!(!tapster.get("/").text().contains("Not all of the configuration runs."));
    Ok(format!("{said:?}"))
}

/// A new probe that does not come up is down, as at the start; when its cause is gone, the next reload brings it up.
fn a_new_one_that_is_down() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("probes.yaml");
    let path = file.display().to_string();
    fs::write(&file, forks(&[("one", "one_total")])).unwrap();
    // With all rights: what is given up is needed to attach to a program later.
    let rights = ["--sandbox=off", "--capabilities.keep=all"];
    let tapster = Tapster::start(&["-c", &path, "--web.enable-lifecycle", rights[0], rights[1]]);
    let missing = forks(&[("one", "one_total"), ("two", "two_total")]);
    let (head, tail) = missing.rsplit_once("sched_process_fork").unwrap();
    fs::write(&file, format!("{head}no_such{tail}")).unwrap();
    let answer = post(&tapster);
    assert_eq!((answer.status, answer.text()), (200, "configuration reloaded: 1 probe went on, down: two\n"));
    let metrics = tapster.scrape();
    assert_eq!(metrics.values(UP, &[("probe", "two")], "reason"), ["compile"]);
    assert_eq!((metrics.find(GOOD, &[]), up(&metrics, "two")), (Some(1.0), Some(0.0)));
    fs::write(&file, &missing).unwrap();
    let answer = post(&tapster);
    assert_eq!(answer.text(), "configuration reloaded: 1 probe went on, changed: two\n");
    assert_eq!(up(&tapster.scrape(), "two"), Some(1.0));
    // A program that is not there yet is waited for, and found when it comes.
    let program = directory.path().join("program");
    let waits = format!(
        "{missing}  - name: calls\n    at: 'uprobe:{}:main'\n    metrics: [{{counter: calls_total, help: Calls.}}]\n",
        program.display()
    );
    fs::write(&file, &waits).unwrap();
    assert_eq!(post(&tapster).status, 200);
    assert_eq!(tapster.scrape().values(UP, &[("probe", "calls")], "reason"), ["waiting"]);
    fs::write(&file, format!("# said\n{waits}")).unwrap();
    assert_eq!(post(&tapster).text(), "configuration reloaded: 3 probes went on\n", "it goes on waiting");
    let source = directory.path().join("program.c");
    fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    let built = directory.path().join("built");
    let compiled = Command::new("cc").arg("-o").args([&built, &source]).status();
    if !compiled.is_ok_and(|status| status.success()) {
        return Err(Skip("no C compiler".into()));
    }
    fs::rename(&built, &program).unwrap();
    let came = within(Duration::from_secs(20), || up(&tapster.scrape(), "calls") == Some(1.0));
    assert!(came.is_some(), "{:?}", tapster.log());
    assert!(Command::new(&program).status().unwrap().success());
    assert_eq!(number(&tapster.scrape(), "tapster_calls_total"), 1);
    Ok(format!("a program that a reload asked for was attached to {came:?} after it was there"))
}

/// A probe under another name, a family that moves to another probe, and a program whose path is wrong.
fn in_the_place_of_another() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("probes.yaml");
    let path = file.display().to_string();
    let program = directory.path().join("program");
    let source = directory.path().join("program.c");
    fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    if !Command::new("cc").arg("-o").args([&program, &source]).status().is_ok_and(|status| status.success()) {
        return Err(Skip("no C compiler".into()));
    }
    let calls = |program: &Path| {
        format!(
            "  - name: calls\n    at: 'uprobe:{}:main'\n    metrics: [{{counter: calls_total, help: Calls.}}]\n",
            program.display()
        )
    };
    let text = |first: &str, second: &str| forks(&[("a", first), ("b", second)]) + &calls(&program);
    fs::write(&file, text("x_total", "y_total")).unwrap();
    let tapster = Tapster::start(&["-c", &path, "--web.enable-lifecycle"]);
    assert!(Command::new(&program).status().unwrap().success());
    let answer = |text: String| {
        fs::write(&file, text).unwrap();
        let answer = post(&tapster);
        (answer.status, answer.text().trim().to_owned())
    };
    // Another name: the old one goes on until the new one is up.
    let renamed = text("x_total", "y_total").replace("name: a\n", "name: c\n");
    let (status, said) = answer(renamed.replacen("sched_process_fork", "no_such", 1));
    assert!(
        status == 500 && said.contains("probe `c` does not come up as it is declared now, so `a` goes on"),
        "{said}"
    );
    let metrics = tapster.scrape();
    assert!(up(&metrics, "a") == Some(1.0) && metrics.find("tapster_x_total", &[]).is_some());
    assert_eq!(
        answer(renamed),
        (200, "configuration reloaded: 2 probes went on, changed: c, removed: a".into())
    );
    assert_eq!([up(&tapster.scrape(), "a"), up(&tapster.scrape(), "c")], [None, Some(1.0)]);
    // Its family is another probe's now, so that which does not come up any more has no place.
    let moved = text("z_total", "x_total").replace("name: a\n", "name: c\n");
    let (status, said) = answer(moved.replacen("sched_process_fork", "no_such", 1));
    assert!(status == 500 && said.contains("the one before is gone"), "{said}");
    let metrics = tapster.scrape();
    assert_eq!((up(&metrics, "c"), up(&metrics, "b")), (Some(0.0), Some(1.0)));
    assert_eq!(metrics.find("tapster_scrape_families_left_out", &[]), Some(0.0));
    assert_eq!(answer(moved), (200, "configuration reloaded: 2 probes went on, changed: c".into()));
    // One is split into two and both are wrong, or two become one that is wrong: what was there goes on.
    let split = forks(&[("d", "z_total"), ("e", "other_total"), ("b", "x_total")]).replacen(
        "sched_process_fork",
        "no_such",
        1,
    ) + &calls(&program);
    let (status, said) = answer(split);
    assert!(
        status == 500 && said.contains("probe `d` does not come up as it is declared now, so `c` goes on"),
        "{said}"
    );
    let merged = format!(
        "probes:\n  - name: m\n    at: tracepoint:sched:no_such\n    metrics: [{{counter: z_total, help: Forks.}}, {{counter: x_total, help: Forks.}}]\n{}",
        calls(&program)
    );
    let (status, said) = answer(merged);
    assert!(
        status == 500 && said.contains("so `c` and `b` goes on") || said.contains("so `b` and `c` goes on"),
        "{said}"
    );
    fork(1);
    let metrics = tapster.scrape();
    for name in ["tapster_z_total", "tapster_x_total"] {
        assert!(metrics.find(name, &[]).is_some_and(|forks| forks > 0.0), "{name} goes on");
    }
    assert_eq!(metrics.find("tapster_scrape_families_left_out", &[]), Some(0.0));
    let (status, _) = answer(text("z_total", "x_total").replace("name: a\n", "name: c\n"));
    assert_eq!(status, 200);
    // A wrong path: what is attached goes on.
    let wrong = text("z_total", "x_total")
        .replace("name: a\n", "name: c\n")
        .replace(&program.display().to_string(), "/nowhere/program");
    let (status, said) = answer(wrong);
    assert!(status == 500 && said.contains("probe `calls` does not come up as it is declared now"), "{said}");
    assert!(Command::new(&program).status().unwrap().success());
    let metrics = tapster.scrape();
    assert_eq!((number(&metrics, "tapster_calls_total"), up(&metrics, "calls")), (2, Some(1.0)));
    Ok(said.lines().next().unwrap_or_default().to_owned())
}

/// A service may be told to reload while it starts.
fn a_signal_during_the_start() -> Outcome {
    let mut ends = Vec::new();
    for wait in [0, 20, 50, 100] {
        let mut child = binary()
            .args(["run", "--probes", "block_request", "--web.listen-address", "127.0.0.1:0"])
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // From when it has begun: what comes before is for whoever started it.
        let holds = || {
            let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
            let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap_or_default();
            u64::from_str_radix(mask.trim(), 16).unwrap_or(0) & 1 == 1
        };
        assert!(within(Duration::from_secs(10), holds).is_some(), "SIGHUP is not held");
        thread::sleep(Duration::from_millis(wait));
        let pid = i32::try_from(child.id()).unwrap();
        for signal in [libc::SIGHUP, libc::SIGTERM] {
            // SAFETY: it reads no memory of ours, and the process is a child that has not been waited for.
            assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
            thread::sleep(Duration::from_secs(1));
        }
        ends.push(child.wait().unwrap().code());
    }
    assert_eq!(ends, [Some(0); 4], "SIGHUP ended it");
    Ok(format!("{ends:?}"))
}

/// As Kubernetes mounts a `ConfigMap`: links to a link to a directory, which is exchanged at once.
fn a_mounted_config_map() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let version = |name: &str, text: &str| {
        let version = directory.path().join(name);
        fs::create_dir(&version).unwrap();
        fs::write(version.join("site.yaml"), text).unwrap();
        let next = directory.path().join("..data_tmp");
        symlink(name, &next).unwrap();
        fs::rename(&next, directory.path().join("..data")).unwrap();
    };
    version("..2026_1", &forks(&[("one", "one_total")]));
    symlink("..data/site.yaml", directory.path().join("site.yaml")).unwrap();
    let path = directory.path().display().to_string();
    let tapster =
        Tapster::start(&["-c", &path, "--config.auto-reload", "--config.auto-reload-interval", "200ms"]);
    let counted = |metric| move |tapster: &Tapster| tapster.scrape().find(metric, &[]).is_some();
    assert!(counted("tapster_one_total")(&tapster));
    let has = |metric: &'static str| within(Duration::from_secs(20), || counted(metric)(&tapster));
    version("..2026_2", &forks(&[("one", "other_total")]));
    let took = has("tapster_other_total").unwrap_or_else(|| panic!("{:?}", tapster.log()));
    version("..2026_3", "probes: 7\n");
    let is_bad = || tapster.scrape().find(GOOD, &[]) == Some(0.0);
    assert!(within(Duration::from_secs(20), is_bad).is_some());
    assert!(counted("tapster_other_total")(&tapster), "what ran goes on");
    version("..2026_4", &forks(&[("one", "third_total")]));
    assert!(has("tapster_third_total").is_some());
    // A file that appears beside it.
    fs::write(directory.path().join("more.yml"), forks(&[("two", "two_total")])).unwrap();
    assert!(has("tapster_two_total").is_some());
    assert_eq!(tapster.scrape().find(GOOD, &[]), Some(1.0));
    // Nothing is read again as long as nothing changes.
    thread::sleep(Duration::from_millis(500));
    let reloads = || tapster.log().iter().filter(|line| line.contains("configuration reloaded")).count();
    let before = reloads();
    thread::sleep(Duration::from_secs(1));
    assert_eq!(reloads(), before);
    Ok(format!("another version ran {took:?} after it was mounted; {before} reloads"))
}

fn by_signal() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("probes.yaml");
    fs::write(&file, forks(&[("one", "one_total")])).unwrap();
    let tapster = Tapster::start(&["-c", &file.display().to_string()]);
    assert_eq!(post(&tapster).status, 403, "by HTTP only where that is allowed");
    fs::write(&file, forks(&[("one", "one_total"), ("two", "two_total")])).unwrap();
    tapster.signal(libc::SIGHUP);
    let took = within(Duration::from_secs(20), || up(&tapster.scrape(), "two") == Some(1.0));
    assert!(took.is_some(), "{:?}", tapster.log());
    // What is pushed where is read at the start only, and that is said.
    fs::write(&file, format!("exporters: [prometheus]\n{}", forks(&[("one", "one_total")]))).unwrap();
    tapster.signal(libc::SIGHUP);
    let said = || tapster.log().iter().any(|line| line.contains("restart tapster to use them"));
    assert!(within(Duration::from_secs(20), said).is_some(), "{:?}", tapster.log());
    let shown = || tapster.get("/").text().contains("restart tapster to use them");
    assert!(within(Duration::from_secs(5), shown).is_some());
    let metrics = tapster.scrape();
    assert_eq!(
        (metrics.find(GOOD, &[]), metrics.find("tapster_config_restart_required", &[])),
        (Some(1.0), Some(1.0))
    );
    // Signals at once, and an end in the middle of them.
    for _ in 0..20 {
        tapster.signal(libc::SIGHUP);
    }
    tapster.signal(libc::SIGTERM);
    let ended = tapster.ended();
    assert_eq!(ended.status.code(), Some(0), "{:?}", ended.log);
    Ok(format!("SIGHUP took {took:?}; it ends amid reloads"))
}

/// Reasons that a site adds hold for probes that are declared as before.
fn other_reasons() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("probes.yaml");
    let reasons = |name: &str| {
        format!(
            "library: [sched_off_cpu, sched_switches]\nreasons:\n  - reason: {name}\n    text: Sleeping on purpose\n    priority: 100\n    functions: [hrtimer_nanosleep, common_nsleep, '*nanosleep*']\n"
        )
    };
    fs::write(&file, reasons("first_nap")).unwrap();
    let path = file.display().to_string();
    let tapster = Tapster::start(&["-c", &path, "--web.enable-lifecycle"]);
    let naps = |reason: &str| {
        assert!(Command::new("sleep").arg("0.1").status().unwrap().success());
        !tapster
            .scrape()
            .values("tapster_off_cpu_duration_seconds_count", &[("reason", reason)], "reason")
            .is_empty()
    };
    assert!(within(Duration::from_secs(10), || naps("first_nap")).is_some());
    fs::write(&file, reasons("second_nap")).unwrap();
    let answer = post(&tapster);
    assert_eq!(answer.text(), "configuration reloaded: 1 probe went on, changed: sched_off_cpu\n");
    assert!(within(Duration::from_secs(10), || naps("second_nap")).is_some());
    Ok(answer.text().trim().to_owned())
}

/// Full load while the configuration is read a hundred times, changed, broken and repaired. A second exporter that reads it
/// once is the control: what the two count must be the same.
fn a_hundred_under_load() -> Outcome {
    const RELOADS: usize = 100;
    let reads = Load::new()?;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("probes.yaml");
    let text = |metric: &str| format!("library: [block_io]\n{}", forks(&[("forks", metric)]));
    fs::write(&file, text("first_total")).unwrap();
    let path = file.display().to_string();
    let control = Tapster::start(&["--probes", "block_io"]);
    let tapster = Tapster::start(&["-c", &path, "--web.enable-lifecycle"]);
    let begin = Held::by(tapster.pid());
    let done = AtomicBool::new(false);
    let (ios, grown) = thread::scope(|scope| {
        let load = scope.spawn(|| -> Result<u64, Skip> {
            let mut ios = 0;
            let mut rounds = 0;
            while rounds < 2 || !done.load(Ordering::Relaxed) {
                ios += reads.read_with(&["--loops=20"])?;
                rounds += 1;
            }
            Ok(ios)
        });
        let mut memory_after_twenty = 0;
        for reload in 0..RELOADS {
            let (text, status) = match reload % 4 {
                0 => (text("changed_total"), 200),
                1 => ("library: [block_io]\nprobes: 1\n".into(), 500),
                2 => (text("changed_total").replace("sched_process_fork", "no_such"), 500),
                _ => (text("first_total"), 200),
            };
            fs::write(&file, text).unwrap();
            let answer = post(&tapster);
            assert_eq!(answer.status, status, "{}", answer.text());
            if reload == 20 {
                memory_after_twenty = tapster.resident_kib();
            }
        }
        let grown = tapster.resident_kib().saturating_sub(memory_after_twenty);
        done.store(true, Ordering::Relaxed);
        load.join().unwrap().map(|ios| (ios, grown))
    })?;
    let [counted, expected] = [&tapster, &control].map(|tapster| reads.counted(tapster));
    assert_eq!(counted, expected, "the one that was left alone counted {expected} of {ios}");
    reads.assert_all("reads", counted, ios);
    let end = Held::by(tapster.pid());
    assert_eq!(end.counts(), begin.counts(), "programs, maps, links, files");
    assert!(grown < 4096, "{grown} KiB more in the last 80 reloads");
    Ok(format!(
        "{counted} of {ios} reads counted over {RELOADS} reloads, as by one that was left alone; {:?} programs, maps, links and files as before, {grown} KiB more memory",
        end.counts()
    ))
}

/// All probes changed at once: they are exchanged one by one, so that what is in the kernel never doubles.
fn one_at_a_time() -> Outcome {
    const PROBES: usize = 12;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("probes.yaml");
    let text = |help: &str| {
        let names: Vec<(String, String)> =
            (0..PROBES).map(|number| (format!("p{number}"), format!("p{number}_total"))).collect();
        let names: Vec<(&str, &str)> =
            names.iter().map(|(name, metric)| (name.as_str(), metric.as_str())).collect();
        forks(&names).replace("Forks.", help)
    };
    fs::write(&file, text("One.")).unwrap();
    let tapster = Tapster::start(&["-c", &file.display().to_string(), "--web.enable-lifecycle"]);
    let begin = Held::by(tapster.pid()).programs.len();
    assert_eq!(begin, PROBES);
    fs::write(&file, text("Two.")).unwrap();
    let (done, pid) = (AtomicBool::new(false), tapster.pid());
    let (most, looks) = thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let (mut most, mut looks) = (0, 0);
            while !done.load(Ordering::Relaxed) {
                most = most.max(Held::now(pid).programs.len());
                looks += 1;
            }
            (most, looks)
        });
        let answer = post(&tapster);
        done.store(true, Ordering::Relaxed);
        assert_eq!(answer.status, 200, "{}", answer.text());
        looking.join().unwrap()
    });
    // One is there twice; a look that takes its time may see one that went and one that came.
    assert!(most <= PROBES + 3, "{most} programs at once, of {PROBES}");
    assert!(looks > 5, "only {looks} looks");
    assert_eq!(Held::by(tapster.pid()).programs.len(), PROBES);
    Ok(format!("{PROBES} changed probes, at most {most} programs at once in {looks} looks"))
}

/// Starts and ends, of which nothing stays. `TAPSTER_STARTS` says how many; 200 for the long run.
fn starts_and_stops() -> Outcome {
    let starts: usize = std::env::var("TAPSTER_STARTS").map_or(10, |text| text.parse().unwrap());
    let (before, maps_before) = (orphans()?, orphan_maps()?);
    for _ in 0..starts {
        let tapster = Tapster::start(&["--probes", "block_io"]);
        tapster.signal(libc::SIGTERM);
        let ended = tapster.ended();
        assert_eq!(ended.status.code(), Some(0), "{:?}", ended.log);
    }
    let is_clean = || {
        orphans().is_ok_and(|left| left.is_subset(&before))
            && orphan_maps().is_ok_and(|left| left.is_subset(&maps_before))
    };
    assert!(within(Duration::from_secs(5), is_clean).is_some(), "{:?} {:?}", orphans()?, orphan_maps()?);
    Ok(format!("{starts} starts and ends leave no program and no map"))
}

fn directories_of_files() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| fs::write(Path::new(directory.path()).join(name), text).unwrap();
    write("10-one.yaml", forks(&[("one", "one_total")]));
    write("20-two.yml", forks(&[("two", "two_total")]));
    write(".hidden.yaml", "nonsense: [".into());
    write("readme.txt", "nonsense: [".into());
    let tapster = Tapster::start(&["-c", &directory.path().display().to_string()]);
    let metrics = tapster.scrape();
    assert_eq!([up(&metrics, "one"), up(&metrics, "two")], [Some(1.0), Some(1.0)]);
    Ok("two of four files".into())
}

#[test]
fn the_configuration_is_read_again() {
    let Some(mut cases) = Cases::as_root("reload") else { return };
    let _host = host();
    cases.run("kept, changed, new, removed", kept_changed_new_and_removed);
    cases.run("wrong, and repaired", what_is_wrong_leaves_what_ran);
    cases.run("a new one that is down", a_new_one_that_is_down);
    cases.run("in the place of another", in_the_place_of_another);
    cases.run("a signal during the start", a_signal_during_the_start);
    cases.run("a mounted ConfigMap", a_mounted_config_map);
    cases.run("a directory", directories_of_files);
    cases.run("SIGHUP", by_signal);
    cases.run("other reasons", other_reasons);
    cases.run("a hundred under load", a_hundred_under_load);
    cases.run("one at a time", one_at_a_time);
    cases.run("starts and stops", starts_and_stops);
    cases.finish();
}
