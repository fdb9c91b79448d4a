//! Files of programs, CPUs and kernel modules to which probes are attached come, go and are exchanged while the probes run, and
//! a switch of the host may stop them. All of it is checked every second, see [ADR 34](../../docs/adr/0034-objects.md).

use super::Exporter;
use crate::{
    host::Host,
    kernel::{Kernel, Switches},
    lock::lock,
    sys,
};
use std::cell::OnceCell;

impl Exporter {
    /// Whether any probe is attached in a file, which may be replaced.
    pub fn watches(&self) -> bool {
        self.probes().iter().any(|running| running.is_watched())
    }

    /// Checks whether the objects of all probes are still the same, and attaches probes to what was exchanged or appeared.
    pub fn follow(&self, host: &Host) {
        let kernel = OnceCell::new();
        let detect = || kernel.get_or_init(|| Kernel::detect(host));
        let shared = self.shared();
        let modules = lock(&self.modules).look();
        let lacking = *lock(&self.lacking);
        self.follow_cpus();
        let switches = Switches::look(&self.host.proc, &self.host.sys);
        for running in self.probes() {
            running.heed(switches);
            running.follow(&self.host, &shared, detect);
            running.follow_packets(&self.host, &shared, detect, lacking);
            if !modules.is_empty() {
                running.follow_modules(&modules, &self.host, &shared, detect, lacking);
            }
        }
        // The kernel's types are dropped here, before memory is given back.
        let was_needed = kernel.into_inner().is_some();
        if was_needed {
            self.judge();
            sys::release_memory();
        }
    }

    /// Attaches timers and counters to CPUs that came online.
    pub fn follow_cpus(&self) {
        let probes = self.probes();
        let mut on_cpus = probes.iter().filter(|running| running.is_on_cpus()).peekable();
        if on_cpus.peek().is_none() {
            return;
        }
        match sys::cpu_list(&self.online) {
            Ok(online) => on_cpus.for_each(|running| running.follow_cpus(&online)),
            Err(error) => tracing::warn!(%error, "timers and counters do not follow CPUs that come online"),
        }
    }

    /// Detaches from files that were replaced and that no process executes any more.
    pub fn release(&self) {
        for running in self.probes() {
            running.release(&self.host.proc);
        }
    }
}
