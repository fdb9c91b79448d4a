//! The exporter as a process: how it starts, serves, fails and ends, and that it leaves nothing in the kernel.

#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]
#![allow(clippy::unnecessary_wraps, reason = "cases are alike")]

use tapster_testing as support;

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};
use support::{
    cases::{Cases, Outcome, Skip},
    exporter::{Tapster, is_release, kernel_programs, orphans, within},
    http,
    load::{COUNT, Load},
    metrics::Metrics,
    observer,
};

const DROPPED: &str = "tapster_probe_dropped_total";

/// Programs in the kernel that no process holds, before a case.
struct Before(BTreeSet<u64>);

impl Before {
    fn now() -> Result<Self, Skip> {
        Ok(Self(orphans()?))
    }

    /// None of these programs is in the kernel any more, and none is held by nobody; how long that took.
    fn assert_gone(&self, programs: &BTreeSet<u64>, limit: Duration) -> Result<Duration, Skip> {
        kernel_programs()?;
        let gone = || kernel_programs().is_ok_and(|left| left.is_disjoint(programs));
        let after = within(limit, gone)
            .unwrap_or_else(|| panic!("programs {programs:?} are still there after {limit:?}"));
        // A program of another process may be seen between its making and its first descriptor.
        let clean = || orphans().is_ok_and(|left| left.is_subset(&self.0));
        assert!(
            within(Duration::from_secs(3), clean).is_some(),
            "programs that nobody holds: {:?}",
            orphans()?.difference(&self.0)
        );
        Ok(after)
    }
}

/// Keeps scraping until told to stop; how many scrapes were answered.
fn scrape_until(address: std::net::SocketAddr, stop: &AtomicBool) -> usize {
    let mut answered = 0;
    while !stop.load(Ordering::Relaxed) {
        if http::get(address, "/metrics", None).is_ok_and(|response| response.status == 200) {
            answered += 1;
        }
    }
    answered
}

/// A signal in the middle of scrapes.
fn ends_by(signal: i32) -> Outcome {
    let before = Before::now()?;
    let tapster = Tapster::start(&[]);
    let programs = tapster.programs();
    assert_eq!(programs.len(), 11, "programs of the shipped library: {programs:?}");
    let (address, stop) = (tapster.address, AtomicBool::new(false));
    let (answered, status, took, log) = thread::scope(|scope| {
        let scrapers: Vec<_> = (0..4).map(|_| scope.spawn(|| scrape_until(address, &stop))).collect();
        thread::sleep(Duration::from_millis(200));
        let begun = Instant::now();
        tapster.signal(signal);
        let ended = tapster.ended();
        let took = begun.elapsed();
        stop.store(true, Ordering::Relaxed);
        let answered: usize = scrapers.into_iter().map(|scraper| scraper.join().unwrap()).sum();
        (answered, ended.status, took, ended.log)
    });
    assert!(answered > 0, "no scrape was answered");
    if signal == libc::SIGKILL {
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(signal));
    } else {
        assert_eq!(status.code(), Some(0), "{log:?}");
        assert!(took < Duration::from_secs(3), "it took {took:?}");
        assert!(log.last().is_some_and(|line| line.contains("stopped")), "{log:?}");
    }
    let gone = before.assert_gone(&programs, Duration::from_secs(1))?;
    Ok(format!("{status} after {took:?}, {answered} scrapes answered, programs gone {gone:?} later"))
}

fn port_in_use() -> Outcome {
    let before = Before::now()?;
    let first = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = first.local_addr().unwrap().to_string();
    let Err(ended) = Tapster::start_at(&address, &[]) else { panic!("it serves on a port in use") };
    assert_eq!(ended.status.code(), Some(1));
    let said = format!(
        "error: cannot listen on `{address}`: the port is in use; stop the process that has it, or choose another \
         with `--web.listen-address`"
    );
    assert_eq!(ended.log.last(), Some(&said));
    assert!(!ended.log.iter().any(|line| line.contains("attached")), "{:?}", ended.log);
    before.assert_gone(&BTreeSet::new(), Duration::from_secs(1))?;
    Ok(said)
}

