//! Exchange of probes while the exporter runs. What is declared as before keeps its programs, its maps and its counts, and
//! misses no event. All others are exchanged one by one, so that no more than one is in the kernel twice.

use super::{
    Exporter, Failure,
    running::{Means, Running},
};
use crate::{kernel::Kernel, loader::Loader, sys};
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
    /// Probes that do not come up as they are declared now, and go on as they were declared before.
    pub refused: Vec<Failure>,
}

impl Exporter {
    /// Makes the probes those that are wanted now. `reasons` are those of the configuration, before the shipped ones.
    /// Two exchanges at a time would undo each other: the caller sees to it that there is one.
    pub fn exchange(&self, wanted: &[Probe], reasons: Vec<Reason>, kernel: &Kernel) -> Exchange {
        let mut exchange = Exchange::default();
        let before = self.probes();
        let is_wanted =
            |running: &Arc<Running>| wanted.iter().any(|probe| probe.name.value == running.name());
        // First, so that their memory and the names of their metrics are free for others.
        exchange.removed = before
            .iter()
            .filter(|running| !is_wanted(running))
            .map(|running| running.name().into())
            .collect();
        self.set_probes(before.iter().filter(|running| is_wanted(running)).cloned().collect());
        let other_reasons = self.take_reasons(reasons);
        let shared = self.shared();
        let means = Means {
            kernel,
            target: kernel.target(),
            host: &self.host,
            shared: &shared,
            is_alone: self.alone.load(Ordering::Relaxed),
        };
        let mut loader = None;
        for probe in wanted {
            let predecessor = before.iter().find(|running| running.name() == probe.name.value);
            if let Some(running) = predecessor
                && running.is_declared_as(probe)
                && !(other_reasons && running.asks_reasons())
                && running.down().is_none_or(|down| down.reason == "waiting")
            {
                running.stands_at(probe);
                exchange.kept += 1;
                continue;
            }
            let loader = loader.get_or_insert_with(|| Loader::of(kernel));
            self.put(Running::bring_up(probe, loader, &means), predecessor, probe, &mut exchange);
        }
        let place =
            |running: &Arc<Running>| wanted.iter().position(|probe| probe.name.value == running.name());
        let mut probes = self.probes();
        probes.sort_by_key(place);
        self.set_probes(probes);
        sys::release_memory();
        exchange
    }

    /// Puts a probe in the place of the one that had its name, unless that would lose what runs.
    fn put(
        &self,
        successor: Running,
        predecessor: Option<&Arc<Running>>,
        probe: &Probe,
        exchange: &mut Exchange,
    ) {
        let name = probe.name.value.clone();
        let failure = successor
            .down()
            .filter(|down| down.reason != "waiting")
            .map(|down| Failure { name: name.clone(), down });
        match (predecessor, failure) {
            // What was counted before it went down stays to be read.
            (Some(running), Some(failure)) if running.down().is_some() && running.is_declared_as(probe) => {
                running.set_down(Some(failure.down.clone()));
                exchange.down.push(failure);
                return;
            }
            (Some(running), Some(failure)) if running.down().is_none() => {
                exchange.refused.push(failure);
                return;
            }
            (_, Some(failure)) => exchange.down.push(failure),
            (Some(_), None) => exchange.changed.push(name.clone()),
            (None, None) => exchange.added.push(name.clone()),
        }
        let mut probes = self.probes();
        probes.retain(|running| running.name() != name);
        probes.push(Arc::new(successor));
        // The old one detaches when the last scrape that reads it has ended.
        self.set_probes(probes);
    }

    /// Takes over the configuration's reasons; whether they are others than before.
    fn take_reasons(&self, reasons: Vec<Reason>) -> bool {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let same = shared.reasons.is_of(&reasons);
        if !same {
            *shared = Arc::new(shared.with_reasons(reasons));
        }
        !same
    }
}
