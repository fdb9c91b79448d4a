//! What a person or a scrape is told about a probe: where it attached, whether it is up, what it costs.

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
#[derive(Clone, Debug)]
pub struct Down {
    /// A short stable word for the `reason` label: `waiting` (for a file), `compile`, `map`, `verifier`, `load`, `attach`,
    /// `collect`, `internal`.
    pub reason: &'static str,
    /// The whole story, possibly many lines, for the log and the landing page.
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
