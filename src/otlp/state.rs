//! Results of pushes: as metrics, which are scraped and pushed like all others, and for the landing page.

use super::setting::{Protocol, PushSettings, Temporality};
use crate::{
    family::{FamilyKind, MetricFamily},
    source::{Selection, Source},
    status::{ConfigStatus, LastPush, ProbeStatus, PushStatus, UnreadyReason},
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How a push ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PushResult {
    /// The receiver accepted all points.
    Taken,
    /// The receiver accepted all requests, but not all points.
    Partial,
    /// The receiver held pushes back, so nothing was sent.
    HeldBack,
    /// The receiver refused a request, and would refuse the same request again.
    Refused,
    /// The receiver did not accept a request in time.
    Failed,
}

impl PushResult {
    const ALL: [Self; 5] = [Self::Taken, Self::Partial, Self::HeldBack, Self::Refused, Self::Failed];

    /// The value of the label `result`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Partial => "partial",
            Self::HeldBack => "held_back",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }

    /// Whether the receiver has all points that it accepts.
    pub fn is_success(self) -> bool {
        matches!(self, Self::Taken | Self::Partial)
    }
}

#[derive(Debug, Default)]
struct PushCounts {
    results: [u64; PushResult::ALL.len()],
    points: u64,
    rejected: u64,
    bytes: u64,
    retries: u64,
    busy: Duration,
    last_success: Option<SystemTime>,
    last: Option<LastPush>,
    last_problem: Option<LastPush>,
}

/// Results of pushes so far.
#[derive(Debug)]
pub struct PushState {
    began: SystemTime,
    endpoint: String,
    protocol: Protocol,
    temporality: Temporality,
    interval: Duration,
    counts: Mutex<PushCounts>,
}

impl PushState {
    /// The state before the first push.
    pub fn new(settings: &PushSettings) -> Self {
        Self {
            began: SystemTime::now(),
            endpoint: settings.endpoint.to_string(),
            protocol: settings.protocol,
            temporality: settings.shape.temporality,
            interval: settings.shape.interval,
            counts: Mutex::default(),
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut PushCounts) -> T) -> T {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts a request that was sent, for the first time or again.
    pub(super) fn sent(&self, bytes: u64, is_again: bool) {
        self.change(|counts| {
            counts.bytes += bytes;
            counts.retries += u64::from(is_again);
        });
    }

    /// Counts a request that was accepted.
    pub(super) fn taken(&self, points: u64, rejected: u64) {
        self.change(|counts| {
            counts.points += points.saturating_sub(rejected);
            counts.rejected += rejected.min(points);
        });
    }

    /// Counts a push that ended. Returns whether the push before ended with another result.
    pub(super) fn ended(&self, result: PushResult, message: String, took: Duration) -> bool {
        let time = SystemTime::now();
        self.change(|counts| {
            for (place, count) in PushResult::ALL.iter().zip(&mut counts.results) {
                *count += u64::from(*place == result);
            }
            counts.busy += took;
            if result.is_success() {
                counts.last_success = Some(time);
            }
            let is_other = counts.last.as_ref().is_none_or(|last| last.result != result.name());
            let last = LastPush { time, result: result.name(), message, took };
            if result != PushResult::Taken {
                counts.last_problem = Some(last.clone());
            }
            counts.last = Some(last);
            is_other
        })
    }

    /// The families about pushes.
    pub fn families(&self) -> Vec<MetricFamily> {
        let counter = |name: &str, help: &str, value: f64| {
            MetricFamily::single(name, help, FamilyKind::Counter, value).since(self.began)
        };
        let gauge =
            |name: &str, help: &str, value: f64| MetricFamily::single(name, help, FamilyKind::Gauge, value);
        let help = "Pushes by how they ended: `taken`, `partial` (some points rejected), `held_back` (the receiver wants \
                    none for a while), `refused`, `failed` (not taken in time).";
        let mut pushes =
            MetricFamily::new("tapster_otlp_pushes_total", help, FamilyKind::Counter, &["result"])
                .since(self.began);
        self.change(|counts| {
            for (result, count) in PushResult::ALL.iter().zip(counts.results) {
                pushes.push(&[result.name()], number(count));
            }
            let last = counts.last_success.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            vec![
                pushes,
                counter("tapster_otlp_points_total", "Points that were taken.", number(counts.points)),
                counter(
                    "tapster_otlp_rejected_points_total",
                    "Points of requests that were taken, but not these.",
                    number(counts.rejected),
                ),
                counter(
                    "tapster_otlp_sent_bytes_total",
                    "Bytes of requests as they were sent, repetitions included.",
                    number(counts.bytes),
                ),
                counter(
                    "tapster_otlp_retries_total",
                    "Requests that were sent again.",
                    number(counts.retries),
                ),
                counter(
                    "tapster_otlp_push_seconds_total",
                    "Time that pushes took, waiting included.",
                    counts.busy.as_secs_f64(),
                ),
                gauge(
                    "tapster_otlp_last_success_timestamp_seconds",
                    "When a push was taken last; 0 before the first.",
                    last.unwrap_or_default().as_secs_f64(),
                ),
                gauge(
                    "tapster_otlp_interval_seconds",
                    "How often metrics are pushed.",
                    self.interval.as_secs_f64(),
                ),
            ]
        })
    }

    /// The state for the landing page.
    pub fn status(&self) -> PushStatus {
        self.change(|counts| PushStatus {
            endpoint: self.endpoint.clone(),
            protocol: self.protocol.name(),
            temporality: match self.temporality {
                Temporality::Cumulative => "cumulative",
                Temporality::Delta => "delta",
                Temporality::LowMemory => "lowmemory",
            },
            interval: self.interval,
            results: PushResult::ALL.iter().map(|result| result.name()).zip(counts.results).collect(),
            points: counts.points,
            rejected: counts.rejected,
            bytes: counts.bytes,
            last_success: counts.last_success,
            last: counts.last.clone(),
            last_problem: counts.last_problem.clone(),
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "samples are f64, as Prometheus keeps them")]
fn number(count: u64) -> f64 {
    count as f64
}

/// A source with the families about its pushes.
pub struct WithPush {
    source: Arc<dyn Source>,
    state: Arc<PushState>,
}

impl std::fmt::Debug for WithPush {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WithPush").field("state", &self.state).finish_non_exhaustive()
    }
}

impl WithPush {
    /// Joins a source and the families about its pushes.
    pub fn new(source: Arc<dyn Source>, state: Arc<PushState>) -> Self {
        Self { source, state }
    }
}

impl Source for WithPush {
    fn select(&self, selection: &Selection) -> Vec<MetricFamily> {
        let mut families = self.source.select(selection);
        if selection.takes_rest() {
            families.extend(self.state.families());
        }
        families
    }

    fn counted(&self) -> Vec<MetricFamily> {
        let mut families = self.source.counted();
        families.extend(self.state.families());
        families
    }

    fn words(&self) -> Vec<String> {
        self.source.words()
    }

    fn status(&self) -> Vec<ProbeStatus> {
        self.source.status()
    }

    fn configuration(&self) -> Option<ConfigStatus> {
        self.source.configuration()
    }

    fn push(&self) -> Option<PushStatus> {
        Some(self.state.status())
    }

    fn unready(&self) -> Option<UnreadyReason> {
        self.source.unready()
    }
}
