//! Where metric families come from, seen by what hands them out: the HTTP server and the push by OTLP. It knows neither
//! of them, nor the kernel.

use crate::{
    exposition::ExpositionError,
    family::{Kind, MetricFamily},
    status::{ProbeStatus, PushStatus},
};
use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// The families that are added to those of every source.
const DURATION: &str = "tapster_scrape_duration_seconds";
const LEFT_OUT: &str = "tapster_scrape_families_left_out";

/// What is handed out. All of it is called on threads that may block, several at a time.
pub trait Source: Send + Sync + 'static {
    /// All metric families as they are now.
    fn collect(&self) -> Vec<MetricFamily>;
    /// The same for who adds up differences: each count is under the labels that it was counted with, also where a scrape
    /// has moved it since because what they name has ended.
    fn counted(&self) -> Vec<MetricFamily> {
        self.collect()
    }
    /// State of every probe, for the landing page.
    fn status(&self) -> Vec<ProbeStatus>;
    /// State of the push, for the landing page; `None` where nothing is pushed.
    fn push(&self) -> Option<PushStatus> {
        None
    }
    /// Whether start-up is over. Cheap and without blocking.
    fn ready(&self) -> bool;
}

/// The families of a source, and the time that they took.
pub fn collect(read: impl FnOnce() -> Vec<MetricFamily>) -> Vec<MetricFamily> {
    let start = Instant::now();
    let mut families = read();
    let duration = start.elapsed().as_secs_f64();
    if !families.iter().any(|family| &*family.name == DURATION) {
        let help = "Time it took to collect the metrics of this scrape, before they were written.";
        families.push(MetricFamily::single(DURATION, help, Kind::Gauge, duration));
    }
    families
}

/// How many families are missing from what was collected.
pub fn left_out(count: usize) -> MetricFamily {
    let number = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let help = "Metric families missing from this scrape because they are malformed; the log says why.";
    MetricFamily::single(LEFT_OUT, help, Kind::Gauge, number)
}

/// Families that have been logged as left out. Their errors repeat with every scrape, and once is enough.
#[derive(Debug, Default)]
pub struct Logged(Mutex<HashSet<String>>);

impl Logged {
    /// Logs why a family is left out, if that was not logged before.
    pub fn log(&self, error: &ExpositionError) {
        let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.insert(error.family().to_owned()) {
            tracing::error!(family = error.family(), %error, "a metric family is left out of scrapes");
        }
    }
}
