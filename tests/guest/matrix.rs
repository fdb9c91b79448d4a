//! The detection matrix: which slow members the shipped rules find, and whether they find any where there is none.
//!
//! A cell is a RAID 0 array in a guest: of 2, 3, 4 or 8 members, with a delay on one of them, on all, or on none. All
//! cells of a load run at the same time. A real Prometheus scrapes the exporter and evaluates the shipped rules, in
//! which **every** duration is divided by one factor, as are the intervals of scraping and evaluating; thresholds,
//! also that of the I/Os in a window, are as shipped. docs/detection.md has the result and what it does not show.

mod report;

use crate::{
    kernel::Kernel,
    machine::{Machine, Results},
    support::{
        cases::{Outcome, Skip, say},
        durations,
        prometheus::{Prometheus, free_port, text_only},
        queries,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::Path,
    time::Duration,
};

/// What a member takes by itself.
const BASE_NS: u64 = 200_000;
pub(crate) const DELAYS_US: [u64; 8] = [200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000];
/// Prometheus' usual interval, before it is divided.
const INTERVAL: Duration = Duration::from_secs(15);

/// The longest window of the rules that this measures, before it is divided.
const WINDOW: Duration = Duration::from_mins(10);
/// How often the guest keeps the kernel's statistics.
const SAMPLED: Duration = Duration::from_secs(5);

/// The aim: a member so many times as slow as its peers, and so many milliseconds slower, is found. The kernel's own
/// statistics of the members decide.
const RATIO: f64 = 2.0;
const EXCESS_MS: f64 = 1.0;

/// The loads of the whole matrix, and the I/Os a second that each member has in them, about.
pub(crate) const RATES: [(&str, u64); 3] = [("light", 3), ("mixed", 4), ("heavy", 6)];

/// Where the delay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    None,
    One,
    All,
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::One => "one",
            Self::All => "all",
        }
    }
}

/// An array and what is wrong with it.
#[derive(Clone, Copy, Debug)]
struct Cell {
    members: usize,
    fault: Fault,
    delay_us: u64,
}

impl Cell {
    /// The member with the delay: not always the first or the last.
    fn slow(&self) -> usize {
        usize::try_from(self.delay_us / 100).expect("a small number") % self.members
    }

    fn times(&self) -> Vec<u64> {
        let is_slow = |index| match self.fault {
            Fault::None => false,
            Fault::One => index == self.slow(),
            Fault::All => true,
        };
        let delay = |index| if is_slow(index) { self.delay_us * 1000 } else { 0 };
        (0..self.members).map(|index| BASE_NS + delay(index)).collect()
    }
}

/// One run: the cells of these sizes under one load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run<'a> {
    pub(crate) sizes: &'a [usize],
    pub(crate) load: &'a str,
    /// I/Os a second of each member, about.
    pub(crate) rate: u64,
    pub(crate) seconds: u64,
    /// By what all durations are divided.
    pub(crate) factor: u32,
    /// A delayed member must be named from so many times the aim on.
    pub(crate) must: f64,
    /// It must not be named if it is below such a part of the rules' own thresholds all the time.
    pub(crate) must_not: f64,
}

/// What is demanded of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Truth {
    Must,
    MustNot,
    Undecided,
}

/// A cell and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    cell: Cell,
    load: String,
    /// As the kernel's statistics have it, the operation with the larger ratio: mean of the delayed member (of the
    /// slowest, where none or all are), mean of the others, milliseconds.
    slow_ms: f64,
    others_ms: f64,
    truth: Truth,
    /// Alerts that fired, by member and severity: right ones and wrong ones.
    right: BTreeSet<String>,
    wrong: BTreeSet<String>,
}

impl Answer {
    fn verdict(&self) -> &'static str {
        match (self.truth, self.right.is_empty(), self.wrong.is_empty()) {
            (_, _, false) | (Truth::MustNot, false, _) => "FALSE ALERT",
            (Truth::Must, true, _) => "MISSED",
            (Truth::Must, false, _) => "found",
            (Truth::MustNot, true, _) => "quiet",
            (Truth::Undecided, false, _) => "(found)",
            (Truth::Undecided, true, _) => "(quiet)",
        }
    }
}

