//! Requests that are refused without a collection, and their number.

use super::routes::REQUEST_TIMEOUT;
use crate::family::{FamilyKind, MetricFamily};
use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use std::sync::atomic::{AtomicU64, Ordering};

/// Why the source was not read, or did not answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum RequestRefusal {
    /// This many requests are under way, of all clients or of this one, and no more may be.
    Busy(usize),
    /// The connection has a seat for health checks only.
    Crowded,
    /// Unread answers fill the memory for answers.
    Full,
    /// The answer was not ready in time.
    Slow,
    /// This part panicked.
    Panicked(&'static str),
}

impl RequestRefusal {
    const REASONS: [&'static str; 5] = ["max_requests", "connections", "memory", "timeout", "panic"];

    /// Its index in `REASONS`.
    fn index(self) -> usize {
        match self {
            Self::Busy(_) => 0,
            Self::Crowded => 1,
            Self::Full => 2,
            Self::Slow => 3,
            Self::Panicked(_) => 4,
        }
    }
}

impl IntoResponse for RequestRefusal {
    fn into_response(self) -> Response {
        let later = |body: String| {
            (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], body).into_response()
        };
        match self {
            Self::Busy(count) => later(format!("{count} requests are already under way; try again later\n")),
            Self::Crowded => later(
                "all connections are busy, and this one is for health checks only; try again later\n".into(),
            ),
            Self::Full => later(
                "answers that other clients do not take fill the memory for answers; try again later\n"
                    .into(),
            ),
            Self::Slow => {
                let seconds = REQUEST_TIMEOUT.as_secs();
                let body = format!("the answer took longer than {seconds} seconds and was given up\n");
                (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
            }
            Self::Panicked(what) => {
                let body = format!("{what} failed inside tapster, which is a bug; its log says where\n");
                (StatusCode::INTERNAL_SERVER_ERROR, body).into_response()
            }
        }
    }
}

/// How many requests were refused, by reason.
#[derive(Debug, Default)]
pub(super) struct RefusalCounts([AtomicU64; RequestRefusal::REASONS.len()]);

impl RefusalCounts {
    /// The answer to a refused request; counts it.
    pub(super) fn answer(&self, refusal: RequestRefusal) -> Response {
        self.0[refusal.index()].fetch_add(1, Ordering::Relaxed);
        refusal.into_response()
    }

    /// The family of refused requests.
    pub(super) fn family(&self) -> MetricFamily {
        let mut family = MetricFamily::new(
            "tapster_web_refused_total",
            "Requests for metrics or the landing page that were refused, by reason.",
            FamilyKind::Counter,
            &["reason"],
        );
        for (reason, count) in RequestRefusal::REASONS.iter().zip(&self.0) {
            #[expect(clippy::cast_precision_loss, reason = "samples are f64, as Prometheus keeps them")]
            family.push(&[reason], count.load(Ordering::Relaxed) as f64);
        }
        family
    }
}
