//! The routes and their handlers. Whatever asks the [`Source`] for more than readiness runs on a blocking thread,
//! because it reads kernel maps, and under a limit, because those threads outlive the request that started them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::sync::Semaphore;

use super::{Options, Reload, compress, guard, page, select};
use crate::exposition::{Exposition, ExpositionError, Format};
use crate::family::MetricFamily;
use crate::gzip::gzip;
use crate::source::{self, Logged, Source};
use crate::web::Web;

/// When to give up on a source that does not answer; above every sensible scrape timeout.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);

#[derive(Clone)]
struct Shared {
    source: Arc<dyn Source>,
    limit: Arc<Semaphore>,
    max_requests: u16,
    logged: Arc<Logged>,
    telemetry_path: Arc<str>,
    reload: Option<Reload>,
    reload_turn: Arc<Semaphore>,
    rights: Arc<[(&'static str, String)]>,
    web: Option<Arc<Web>>,
}

/// All routes over `source`, behind what [`Options::web`] asks for.
pub(super) fn router(source: Arc<dyn Source>, options: &Options) -> Router {
    let Options { telemetry_path, max_requests, reload, web, rights } = options;
    let permits = if *max_requests == 0 { Semaphore::MAX_PERMITS } else { usize::from(*max_requests) };
    let nothing = format!("there is nothing here; metrics are at {telemetry_path}\n");
    let router = Router::new()
        .route("/", get(landing))
        .route(telemetry_path, get(metrics))
        .route("/-/healthy", get(|| async { "tapster is healthy\n" }))
        .route("/-/ready", get(ready))
        .route("/-/reload", post(reload_now).put(reload_now).fallback(post_only))
        .fallback(|| async { (StatusCode::NOT_FOUND, nothing) })
        .method_not_allowed_fallback(|| async {
            (StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are understood here\n")
        })
        .with_state(Shared {
            source,
            limit: Arc::new(Semaphore::new(permits)),
            max_requests: *max_requests,
            logged: Arc::default(),
            telemetry_path: telemetry_path.as_str().into(),
            reload: reload.clone(),
            reload_turn: Arc::new(Semaphore::new(1)),
            rights: rights.as_slice().into(),
            web: web.clone(),
        });
    match web {
        Some(web) => router.layer(from_fn_with_state(web.clone(), guard::guard)),
        None => router,
    }
}

async fn post_only() -> Response {
    let allowed = [(header::ALLOW, "POST, PUT")];
    (StatusCode::METHOD_NOT_ALLOWED, allowed, "only POST and PUT are understood here\n").into_response()
}

async fn reload_now(State(shared): State<Shared>) -> Response {
    let Some(reload) = shared.reload else {
        let body = "reloading by HTTP is not allowed: start tapster with `--web.enable-lifecycle`, or send it SIGHUP\n";
        return (StatusCode::FORBIDDEN, body).into_response();
    };
    // Who waits holds no thread. Never closed.
    let _turn = shared.reload_turn.acquire().await;
    match tokio::task::spawn_blocking(move || reload()).await {
        Ok(Ok(done)) => format!("configuration reloaded: {done}\n").into_response(),
        Ok(Err(problem)) => {
            let body = format!("not all of the configuration is reloaded: {problem}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, body).into_response()
        }
        // Never cancelled, so it is a panic; the runtime caught it.
        Err(error) => {
            tracing::error!(%error, "reloading panicked");
            Refusal::Panicked("reloading").into_response()
        }
    }
}

async fn ready(State(shared): State<Shared>) -> Response {
    if shared.source.ready() {
        "tapster is ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "tapster is not ready: probes are still being attached\n")
            .into_response()
    }
}

async fn metrics(State(shared): State<Shared>, headers: HeaderMap, RawQuery(query): RawQuery) -> Response {
    let selection = match select::selection(query.as_deref(), &shared.source.words()) {
        Ok(selection) => selection,
        Err(message) => return (StatusCode::BAD_REQUEST, message).into_response(),
    };
    let format = Format::negotiate(joined(&headers, &header::ACCEPT).as_deref());
    let packed = compress::accepts_gzip(joined(&headers, &header::ACCEPT_ENCODING).as_deref());
    let (logged, web) = (Arc::clone(&shared.logged), shared.web.clone());
    let result = blocking(shared, move |source| {
        let own = || web.filter(|_| selection.takes_rest()).map(|web| web.families()).unwrap_or_default();
        let read = || source.select(&selection).into_iter().chain(own()).collect();
        let body = scrape(read, format, &logged);
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
pub(super) fn scrape(read: impl FnOnce() -> Vec<MetricFamily>, format: Format, logged: &Logged) -> Vec<u8> {
    let mut exposition = Exposition::new(format);
    let mut left_out: Vec<ExpositionError> =
        source::collect(read).into_iter().filter_map(|family| exposition.add(family).err()).collect();
    left_out.extend(exposition.add(source::left_out(left_out.len())).err());
    for error in &left_out {
        logged.log(error);
    }
    exposition.finish()
}

async fn landing(State(shared): State<Shared>) -> Response {
    let (path, rights) = (Arc::clone(&shared.telemetry_path), Arc::clone(&shared.rights));
    let web = shared.web.as_ref().and_then(|web| web.problem());
    let render = move |source: &dyn Source| {
        let (probes, push, configuration) = (source.status(), source.push(), source.configuration());
        let page = page::Page {
            probes: &probes,
            push: push.as_ref(),
            configuration: configuration.as_ref(),
            web: web.as_deref(),
            rights: &rights,
            telemetry_path: &path,
            ready: source.ready(),
        };
        page.to_string()
    };
    match blocking(shared, render).await {
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
    /// So many requests are under way.
    Busy(u16),
    Slow,
    /// What panicked.
    Panicked(&'static str),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Busy(count) => (
                StatusCode::SERVICE_UNAVAILABLE,
                [(header::RETRY_AFTER, "1")],
                format!("{count} requests are already under way; try again later\n"),
            )
                .into_response(),
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

/// Runs `work` on a blocking thread. The place under the limit is given back when the work ends, not when the
/// request is given up, so that threads that hang cannot add up.
async fn blocking<T: Send + 'static>(
    Shared { source, limit, max_requests, .. }: Shared,
    work: impl FnOnce(&dyn Source) -> T + Send + 'static,
) -> Result<T, Refusal> {
    let Ok(permit) = limit.try_acquire_owned() else {
        return Err(Refusal::Busy(max_requests));
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
            Err(Refusal::Panicked("collecting"))
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
