//! Connections: accepts them, bounds what a slow or hostile peer can hold, and lets them finish at shutdown.

use std::collections::HashSet;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use axum::{Extension, Router};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tower::ServiceExt;

use super::{Listener, Options, ServerError, routes};
use crate::{source::Source, web::Web};

/// Open connections; more wait in the kernel's queue. Far above any number of scrapers.
const MAX_CONNECTIONS: usize = 256;
/// How long a peer may take to send a request, and how long an idle connection stays open: longer than the usual
/// minute between scrapes, so that a scraper can keep its connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(90);
/// How long a peer may refuse to take what is sent to it.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// Most different reasons that TLS was not agreed on for which are logged.
const MAX_REFUSALS: usize = 32;
/// How long a peer may take to agree on TLS.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a peer of HTTP/2 is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(30);
/// Most requests at a time on one connection of HTTP/2.
const MAX_STREAMS: u32 = 64;
/// The answer to HTTP where TLS is expected.
const NOT_TLS: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n\
    this port speaks HTTPS: use https:// instead of http://\n";
/// Size limit of a request line and headers.
const MAX_HEADER_BYTES: usize = 32 * 1024;
/// How long requests under way may take once the server is told to stop.
const GRACE: Duration = Duration::from_secs(5);
/// Pause after a failed accept: out of file descriptors, trying again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves `source` on all `listeners` until `shutdown` is done, then lets requests under way finish for up to five seconds.
///
/// A collection cannot be cancelled; one that takes longer lives on in the runtime's blocking threads, so the
/// caller ends the runtime with `shutdown_timeout` or the process with it.
pub async fn serve(
    listeners: Vec<Listener>,
    source: Arc<dyn Source>,
    options: Options,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServerError> {
    let listeners: Vec<TcpListener> =
        listeners.into_iter().map(Listener::into_tokio).collect::<Result<_, _>>()?;
    let (web, refusals) = (options.web.clone(), Arc::<Refusals>::default());
    let router = routes::router(source, &options);
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (stop, stopped) = watch::channel(());
    let (accepted, mut arriving) = mpsc::channel(1);
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn(accept(listener, slots.clone(), accepted.clone()));
    }
    drop(accepted);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            Some((stream, peer, slot)) = arriving.recv() => {
                let router = router.clone().layer(Extension(Peer(peer)));
                let connection = Connection { router,
                    web: web.clone(), refusals: refusals.clone(), stopped: stopped.clone() };
                connections.spawn(connection.handle(stream, slot));
            }
        }
    }
    drop((accepting, arriving, stop));
    let finished = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, finished).await.is_err() {
        tracing::warn!(connections = connections.len(), "closing connections that did not finish in time");
    }
    Ok(())
}

/// A connection, who made it, and its place among those that may be open.
type Arrived = (TcpStream, IpAddr, Option<OwnedSemaphorePermit>);

