//! The HTTP server: what a scraper, a probe of an orchestrator and a person with a browser can ask for.
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | a scrape, in the format of the `Accept` header |
//! | `/` | the landing page |
//! | `/-/healthy` | 200 as long as the server runs |
//! | `/-/ready` | 200 once the probes are in place, 503 before |
//! | `/-/reload` | POST: the configuration is read again, if that is allowed |
//!
//! It knows neither the kernel nor the configuration: all it shows comes from a [`Source`](crate::source::Source). How TLS and authentication
//! are done is said by [`Web`].

mod compress;
mod connection;
mod guard;
mod listen;
mod page;
mod routes;
mod select;

#[cfg(test)]
mod tests;

pub use connection::serve;
pub use listen::{Listener, ServerError, bind, inherited};

use crate::web::Web;
use std::sync::Arc;

/// Reads the configuration again; the answer says what was done, or what is wrong. It may block.
pub type Reload = Arc<dyn Fn() -> Result<String, String> + Send + Sync>;

/// How a source is served.
#[derive(Clone)]
pub struct Options {
    /// Where metrics are.
    pub telemetry_path: String,
    /// Most requests to the source at a time; 0 for no limit.
    pub max_requests: u16,
    /// What POST to `/-/reload` does; `None` where it is not allowed.
    pub reload: Option<Reload>,
    /// TLS and authentication; `None` for neither.
    pub web: Option<Arc<Web>>,
    /// Rights that this process gave up, for the landing page: a name for each kind, and what became of it.
    pub rights: Vec<(&'static str, String)>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { telemetry_path, max_requests, reload, web, rights } = self;
        f.debug_struct("Options")
            .field("telemetry_path", telemetry_path)
            .field("max_requests", max_requests)
            .field("reload", &reload.is_some())
            .field("web", web)
            .field("rights", rights)
            .finish()
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            telemetry_path: "/metrics".into(),
            max_requests: 40,
            reload: None,
            web: None,
            rights: Vec::new(),
        }
    }
}