fn two_instances() -> Outcome {
    let load = Load::new()?;
    let (first, second) = (Tapster::start(&[]), Tapster::start(&["--probes", "block_io"]));
    let ios = load.read()?;
    let counts = [&first, &second].map(|tapster| load.counted(tapster));
    assert_eq!(counts[0], counts[1], "two instances see the same");
    load.assert_all("reads", counts[0], ios);
    let programs = second.programs();
    drop(second);
    assert_eq!(programs.len(), 3);
    let more = load.read()?;
    let after = load.counted(&first);
    load.assert_all("reads after one ended", after, ios + more);
    Ok(format!("{counts:?} of {ios}; {after} of {} after one ended", ios + more))
}

fn concurrent_scrapes() -> Outcome {
    const SCRAPES: usize = 8;
    let load = Load::new()?;
    let tapster = Tapster::start(&[]);
    load.read()?;
    let name = load.device.name();
    let labels = [("device", name.as_str())];
    tapster.settled(COUNT, &labels);
    let begun = Instant::now();
    let scrapes: Vec<Metrics> = thread::scope(|scope| {
        let scrapers: Vec<_> = (0..SCRAPES).map(|_| scope.spawn(|| tapster.scrape())).collect();
        scrapers.into_iter().map(|scraper| scraper.join().unwrap()).collect()
    });
    let took = begun.elapsed();
    let of_device = |metrics: &Metrics| {
        metrics
            .0
            .iter()
            .filter(|sample| sample.labels.get("device") == Some(&name))
            .cloned()
            .collect::<Vec<_>>()
    };
    let first = of_device(&scrapes[0]);
    assert!(!first.is_empty());
    for scrape in &scrapes[1..] {
        assert_eq!(of_device(scrape), first, "scrapes at one time differ");
    }
    Ok(format!("{SCRAPES} scrapes of {} samples in {took:?}, all the same", scrapes[0].0.len()))
}

fn configuration(directory: &Path, text: &str) -> String {
    let file = directory.join("probes.yaml");
    fs::write(&file, text).unwrap();
    file.display().to_string()
}

fn one_probe_fails() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let file = configuration(
        directory.path(),
        "library: true
probes:
  - name: missing
    at: tracepoint:no_such_category:no_such_event
    metrics: [{counter: missing_total, help: Never counted.}]
  - name: forks
    at: tracepoint:sched:sched_process_fork
    metrics: [{counter: forks_total, help: Processes created.}]
",
    );
    let before = Before::now()?;
    let tapster = Tapster::start(&["-c", &file]);
    // Commands are forked from here.
    for _ in 0..20 {
        assert!(std::process::Command::new("true").status().unwrap().success());
    }
    let metrics = tapster.scrape();
    let up = |probe| metrics.find("tapster_probe_up", &[("probe", probe)]);
    assert_eq!(
        [up("missing"), up("forks"), up("block_io"), up("block_request")],
        [Some(0.0), Some(1.0), Some(1.0), Some(1.0)]
    );
    assert_eq!(metrics.values("tapster_probe_up", &[("probe", "missing")], "reason"), ["compile"]);
    let forks = metrics.sum("tapster_forks_total", &[]);
    assert!(forks >= 20.0, "{forks} forks");
    assert_eq!(metrics.find("tapster_missing_total", &[]), None);
    let said = tapster.log().into_iter().filter(|line| line.contains("probe is down")).collect::<Vec<_>>();
    assert!(said.len() == 1 && said[0].contains("no_such_category:no_such_event"), "{said:?}");
    assert!(tapster.get("/").text().contains("no_such_event"), "the landing page says why");
    assert_eq!(tapster.get("/-/ready").status, 200, "another probe is up");
    drop(tapster);
    for (required, is_ready) in [("missing", false), ("forks", true), ("forks,missing", false)] {
        let tapster = Tapster::start(&["-c", &file, "--ready.require", required]);
        let answer = tapster.get("/-/ready");
        let text = answer.text();
        assert_eq!(answer.status, if is_ready { 200 } else { 503 }, "{required}: {text}");
        assert!(
            is_ready || text == "tapster is not ready: not up, but required: `missing`; `/` says why\n",
            "{text}"
        );
        assert_eq!(tapster.scrape().sum("tapster_ready", &[]) > 0.5, is_ready, "{required}");
    }
    let tapster = Tapster::start(&["-c", &file, "--probes", "missing"]);
    let answer = tapster.get("/-/ready");
    assert_eq!(
        (answer.status, answer.text()),
        (503, "tapster is not ready: its probe is not up; `/` says why\n")
    );
    drop(tapster);
    // A file may be for newer kernels only: then nothing runs.
    let newer = directory.path().join("newer.yaml");
    let text = "probes:\n- name: newer\n  kernel: '>=99.0'\n  at: tracepoint:sched:sched_process_fork\n  metrics: [{ counter: newer_total }]\n";
    fs::write(&newer, text).unwrap();
    let tapster = Tapster::start(&["-c", &newer.display().to_string()]);
    let answer = tapster.get("/-/ready");
    assert_eq!(
        (answer.status, answer.text()),
        (503, "tapster is not ready: it has no probe for this kernel; `/` says why\n")
    );
    assert_eq!(tapster.scrape().find("tapster_ready", &[]), Some(0.0));
    drop(tapster);
    match Tapster::start_at("127.0.0.1:0", &["-c", &file, "--ready.require", "forkz"]) {
        Err(ended) => assert_eq!(ended.status.code(), Some(2), "{:?}", ended.log),
        Ok(_) => panic!("it serves although it requires a probe that is not there"),
    }
    let Err(ended) = Tapster::start_at("127.0.0.1:0", &["-c", &file, "--strict"]) else {
        panic!("--strict serves although a probe is down")
    };
    assert_eq!(ended.status.code(), Some(2), "{:?}", ended.log);
    before.assert_gone(&BTreeSet::new(), Duration::from_secs(1))?;
    Ok(format!("{forks} forks counted beside a probe that is down; --strict: {}", ended.status))
}

