//! Timers and counters: which perf event an attach point means, and on which CPUs it is opened.

use crate::sys::{self, Counted, EventKind};
use aya::programs::{
    PerfEvent, ProgramError,
    perf_event::{HardwareEvent, PerfEventConfig, PerfEventScope, SamplePolicy, SoftwareEvent},
};
use std::io;
use tapster_ebpf::probe::{self, PerfKind};

fn config(event: &probe::PerfEvent) -> PerfEventConfig {
    match event.kind {
        PerfKind::Profile | PerfKind::Interval => PerfEventConfig::Software(SoftwareEvent::CpuClock),
        PerfKind::Software => PerfEventConfig::Software(match event.name {
            "cpu-clock" => SoftwareEvent::CpuClock,
            "task-clock" => SoftwareEvent::TaskClock,
            "page-faults" => SoftwareEvent::PageFaults,
            "context-switches" => SoftwareEvent::ContextSwitches,
            "cpu-migrations" => SoftwareEvent::CpuMigrations,
            "minor-faults" => SoftwareEvent::PageFaultsMin,
            "major-faults" => SoftwareEvent::PageFaultsMaj,
            "alignment-faults" => SoftwareEvent::AlignmentFaults,
            "emulation-faults" => SoftwareEvent::EmulationFaults,
            other => unreachable!("`{other}` is no name of a software event: this is a bug in tapster"),
        }),
        PerfKind::Hardware => PerfEventConfig::Hardware(match event.name {
            "cpu-cycles" => HardwareEvent::CpuCycles,
            "instructions" => HardwareEvent::Instructions,
            "cache-references" => HardwareEvent::CacheReferences,
            "cache-misses" => HardwareEvent::CacheMisses,
            "branch-instructions" => HardwareEvent::BranchInstructions,
            "branch-misses" => HardwareEvent::BranchMisses,
            "bus-cycles" => HardwareEvent::BusCycles,
            "frontend-stalls" => HardwareEvent::StalledCyclesFrontend,
            "backend-stalls" => HardwareEvent::StalledCyclesBackend,
            "ref-cycles" => HardwareEvent::RefCpuCycles,
            other => unreachable!("`{other}` is no name of a hardware event: this is a bug in tapster"),
        }),
    }
}

/// How often it comes.
fn policy(event: &probe::PerfEvent) -> SamplePolicy {
    match (event.kind, event.period_ns()) {
        // A frequency is what keeps the kernel's limit on samples from stopping the timer.
        (PerfKind::Profile, _) if event.name == "hz" => SamplePolicy::Frequency(event.amount),
        (_, Some(period)) => SamplePolicy::Period(period),
        (_, None) => SamplePolicy::Period(event.amount),
    }
}

/// The CPUs that it is opened on.
fn cpus(event: &probe::PerfEvent) -> io::Result<Vec<u32>> {
    let mut cpus = aya::util::online_cpus().map_err(|(_, error)| error)?;
    if event.kind == PerfKind::Interval {
        cpus.truncate(1);
    }
    Ok(cpus)
}

/// Opens the event on each CPU and closes it again, without a program and without counting: whether the kernel has it there.
pub fn attempt(event: &probe::PerfEvent) -> io::Result<()> {
    let kind = match config(event) {
        PerfEventConfig::Hardware(event) => EventKind::Hardware(event),
        PerfEventConfig::Software(event) => EventKind::Software(event),
        other => unreachable!("`{event}` is no {other:?}: this is a bug in tapster"),
    };
    let counted = match policy(event) {
        SamplePolicy::Frequency(hz) => Counted::Frequency(hz),
        SamplePolicy::Period(period) => Counted::Period(period),
    };
    cpus(event)?.into_iter().try_for_each(|cpu| sys::try_event(kind, counted, cpu))
}

/// Opens the event and attaches a loaded program to it: on one CPU for an interval, else on every CPU that is online.
/// A CPU that comes up later is not seen.
pub fn attach(program: &mut PerfEvent, event: &probe::PerfEvent) -> Result<(), ProgramError> {
    let policy = policy(event);
    for cpu in cpus(event).map_err(ProgramError::IOError)? {
        program.attach(config(event), PerfEventScope::AllProcessesOneCpu { cpu }, policy, false)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tapster_ebpf::probe::{AttachPoint, HARDWARE_EVENTS, SOFTWARE_EVENTS};

    #[test]
    fn every_event_has_its_number() {
        for (kind, names) in [("software", &SOFTWARE_EVENTS[..]), ("hardware", &HARDWARE_EVENTS[..])] {
            for (full, short) in names {
                for name in [full, short] {
                    let point = AttachPoint::parse(&format!("{kind}:{name}:1")).unwrap();
                    let AttachPoint::Perf(event) = point else { panic!("{kind}:{name}") };
                    assert_eq!(event.name, *full);
                    config(&event);
                }
            }
        }
    }
}
