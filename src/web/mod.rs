//! How the server does TLS and authentication: the web configuration file that all exporters of Prometheus share, as its
//! documentation describes it (<https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md>).
//!
//! The file, its certificates and its users are read again when they change. What is wrong at the start is an error with its
//! place; what is wrong later is logged, and what held before goes on.

mod clients;
mod file;
mod rate;
mod tls;
mod users;

#[cfg(test)]
mod tests;

pub use users::Answer;

use crate::{
    family::{Kind, MetricFamily},
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

/// For so long files are taken to be as they were seen.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// For so long a file by which more are let in must stay as it is before it counts.
const SETTLED: Duration = Duration::from_secs(2);
/// How long a connection waits for a look at the files; then it is served as the last look found them.
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

/// What a web configuration says.
#[derive(Debug)]
pub struct Settings {
    tls: Option<Arc<ServerConfig>>,
    /// What is asked of clients' certificates.
    demands: (Policy, bool),
    headers: Vec<(HeaderName, HeaderValue)>,
    users: Users,
    rate: Option<Rate>,
    verified: Arc<Verified>,
}

impl Settings {
    /// Whether somebody is let in here whom other settings keep out.
    fn is_looser_than(&self, other: &Self) -> bool {
        self.users.is_empty() && !other.users.is_empty()
            || self.demands.0 < other.demands.0
            || !self.demands.1 && other.demands.1
    }

    /// How TLS is done; `None` where it is not.
    pub fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.clone()
    }

    /// What each answer carries besides its own headers.
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// Whether this request is one too many.
    pub fn is_too_fast(&self) -> bool {
        self.rate.as_ref().is_some_and(|rate| !rate.allows(Instant::now()))
    }

    /// Whether who asks may be answered, by the request's header `Authorization` and the address that it came from.
    pub async fn authenticate(&self, authorization: Option<&[u8]>, peer: Option<IpAddr>) -> Answer {
        self.users.authenticate(&self.verified, authorization, peer).await
    }
}

/// The web configuration of a running server.
#[derive(Debug)]
pub struct Web {
    path: PathBuf,
    is_tls: bool,
    verified: Arc<Verified>,
    /// Whether somebody looks at the files.
    looking: AtomicBool,
    held: Mutex<Held>,
}

/// What there is to log about a look.
enum Told {
    Nothing,
    Reloaded,
    Refused(WebError),
}

/// A look that is under way until this is dropped.
struct Looking<'w>(&'w AtomicBool);

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[derive(Debug)]
struct Held {
    /// The files as they were before they were read last.
    marks: Vec<Mark>,
    looked: Instant,
    settings: Arc<Settings>,
    /// Files by which more are let in, and since when they are so.
    looser: Option<(Vec<Mark>, Instant)>,
    /// Why the files as they are now cannot be used.
    problem: Option<WebError>,
}

impl Web {
    /// Reads a web configuration file, and the files that it names.
    pub fn open(path: &Path) -> Result<Self, WebError> {
        let verified = Arc::new(Verified::new());
        let (read, marks) = file::read(path, &verified);
        let file::Read { settings, diagnostics, failure, .. } = read;
        for warning in diagnostics.iter().filter(|diagnostic| !diagnostic.is_error()) {
            tracing::warn!("{}", warning.to_string().trim_end());
        }
        let settings = settings.ok_or_else(|| WebError::new(failure, &diagnostics))?;
        let is_tls = settings.tls.is_some();
        let held =
            Held { marks, looked: Instant::now(), settings: Arc::new(settings), looser: None, problem: None };
        Ok(Self {
            path: path.into(),
            is_tls,
            verified,
            looking: AtomicBool::new(false),
            held: Mutex::new(held),
        })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it serves by TLS, which stays so until it ends.
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// The file, and those that it names.
    pub fn files(&self) -> Vec<PathBuf> {
        self.held().marks.iter().map(|mark| mark.path().to_path_buf()).collect()
    }

    /// Why the files as they are now are not used, if they are not.
    pub fn problem(&self) -> Option<String> {
        self.held().problem.as_ref().map(ToString::to_string)
    }

    /// The settings to serve by now: those of the files as they are, if they can be used.
    pub async fn current(self: Arc<Self>) -> Arc<Settings> {
        let is_due = self.held().looked.elapsed() > LOOK_EVERY;
        // One looks, the others are served as the last look found it: a file system that hangs holds up nobody else.
        if is_due && !self.looking.swap(true, Ordering::AcqRel) {
            let web = self.clone();
            let look = tokio::task::spawn_blocking(move || {
                // Also after a panic, which the runtime logs.
                let _done = Looking(&web.looking);
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
        // Not while others wait for what is held: the log may be a pipe that nobody reads.
        match told {
            Told::Nothing => {}
            Told::Reloaded => tracing::info!(path = %self.path.display(), "web configuration reloaded"),
            Told::Refused(problem) => {
                tracing::error!("the web configuration is not reloaded, what held before goes on: {problem}");
            }
        }
    }

    /// Takes over what was read, or remembers why not.
    fn take(&self, result: Result<Settings, WebError>, marks: Vec<Mark>) -> Told {
        let mut held = self.held();
        let settings = match result {
            Ok(settings) => settings,
            Err(problem) => {
                (held.marks, held.looser) = (marks, None);
                let is_new = held.problem.as_ref() != Some(&problem);
                held.problem = Some(problem.clone());
                return if is_new { Told::Refused(problem) } else { Told::Nothing };
            }
        };
        // A file that is being written may have lost its users, or what it asks of certificates, for the moment, and then everybody
        // would be let in. What stays so was meant.
        if settings.is_looser_than(&held.settings) {
            let since = match held.looser.take() {
                Some((before, since)) if before == marks => since,
                _ => Instant::now(),
            };
            if since.elapsed() < SETTLED {
                held.looser = Some((marks, since));
                return Told::Nothing;
            }
        }
        held.settings = Arc::new(settings);
        (held.marks, held.looser, held.problem) = (marks, None, None);
        Told::Reloaded
    }

    /// What may take the place of the settings that are there.
    fn accept(&self, read: file::Read) -> Result<Settings, WebError> {
        let file::Read { settings, diagnostics, failure, is_empty } = read;
        let settings = settings.ok_or_else(|| WebError::new(failure, &diagnostics))?;
        let name = self.path.display();
        // Who writes a file in place empties it first. For that moment nobody should be let in.
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

    /// The families about it.
    pub fn families(&self) -> Vec<MetricFamily> {
        let is_good = self.held().problem.is_none();
        let help =
            "Whether the web configuration and its certificates could be used when they were last read.";
        let name = "tapster_web_config_last_reload_successful";
        vec![MetricFamily::single(name, help, Kind::Gauge, f64::from(u8::from(is_good)))]
    }
}
