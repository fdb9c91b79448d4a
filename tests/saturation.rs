//! More to do than the processors can: the rules of `sched.yaml` see it by a real Prometheus, and are silent else. What the
//! exporter counts is compared with what the kernel says of the tasks that want to run.
#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]
#![allow(clippy::unnecessary_wraps, reason = "cases are alike")]

mod support;

use std::{
    fs, hint,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};
use support::{
    cases::{Cases, Outcome, Skip, say},
    command::{root, text, tool},
    durations,
    exporter::{Tapster, within},
    prometheus::Prometheus,
    queries,
};

/// By how much everything in the rules is shorter: five minutes are three seconds.
const SHORTER: u32 = 100;
const SCRAPES: Duration = Duration::from_millis(500);
/// A window of the rules, and some scrapes.
const WINDOW: Duration = Duration::from_secs(5);
/// Tasks that compute, for each processor: when all run, two of them wait.
const HOGS_PER_CPU: u32 = 3;
/// They end by then, whatever happens to the test.
const LIMIT: Duration = Duration::from_secs(40);

const WAITING: &str = "tapster:run_queue:waiting_per_cpu5m";
const LATE: &str = "tapster:run_queue:p99_rate5m{after=\"wakeup\"}";
const ALERT: &str = "ALERTS{alertname=\"TapsterRunQueueSaturated\"}";
const SUM: &str = "tapster_run_queue_duration_seconds_sum";

/// A line of `/proc/stat` begins with this and a number follows.
fn stat(name: &str) -> u32 {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    stat.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse().unwrap()
}

/// Processors, by another file of the kernel's than the exporter reads.
fn processors() -> u32 {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let lines = stat.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu "));
    u32::try_from(lines.count()).unwrap()
}

/// The mean number of tasks that wait for each processor, by looking now and then at how many want to run.
fn waiting(during: Duration) -> f64 {
    let (begun, processors) = (Instant::now(), processors());
    let (mut looks, mut sum) = (0_u32, 0_u32);
    while begun.elapsed() < during {
        // Less this one, which runs when it looks.
        sum += (stat("procs_running ") - 1).saturating_sub(processors);
        looks += 1;
        thread::sleep(Duration::from_millis(20));
    }
    f64::from(sum) / f64::from(looks) / f64::from(processors)
}

/// Seconds that this thread waited for a processor, as the kernel counts them.
fn waited() -> f64 {
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanoseconds: u64 = schedstat.split(' ').nth(1).unwrap().parse().unwrap();
    Duration::from_nanos(nanoseconds).as_secs_f64()
}

/// Computes until told to stop: how long it waited meanwhile.
fn hog(stop: &AtomicBool) -> f64 {
    let (begun, before) = (Instant::now(), waited());
    while !stop.load(Ordering::Relaxed) && begun.elapsed() < LIMIT {
        hint::spin_loop();
    }
    waited() - before
}

/// Whether the host is quiet, by the kernel, and what to tell of it; if so, the rule says the same and no alert waits.
fn silent(prometheus: &Prometheus) -> (bool, String) {
    let waiting = waiting(WINDOW);
    let said = prometheus.value(WAITING).unwrap();
    let figures = format!("{said:.2} wait by the rule, {waiting:.2} by the kernel");
    // Others may have work for it.
    if waiting > 0.4 {
        return (false, format!("a busy host, {figures}"));
    }
    assert!(said < 0.8, "{figures}");
    assert_eq!(prometheus.query(ALERT), [], "{figures}");
    (true, format!("{figures}, no alert"))
}

fn saturated() -> Outcome {
    root()?;
    let directory = tempfile::tempdir().unwrap();
    let tapster = Tapster::start(&["--strict", "--probes", "sched_run_queue"]);
    let rules = queries::changed_rule_files(directory.path(), |text| {
        durations::replace(text, |_, old| old / SHORTER)
    });
    let rules: Vec<_> = rules.into_iter().filter(|file| file.ends_with("sched.yaml")).collect();
    let database = directory.path().join("prometheus");
    let prometheus =
        Prometheus::start_every(SCRAPES, &database, &[("tapster", tapster.address)], &[], &rules)?;
    let answered = within(4 * WINDOW, || prometheus.value(WAITING).is_some());
    assert!(answered.is_some(), "the rule has no value: {}", prometheus.api("rules"));
    let (was_quiet, before) = silent(&prometheus);

    let (stop, processors) = (AtomicBool::new(false), processors());
    let first = tapster.scrape();
    let begun = Instant::now();
    let (values, sampled, fired, hogs) = thread::scope(|scope| {
        let hogs: Vec<_> = (0..HOGS_PER_CPU * processors).map(|_| scope.spawn(|| hog(&stop))).collect();
        let sampled = waiting(WINDOW);
        let values = (prometheus.value(WAITING).unwrap(), prometheus.value(LATE).unwrap());
        let firing =
            || prometheus.value(&format!("{ALERT} and on () ALERTS{{alertstate=\"firing\"}}")).is_some();
        let fired = within(Duration::from_secs(20), firing).map(|_| begun.elapsed());
        stop.store(true, Ordering::Relaxed);
        (values, sampled, fired, hogs.into_iter().map(|hog| hog.join().unwrap()).sum::<f64>())
    });
    let counted = tapster.scrape().sum(SUM, &[]) - first.sum(SUM, &[]);
    let (said, late) = values;
    let fired = fired.unwrap_or_else(|| panic!("no alert: {said} tasks wait for each processor"));
    assert!(counted > 0.98 * hogs, "{counted} s counted, and the hogs alone waited {hogs} s by the kernel");
    assert!(
        said > sampled / 1.5 - 0.5 && said < sampled * 1.5 + 0.5,
        "{said} tasks wait for each processor by the rule, {sampled} by the kernel"
    );
    let lasts = Duration::from_mins(10) / SHORTER;
    assert!(!was_quiet || fired >= lasts, "the alert fired after {fired:?}");
    let (_, after) = silent(&prometheus);
    Ok(format!(
        "before: {before}; with {} hogs: {said:.2} wait by the rule, {sampled:.2} by the kernel, 99 % of wake-ups within \
         {:.1} ms, alert after {:.1} s, {counted:.1} s counted of which the hogs' {hogs:.1} s; after: {after}",
        HOGS_PER_CPU * processors,
        late * 1e3,
        fired.as_secs_f64(),
    ))
}

/// As many as the host has, for a process that may use one as well.
fn online_cpus() -> Outcome {
    root()?;
    let tapster = Tapster::start(&["--probes", "sched_migrations"]);
    let online = || tapster.scrape().find("tapster_online_cpus", &[]);
    assert_eq!(online(), Some(processors().into()));
    text(tool("taskset")?.args(["--all-tasks", "--pid", "--cpu-list", "0", &tapster.pid().to_string()]));
    assert_eq!(online(), Some(processors().into()), "the process may use one processor");
    Ok(format!("{} online", processors()))
}

#[test]
fn more_to_do_than_processors() {
    let mut cases = Cases::new("saturation");
    if let Err(Skip(reason)) = root() {
        say(format_args!("saturation: skipped: {reason}"));
        return cases.finish();
    }
    cases.run("online processors", online_cpus);
    cases.run("the rules see it", saturated);
    cases.finish();
}
