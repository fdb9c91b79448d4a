//! The routes and their handlers. A handler that reads more than readiness from the [`Source`] runs on a blocking thread, because
//! the source reads kernel maps. Requests for the same metrics share it, and only a few run at a time, because those threads
//! outlive the requests that started them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use tokio::sync::Semaphore;

use super::batch::{Batches, Panicked, Turns};
use super::body::{BodyMemory, BodyWriter, EncodedBody};
use super::connection::Peer;
use super::refusal::{RefusalCounts, RequestRefusal};
use super::requests::{RequestPermit, Requests};
use super::seats::Seats;
use super::{Reload, ServerOptions, compress, guard, page, select};
use crate::exposition::{Exposition, ExpositionError, Format};
use crate::family::MetricFamily;
use crate::source::{self, LoggedFamilies, Selection, Source};
use crate::sys;
use crate::web::Web;

/// When to give up on a source that does not answer; longer than any sensible scrape timeout.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);
/// From this size on, giving back the memory of a scrape's collection is worth the time.
const LARGE: usize = 1 << 20;

/// The form of a scrape: its format, and whether it is compressed.
type ScrapeForm = (Format, bool);
/// A scrape in all the forms that were wanted.
type Scrape = Arc<BTreeMap<ScrapeForm, Arc<EncodedBody>>>;

