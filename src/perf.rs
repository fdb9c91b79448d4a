//! Timers and counters: which perf event an attach point means, and on which CPUs it is open.
//!
//! A perf event of a CPU ends for good when that CPU goes offline, and one that comes online has none. So CPUs are looked at
//! again and again, see [ADR 34](../docs/adr/0034-objects.md).

use crate::sys::{self, CpuEvent, Every};
use std::{io, os::fd::BorrowedFd};
use tapster_ebpf::attach::PerfEvent;

fn every(event: &PerfEvent) -> Every {
    let count = || Every::Count(event.period_ns().unwrap_or(event.amount));
    event.frequency().map_or_else(count, Every::Second)
}

/// Opens the event on these CPUs and closes it again, without a program and without counting: whether the kernel has it there.
pub fn attempt(event: &PerfEvent, online: &[u32]) -> io::Result<()> {
    let most = if event.family.is_on_one_cpu { 1 } else { online.len() };
    online.iter().take(most).try_for_each(|cpu| CpuEvent::attempt(event.config(), every(event), *cpu))
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
    event: PerfEvent,
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
    pub fn attach(program: BorrowedFd<'_>, event: &PerfEvent, online: &[u32]) -> io::Result<Self> {
        let mut events = Self { event: *event, open: Vec::new() };
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
                // It went offline a moment ago.
                Err(error) if sys::errno(&error) == Some(libc::ENODEV) && !self.open.is_empty() => {}
                // The others are counted on all the same.
                Err(error) => covered.refused = covered.refused.or(Some(error)),
            }
        }
        covered
    }
}