/// Milliseconds and I/Os of each member, reads and writes: `/sys/block/NAME/stat` at one time.
type Sample = BTreeMap<usize, [(f64, f64); 2]>;

/// The samples that the guest took. One that was cut short is left out.
fn samples(listing: &str) -> Vec<Sample> {
    let line = |line: &str| {
        let (path, numbers) = line.strip_prefix("/sys/block/nullb")?.split_once("/stat:")?;
        let numbers: Vec<f64> = numbers.split_whitespace().map_while(|number| number.parse().ok()).collect();
        let numbers = numbers.get(..8)?;
        Some((path.parse().ok()?, [(numbers[3], numbers[0]), (numbers[7], numbers[4])]))
    };
    let samples: Vec<Sample> =
        listing.split("@ sample").skip(1).map(|text| text.lines().filter_map(line).collect()).collect();
    let whole = samples.iter().map(BTreeMap::len).max().expect("there are samples");
    samples.into_iter().filter(|sample| sample.len() == whole).collect()
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// What an I/O takes on each member of a cell in each operation that it had, in milliseconds, as the kernel has it: the
/// median of the means of five seconds. One stall of the emulated machine can be longer than all other I/Os of a run
/// together; it is not what is asked for.
fn means(samples: &[Sample], first: usize, members: usize) -> Vec<Vec<f64>> {
    let of = |member: usize, operation: usize| {
        let mean = |pair: &[Sample]| {
            let ((before_ms, before), (ms, ios)) = (pair[0][&member][operation], pair[1][&member][operation]);
            (ios - before >= 3.0).then(|| (ms - before_ms) / (ios - before))
        };
        median(samples.windows(2).filter_map(mean).collect())
    };
    let operation = |operation| -> Option<Vec<f64>> {
        (first..first + members).map(|member| of(member, operation)).collect()
    };
    [0, 1].into_iter().filter_map(operation).collect()
}

/// A threshold of the shipped rules.
fn threshold(name: &str) -> f64 {
    queries::threshold(&format!("raid_slow_{name}"))
}

/// The delayed member of a cell (the slowest, where none or all are) and the mean of the others, for each operation.
fn compared(cell: &Cell, means: &[Vec<f64>]) -> Vec<(f64, f64)> {
    let of = |means: &Vec<f64>| {
        let slow = match cell.fault {
            Fault::One => means[cell.slow()],
            Fault::None | Fault::All => means.iter().copied().fold(0.0, f64::max),
        };
        (slow, (means.iter().sum::<f64>() - slow) / (means.len() - 1) as f64)
    };
    means.iter().map(of).collect()
}

/// What the whole run and each stretch of ten minutes of it say, the time that the rules look at. An alert may be right
/// in one of these and not in the whole: how long an emulated I/O takes depends on what else the host does.
fn judge(run: &Run<'_>, cell: &Cell, samples: &[Sample], first: usize) -> (f64, f64, Truth) {
    let pairs = compared(cell, &means(samples, first, cell.members));
    let beyond = |pairs: &[(f64, f64)], ratio: f64, excess_ms: f64| {
        pairs.iter().any(|(slow, others)| slow / others >= ratio && slow - others >= excess_ms)
    };
    let (ratio, excess_ms) = (threshold("ratio"), threshold("excess_seconds") * 1e3);
    let stretch = usize::try_from(WINDOW.as_secs() / u64::from(run.factor) / SAMPLED.as_secs()).expect("few");
    let is_near = |samples: &[Sample]| {
        let pairs = compared(cell, &means(samples, first, cell.members));
        beyond(&pairs, ratio * run.must_not, excess_ms * run.must_not)
    };
    let truth = match cell.fault {
        Fault::One if beyond(&pairs, RATIO * run.must, EXCESS_MS * run.must) => Truth::Must,
        Fault::One if samples.windows(stretch + 1).any(is_near) => Truth::Undecided,
        Fault::None | Fault::One | Fault::All => Truth::MustNot,
    };
    let (slow, others) =
        pairs.into_iter().max_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1))).expect("the cell had I/O");
    (slow, others, truth)
}

