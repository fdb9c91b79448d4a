//! Signals: SIGTERM and SIGINT end the exporter, SIGHUP has its configuration read again.

use super::systemd;
use crate::{exporter::Exporter, reload::Configuration, sys};
use std::{io, sync::Arc};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
    task::{JoinHandle, spawn_blocking},
};

/// The signals that are handled from when this was made.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// Keeps SIGHUP waiting until [`Signals::handle`]: a service may be told to reload while it starts, and would end.
pub(super) fn hold() -> io::Result<()> {
    sys::hold_signal(libc::SIGHUP, true)
}

impl Signals {
    /// To be called in a runtime, on the thread that called [`hold`].
    pub(super) fn handle() -> io::Result<Self> {
        let signals = Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        };
        sys::hold_signal(libc::SIGHUP, false)?;
        Ok(signals)
    }

    /// Returns when the process is told to end.
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
                    // It is not waited for, so that SIGTERM is answered at once; several in the meantime are one.
                    asked.notify_one();
                }
            }
        }
    }
}

/// A task that ends with this.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reads the configuration again whenever that is asked for.
async fn reloads(asked: Arc<Notify>, exporter: Arc<Exporter>, configuration: Arc<Configuration>) {
    loop {
        asked.notified().await;
        systemd::reloading();
        let configuration = configuration.clone();
        // What is wrong is logged there, and what ran before goes on; a panic is logged by the runtime.
        let _ = spawn_blocking(move || configuration.reload()).await;
        systemd::ready(exporter.up(), exporter.probes().len());
    }
}
