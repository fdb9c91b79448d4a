//! Waits while probes count: for a time, for Ctrl-C, or as long as a command runs.

use crate::{
    exporter::Exporter,
    family::{MetricFamily, SampleValue},
    sys,
};
use std::{
    ffi::OsString,
    future, io,
    process::ExitStatus,
    time::{Duration, Instant},
};
use tokio::{
    process::Child,
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
};

/// How often starts without an end are given up.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// How often cgroups are named, if a probe names them, and CPUs that came online are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The end of a watch. Ctrl-C and SIGTERM end it as well, unless there is a command.
#[derive(Debug)]
pub enum WatchLimit<'a> {
    /// Only these signals.
    Interrupt,
    /// After this time.
    Time(Duration),
    /// At the end of this command, or after `most`. Signals are for the command.
    Command {
        /// The program and its arguments.
        command: &'a [OsString],
        /// Longest time that it is watched.
        most: Option<Duration>,
    },
}

/// The event that ended a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchEnd {
    /// The time was over.
    Time,
    /// Ctrl-C or SIGTERM.
    Interrupt,
    /// The command ended with this status.
    Command(ExitStatus),
}

/// Why watching failed.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The command could not be started.
    #[error("`{program}` cannot be started: {source}")]
    Command {
        /// The program as given.
        program: String,
        /// The error.
        source: io::Error,
    },
    /// Waiting for the clock, for signals, or for the end of the command failed.
    #[error("cannot wait: {0}")]
    Wait(#[from] io::Error),
}

/// Work that is repeated meanwhile.
#[expect(missing_debug_implementations, reason = "it holds a function")]
pub struct Repetition<'a> {
    /// The interval.
    pub every: Duration,
    /// Called with the time so far.
    pub tick: &'a mut dyn FnMut(Duration),
}

/// The result of a watch.
#[derive(Debug)]
pub struct WatchResult {
    /// Its duration.
    pub time: Duration,
    /// The event that ended it.
    pub end: WatchEnd,
    /// The command, if it still runs.
    pub running: Option<RunningCommand>,
}

/// A command that still runs after it was watched.
#[derive(Debug)]
pub struct RunningCommand {
    runtime: Runtime,
    child: Child,
    signals: EndSignals,
}

impl RunningCommand {
    /// Waits for its end, and forwards signals to it.
    pub fn finish(self) -> io::Result<ExitStatus> {
        let Self { runtime, mut child, mut signals } = self;
        runtime.block_on(async {
            loop {
                tokio::select! {
                    status = child.wait() => return status,
                    number = signals.received() => hand_on(&child, number),
                }
            }
        })
    }
}

/// The signals that would end this process.
#[derive(Debug)]
struct EndSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl EndSignals {
    fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn received(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => libc::SIGINT,
            _ = self.terminate.recv() => libc::SIGTERM,
        }
    }
}

/// Watches until the end. The command starts together with the watch.
pub fn watch(
    exporter: &Exporter,
    until: &WatchLimit<'_>,
    ticks: Option<Repetition<'_>>,
) -> Result<WatchResult, WatchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (time, end, left) = runtime.block_on(wait(exporter, until, ticks))?;
    let running = left.map(|(child, signals)| RunningCommand { runtime, child, signals });
    Ok(WatchResult { time, end, running })
}

async fn wait(
    exporter: &Exporter,
    until: &WatchLimit<'_>,
    ticks: Option<Repetition<'_>>,
) -> Result<(Duration, WatchEnd, Option<(Child, EndSignals)>), WatchError> {
    // Handlers are installed first, so that no signal comes between the start of the command and its handler.
    let mut signals = EndSignals::new()?;
    let begun = Instant::now();
    let (limit, mut child) = match until {
        WatchLimit::Interrupt => (None, None),
        WatchLimit::Time(limit) => (Some(*limit), None),
        WatchLimit::Command { command, most } => (*most, Some(start(command)?)),
    };
    let (every, mut tick) = match ticks {
        Some(Repetition { every, tick }) => (every, Some(tick)),
        None => (SWEEP_EVERY, None),
    };
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut sweeps = tokio::time::interval(SWEEP_EVERY);
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let over = async {
        match limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => future::pending().await,
        }
    };
    tokio::pin!(over);
    loop {
        let number = tokio::select! {
            () = &mut over => {
                return Ok((begun.elapsed(), WatchEnd::Time, child.map(|child| (child, signals))));
            }
            status = ended(child.as_mut()) => return Ok((begun.elapsed(), WatchEnd::Command(status?), None)),
            number = signals.received() => number,
            _ = sweeps.tick() => {
                exporter.sweep();
                continue;
            }
            // Rows of cgroups and disks that are gone stay in the maps: a report shows everything that ran, by name.
            _ = looks.tick() => {
                exporter.meet();
                exporter.follow_cpus();
                continue;
            }
            _ = ticks.tick() => {
                if let Some(tick) = &mut tick {
                    tick(begun.elapsed());
                }
                continue;
            }
        };
        match &child {
            None => return Ok((begun.elapsed(), WatchEnd::Interrupt, None)),
            Some(child) => hand_on(child, number),
        }
    }
}

