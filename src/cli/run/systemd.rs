//! Notifies systemd, if it started this process and expects that: ready, reloading, stopping, and alive.

use sd_notify::NotifyState;
use std::time::Duration;
use tokio::{task::spawn_blocking, time::MissedTickBehavior};

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd cannot be told what became of its service");
    }
}

/// Reports that the exporter serves; `up` probes of `all` are up.
pub(super) fn ready(up: usize, all: usize) {
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("{up} of {all} probes are up"))]);
}

/// Reports a reload; [`ready`] reports its end.
pub(super) fn reloading() {
    let now = NotifyState::monotonic_usec_now().ok();
    tell(&[Some(NotifyState::Reloading), now].into_iter().flatten().collect::<Vec<_>>());
}

/// Reports that the exporter stops.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Regularly reports that this process is alive, if systemd expects that: its event loop runs, and blocking work gets a thread.
/// systemd restarts an exporter that cannot serve because all threads hang.
pub(super) async fn watchdog() {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else { return };
    let mut ticks = tokio::time::interval((limit / 3).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if spawn_blocking(|| ()).await.is_ok() {
            tell(&[NotifyState::Watchdog]);
        }
    }
}
