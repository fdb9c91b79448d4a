//! The HTTP server: what a scraper, a probe of an orchestrator and a person with a browser can ask for.
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | a scrape, in the format of the `Accept` header |
//! | `/` | the landing page |
//! | `/-/healthy` | 200 as long as the server runs |
//! | `/-/ready` | 200 once the probes are in place, 503 before |
//!
//! It knows neither the kernel nor the configuration: all it shows comes from a [`Source`](crate::source::Source). No TLS and no
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
