//! The running exporter: probes compiled, loaded and attached, each for itself, and what a scrape gets.

mod account;
mod alternative;
mod follow;
mod life;
mod memory;
mod own;
mod process;
mod ready;
mod reload;
mod running;

pub use reload::{Exchange, Refused};
pub use running::Running;

use crate::{
    cgroup::memory_limit,
    collector::{Collected, Reader, Shared, View},
    deadline::{self, Limits, MayHang},
    family::MetricFamily,
    follow::Followed,
    kernel::{self, Kernel, Modules, ONLINE},
    label::Host,
    load::Attached,
    lock::lock,
    reason::Reasons,
    sandbox::{Lacking, Needs},
    source::{Selection, Source},
    status::{Down, Limit, ProbeStatus, ProgramStatus, Unready},
    sys,
    topology::{self, Topology, Watch},
};
use account::Account;
use alternative::{Candidate, Step};
use life::Watched;
use own::Own;
use process::{online_cpus, process, process_began};
use running::compile_failure;
use std::{
    cell::OnceCell,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};
use tapster_ebpf::{
    attach::Target,
    probe::{KernelVersion, Probe, Reason},
    program::TRACED,
};

/// How long a probe may take to be read. One of ten thousand histograms takes an eighth of a second, written out
/// (`docs/performance.md`), and a scrape has ten seconds by default.
const PROBES: Limits = Limits { first: Duration::from_secs(5), next: Duration::from_secs(1) };

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

/// What starting took, for the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct StartTimes {
    /// YAML checked against BTF, instructions made.
    pub compile: Duration,
    /// Maps made, programs verified.
    pub load: Duration,
    /// Programs attached.
    pub attach: Duration,
}

/// A probe that did not come up, and why.
#[derive(Debug)]
pub struct Failure {
    /// The probe.
    pub name: String,
    /// Why.
    pub down: Down,
}

/// How the exporter starts.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether the kernel is made to count runs of programs and their time, for all programs of the host. It reads the clock twice for
    /// each run, which takes as long as a small program does.
    pub run_stats: bool,
    /// Whether programs are attached, or only loaded to hear the verifier.
    pub attach: bool,
    /// Whether children of this process are told from all others: probes that ask for `traced` count what they do.
    pub command: bool,
}

/// Has this process's children followed in the maps of all probes that ask for them; those are down if it cannot be done.
fn follow_children(loaded: &mut [Result<Attached, Down>], kernel: &Kernel) -> Option<Followed> {
    let map = |attached: &Attached| attached.program.map_named(TRACED);
    let asking = || loaded.iter().flatten();
    let maps: Result<Vec<_>, _> =
        asking().filter_map(|attached| Some(attached.map(map(attached)?))).collect();
    let refused = match (maps, &kernel.btf) {
        (Ok(maps), _) if maps.is_empty() => return None,
        (Ok(maps), Ok(btf)) => match Followed::start(btf, &maps) {
            Ok(followed) => return Some(followed),
            Err(error) => error.to_string(),
        },
        (Err(error), _) => error.to_string(),
        (Ok(_), Err(_)) => "without the kernel's BTF processes cannot be followed".to_owned(),
    };
    for attached in loaded.iter_mut() {
        if attached.as_ref().is_ok_and(|attached| map(attached).is_some()) {
            *attached = Err(Down { reason: "attach", message: refused.clone() });
        }
    }
    None
}

/// Has the kernel count runs, which not everybody may ask for.
fn count_runs() -> Option<OwnedFd> {
    let counting = sys::enable_run_stats();
    if let Err(error) = &counting {
        tracing::warn!(
            "runs of programs are not counted: {error}; `--run-stats` needs CAP_SYS_ADMIN and Linux 5.8"
        );
    }
    counting.ok()
}

