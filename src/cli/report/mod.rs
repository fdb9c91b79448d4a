//! `tapster report`: run probes for a while, then print what they counted in that time.

mod folded;
mod json;
mod measure;
#[cfg(test)]
mod tests;
mod text;
mod unit;

use super::{
    FAILURE, ReportArgs, USAGE, lacks,
    output::{create, fill, print},
    report as report_diagnostics,
    watch::{End, Loss, Ticks, Until, WatchError, Watched, losses, seconds, watch},
};
use crate::{
    config,
    exporter::{Exporter, Failure, Options},
    family::{MetricFamily, Value},
    kernel::Kernel,
    name,
    owner::Trust,
    source::Source,
    status::Down,
    telemetry::{self, LogFormat},
};
use measure::{Peaks, Table};
use std::{
    collections::HashMap,
    io::{self, ErrorKind, IsTerminal, Write},
    os::unix::process::ExitStatusExt,
    process::ExitStatus,
    time::{Duration, Instant},
};
use tapster_ebpf::probe::Probe as Declared;
use terminal_size::{Width, terminal_size_of};
use text::Layout;

/// How often the line that shows progress is written.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// Shortest time between two readings while probes count.
const SHORTEST_TICK: Duration = Duration::from_millis(50);
/// How long the end of a report waits for files of programs whose functions it names.
const NAMING: Duration = Duration::from_secs(30);
/// Exit status where the command is not there, and where it cannot be executed, as shells have it.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;
/// What a shell adds to the number of the signal that ended a command.
const SIGNALLED: i32 = 128;

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

/// What was counted, ready to be printed.
#[derive(Debug)]
struct Report {
    elapsed: Duration,
    end: End,
    /// Program and arguments.
    command: Vec<String>,
    probes: Vec<Probe>,
    tables: Vec<Table>,
    losses: Vec<Loss>,
}

/// A probe as it was at the end.
#[derive(Debug)]
struct Probe {
    name: String,
    down: Option<Down>,
    /// Ends that found no start; `None` for a probe of single events.
    unmatched: Option<f64>,
}

impl Report {
    fn down(&self) -> impl Iterator<Item = (&str, &Down)> {
        self.probes.iter().filter_map(|probe| Some((probe.name.as_str(), probe.down.as_ref()?)))
    }
}

pub(super) fn report(args: &ReportArgs) -> anyhow::Result<u8> {
    telemetry::init("warn", LogFormat::Text)?;
    let request = args.probes.request(&args.what, Trust::Everybody);
    let config = match config::load(&request) {
        Ok(config) => config,
        Err(error) => {
            tell!("error: {error}");
            return Ok(USAGE);
        }
    };
    if report_diagnostics(&config.diagnostics) {
        return Ok(USAGE);
    }
    let kernel = Kernel::detect(&args.host.paths());
    if lacks(&kernel) {
        return Ok(FAILURE);
    }
    let (probes, diagnostics) = tapster_ebpf::check::select(config.probes, &kernel.target());
    if report_diagnostics(&diagnostics) {
        return Ok(USAGE);
    }
    // Before anything is counted that then could not be written.
    let output = match &args.output {
        None => None,
        Some(path) => Some((create(path)?, path)),
    };
    let keeps_to_command = !args.command.is_empty() && !args.system_wide;
    let options = Options { run_stats: false, attach: true, command: keeps_to_command };
    let start = Instant::now();
    let (exporter, failures, times) =
        Exporter::start(&probes, &kernel, &args.host.host(), config.reasons, options);
    // Nothing is attached before all is loaded.
    let attached = start + times.compile + times.load;
    for failure in &failures {
        let Down { reason, message } = &failure.down;
        // Diagnostics and the verifier's log have lines of their own.
        let gap = if message.contains('\n') { '\n' } else { ' ' };
        tell!("error: the probe `{}` is down ({reason}):{gap}{}", failure.name, message.trim_end());
    }
    for (name, limit) in exporter.limits() {
        tell!("warning: the probe `{name}` runs, but {}", limit.message);
    }
    for running in exporter.probes() {
        for what in running.passed() {
            tell!("warning: the probe `{}`: {what}", running.name());
        }
    }
    if exporter.up() == 0 {
        // What does not compile is the user's mistake, unless it is shipped; what the kernel refuses is not.
        let is_mistake = |failure: &Failure| {
            let shipped = |probe: &Declared| config::group(probe).is_some();
            failure.down.reason == "compile"
                && !probes.iter().any(|probe| probe.name.value == failure.name && shipped(probe))
        };
        return Ok(if failures.iter().all(is_mistake) { USAGE } else { FAILURE });
    }
    let mut metrics = measure::metrics(&exporter, &probes, keeps_to_command);
    if args.folded && !metrics.iter().any(measure::Metric::has_stacks) {
        tell!("error: none of the probes has a stack for `--folded`\n  hint: labels: {{ stack: ustack }}");
        return Ok(USAGE);
    }
    exporter.is_private();
    let mut peaks = Peaks::of(&metrics);
    let before = exporter.collect();
    let begun = Instant::now();
    let until = match (args.command.as_slice(), args.interval) {
        ([], None) => Until::Interrupt,
        ([], Some(interval)) => Until::Time(interval),
        (command, most) => Until::Command { command, most },
    };
    announce(&until, exporter.up());
    // The terminal is the command's while it runs.
    let shows_progress = args.command.is_empty() && io::stderr().is_terminal();
    let window = measure::window(&exporter).map(|window| window.max(SHORTEST_TICK));
    let every = [shows_progress.then_some(PROGRESS_EVERY), window].into_iter().flatten().min();
    let mut shown: Option<Duration> = None;
    let mut tick = |elapsed: Duration| {
        let families = exporter.collect();
        peaks.see(&families);
        if shows_progress && shown.is_none_or(|shown| elapsed >= shown + PROGRESS_EVERY / 2) {
            shown = Some(elapsed);
            let events = measure::events(&metrics, &measure::since(&before, &families));
            progress(&format!("{:.0} s, {events:.0} events", elapsed.as_secs_f64()));
        }
    };
    let watched = watch(&exporter, &until, every.map(|every| Ticks { every, tick: &mut tick }));
    if shows_progress {
        progress("");
    }
    let Watched { end, running, .. } = match watched {
        Ok(watched) => watched,
        Err(WatchError::Command { program, source }) => return Ok(not_started(&program, &source)),
        Err(error) => return Err(error.into()),
    };
    let elapsed = begun.elapsed();
    let after = exporter.collect_named(NAMING);
    measure::limit(&mut metrics, attached.elapsed(), begun.elapsed());
    peaks.see(&after);
    let counted = measure::since(&before, &after);
    let top = args.top.and_then(|top| usize::try_from(top).ok());
    let tables = measure::tables(
        &metrics,
        &counted,
        &peaks,
        &exporter.reasons(),
        elapsed.as_secs_f64(),
        (args.sort, top),
    );
    let report = Report {
        elapsed,
        end,
        command: args.command.iter().map(|word| name::escape(word.as_encoded_bytes())).collect(),
        probes: states(&exporter, &failures, (&before, &after)),
        tables,
        losses: losses(&counted),
    };
    let text = if args.json {
        format!("{:#}\n", json::json(&report))
    } else if args.folded {
        folded::folded(&report)
    } else {
        text::text(&report, layout(args))
    };
    match &output {
        None => print(&text)?,
        Some((file, path)) => fill(file, path, text.as_bytes())?,
    }
    // Whoever goes on is not counted any more.
    drop(exporter);
    let end = match running {
        None => end,
        Some(running) => {
            tell!("the command goes on; its end is waited for");
            End::Command(running.finish()?)
        }
    };
    // None can be read any more: that is no report.
    if report.probes.iter().all(|probe| probe.down.is_some()) {
        return Ok(FAILURE);
    }
    Ok(match end {
        End::Time | End::Interrupt => 0,
        End::Command(status) => exit_status(status),
    })
}

