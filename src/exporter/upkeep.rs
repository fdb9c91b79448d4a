//! What is done now and then while probes run: rows of what is gone leave the maps, starts without an end are given up.

use super::Exporter;
use crate::{collector::Reader, deadline::MayHang};

impl Exporter {
    /// Gives up starts whose end never came; to be called now and then.
    pub fn sweep(&self) {
        for running in self.probes() {
            if let Some(Err(error)) = running.reader().map(|reader| reader.sweep(reader.now_ns())) {
                tracing::warn!(probe = running.name(), %error, "old starts could not be swept");
            }
        }
    }

    /// Looks which cgroups and disks are gone, and takes their rows out of the maps of probes; to be called about every second.
    pub fn retire(&self) {
        if self.names_cgroups() {
            self.shared().cgroups.look();
        }
        self.meet();
    }

    /// Finds out the names of cgroups and disks that probes met, as long as they are there.
    pub fn meet(&self) {
        // What hangs would hold up the others.
        for running in self.probes().into_iter().filter(|running| !running.left().is_any()) {
            if let Some(Err(error)) = running.reader().map(Reader::retire) {
                tracing::warn!(probe = running.name(), %error, "rows of what is gone could not be taken out");
            }
        }
    }
}
