//! The running exporter: probes are compiled, loaded and attached, each by itself, and read for a scrape.

mod account;
mod alternative;
mod collect;
mod files;
mod memory;
mod objects;
mod own;
mod process;
mod reload;
mod running;
mod start;
mod status;
mod upkeep;

pub use reload::{Exchange, RefusedProbe};
pub use running::Running;
pub use start::{StartFailure, StartOptions, StartTimes};

use crate::{
    collector::LabelContext,
    disks::{DeviceGroups, DiskWatch},
    follow::FollowedProcesses,
    host::Host,
    kernel::Modules,
    lock::lock,
    reason::Reasons,
    sandbox::{LackingRights, Needs},
    topology::{Topology, Watch},
};
use account::Account;
use std::{
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock, atomic::AtomicBool},
    time::SystemTime,
};
use tapster_ebpf::probe::DeviceGroup;

/// All probes of this process.
#[derive(Debug)]
pub struct Exporter {
    /// In the order of the configuration.
    probes: RwLock<Vec<Arc<Running>>>,
    arrays: Watch,
    disks: DiskWatch,
    account: Mutex<Account>,
    /// The file in sysfs that lists the CPUs that are online.
    online: PathBuf,
    /// The modules of the kernel at the last check for changes.
    modules: Mutex<Modules>,
    host: Host,
    /// What the decoders of all probes share.
    shared: Mutex<Arc<LabelContext>>,
    /// Whether the log has reported that members of some arrays have no latency.
    told_silent: AtomicBool,
    /// Rights that are missing for probes that are brought up later.
    lacking: Mutex<LackingRights>,
    /// Names of probes and groups that must be up for the exporter to be ready.
    required: Mutex<Vec<String>>,
    cpus: u32,
    /// The earliest time at which programs of probes can have run.
    began: SystemTime,
    /// When this process began to use CPU time. It is read once, because setting the clock must not move it.
    process_began: Option<SystemTime>,
    /// The command's processes, for probes that use them.
    followed: Option<FollowedProcesses>,
    /// As long as it is open, the kernel counts runs and their time.
    stats: Option<OwnedFd>,
}

impl Exporter {
    /// The arrays of the last scrape.
    pub fn arrays(&self) -> Arc<Topology> {
        self.arrays.current()
    }

    /// Uses these groups of devices from now on.
    pub fn set_device_groups(&self, groups: &[DeviceGroup]) {
        self.disks.set_groups(DeviceGroups::new(groups));
    }

    /// The present probes, in the order of the configuration.
    pub fn probes(&self) -> Vec<Arc<Running>> {
        self.probes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_probes(&self, probes: Vec<Arc<Running>>) {
        let before =
            std::mem::replace(&mut *self.probes.write().unwrap_or_else(PoisonError::into_inner), probes);
        // Detaching takes time, and readers need not wait for it.
        drop(before);
    }

    fn shared(&self) -> Arc<LabelContext> {
        lock(&self.shared).clone()
    }

    /// Number of attached programs.
    pub fn programs(&self) -> usize {
        self.probes().iter().filter_map(|running| running.program()).map(|program| program.codes.len()).sum()
    }

    /// Number of probes that are up.
    pub fn up(&self) -> usize {
        self.probes().iter().filter(|running| running.is_up()).count()
    }

    /// The table of reasons for labels.
    pub fn reasons(&self) -> Arc<Reasons> {
        self.shared().reasons.reasons().clone()
    }

    /// What the probes need besides reading their maps.
    pub fn needs(&self) -> Needs {
        let mut needs = Needs {
            mapper: self.host.has_mapped(),
            processes: self.names_cgroups() && !self.host.reads_logs_alone(),
            ..Needs::default()
        };
        for running in self.probes() {
            running.add_needs(&mut needs);
        }
        needs.processes |= needs.root && !self.host.reads_root_alone();
        needs
    }

    /// From now on, probes that need missing rights are not brought up; running probes may be limited.
    pub fn lacks(&self, lacking: LackingRights) {
        *lock(&self.lacking) = lacking;
        self.judge();
    }

    /// Whether any probe names cgroups.
    pub fn names_cgroups(&self) -> bool {
        self.shared().cgroups.is_wanted()
    }

    /// Starts the threads that read files of programs, if probes need them; called after rights are given up.
    pub fn read_programs(&self) {
        self.shared().symbols.begin();
    }

    /// From now on, only the user who started this process sees the counts, and that user may read any file that this process
    /// reads.
    pub fn is_private(&self) {
        self.shared().symbols.are_private();
    }
}

/// Converts nanoseconds to seconds.
#[expect(clippy::cast_precision_loss, reason = "samples are f64, as Prometheus keeps them")]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[expect(clippy::cast_precision_loss, reason = "samples are f64, as Prometheus keeps them")]
fn number(count: u64) -> f64 {
    count as f64
}
