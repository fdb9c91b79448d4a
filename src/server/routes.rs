//! The routes and their handlers. Whatever asks the [`Source`] for more than readiness runs on a blocking thread,
//! because it reads kernel maps, and under a limit, because those threads outlive the request that started them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::Semaphore;

use super::{Source, compress, page};
use crate::exposition::{self, Format};
use crate::family::{Kind, MetricFamily};

/// Requests to the source at a time, as `node_exporter`'s `--web.max-requests` has it.
const MAX_REQUESTS: usize = 40;
/// When to give up on a source that does not answer; above every sensible scrape timeout.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);
/// The one family the server adds itself.
const SCRAPE_DURATION: &str = "tapster_scrape_duration_seconds";

#[derive(Clone)]
struct Shared {
    source: Arc<dyn Source>,
    limit: Arc<Semaphore>,
}

/// All routes over `source`.
pub(super) fn router(source: Arc<dyn Source>) -> Router {
    Router::new()
        .route("/", get(landing))
        .route("/metrics", get(metrics))
        .route("/-/healthy", get(|| async { "tapster is healthy\n" }))
        .route("/-/ready", get(ready))
        .fallback(|| async { (StatusCode::NOT_FOUND, "there is nothing here; metrics are at /metrics\n") })
        .method_not_allowed_fallback(|| async {
            (StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are understood here\n")
        })
        .with_state(Shared { source, limit: Arc::new(Semaphore::new(MAX_REQUESTS)) })
}

async fn ready(State(shared): State<Shared>) -> Response {
    if shared.source.ready() {
        "tapster is ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "tapster is not ready: probes are still being attached\n")
            .into_response()
    }
}

async fn metrics(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let format = Format::negotiate(joined(&headers, &header::ACCEPT).as_deref());
    let gzip = compress::accepts_gzip(joined(&headers, &header::ACCEPT_ENCODING).as_deref());
    let result = blocking(shared, move |source| {
        let families = collect(source);
        exposition::encode(&families, format).map_err(|error| error.to_string()).and_then(|body| {
            if gzip { compress::gzip(&body).map_err(|error| error.to_string()) } else { Ok(body) }
        })
    })
    .await;
    match result {
        Ok(Ok(body)) => {
            let mut response = body.into_response();
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
            headers.insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
            if gzip {
                headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
            response
        }
        Ok(Err(error)) => {
            tracing::error!(error, "cannot write a scrape");
            (StatusCode::INTERNAL_SERVER_ERROR, format!("the scrape cannot be written: {error}\n"))
                .into_response()
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// The source's families and the time they took.
fn collect(source: &dyn Source) -> Vec<MetricFamily> {
    let start = Instant::now();
    let mut families = source.collect();
    let duration = start.elapsed().as_secs_f64();
    if !families.iter().any(|family| &*family.name == SCRAPE_DURATION) {
        let help = "Time it took to collect the metrics of this scrape, before they were written.";
        families.push(MetricFamily::single(SCRAPE_DURATION, help, Kind::Gauge, duration));
    }
    families
}

async fn landing(State(shared): State<Shared>) -> Response {
    match blocking(shared, |source| page::render(&source.status(), source.ready())).await {
        Ok(html) => {
            let headers: [(HeaderName, &str); 4] = [
                (header::CONTENT_TYPE, "text/html; charset=utf-8"),
                (header::CACHE_CONTROL, "no-store"),
                // Names and messages on the page come from kernels and files; nothing among them may run.
                (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ];
            (headers, html).into_response()
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// Why the source was not asked, or did not answer.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    Busy,
    Slow,
    Panicked,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                [(header::RETRY_AFTER, "1")],
                format!("{MAX_REQUESTS} requests are already under way; try again later\n"),
            )
                .into_response(),
            Self::Slow => {
                let seconds = REQUEST_TIMEOUT.as_secs();
                let body = format!("the answer took longer than {seconds} seconds and was given up\n");
                (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
            }
            Self::Panicked => {
                let body = "collecting failed inside tapster, which is a bug; its log says where\n";
                (StatusCode::INTERNAL_SERVER_ERROR, body).into_response()
            }
        }
    }
}

/// Runs `work` on a blocking thread. The place under the limit is given back when the work ends, not when the
/// request is given up, so that threads that hang cannot add up.
async fn blocking<T: Send + 'static>(
    Shared { source, limit }: Shared,
    work: impl FnOnce(&dyn Source) -> T + Send + 'static,
) -> Result<T, Refusal> {
    let Ok(permit) = limit.try_acquire_owned() else {
        return Err(Refusal::Busy);
    };
    let task = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        work(&*source)
    });
    match tokio::time::timeout(REQUEST_TIMEOUT, task).await {
        Ok(Ok(result)) => Ok(result),
        // Never cancelled, so it is a panic; the runtime caught it.
        Ok(Err(error)) => {
            tracing::error!(%error, "collecting panicked");
            Err(Refusal::Panicked)
        }
        Err(_) => {
            tracing::warn!(seconds = REQUEST_TIMEOUT.as_secs(), "collecting did not end in time");
            Err(Refusal::Slow)
        }
    }
}

/// All values of a header as the one list they mean. Prometheus sends one; proxies may split it.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    (!values.is_empty()).then(|| values.join(","))
}
