//! Timers and counters of the CPU and the kernel, through perf events (4.9): `profile:`, `interval:`, `software:` and
//! `hardware:`. The current task is the one that was interrupted, or that caused the event.
//!
//! Source: `include/uapi/linux/bpf_perf_event.h`, whose registers are followed by two words, and `enum perf_sw_ids` and
//! `enum perf_hw_id` in `include/uapi/linux/perf_event.h`.

use super::{
    Arch, Argument, ArgumentValue, Description, Parsed, PointRefusal, Resolved, Target, never_untracked,
};
use crate::{
    diagnostic::nearest,
    point::{AttachKind, AttachPoint, FunctionCount, LinkKind, Mechanism, ProgramSection, Subject},
    typed::{Type, Typed, TypedKind},
};
use std::fmt;

const MECHANISM: Mechanism =
    Mechanism::new("perf_event", ProgramSection::Plain("perf_event"), LinkKind::CpuEvents);

/// `PERF_TYPE_HARDWARE`, `PERF_TYPE_SOFTWARE`
const BY_CPU: u32 = 0;
const BY_KERNEL: u32 = 1;
/// `PERF_COUNT_SW_CPU_CLOCK`
const CPU_CLOCK: u64 = 0;

const fn description(
    [name, short, form]: [&'static str; 3],
    subject: Subject,
    parse: fn(&str) -> Parsed,
) -> Description {
    Description {
        kind: AttachKind {
            name,
            short,
            form,
            subject,
            several: FunctionCount::Never,
            mechanisms: &[MECHANISM],
        },
        parse,
        resolve: |_, _, target| Ok(vec![resolve(target)]),
        untracked: never_untracked,
    }
}

pub(super) static PROFILE: Description =
    description(["profile", "p", "profile:hz:COUNT"], Subject::Timer, |text| parse(&FAMILIES[0], text));
pub(super) static INTERVAL: Description =
    description(["interval", "i", "interval:s:COUNT"], Subject::Timer, |text| parse(&FAMILIES[1], text));
pub(super) static SOFTWARE: Description =
    description(["software", "s", "software:EVENT:COUNT"], Subject::Counter, |text| {
        parse(&FAMILIES[2], text)
    });
pub(super) static HARDWARE: Description =
    description(["hardware", "h", "hardware:EVENT:COUNT"], Subject::Counter, |text| {
        parse(&FAMILIES[3], text)
    });

/// The timers or counters of one attach kind.
#[derive(Debug)]
pub struct EventFamily {
    /// Its attach kind.
    description: &'static Description,
    /// `perf_event_attr.type`
    source: u32,
    /// The units of a timer, or the counters.
    pub names: &'static [EventName],
    /// Whether the timer runs on one CPU; otherwise each CPU has one.
    pub is_on_one_cpu: bool,
    /// Whether a frequency is passed to the kernel as a frequency: then the kernel's limit on samples does not stop the
    /// timer.
    has_frequency: bool,
    /// Whether the processor counts: it may lack a counter, and few virtual machines have any.
    pub is_of_processor: bool,
}

/// The unit of a timer, or the name of a counter.
#[derive(Debug)]
pub struct EventName {
    /// Its name.
    pub name: &'static str,
    /// bpftrace's short form, if it differs.
    pub short: &'static str,
    /// A count that does not cause too many events, as an example.
    pub example: u64,
    /// `perf_event_attr.config`
    config: u64,
    /// The unit, for a timer.
    unit: Option<PeriodUnit>,
}

#[derive(Clone, Copy, Debug)]
enum PeriodUnit {
    Nanoseconds(u64),
    Hertz,
}

const fn unit(name: &'static str, unit: PeriodUnit, example: u64) -> EventName {
    EventName { name, short: name, example, config: CPU_CLOCK, unit: Some(unit) }
}

const fn counter(name: &'static str, short: &'static str, config: u64, example: u64) -> EventName {
    EventName { name, short, example, config, unit: None }
}

const HZ: EventName = unit("hz", PeriodUnit::Hertz, 99);
const S: EventName = unit("s", PeriodUnit::Nanoseconds(1_000_000_000), 1);
const MS: EventName = unit("ms", PeriodUnit::Nanoseconds(1_000_000), 10);
const US: EventName = unit("us", PeriodUnit::Nanoseconds(1_000), 10_000);

/// The timers and counters of all attach kinds.
pub static FAMILIES: [EventFamily; 4] = [
    // A timer on each CPU.
    EventFamily {
        description: &PROFILE,
        source: BY_KERNEL,
        names: &[HZ, S, MS, US],
        is_on_one_cpu: false,
        has_frequency: true,
        is_of_processor: false,
    },
    // A timer on one CPU.
    EventFamily {
        description: &INTERVAL,
        source: BY_KERNEL,
        names: &[S, MS, US, HZ],
        is_on_one_cpu: true,
        has_frequency: false,
        is_of_processor: false,
    },
    // Events that the kernel counts.
    EventFamily {
        description: &SOFTWARE,
        source: BY_KERNEL,
        names: &[
            counter("cpu-clock", "cpu", CPU_CLOCK, 10_000_000),
            counter("task-clock", "task-clock", 1, 10_000_000),
            counter("page-faults", "faults", 2, 1),
            counter("context-switches", "cs", 3, 1),
            counter("cpu-migrations", "cpu-migrations", 4, 1),
            counter("minor-faults", "minor-faults", 5, 1),
            counter("major-faults", "major-faults", 6, 1),
            counter("alignment-faults", "alignment-faults", 7, 1),
            counter("emulation-faults", "emulation-faults", 8, 1),
        ],
        is_on_one_cpu: false,
        has_frequency: false,
        is_of_processor: false,
    },
    // Events that CPUs count.
    EventFamily {
        description: &HARDWARE,
        source: BY_CPU,
        names: &[
            counter("cpu-cycles", "cycles", 0, 1_000_000),
            counter("instructions", "instructions", 1, 1_000_000),
            counter("cache-references", "cache-references", 2, 1_000_000),
            counter("cache-misses", "cache-misses", 3, 1_000_000),
            counter("branch-instructions", "branches", 4, 1_000_000),
            counter("branch-misses", "branch-misses", 5, 1_000_000),
            counter("bus-cycles", "bus-cycles", 6, 1_000_000),
            counter("frontend-stalls", "frontend-stalls", 7, 1_000_000),
            counter("backend-stalls", "backend-stalls", 8, 1_000_000),
            counter("ref-cycles", "ref-cycles", 9, 1_000_000),
        ],
        is_on_one_cpu: false,
        has_frequency: false,
        is_of_processor: true,
    },
];

impl EventFamily {
    /// Its attach kind.
    pub fn kind(&self) -> &'static AttachKind {
        &self.description.kind
    }
}

