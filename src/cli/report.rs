//! `tapster report`: runs probes for a while, then prints what they counted in that time.

use super::{
    FAILURE, HostArgs, ProbeArgs, USAGE,
    command::{exit_status, not_started},
    output::{create, fill, print},
    stop::{Stop, capable, configured, selected},
};
use crate::{
    config, duration,
    exporter::{Exporter, StartFailure, StartOptions},
    kernel::Kernel,
    owner::Trust,
    report::{self, FirstReading, Progress, ReportLayout, ReportMetric, Sort},
    status::{Cause, Down},
    telemetry::{self, LogFormat},
    watch::{WatchEnd, WatchError, WatchLimit, seconds},
};
use clap::Args;
use std::{
    ffi::OsString,
    io::{self, IsTerminal, Write},
    path::PathBuf,
    time::{Duration, Instant},
};
use tapster_ebpf::probe::Probe as Declared;
use terminal_size::{Width, terminal_size_of};

/// How often the progress line is written.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// What follows the flags in `--help`.
pub(super) const AFTER_HELP: &str = "\
Examples:
  tapster report                          the shipped probes, until Ctrl-C
  tapster report block_io --for 10s       one of them, for ten seconds
  tapster report block_io -- fio job.fio  as long as a command runs
  tapster report sched -- make            what a command and its children waited for
  tapster report own.yaml --top 5         a file of probes, five rows for each metric
  tapster report --for 10s -- make        the first ten seconds of it
  tapster report cpu.yaml --folded        its stacks, for flamegraph.pl or inferno-flamegraph

Exit status: the command's, or 128 + N if signal N ended it; 127 or 126 if it cannot be started; 1 if no probe \
came up; 2 for wrong usage or configuration.";

/// Flags of `report`.
#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub struct ReportArgs {
    /// Shipped probes, groups of them such as `sched`, files of probes in YAML, directories of such files, or `-` for standard
    /// input [default: the shipped probes]
    #[arg(value_name = "NAME|FILE|DIR|-")]
    pub what: Vec<String>,
    /// Which probes.
    #[command(flatten)]
    pub probes: ProbeArgs,
    /// How long to count: `10s`, `2m`, or a number of seconds; without it and without a command, until Ctrl-C. A command that
    /// lasts longer goes on without being counted
    #[arg(long = "for", value_name = "TIME", value_parser = duration::or_seconds)]
    pub interval: Option<Duration>,
    /// Count the whole host while the command runs, also with probes that keep to the command
    #[arg(long = "system-wide", requires = "command")]
    pub system_wide: bool,
    /// Most rows of a table; what is left out is added up in one
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub top: Option<u32>,
    /// What rows are sorted by, the highest first; counters and gauges have one value, which is their total
    #[arg(long, value_name = "COLUMN", default_value = "total")]
    pub sort: Sort,
    /// Show distributions also where the output is not a terminal
    #[arg(long, conflicts_with = "json")]
    pub bars: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Print only stacks, in the form that flame graphs are made of: `OUTERMOST;…;INNERMOST TOTAL`
    #[arg(long, conflicts_with_all = ["json", "bars"])]
    pub folded: bool,
    /// File for the report, which otherwise goes to standard output, behind what the command writes there
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Where the host's files are.
    #[command(flatten)]
    pub host: HostArgs,
    /// Count as long as this command runs; its exit status becomes that of `tapster report`. The scheduler's probes
    /// (`sched`) count the command and its children, the others the whole host
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

