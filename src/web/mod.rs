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
use rate::Rate;
use rustls::ServerConfig;
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tapster_ebpf::diagnostic::Diagnostic;
use users::{Users, Verified};

/// For so long files are taken to be as they were seen.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a connection waits for a look at the files; then it is served as the last look found them.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a web configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebError(String);

impl WebError {
    fn new(diagnostics: &[Diagnostic]) -> Self {
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
    headers: Vec<(HeaderName, HeaderValue)>,
    users: Users,
    rate: Option<Rate>,
    verified: Arc<Verified>,
}

impl Settings {
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

    /// Whether who asks may be answered, by the request's header `Authorization`.
    pub async fn authenticate(self: &Arc<Self>, authorization: Option<&[u8]>) -> Answer {
        self.users.authenticate(&self.verified, authorization).await
    }
}

/// The web configuration of a running server.
#[derive(Debug)]
pub struct Web {
    path: PathBuf,
    is_tls: bool,
    verified: Arc<Verified>,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    /// The files as they were before they were read last.
    marks: Vec<Mark>,
    looked: Instant,
    settings: Arc<Settings>,
    /// Why the files as they are now cannot be used.
    problem: Option<WebError>,
}

impl Web {
    /// Reads a web configuration file, and the files that it names.
    pub fn open(path: &Path) -> Result<Self, WebError> {
        let verified = Arc::new(Verified::new());
        let (read, marks) = file::read(path, &verified);
        let file::Read { settings, diagnostics, .. } = read;
        for warning in diagnostics.iter().filter(|diagnostic| !diagnostic.is_error()) {
            tracing::warn!("{}", warning.to_string().trim_end());
        }
        let settings = settings.ok_or_else(|| WebError::new(&diagnostics))?;
        let is_tls = settings.tls.is_some();
        let held = Held { marks, looked: Instant::now(), settings: Arc::new(settings), problem: None };
        Ok(Self { path: path.into(), is_tls, verified, held: Mutex::new(held) })
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
        if self.held().looked.elapsed() > LOOK_EVERY {
            let web = self.clone();
            let look = tokio::task::spawn_blocking(move || web.look());
            // A file system that hangs, or a panic, which the runtime logs: what held before holds.
            let _ = tokio::time::timeout(PATIENCE, look).await;
        }
        self.held().settings.clone()
    }

    /// Reads the files again if they changed.
    fn look(&self) {
        let mut held = self.held();
        held.looked = Instant::now();
        if !held.marks.iter().any(Mark::is_stale) {
            return;
        }
        // While it is read others are served as before.
        drop(held);
        let (read, marks) = file::read(&self.path, &self.verified);
        let mut held = self.held();
        held.marks = marks;
        held.problem = match self.accept(read) {
            Ok(settings) => {
                held.settings = Arc::new(settings);
                tracing::info!(path = %self.path.display(), "web configuration reloaded");
                None
            }
            Err(problem) => {
                if held.problem.as_ref() != Some(&problem) {
                    tracing::error!(
                        "the web configuration is not reloaded, what held before goes on: {problem}"
                    );
                }
                Some(problem)
            }
        };
    }

    /// What may take the place of the settings that are there.
    fn accept(&self, read: file::Read) -> Result<Settings, WebError> {
        let file::Read { settings, diagnostics, is_empty } = read;
        let settings = settings.ok_or_else(|| WebError::new(&diagnostics))?;
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
