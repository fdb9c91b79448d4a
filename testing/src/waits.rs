//! Programs that each sleep in one known way (`tests/programs/waits`), and the reasons that must be reported for them.

use super::{
    cases::Skip,
    command::{text, tool},
    control::sleeps::{MARK, SleepControl},
    fixture,
    metrics::Metrics,
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The part of a program's sleep that must have the right reason. Sleeps of less than a millisecond have no stack, and the
/// preparation of a sleep may wait for a lock that long.
const EXPLAINED: f64 = 0.95;
/// How far the sum over all reasons may differ from the program's own clock. The program reads its clock a little before it
/// leaves the processor and after it is back: some microseconds for each sleep of 10 ms and more, and a tenth of a millisecond
/// if the processor is emulated.
const TOLERANCE: f64 = 0.02;

/// Kinds whose every sleep waits for a block device, by the kernel's accounting of delays.
pub const FOR_BLOCKS: [&str; 8] = [
    "file_read",
    "file_write_part",
    "direct_read",
    "direct_write",
    "device_read",
    "device_direct",
    "page_fault",
    "block_request",
];

/// Whether the kernel's account of waits for blocks begins when the task goes to sleep: before 6.12.
fn accounts_are_exact(release: &str) -> bool {
    let mut numbers = release.split('.').map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) < (Some(6), Some(12))
}

/// The source files of the program.
pub fn sources() -> Vec<PathBuf> {
    let files = fs::read_dir(fixture::file("programs/waits")).unwrap();
    let mut sources: Vec<PathBuf> = files.map(|entry| entry.unwrap().path()).collect();
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "c"));
    sources.sort();
    sources
}

/// Builds it without libraries, so that it runs on any system.
pub fn build(directory: &Path) -> Result<PathBuf, Skip> {
    let program = directory.join("waits");
    text(tool("cc")?.args(["-O1", "-static", "-pthread"]).arg("-o").arg(&program).args(sources()));
    Ok(program)
}

/// The family that counts sleeps: by the name of the task, and by the reason if the probes have one.
#[derive(Clone, Debug)]
pub struct Family {
    pub name: &'static str,
    pub has_reason: bool,
    /// The file of probes.
    pub probes: String,
    /// Whether tasks with the control's mark have a label of their own, and only those are looked at.
    is_marked: bool,
}

/// The probes' label by the name of the task, and that of tasks with the control's mark.
const COMM: &str = "      comm: str(args.p.comm, 16)\n";
const MARKED: (&str, &str) = ("whose", "own");

impl Family {
    /// The same family, which takes for a test's own sleeps only those of marked tasks (`control::sleeps::mark`). A kind is the
    /// name of a task, and any program of the host may have that name: `flock FILE COMMAND` sleeps as `flock` until its command
    /// has ended. In guests nothing else runs.
    pub fn marked(self) -> Self {
        assert_eq!(self.probes.matches(COMM).count(), 1, "the probes have another form");
        let (label, own) = MARKED;
        let with = format!(
            "{COMM}      {label}: {{ value: args.p.signal.oom_score_adj, as: {{ {MARK}: {own}, default: others }} }}\n"
        );
        Self { probes: self.probes.replace(COMM, &with), is_marked: true, ..self }
    }

    /// The labels of a kind's sleeps.
    fn of<'a>(&self, kind: &'a str) -> Vec<(&'a str, &'a str)> {
        let own = self.is_marked.then_some(MARKED);
        std::iter::once(("comm", kind)).chain(own).collect()
    }
}

/// The library's family if it has such probes; otherwise that of the tests' own probes, without reasons.
pub fn family() -> Family {
    let library = fixture::repository().join("config/probes/sched.yaml");
    match fs::read_to_string(library) {
        Ok(probes) => {
            // Also by the name of the task, without a list of names.
            let reason = "    labels:\n      # A stack is walked";
            assert!(probes.contains(reason), "the library's probe has another form");
            let probes = probes
                .replace(reason, &format!("    labels:\n{COMM}      # A stack is walked"))
                .replace("    enabled: false\n", "");
            Family { name: "tapster_off_cpu_duration_seconds", has_reason: true, probes, is_marked: false }
        }
        Err(_) => Family {
            name: "tapster_site_sleep_duration_seconds",
            has_reason: false,
            probes: fs::read_to_string(fixture::file("probes/sleeps.yaml")).unwrap(),
            is_marked: false,
        },
    }
}

/// A program's report about itself.
#[derive(Clone, Debug)]
pub struct Truth {
    pub kind: String,
    /// Each of these is correct.
    reasons: Vec<String>,
    /// Duration of the calls that block, less the time on and waiting for a processor.
    slept: f64,
    /// How often it left the processor to sleep, by the kernel's count.
    voluntary: u64,
    /// The number of these that a control did not see completely; 0 without a control, as in guests, where nothing is hidden.
    lost: u64,
    /// How long it waited for block devices by the kernel's accounting of delays; `None` if that reported nothing.
    block_delay: Option<f64>,
    /// Stacks from `/proc/PID/stack` during the sleep, the most frequent first.
    stacks: Vec<String>,
}

