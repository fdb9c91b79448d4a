//! Signals: SIGTERM and SIGINT end the exporter, SIGHUP has its configuration read again.

use crate::reload::Configuration;
use std::{io, sync::Arc};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::spawn_blocking,
};

/// The signals that are handled from when this was made.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// To be called in a runtime.
    pub(super) fn handle() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Returns when the process is told to end.
    pub(super) async fn end(mut self, configuration: Arc<Configuration>) {
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
                    let configuration = configuration.clone();
                    // What is wrong is logged there. It is not waited for, so that SIGTERM is answered at once.
                    drop(spawn_blocking(move || configuration.reload()));
                }
            }
        }
    }
}
