//! Metrics pushed by OTLP: the same families as a scrape gets, to a collector or any other receiver.
//!
//! ```text
//!  Settings ──▶ Client, Resource
//!  Source ──collect──▶ MetricFamily ──points──▶ Request ──encode──▶ bytes ──send──▶ Answer
//!                                      delta                         client   push
//! ```
//!
//! - [`setting`]: settings from flags, `OTEL_*` variables and files, and their precedence;
//! - [`resource`]: the host and process that the metrics belong to;
//! - `name`: units, and attributes for labels;
//! - `point`: a family as a metric of OTLP, point by point;
//! - `delta`: what the receiver has accepted of each series, for delta temporality;
//! - `request`: points in requests of a bounded size;
//! - [`client`]: one request to the receiver and its answer, by gRPC or HTTP;
//! - `retry`: when a request is sent again;
//! - [`push`]: the loop over all of these, which ends with a last push;
//! - [`state`]: results of pushes, as metrics and for the landing page.
//!
//! It knows neither the kernel nor the HTTP server.

pub mod client;
mod delta;
mod name;
mod point;
pub mod push;
mod request;
pub mod resource;
mod retry;
pub mod setting;
pub mod state;

#[cfg(test)]
mod tests;

pub use push::{Pusher, Sink};
pub use request::RequestEncoder;
pub use setting::{PushSettings, Temporality};
pub use state::{PushState, WithPush};

use std::time::{SystemTime, UNIX_EPOCH};

/// A time in OTLP's form: nanoseconds since 1970; 0, which means "unknown", for an earlier one.
fn unix_ns(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
