//! Which scenarios run on which kernels, and what is tried again.

use crate::{
    Ready,
    kernel::SERIES,
    machine::{Machine, NOT_BOOTED, Results, STOPPED},
    queries,
    scenario::{self, Scenario},
    support::cases::{Outcome, say},
};
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::Path,
    time::Duration,
};

/// The kernels and scenarios that somebody asks for by name; `None` where nobody does.
const KERNELS: &str = "TAPSTER_GUEST_KERNELS";
const SCENARIOS: &str = "TAPSTER_GUEST_SCENARIOS";
/// Set by the long run.
const LONG: &str = "TAPSTER_LONG";

/// What runs only on the newest kernel, and not on each change: it takes minutes. The rules and queries that it is about are looked at
/// on each change by `tests/rules.rs` and `tests/dashboards.rs`.
pub(crate) const NEWEST_ONLY: [&str; 2] = ["queries", "detection"];

/// A processor that stood still for so long can make a device look slow, a sleep look long, or an exporter miss its time.
const STALL: Duration = Duration::from_millis(50);
/// How checks begin what they say of times, which a stalled processor changes. It changes no count.
const OF_TIME: &str = "time: ";

/// Items of a list in the environment; `None` where it is not set or empty.
fn list(variable: &str) -> Option<Vec<String>> {
    let list = std::env::var(variable).ok().filter(|list| !list.is_empty())?;
    Some(list.split(',').map(str::to_owned).collect())
}

/// Whether this is the long run.
pub(crate) fn is_long() -> bool {
    std::env::var_os(LONG).is_some()
}

/// What of it runs.
#[derive(Debug)]
pub(crate) struct Plan {
    kernels: Option<Vec<String>>,
    scenarios: Option<Vec<String>>,
    long: bool,
}

impl Plan {
    /// As the environment says. Panics at a name that there is not: with it, less would run than somebody believes.
    pub(crate) fn from_environment() -> Self {
        Self::new(list(KERNELS), list(SCENARIOS), is_long())
    }

    fn new(kernels: Option<Vec<String>>, scenarios: Option<Vec<String>>, long: bool) -> Self {
        for name in kernels.iter().flatten() {
            assert!(
                SERIES.iter().any(|series| series.name == name),
                "{KERNELS}: there is no kernel `{name}`"
            );
        }
        for name in scenarios.iter().flatten() {
            let is_known = scenario::ALL.iter().any(|scenario| scenario.name == name)
                || NEWEST_ONLY.contains(&name.as_str());
            assert!(is_known, "{SCENARIOS}: there is no scenario `{name}`");
        }
        Self { kernels, scenarios, long }
    }

    /// Whether a kernel runs anything.
    pub(crate) fn boots(&self, series: &str) -> bool {
        scenario::ALL.iter().any(|scenario| self.runs(scenario, series))
            || NEWEST_ONLY.iter().any(|name| self.runs_on_newest(name)) && Self::is_newest(series)
    }

    fn is_newest(series: &str) -> bool {
        SERIES.last().is_some_and(|newest| newest.name == series)
    }

    fn named(list: Option<&Vec<String>>, name: &str) -> bool {
        list.is_none_or(|list| list.iter().any(|item| item == name))
    }

    /// Whether a scenario runs on a kernel. Where one of both is asked for by name, all that fit do.
    pub(crate) fn runs(&self, scenario: &Scenario, series: &str) -> bool {
        let all = self.long || self.kernels.is_some() || self.scenarios.is_some();
        (all || scenario.each_change.contains(&series))
            && Self::named(self.kernels.as_ref(), series)
            && Self::named(self.scenarios.as_ref(), scenario.name)
    }

    /// How many cases a kernel has.
    pub(crate) fn cases(&self, series: &str) -> usize {
        let newest = |name: &&&str| Self::is_newest(series) && self.runs_on_newest(name);
        // The queries are answered in a guest each.
        let guests = |name: &&str| if *name == "queries" { queries::GUESTS.len() } else { 1 };
        scenario::ALL.iter().filter(|scenario| self.runs(scenario, series)).count()
            + NEWEST_ONLY.iter().filter(newest).map(guests).sum::<usize>()
    }

    /// Whether one of [`NEWEST_ONLY`] runs.
    pub(crate) fn runs_on_newest(&self, name: &str) -> bool {
        (self.long || self.scenarios.is_some())
            && SERIES.last().is_some_and(|newest| Self::named(self.kernels.as_ref(), newest.name))
            && Self::named(self.scenarios.as_ref(), name)
    }
}

