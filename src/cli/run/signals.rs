//! Signals: SIGTERM and SIGINT end the exporter, SIGHUP reloads its configuration.

use super::systemd;
use crate::{exporter::Exporter, reload::Configuration, sys};
use std::{io, sync::Arc};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
    task::{JoinHandle, spawn_blocking},
};

/// Signals that are handled from its creation on.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// Blocks SIGHUP until [`Signals::handle`]: a service may get a reload request while it starts, which would end it.
pub(super) fn hold() -> io::Result<()> {
    sys::hold_signal(libc::SIGHUP, true)
}

impl Signals {
    /// Called in a runtime, on the thread that called [`hold`].
    pub(super) fn handle() -> io::Result<Self> {
        let signals = Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        };
        sys::hold_signal(libc::SIGHUP, false)?;
        Ok(signals)
    }

    /// Returns when a signal ends the process.
    pub(super) async fn end(mut self, exporter: Arc<Exporter>, configuration: Arc<Configuration>) {
        let asked = Arc::new(Notify::new());
        let _reloads = AbortOnDrop(tokio::spawn(reloads(asked.clone(), exporter, configuration)));
        loop {
            tokio::select! {
                _ = self.terminate.recv() => {
                    tracing::info!("got SIGTERM, stopping");
                    return;
                }
                _ = self.interrupt.recv() => {
                    tracing::info!("got SIGINT, stopping");
                    return;
                }
                _ = self.hangup.recv() => {
                    tracing::info!("got SIGHUP, reading the configuration again");
                    // The reload runs in its own task, so that SIGTERM is handled at once; several requests meanwhile become
                    // one.
                    asked.notify_one();
                }
            }
        }
    }
}

/// A task that ends when this is dropped.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reloads the configuration at each request.
async fn reloads(asked: Arc<Notify>, exporter: Arc<Exporter>, configuration: Arc<Configuration>) {
    loop {
        asked.notified().await;
        systemd::reloading();
        let configuration = configuration.clone();
        // The reload logs errors and keeps the running probes; the runtime logs a panic.
        let _ = spawn_blocking(move || configuration.reload()).await;
        systemd::ready(exporter.up(), exporter.probes().len());
    }
}
