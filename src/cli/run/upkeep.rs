//! What is done again and again while the exporter runs, each in a task of its own.

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

/// How often starts without an end are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// How often it is looked at what probes are attached to: files of programs, CPUs, modules of the kernel.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);
/// How many such looks there are to one at whether replaced files still run, which reads the maps of every process.
const LOOKS_PER_RELEASE: u64 = 10;
/// How often it is looked which cgroups are gone, where a probe names them.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Such looks may take one part in so many of the time, as long as they are no further apart than this.
const LOOK_SHARE: u32 = 20;
const LOOK_LATEST: Duration = Duration::from_secs(5);

/// Starts it all; it ends when the answer is dropped. `every`: how often it is looked whether the configuration changed.
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
        // A panic in it is logged by the runtime, and the next round tries again.
        let _ = spawn_blocking(move || {
            if configuration.is_stale() {
                // What is wrong is logged there.
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
        // A panic in it is logged by the runtime, and the next round tries again.
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