fn routes() -> Outcome {
    let tapster = Tapster::start(&[]);
    let answers: Vec<(u16, String)> = ["/-/healthy", "/-/ready", "/nothing"]
        .into_iter()
        .map(|path| {
            let response = tapster.get(path);
            (response.status, response.text().trim().to_owned())
        })
        .collect();
    assert_eq!(answers[0], (200, "tapster is healthy".into()));
    assert_eq!(answers[1], (200, "tapster is ready".into()));
    assert_eq!(answers[2].0, 404);
    let page = tapster.get("/");
    assert!(page.status == 200 && page.text().contains("block_io"), "{}", page.head);
    Ok(format!("{answers:?}, / {} bytes", page.body.len()))
}

/// Label sets beyond the limit are dropped and counted.
fn max_series() -> Outcome {
    let load = Load::new()?;
    let directory = tempfile::tempdir().unwrap();
    let file = configuration(
        directory.path(),
        &format!(
            "probes:
  - name: sectors
    at: rawtracepoint:block:block_bio_queue
    where: (args.bio.bi_bdev.bd_disk.major << 20 | args.bio.bi_bdev.bd_disk.first_minor) == {}
    max_series: 4
    labels: {{sector: args.bio.bi_iter.bi_sector}}
    metrics: [{{counter: sector_reads_total, help: Reads by sector.}}]
",
            observer::number(&load.device.name())
        ),
    );
    let tapster = Tapster::start(&["-c", &file]);
    let ios = load.read()?;
    let metrics = tapster.scrape();
    let series = metrics.values("tapster_sector_reads_total", &[], "sector").len();
    let counted = support::metrics::whole(metrics.sum("tapster_sector_reads_total", &[]));
    let dropped =
        support::metrics::whole(metrics.sum(DROPPED, &[("probe", "sectors"), ("reason", "max_series")]));
    assert_eq!((series, metrics.find("tapster_probe_series", &[])), (4, Some(4.0)));
    assert!(dropped > 0 && counted + dropped == ios, "{counted} counted, {dropped} dropped of {ios}");
    let again = load.read()?;
    let metrics = tapster.scrape();
    let counted_again = support::metrics::whole(metrics.sum("tapster_sector_reads_total", &[]));
    assert_eq!(counted_again, 2 * counted, "series that are there go on");
    Ok(format!(
        "{counted} counted + {dropped} dropped = {ios} reads of {ios} sectors, {counted_again} after {again} more"
    ))
}