pub(super) fn main(args: &ReportArgs) -> Result<u8, Stop> {
    telemetry::init("warn", LogFormat::Text)?;
    let selection = args.probes.selection(&args.what, Trust::Everybody);
    let config = configured(&selection)?;
    let kernel = capable(Kernel::detect(&args.host.host()))?;
    let probes = selected(config.probes, &kernel)?;
    // The file is created before counting, so that a result cannot be lost.
    let output = match &args.output {
        None => None,
        Some(path) => Some((create(path)?, path)),
    };
    let keeps_to_command = !args.command.is_empty() && !args.system_wide;
    let options = StartOptions { run_stats: false, attach: true, command: keeps_to_command };
    let start = Instant::now();
    let (exporter, failures, times) =
        Exporter::start(&probes, &kernel, &args.host.host(), config.reasons, options);
    // Attaching begins after all probes are loaded.
    let attached = start + times.compile + times.load;
    for failure in &failures {
        let Down { cause, message } = &failure.down;
        // Diagnostics and the verifier's log have several lines.
        let gap = if message.contains('\n') { '\n' } else { ' ' };
        tell!("error: the probe `{}` is down ({cause}):{gap}{}", failure.name, message.trim_end());
    }
    for (name, limit) in exporter.limits() {
        tell!("warning: the probe `{name}` runs, but {}", limit.message);
    }
    for running in exporter.probes() {
        for what in running.passed() {
            tell!("warning: the probe `{}`: {what}", running.name());
        }
        for event in running.absent() {
            tell!("warning: the probe `{}`: {event}", running.name());
        }
    }
    if exporter.up() == 0 {
        // A probe that does not compile is the user's error, unless it is shipped; a refusal of the kernel is not.
        let is_mistake = |failure: &StartFailure| {
            let shipped = |probe: &Declared| config::group(probe).is_some();
            failure.down.cause == Cause::Compile
                && !probes.iter().any(|probe| probe.name.value == failure.name && shipped(probe))
        };
        return Ok(if failures.iter().all(is_mistake) { USAGE } else { FAILURE });
    }
    let metrics = report::metrics(&exporter, &probes, keeps_to_command);
    if args.folded && !metrics.iter().any(ReportMetric::has_stacks) {
        tell!("error: none of the probes has a stack for `--folded`\n  hint: labels: {{ stack: ustack }}");
        return Ok(USAGE);
    }
    exporter.is_private();
    let counting = FirstReading::begin(&exporter, metrics);
    let until = match (args.command.as_slice(), args.interval) {
        ([], None) => WatchLimit::Interrupt,
        ([], Some(interval)) => WatchLimit::Time(interval),
        (command, most) => WatchLimit::Command { command, most },
    };
    announce(&until, exporter.up());
    // While the command runs, the terminal belongs to it.
    let shows_progress = args.command.is_empty() && io::stderr().is_terminal();
    let mut show = |elapsed: Duration, events: f64| {
        progress(&format!("{:.0} s, {events:.0} events", elapsed.as_secs_f64()));
    };
    let shown = shows_progress.then_some(Progress { every: PROGRESS_EVERY, show: &mut show });
    let top = args.top.and_then(|top| usize::try_from(top).ok());
    let counted = counting.finish(&until, attached, &failures, (args.sort, top), shown);
    if shows_progress {
        progress("");
    }
    let (report, running) = match counted {
        Ok(counted) => counted,
        Err(WatchError::Command { program, source }) => {
            tell!("error: `{program}` cannot be started: {source}");
            return Ok(not_started(&source));
        }
        Err(error) => return Err(error.into()),
    };
    let text = if args.json {
        format!("{:#}\n", report::json(&report))
    } else if args.folded {
        report::folded(&report)
    } else {
        report::text(&report, layout(args))
    };
    match &output {
        None => print(&text)?,
        Some((file, path)) => fill(file, path, text.as_bytes())?,
    }
    // A command that goes on is no longer counted.
    drop(exporter);
    let end = match running {
        None => report.end(),
        Some(running) => {
            tell!("the command goes on; its end is waited for");
            WatchEnd::Command(running.finish()?)
        }
    };
    // No probe can be read any more, so there is no report.
    if report.is_down() {
        return Ok(FAILURE);
    }
    Ok(match end {
        WatchEnd::Time | WatchEnd::Interrupt => 0,
        WatchEnd::Command(status) => exit_status(status),
    })
}

/// Prints what ends the counting; nothing if a command has the terminal.
fn announce(until: &WatchLimit<'_>, probes: usize) {
    let probes = if probes == 1 { "1 probe".to_owned() } else { format!("{probes} probes") };
    match until {
        WatchLimit::Interrupt => tell!("counting with {probes}; Ctrl-C ends it and prints the report"),
        WatchLimit::Time(interval) => {
            tell!("counting with {probes} for {}; Ctrl-C ends it early", seconds(*interval));
        }
        WatchLimit::Command { .. } => {}
    }
}

/// Replaces the progress line.
fn progress(text: &str) {
    let _ = write!(io::stderr(), "\r\x1b[K{text}");
}

fn layout(args: &ReportArgs) -> ReportLayout {
    let stdout = io::stdout();
    let is_terminal = args.output.is_none() && stdout.is_terminal();
    let columns =
        is_terminal.then(|| terminal_size_of(&stdout)).flatten().map(|(Width(columns), _)| columns.into());
    ReportLayout { columns, bars: args.bars || is_terminal }
}
