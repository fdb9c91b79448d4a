//! Reloads the configuration while the exporter runs: exchanges the probes, and reports the result by metrics, the log and the
//! landing page.

use crate::{
    config::{self, Config, ProbeSelection},
    exporter::{Exchange, Exporter, RefusedProbe, StartFailure},
    family::{FamilyKind, MetricFamily},
    host::Host,
    kernel::Kernel,
    mark::Mark,
    source::{OwnFamilies, Selection, Source},
    status::{ConfigStatus, ProbeStatus, PushStatus, UnreadyReason},
    sys,
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime, UNIX_EPOCH},
};
use tapster_ebpf::{diagnostic::Diagnostic, probe::Otlp};

/// The configuration of a running exporter.
pub struct Configuration {
    exporter: Arc<Exporter>,
    selection: ProbeSelection,
    host: Host,
    /// The destinations of metrics at the start, which a reload does not change.
    otlp: Option<Otlp>,
    own: Vec<OwnFamilies>,
    /// Held while the configuration is read and probes are exchanged.
    reading: Mutex<()>,
    state: Mutex<ReloadState>,
}

#[derive(Debug)]
struct ReloadState {
    /// Marks of the files from before they were last read.
    marks: Vec<Mark>,
    loaded: SystemTime,
    tried: SystemTime,
    problem: String,
    pending: String,
}

impl std::fmt::Debug for Configuration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Configuration").field("selection", &self.selection).finish_non_exhaustive()
    }
}

/// What is said of a reading that a bug ended.
const PANICKED: &str = "reading it ended by a bug in tapster, which the log has: what runs may be the one before or a part of both";

/// The messages of the diagnostics, one after the other.
fn said<'d>(diagnostics: impl IntoIterator<Item = &'d Diagnostic>) -> String {
    diagnostics.into_iter().map(ToString::to_string).collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

impl Configuration {
    /// The configuration with which `exporter` runs, by `selection`. `marks` are those of the files from before they were read, which
    /// was at `read`: a file that changed while probes were attached is another than what runs. `own` gives the additional families
    /// of scrapes and pushes.
    pub fn new(
        exporter: Arc<Exporter>,
        selection: ProbeSelection,
        host: Host,
        otlp: Option<Otlp>,
        (marks, read): (Vec<Mark>, SystemTime),
        own: Vec<OwnFamilies>,
    ) -> Self {
        let state =
            ReloadState { marks, loaded: read, tried: read, problem: String::new(), pending: String::new() };
        Self { exporter, selection, host, otlp, own, reading: Mutex::default(), state: Mutex::new(state) }
    }

    /// The files and directories of the configuration.
    pub fn files(&self) -> Vec<PathBuf> {
        self.selection.paths()
    }

    fn state(&self) -> MutexGuard<'_, ReloadState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether files changed since the configuration was last read.
    pub fn is_stale(&self) -> bool {
        self.selection.marks() != self.state().marks
    }

    /// Reads the configuration and exchanges the probes. Blocks until that is done, which takes a second or more with many
    /// changed probes. Returns what was done, or what is wrong; in that case the running probes go on.
    pub fn reload(&self) -> Result<String, String> {
        self.take_over(|| self.read())
    }

    fn take_over(&self, read: impl FnOnce() -> Result<ReadConfiguration, String>) -> Result<String, String> {
        let _one = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = Instant::now();
        let (marks, tried) = (self.selection.marks(), SystemTime::now());
        // After a panic nothing would be known of this reading, and the one before would seem to be the last.
        let result = catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err(PANICKED.into()));
        // By now the kernel's types and everything else for loading programs are dropped.
        sys::release_memory();
        let took_ms = begun.elapsed().as_millis();
        let (result, pending) = match result {
            Ok(ReadConfiguration { exchange, pending }) => {
                let (summary, problem) = (summary(&exchange), refusals(&exchange.refused));
                if problem.is_empty() {
                    tracing::info!(took_ms, "configuration reloaded: {summary}");
                } else {
                    tracing::error!(took_ms, "configuration reloaded in part: {summary}\n{problem}");
                }
                for StartFailure { name, down } in &exchange.down {
                    tracing::error!(
                        probe = name,
                        reason = down.cause.word(),
                        "probe is down: {}",
                        down.message
                    );
                }
                (if problem.is_empty() { Ok(summary) } else { Err(problem) }, Some(pending))
            }
            Err(problem) => {
                tracing::error!("the configuration is not reloaded, what ran before goes on: {problem}");
                (Err(problem), None)
            }
        };
        // The lock is taken only now: scrapes wait for it, and logging may wait for the reader of the log.
        let mut state = self.state();
        (state.marks, state.tried) = (marks, tried);
        state.problem = result.as_ref().err().cloned().unwrap_or_default();
        if result.is_ok() {
            state.loaded = tried;
        }
        if let Some(pending) = pending {
            state.pending = pending;
        }
        result
    }

    fn read(&self) -> Result<ReadConfiguration, String> {
        let Config { probes, reasons, device_groups, otlp, diagnostics, strangers: _, off: _, unread: _ } =
            config::load(&self.selection).map_err(|error| error.to_string())?;
        if diagnostics.iter().any(Diagnostic::is_error) {
            return Err(said(&diagnostics));
        }
        let kernel = Kernel::detect(&self.host);
        let (probes, unfit) = tapster_ebpf::check::select(probes, &kernel.target());
        if unfit.iter().any(Diagnostic::is_error) {
            return Err(said(&unfit));
        }
        for warning in diagnostics.iter().chain(&unfit) {
            tracing::warn!("{}", said([warning]));
        }
        let is_same = match (&self.otlp, &otlp) {
            (Some(before), Some(now)) => before.means(now),
            (before, now) => before.is_none() && now.is_none(),
        };
        let pending = if is_same {
            String::new()
        } else {
            "`otlp` or `exporters` changed, which are read at the start only: restart tapster to use them"
                .to_owned()
        };
        if !pending.is_empty() {
            tracing::warn!("{pending}");
        }
        self.exporter.set_device_groups(&device_groups);
        Ok(ReadConfiguration { exchange: self.exporter.exchange(&probes, reasons, &kernel), pending })
    }

    fn families(&self) -> impl Iterator<Item = MetricFamily> {
        let state = self.state();
        let successful = MetricFamily::single(
            "tapster_config_last_reload_successful",
            "Whether the configuration could be used when it was last read, and every probe that ran goes on as it says now.",
            FamilyKind::Gauge,
            f64::from(u8::from(state.problem.is_empty())),
        );
        let loaded = state.loaded.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let help = "When the configuration was last read and taken over, since unix epoch in seconds.";
        let name = "tapster_config_last_reload_success_timestamp_seconds";
        let loaded = MetricFamily::single(name, help, FamilyKind::Gauge, loaded);
        let restart = MetricFamily::single(
            "tapster_config_restart_required",
            "Whether the configuration has settings that are taken over only by a restart, and are others than at the start.",
            FamilyKind::Gauge,
            f64::from(u8::from(!state.pending.is_empty())),
        );
        [successful, loaded, restart].into_iter().chain(self.own.iter().flat_map(|own| own()))
    }
}

