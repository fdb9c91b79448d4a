//! The HTTP server: it answers scrapers, the health checks of orchestrators, and people with a browser.
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | a scrape, in the format of the `Accept` header |
//! | `/` | the landing page |
//! | `/-/healthy` | 200 as long as the server runs and collections end, 503 when one does not |
//! | `/-/ready` | 200 once the probes are in place, 503 before |
//! | `/-/reload` | POST: reloads the configuration, if that is allowed |
//!
//! The server knows neither the kernel nor the configuration: everything it shows comes from a [`Source`](crate::source::Source).
//! [`Web`] does TLS and authentication.

mod batch;
mod body;
mod compress;
mod connection;
mod guard;
mod listen;
mod network;
mod page;
mod refusal;
mod requests;
mod routes;
mod seats;
mod select;

#[cfg(test)]
mod tests;

pub use connection::serve;
pub use listen::{Listener, PORT, ServerError, bind, inherited};

use crate::web::Web;
use std::{fmt, sync::Arc, time::Duration};

/// Reloads the configuration; the answer says what was done, or what is wrong. It may block.
pub type Reload = Arc<dyn Fn() -> Result<String, String> + Send + Sync>;

/// How a source is served.
#[derive(Clone)]
pub struct ServerOptions {
    /// The path of the metrics.
    pub telemetry_path: String,
    /// Most requests to the source at a time, including those that wait to share an answer; one client may have three quarters of
    /// them. 0 for no limit.
    pub max_requests: u16,
    /// Most connections at a time; a few more are held for health checks.
    pub max_connections: usize,
    /// After this time a collection counts as hung: `/-/healthy` reports it.
    pub stuck_after: Duration,
    /// The effect of POST to `/-/reload`; `None` where it is not allowed.
    pub reload: Option<Reload>,
    /// TLS and authentication; `None` for neither.
    pub web: Option<Arc<Web>>,
    /// Rights that this process gave up, for the landing page: a name for each kind, and what became of it.
    pub rights: Vec<(&'static str, String)>,
}

impl fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { telemetry_path, max_requests, max_connections, stuck_after, reload, web, rights } = self;
        f.debug_struct("ServerOptions")
            .field("telemetry_path", telemetry_path)
            .field("max_requests", max_requests)
            .field("max_connections", max_connections)
            .field("stuck_after", stuck_after)
            .field("reload", &reload.is_some())
            .field("web", web)
            .field("rights", rights)
            .finish()
    }
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            telemetry_path: "/metrics".into(),
            max_requests: 40,
            max_connections: 256,
            stuck_after: Duration::from_mins(1),
            reload: None,
            web: None,
            rights: Vec::new(),
        }
    }
}
