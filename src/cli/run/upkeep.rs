//! Regular work while the exporter runs, each kind in a task of its own.

use super::systemd;
use crate::{exporter::Exporter, host::Host, reload::Configuration};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::MissedTickBehavior,
};

/// How often starts without an end are given up.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// How often the objects of probes are checked: files of programs, CPUs, kernel modules.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);
/// One in this many checks also looks for processes that still execute replaced files, which reads the maps of every process.
const LOOKS_PER_RELEASE: u64 = 10;
/// How often gone cgroups are looked for, if a probe names cgroups.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// These checks take at most one part in this many of the time, unless the interval would exceed `LOOK_LATEST`.
const LOOK_SHARE: u32 = 20;
const LOOK_LATEST: Duration = Duration::from_secs(5);

/// Starts all tasks; they end when the result is dropped. `every`: how often to check whether the configuration changed.
pub(super) fn start(
    exporter: &Arc<Exporter>,
    configuration: &Arc<Configuration>,
    host: Host,
    every: Option<Duration>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(sweep(exporter.clone()));
    tasks.spawn(follow(exporter.clone(), host));
    tasks.spawn(retire(exporter.clone()));
    tasks.spawn(systemd::watchdog());
    if let Some(every) = every {
        tasks.spawn(reload(configuration.clone(), every));
    }
    tasks
}

async fn reload(configuration: Arc<Configuration>, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let configuration = configuration.clone();
        // The runtime logs a panic, and the next round tries again.
        let _ = spawn_blocking(move || {
            if configuration.is_stale() {
                // The reload logs errors.
                let _ = configuration.reload();
            }
        })
        .await;
    }
}

async fn sweep(exporter: Arc<Exporter>) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    loop {
        ticks.tick().await;
        let exporter = exporter.clone();
        // The runtime logs a panic, and the next round tries again.
        let _ = spawn_blocking(move || exporter.sweep()).await;
    }
}

async fn retire(exporter: Arc<Exporter>) {
    loop {
        let (exporter, begun) = (exporter.clone(), Instant::now());
        // As above.
        let _ = spawn_blocking(move || exporter.retire()).await;
        tokio::time::sleep((begun.elapsed() * LOOK_SHARE).clamp(LOOK_EVERY, LOOK_LATEST)).await;
    }
}

async fn follow(exporter: Arc<Exporter>, host: Host) {
    let mut ticks = tokio::time::interval(FOLLOW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for look in 1_u64.. {
        ticks.tick().await;
        let (exporter, host) = (exporter.clone(), host.clone());
        // As above.
        let _ = spawn_blocking(move || {
            exporter.follow(&host);
            if look % LOOKS_PER_RELEASE == 0 && exporter.watches() {
                exporter.release();
            }
        })
        .await;
    }
}