struct ReadConfiguration {
    exchange: Exchange,
    pending: String,
}

fn summary(exchange: &Exchange) -> String {
    let Exchange { kept, changed, added, removed, down, refused } = exchange;
    let down = down.iter().map(|failure| failure.name.clone()).collect();
    let refused = refused.iter().map(|refused| refused.name.clone()).collect();
    let mut parts = vec![format!("{kept} {} went on", if *kept == 1 { "probe" } else { "probes" })];
    for (names, what) in [
        (changed, "changed"),
        (added, "new"),
        (removed, "removed"),
        (&down, "down"),
        (&refused, "not taken over"),
    ] {
        if !names.is_empty() {
            parts.push(format!("{what}: {}", names.join(", ")));
        }
    }
    parts.join(", ")
}

fn refusals(refused: &[RefusedProbe]) -> String {
    let said = |RefusedProbe { name, down, goes_on, .. }: &RefusedProbe| {
        let what = match goes_on.as_slice() {
            [] => "and the one before is gone, since another probe has its metrics now".to_owned(),
            [before] if before == name => "so the one before goes on".to_owned(),
            others => format!("so `{}` goes on", others.join("` and `")),
        };
        format!("probe `{name}` does not come up as it is declared now, {what}: {}", down.message.trim_end())
    };
    refused.iter().map(said).collect::<Vec<_>>().join("\n")
}

impl Source for Configuration {
    fn select(&self, selection: &Selection) -> Vec<MetricFamily> {
        let mut families = self.exporter.select(selection);
        if selection.takes_rest() {
            families.extend(self.families());
        }
        families
    }

    fn counted(&self) -> Vec<MetricFamily> {
        let mut families = self.exporter.counted();
        families.extend(self.families());
        families
    }

    fn words(&self) -> Vec<String> {
        self.exporter.words()
    }

    fn status(&self) -> Vec<ProbeStatus> {
        self.exporter.status()
    }

    fn push(&self) -> Option<PushStatus> {
        self.exporter.push()
    }

    fn configuration(&self) -> Option<ConfigStatus> {
        let ReloadState { loaded, tried, problem, pending, .. } = &*self.state();
        Some(ConfigStatus {
            files: self.files().iter().map(|path| path.display().to_string()).collect(),
            loaded: *loaded,
            tried: *tried,
            problem: problem.clone(),
            pending: pending.clone(),
        })
    }

    fn unready(&self) -> Option<UnreadyReason> {
        Source::unready(&*self.exporter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::SampleValue;
    use std::time::Duration;

    /// Whether it says that the last reading was taken over, and when one was.
    fn served(configuration: &Configuration) -> (f64, f64) {
        let number = |name: &str| {
            let family =
                configuration.families().find(|family| *family.name == *format!("tapster_config_{name}"));
            match family.unwrap().samples[0].value {
                SampleValue::Number(number) => number,
                SampleValue::Histogram(_) => unreachable!("it is a gauge"),
            }
        };
        (number("last_reload_successful"), number("last_reload_success_timestamp_seconds"))
    }

    #[test]
    fn a_reading_that_a_bug_ends_is_no_success() {
        let directory = tempfile::tempdir().unwrap();
        let host = Host {
            proc: directory.path().join("proc"),
            sys: directory.path().join("sys"),
            ..Host::default()
        };
        let (exporter, _) = Exporter::attempt(&[], &Kernel::detect(&host), &host);
        let read = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let selection = ProbeSelection::default();
        let configuration =
            Configuration::new(Arc::new(exporter), selection, host, None, (Vec::new(), read), Vec::new());
        assert_eq!(served(&configuration), (1.0, 1e6), "when it was read, not when probes were attached");
        let said = configuration.take_over(|| panic!("on purpose"));
        assert!(said.is_err_and(|said| said.contains("a bug in tapster")));
        assert_eq!(served(&configuration), (0.0, 1e6));
        let nothing = || Ok(ReadConfiguration { exchange: Exchange::default(), pending: String::new() });
        assert!(configuration.take_over(nothing).is_ok());
        let (good, loaded) = served(&configuration);
        assert!((good - 1.0).abs() < f64::EPSILON && loaded > 1.6e9);
    }
}