/// Alerts about an array that fired at any time: those that name its delayed member, and others.
type Fired = (BTreeSet<String>, BTreeSet<String>);

fn fired(prometheus: &Prometheus, cells: &[Cell]) -> BTreeMap<usize, Fired> {
    let mut fired: BTreeMap<usize, Fired> = BTreeMap::new();
    let alerts = "max_over_time(ALERTS{alertname=~\"TapsterRaid.*\",alertstate=\"firing\"}[1h])";
    for (labels, _) in prometheus.query(alerts) {
        let label = |name: &str| labels[name].as_str().unwrap_or_default();
        let array: usize = label("array").trim_start_matches("md").parse().expect("arrays have numbers");
        let (alert, slot) = (label("alertname"), label("slot"));
        let text = format!("{alert} {} {}", label("operation"), label("severity"));
        let text = text.trim_start_matches("TapsterRaidMemberSlow").trim_start();
        let (right, wrong) = fired.entry(array).or_default();
        let cell = &cells[array];
        if alert.starts_with("TapsterRaidMemberSlow")
            && cell.fault == Fault::One
            && slot == cell.slow().to_string()
        {
            right.insert(text.to_owned());
        } else {
            wrong.insert(format!("slot {slot}: {text}"));
        }
    }
    fired
}

/// Runs it; the answers of all its cells, and figures about the run. `directory` then holds Prometheus' data and the
/// kernel's statistics: other rules can be tried on them.
pub(crate) fn run(
    run: &Run<'_>,
    directory: &Path,
    kernel: &Kernel,
    base: &Path,
    modules: &Path,
) -> Result<(Vec<Answer>, String), Skip> {
    let mut cells = Vec::new();
    for members in run.sizes.iter().copied() {
        cells.push(Cell { members, fault: Fault::None, delay_us: 0 });
        for fault in [Fault::One, Fault::All] {
            cells.extend(DELAYS_US.iter().map(|&delay_us| Cell { members, fault, delay_us }));
        }
    }
    let words =
        cells.iter().map(|cell| cell.times().iter().map(ToString::to_string).collect::<Vec<_>>().join(","));
    let arguments: Vec<String> = [run.seconds.to_string(), run.load.to_owned(), run.rate.to_string()]
        .into_iter()
        .chain(words)
        .collect();
    let port = free_port();
    let exporter: SocketAddr = ([127, 0, 0, 1], port).into();
    let machine = Machine {
        kernel,
        base,
        modules,
        disks: &[],
        hardware: &[],
        memory_mib: 1536,
        port: Some(port),
        arguments: &arguments,
    };
    let guest = machine.boot(include_str!("scenarios/matrix.sh"))?;
    let prometheus = Prometheus::start_every(
        INTERVAL / run.factor,
        &directory.join("prometheus"),
        &[("tapster", text_only(exporter))],
        &[],
        &queries::changed_rule_files(directory, |rules| {
            durations::replace(rules, |_, duration| duration / run.factor)
        }),
    )?;
    // Building the arrays takes its time too.
    let results = guest.finish(Duration::from_secs(run.seconds) + Duration::from_mins(5))?;
    results.assert_no_failures();

    let mut fired = fired(&prometheus, &cells);
    fs::write(directory.join("samples"), results.text("samples")).unwrap();
    let samples = samples(results.text("samples"));
    let mut answers = Vec::new();
    let mut first = 0;
    for (array, cell) in cells.iter().enumerate() {
        let (slow_ms, others_ms, truth) = judge(run, cell, &samples, first);
        first += cell.members;
        let (right, wrong) = fired.remove(&array).unwrap_or_default();
        answers.push(Answer {
            cell: *cell,
            load: run.load.to_owned(),
            slow_ms,
            others_ms,
            truth,
            right,
            wrong,
        });
    }
    let figures = load_figures(run, &prometheus, &results, &samples);
    Ok((answers, figures))
}

