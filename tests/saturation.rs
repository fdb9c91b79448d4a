//! More to do than the processors can, or than a disk: the rules of `sched.yaml` see it by a real Prometheus, and are silent
//! else. What the exporter counts is compared with what the kernel says of the tasks that want to run, and with what those
//! that read measured themselves.
#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]
#![allow(clippy::unnecessary_wraps, reason = "cases are alike")]

use tapster_testing as support;

use std::{
    fs::{self, OpenOptions},
    hint,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};
use support::{
    cases::{Cases, Outcome, Skip},
    command::{root, text, tool},
    durations,
    exporter::{Tapster, within},
    prometheus::Prometheus,
    queries,
    slow::SlowDevice,
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

/// Tasks that read, and what the device that they read from lets through.
const READERS: u32 = 8;
const REQUESTS_PER_SECOND: u32 = 40;

const WAITING: &str = "tapster:run_queue:waiting_per_cpu5m";
const LATE: &str = "tapster:run_queue:p99_rate5m{after=\"wakeup\"}";
const ALERT: &str = "ALERTS{alertname=\"TapsterRunQueueSaturated\"}";
const SLEPT: &str = "tapster_off_cpu_duration_seconds_sum";
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
    // The alert is at one that waits for each processor; the rule's window is not the same five seconds.
    assert!(said < 0.8, "{figures}");
    assert_eq!(prometheus.query(ALERT), [], "{figures}");
    (true, format!("{figures}, no alert"))
}

/// A Prometheus with the rules, all of whose durations are shorter.
fn prometheus(tapster: &Tapster, directory: &Path) -> Result<Prometheus, Skip> {
    let shorter = |text: &str| durations::replace(text, |_, old| old / SHORTER);
    let rules = queries::changed_rule_files(directory, shorter);
    let rules: Vec<_> = rules.into_iter().filter(|file| file.ends_with("sched.yaml")).collect();
    let database = directory.join("prometheus");
    Prometheus::start_every(SCRAPES, &database, &[("tapster", tapster.address)], &[], &rules)
}

fn saturated() -> Outcome {
    root()?;
    let tapster = Tapster::start(&["--strict", "--probes", "sched_run_queue"]);
    let directory = tempfile::tempdir().unwrap();
    let prometheus = prometheus(&tapster, directory.path())?;
    let answered = within(4 * WINDOW, || prometheus.value(WAITING).is_some());
    assert!(answered.is_some(), "the rule has no value: {}", prometheus.api("rules"));
    let (was_quiet, before) = silent(&prometheus);

    let (stop, processors) = (AtomicBool::new(false), processors());
    let first = tapster.scrape();
    let begun = Instant::now();
    let (values, sampled, fired, hogs) = thread::scope(|scope| {
        let hogs: Vec<_> = (0..HOGS_PER_CPU * processors).map(|_| scope.spawn(|| hog(&stop))).collect();
        // By the kernel and by the exporter, in the same time.
        let (from, before) = (Instant::now(), tapster.scrape().sum(SUM, &[]));
        let sampled = waiting(WINDOW);
        let rate =
            (tapster.scrape().sum(SUM, &[]) - before) / from.elapsed().as_secs_f64() / f64::from(processors);
        let values = (prometheus.value(WAITING).unwrap(), rate, prometheus.value(LATE).unwrap());
        let firing =
            || prometheus.value(&format!("{ALERT} and on () ALERTS{{alertstate=\"firing\"}}")).is_some();
        let fired = within(Duration::from_secs(20), firing).map(|_| begun.elapsed());
        stop.store(true, Ordering::Relaxed);
        (values, sampled, fired, hogs.into_iter().map(|hog| hog.join().unwrap()).sum::<f64>())
    });
    let counted = tapster.scrape().sum(SUM, &[]) - first.sum(SUM, &[]);
    let (said, rate, late) = values;
    let fired = fired.unwrap_or_else(|| panic!("no alert: {said} tasks wait for each processor"));
    // The probe counts from the event and the kernel from its own clock; waits that are not over when the scrape comes are missing.
    assert!(counted > 0.98 * hogs, "{counted} s counted, and the hogs alone waited {hogs} s by the kernel");
    // The kernel's number is a sample, taken fifty times a second.
    assert!(
        rate > sampled / 1.25 - 0.3 && rate < sampled * 1.25 + 0.3,
        "{rate} tasks wait for each processor, {sampled} by the kernel"
    );
    // The last three seconds of these five.
    assert!(
        said > 1.0 && said < WINDOW.as_secs_f64() / 3.0 * rate + 0.5,
        "{said} by the rule, {rate} counted"
    );
    let lasts = Duration::from_mins(10) / SHORTER;
    assert!(!was_quiet || fired >= lasts, "the alert fired after {fired:?}");
    let (_, after) = silent(&prometheus);
    Ok(format!(
        "before: {before}; with {} hogs: {said:.2} wait by the rule, {rate:.2} counted, {sampled:.2} by the kernel, 99 % of \
         wake-ups within {:.1} ms, alert after {:.1} s, {counted:.1} s counted of which the hogs' {hogs:.1} s; after: {after}",
        HOGS_PER_CPU * processors,
        late * 1e3,
        fired.as_secs_f64(),
    ))
}

