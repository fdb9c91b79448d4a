//! What probes are attached to comes, goes and is exchanged while they run: files of programs, CPUs, modules of the kernel; and
//! somebody may switch off what calls them. All of it is looked at every second, see [ADR 34](../../docs/adr/0034-objects.md).

use super::Exporter;
use crate::{
    host::Host,
    kernel::{Kernel, Switches},
    lock::lock,
    sys,
};
use std::cell::OnceCell;

impl Exporter {
    /// Whether a probe is in a file of its own, which may be replaced.
    pub fn watches(&self) -> bool {
        self.probes().iter().any(|running| running.is_watched())
    }

    /// Looks whether what probes are attached to is still the same, and attaches to what is another or has appeared.
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
            if !modules.is_empty() {
                running.follow_modules(&modules, &self.host, &shared, detect, lacking);
            }
        }
        // It is let go of here, before memory is given back.
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

    /// Detaches from files that were replaced and that no process runs any more.
    pub fn release(&self) {
        for running in self.probes() {
            running.release(&self.host.proc);
        }
    }
}
