//! Exchange of probes while the exporter runs. What is declared as before keeps its programs, its maps and its counts, and
//! misses no event. All others are exchanged one by one, so that no more than one is in the kernel twice.

use super::{
    Exporter, Failure,
    running::{Means, Running},
};
use crate::{kernel::Kernel, loader::Loader, status::Down, sys};
use std::sync::{Arc, PoisonError, atomic::Ordering};
use tapster_ebpf::probe::{Probe, Reason};

/// What an exchange of probes did.
#[derive(Debug, Default)]
pub struct Exchange {
    /// Probes that went on as they were.
    pub kept: usize,
    /// Names of probes that run as they are declared now, and ran as they were declared before.
    pub changed: Vec<String>,
    /// Names of probes that are new.
    pub added: Vec<String>,
    /// Names of probes that are no longer there.
    pub removed: Vec<String>,
    /// Probes that are new, or were down before, and did not come up.
    pub down: Vec<Failure>,
    /// Probes that do not come up as they are declared now, in whose place another ran: most often it goes on.
    pub refused: Vec<Refused>,
}

/// A probe that does not come up as it is declared now.
#[derive(Debug)]
pub struct Refused {
    /// The probe.
    pub name: String,
    /// Why.
    pub down: Down,
    /// The one that was in its place and goes on; `None` if it had metrics that another probe has now, and is gone.
    pub goes_on: Option<String>,
}

/// Names of the families of a declared probe.
fn families(probe: &Probe) -> impl Iterator<Item = String> {
    probe.metrics.iter().map(|metric| format!("tapster_{}", metric.name.value))
}

/// Whether a probe that runs has a family that is declared.
fn has_family_of(running: &Running, probe: &Probe) -> bool {
    families(probe).any(|name| running.families().any(|own| own == name))
}

/// The probe in whose place a declared one comes: that of its name, or, if it was only given another name, one that is no
/// longer wanted and had one of its families.
fn predecessor<'r>(probe: &Probe, before: &'r [Arc<Running>], wanted: &[Probe]) -> Option<&'r Arc<Running>> {
    let is_wanted = |running: &Running| wanted.iter().any(|probe| probe.name.value == running.name());
    let named = before.iter().find(|running| running.name() == probe.name.value);
    named.or_else(|| before.iter().find(|running| !is_wanted(running) && has_family_of(running, probe)))
}

impl Exporter {
    /// Makes the probes those that are wanted now. `reasons` are those of the configuration, before the shipped ones.
    /// Two exchanges at a time would undo each other: the caller sees to it that there is one.
    pub fn exchange(&self, wanted: &[Probe], reasons: Vec<Reason>, kernel: &Kernel) -> Exchange {
        let mut exchange = Exchange::default();
        let before = self.probes();
        let replaced: Vec<Option<&Arc<Running>>> =
            wanted.iter().map(|probe| predecessor(probe, &before, wanted)).collect();
        let stays =
            |running: &Arc<Running>| replaced.iter().flatten().any(|other| Arc::ptr_eq(other, running));
        // First, so that their memory is free for others.
        exchange.removed =
            before.iter().filter(|running| !stays(running)).map(|running| running.name().into()).collect();
        self.set_probes(before.iter().filter(|running| stays(running)).cloned().collect());
        self.take_reasons(reasons);
        let shared = self.shared();
        let is_alone = self.alone.load(Ordering::Relaxed);
        let means = Means { kernel, target: kernel.target(), host: &self.host, shared: &shared, is_alone };
        let mut loader = None;
        for (probe, predecessor) in wanted.iter().zip(&replaced) {
            if let Some(running) = predecessor
                && running.is_declared_as(probe)
                && running.is_told_by(&shared.reasons)
                && running.down().is_none_or(|down| down.reason == "waiting")
            {
                running.stands_at(probe);
                exchange.kept += 1;
                continue;
            }
            let loader = loader.get_or_insert_with(|| Loader::of(kernel));
            self.put(Running::bring_up(probe, loader, &means), *predecessor, probe, wanted, &mut exchange);
        }
        // One that goes on under its old name has the place of the one that was to come.
        let place = |running: &Arc<Running>| {
            let is_here = |(probe, predecessor): (&Probe, Option<&Arc<Running>>)| {
                let goes_on = predecessor.is_some_and(|predecessor| Arc::ptr_eq(predecessor, running));
                probe.name.value == running.name() || goes_on
            };
            wanted.iter().zip(replaced.iter().copied()).position(is_here)
        };
        let mut probes = self.probes();
        probes.sort_by_key(place);
        self.set_probes(probes);
        sys::release_memory();
        exchange
    }

    /// Puts a probe in the place of its predecessor, unless that would lose what runs.
    fn put(
        &self,
        successor: Running,
        predecessor: Option<&Arc<Running>>,
        probe: &Probe,
        wanted: &[Probe],
        exchange: &mut Exchange,
    ) {
        let name = probe.name.value.clone();
        let is_up = predecessor.is_some_and(|running| running.down().is_none());
        // One that waits for a file is no failure, unless another ran in its place.
        let failed = successor.down().filter(|down| is_up || down.reason != "waiting");
        match (predecessor, failed) {
            // What was counted before it went down stays to be read.
            (Some(running), Some(down)) if !is_up && running.is_declared_as(probe) => {
                running.set_down(Some(down.clone()));
                exchange.down.push(Failure { name, down });
                return;
            }
            (Some(running), Some(down)) if is_up => {
                let has_others =
                    wanted.iter().any(|other| other.name.value != name && has_family_of(running, other));
                if !has_others {
                    exchange.refused.push(Refused { name, down, goes_on: Some(running.name().into()) });
                    return;
                }
                exchange.refused.push(Refused { name, down, goes_on: None });
            }
            (_, Some(down)) => exchange.down.push(Failure { name, down }),
            (Some(_), None) => exchange.changed.push(name),
            (None, None) => exchange.added.push(name),
        }
        let mut probes = self.probes();
        probes.retain(|running| predecessor.is_none_or(|predecessor| !Arc::ptr_eq(running, predecessor)));
        probes.push(Arc::new(successor));
        // The old one detaches when the last scrape that reads it has ended.
        self.set_probes(probes);
    }

    /// Takes over the configuration's reasons.
    fn take_reasons(&self, reasons: Vec<Reason>) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if !shared.reasons.is_of(&reasons) {
            *shared = Arc::new(shared.with_reasons(reasons));
        }
    }
}
