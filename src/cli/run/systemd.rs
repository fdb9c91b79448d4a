//! What systemd is told, where it started this process and asks for it: that it serves, that it reads its configuration again,
//! that it ends, and that it is alive.

use sd_notify::NotifyState;
use std::time::Duration;
use tokio::{task::spawn_blocking, time::MissedTickBehavior};

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd cannot be told what became of its service");
    }
}

/// It serves; `up` probes of `all` are up.
pub(super) fn ready(up: usize, all: usize) {
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("{up} of {all} probes are up"))]);
}

/// It reads its configuration again; [`ready`] says when that is done.
pub(super) fn reloading() {
    let now = NotifyState::monotonic_usec_now().ok();
    tell(&[Some(NotifyState::Reloading), now].into_iter().flatten().collect::<Vec<_>>());
}

/// It ends.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Says again and again that this process is alive, where systemd asks for that: that its event loop runs and that what may
/// block finds a thread. Who serves nothing because all threads hang is started anew.
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