/// Boots a kernel with a scenario and checks what comes back. A check of times that fails is made once more where the guest saw a
/// processor stand still: a host that is busy makes that of an emulated one.
pub(crate) fn run(name: &str, ready: &Ready, base: &Path, scenario: &Scenario) -> Outcome {
    let once = || -> Result<Result<String, (String, Duration)>, _> {
        let results = boot(name, ready, base, scenario)?;
        results.assert_no_failures();
        let figures = catch_unwind(AssertUnwindSafe(|| (scenario.check)(&ready.kernel, &results)));
        let took = results.took.as_secs_f64();
        Ok(match figures {
            Ok(figures) => Ok(format!("{figures} ({took:.1} s)")),
            Err(panic) if said(&*panic).starts_with(OF_TIME) && results.stalled() >= STALL => {
                Err((said(&*panic).lines().next().unwrap_or_default().to_owned(), results.stalled()))
            }
            Err(panic) => resume_unwind(panic),
        })
    };
    let (first, stalled) = match once()? {
        Ok(figures) => return Ok(figures),
        Err(first) => first,
    };
    say(format_args!("retried: guest: {name}: {first}; a processor stood still for {stalled:?}"));
    match once()? {
        Ok(figures) => Ok(figures),
        Err((why, stalled)) => panic!("twice: {why}; a processor stood still for {stalled:?}"),
    }
}

fn boot(
    name: &str,
    ready: &Ready,
    base: &Path,
    scenario: &Scenario,
) -> Result<Results, crate::support::cases::Skip> {
    let Ready { kernel, modules, .. } = ready;
    let machine = Machine {
        kernel,
        base,
        modules,
        disks: scenario.disks,
        hardware: scenario.hardware,
        memory_mib: scenario.memory_mib,
        port: None,
        arguments: &[],
    };
    emulated(name, || machine.run(scenario.script))
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> &str {
    let literal = || panic.downcast_ref::<&str>().copied();
    panic.downcast_ref::<String>().map(String::as_str).or_else(literal).unwrap_or("a panic without words")
}

/// What tells that it was the emulation that failed. QEMU's processors, a thread each, now and then run half of what the kernel patches
/// into its own code under the other, and where the host stops a processor for long, the guest's clock does not come back. A kernel
/// that does not come to its first process has met nothing of this project. What would stop a kernel each time it runs fails each time.
fn sign_of_emulation(said: &str) -> Option<&'static str> {
    [NOT_BOOTED, STOPPED, "Oops: int3", "self-detected stall on CPU"]
        .into_iter()
        .find(|sign| said.contains(sign))
}

/// Boots again, at the most three times, where the emulation failed.
pub(crate) fn emulated<T>(name: &str, attempt: impl Fn() -> T) -> T {
    for _ in 0..3 {
        match catch_unwind(AssertUnwindSafe(&attempt)) {
            Ok(outcome) => return outcome,
            Err(panic) => match sign_of_emulation(said(&*panic)) {
                Some(sign) => say(format_args!("retried: guest: {name}: {sign}: booted again")),
                None => resume_unwind(panic),
            },
        }
    }
    attempt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn cases(plan: &Plan) -> Vec<(&'static str, &'static str)> {
        let of = |scenario: &'static Scenario| {
            let series = SERIES.iter().filter(|series| plan.runs(scenario, series.name));
            series.map(|series| (series.name, scenario.name)).collect::<Vec<_>>()
        };
        scenario::ALL.iter().flat_map(of).collect()
    }

    #[test]
    fn each_change_boots_every_kernel_and_the_long_run_has_every_pair() {
        let each_change = cases(&Plan::new(None, None, false));
        let kernels: BTreeSet<&str> = each_change.iter().map(|(kernel, _)| *kernel).collect();
        assert_eq!(kernels, SERIES.iter().map(|series| series.name).collect());
        let known = |name: &&str| SERIES.iter().any(|series| series.name == *name);
        assert!(scenario::ALL.iter().flat_map(|scenario| scenario.each_change).all(known));
        // What compares times of programs has no place on a busy machine; each other scenario runs at each change.
        for scenario in &scenario::ALL {
            assert_eq!(scenario.alone, scenario.each_change.is_empty(), "{}", scenario.name);
        }
        let long = Plan::new(None, None, true);
        assert_eq!(cases(&long).len(), SERIES.len() * scenario::ALL.len());
        assert!(NEWEST_ONLY.iter().all(|name| long.runs_on_newest(name)));
    }

    #[test]
    fn what_is_asked_for_by_name_runs_and_nothing_else() {
        let name = |name: &str| Some(vec![name.to_owned()]);
        assert_eq!(cases(&Plan::new(name("6.1"), name("lvm"), false)), [("6.1", "lvm")]);
        let all_of_one = Plan::new(name("5.10"), None, false);
        assert_eq!(cases(&all_of_one).len(), scenario::ALL.len());
        assert!(!all_of_one.boots("7"));
        let queries = Plan::new(None, name("queries"), false);
        assert!(queries.runs_on_newest("queries") && !queries.runs_on_newest("detection"));
        assert!(queries.boots("7") && !queries.boots("6.12"));
    }

    #[test]
    #[should_panic(expected = "there is no kernel `6.13`")]
    fn a_kernel_that_there_is_not_is_an_error() {
        Plan::new(Some(vec!["6.13".to_owned()]), None, false);
    }
}
