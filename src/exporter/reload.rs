//! Exchanges probes while the exporter runs. A probe whose declaration is unchanged keeps its programs, its maps and its
//! counts, and misses no event. All others are exchanged one by one, so that at most one is in the kernel twice.

use super::{
    Exporter, StartFailure,
    running::{Running, StartContext},
};
use crate::{
    kernel::Kernel,
    status::{Cause, Down},
};
use std::{
    collections::HashSet,
    sync::{Arc, PoisonError},
};
use tapster_ebpf::probe::{Probe, Reason};

/// The result of an exchange of probes.
#[derive(Debug, Default)]
pub struct Exchange {
    /// Number of probes that went on unchanged.
    pub kept: usize,
    /// Names of probes that run as declared now, and ran as declared before.
    pub changed: Vec<String>,
    /// Names of new probes.
    pub added: Vec<String>,
    /// Names of probes that were removed.
    pub removed: Vec<String>,
    /// Probes that are new, or were down before, and did not come up.
    pub down: Vec<StartFailure>,
    /// Probes that did not come up as declared now, and in whose place another ran: usually that one goes on.
    pub refused: Vec<RefusedProbe>,
}

/// A probe that did not come up as declared now.
#[derive(Debug)]
pub struct RefusedProbe {
    /// The probe.
    pub name: String,
    /// Why it is down.
    pub down: Down,
    /// Probes that were in its place and go on; empty if another probe has their metrics now, so that they were removed.
    pub goes_on: Vec<String>,
    /// The new probe, which is shown as down if nothing goes on in its place.
    successor: Arc<Running>,
}

impl RefusedProbe {
    /// Whether this probe goes on in its place.
    fn leaves(&self, running: &Running) -> bool {
        self.goes_on.iter().any(|name| name == running.name())
    }
}

/// Names of the families of a declared probe, and of their series.
fn families(probe: &Probe) -> HashSet<String> {
    probe.families().flat_map(|(name, kind)| kind.taken(&format!("tapster_{}", name.value))).collect()
}

/// Whether a running probe has a family that is declared, or one that could not be told apart from it.
fn has_family_of(running: &Running, probe: &Probe) -> bool {
    !running.families().is_disjoint(&families(probe))
}

/// Whether two probes have a family in common, or families that could not be told apart.
fn share_family(one: &Running, other: &Running) -> bool {
    !one.families().is_disjoint(&other.families())
}

impl Exporter {
    /// Exchanges the probes for those that are wanted. `reasons` are those of the configuration, which come before the shipped
    /// ones. The caller makes sure that only one exchange runs at a time, because two would undo each other.
    pub fn exchange(&self, wanted: &[Probe], reasons: Vec<Reason>, kernel: &Kernel) -> Exchange {
        let mut exchange = Exchange::default();
        let is_wanted = |running: &Running| wanted.iter().any(|probe| probe.name.value == running.name());
        let is_renamed = |running: &Running| wanted.iter().any(|probe| has_family_of(running, probe));
        // Removed probes go first, to free their memory. A probe whose families are still wanted stays until another probe has
        // them.
        let (stay, go): (Vec<_>, Vec<_>) =
            self.probes().into_iter().partition(|running| is_wanted(running) || is_renamed(running));
        exchange.removed.extend(go.iter().map(|running| running.name().to_owned()));
        self.set_probes(stay);
        drop(go);
        self.take_reasons(reasons);
        let shared = self.shared();
        let lacking = *self.lacking.lock().unwrap_or_else(PoisonError::into_inner);
        let context =
            StartContext { kernel, target: kernel.target(), host: &self.host, shared: &shared, lacking };
        let mut came = Vec::new();
        for probe in wanted {
            // Nothing in this scope outlives its turn: a probe detaches and frees its memory when the last reference to it is
            // dropped.
            let before = self.probes();
            let predecessor = before.iter().find(|running| running.name() == probe.name.value).cloned();
            if let Some(running) = &predecessor
                && running.is_declared_as(probe)
                && running.is_told_by(&shared.reasons)
                && running.goes_on()
            {
                running.stands_at(probe);
                exchange.kept += 1;
                came.push(running.clone());
                continue;
            }
            // Probes that may be this one by another name: no longer wanted, with one of its families.
            let is_renamed = |running: &Arc<Running>| !is_wanted(running) && has_family_of(running, probe);
            let renamed: Vec<_> = before.into_iter().filter(is_renamed).collect();
            let in_place = predecessor.iter().chain(&renamed);
            let gave_way: Vec<_> = in_place.filter(|running| running.give_way(probe)).collect();
            let successor = Arc::new(Running::bring_up(probe, &context));
            if successor.down().is_some() {
                for running in gave_way {
                    running.take_back(&self.host.proc);
                }
            }
            came.extend(self.put(successor, predecessor.as_ref(), &renamed, probe, &mut exchange));
        }
        self.clear(&came, wanted, &mut exchange);
        let place = |running: &Arc<Running>| {
            let refused = exchange.refused.iter().find(|refused| refused.leaves(running));
            let name = refused.map_or(running.name(), |refused| &refused.name);
            wanted.iter().position(|probe| probe.name.value == name)
        };
        let mut probes = self.probes();
        probes.sort_by_key(place);
        self.set_probes(probes);
        self.judge();
        exchange
    }

