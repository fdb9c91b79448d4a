//! Signals: SIGTERM and SIGINT end the exporter, SIGHUP has its configuration read again.

use super::systemd;
use crate::{exporter::Exporter, reload::Configuration};
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
    pub(super) async fn end(mut self, exporter: Arc<Exporter>, configuration: Arc<Configuration>) {
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
                    let (exporter, configuration) = (exporter.clone(), configuration.clone());
                    systemd::reloading();
                    // It is not waited for, so that SIGTERM is answered at once.
                    drop(spawn_blocking(move || {
                        // What is wrong is logged there, and what ran before goes on.
                        let _ = configuration.reload();
                        systemd::ready(exporter.up(), exporter.probes().len());
                    }));
                }
            }
        }
    }
}
