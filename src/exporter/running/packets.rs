//! Network interfaces and cgroups whose packets a probe sees: they come, go, and others get their names.

use super::{LackingRights, Running, compile};
use crate::{
    collector::LabelContext,
    host::Host,
    kernel::Kernel,
    load,
    lock::lock,
    status::{Cause, Down},
};
use std::path::Path;
use tapster_ebpf::{point::AttachPoint, probe::Probe};

/// Whether an attach point is of packets.
fn is_of_packets(at: &AttachPoint) -> bool {
    at.kind.mechanisms.iter().any(|mechanism| mechanism.link.packets().is_some())
}

/// Whether a probe sees packets.
pub(super) fn sees_packets(probe: &Probe) -> bool {
    probe.attach_points().any(|at| is_of_packets(&at.value))
}

/// An event that the probe cannot do without and that has none of its places.
fn missing<'p>(probe: &'p Probe, proc: &Path) -> Option<&'p AttachPoint> {
    let mut needed = probe.events().filter(|event| !event.optional && !event.at.is_empty());
    let is_lacking = |at: &AttachPoint| is_of_packets(at) && !load::is_there(at, proc);
    let event = needed.find(|event| event.at.iter().all(|at| is_lacking(&at.value)))?;
    event.at.first().map(|at| &at.value)
}

/// Why a probe is down whose interface or cgroup is missing: it waits for it.
pub(super) fn waiting(probe: &Probe, proc: &Path) -> Option<Down> {
    let at = missing(probe, proc)?;
    let what = if at.kind.name == "cgroup_skb" { "cgroup" } else { "network interface" };
    let message =
        format!("`{at}`: there is no {what} `{}`; it is attached to when it appears", at.parts()[0]);
    Some(Down { cause: Cause::Waiting, message })
}

impl Running {
    /// Detaches programs from interfaces where only one can be, for those of another probe that comes in this one's place.
    pub(in crate::exporter) fn give_way(&self, to: &Probe) -> bool {
        let places: Vec<&AttachPoint> = to.attach_points().map(|at| &at.value).collect();
        self.reader().is_some_and(|reader| reader.attached().give_way(&places))
    }

    /// Attaches programs again that gave way, because the other probe did not come.
    pub(in crate::exporter) fn take_back(&self, proc: &Path) {
        if let Some(reader) = self.reader() {
            *lock(&self.displaced) = reader.attached().take_back(proc).1;
        }
    }

    /// Checks whether interfaces and cgroups are still the same. Attaches to those that others have the names of now, or brings
    /// up a probe that waited for one.
    pub(in crate::exporter) fn follow_packets<'k>(
        &self,
        host: &Host,
        shared: &LabelContext,
        kernel: impl FnOnce() -> &'k Kernel,
        lacking: LackingRights,
    ) {
        if !sees_packets(&self.declared) {
            return;
        }
        let (slot, attached, down) = match self.reader() {
            Some(reader) => {
                let (attached, down) = reader.attached().follow_packets(&host.proc);
                (&self.displaced, attached, down)
            }
            None => {
                if !self.is_waiting() || missing(&self.declared, &host.proc).is_some() {
                    return;
                }
                let kernel = kernel();
                let target = kernel.target();
                let begun = compile(&self.declared, &target, kernel, lacking)
                    .and_then(|program| self.begin(&self.declared, program, host, shared, (&target, kernel)));
                (&self.down, u64::from(begun.is_ok()), begun.err())
            }
        };
        if attached > 0 {
            let mut counts = lock(&self.reattached);
            counts.packets = Some(counts.packets.unwrap_or_default() + attached);
            tracing::info!(probe = self.name, "attached to the interfaces and cgroups that are there now");
        }
        let mut known = lock(slot);
        match &down {
            Some(Down { message, .. }) if known.as_ref().is_some_and(|known| known.message == *message) => {}
            Some(Down { cause: Cause::Waiting, message }) => tracing::warn!(probe = self.name, "{message}"),
            Some(Down { cause, message }) => {
                tracing::error!(probe = self.name, reason = cause.word(), "probe is down: {message}");
            }
            None => {}
        }
        *known = down;
    }
}
