//! TLS and authentication of the server: the web configuration file that all exporters of Prometheus share
//! (<https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md>).
//!
//! The file, its certificates and its users are read again when they change. A mistake at the start is an error with its
//! place; a later mistake is logged, and the configuration before goes on.

mod clients;
mod file;
mod rate;
mod tls;
mod users;

#[cfg(test)]
mod tests;

pub use users::Authentication;

use crate::{
    family::{FamilyKind, MetricFamily},
    mark::Mark,
};
use axum::http::{HeaderName, HeaderValue};
use clients::Policy;
use rate::Rate;
use rustls::ServerConfig;
use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tapster_ebpf::diagnostic::Diagnostic;
use users::{Users, Verified};

/// Files are checked for changes at most this often.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A file that lets more clients in must be unchanged for this time before it counts.
const SETTLED: Duration = Duration::from_secs(2);
/// How long a connection waits for a check of the files; after that it is served with the settings of the check before.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a web configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebError(String);

impl WebError {
    fn new(failure: Option<String>, diagnostics: &[Diagnostic]) -> Self {
        if let Some(failure) = failure {
            return Self(format!("error: {failure}"));
        }
        let texts: Vec<String> =
            diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).map(ToString::to_string).collect();
        Self(texts.join("\n").trim_end().to_owned())
    }
}

impl fmt::Display for WebError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WebError {}

/// The settings of a web configuration.
#[derive(Debug)]
pub struct WebSettings {
    tls: Option<Arc<ServerConfig>>,
    /// The requirements on client certificates.
    demands: (Policy, bool),
    headers: Vec<(HeaderName, HeaderValue)>,
    users: Users,
    rate: Option<Rate>,
    verified: Arc<Verified>,
}

impl WebSettings {
    /// Whether these settings let a client in that `other` keeps out.
    fn is_looser_than(&self, other: &Self) -> bool {
        self.users.is_empty() && !other.users.is_empty()
            || self.demands.0 < other.demands.0
            || !self.demands.1 && other.demands.1
    }

    /// The TLS configuration; `None` without TLS.
    pub fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.clone()
    }

    /// Headers that are added to each answer.
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// Whether this request exceeds the rate limit.
    pub fn is_too_fast(&self) -> bool {
        self.rate.as_ref().is_some_and(|rate| !rate.allows(Instant::now()))
    }

    /// Authenticates a request by its header `Authorization` and the address that it came from.
    pub async fn authenticate(&self, authorization: Option<&[u8]>, peer: Option<IpAddr>) -> Authentication {
        self.users.authenticate(&self.verified, authorization, peer).await
    }
}

/// The web configuration of a running server.
#[derive(Debug)]
pub struct Web {
    path: PathBuf,
    is_tls: bool,
    verified: Arc<Verified>,
    /// Whether a thread checks the files at the moment.
    looking: AtomicBool,
    held: Mutex<CurrentSettings>,
}

/// The log message of a check.
enum ReloadMessage {
    Nothing,
    Reloaded,
    Refused(WebError),
}

/// A check that is under way until this is dropped.
struct CheckGuard<'w>(&'w AtomicBool);

impl Drop for CheckGuard<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[derive(Debug)]
struct CurrentSettings {
    /// The files as they were before they were last read.
    marks: Vec<Mark>,
    looked: Instant,
    settings: Arc<WebSettings>,
    /// Files that let more clients in, and since when they have been unchanged.
    looser: Option<(Vec<Mark>, Instant)>,
    /// Why the present files cannot be used.
    problem: Option<WebError>,
}

impl Web {
    /// Reads a web configuration file, and the files that it names.
    pub fn open(path: &Path) -> Result<Self, WebError> {
        let verified = Arc::new(Verified::new());
        let (read, marks) = file::read(path, &verified);
        let file::WebFileResult { settings, diagnostics, failure, .. } = read;
        for warning in diagnostics.iter().filter(|diagnostic| !diagnostic.is_error()) {
            tracing::warn!("{}", warning.to_string().trim_end());
        }
        let settings = settings.ok_or_else(|| WebError::new(failure, &diagnostics))?;
        let is_tls = settings.tls.is_some();
        let held = CurrentSettings {
            marks,
            looked: Instant::now(),
            settings: Arc::new(settings),
            looser: None,
            problem: None,
        };
        Ok(Self {
            path: path.into(),
            is_tls,
            verified,
            looking: AtomicBool::new(false),
            held: Mutex::new(held),
        })
    }

