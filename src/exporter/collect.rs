//! A scrape: reads the probes, each within its time, and adds families about arrays, the exporter and the process.

use super::{
    Exporter, Running,
    own::{self, ExporterFamilies},
    process::{context_switches, online_cpus, process},
};
use crate::{
    collector::{ProbeReading, View},
    deadline::{self, TimeLimits},
    family::MetricFamily,
    lock::lock,
    source::{Selection, Source},
    status::{Down, ProbeStatus, UnreadyReason},
    topology::{self, Topology},
};
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

/// How long reading a probe may take. A probe of ten thousand histograms takes an eighth of a second, including writing
/// (`docs/performance.md`), and a scrape has ten seconds by default.
const PROBES: TimeLimits = TimeLimits { first: Duration::from_secs(5), next: Duration::from_secs(1) };

impl Exporter {
    /// The families of the probes, with functions of programs named as far as their symbols can be read within `most`.
    pub fn collect_named(&self, most: Duration) -> Vec<MetricFamily> {
        let begun = Instant::now();
        loop {
            let families = self.collect();
            let left = most.saturating_sub(begun.elapsed());
            // Symbols that were read may show that others are missing.
            if left.is_zero() || !self.shared().symbols.wait(left) {
                return families;
            }
        }
    }

    /// Reads these probes, each within its time.
    fn read(
        probes: &[Arc<Running>],
        topology: &Arc<Topology>,
        view: View,
    ) -> impl Iterator<Item = Result<ProbeReading, Down>> {
        let topology = topology.clone();
        let outcomes = deadline::each(PROBES, probes.to_vec(), move |running: &Running| {
            running.collect(&topology, view)
        });
        probes.iter().zip(outcomes).map(|(running, outcome)| running.settle(outcome))
    }

    fn families(&self, view: View, selection: &Selection) -> Vec<MetricFamily> {
        // The arrays are read once, and first: the whole scrape uses this snapshot.
        let topology = self.arrays.refresh();
        let cgroups = &self.shared().cgroups;
        if cgroups.is_wanted() {
            cgroups.refresh();
        }
        let mut own = ExporterFamilies::new(self.stats.is_some());
        let mut measured = Vec::new();
        let mut probes = self.probes();
        probes.retain(|running| selection.takes(|word| running.is_called(word)));
        for (running, collected) in probes.iter().zip(Self::read(&probes, &topology, view)) {
            own.add(running, collected.as_ref(), self.followed.as_ref(), self.began);
            let families = collected.map_or_else(|_| Vec::new(), |collected| collected.families);
            measured.push(topology::ProbeFamilies { probe: running.declared(), families });
        }
        if let Err(reason) = topology::adopt(&topology, &mut measured)
            && !self.told_silent.swap(true, Ordering::Relaxed)
        {
            tracing::warn!("members of device-mapper raid and mirror arrays have no latency: {reason}");
        }
        let mut families: Vec<MetricFamily> =
            measured.into_iter().flat_map(|measured| measured.families).collect();
        let own = own.into_families(self.began);
        if selection.takes_rest() {
            let mut account = lock(&self.account);
            // The other view shows series that ended as if they had not.
            if view == View::Now && matches!(selection, Selection::All) {
                // A site's own probe with this name may leave out anything.
                let is_shipped =
                    |running: &Arc<Running>| running.name() == "block_io" && running.is_called("block");
                if probes.iter().any(is_shipped) {
                    let counts = |running: &&Arc<Running>| running.is_called("block");
                    let chosen = probes.iter().filter(counts).filter_map(|running| running.shown().devices);
                    account.compare(&families, chosen.collect());
                } else {
                    account.leave();
                }
            }
            families.extend(account.family());
            drop(account);
            families.extend(topology::families(&topology));
            families.extend(self.disks.families(&topology));
            let containers = cgroups.is_wanted().then(|| ("containers", cgroups.age()));
            let ages = [("arrays", self.arrays.age()), ("devices", self.disks.age())];
            families.push(own::ages(ages.into_iter().chain(containers)));
            families.push(self.readiness());
            families.extend(own);
            families.extend(self.shared().symbols.families().map(|family| family.since(self.began)));
            families.extend(online_cpus(&self.online));
            // The file is long where there are many processors, so it is read only where there is something to compare.
            if probes.iter().any(|running| running.is_called("sched")) {
                families.extend(context_switches(&self.host.stat()));
            }
            families.extend(process(self.process_began));
        } else {
            families.extend(own);
        }
        families
    }
}

impl Source for Exporter {
    fn select(&self, selection: &Selection) -> Vec<MetricFamily> {
        self.families(View::Now, selection)
    }

    fn counted(&self) -> Vec<MetricFamily> {
        self.families(View::Counted, &Selection::All)
    }

    fn words(&self) -> Vec<String> {
        let mut words: Vec<String> =
            self.probes().iter().flat_map(|running| running.words().collect::<Vec<_>>()).collect();
        words.sort();
        words.dedup();
        words
    }

    fn status(&self) -> Vec<ProbeStatus> {
        let (topology, probes) = (self.arrays.current(), self.probes());
        let read = Self::read(&probes, &topology, View::Now);
        probes.iter().zip(read).map(|(running, collected)| running.status(collected)).collect()
    }

    fn unready(&self) -> Option<UnreadyReason> {
        self.unready()
    }
}
