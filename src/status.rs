//! The state of a probe for people and scrapes: where it is attached, whether it is up, what it costs.

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
    /// The place of the declaration: `file:line`.
    pub source: String,
    /// Why the probe is down; `None` while it is up.
    pub down: Option<Down>,
    /// What it cannot report although it is up.
    pub limit: Option<Limit>,
    /// Attach points that the kernel has but refused, so that the next alternatives are used: a sentence for each.
    pub passed: Vec<String>,
    /// Optional events that it runs without: a sentence for each.
    pub absent: Vec<String>,
    /// Its programs, one for each attach point.
    pub programs: Vec<ProgramStatus>,
    /// Names of the metric families it feeds.
    pub families: Vec<String>,
    /// Label sets in the map now, and the most that it can hold.
    pub series: u64,
    /// See `series`.
    pub max_series: u64,
    /// Most kernel memory of its maps, bytes.
    pub memory_bytes: u64,
    /// Events dropped since start, by reason.
    pub dropped: Vec<(String, u64)>,
}

/// Why a probe is down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down {
    /// The cause.
    pub cause: Cause,
    /// The complete message, possibly several lines, for the log and the landing page.
    pub message: String,
}

/// The cause for which a probe is down. Its word is a value of the `reason` label, and must not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It waits for a file, or for a kernel module, to attach to.
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
    /// It is attached, but a switch of the host stops its programs.
    SwitchedOff,
    /// Its maps cannot be read.
    Collect,
    /// Reading it does not end in time.
    Slow,
    /// A bug of tapster.
    Internal,
}

impl Cause {
    /// All causes.
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

    /// The word in the label, in the JSON of a report and in messages.
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

/// Why the exporter is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnreadyReason {
    /// None of its probes is up.
    Nothing {
        /// Number of probes.
        probes: usize,
    },
    /// Required probes or groups with these names are not up, or do not exist.
    Required(Vec<String>),
}

impl fmt::Display for UnreadyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing { probes: 0 } => write!(f, "it has no probe for this kernel"),
            Self::Nothing { probes: 1 } => write!(f, "its probe is not up"),
            Self::Nothing { probes } => write!(f, "none of {probes} probes is up"),
            Self::Required(words) => {
                write!(f, "not up, but required: `{}`", words.join("`, `"))
            }
        }
    }
}

/// What a probe that is up cannot report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// A short stable word for the `reason` label: `symbols` (names of functions of the kernel).
    pub reason: &'static str,
    /// A sentence: what, why, and what to do.
    pub message: String,
}

/// One loaded program.
#[derive(Clone, Debug, Default)]
pub struct ProgramStatus {
    /// Attach point as written: `rawtracepoint:block:block_rq_issue`.
    pub attach_point: String,
    /// How it is attached, if there was a choice: `tp_btf`, `raw_tp`, `tracepoint`.
    pub mechanism: String,
    /// Number of functions or tracepoints to which it is attached; 0 for other events.
    pub functions: usize,
    /// Number of eBPF instructions.
    pub instructions: u64,
    /// Runs since it was loaded; 0 while the kernel does not count them (`bpf_stats_enabled`).
    pub runs: u64,
    /// Nanoseconds spent in those runs.
    pub run_ns: u64,
    /// Runs the kernel skipped because the program was already running on that CPU.
    pub missed: u64,
}

/// The state of the configuration.
#[derive(Clone, Debug)]
pub struct ConfigStatus {
    /// Its files and directories; empty if the shipped probes run.
    pub files: Vec<String>,
    /// When the running configuration was read.
    pub loaded: SystemTime,
    /// When the configuration was last read.
    pub tried: SystemTime,
    /// The errors of that reading; empty if there were none.
    pub problem: String,
    /// Settings that take effect only at the next start; empty if there are none.
    pub pending: String,
}

/// State of the push to an OTLP receiver.
#[derive(Clone, Debug, Default)]
pub struct PushStatus {
    /// The destination, without anything that may be secret.
    pub endpoint: String,
    /// `HTTP` or `gRPC`.
    pub protocol: &'static str,
    /// `cumulative`, `delta` or `lowmemory`.
    pub temporality: &'static str,
    /// The interval of pushes.
    pub interval: Duration,
    /// Pushes so far by result, a value of the label `result`.
    pub results: Vec<(&'static str, u64)>,
    /// Points that the receiver accepted so far.
    pub points: u64,
    /// Points that the receiver rejected so far.
    pub rejected: u64,
    /// Bytes sent so far.
    pub bytes: u64,
    /// When a push last succeeded.
    pub last_success: Option<SystemTime>,
    /// The last push.
    pub last: Option<LastPush>,
    /// The last push that was not accepted completely.
    pub last_problem: Option<LastPush>,
}

/// How a push ended.
#[derive(Clone, Debug)]
pub struct LastPush {
    /// When it ended.
    pub time: SystemTime,
    /// A value of the label `result`.
    pub result: &'static str,
    /// The error; empty if there was none.
    pub message: String,
    /// Its duration.
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