/// A timer or counter, and how often it samples.
#[derive(Clone, Copy, Debug)]
pub struct PerfEvent {
    /// Its attach kind.
    pub family: &'static EventFamily,
    /// The unit of a timer, or the event.
    pub name: &'static EventName,
    /// The number of units, or the number of events between two samples.
    pub amount: u64,
}

impl PerfEvent {
    /// The timer or counter of an attach point, if it is one.
    pub fn of(at: &AttachPoint) -> Option<Self> {
        let family = FAMILIES.iter().find(|family| family.kind() == at.kind)?;
        let [name, amount] = at.parts() else { return None };
        let name = family.names.iter().find(|known| known.name == name.as_str())?;
        Some(Self { family, name, amount: amount.parse().ok()? })
    }

    /// Its attach point.
    pub fn point(&self) -> AttachPoint {
        AttachPoint::new(self.family.kind(), vec![self.name.name.into(), self.amount.to_string()])
    }

    /// The time between two samples, for a timer.
    pub fn period_ns(&self) -> Option<u64> {
        self.name.unit.map(|unit| match unit {
            PeriodUnit::Nanoseconds(one) => self.amount.saturating_mul(one),
            PeriodUnit::Hertz => 1_000_000_000 / self.amount.max(1),
        })
    }

    /// `perf_event_attr.type` and `config`.
    pub fn config(&self) -> (u32, u64) {
        (self.family.source, self.name.config)
    }

