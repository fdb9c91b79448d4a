//! Metrics pushed by OTLP: the same families as a scrape gets, to a collector or any other receiver.
//!
//! ```text
//!  Settings ──▶ Client, Resource
//!  Source ──collect──▶ MetricFamily ──points──▶ Request ──encode──▶ bytes ──send──▶ Answer
//!                                      delta                         client   push
//! ```
//!
//! - [`setting`]: what is given by flags, `OTEL_*` variables and files, and which of them wins;
//! - [`resource`]: which host and process the metrics are of;
//! - `name`: units, and attributes for labels;
//! - `point`: a family as a metric of OTLP, point by point;
//! - `delta`: what was taken of each series so far, where a receiver wants differences;
//! - `request`: points in requests of a bounded size;
//! - [`client`]: one request to the receiver and what it answered, by gRPC or HTTP;
//! - `retry`: when a request is sent again;
//! - [`push`]: the loop that does all of it, and ends with a last push;
//! - [`state`]: what became of pushes, as metrics and for the landing page.
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
pub use request::Encoder;
pub use setting::{Settings, Temporality};
pub use state::{State, WithPush};

use std::time::{SystemTime, UNIX_EPOCH};

/// A moment as OTLP has it: nanoseconds since 1970; 0, which is "unknown", for one before.
fn unix_ns(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
