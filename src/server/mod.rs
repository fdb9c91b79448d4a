//! The HTTP server: what a scraper, a probe of an orchestrator and a person with a browser can ask for.
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | a scrape, in the format of the `Accept` header |
//! | `/` | the landing page |
//! | `/-/healthy` | 200 as long as the server runs |
//! | `/-/ready` | 200 once the probes are in place, 503 before |
//!
//! It knows neither the kernel nor the configuration: all it shows comes from a [`Source`]. No TLS and no
//! authentication either; a reverse proxy does both better.

mod compress;
mod connection;
mod listen;
mod page;
mod routes;

#[cfg(test)]
mod tests;

pub use connection::serve;
pub use listen::{Listener, ServerError, bind};

use crate::family::MetricFamily;
use crate::status::ProbeStatus;

/// What the server serves. All three are called on threads that may block, several at a time.
pub trait Source: Send + Sync + 'static {
    /// All metric families of one scrape.
    fn collect(&self) -> Vec<MetricFamily>;
    /// State of every probe, for the landing page.
    fn status(&self) -> Vec<ProbeStatus>;
    /// Whether start-up is over. Cheap and without blocking.
    fn ready(&self) -> bool;
}
