//! The exporter on every node of a fleet: its configuration is read again while it counts, and what it serves is behind TLS
//! and authentication.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]
#![allow(clippy::unnecessary_wraps, reason = "cases are alike")]

use tapster_testing as support;

mod chart;
mod held;
mod lacking;
mod reload;
mod rights;
mod web;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Tests that load the host and count what happens on it: one at a time.
static HOST: Mutex<()> = Mutex::new(());

fn host() -> MutexGuard<'static, ()> {
    HOST.lock().unwrap_or_else(PoisonError::into_inner)
}
