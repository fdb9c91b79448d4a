//! Families about the process and the host.

use super::number;
use crate::{
    family::{FamilyKind, MetricFamily},
    sys,
};
use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The CPUs on which tasks can run: those of the host, whichever of them this process may use. `None` if sysfs does not list
/// them.
pub(super) fn online_cpus(path: &Path) -> Option<MetricFamily> {
    let count = sys::listed_cpus(path).ok()?;
    Some(MetricFamily::single(
        "tapster_online_cpus",
        "Processors of this host that are online.",
        FamilyKind::Gauge,
        f64::from(count),
    ))
}

/// When this process started; `None` if procfs does not report it.
pub(super) fn process_began() -> Option<SystemTime> {
    let stat = procfs::process::Process::myself().and_then(|process| process.stat()).ok()?;
    let ticks = number(procfs::ticks_per_second());
    let started = number(procfs::boot_time_secs().ok()?) + number(stat.starttime) / ticks;
    UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(started).ok()?)
}

/// The exporter as a process, by the names that all Prometheus clients use, and its build.
pub(super) fn process(began: Option<SystemTime>) -> Vec<MetricFamily> {
    let mut build = MetricFamily::new(
        "tapster_build_info",
        "Version of the exporter; the value is always 1.",
        FamilyKind::Gauge,
        &["version"],
    );
    build.push(&[env!("CARGO_PKG_VERSION")], 1.0);
    let mut families = vec![build];
    let Ok(stat) = procfs::process::Process::myself().and_then(|process| {
        let open_fds = process.fd_count()?;
        Ok((process.stat()?, open_fds))
    }) else {
        return families;
    };
    let (stat, open_fds) = stat;
    let gauge = |name, help, value| MetricFamily::single(name, help, FamilyKind::Gauge, value);
    let ticks = number(procfs::ticks_per_second());
    let started = procfs::boot_time_secs().map_or(0.0, number) + number(stat.starttime) / ticks;
    let resident = number(stat.rss.saturating_mul(procfs::page_size()));
    let cpu = MetricFamily::single(
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        FamilyKind::Counter,
        number(stat.utime + stat.stime) / ticks,
    );
    families.push(match began {
        Some(began) => cpu.since(began),
        None => cpu,
    });
    families.push(gauge("process_resident_memory_bytes", "Resident memory size in bytes.", resident));
    families.push(gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", number(stat.vsize)));
    families.push(gauge("process_open_fds", "Number of open file descriptors.", number(open_fds as u64)));
    families.push(gauge(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        started,
    ));
    families
}
