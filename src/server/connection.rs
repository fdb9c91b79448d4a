//! Connections: accepts them, bounds what a slow or hostile peer can hold, and lets them finish at shutdown.

use std::collections::HashSet;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use axum::{Extension, Router};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tower::ServiceExt;

use super::body::GuardedBody;
use super::seats::{CloseReason, Seat, SeatGuard, Seats, SparseMessage};
use super::{Listener, ServerError, ServerOptions, routes};
use crate::{source::Source, sys, web::Web};

/// How long a peer may refuse to read what is sent to it.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes that the kernel buffers for a peer in each direction, before it doubles them for its own bookkeeping. By default it
/// would buffer megabytes, and the memory cgroup of this process would be charged for them.
const BUFFER: usize = 64 << 10;
/// Most different reasons of failed TLS handshakes that are logged.
const MAX_REFUSALS: usize = 32;
/// How often the server pings a peer of HTTP/2.
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
/// How long an idle connection may take to close in good order.
const GOODBYE: Duration = Duration::from_secs(1);
/// Pause after a failed accept: without file descriptors, trying again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves `source` on all `listeners` until `shutdown` is done, then lets requests under way finish for up to five seconds.
///
/// A collection cannot be cancelled; one that takes longer lives on in the runtime's blocking threads, so the
/// caller ends the runtime with `shutdown_timeout` or the process with it.
pub async fn serve(
    listeners: Vec<Listener>,
    source: Arc<dyn Source>,
    options: ServerOptions,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServerError> {
    let listeners: Vec<TcpListener> =
        listeners.into_iter().map(Listener::into_tokio).collect::<Result<_, _>>()?;
    let (web, refusals) = (options.web.clone(), Arc::<Refusals>::default());
    let seats = Seats::new(options.max_connections);
    let (router, memory) = routes::router(source, &options, seats.clone());
    let (stop, stopped) = watch::channel(());
    let (accepted, mut arriving) = mpsc::channel(1);
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn(accept(listener, seats.clone(), accepted.clone()));
    }
    accepting.spawn(memory.give_back());
    drop(accepted);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            Some((stream, address, taken)) = arriving.recv() => {
                let router = router.clone().layer(Extension(Peer { address, is_spare: taken.is_spare() }));
                let connection = Connection { router, taken,
                    web: web.clone(), refusals: refusals.clone(), stopped: stopped.clone() };
                connections.spawn(connection.handle(stream));
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

/// A connection, the address of its peer, and its seat among the open connections.
type Arrival = (TcpStream, IpAddr, SeatGuard);

/// Passes on the connections of a socket, until nobody receives them any more.
async fn accept(listener: TcpListener, seats: Arc<Seats>, arrived: mpsc::Sender<Arrival>) {
    let (mut failures, mut failed) = (0_u64, SparseMessage::default());
    let mut is_said = false;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if std::mem::take(&mut is_said) {
                    tracing::info!(failures, "connections are accepted again");
                }
                failures = 0;
                if arrived.send((stream, peer.ip(), seats.take(peer.ip()))).await.is_err() {
                    return;
                }
            }
            // The client hung up while it waited.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
            Err(error) => {
                failures += 1;
                seats.refused();
                if failed.is_due() {
                    is_said = true;
                    tracing::warn!(
                        "cannot accept connections: {error}{}; it is tried again all the time and logged every ten minutes at most",
                        hint(&error)
                    );
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What to do about a failed accept.
fn hint(error: &io::Error) -> String {
    match (error.raw_os_error(), sys::file_limit()) {
        (Some(libc::EMFILE), Ok(files)) => format!(
            "; this process may have {files} files open: raise the limit with `LimitNOFILE=` of its unit, or `ulimit -Hn`"
        ),
        (Some(libc::ENFILE), _) => "; the host may have no more files open: raise `fs.file-max`".to_owned(),
        _ => String::new(),
    }
}

/// The client of the connection that a request came by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) address: IpAddr,
    /// Whether the connection has a seat that is for health checks only.
    pub(super) is_spare: bool,
}

/// What a connection needs to be served.
struct Connection {
    router: Router,
    taken: SeatGuard,
    web: Option<Arc<Web>>,
    refusals: Arc<Refusals>,
    stopped: watch::Receiver<()>,
}

/// Reasons of failed TLS handshakes, each logged once: the log should show a client with the wrong certificate, and a
/// scanner should not fill it.
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
    /// Serves one connection to its end. Its seat is free again when this returns or is dropped.
    async fn handle(self, stream: TcpStream) {
        let socket = SockRef::from(&stream);
        // The kernel watches for peers that do not read; no timer of ours sees bytes leave.
        let limited = socket
            .set_tcp_user_timeout(Some(SEND_TIMEOUT))
            .and_then(|()| socket.set_send_buffer_size(BUFFER))
            .and_then(|()| socket.set_recv_buffer_size(BUFFER));
        if let Err(error) = limited {
            tracing::debug!(%error, "cannot limit what the kernel holds for a connection");
        }
        let tls = match &self.web {
            Some(web) => Arc::clone(web).current().await.tls(),
            None => None,
        };
        let result = match tls {
            None => self.http1(stream).await,
            Some(tls) => match self.until_stopped(handshake(stream, tls)).await {
                Some(Ok(Some(stream))) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                    self.http2(stream).await
                }
                Some(Ok(Some(stream))) => self.http1(stream).await,
                Some(Ok(None)) | None => return,
                Some(Err(error)) => return self.refusals.log(&error),
            },
        };
        if let Err(error) = result {
            // A peer that hangs up or sends nonsense is no event for the operator.
            tracing::debug!(%error, "connection ended early");
        }
    }

    /// The result of `work`; `None` if the connection is to be closed first, or the server is told to stop.
    async fn until_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut stopped = self.stopped.clone();
        tokio::select! {
            result = work => Some(result),
            _ = self.taken.ended() => None,
            _ = stopped.changed() => None,
        }
    }

    async fn http1(mut self, stream: impl AsyncRead + AsyncWrite + Unpin) -> hyper::Result<()> {
        let (router, seat) = (self.router, Arc::clone(&self.taken));
        let stream = SeatedStream { stream, seat: seat.clone() };
        let service = service_fn(move |request| answer(router.clone(), seat.clone(), request));
        let connection = http1::Builder::new()
            // A client that has shut down its side for writing may still wait for the answer.
            .half_close(true)
            // The seat enforces the time limits of all phases.
            .header_read_timeout(None)
            .keep_alive(!self.taken.is_spare())
            .max_buf_size(MAX_HEADER_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let is_stopped = tokio::select! {
            result = connection.as_mut() => return result,
            // Fails once the sender is gone, which is the signal.
            _ = self.stopped.changed() => true,
            closed = self.taken.ended() => match closed {
                CloseReason::Idle => false,
                _ => return Ok(()),
            }
        };
        connection.as_mut().graceful_shutdown();
        if is_stopped {
            return connection.await;
        }
        tokio::time::timeout(GOODBYE, connection).await.unwrap_or(Ok(()))
    }

    async fn http2(mut self, stream: impl AsyncRead + AsyncWrite + Unpin) -> hyper::Result<()> {
        let (router, seat) = (self.router, Arc::clone(&self.taken));
        let service = service_fn(move |request| answer(router.clone(), seat.clone(), request));
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(SEND_TIMEOUT)
            .max_concurrent_streams(MAX_STREAMS)
            .max_send_buf_size(BUFFER)
            .max_header_list_size(u32::try_from(MAX_HEADER_BYTES).unwrap_or(u32::MAX))
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        tokio::select! {
            result = connection.as_mut() => return result,
            // As above.
            _ = self.stopped.changed() => {}
            closed = self.taken.ended() => if closed != CloseReason::Idle {
                return Ok(());
            }
        }
        connection.as_mut().graceful_shutdown();
        // A peer that does not respond to that is closed.
        tokio::time::timeout(GRACE, connection).await.unwrap_or(Ok(()))
    }
}

/// Answers a request. It is under way until the answer has been read, or given up.
async fn answer(
    router: Router,
    seat: Arc<Seat>,
    request: Request<Incoming>,
) -> Result<Response<GuardedBody>, std::convert::Infallible> {
    let under_way = seat.begin();
    let response = router.oneshot(request.map(Body::new)).await?;
    Ok(response.map(|body| GuardedBody::new(body, under_way)))
}

/// A stream that informs its seat when bytes come: a request that has begun must be completed in time.
struct SeatedStream<S> {
    stream: S,
    seat: Arc<Seat>,
}

impl<S: AsyncRead + Unpin> AsyncRead for SeatedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        if buffer.filled().len() > before {
            self.seat.heard();
        }
        Poll::Ready(result)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for SeatedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Does the TLS handshake. `None` for a client that speaks plain HTTP: it has got a message, which helps more than a closed
/// connection.
async fn handshake(
    mut stream: TcpStream,
    tls: Arc<rustls::ServerConfig>,
) -> io::Result<Option<TlsStream<TcpStream>>> {
    let mut first = [0];
    stream.peek(&mut first).await?;
    if first[0].is_ascii_uppercase() {
        // Read the request first: a socket that is closed with unread bytes resets, and the answer may be lost.
        let mut request = [0; 1024];
        let _ = stream.try_read(&mut request);
        stream.write_all(NOT_TLS).await?;
        stream.shutdown().await?;
        return Ok(None);
    }
    TlsAcceptor::from(tls).accept(stream).await.map(Some)
}