/// Starts beyond the limit are dropped and counted.
fn max_inflight() -> Outcome {
    let load = Load::new()?;
    let directory = tempfile::tempdir().unwrap();
    let device = observer::number(&load.device.name());
    let file = configuration(
        directory.path(),
        &format!(
            "probes:
  - name: pairs
    max_inflight: 2
    start: {{at: 'rawtracepoint:block:block_rq_issue', key: args.rq, where: '(args.rq.q.disk.major << 20 | args.rq.q.disk.first_minor) == {device}'}}
    end: {{at: 'rawtracepoint:block:block_rq_complete', key: args.rq, where: '(args.rq.q.disk.major << 20 | args.rq.q.disk.first_minor) == {device}'}}
    metrics: [{{counter: pairs_total, help: Pairs.}}]
"
        ),
    );
    let tapster = Tapster::start(&["-c", &file]);
    let ios = load.read()?;
    let metrics = tapster.settled("tapster_pairs_total", &[]);
    let counted = support::metrics::whole(metrics.sum("tapster_pairs_total", &[]));
    let dropped =
        support::metrics::whole(metrics.sum(DROPPED, &[("probe", "pairs"), ("reason", "max_inflight")]));
    let reasons = metrics.values(DROPPED, &[("probe", "pairs")], "reason");
    let unmatched =
        support::metrics::whole(metrics.sum("tapster_probe_unmatched_total", &[("probe", "pairs")]));
    assert!(dropped > 0, "nothing was dropped: {reasons:?}");
    load.assert_all("counted and dropped", counted + dropped, ios);
    // An end is unmatched for each start that was dropped, unless no program saw the end.
    load.assert_all("ends without a start", unmatched, dropped);
    Ok(format!(
        "{counted} counted + {dropped} dropped = {} of {ios}, {unmatched} ends without a start",
        counted + dropped
    ))
}

fn memory_and_start() -> Outcome {
    let begun = Instant::now();
    let tapster = Tapster::start(&[]);
    let served = begun.elapsed();
    let line = tapster.wait_for("probes attached").unwrap();
    assert_eq!(
        (line["probes"].as_u64(), line["down"].as_u64(), line["programs"].as_u64()),
        (Some(3), Some(0), Some(11))
    );
    let times = ["total_ms", "detect_ms", "compile_ms", "load_ms", "attach_ms"]
        .map(|key| line[key].as_f64().unwrap());
    // The parts are of the whole; each is rounded, and between two of them is little.
    assert!(times[0] > 0.0 && times[1..].iter().sum::<f64>() <= times[0] * 1.05 + 1.0, "{times:?}");
    let after_start = tapster.resident_kib();
    for _ in 0..20 {
        tapster.scrape();
    }
    let after_scrapes = tapster.resident_kib();
    if is_release() {
        assert!(after_start < 20 << 10, "{after_start} KiB resident after start");
        assert!(after_scrapes < 20 << 10, "{after_scrapes} KiB resident after 20 scrapes");
    }
    Ok(format!(
        "{after_start} KiB resident, {after_scrapes} KiB after 20 scrapes; serving after {served:?}; total {} ms: detect {}, compile {}, load {}, attach {}",
        times[0], times[1], times[2], times[3], times[4]
    ))
}

#[test]
fn it_comes_and_goes_without_a_trace() {
    let Some(mut cases) = Cases::as_root("lifecycle") else {
        return;
    };
    cases.run("memory and time to start", memory_and_start);
    cases.run("SIGTERM during scrapes", || ends_by(libc::SIGTERM));
    cases.run("SIGINT during scrapes", || ends_by(libc::SIGINT));
    cases.run("SIGKILL during scrapes", || ends_by(libc::SIGKILL));
    cases.run("port in use", port_in_use);
    cases.run("routes", routes);
    cases.run("two instances", two_instances);
    cases.run("concurrent scrapes", concurrent_scrapes);
    cases.run("one probe fails", one_probe_fails);
    cases.run("max_series", max_series);
    cases.run("max_inflight", max_inflight);
    cases.finish();
}