/// A buffer as reads past the page cache want it.
#[repr(align(4096))]
struct Page([u8; 4096]);

/// Reads past the page cache until told to stop: how often, and how long that took without the waits for a processor.
fn read(device: &Path, stop: &AtomicBool) -> (u32, f64) {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(device).unwrap();
    let mut page = Page([0; 4096]);
    let (begun, queued, mut reads) = (Instant::now(), waited(), 0);
    while !stop.load(Ordering::Relaxed) && begun.elapsed() < LIMIT {
        file.read_exact_at(&mut page.0, 0).unwrap();
        reads += 1;
    }
    (reads, begun.elapsed().as_secs_f64() - (waited() - queued))
}

/// Tasks that read from a device that takes few requests: they are blocked all of the time, each time for as long as it takes
/// for all of them to have their turn.
fn blocked() -> Outcome {
    let slow = SlowDevice::new(REQUESTS_PER_SECOND)?;
    let tapster = Tapster::start(&["--strict", "--probes", "sched_off_cpu"]);
    let directory = tempfile::tempdir().unwrap();
    let prometheus = prometheus(&tapster, directory.path())?;
    let direct = [("reason", "direct_io"), ("state", "uninterruptible")];
    let alert = "ALERTS{alertname=\"TapsterTasksBlocked\",reason=\"direct_io\"}";
    let value = |name: &str| prometheus.value(&format!("{name}{{reason=\"direct_io\"}}"));
    let before = tapster.scrape().sum(SLEPT, &direct);
    assert!(within(4 * WINDOW, || !prometheus.query("up == 1").is_empty()).is_some(), "it is not scraped");
    assert_eq!(prometheus.query(alert), [], "before anybody reads");

    let stop = AtomicBool::new(false);
    let (fired, tasks, mean, readers) = thread::scope(|scope| {
        let begun = Instant::now();
        let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(|| read(slow.device(), &stop))).collect();
        let firing =
            || prometheus.value(&format!("{alert} and on () ALERTS{{alertstate=\"firing\"}}")).is_some();
        let fired = within(Duration::from_secs(20), firing).map(|_| begun.elapsed());
        let (tasks, mean) = (value("tapster:blocked:tasks5m"), value("tapster:blocked:mean_seconds5m"));
        stop.store(true, Ordering::Relaxed);
        (fired, tasks, mean, readers.into_iter().map(|reader| reader.join().unwrap()).collect::<Vec<_>>())
    });
    let counted = tapster.scrape().sum(SLEPT, &direct) - before;
    let reads: u32 = readers.iter().map(|(reads, _)| reads).sum();
    let read: f64 = readers.iter().map(|(_, seconds)| seconds).sum();
    let figures = format!("{tasks:?} tasks blocked for {mean:?} s each by the rules");
    let fired = fired.unwrap_or_else(|| panic!("no alert: {figures}"));
    assert!(fired >= Duration::from_mins(10) / SHORTER, "the alert fired after {fired:?}");
    // They do nothing else, and others of the host may read so, too.
    assert!(counted > 0.98 * read && counted < 1.05 * read, "{counted} s counted, {read} s in reads");
    let (tasks, mean) = (tasks.unwrap(), mean.unwrap());
    let (readers, each) = (f64::from(READERS), read / f64::from(reads));
    // A window of three seconds has the ends of sleeps of a fifth of a second, its scrapes are not quite in time, and on a busy
    // host the readers wait for a processor as well.
    assert!(tasks > 0.6 * readers && tasks < 1.25 * readers, "{figures}, and {readers} there are");
    assert!(mean > 0.75 * each && mean < 1.25 * each, "{figures}, and a read took {each} s");
    Ok(format!(
        "{READERS} readers: {tasks:.2} blocked for {mean:.3} s each by the rules, {each:.3} s by themselves; alert after {:.1} s; \
         {counted:.2} s counted of {read:.2} s in reads",
        fired.as_secs_f64()
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
    let Some(mut cases) = Cases::as_root("saturation") else {
        return;
    };
    cases.run("online processors", online_cpus);
    cases.run("tasks wait for a processor", saturated);
    cases.run("tasks are blocked", blocked);
    cases.finish();
}