/// Programs that slept, and sentences about those that this kernel does not support.
#[derive(Clone, Debug, Default)]
pub struct Truths {
    pub slept: Vec<Truth>,
    pub skipped: Vec<String>,
}

fn texts(list: &Value) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    items.map(|item| item.as_str().unwrap().to_owned()).collect()
}

impl Truths {
    /// Adds a program's line.
    pub fn add(&mut self, line: &str) {
        let json: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: `{line}`"));
        let kind = json["kind"].as_str().unwrap().to_owned();
        if let Some(why) = json["skipped"].as_str() {
            self.skipped.push(format!("{kind}: {why}"));
            return;
        }
        let number = |name: &str| json[name].as_f64().unwrap_or_else(|| panic!("no `{name}`: `{line}`"));
        let slept = number("seconds") - number("run_seconds") - number("run_queue_seconds");
        let stacks = json["stacks"].as_array().into_iter().flatten();
        let stacks = stacks.map(|stack| {
            format!("{} {} {}", stack["times"], stack["state"], texts(&stack["functions"]).join(" "))
        });
        let truth = Truth {
            kind,
            reasons: texts(&json["reasons"]),
            slept,
            voluntary: json["voluntary"].as_u64().unwrap_or_else(|| panic!("no `voluntary`: `{line}`")),
            lost: 0,
            // It is 0 if the accounting is off.
            block_delay: json["block_delay_seconds"].as_f64().filter(|seconds| *seconds > 0.0),
            stacks: stacks.collect(),
        };
        self.slept.push(truth);
    }

    /// Adds the losses of a control for each kind.
    pub fn beside(&mut self, control: &SleepControl) {
        for truth in &mut self.slept {
            truth.lost = control.lost(&truth.kind, truth.voluntary);
        }
        let sum = |of: fn(&Truth) -> u64| self.slept.iter().map(of).sum::<u64>();
        let (sleeps, lost) = (sum(|truth| truth.voluntary), sum(|truth| truth.lost));
        // Each kind has few sleeps; a control that sees none of them is useless.
        assert!(2 * lost <= sleeps, "the control lost {lost} of {sleeps} sleeps");
    }

    /// Number of kinds for whose waits for blocks the kernel has its own account.
    pub fn accounted(&self) -> usize {
        let accounted =
            |truth: &&Truth| truth.block_delay.is_some() && FOR_BLOCKS.contains(&truth.kind.as_str());
        self.slept.iter().filter(accounted).count()
    }

    /// Compares uninterruptible sleep for blocks with the kernel's own account; returns figures, or fails.
    ///
    /// Since 6.12 the kernel may begin a wait when another task's began, or not begin it at all and count from an older beginning, if
    /// the sleeper leaves the run queue later than it went to sleep (`__block_task` for a delayed dequeue). An account of more time
    /// than the program slept by its own clock is such a one, and no observer. Each other must agree.
    pub fn account(&self, family: &Family, metrics: &Metrics, release: &str) -> String {
        let accounts =
            self.slept.iter().filter_map(|truth| Some((truth, truth.off_account(family, metrics)?)));
        let (possible, impossible): (Vec<_>, Vec<_>) =
            accounts.partition(|(truth, _)| accounts_are_exact(release) || truth.account_is_possible());
        let worst = possible.iter().max_by(|(_, a), (_, b)| a.abs().total_cmp(&b.abs()));
        let account = worst.map_or_else(String::new, |(truth, off)| {
            let off = off * 100.0;
            assert!(
                off.abs() <= TOLERANCE * 100.0,
                "{} is {off:+.2} % off the kernel's account of delays for blocks",
                truth.kind
            );
            format!(" (at most {off:+.2} % off, {})", truth.kind)
        });
        let left_out = match impossible.len() {
            0 => String::new(),
            number => format!("; {number} accounts have more than the program slept"),
        };
        format!(
            "{} kinds as the kernel's account of delays for blocks has it{account}{left_out}",
            possible.len()
        )
    }

    /// Kinds for which the probes report something else and the control lost something, with the report.
    pub fn hidden(&self, family: &Family, metrics: &Metrics) -> Vec<(String, String)> {
        let lossy = self.slept.iter().filter(|truth| truth.lost > 0);
        let judged = lossy.map(|truth| (truth, truth.judge(family, metrics)));
        judged.filter_map(|(truth, verdict)| Some((truth.kind.clone(), verdict.err()?))).collect()
    }

    /// All kinds for which the probes report something else, with the report.
    pub fn wrong(&self, family: &Family, metrics: &Metrics) -> Vec<(String, String)> {
        let judged = self.slept.iter().map(|truth| (truth, truth.judge(family, metrics)));
        judged.filter_map(|(truth, verdict)| Some((truth.kind.clone(), verdict.err()?))).collect()
    }

