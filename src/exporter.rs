//! The running exporter: probes compiled, loaded and attached, each for itself, and what a scrape gets.

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

pub use reload::{Exchange, Refused};
pub use running::Running;
pub use start::{Failure, Options, StartTimes};

use crate::{
    collector::Shared,
    follow::Followed,
    host::Host,
    kernel::Modules,
    lock::lock,
    reason::Reasons,
    sandbox::{Lacking, Needs},
    topology::{Topology, Watch},
};
use account::Account;
use std::{
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock, atomic::AtomicBool},
    time::SystemTime,
};

/// All probes of this process.
#[derive(Debug)]
pub struct Exporter {
    /// In the order of the configuration.
    probes: RwLock<Vec<Arc<Running>>>,
    arrays: Watch,
    account: Mutex<Account>,
    /// Which CPUs are online: a file of sysfs.
    online: PathBuf,
    /// Modules of the kernel as they were when it was last looked whether they changed.
    modules: Mutex<Modules>,
    host: Host,
    /// What labels of all probes are told by.
    shared: Mutex<Arc<Shared>>,
    /// Whether it has been said that some arrays' members have no latency.
    told_silent: AtomicBool,
    /// What probes that are brought up later cannot have.
    lacking: Mutex<Lacking>,
    /// Names of probes and groups that have to be up for it to be ready.
    required: Mutex<Vec<String>>,
    cpus: u32,
    /// From when programs of probes can have run.
    began: SystemTime,
    /// From when this process took CPU time: read once, since a clock that is set must not move it.
    process_began: Option<SystemTime>,
    /// The command's processes, for probes that ask for them.
    followed: Option<Followed>,
    /// While it is open the kernel counts runs and their time.
    stats: Option<OwnedFd>,
}

impl Exporter {
    /// The arrays as the last scrape saw them.
    pub fn arrays(&self) -> Arc<Topology> {
        self.arrays.current()
    }

    /// The probes as they are now, in the order of the configuration.
    pub fn probes(&self) -> Vec<Arc<Running>> {
        self.probes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_probes(&self, probes: Vec<Arc<Running>>) {
        let before =
            std::mem::replace(&mut *self.probes.write().unwrap_or_else(PoisonError::into_inner), probes);
        // Detaching takes its time, and readers need not wait for it.
        drop(before);
    }

    fn shared(&self) -> Arc<Shared> {
        lock(&self.shared).clone()
    }

    /// Programs attached.
    pub fn programs(&self) -> usize {
        self.probes().iter().filter_map(|running| running.program()).map(|program| program.codes.len()).sum()
    }

    /// Probes that are up.
    pub fn up(&self) -> usize {
        self.probes().iter().filter(|running| running.is_up()).count()
    }

    /// The table of reasons that labels are told by.
    pub fn reasons(&self) -> Arc<Reasons> {
        self.shared().reasons.reasons().clone()
    }

    /// What the probes go on to need besides reading their maps.
    pub fn needs(&self) -> Needs {
        let mut needs = Needs {
            mapper: self.host.has_mapped(),
            processes: self.names_cgroups() && !self.host.reads_logs_alone(),
            ..Needs::default()
        };
        for running in self.probes() {
            running.add_needs(&mut needs);
        }
        needs
    }

    /// From now on probes that need what is lacking are not brought up; those that run may tell less.
    pub fn lacks(&self, lacking: Lacking) {
        *lock(&self.lacking) = lacking;
        self.judge();
    }

    /// Whether a probe names cgroups.
    pub fn names_cgroups(&self) -> bool {
        self.shared().cgroups.is_wanted()
    }

    /// Starts the threads that read files of programs, where probes need them; to be called once rights are given up.
    pub fn read_programs(&self) {
        self.shared().symbols.begin();
    }

    /// From now on what is counted is shown to nobody but whoever started this process, who may read any file that it reads.
    pub fn is_private(&self) {
        self.shared().symbols.are_private();
    }
}

/// Nanoseconds in seconds.
#[expect(clippy::cast_precision_loss, reason = "samples are f64, as Prometheus keeps them")]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[expect(clippy::cast_precision_loss, reason = "samples are f64, as Prometheus keeps them")]
fn number(count: u64) -> f64 {
    count as f64
}
