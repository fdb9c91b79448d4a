//! What a person or a scrape is told about a probe: where it attached, whether it is up, what it costs.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

/// State of one probe of the running exporter.
#[derive(Clone, Debug, Default)]
pub struct ProbeStatus {
    /// The probe's name from its YAML.
    pub name: String,
    /// The probe's help text.
    pub help: String,
    /// Where the declaration stands: `file:line`.
    pub source: String,
    /// Why the probe is down; `None` while it is up.
    pub down: Option<Down>,
    /// What it cannot tell though it is up.
    pub limit: Option<Limit>,
    /// Attach points that the kernel has and refused, for which the next alternatives are used: each in a sentence.
    pub passed: Vec<String>,
    /// Its programs, one for each attach point.
    pub programs: Vec<ProgramStatus>,
    /// Names of the metric families it feeds.
    pub families: Vec<String>,
    /// Label sets now in the map, and the most it can hold.
    pub series: u64,
    /// See `series`.
    pub max_series: u64,
    /// Kernel memory its maps take at the most, bytes.
    pub memory_bytes: u64,
    /// Events dropped since start, by reason.
    pub dropped: Vec<(String, u64)>,
}

/// Why a probe does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down {
    /// What kept it from running.
    pub cause: Cause,
    /// The whole story, possibly many lines, for the log and the landing page.
    pub message: String,
}

/// What keeps a probe from running. Its word is a value of the `reason` label, and stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It is attached when a file, or a module of the kernel, is there.
    Waiting,
    /// It needs rights that were given up after the start.
    Sandbox,
    /// It does not compile for this kernel.
    Compile,
    /// A map could not be made.
    Map,
    /// The verifier refused a program.
    Verifier,
    /// A program was not loaded, for another reason.
    Load,
    /// A program was not attached.
    Attach,
    /// It is attached, and a switch of the host keeps the kernel from calling it.
    SwitchedOff,
    /// Its maps cannot be read.
    Collect,
    /// What it is read from does not answer in time.
    Slow,
    /// A mistake of this program.
    Internal,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Waiting,
        Self::Sandbox,
        Self::Compile,
        Self::Map,
        Self::Verifier,
        Self::Load,
        Self::Attach,
        Self::SwitchedOff,
        Self::Collect,
        Self::Slow,
        Self::Internal,
    ];

    /// As the label, the JSON of a report and people have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sandbox => "sandbox",
            Self::Compile => "compile",
            Self::Map => "map",
            Self::Verifier => "verifier",
            Self::Load => "load",
            Self::Attach => "attach",
            Self::SwitchedOff => "switched_off",
            Self::Collect => "collect",
            Self::Slow => "slow",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Why what should run does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unready {
    /// No probe is up, of so many.
    Nothing {
        /// How many there are, at least one.
        probes: usize,
    },
    /// Probes that these words mean are required and not up, or there are none.
    Required(Vec<String>),
}

impl fmt::Display for Unready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing { probes: 1 } => write!(f, "its probe is not up"),
            Self::Nothing { probes } => write!(f, "none of {probes} probes is up"),
            Self::Required(words) => {
                write!(f, "not up, but required: `{}`", words.join("`, `"))
            }
        }
    }
}

/// What a probe that is up cannot tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// A short stable word for the `reason` label: `symbols` (names of functions of the kernel).
    pub reason: &'static str,
    /// In a sentence: what, why, and what to do.
    pub message: String,
}

/// One loaded program.
#[derive(Clone, Debug, Default)]
pub struct ProgramStatus {
    /// Attach point as written: `rawtracepoint:block:block_rq_issue`.
    pub attach_point: String,
    /// How it was attached, where there was a choice: `tp_btf`, `raw_tp`, `tracepoint`.
    pub mechanism: String,
    /// How many functions it is attached to; 0 for events that are none's.
    pub functions: usize,
    /// Number of eBPF instructions.
    pub instructions: u64,
    /// Runs since load; 0 while the kernel does not count (`bpf_stats_enabled`).
    pub runs: u64,
    /// Nanoseconds spent in those runs.
    pub run_ns: u64,
    /// Runs the kernel skipped because the program was already running on that CPU.
    pub missed: u64,
}

/// What became of the configuration.
#[derive(Clone, Debug)]
pub struct ConfigStatus {
    /// The files and directories that it is read from; empty where the shipped probes run.
    pub files: Vec<String>,
    /// When what runs was read.
    pub loaded: SystemTime,
    /// When it was read last.
    pub tried: SystemTime,
    /// What was wrong with it then; empty if nothing was.
    pub problem: String,
    /// What it says that holds only from the next start on; empty if there is nothing.
    pub pending: String,
}

/// State of the push to an OTLP receiver.
#[derive(Clone, Debug, Default)]
pub struct PushStatus {
    /// Where to, without what may be secret.
    pub endpoint: String,
    /// `HTTP` or `gRPC`.
    pub protocol: &'static str,
    /// `cumulative`, `delta` or `lowmemory`.
    pub temporality: &'static str,
    /// How often.
    pub interval: Duration,
    /// How pushes ended so far, by the values of the label `result`.
    pub results: Vec<(&'static str, u64)>,
    /// Points that were taken so far.
    pub points: u64,
    /// Points that were rejected so far.
    pub rejected: u64,
    /// Bytes sent so far.
    pub bytes: u64,
    /// When a push was taken last.
    pub last_success: Option<SystemTime>,
    /// The last push.
    pub last: Option<LastPush>,
    /// The last push of which not all was taken.
    pub last_problem: Option<LastPush>,
}

/// How a push ended.
#[derive(Clone, Debug)]
pub struct LastPush {
    /// When.
    pub time: SystemTime,
    /// A value of the label `result`.
    pub result: &'static str,
    /// What went wrong; empty if nothing did.
    pub message: String,
    /// How long it took.
    pub took: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_a_word_that_is_documented() {
        let document = include_str!("../docs/metrics.md");
        let start = document.find("`reason` of a probe that is down:").unwrap();
        let table = &document[start..document.find("`reason` of a probe that is up:").unwrap()];
        let documented: Vec<&str> = table
            .lines()
            .filter_map(|line| line.strip_prefix("| `"))
            .filter_map(|line| line.split_once(" |"))
            .flat_map(|(words, _)| words.split(", "))
            .map(|word| word.trim_matches('`'))
            .collect();
        let mut words = Cause::ALL.map(Cause::word).to_vec();
        for word in &words {
            assert_eq!(documented.iter().filter(|documented| *documented == word).count(), 1, "{word}");
        }
        words.dedup();
        assert_eq!(words.len(), documented.len(), "{documented:?}");
    }
}