    /// Puts a probe in the place of its predecessors, unless a running one would be lost; returns the probe if it came up.
    fn put(
        &self,
        successor: Arc<Running>,
        predecessor: Option<&Arc<Running>>,
        renamed: &[Arc<Running>],
        probe: &Probe,
        exchange: &mut Exchange,
    ) -> Option<Arc<Running>> {
        let name = probe.name.value.clone();
        let is_up = |running: &&Arc<Running>| running.down().is_none();
        let running: Vec<String> = predecessor
            .into_iter()
            .chain(renamed)
            .filter(is_up)
            .map(|running| running.name().into())
            .collect();
        // A probe that waits for a file is no failure, unless another runs in its place.
        let failed = successor.down().filter(|down| !running.is_empty() || down.cause != Cause::Waiting);
        match (predecessor, failed) {
            (_, Some(down)) if !running.is_empty() => {
                exchange.refused.push(RefusedProbe { name, down, goes_on: running, successor });
                return None;
            }
            // Counts from before it went down can still be read.
            (Some(before), Some(down)) if before.is_declared_as(probe) => {
                before.set_down(Some(down.clone()));
                exchange.down.push(StartFailure { name, down });
                return None;
            }
            (_, Some(down)) => exchange.down.push(StartFailure { name, down }),
            (None, None) if renamed.is_empty() => exchange.added.push(name),
            (_, None) => exchange.changed.push(name),
        }
        let mut probes = self.probes();
        let is_replaced =
            |running: &Arc<Running>| predecessor.is_some_and(|before| Arc::ptr_eq(before, running));
        probes.retain(|running| !is_replaced(running));
        probes.push(successor.clone());
        // The old probe detaches when the last scrape that reads it has ended.
        self.set_probes(probes);
        Some(successor)
    }

    /// Removes probes that are no longer wanted, and probes with families that another probe has now: each family is in one
    /// probe only.
    fn clear(&self, came: &[Arc<Running>], wanted: &[Probe], exchange: &mut Exchange) {
        let is_new = |running: &Arc<Running>| came.iter().any(|other| Arc::ptr_eq(other, running));
        let has_others = |running: &Arc<Running>| came.iter().any(|other| share_family(other, running));
        let mut probes = self.probes();
        probes.retain(|running| {
            if is_new(running) || wanted.iter().any(|probe| running.is_declared_as(probe)) {
                return true;
            }
            let is_kept = exchange.refused.iter().any(|refused| refused.leaves(running));
            if is_kept && !has_others(running) {
                return true;
            }
            if is_kept {
                for refused in &mut exchange.refused {
                    refused.goes_on.retain(|name| name != running.name());
                }
            } else if running.reader().is_some()
                || !wanted.iter().any(|probe| probe.name.value == running.name())
            {
                exchange.removed.push(running.name().into());
            }
            false
        });
        let lost = exchange.refused.iter().filter(|refused| refused.goes_on.is_empty());
        probes.extend(lost.map(|refused| refused.successor.clone()));
        self.set_probes(probes);
    }

    /// Uses the configuration's reasons from now on.
    fn take_reasons(&self, reasons: Vec<Reason>) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if !shared.reasons.is_of(&reasons) {
            *shared = Arc::new(shared.with_reasons(reasons));
        }
    }
}
