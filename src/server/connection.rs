//! Connections: accepts them, bounds what a slow or hostile peer can hold, and lets them finish at shutdown.

use std::collections::HashSet;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

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
            Some((stream, slot)) = arriving.recv() => {
                let connection = Connection { router: router.clone(), web: web.clone(), refusals: refusals.clone(), stopped: stopped.clone() };
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

/// A connection, and its place among those that may be open.
type Arrived = (TcpStream, Option<OwnedSemaphorePermit>);

/// Hands over what arrives at a socket, until nobody takes it any more.
async fn accept(listener: TcpListener, slots: Arc<Semaphore>, arrived: mpsc::Sender<Arrived>) {
    loop {
        // `None` cannot happen, the semaphore is never closed; it would mean no limit, not no service.
        let slot = Arc::clone(&slots).acquire_owned().await.ok();
        match listener.accept().await {
            Ok((stream, _)) => {
                if arrived.send((stream, slot)).await.is_err() {
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
            Some(tls) => match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake(stream, tls)).await {
                Ok(Ok(Some(stream))) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                    self.http2(stream).await
                }
                Ok(Ok(Some(stream))) => self.http1(stream).await,
                Ok(Ok(None)) | Err(_) => return,
                Ok(Err(error)) => return self.refusals.log(&error),
            },
        };
        if let Err(error) = result {
            // A peer that hangs up or talks nonsense is no event for the operator.
            tracing::debug!(%error, "connection ended early");
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
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(SEND_TIMEOUT)
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(u32::try_from(MAX_HEADER_BYTES).unwrap_or(u32::MAX))
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(self.router));
        let mut connection = pin!(connection);
        tokio::select! {
            result = connection.as_mut() => result,
            // As above.
            _ = self.stopped.changed() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
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
