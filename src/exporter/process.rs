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

/// How often the kernel has switched between tasks, by its own count: what probes of the scheduler count can be compared with it.
/// `None` if procfs does not tell.
pub(super) fn context_switches(stat: &Path) -> Option<MetricFamily> {
    let text = std::fs::read_to_string(stat).ok()?;
    let value = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.trim().parse().ok()
    };
    let switches = MetricFamily::single(
        "tapster_host_context_switches_total",
        "Switches between tasks since the start of the host, by the kernel's own count.",
        FamilyKind::Counter,
        number(value("ctxt")?),
    );
    let began = value("btime").and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    Some(match began {
        Some(began) => switches.since(began),
        None => switches,
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::{Origin, SampleValue};

    #[test]
    fn switches_are_those_of_the_kernel() {
        let directory = tempfile::tempdir().expect("a directory");
        let stat = directory.path().join("stat");
        assert!(context_switches(&stat).is_none());
        for (text, expected) in [
            (
                "cpu  1 2\nintr 7 0 1\nctxt 123456789012\nbtime 1700000000\nprocesses 5\n",
                Some(123_456_789_012.0),
            ),
            ("cpu  1 2\nctxtx 3\nctxt 4", Some(4.0)),
            ("ctxt\n", None),
            ("ctxt x\n", None),
            ("", None),
        ] {
            std::fs::write(&stat, text).expect("writable");
            let family = context_switches(&stat);
            let value = family.as_ref().map(|family| &family.samples[0].value);
            assert_eq!(value, expected.map(SampleValue::Number).as_ref(), "{text}");
            if let Some(family) = family.filter(|_| text.contains("btime")) {
                assert_eq!(family.origin, Origin::at(UNIX_EPOCH + Duration::from_secs(1_700_000_000)));
            }
        }
    }
}
