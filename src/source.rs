//! Where metric families come from, seen by what hands them out: the HTTP server and the push by OTLP. It knows neither
//! of them, nor the kernel.

use crate::{
    exposition::ExpositionError,
    family::{Kind, MetricFamily},
    status::{ConfigStatus, ProbeStatus, PushStatus, Unready},
};
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

/// The families that are added to those of every source.
const DURATION: &str = "tapster_scrape_duration_seconds";
const LEFT_OUT: &str = "tapster_scrape_families_left_out";

/// What is handed out. All of it is called on threads that may block, several at a time.
pub trait Source: Send + Sync + 'static {
    /// All metric families as they are now.
    fn collect(&self) -> Vec<MetricFamily> {
        self.select(&Selection::All)
    }
    /// The metric families that are asked for, as they are now.
    fn select(&self, selection: &Selection) -> Vec<MetricFamily>;
    /// What a selection can name, sorted. Cheap and without blocking.
    fn words(&self) -> Vec<String> {
        Vec::new()
    }
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
    /// What became of the configuration, for the landing page; `None` where it is not read again.
    fn configuration(&self) -> Option<ConfigStatus> {
        None
    }
    /// Why it is not ready, `None` where it is. Cheap and without blocking.
    fn unready(&self) -> Option<Unready>;
}

/// Families of a part of this process that is no source of its own. It may not block.
pub type Own = Arc<dyn Fn() -> Vec<MetricFamily> + Send + Sync>;

/// Which probes a scrape asks for, by their names or those of their groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Selection {
    /// Everything that there is.
    #[default]
    All,
    /// These probes, and nothing else.
    Only(Vec<String>),
    /// Everything but these probes.
    Except(Vec<String>),
}

impl Selection {
    /// Whether a probe is asked for.
    pub fn takes(&self, is_called: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::All => true,
            Self::Only(words) => words.iter().any(|word| is_called(word)),
            Self::Except(words) => !words.iter().any(|word| is_called(word)),
        }
    }

    /// Whether what belongs to no probe is asked for: arrays, the process. Of two scrapes, one of some probes and one of all
    /// others, one has it.
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
