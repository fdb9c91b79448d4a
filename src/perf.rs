//! Timers and counters: which perf event an attach point means, and on which CPUs it is open.
//!
//! A perf event of a CPU ends for good when that CPU goes offline, and one that comes online has none. So CPUs are looked at
//! again and again, see [ADR 34](../docs/adr/0034-objects.md).

use crate::sys::{self, CpuEvent, Every};
use std::{io, os::fd::BorrowedFd};
use tapster_ebpf::probe::{self, PerfKind};

/// `PERF_TYPE_HARDWARE`, `PERF_TYPE_SOFTWARE`
const HARDWARE: u32 = 0;
const SOFTWARE: u32 = 1;
/// `PERF_COUNT_SW_CPU_CLOCK`
const CPU_CLOCK: u64 = 0;

/// Type and number of an event, as `enum perf_sw_ids` and `enum perf_hw_id` have them.
fn config(event: &probe::PerfEvent) -> (u32, u64) {
    match event.kind {
        PerfKind::Profile | PerfKind::Interval => (SOFTWARE, CPU_CLOCK),
        PerfKind::Software => (
            SOFTWARE,
            match event.name {
                "cpu-clock" => CPU_CLOCK,
                "task-clock" => 1,
                "page-faults" => 2,
                "context-switches" => 3,
                "cpu-migrations" => 4,
                "minor-faults" => 5,
                "major-faults" => 6,
                "alignment-faults" => 7,
                "emulation-faults" => 8,
                other => unreachable!("`{other}` is no name of a software event: this is a bug in tapster"),
            },
        ),
        PerfKind::Hardware => (
            HARDWARE,
            match event.name {
                "cpu-cycles" => 0,
                "instructions" => 1,
                "cache-references" => 2,
                "cache-misses" => 3,
                "branch-instructions" => 4,
                "branch-misses" => 5,
                "bus-cycles" => 6,
                "frontend-stalls" => 7,
                "backend-stalls" => 8,
                "ref-cycles" => 9,
                other => unreachable!("`{other}` is no name of a hardware event: this is a bug in tapster"),
            },
        ),
    }
}

fn every(event: &probe::PerfEvent) -> Every {
    match (event.kind, event.period_ns()) {
        // A frequency is what keeps the kernel's limit on samples from stopping the timer.
        (PerfKind::Profile, _) if event.name == "hz" => Every::Second(event.amount),
        (_, Some(period)) => Every::Count(period),
        (_, None) => Every::Count(event.amount),
    }
}

/// Opens the event on these CPUs and closes it again, without a program and without counting: whether the kernel has it there.
pub fn attempt(event: &probe::PerfEvent, online: &[u32]) -> io::Result<()> {
    let most = if event.kind == PerfKind::Interval { 1 } else { online.len() };
    online.iter().take(most).try_for_each(|cpu| CpuEvent::attempt(config(event), every(event), *cpu))
}

/// CPUs that an event was opened on.
#[derive(Debug, Default)]
pub struct Covered {
    /// Their numbers.
    pub cpus: Vec<u32>,
    /// Why the first of the others was refused, if some were.
    pub refused: Option<io::Error>,
}

/// A timer or counter, open on the CPUs that are online: an interval on one of them.
#[derive(Debug)]
pub struct Events {
    event: probe::PerfEvent,
    open: Vec<Open>,
}

#[derive(Debug)]
struct Open {
    cpu: u32,
    event: CpuEvent,
    /// How long it had been there when it was looked at last.
    enabled_ns: u64,
}

impl Events {
    /// Opens the event on these CPUs and attaches a program that was loaded for it.
    pub fn attach(program: BorrowedFd<'_>, event: &probe::PerfEvent, online: &[u32]) -> io::Result<Self> {
        let mut events = Self { event: event.clone(), open: Vec::new() };
        events.cover(program, online).refused.map_or(Ok(events), Err)
    }

    /// Opens the event on CPUs that came online, and again on those that were offline meanwhile. To be called about every second,
    /// and not twice within a millisecond.
    pub fn follow(&mut self, program: BorrowedFd<'_>, online: &[u32]) -> Covered {
        self.open.retain_mut(|open| {
            let before = open.enabled_ns;
            let is_alive = open.event.enabled_ns().is_ok_and(|now| {
                open.enabled_ns = now;
                now > before
            });
            is_alive && online.contains(&open.cpu)
        });
        self.cover(program, online)
    }

    fn cover(&mut self, program: BorrowedFd<'_>, online: &[u32]) -> Covered {
        let is_covered = |cpu: &u32| self.open.iter().any(|open| open.cpu == *cpu);
        let lacking: Vec<u32> = match self.event.kind {
            PerfKind::Interval if !self.open.is_empty() => Vec::new(),
            PerfKind::Interval => online.iter().copied().take(1).collect(),
            _ => online.iter().copied().filter(|cpu| !is_covered(cpu)).collect(),
        };
        let mut covered = Covered::default();
        for cpu in lacking {
            match CpuEvent::attach(program, config(&self.event), every(&self.event), cpu) {
                Ok(event) => {
                    self.open.push(Open { cpu, event, enabled_ns: 0 });
                    covered.cpus.push(cpu);
                }
                // It went offline a moment ago.
                Err(error) if sys::errno(&error) == Some(libc::ENODEV) && !self.open.is_empty() => {}
                // The others are counted on all the same.
                Err(error) => covered.refused = covered.refused.or(Some(error)),
            }
        }
        covered
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tapster_ebpf::probe::{AttachPoint, HARDWARE_EVENTS, SOFTWARE_EVENTS};

    #[test]
    fn every_event_has_its_number() {
        let mut numbers = Vec::new();
        for (kind, names) in [("software", &SOFTWARE_EVENTS[..]), ("hardware", &HARDWARE_EVENTS[..])] {
            for (full, short) in names {
                for name in [full, short] {
                    let point = AttachPoint::parse(&format!("{kind}:{name}:1")).unwrap();
                    let AttachPoint::Perf(event) = point else { panic!("{kind}:{name}") };
                    assert_eq!(event.name, *full);
                    numbers.push(config(&event));
                }
            }
        }
        numbers.dedup();
        let (count, all) = (numbers.len(), SOFTWARE_EVENTS.len() + HARDWARE_EVENTS.len());
        assert_eq!(count, all, "each has one of its own: {numbers:?}");
    }
}
