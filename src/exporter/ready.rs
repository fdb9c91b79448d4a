//! Whether what should run does: what `/-/ready` and `tapster_ready` say.

use super::Exporter;
use crate::{
    family::{Kind, MetricFamily},
    lock::lock,
    status::Unready,
};

impl Exporter {
    /// From now on it is ready only while the probes are up that these words mean, names or groups.
    pub fn require(&self, words: Vec<String>) {
        *lock(&self.required) = words;
    }

    /// Why it is not ready, if it is not. A probe that waits for a file runs as it should unless it is required.
    pub(super) fn unready(&self) -> Option<Unready> {
        let probes = self.probes();
        let is_up = |word: &str| {
            let mut meant = probes.iter().filter(|running| running.is_called(word)).peekable();
            meant.peek().is_some() && meant.all(|running| running.is_up())
        };
        let down: Vec<String> = lock(&self.required).iter().filter(|word| !is_up(word)).cloned().collect();
        if !down.is_empty() {
            return Some(Unready::Required(down));
        }
        let runs = probes.is_empty() || probes.iter().any(|running| running.is_up() || running.is_waiting());
        (!runs).then_some(Unready::Nothing { probes: probes.len() })
    }

    /// The family about it.
    pub(super) fn readiness(&self) -> MetricFamily {
        let is_ready = f64::from(u8::from(self.unready().is_none()));
        MetricFamily::single(
            "tapster_ready",
            "Whether what should run does, as `/-/ready` has it.",
            Kind::Gauge,
            is_ready,
        )
    }
}
