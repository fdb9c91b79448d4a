//! The source of metric families, as the HTTP server and the push by OTLP see it. It depends on neither of them, nor on the
//! kernel.

use crate::{
    exposition::ExpositionError,
    family::{FamilyKind, MetricFamily},
    status::{ConfigStatus, ProbeStatus, PushStatus, UnreadyReason},
};
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

/// Families that are added to those of every source.
const DURATION: &str = "tapster_scrape_duration_seconds";
const LEFT_OUT: &str = "tapster_scrape_families_left_out";

/// Gives families and states. All methods are called on threads that may block, several at a time.
pub trait Source: Send + Sync + 'static {
    /// All metric families now.
    fn collect(&self) -> Vec<MetricFamily> {
        self.select(&Selection::All)
    }
    /// The selected metric families now.
    fn select(&self, selection: &Selection) -> Vec<MetricFamily>;
    /// The words that a selection can contain, sorted. Cheap and without blocking.
    fn words(&self) -> Vec<String> {
        Vec::new()
    }
    /// All metric families for pushes of differences: each count is under the labels that it was counted with, even if a scrape
    /// has moved it since, because what they name is gone.
    fn counted(&self) -> Vec<MetricFamily> {
        self.collect()
    }
    /// The state of every probe, for the landing page.
    fn status(&self) -> Vec<ProbeStatus>;
    /// The state of the push, for the landing page; `None` if nothing is pushed.
    fn push(&self) -> Option<PushStatus> {
        None
    }
    /// The state of the configuration, for the landing page; `None` if it cannot be reloaded.
    fn configuration(&self) -> Option<ConfigStatus> {
        None
    }
    /// Why the source is not ready, `None` if it is. Cheap and without blocking.
    fn unready(&self) -> Option<UnreadyReason>;
}

/// Gives families of a part of this process that is no source of its own. It must not block.
pub type OwnFamilies = Arc<dyn Fn() -> Vec<MetricFamily> + Send + Sync>;

/// The probes that a scrape requests, by their names or those of their groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Selection {
    /// Everything.
    #[default]
    All,
    /// Only these probes.
    Only(Vec<String>),
    /// Everything except these probes.
    Except(Vec<String>),
}

impl Selection {
    /// Whether a probe is selected.
    pub fn takes(&self, is_called: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::All => true,
            Self::Only(words) => words.iter().any(|word| is_called(word)),
            Self::Except(words) => !words.iter().any(|word| is_called(word)),
        }
    }

    /// Whether families that belong to no probe are selected: arrays, the process. Of two scrapes, one of some probes and one
    /// of all others, exactly one has them.
    pub fn takes_rest(&self) -> bool {
        !matches!(self, Self::Only(_))
    }

    /// The words that it names.
    pub fn words(&self) -> &[String] {
        match self {
            Self::All => &[],
            Self::Only(words) | Self::Except(words) => words,
        }
    }
}

/// Reads the families of a source, and adds the time that this took.
pub fn collect(read: impl FnOnce() -> Vec<MetricFamily>) -> Vec<MetricFamily> {
    let start = Instant::now();
    let mut families = read();
    let duration = start.elapsed().as_secs_f64();
    if !families.iter().any(|family| &*family.name == DURATION) {
        let help = "Time it took to collect the metrics of this scrape, before they were written.";
        families.push(MetricFamily::single(DURATION, help, FamilyKind::Gauge, duration));
    }
    families
}

/// The number of families that are missing from a collection.
pub fn left_out(count: usize) -> MetricFamily {
    let number = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let help = "Metric families missing from this scrape because they are malformed; the log says why.";
    MetricFamily::single(LEFT_OUT, help, FamilyKind::Gauge, number)
}

/// Families that were logged as left out. Their errors repeat with every scrape, so each is logged once.
#[derive(Debug, Default)]
pub struct LoggedFamilies(Mutex<HashSet<String>>);

impl LoggedFamilies {
    /// Logs why a family is left out, unless it was logged before.
    pub fn log(&self, error: &ExpositionError) {
        let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.insert(error.family().to_owned()) {
            tracing::error!(family = error.family(), %error, "a metric family is left out of scrapes");
        }
    }
}