    fn held(&self) -> MutexGuard<'_, CurrentSettings> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it uses TLS, which never changes.
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// The file, and the files that it names.
    pub fn files(&self) -> Vec<PathBuf> {
        self.held().marks.iter().map(|mark| mark.path().to_path_buf()).collect()
    }

    /// Why the present files are not used, if they are not.
    pub fn problem(&self) -> Option<String> {
        self.held().problem.as_ref().map(ToString::to_string)
    }

    /// The current settings: those of the present files, if they can be used.
    pub async fn current(self: Arc<Self>) -> Arc<WebSettings> {
        let is_due = self.held().looked.elapsed() > LOOK_EVERY;
        // One task checks, the others use the settings of the check before: a file system that hangs holds up nobody else.
        if is_due && !self.looking.swap(true, Ordering::AcqRel) {
            let web = self.clone();
            let look = tokio::task::spawn_blocking(move || {
                // Also after a panic, which the runtime logs.
                let _done = CheckGuard(&web.looking);
                web.look();
            });
            let _ = tokio::time::timeout(PATIENCE, look).await;
        }
        self.held().settings.clone()
    }

    /// Reads the files again if they changed.
    fn look(&self) {
        let marks = {
            let mut held = self.held();
            held.looked = Instant::now();
            held.marks.clone()
        };
        let is_waiting = self.held().looser.is_some();
        if !is_waiting && !marks.iter().any(Mark::is_stale) {
            return;
        }
        let (read, marks) = file::read(&self.path, &self.verified);
        let result = self.accept(read);
        let told = self.take(result, marks);
        // Not while the lock is held: the log may be a pipe that nobody reads.
        match told {
            ReloadMessage::Nothing => {}
            ReloadMessage::Reloaded => {
                tracing::info!(path = %self.path.display(), "web configuration reloaded");
            }
            ReloadMessage::Refused(problem) => {
                tracing::error!("the web configuration is not reloaded, what held before goes on: {problem}");
            }
        }
    }

    /// Applies what was read, or keeps the reason why it cannot.
    fn take(&self, result: Result<WebSettings, WebError>, marks: Vec<Mark>) -> ReloadMessage {
        let mut held = self.held();
        let settings = match result {
            Ok(settings) => settings,
            Err(problem) => {
                (held.marks, held.looser) = (marks, None);
                let is_new = held.problem.as_ref() != Some(&problem);
                held.problem = Some(problem.clone());
                return if is_new { ReloadMessage::Refused(problem) } else { ReloadMessage::Nothing };
            }
        };
        // A file that is being written may lack its users, or its requirements on certificates, for a moment, and then everybody
        // would be let in. If it stays so, it was meant.
        if settings.is_looser_than(&held.settings) {
            let since = match held.looser.take() {
                Some((before, since)) if before == marks => since,
                _ => Instant::now(),
            };
            if since.elapsed() < SETTLED {
                held.looser = Some((marks, since));
                return ReloadMessage::Nothing;
            }
        }
        held.settings = Arc::new(settings);
        (held.marks, held.looser, held.problem) = (marks, None, None);
        ReloadMessage::Reloaded
    }

    /// The settings that may replace the present ones.
    fn accept(&self, read: file::WebFileResult) -> Result<WebSettings, WebError> {
        let file::WebFileResult { settings, diagnostics, failure, is_empty } = read;
        let settings = settings.ok_or_else(|| WebError::new(failure, &diagnostics))?;
        let name = self.path.display();
        // A file that is written in place is empty at first. Nobody should be let in at that moment.
        if is_empty {
            return Err(WebError(format!("`{name}` is empty")));
        }
        if settings.tls.is_some() != self.is_tls {
            let (now, before) = if self.is_tls { ("off", "on") } else { ("on", "off") };
            return Err(WebError(format!(
                "`{name}` turns TLS {now}, which was {before} at the start: restart tapster for that"
            )));
        }
        Ok(settings)
    }

    /// The families about the web configuration.
    pub fn families(&self) -> Vec<MetricFamily> {
        let is_good = self.held().problem.is_none();
        let help =
            "Whether the web configuration and its certificates could be used when they were last read.";
        let name = "tapster_web_config_last_reload_successful";
        vec![MetricFamily::single(name, help, FamilyKind::Gauge, f64::from(u8::from(is_good)))]
    }
}
