//! Pushes by OTLP: how they are delivered, to a receiver of the test's own that answers right and wrong; and what a real
//! collector and a real Prometheus have of them.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]
#![allow(clippy::unnecessary_wraps, reason = "cases are alike")]
#![allow(clippy::cast_precision_loss, reason = "samples are f64, as Prometheus keeps them")]

use tapster_testing as support;

mod answer;
mod authority;
mod delivery;
mod gone;
mod outage;
mod peers;
mod process;
mod pushing;
mod receiver;
mod series;
mod trust;

use std::sync::{Mutex, MutexGuard, PoisonError};
use support::cases::{Cases, Outcome};

/// Tests that load the host and count what happens on it: one at a time.
static HOST: Mutex<()> = Mutex::new(());

fn host() -> MutexGuard<'static, ()> {
    HOST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A case that mostly waits.
type Waiting<'a> = (String, Box<dyn FnOnce() -> Outcome + Send + 'a>);

/// Runs cases that mostly wait, so that they wait together.
fn together(suite: &mut Cases, cases: Vec<Waiting<'_>>) {
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = cases.into_iter().map(|(name, case)| (name, scope.spawn(case))).collect();
        running.into_iter().map(|(name, running)| (name, running.join())).collect()
    });
    for (name, outcome) in outcomes {
        suite.run(&name, || match outcome {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        });
    }
}