/// Says what is waited for; nothing where a command has the terminal.
fn announce(until: &Until<'_>, probes: usize) {
    let probes = if probes == 1 { "1 probe".to_owned() } else { format!("{probes} probes") };
    match until {
        Until::Interrupt => tell!("counting with {probes}; Ctrl-C ends it and prints the report"),
        Until::Time(interval) => {
            tell!("counting with {probes} for {}; Ctrl-C ends it early", seconds(*interval));
        }
        Until::Command { .. } => {}
    }
}

/// Replaces the line that shows progress.
fn progress(text: &str) {
    let _ = write!(io::stderr(), "\r\x1b[K{text}");
}

/// Says why the command does not run; the exit status for that.
fn not_started(program: &str, error: &io::Error) -> u8 {
    tell!("error: `{program}` cannot be started: {error}");
    if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE }
}

/// The exit status that a shell would have.
fn exit_status(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| Some(SIGNALLED + status.signal()?));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILURE)
}

fn layout(args: &ReportArgs) -> Layout {
    let stdout = io::stdout();
    let is_terminal = args.output.is_none() && stdout.is_terminal();
    let columns =
        is_terminal.then(|| terminal_size_of(&stdout)).flatten().map(|(Width(columns), _)| columns.into());
    Layout { columns, bars: args.bars || is_terminal }
}

/// The probes as the last reading found them.
fn states(
    exporter: &Exporter,
    failures: &[Failure],
    (before, after): (&[MetricFamily], &[MetricFamily]),
) -> Vec<Probe> {
    let (before, after) = (unmatched(before), unmatched(after));
    exporter
        .status()
        .into_iter()
        .map(|status| {
            let failure = failures.iter().find(|failure| failure.name == status.name);
            let down = status.down.or_else(|| failure.map(|failure| failure.down.clone()));
            let earlier = before.get(status.name.as_str()).copied().unwrap_or(0.0);
            let unmatched = after.get(status.name.as_str()).map(|now| now - earlier);
            Probe { name: status.name, down, unmatched }
        })
        .collect()
}

/// Ends without a start, by probe.
fn unmatched(families: &[MetricFamily]) -> HashMap<&str, f64> {
    families
        .iter()
        .filter(|family| *family.name == *"tapster_probe_unmatched_total")
        .flat_map(|family| &family.samples)
        .filter_map(|sample| match sample.value {
            Value::Number(number) => Some((sample.labels.first()?.as_str(), number)),
            Value::Histogram(_) => None,
        })
        .collect()
}