    /// Removes kinds that are run again.
    pub fn forget(&mut self, kinds: &[String]) {
        self.slept.retain(|truth| !kinds.contains(&truth.kind));
    }

    /// Compares them with the counts of the probes; returns figures in one line, or fails with all errors.
    pub fn check(&self, family: &Family, metrics: &Metrics, release: &str) -> String {
        let mut wrong = Vec::new();
        let (mut worst, mut least) = ((0.0, ""), (1.0, ""));
        for truth in &self.slept {
            match truth.judge(family, metrics) {
                Ok(Verdict { off, explained }) => {
                    if f64::abs(off) > f64::abs(worst.0) {
                        worst = (off, &truth.kind);
                    }
                    if explained < least.0 {
                        least = (explained, &truth.kind);
                    }
                }
                Err(why) => wrong.push(why),
            }
        }
        assert!(wrong.is_empty(), "{} of {} kinds:\n{}", wrong.len(), self.slept.len(), wrong.join("\n"));
        assert!(self.slept.len() >= 25, "only {} kinds; skipped: {:?}", self.slept.len(), self.skipped);
        let (off, kind) = worst;
        let mut figures =
            vec![format!("{} kinds, the sum at most {:+.2} % off ({kind})", self.slept.len(), off * 100.0)];
        if family.has_reason {
            let (part, kind) = least;
            figures.push(format!("at least {:.1} % with the right reason ({kind})", part * 100.0));
        }
        figures.push(self.account(family, metrics, release));
        if !self.skipped.is_empty() {
            figures.push(format!("not here: {}", self.skipped.join("; ")));
        }
        figures.join(", ")
    }
}

/// The relative error of the sum, and the part with the right reason.
struct Verdict {
    off: f64,
    explained: f64,
}

impl Truth {
    /// The relative error of uninterruptible sleep for blocks against the kernel's account.
    fn off_account(&self, family: &Family, metrics: &Metrics) -> Option<f64> {
        let delay = self.block_delay.filter(|_| FOR_BLOCKS.contains(&self.kind.as_str()))?;
        let sum = format!("{}_sum", family.name);
        let for_blocks = self.reasons.iter().map(|reason| {
            let mut labels = family.of(&self.kind);
            labels.extend([("reason", reason.as_str()), ("state", "uninterruptible")]);
            metrics.sum(&sum, &labels)
        });
        Some((for_blocks.sum::<f64>() - delay) / delay)
    }

    /// Whether the kernel's account of delays has no more time than the program slept.
    fn account_is_possible(&self) -> bool {
        self.block_delay.is_none_or(|delay| delay <= self.slept * (1.0 + TOLERANCE))
    }

    fn judge(&self, family: &Family, metrics: &Metrics) -> Result<Verdict, String> {
        let Self { kind, reasons, slept, voluntary, lost, stacks, block_delay: _ } = self;
        let sum = format!("{}_sum", family.name);
        let own = family.of(kind);
        let whole = metrics.sum(&sum, &own);
        let seen = || stacks.first().map_or_else(String::new, |stack| format!("\n    {stack}"));
        // A hidden sleep counts as no longer than the longest one; at most as many may be hidden as a control lost.
        let sleeps = metrics.histogram(family.name, &own);
        let hidden = voluntary.saturating_sub(sleeps.count());
        let longest = if hidden > 0 { sleeps.bucket_of_rank(sleeps.count()).1 } else { 0.0 };
        let is_hidden = (1..=*lost).contains(&hidden) && whole + hidden as f64 * longest >= *slept;
        let off = if is_hidden && whole < *slept { 0.0 } else { (whole - slept) / slept };
        // A kind that never slept proves nothing.
        // One too many is somebody else's, or counted twice.
        if !(*slept > 0.01 && off.abs() <= TOLERANCE && hidden <= *lost && sleeps.count() <= *voluntary) {
            return Err(format!(
                "{kind}: slept {slept:.6} s in {voluntary} sleeps, counted {whole:.6} s in {}, {hidden} hidden, {lost} from the control{}",
                sleeps.count(),
                seen()
            ));
        }
        if !family.has_reason {
            return Ok(Verdict { off, explained: 1.0 });
        }
        let of = |reason: &str| {
            let labels: Vec<_> = own.iter().copied().chain([("reason", reason)]).collect();
            metrics.sum(&sum, &labels)
        };
        let explained = reasons.iter().map(|reason| of(reason)).sum::<f64>() / whole;
        if explained < EXPLAINED {
            let mut found: Vec<String> = metrics.values(&sum, &own, "reason");
            found.sort();
            found.dedup();
            let found: Vec<String> =
                found.iter().map(|reason| format!("{reason} {:.1} %", of(reason) / whole * 100.0)).collect();
            return Err(format!(
                "{kind}: {} expected, but {}{}",
                reasons.join(" or "),
                found.join(", "),
                seen()
            ));
        }
        Ok(Verdict { off, explained })
    }
}
