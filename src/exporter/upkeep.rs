//! Regular work while probes run: removes rows of what is gone from the maps, and gives up starts without an end.

use super::Exporter;
use crate::{collector::ProbeReader, deadline::MayHang};

impl Exporter {
    /// Gives up starts whose end never came; called now and then.
    pub fn sweep(&self) {
        for running in self.probes() {
            if let Some(Err(error)) = running.reader().map(|reader| reader.sweep(reader.now_ns())) {
                tracing::warn!(probe = running.name(), %error, "old starts could not be swept");
            }
        }
    }

    /// Checks which cgroups, disks and processes are gone, and removes their rows from the maps of probes; called about every second.
    pub fn retire(&self) {
        if self.names_cgroups() {
            self.shared().cgroups.look();
        }
        self.meet();
    }

    /// Reads the names of new cgroups and disks while they exist.
    pub fn meet(&self) {
        // A probe that hangs would hold up the others.
        for running in self.probes().into_iter().filter(|running| !running.left().is_any()) {
            if let Some(Err(error)) = running.reader().map(ProbeReader::retire) {
                tracing::warn!(probe = running.name(), %error, "rows of what is gone could not be taken out");
            }
        }
    }
}
