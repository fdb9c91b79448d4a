//! Timers and counters: the perf event of an attach point, and the CPUs on which it is open.
//!
//! A perf event on a CPU ends for good when that CPU goes offline, and a CPU that comes online has none. So CPUs are checked
//! regularly, see [ADR 34](../docs/adr/0034-objects.md).

use crate::sys::{self, CpuEvent, SamplePeriod};
use std::{io, os::fd::BorrowedFd};
use tapster_ebpf::attach::PerfEvent;

fn every(event: &PerfEvent) -> SamplePeriod {
    let count = || SamplePeriod::Count(event.period_ns().unwrap_or(event.amount));
    event.frequency().map_or_else(count, SamplePeriod::Second)
}

/// Opens the event on these CPUs and closes it again, without a program and without counting: checks that the kernel has it
/// there.
pub fn attempt(event: &PerfEvent, online: &[u32]) -> io::Result<()> {
    let most = if event.family.is_on_one_cpu { 1 } else { online.len() };
    online.iter().take(most).try_for_each(|cpu| CpuEvent::attempt(event.config(), every(event), *cpu))
}

/// CPUs on which an event was opened.
#[derive(Debug, Default)]
pub struct Covered {
    /// Their numbers.
    pub cpus: Vec<u32>,
    /// Why the first of the others was refused, if any was.
    pub refused: Option<io::Error>,
}

/// A timer or counter, open on the CPUs that are online; an interval is open on one of them.
#[derive(Debug)]
pub struct OpenEvents {
    event: PerfEvent,
    open: Vec<Open>,
}

#[derive(Debug)]
struct Open {
    cpu: u32,
    event: CpuEvent,
    /// How long the event had been enabled at the last check.
    enabled_ns: u64,
}

impl OpenEvents {
    /// Opens the event on these CPUs and attaches a program that was loaded for it.
    pub fn attach(program: BorrowedFd<'_>, event: &PerfEvent, online: &[u32]) -> io::Result<Self> {
        let mut events = Self { event: *event, open: Vec::new() };
        events.cover(program, online).refused.map_or(Ok(events), Err)
    }

    /// Opens the event on CPUs that came online, and again on those that were offline meanwhile. Called about every second; two
    /// calls must be at least a millisecond apart.
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
        let most = match (self.event.family.is_on_one_cpu, self.open.is_empty()) {
            (true, true) => 1,
            (true, false) => 0,
            (false, _) => online.len(),
        };
        let lacking: Vec<u32> = online.iter().copied().filter(|cpu| !is_covered(cpu)).take(most).collect();
        let mut covered = Covered::default();
        for cpu in lacking {
            match CpuEvent::attach(program, self.event.config(), every(&self.event), cpu) {
                Ok(event) => {
                    self.open.push(Open { cpu, event, enabled_ns: 0 });
                    covered.cpus.push(cpu);
                }
                // The CPU went offline a moment ago.
                Err(error) if sys::errno(&error) == Some(libc::ENODEV) && !self.open.is_empty() => {}
                // The event counts on the other CPUs all the same.
                Err(error) => covered.refused = covered.refused.or(Some(error)),
            }
        }
        covered
    }
}