#[derive(Clone)]
struct RouteContext {
    source: Arc<dyn Source>,
    requests: Arc<Requests>,
    turns: Arc<Turns>,
    stuck_after: Duration,
    scrapes: Arc<Batches<Selection, ScrapeForm, Scrape>>,
    pages: Arc<Batches<(), (), Option<Arc<EncodedBody>>>>,
    memory: Arc<BodyMemory>,
    seats: Arc<Seats>,
    refused: Arc<RefusalCounts>,
    logged: Arc<LoggedFamilies>,
    telemetry_path: Arc<str>,
    reload: Option<Reload>,
    reload_turn: Arc<Semaphore>,
    rights: Arc<[(&'static str, String)]>,
    web: Option<Arc<Web>>,
}

/// All routes over `source`, behind the checks of [`ServerOptions::web`], and the memory of answers.
pub(super) fn router(
    source: Arc<dyn Source>,
    options: &ServerOptions,
    seats: Arc<Seats>,
) -> (Router, Arc<BodyMemory>) {
    let ServerOptions { telemetry_path, max_requests, max_connections: _, stuck_after, reload, web, rights } =
        options;
    let nothing = format!("there is nothing here; metrics are at {telemetry_path}\n");
    let (memory, turns) = (Arc::<BodyMemory>::default(), Arc::<Turns>::default());
    let router = Router::new()
        .route("/", get(landing))
        .route(telemetry_path, get(metrics))
        .route("/-/healthy", get(healthy))
        .route("/-/ready", get(ready))
        .route("/-/reload", post(reload_now).put(reload_now).fallback(post_only))
        .fallback(|| async { (StatusCode::NOT_FOUND, nothing) })
        .method_not_allowed_fallback(get_only)
        .with_state(RouteContext {
            source,
            requests: Requests::new(*max_requests),
            turns: turns.clone(),
            stuck_after: *stuck_after,
            scrapes: Batches::new(turns.clone()),
            pages: Batches::new(turns),
            memory: memory.clone(),
            seats,
            refused: Arc::default(),
            logged: Arc::default(),
            telemetry_path: telemetry_path.as_str().into(),
            reload: reload.clone(),
            reload_turn: Arc::new(Semaphore::new(1)),
            rights: rights.as_slice().into(),
            web: web.clone(),
        });
    let router = match web {
        Some(web) => router.layer(from_fn_with_state(web.clone(), guard::guard)),
        None => router,
    };
    (router, memory)
}

/// Needs neither a thread nor a seat under a limit, so that it answers whatever else hangs.
async fn healthy(State(shared): State<RouteContext>) -> Response {
    match shared.turns.oldest().filter(|oldest| *oldest > shared.stuck_after) {
        None => "tapster is healthy\n".into_response(),
        Some(oldest) => {
            let seconds = oldest.as_secs();
            let body = format!(
                "a collection that began {seconds} seconds ago has not ended: something that tapster reads does not answer\n"
            );
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
    }
}

async fn get_only(method: Method) -> Response {
    other_method(&method, "GET, HEAD, OPTIONS", "only GET and HEAD are understood here\n")
}

async fn post_only(method: Method) -> Response {
    other_method(&method, "POST, PUT, OPTIONS", "only POST and PUT are understood here\n")
}

/// Answers with the allowed methods: 204 to `OPTIONS` (RFC 9110, 9.3.7), 405 to any other method.
fn other_method(method: &Method, allowed: &'static str, message: &'static str) -> Response {
    let allowed = [(header::ALLOW, allowed)];
    if *method == Method::OPTIONS {
        (StatusCode::NO_CONTENT, allowed).into_response()
    } else {
        (StatusCode::METHOD_NOT_ALLOWED, allowed, message).into_response()
    }
}

async fn reload_now(State(shared): State<RouteContext>) -> Response {
    let Some(reload) = shared.reload else {
        let body = "reloading by HTTP is not allowed: start tapster with `--web.enable-lifecycle`, or send it SIGHUP\n";
        return (StatusCode::FORBIDDEN, body).into_response();
    };
    // A waiting request holds no thread. The semaphore is never closed.
    let _turn = shared.reload_turn.acquire().await;
    match tokio::task::spawn_blocking(move || reload()).await {
        Ok(Ok(done)) => format!("configuration reloaded: {done}\n").into_response(),
        Ok(Err(problem)) => {
            let body = format!("not all of the configuration is reloaded: {problem}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, body).into_response()
        }
        // Never cancelled, so an error is a panic, which the runtime caught.
        Err(error) => {
            tracing::error!(%error, "reloading panicked");
            RequestRefusal::Panicked("reloading").into_response()
        }
    }
}

async fn ready(State(shared): State<RouteContext>) -> Response {
    match shared.source.unready() {
        None => "tapster is ready\n".into_response(),
        Some(why) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("tapster is not ready: {why}; `/` says why\n"))
                .into_response()
        }
    }
}

async fn metrics(
    State(shared): State<RouteContext>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let selection = match select::selection(query.as_deref(), &shared.source.words()) {
        Ok(selection) => selection,
        Err(message) => return (StatusCode::BAD_REQUEST, message).into_response(),
    };
    let format = Format::negotiate(joined(&headers, &header::ACCEPT).as_deref());
    let packed = compress::accepts_gzip(joined(&headers, &header::ACCEPT_ENCODING).as_deref());
    let work = {
        let (shared, selection) = (shared.clone(), selection.clone());
        move |forms| {
            let own = || {
                let web = shared.web.iter().flat_map(|web| web.families());
                web.chain(shared.seats.families()).chain([shared.refused.family()])
            };
            let own = || selection.takes_rest().then(own).into_iter().flatten().collect::<Vec<_>>();
            let read = || shared.source.select(&selection).into_iter().chain(own()).collect();
            scrape(read, &forms, &shared.logged, &shared.memory)
        }
    };
    let scrape = match admit(&shared, peer).await {
        Ok(_request) => answered(shared.scrapes.ask(selection, (format, packed), work)).await,
        Err(refusal) => Err(refusal),
    };
    match scrape.map(|scrape| scrape.get(&(format, packed)).map(EncodedBody::body)) {
        Ok(Some(body)) => {
            let mut response = body.into_response();
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
            headers.insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
            if packed {
                headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
            response
        }
        // The encoder of gzip failed to write to memory, and logged it.
        Ok(None) => shared.refused.answer(RequestRefusal::Panicked("packing")),
        Err(refusal) => shared.refused.answer(refusal),
    }
}

/// Writes a complete scrape in each of these forms. A family that cannot be written is left out, logged and counted.
pub(super) fn scrape(
    read: impl FnOnce() -> Vec<MetricFamily>,
    forms: &BTreeSet<ScrapeForm>,
    logged: &LoggedFamilies,
    memory: &Arc<BodyMemory>,
) -> Scrape {
    let formats: BTreeSet<Format> = forms.iter().map(|(format, _)| *format).collect();
    let mut written: Vec<Written> = formats
        .into_iter()
        .map(|format| {
            let forms = [false, true].into_iter().filter(|packed| forms.contains(&(format, *packed)));
            Written {
                exposition: Exposition::new(format),
                left_out: Vec::new(),
                bodies: forms.map(|packed| ((format, packed), BodyWriter::new(packed))).collect(),
            }
        })
        .collect();
    // Each family is freed once it is written.
    for family in source::collect(read) {
        let Some((last, others)) = written.split_last_mut() else { break };
        for other in others {
            other.add(family.clone());
        }
        last.add(family);
    }
    let mut bodies = BTreeMap::new();
    for format in written {
        match format.finish(logged, memory) {
            Ok(finished) => bodies.extend(finished),
            Err(error) => tracing::error!(%error, "a scrape could not be written to memory"),
        }
    }
    if bodies.values().map(|body| body.len()).sum::<usize>() > LARGE {
        sys::release_memory();
    }
    Arc::new(bodies)
}

/// A scrape in one format, written compressed, uncompressed or both.
struct Written {
    exposition: Exposition,
    left_out: Vec<ExpositionError>,
    bodies: Vec<(ScrapeForm, BodyWriter)>,
}

impl Written {
    fn add(&mut self, family: MetricFamily) {
        self.left_out.extend(self.exposition.add(family).err());
        let bodies = &mut self.bodies;
        // A body in memory that failed once fails again in `finish`.
        let _ = self.exposition.drain(&mut All(bodies));
    }

    fn finish(
        mut self,
        logged: &LoggedFamilies,
        memory: &Arc<BodyMemory>,
    ) -> io::Result<Vec<(ScrapeForm, Arc<EncodedBody>)>> {
        self.left_out.extend(self.exposition.add(source::left_out(self.left_out.len())).err());
        for error in &self.left_out {
            logged.log(error);
        }
        All(&mut self.bodies).write_all(&self.exposition.finish())?;
        let finish = |(form, body): (ScrapeForm, BodyWriter)| Ok((form, Arc::new(body.finish(memory)?)));
        self.bodies.into_iter().map(finish).collect()
    }
}

/// Writes the same bytes to all bodies.
struct All<'a>(&'a mut [(ScrapeForm, BodyWriter)]);

impl Write for All<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for (_, body) in self.0.iter_mut() {
            body.write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn landing(State(shared): State<RouteContext>, Extension(peer): Extension<Peer>) -> Response {
    let of_page = shared.clone();
    let render = move |_| {
        let source = &of_page.source;
        let (probes, push, configuration) = (source.status(), source.push(), source.configuration());
        let web = of_page.web.as_ref().and_then(|web| web.problem());
        let page = page::Page {
            probes: &probes,
            push: push.as_ref(),
            configuration: configuration.as_ref(),
            web: web.as_deref(),
            rights: &of_page.rights,
            telemetry_path: &of_page.telemetry_path,
            unready: source.unready(),
        };
        let mut writer = BodyWriter::new(false);
        writer.write_all(page.html().as_bytes()).and_then(|()| writer.finish(&of_page.memory)).map(Arc::new)
    };
    let page = match admit(&shared, peer).await {
        Ok(_request) => answered(shared.pages.ask((), (), move |form| render(form).ok())).await,
        Err(refusal) => Err(refusal),
    };
    match page.and_then(|page| page.ok_or(RequestRefusal::Panicked("the page"))) {
        Ok(page) => {
            let headers: [(HeaderName, &str); 4] = [
                (header::CONTENT_TYPE, "text/html; charset=utf-8"),
                (header::CACHE_CONTROL, "no-store"),
                // Names and messages on the page come from kernels and files; no script among them may run.
                (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ];
            (headers, page.body()).into_response()
        }
        Err(refusal) => shared.refused.answer(refusal),
    }
}

/// Admits a request to the source. It counts as under way as long as the returned value is held.
async fn admit(shared: &RouteContext, peer: Peer) -> Result<RequestPermit, RequestRefusal> {
    if peer.is_spare {
        return Err(RequestRefusal::Crowded);
    }
    let request = shared.requests.begin(peer.address).map_err(RequestRefusal::Busy)?;
    if shared.memory.has_room(&shared.seats).await { Ok(request) } else { Err(RequestRefusal::Full) }
}

/// The result of shared work, unless it takes too long.
async fn answered<R>(work: impl Future<Output = Result<R, Panicked>>) -> Result<R, RequestRefusal> {
    match tokio::time::timeout(REQUEST_TIMEOUT, work).await {
        Ok(result) => result.map_err(|Panicked| RequestRefusal::Panicked("collecting")),
        Err(_) => {
            tracing::warn!(seconds = REQUEST_TIMEOUT.as_secs(), "collecting did not end in time");
            Err(RequestRefusal::Slow)
        }
    }
}

/// Joins all values of a header to the one list that they mean. Prometheus sends one; proxies may split it.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    (!values.is_empty()).then(|| values.join(","))
}
