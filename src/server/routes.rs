//! The routes and their handlers. Whatever asks the [`Source`] for more than readiness runs on a blocking thread,
//! because it reads kernel maps, and under a limit, because those threads outlive the request that started them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::Semaphore;

use super::{compress, page};
use crate::exposition::{Exposition, ExpositionError, Format};
use crate::gzip::gzip;
use crate::source::{self, Logged, Source};

/// Requests to the source at a time, as `node_exporter`'s `--web.max-requests` has it.
const MAX_REQUESTS: usize = 40;
/// When to give up on a source that does not answer; above every sensible scrape timeout.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);

#[derive(Clone)]
struct Shared {
    source: Arc<dyn Source>,
    limit: Arc<Semaphore>,
    logged: Arc<Logged>,
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
        .with_state(Shared { source, limit: Arc::new(Semaphore::new(MAX_REQUESTS)), logged: Arc::default() })
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
    let packed = compress::accepts_gzip(joined(&headers, &header::ACCEPT_ENCODING).as_deref());
    let logged = Arc::clone(&shared.logged);
    let result = blocking(shared, move |source| {
        let body = scrape(source, format, &logged);
        if packed { gzip(&body) } else { body }
    })
    .await;
    match result {
        Ok(body) => {
            let mut response = body.into_response();
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
            headers.insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
            if packed {
                headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
            response
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// A complete scrape. A family that cannot be written costs it nothing else, but is logged and counted.
pub(super) fn scrape(source: &dyn Source, format: Format, logged: &Logged) -> Vec<u8> {
    let mut exposition = Exposition::new(format);
    let mut left_out: Vec<ExpositionError> = source::collect(|| source.collect())
        .into_iter()
        .filter_map(|family| exposition.add(family).err())
        .collect();
    left_out.extend(exposition.add(source::left_out(left_out.len())).err());
    for error in &left_out {
        logged.log(error);
    }
    exposition.finish()
}

async fn landing(State(shared): State<Shared>) -> Response {
    match blocking(shared, |source| page::render(&source.status(), source.push().as_ref(), source.ready()))
        .await
    {
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
    Shared { source, limit, logged: _ }: Shared,
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