/// That the load did not stop: each member was compared throughout, and the scrapes arrived.
fn load_figures(run: &Run<'_>, prometheus: &Prometheus, results: &Results, samples: &[Sample]) -> String {
    let one = |query: &str| prometheus.value(query).unwrap_or(f64::NAN);
    let level = "array_member_operation:tapster_raid_member_duration_seconds";
    let operations = if run.load == "light" { 1 } else { 2 };
    let compared = one(&format!("max_over_time(count({level}:quartile10m)[1h:1s])"));
    let least = one(&format!("min(max_over_time({level}_count:increase10m[1h]))"));
    let scrapes = one("sum_over_time(up[1h])");
    let duration = one("max_over_time(scrape_duration_seconds[1h])");
    let metrics = results.metrics("after.prom");
    let ours = metrics.sum("tapster_raid_member_duration_seconds_count", &[]);
    let own = |name: &str| metrics.sum(&format!("tapster_probe_{name}_total"), &[]);
    let (missed, dropped, unmatched) = (own("missed"), own("dropped"), own("unmatched"));
    let ios = |sample: &Sample| -> f64 { sample.values().flatten().map(|(_, ios)| ios).sum() };
    let (begin, end) = (samples.first().expect("a sample"), samples.last().expect("a sample"));
    let (members, requests) = (end.len(), ios(end) - ios(begin));
    // Neighbouring pieces of large I/Os become one request. What the kernel's guard kept from the probe is known: more,
    // the busier the host is.
    let seen = ours + missed;
    let is_whole = run.load == "heavy" && ours > requests || (seen - requests).abs() < requests * 0.01;
    assert!(is_whole, "{ours} I/Os by the exporter and {missed} missed, {requests} requests by the kernel");
    format!(
        "{members} members, {compared} of {} compared; {ours:.0} I/Os by the exporter in {} s ({:.0} a second), {requests:.0} requests by the kernel (missed {missed}, dropped {dropped}, unmatched {unmatched}); at least {least:.0} in the fullest window; {scrapes:.0} scrapes, the longest {duration:.2} s",
        members * operations,
        run.seconds,
        ours / run.seconds as f64,
    )
}

/// A part of the matrix, small enough for every run of the tests: no false alert, and no member missed that is beyond
/// both thresholds twice over. What is nearer is for the whole matrix to say; here windows are a twentieth.
pub(crate) fn part(kernel: &Kernel, base: &Path, modules: &Path) -> Outcome {
    let part =
        Run { sizes: &[2, 4], load: "mixed", rate: 8, seconds: 100, factor: 20, must: 2.0, must_not: 0.0 };
    let directory = tempfile::tempdir().unwrap();
    let (answers, figures) = run(&part, directory.path(), kernel, base, modules)?;
    let count = |verdict: &str| answers.iter().filter(|answer| answer.verdict() == verdict).count();
    // On a host with nothing else to do the delays of 5 ms and more are that far beyond; on any, 50 ms are.
    assert!(
        count("FALSE ALERT") == 0 && count("MISSED") == 0 && count("found") >= part.sizes.len(),
        "{}\n{}\n{figures}",
        report::table(&answers),
        report::csv(&answers)
    );
    Ok(format!("{} found, {} quiet; {figures}", count("found"), count("quiet")))
}

/// All of it, for each load.
pub(crate) fn whole(
    kernel: &Kernel,
    base: &Path,
    modules: &Path,
    loads: &[&str],
    seconds: u64,
    factor: u32,
) -> Outcome {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("detection");
    let file = kept.join("detection.csv");
    let mut all = Vec::new();
    for &load in loads {
        let rate = RATES.iter().find(|(name, _)| *name == load).expect("a load has a rate").1;
        let run = Run { sizes: &[2, 3, 4, 8], load, rate, seconds, factor, must: 1.0, must_not: 0.9 };
        let directory = kept.join(load);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let (answers, figures) = self::run(&run, &directory, kernel, base, modules)?;
        say(format_args!("{load}: {figures}"));
        all.extend(answers);
        fs::write(&file, report::csv(&all)).unwrap();
    }
    say(report::by_delay(&all));
    say(report::table(&all));
    Ok(format!("all cells are in {}", file.display()))
}