/// Forwards a signal to the command. The terminal sends Ctrl-C to the command as well; a signal to this process alone does not
/// reach it otherwise.
fn hand_on(child: &Child, number: i32) {
    let has_it = number == libc::SIGINT && sys::is_in_foreground();
    if let (false, Some(pid)) = (has_it, child.id())
        && let Err(error) = sys::send_signal(pid, number)
    {
        tracing::warn!(%error, "the signal could not be handed on to the command");
    }
}

fn start(command: &[OsString]) -> Result<Child, WatchError> {
    let (program, arguments) = command.split_first().ok_or_else(|| io::Error::other("no command"))?;
    tokio::process::Command::new(program).args(arguments).spawn().map_err(|source| WatchError::Command {
        program: crate::name::escape(program.as_encoded_bytes()),
        source,
    })
}

async fn ended(child: Option<&mut Child>) -> io::Result<ExitStatus> {
    match child {
        Some(child) => child.wait().await,
        None => future::pending().await,
    }
}

/// Events that a probe did not count as they happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Loss {
    /// The probe.
    pub probe: String,
    /// `max_series`, …; `missed` if the kernel skipped a run.
    pub reason: String,
    /// Number of events.
    pub count: f64,
}

impl Loss {
    pub fn sentence(&self) -> String {
        let Self { probe, reason, count } = self;
        if reason == MISSED {
            return format!(
                "{count} runs of `{probe}` were skipped by the kernel: a program of it was running already"
            );
        }
        format!("{count} events were not counted as they happened: `{reason}` of `{probe}`")
    }
}

const MISSED: &str = "missed";

/// The events that the probes did not count, if any.
pub fn losses(families: &[MetricFamily]) -> Vec<Loss> {
    let mut losses: Vec<Loss> = Vec::new();
    for family in families {
        for sample in &family.samples {
            let SampleValue::Number(count) = sample.value else { continue };
            let (probe, reason) = match (&*family.name, sample.labels.as_ref()) {
                ("tapster_probe_dropped_total", [probe, reason]) => (probe, reason.as_str()),
                ("tapster_probe_missed_total", [probe, ..]) => (probe, MISSED),
                _ => continue,
            };
            // A probe has a count for each of its programs.
            let known = losses.iter_mut().find(|known| known.probe == *probe && known.reason == reason);
            match known {
                _ if count <= 0.0 => {}
                Some(known) => known.count += count,
                None => losses.push(Loss { probe: probe.clone(), reason: reason.to_owned(), count }),
            }
        }
    }
    losses
}

/// A duration for sentences: `10 s`, `2.5 s`.
pub fn seconds(duration: Duration) -> String {
    let text = format!("{:.1}", duration.as_secs_f64());
    format!("{} s", text.strip_suffix(".0").unwrap_or(&text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::FamilyKind;

    #[test]
    fn losses_of_all_kinds() {
        let mut dropped =
            MetricFamily::new("tapster_probe_dropped_total", "", FamilyKind::Counter, &["probe", "reason"]);
        dropped.push(&["forks", "max_series"], 0.0);
        dropped.push(&["execs", "max_series"], 7.0);
        let labels = ["probe", "attach_point", "mechanism"];
        let mut missed = MetricFamily::new("tapster_probe_missed_total", "", FamilyKind::Counter, &labels);
        missed.push(&["execs", "a", "tp_btf"], 2.0);
        missed.push(&["execs", "b", "tp_btf"], 3.0);
        missed.push(&["forks", "b", "tp_btf"], 0.0);
        let other = MetricFamily::single("tapster_probe_up", "", FamilyKind::Gauge, 1.0);
        let sentences: Vec<String> = losses(&[dropped, missed, other]).iter().map(Loss::sentence).collect();
        assert_eq!(
            sentences,
            [
                "7 events were not counted as they happened: `max_series` of `execs`",
                "5 runs of `execs` were skipped by the kernel: a program of it was running already"
            ]
        );
    }

    #[test]
    fn seconds_are_short() {
        assert_eq!(seconds(Duration::from_millis(9_960)), "10 s");
        assert_eq!(seconds(Duration::from_millis(2_540)), "2.5 s");
    }
}