    /// The frequency in samples a second; `None` if a period is set.
    pub fn frequency(&self) -> Option<u64> {
        let is_frequency = matches!(self.name.unit, Some(PeriodUnit::Hertz)) && self.family.has_frequency;
        is_frequency.then_some(self.amount)
    }
}

impl fmt::Display for PerfEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.family.kind().name, self.name.name, self.amount)
    }
}

/// Parses the name and the number.
fn parse(family: &'static EventFamily, text: &str) -> Parsed {
    let (name, amount) = text.split_once(':').filter(|(_, amount)| !amount.contains(':'))?;
    let event = event(family, name, amount);
    Some(event.map(|event| vec![event.name.name.to_owned(), event.amount.to_string()]))
}

fn event(family: &'static EventFamily, name: &str, amount: &str) -> Result<PerfEvent, PointRefusal> {
    let kind = family.kind().name;
    let Some(known) = family.names.iter().find(|known| known.name == name || known.short == name) else {
        let all: Vec<&str> = family.names.iter().map(|known| known.name).collect();
        let hint = nearest(name, all.iter().copied())
            .map_or_else(|| format!("it has {}", all.join(", ")), |near| format!("did you mean `{near}`?"));
        return Err((format!("`{kind}` has no `{name}`"), hint));
    };
    let amount = amount.parse().ok().filter(|amount| (1..=1_000_000_000_000_u64).contains(amount));
    let Some(amount) = amount else {
        let example = if matches!(known.unit, Some(PeriodUnit::Hertz)) { 99 } else { 1 };
        return Err((
            format!("`{kind}:{}` needs a whole number behind it", known.name),
            format!("for example {kind}:{}:{example}", known.name),
        ));
    };
    let event = PerfEvent { family, name: known, amount };
    if event.period_ns().is_some_and(|period| period < 100_000) {
        return Err((
            format!("`{event}` is more often than 10 000 times a second"),
            "take longer between two".into(),
        ));
    }
    Ok(event)
}

/// Size of the registers in the context, bytes.
fn registers(arch: Arch) -> u32 {
    match arch {
        // `struct pt_regs`
        Arch::X86_64 => 21 * 8,
        // `struct user_pt_regs`: x0 to x30, sp, pc, pstate
        Arch::Aarch64 => 34 * 8,
    }
}

fn resolve(target: &Target<'_>) -> Resolved {
    let word = |name: &str, index: u32| {
        let node = TypedKind::Field { offset: registers(target.arch) + index * 8, size: 8 };
        Argument {
            name: name.into(),
            ctype: "u64".into(),
            value: Ok(ArgumentValue::Value(Typed::new(node, Type::U64))),
        }
    };
    // The address of a fault is there since 4.18.
    Resolved::event(MECHANISM, vec![word("sample_period", 0), word("addr", 1)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_event_has_its_number() {
        for kind in ["software", "hardware"] {
            let family = FAMILIES.iter().find(|family| family.kind().name == kind).unwrap();
            let mut numbers = BTreeSet::new();
            for known in family.names {
                for name in [known.name, known.short] {
                    let point = super::super::parse(&format!("{kind}:{name}:1")).unwrap();
                    let event = PerfEvent::of(&point).unwrap();
                    assert_eq!(event.name.name, known.name);
                    assert_eq!(event.point(), point);
                    numbers.insert(event.config());
                }
            }
            assert_eq!(numbers.len(), family.names.len(), "each has one of its own: {numbers:?}");
        }
    }
}
