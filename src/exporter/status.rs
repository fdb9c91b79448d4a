//! Reports on the running probes: whether everything that should be up is up, as in `/-/ready` and `tapster_ready`, what probes
//! cannot report, and what they cost.

use super::Exporter;
use crate::{
    family::{FamilyKind, MetricFamily},
    kernel,
    lock::lock,
    status::{Limit, ProgramStatus, UnreadyReason},
};
use std::cell::OnceCell;

impl Exporter {
    /// Most kernel memory of each probe that is up, bytes.
    pub fn memory(&self) -> Vec<(String, u64)> {
        self.probes()
            .iter()
            .filter_map(|running| {
                Some((running.name().to_owned(), running.program()?.memory_bytes(self.cpus)))
            })
            .collect()
    }

    /// Each probe that is up, by name, with the state of its programs.
    pub fn loaded(&self) -> Vec<(String, Vec<ProgramStatus>)> {
        self.probes()
            .iter()
            .filter_map(|running| Some((running.name().to_owned(), running.reader()?.programs())))
            .collect()
    }

    /// Determines what probes that are up cannot report in the present state of this process.
    pub(super) fn judge(&self) {
        let nameless = OnceCell::new();
        for running in self.probes() {
            running.judge(|| nameless.get_or_init(|| kernel::nameless(&self.host.proc)).clone());
        }
    }

    /// What probes that are up cannot report, by their names.
    pub fn limits(&self) -> Vec<(String, Limit)> {
        self.probes()
            .iter()
            .filter_map(|running| Some((running.name().to_owned(), running.limit()?)))
            .collect()
    }

    /// From now on the exporter is ready only while the probes or groups with these names are up.
    pub fn require(&self, words: Vec<String>) {
        *lock(&self.required) = words;
    }

    /// Why it is not ready, if it is not. A probe that waits for a file is as it should be, unless it is required.
    pub(super) fn unready(&self) -> Option<UnreadyReason> {
        let probes = self.probes();
        let is_up = |word: &str| {
            let mut meant = probes.iter().filter(|running| running.is_called(word)).peekable();
            meant.peek().is_some() && meant.all(|running| running.is_up())
        };
        let down: Vec<String> = lock(&self.required).iter().filter(|word| !is_up(word)).cloned().collect();
        if !down.is_empty() {
            return Some(UnreadyReason::Required(down));
        }
        let runs = probes.is_empty() || probes.iter().any(|running| running.is_up() || running.is_waiting());
        (!runs).then_some(UnreadyReason::Nothing { probes: probes.len() })
    }

    /// The family about readiness.
    pub(super) fn readiness(&self) -> MetricFamily {
        let is_ready = f64::from(u8::from(self.unready().is_none()));
        MetricFamily::single(
            "tapster_ready",
            "Whether what should run does, as `/-/ready` has it.",
            FamilyKind::Gauge,
            is_ready,
        )
    }
}