/// Hands over what arrives at a socket, until nobody takes it any more.
async fn accept(listener: TcpListener, slots: Arc<Semaphore>, arrived: mpsc::Sender<Arrived>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // `None` cannot happen, the semaphore is never closed; it would mean no limit, not no service.
                let slot = Arc::clone(&slots).acquire_owned().await.ok();
                if arrived.send((stream, peer.ip(), slot)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Who made the connection that a request came by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// What a connection is served with.
struct Connection {
    router: Router,
    web: Option<Arc<Web>>,
    refusals: Arc<Refusals>,
    stopped: watch::Receiver<()>,
}

/// Why TLS was not agreed on, each said once: a client with the wrong certificate should be found in the log, and a scanner
/// should not fill it.
#[derive(Debug, Default)]
struct Refusals(Mutex<HashSet<String>>);

impl Refusals {
    fn log(&self, error: &io::Error) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() < MAX_REFUSALS && said.insert(error.to_string()) {
            tracing::warn!(%error, "TLS was not agreed on with a client; the same is not logged again");
        } else {
            tracing::debug!(%error, "TLS was not agreed on with a client");
        }
    }
}

impl Connection {
    /// One connection, to its end. The slot is free again when this returns or is dropped.
    async fn handle(self, stream: TcpStream, _slot: Option<OwnedSemaphorePermit>) {
        // The kernel watches for peers that do not read; no timer of ours sees bytes leave.
        if let Err(error) = SockRef::from(&stream).set_tcp_user_timeout(Some(SEND_TIMEOUT)) {
            tracing::debug!(%error, "cannot limit the time to send");
        }
        let tls = match &self.web {
            Some(web) => Arc::clone(web).current().await.tls(),
            None => None,
        };
        let result = match tls {
            None => self.http1(stream).await,
            Some(tls) => match self.until_stopped(HANDSHAKE_TIMEOUT, handshake(stream, tls)).await {
                Some(Ok(Some(stream))) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                    self.http2(stream).await
                }
                Some(Ok(Some(stream))) => self.http1(stream).await,
                Some(Ok(None)) | None => return,
                Some(Err(error)) => return self.refusals.log(&error),
            },
        };
        if let Err(error) = result {
            // A peer that hangs up or talks nonsense is no event for the operator.
            tracing::debug!(%error, "connection ended early");
        }
    }

    /// What comes of `work`; `None` if it takes too long, or the server is told to stop.
    async fn until_stopped<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        let mut stopped = self.stopped.clone();
        tokio::select! {
            result = tokio::time::timeout(limit, work) => result.ok(),
            _ = stopped.changed() => None,
        }
    }

    async fn http1(mut self, stream: impl AsyncRead + AsyncWrite + Unpin) -> hyper::Result<()> {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(MAX_HEADER_BYTES)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(self.router));
        let mut connection = pin!(connection);
        tokio::select! {
            result = connection.as_mut() => result,
            // Fails once the sender is gone, which is the signal.
            _ = self.stopped.changed() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    }

    async fn http2(mut self, stream: impl AsyncRead + AsyncWrite + Unpin) -> hyper::Result<()> {
        let busy = Arc::new(Busy::default());
        let (router, counted) = (self.router, busy.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (router, guard) = (router.clone(), counted.begin());
            async move {
                let answer = router.oneshot(request.map(Body::new)).await;
                drop(guard);
                answer
            }
        });
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(SEND_TIMEOUT)
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(u32::try_from(MAX_HEADER_BYTES).unwrap_or(u32::MAX))
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        tokio::select! {
            result = connection.as_mut() => return result,
            // As above.
            _ = self.stopped.changed() => {}
            // HTTP/2 itself never ends a connection on which nothing is asked for.
            () = busy.idle(HEADER_TIMEOUT) => {}
        }
        connection.as_mut().graceful_shutdown();
        // A peer that does not answer to that is left.
        tokio::time::timeout(GRACE, connection).await.unwrap_or(Ok(()))
    }
}

/// How many requests of a connection are under way, and since when none is.
#[derive(Debug)]
struct Busy(Mutex<(usize, Instant)>);

impl Default for Busy {
    fn default() -> Self {
        Self(Mutex::new((0, Instant::now())))
    }
}

/// A request that is under way as long as this lives.
struct UnderWay(Arc<Busy>);

impl Busy {
    fn change(&self, change: impl FnOnce(&mut (usize, Instant))) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn begin(self: &Arc<Self>) -> UnderWay {
        self.change(|state| state.0 += 1);
        UnderWay(self.clone())
    }

    /// Returns when no request has been under way for so long.
    async fn idle(&self, limit: Duration) {
        loop {
            let mut left = limit;
            self.change(|(count, since)| {
                if *count == 0 {
                    left = limit.saturating_sub(since.elapsed());
                }
            });
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.change(|(count, since)| (*count, *since) = (count.saturating_sub(1), Instant::now()));
    }
}

/// Agrees on TLS. Who speaks HTTP without it is told so, which helps more than a closed connection; then it is `None`.
async fn handshake(
    mut stream: TcpStream,
    tls: Arc<rustls::ServerConfig>,
) -> io::Result<Option<TlsStream<TcpStream>>> {
    let mut first = [0];
    stream.peek(&mut first).await?;
    if first[0].is_ascii_uppercase() {
        // What was sent is read first: a socket that is closed with bytes unread resets, and the answer may be lost.
        let mut request = [0; 1024];
        let _ = stream.try_read(&mut request);
        stream.write_all(NOT_TLS).await?;
        stream.shutdown().await?;
        return Ok(None);
    }
    TlsAcceptor::from(tls).accept(stream).await.map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_is_idle_when_nothing_is_under_way() {
        const LIMIT: Duration = Duration::from_millis(100);
        let busy = Arc::new(Busy::default());
        let (first, second) = (busy.begin(), busy.begin());
        drop(first);
        let is_idle = async |within: Duration| tokio::time::timeout(within, busy.idle(LIMIT)).await.is_ok();
        assert!(!is_idle(4 * LIMIT).await, "one is under way");
        drop(second);
        let begun = Instant::now();
        busy.idle(LIMIT).await;
        assert!(begun.elapsed() >= LIMIT.mul_f64(0.9), "{:?}", begun.elapsed());
    }
}
