//! Connections: accepts them, bounds what a slow or hostile peer can hold, and lets them finish at shutdown.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::{Listener, ServerError, routes};
use crate::source::Source;

/// Open connections; more wait in the kernel's queue. Far above any number of scrapers.
const MAX_CONNECTIONS: usize = 256;
/// How long a peer may take to send a request, and how long an idle connection stays open: longer than the usual
/// minute between scrapes, so that a scraper can keep its connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(90);
/// How long a peer may refuse to take what is sent to it.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// Size limit of a request line and headers.
const MAX_HEADER_BYTES: usize = 32 * 1024;
/// How long requests under way may take once the server is told to stop.
const GRACE: Duration = Duration::from_secs(5);
/// Pause after a failed accept: out of file descriptors, trying again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves `source` until `shutdown` is done, then lets requests under way finish for up to five seconds.
///
/// A collection cannot be cancelled; one that takes longer lives on in the runtime's blocking threads, so the
/// caller ends the runtime with `shutdown_timeout` or the process with it.
pub async fn serve(
    listener: Listener,
    source: Arc<dyn Source>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServerError> {
    let listener = listener.into_tokio()?;
    let router = routes::router(source);
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            (stream, slot) = accept(&listener, &slots) => {
                connections.spawn(handle(stream, router.clone(), stopped.clone(), slot));
            }
        }
    }
    drop(listener);
    drop(stop);
    let finished = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, finished).await.is_err() {
        tracing::warn!(connections = connections.len(), "closing connections that did not finish in time");
    }
    Ok(())
}

async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    // `None` cannot happen, the semaphore is never closed; it would mean no limit, not no service.
    let slot = Arc::clone(slots).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, slot),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection, to its end. The slot is free again when this returns or is dropped.
async fn handle(
    stream: TcpStream,
    router: Router,
    mut stopped: watch::Receiver<()>,
    _slot: Option<OwnedSemaphorePermit>,
) {
    // The kernel watches for peers that do not read; no timer of ours sees bytes leave.
    if let Err(error) = SockRef::from(&stream).set_tcp_user_timeout(Some(SEND_TIMEOUT)) {
        tracing::debug!(%error, "cannot limit the time to send");
    }
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        // Fails once the sender is gone, which is the signal.
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        // A peer that hangs up or talks nonsense is no event for the operator.
        tracing::debug!(%error, "connection ended early");
    }
}
