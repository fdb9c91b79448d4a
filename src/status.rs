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
    /// A short stable word for the `reason` label: `waiting` (for a file), `sandbox` (needs rights that were given
    /// up), `compile`, `map`, `verifier`, `load`, `attach`,
    /// `collect`, `slow` (does not answer), `internal`.
    pub reason: &'static str,
    /// The whole story, possibly many lines, for the log and the landing page.
    pub message: String,
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