impl Exporter {
    /// Brings probes up, each for itself: what fails is said in the list and shows as down. `reasons` are those of the
    /// configuration, before the shipped ones.
    pub fn start(
        probes: &[Probe],
        kernel: &Kernel,
        host: &Host,
        reasons: Vec<Reason>,
        options: Options,
    ) -> (Self, Vec<Failure>, StartTimes) {
        let mut times = StartTimes::default();
        if kernel.version < KernelVersion(5, 11, 0)
            && let Err(error) = sys::lift_memlock()
        {
            tracing::debug!(%error, "the limit on locked memory stays");
        }
        let limit = memory_limit(kernel.proc());
        let target = Target { command: options.command, ..kernel.target() };
        let begun = Instant::now();
        // Before they are compiled: what changes from here on is seen.
        let modules = Modules::new(&host.sys);
        let watched: Vec<_> = probes.iter().map(|probe| Watched::new(probe, &host.proc)).collect();
        let compile = |probe| {
            tapster_ebpf::compile(probe, &target).map_err(|diagnostics| compile_failure(&diagnostics, kernel))
        };
        let compiled: Vec<_> = probes.iter().map(compile).collect();
        times.compile = begun.elapsed();
        for what in memory::too_little(kernel, limit.as_ref(), compiled.iter().flatten()) {
            tracing::warn!("{what}");
        }
        let begun = Instant::now();
        let mut candidates: Vec<_> = probes.iter().map(Candidate::new).collect();
        let mut loaded: Vec<_> = compiled
            .into_iter()
            .zip(&mut candidates)
            .map(|(program, candidate)| candidate.bring(program?, Step::Loaded, (&target, kernel)))
            .collect();
        times.load = begun.elapsed();
        let (begun, began) = (Instant::now(), SystemTime::now());
        let step = if options.attach { Step::Attached } else { Step::Tried };
        for (attached, candidate) in loaded.iter_mut().zip(&mut candidates) {
            let Ok(inner) = attached else { continue };
            if let Err(refused) = step.take(inner, kernel) {
                *attached = candidate
                    .pass_over(&refused)
                    .and_then(|()| candidate.bring_next(step, (&target, kernel)));
            }
            if let (Ok(inner), true) = (attached, options.attach) {
                for what in inner.left_out() {
                    tracing::info!(probe = inner.program.name, "{what}");
                }
            }
        }
        // Behind all that may be brought up anew, with other maps; what is followed begins later.
        let followed = if options.attach { follow_children(&mut loaded, kernel) } else { None };
        times.attach = begun.elapsed();
        let shared = Shared::new(host, reasons);
        let mut failures = Vec::new();
        let mut running = Vec::new();
        for (((probe, candidate), watched), attached) in
            probes.iter().zip(candidates).zip(watched).zip(loaded)
        {
            let probe = Running::new(probe, candidate, watched, attached, began, host, &shared);
            if options.attach {
                probe.tell_passed();
            }
            failures.extend(probe.down().map(|down| Failure { name: probe.name().into(), down }));
            running.push(Arc::new(probe));
        }
        let stats = options.run_stats.then(count_runs).flatten();
        let exporter = Self {
            probes: RwLock::new(running),
            arrays: Watch::new(host),
            account: Mutex::new(Account::new(&host.sys)),
            online: host.sys.join(ONLINE),
            modules: Mutex::new(modules),
            host: host.clone(),
            shared: Mutex::new(Arc::new(shared)),
            told_silent: AtomicBool::new(false),
            lacking: Mutex::default(),
            required: Mutex::default(),
            cpus: kernel.possible_cpus,
            began,
            process_began: process_began(),
            followed,
            stats,
        };
        exporter.judge();
        (exporter, failures, times)
    }

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
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
        *self.lacking.lock().unwrap_or_else(PoisonError::into_inner) = lacking;
        self.judge();
    }

    /// Finds out what probes that are up cannot tell, as this process is now.
    fn judge(&self) {
        let nameless = OnceCell::new();
        for running in self.probes() {
            running.judge(|| nameless.get_or_init(|| kernel::nameless(&self.host.proc)).clone());
        }
    }

    /// What probes that are up cannot tell, by their names.
    pub fn limits(&self) -> Vec<(String, Limit)> {
        self.probes()
            .iter()
            .filter_map(|running| Some((running.name().to_owned(), running.limit()?)))
            .collect()
    }

    /// Starts the threads that read files of programs, where probes need them; to be called once rights are given up.
    pub fn read_programs(&self) {
        self.shared().symbols.begin();
    }

    /// From now on what is counted is shown to nobody but whoever started this process, who may read any file that it reads.
    pub fn is_private(&self) {
        self.shared().symbols.are_private();
    }

    /// What the probes have counted, with the functions of programs named as far as they can be read within this time.
    pub fn collect_named(&self, most: Duration) -> Vec<MetricFamily> {
        let begun = Instant::now();
        loop {
            let families = self.collect();
            let left = most.saturating_sub(begun.elapsed());
            // One thing that was lacking may show that another is.
            if left.is_zero() || !self.shared().symbols.wait(left) {
                return families;
            }
        }
    }

    /// Gives up starts whose end never came; to be called now and then.
    pub fn sweep(&self) {
        for running in self.probes() {
            if let Some(Err(error)) = running.reader().map(|reader| reader.sweep(reader.now_ns())) {
                tracing::warn!(probe = running.name(), %error, "old starts could not be swept");
            }
        }
    }

    /// Whether a probe names cgroups.
    pub fn names_cgroups(&self) -> bool {
        self.shared().cgroups.is_wanted()
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

/// Nanoseconds in seconds.
#[expect(clippy::cast_precision_loss, reason = "samples are f64, as Prometheus keeps them")]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[expect(clippy::cast_precision_loss, reason = "samples are f64, as Prometheus keeps them")]
fn number(count: u64) -> f64 {
    count as f64
}

impl Exporter {
    /// Reads these probes, each within its time.
    fn read(
        probes: &[Arc<Running>],
        topology: &Arc<Topology>,
        view: View,
    ) -> impl Iterator<Item = Result<Collected, Down>> {
        let topology = topology.clone();
        let outcomes = deadline::each(PROBES, probes.to_vec(), move |running: &Running| {
            running.collect(&topology, view)
        });
        probes.iter().zip(outcomes).map(|(running, outcome)| running.settle(outcome))
    }

    fn families(&self, view: View, selection: &Selection) -> Vec<MetricFamily> {
        // Once, and first: all that is said of arrays in this scrape is about the same ones.
        let topology = self.arrays.refresh();
        let cgroups = &self.shared().cgroups;
        if cgroups.is_wanted() {
            cgroups.refresh();
        }
        let mut own = Own::new(self.stats.is_some());
        let mut families = Vec::new();
        let mut probes = self.probes();
        probes.retain(|running| selection.takes(|word| running.is_called(word)));
        for (running, collected) in probes.iter().zip(Self::read(&probes, &topology, view)) {
            own.add(running, collected.as_ref(), self.followed.as_ref(), self.began);
            families.extend(collected.into_iter().flat_map(|collected| collected.families));
        }
        if let Err(reason) = topology::adopt(&topology, &mut families)
            && !self.told_silent.swap(true, Ordering::Relaxed)
        {
            tracing::warn!("members of device-mapper raid and mirror arrays have no latency: {reason}");
        }
        let own = own.into_families(self.began);
        if selection.takes_rest() {
            let mut account = lock(&self.account);
            // What ended is in the other view as if it had not.
            if view == View::Now && matches!(selection, Selection::All) {
                // A site's own probe of this name may leave out what it likes.
                let is_shipped =
                    |running: &Arc<Running>| running.name() == "block_io" && running.is_called("block");
                if probes.iter().any(is_shipped) {
                    account.compare(&families);
                } else {
                    account.leave();
                }
            }
            families.extend(account.family());
            drop(account);
            families.extend(topology::families(&topology));
            let containers = cgroups.is_wanted().then(|| ("containers", cgroups.age()));
            families.push(own::ages([("arrays", self.arrays.age())].into_iter().chain(containers)));
            families.push(self.readiness());
            families.extend(own);
            families.extend(self.shared().symbols.families().map(|family| family.since(self.began)));
            families.extend(online_cpus(&self.online));
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

    fn unready(&self) -> Option<Unready> {
        self.unready()
    }
}
