//! The running exporter: probes compiled, loaded and attached, each for itself, and what a scrape gets.

mod life;

use crate::{
    collector::{Collected, Reader, Shared, View},
    family::{Kind, MetricFamily},
    follow::Followed,
    kernel::{Kernel, Paths},
    label::Host,
    loader::{Attached, Loader},
    reason::Reasons,
    source::Source,
    status::{Down, ProbeStatus, ProgramStatus},
    sys::{self, PossibleCpus},
    topology::{self, Topology, Watch},
};
use life::{Change, Watched};
use std::{
    os::fd::OwnedFd,
    panic,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tapster_ebpf::{
    attach::Target,
    btf::Btf,
    diagnostic::Diagnostic,
    probe::{KernelVersion, Probe, Reason},
    program::TRACED,
    typed::{TypedLabel, TypedMetric},
};

/// A declared probe and what became of it.
#[derive(Debug)]
struct Running {
    name: String,
    help: String,
    source: String,
    /// There from when it was first attached.
    reader: OnceLock<Reader>,
    /// Why it is down. It may have been up, and then what was counted stays.
    down: Mutex<Option<Down>>,
}

impl Running {
    fn down(&self) -> Option<Down> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_down(&self, down: Option<Down>) {
        *self.down.lock().unwrap_or_else(PoisonError::into_inner) = down;
    }
}

/// All probes of this process.
#[derive(Debug)]
pub struct Exporter {
    probes: Vec<Running>,
    /// Why the last scrape of a probe failed, by its place; for the landing page.
    failures: Mutex<Vec<Option<String>>>,
    arrays: Watch,
    /// Which CPUs are online: a file of sysfs.
    online: PathBuf,
    /// Probes in files that may be replaced, or are not there yet.
    watched: Mutex<Vec<Watched>>,
    proc: PathBuf,
    /// What labels of all probes are told by.
    shared: Shared,
    /// Whether it has been said that some arrays' members have no latency.
    told_silent: AtomicBool,
    cpus: u32,
    /// From when programs of probes can have run.
    began: SystemTime,
    /// From when this process took CPU time: read once, since a clock that is set must not move it.
    process_began: Option<SystemTime>,
    /// The command's processes, for probes that ask for them.
    followed: Option<Followed>,
    /// While it is open the kernel counts runs and their time.
    _stats: Option<OwnedFd>,
}

/// What starting took, for the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct StartTimes {
    /// YAML checked against BTF, instructions made.
    pub compile: Duration,
    /// The same until the loader is ready as well.
    pub prepare: Duration,
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
    /// Whether the kernel counts runs of programs and their time, which costs some nanoseconds a run.
    pub run_stats: bool,
    /// Whether programs are attached, or only loaded to hear the verifier.
    pub attach: bool,
    /// Whether children of this process are told from all others: probes that ask for `traced` count what they do.
    pub command: bool,
}

fn compile_failure(diagnostics: &[Diagnostic]) -> Down {
    Down {
        reason: "compile",
        message: diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    }
}

/// Why a probe is down, of which a file is not there: it is waited for.
fn waiting(watched: Option<&Watched>) -> Option<Down> {
    let missing = watched?.missing()?;
    Some(Down {
        reason: "waiting",
        message: format!("{}; it is attached to when it appears", missing.message),
    })
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
            tracing::warn!(%error, "the limit on locked memory stays; maps may not fit");
        }
        let cpus = PossibleCpus::of_host();
        let target = Target { command: options.command, ..kernel.target() };
        let mut running = Vec::new();
        let begun = Instant::now();
        let proc = host.proc.clone();
        // Before they are compiled: what changes from here on is seen.
        let indexed = probes.iter().enumerate();
        let watched: Vec<Watched> =
            indexed.filter_map(|(index, probe)| Watched::new(index, probe, &proc)).collect();
        let btf = kernel.btf.as_ref().ok().map(Btf::raw);
        // Neither needs the other, and both take a good part of the start.
        let (mut loader, compiled) = thread::scope(|scope| {
            let loader = scope.spawn(move || Loader::new(btf));
            let compile = |probe| {
                tapster_ebpf::compile(probe, &target).map_err(|diagnostics| compile_failure(&diagnostics))
            };
            let compiled: Vec<_> = probes.iter().map(compile).collect();
            times.compile = begun.elapsed();
            (loader.join().unwrap_or_else(|panic| panic::resume_unwind(panic)), compiled)
        });
        times.prepare = begun.elapsed();
        let begun = Instant::now();
        let mut loaded: Vec<_> =
            compiled.into_iter().map(|program| loader.load(program?).map_err(|error| error.down())).collect();
        drop(loader);
        times.load = begun.elapsed();
        let (begun, began) = (Instant::now(), SystemTime::now());
        let followed = if options.attach { follow_children(&mut loaded, kernel) } else { None };
        if options.attach {
            for attached in &mut loaded {
                let Ok(inner) = attached else { continue };
                match inner.attach(kernel) {
                    Ok(()) => {
                        for what in inner.left_out() {
                            tracing::info!(probe = inner.program.name, "{what}");
                        }
                    }
                    Err(error) => *attached = Err(error.down()),
                }
            }
        }
        times.attach = begun.elapsed();
        let shared = Shared::new(host, reasons);
        let mut failures = Vec::new();
        for (index, (probe, attached)) in probes.iter().zip(loaded).enumerate() {
            let internal =
                |error: &dyn std::error::Error| Down { reason: "internal", message: error.to_string() };
            let state = attached.and_then(|attached| {
                let cpus = cpus.as_ref().map_err(|error| internal(error))?;
                Reader::new(attached, began, host, &shared, *cpus)
                    .map_err(|error| Down { reason: "collect", message: error.to_string() })
            });
            let (reader, mut down) = match state {
                Ok(reader) => (OnceLock::from(reader), None),
                Err(down) => (OnceLock::new(), Some(down)),
            };
            if let Some(down) = &mut down {
                if let Some(waiting) = waiting(watched.iter().find(|watched| watched.index == index)) {
                    *down = waiting;
                }
                failures.push(Failure { name: probe.name.value.clone(), down: down.clone() });
            }
            let (line, _) = probe.file.position(probe.name.span.start);
            running.push(Running {
                name: probe.name.value.clone(),
                help: probe.help.clone(),
                source: format!("{}:{line}", probe.file.name),
                reader,
                down: Mutex::new(down),
            });
        }
        let stats = options.run_stats.then(|| sys::enable_run_stats().ok()).flatten();
        let exporter = Self {
            failures: Mutex::new(vec![None; running.len()]),
            arrays: Watch::new(host),
            online: host.sys.join("devices/system/cpu/online"),
            watched: Mutex::new(watched),
            proc,
            shared,
            told_silent: AtomicBool::new(false),
            probes: running,
            cpus: kernel.possible_cpus,
            began,
            process_began: process_began(),
            followed,
            _stats: stats,
        };
        (exporter, failures, times)
    }

    /// The arrays as the last scrape saw them.
    pub fn arrays(&self) -> Arc<Topology> {
        self.arrays.current()
    }

    /// Programs attached.
    pub fn programs(&self) -> usize {
        self.readers().map(|(_, reader)| reader.program().codes.len()).sum()
    }

    /// Probes that are up.
    pub fn up(&self) -> usize {
        self.readers().count()
    }

    /// Each probe that is up, by name, with its metrics.
    pub fn metrics(&self) -> impl Iterator<Item = (&str, &[TypedMetric])> {
        self.readers().map(|(running, reader)| (running.name.as_str(), reader.program().metrics.as_slice()))
    }

    /// Each probe that is up, by name, with its labels.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &[TypedLabel])> {
        self.readers().map(|(running, reader)| (running.name.as_str(), reader.program().labels.as_slice()))
    }

    /// The table of reasons that labels are told by.
    pub fn reasons(&self) -> &Reasons {
        self.shared.reasons.reasons()
    }

    /// Most kernel memory of each probe that is up, bytes.
    pub fn memory(&self) -> Vec<(&str, u64)> {
        self.readers()
            .map(|(running, reader)| (running.name.as_str(), reader.program().memory_bytes(self.cpus)))
            .collect()
    }

    /// Each probe that is up, by name, with the state of its programs.
    pub fn loaded(&self) -> Vec<(String, Vec<ProgramStatus>)> {
        self.readers().map(|(running, reader)| (running.name.clone(), reader.programs())).collect()
    }

    fn readers(&self) -> impl Iterator<Item = (&Running, &Reader)> {
        self.probes.iter().filter_map(|running| Some((running, running.reader.get()?)))
    }

    /// Whether a probe is in a file of its own, which may be replaced.
    pub fn watches(&self) -> bool {
        !self.watched.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Looks whether files that probes are in are still the same, and attaches to those that are others or have appeared.
    pub fn follow(&self, paths: &Paths, host: &Host) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kernel = None;
        for watched in watched.iter_mut() {
            let change = watched.look(&self.proc);
            if change == Change::None {
                continue;
            }
            let running = &self.probes[watched.index];
            let kernel = kernel.get_or_insert_with(|| Kernel::detect(paths));
            let down = self.revive(running, watched, kernel, host, change).err();
            match &down {
                None => tracing::info!(probe = running.name, "attached to the files that are there now"),
                Some(Down { reason: "waiting", message }) => {
                    tracing::warn!(probe = running.name, "{message}");
                }
                Some(Down { reason, message }) => {
                    tracing::error!(probe = running.name, reason, "probe is down: {message}");
                }
            }
            running.set_down(down);
        }
        if kernel.is_some() {
            sys::release_memory();
        }
    }

    /// Detaches from files that were replaced and that no process runs any more.
    pub fn release(&self) {
        for (_, reader) in self.readers() {
            reader.attached().release(&self.proc);
        }
    }

    /// Compiles and attaches a probe anew.
    fn revive(
        &self,
        running: &Running,
        watched: &Watched,
        kernel: &Kernel,
        host: &Host,
        change: Change,
    ) -> Result<(), Down> {
        let program = tapster_ebpf::compile(&watched.probe, &kernel.target())
            .map_err(|diagnostics| waiting(Some(watched)).unwrap_or_else(|| compile_failure(&diagnostics)))?;
        if let Some(reader) = running.reader.get() {
            let all = change == Change::Containers;
            return reader.attached().renew(&program, kernel, all).map_err(|error| error.down());
        }
        let internal =
            |error: &dyn std::error::Error| Down { reason: "internal", message: error.to_string() };
        let mut attached = Loader::new(kernel.btf.as_ref().ok().map(Btf::raw))
            .load(program)
            .map_err(|error| error.down())?;
        let began = SystemTime::now();
        attached.attach(kernel).map_err(|error| error.down())?;
        let cpus = PossibleCpus::of_host().map_err(|error| internal(&error))?;
        let reader = Reader::new(attached, began, host, &self.shared, cpus)
            .map_err(|error| Down { reason: "collect", message: error.to_string() })?;
        running.reader.set(reader).map_err(|_| Down {
            reason: "internal",
            message: "the probe was attached twice: this is a bug in tapster".into(),
        })
    }

    /// Gives up starts whose end never came; to be called now and then.
    pub fn sweep(&self) {
        for (running, reader) in self.readers() {
            if let Err(error) = reader.sweep() {
                tracing::warn!(probe = running.name, %error, "old starts could not be swept");
            }
        }
    }

    /// Whether a probe names cgroups.
    pub fn names_cgroups(&self) -> bool {
        self.shared.cgroups.is_wanted()
    }

    /// Looks which cgroups are gone, and takes their rows out of the maps of probes; to be called about every second.
    pub fn retire(&self) {
        self.shared.cgroups.look();
        self.meet_cgroups();
    }

    /// Finds out the names of cgroups that probes met, as long as they are there.
    pub fn meet_cgroups(&self) {
        for (running, reader) in self.readers() {
            if let Err(error) = reader.retire() {
                tracing::warn!(probe = running.name, %error, "rows of cgroups that are gone could not be taken out");
            }
        }
    }

    /// What a probe gives to this scrape; a failure is kept for the landing page and logged once.
    fn collect_probe(
        &self,
        index: usize,
        running: &Running,
        topology: &Arc<Topology>,
        view: View,
    ) -> Result<Collected, Down> {
        let Some(reader) = running.reader.get() else {
            return Err(running
                .down()
                .unwrap_or(Down { reason: "internal", message: "it is not there".into() }));
        };
        let result = reader
            .collect(topology, view)
            .map_err(|error| Down { reason: "collect", message: error.to_string() });
        let failure = result.as_ref().err().map(|down| down.message.clone());
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures[index] != failure {
            if let Some(message) = &failure {
                tracing::error!(probe = running.name, message, "the probe's maps cannot be read");
            }
            failures[index] = failure;
        }
        result
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

/// Families about the probes themselves, filled row by row.
struct Own {
    up: MetricFamily,
    runs: MetricFamily,
    run_seconds: MetricFamily,
    missed: MetricFamily,
    dropped: MetricFamily,
    unmatched: MetricFamily,
    series: MetricFamily,
    max_series: MetricFamily,
    memory: MetricFamily,
}

impl Own {
    fn new() -> Self {
        let probe = &["probe"];
        let program = &["probe", "attach_point", "mechanism"];
        let counter = |name, help, labels| MetricFamily::new(name, help, Kind::Counter, labels);
        let gauge = |name, help, labels| MetricFamily::new(name, help, Kind::Gauge, labels);
        Self {
            up: gauge(
                "tapster_probe_up",
                "Whether the probe is attached and readable; if not, reason says why.",
                &["probe", "reason"],
            ),
            runs: counter(
                "tapster_probe_runs_total",
                "Runs of the probe's programs; 0 while the kernel does not count them.",
                program,
            ),
            run_seconds: counter(
                "tapster_probe_run_seconds_total",
                "Time spent in the probe's programs.",
                program,
            ),
            missed: counter(
                "tapster_probe_missed_total",
                "Runs the kernel skipped because the program was running on that CPU.",
                program,
            ),
            dropped: counter(
                "tapster_probe_dropped_total",
                "Events that were not counted in full, by reason.",
                &["probe", "reason"],
            ),
            unmatched: counter(
                "tapster_probe_unmatched_total",
                "End events that had no start: begun earlier, filtered out, or parts of another.",
                probe,
            ),
            series: gauge("tapster_probe_series", "Label sets the probe holds.", probe),
            max_series: gauge("tapster_probe_max_series", "Label sets the probe can hold.", probe),
            memory: gauge("tapster_probe_memory_bytes", "Kernel memory of the probe's maps.", probe),
        }
    }

    fn into_families(self, began: SystemTime) -> [MetricFamily; 9] {
        let Self { up, runs, run_seconds, missed, dropped, unmatched, series, max_series, memory } = self;
        [up, runs, run_seconds, missed, dropped, unmatched, series, max_series, memory]
            .map(|family| family.since(began))
    }
}

impl Exporter {
    fn families(&self, view: View) -> Vec<MetricFamily> {
        // Once, and first: all that is said of arrays in this scrape is about the same ones.
        let topology = self.arrays.refresh();
        let mut own = Own::new();
        let mut families = Vec::new();
        for (index, running) in self.probes.iter().enumerate() {
            let name = running.name.as_str();
            let collected = self.collect_probe(index, running, &topology, view);
            match collected.as_ref().map(|_| running.down()) {
                Ok(None) => own.up.push(&[name, ""], 1.0),
                Ok(Some(down)) => own.up.push(&[name, down.reason], 0.0),
                Err(down) => own.up.push(&[name, down.reason], 0.0),
            }
            let Some(reader) = running.reader.get() else { continue };
            for program in reader.programs() {
                let labels = &[name, program.attach_point.as_str(), program.mechanism.as_str()];
                own.runs.push(labels, number(program.runs));
                own.run_seconds.push(labels, seconds(program.run_ns));
                own.missed.push(labels, number(program.missed));
            }
            own.max_series.push(&[name], f64::from(reader.program().layout.max_rows));
            own.memory.push(&[name], number(reader.memory_bytes()));
            let Ok(collected) = collected else { continue };
            own.series.push(&[name], number(collected.series));
            for (reason, count) in collected.dropped.losses {
                own.dropped.push(&[name, reason], number(count));
            }
            if let Some(followed) = &self.followed
                && reader.program().layout.traced
                && let Ok(lost) = followed.lost()
            {
                own.dropped.push(&[name, "max_processes"], number(lost));
            }
            if let Some(unmatched) = collected.dropped.unmatched {
                own.unmatched.push(&[name], number(unmatched));
            }
            families.extend(collected.families);
        }
        if let Err(reason) = topology::adopt(&topology, &mut families)
            && !self.told_silent.swap(true, Ordering::Relaxed)
        {
            tracing::warn!("members of device-mapper raid and mirror arrays have no latency: {reason}");
        }
        families.extend(topology::families(&topology));
        families.extend(own.into_families(self.began));
        families.extend(online_cpus(&self.online));
        families.extend(process(self.process_began));
        families
    }
}

impl Source for Exporter {
    fn collect(&self) -> Vec<MetricFamily> {
        self.families(View::Now)
    }

    fn counted(&self) -> Vec<MetricFamily> {
        self.families(View::Counted)
    }

    fn status(&self) -> Vec<ProbeStatus> {
        let topology = self.arrays.current();
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.probes
            .iter()
            .zip(failures)
            .map(|(running, failure)| {
                let mut status = ProbeStatus {
                    name: running.name.clone(),
                    help: running.help.clone(),
                    source: running.source.clone(),
                    down: running
                        .down()
                        .or_else(|| failure.map(|message| Down { reason: "collect", message })),
                    ..ProbeStatus::default()
                };
                if let Some(reader) = running.reader.get() {
                    let program = reader.program();
                    status.programs = reader.programs();
                    status.families = program.metrics.iter().map(|metric| metric.name.clone()).collect();
                    status.max_series = program.layout.max_rows.into();
                    status.memory_bytes = reader.memory_bytes();
                    if let Ok(collected) = reader.collect(&topology, View::Now) {
                        status.series = collected.series;
                        status.dropped = collected
                            .dropped
                            .losses
                            .iter()
                            .map(|(reason, count)| ((*reason).to_owned(), *count))
                            .collect();
                    }
                }
                status
            })
            .collect()
    }

    fn ready(&self) -> bool {
        true
    }
}

/// The CPUs that tasks can run on: those of the host, whichever of them this process may use. None where sysfs does not say.
fn online_cpus(path: &Path) -> Option<MetricFamily> {
    let count = sys::listed_cpus(path).ok()?;
    Some(MetricFamily::single(
        "tapster_online_cpus",
        "Processors of this host that are online.",
        Kind::Gauge,
        f64::from(count),
    ))
}

/// When this process started; `None` where procfs does not say.
fn process_began() -> Option<SystemTime> {
    let stat = procfs::process::Process::myself().and_then(|process| process.stat()).ok()?;
    let ticks = number(procfs::ticks_per_second());
    let started = number(procfs::boot_time_secs().ok()?) + number(stat.starttime) / ticks;
    UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(started).ok()?)
}

/// The exporter as a process, by the names that all Prometheus clients use, and its build.
fn process(began: Option<SystemTime>) -> Vec<MetricFamily> {
    let mut build = MetricFamily::new(
        "tapster_build_info",
        "Version of the exporter; the value is always 1.",
        Kind::Gauge,
        &["version"],
    );
    build.push(&[env!("CARGO_PKG_VERSION")], 1.0);
    // A configuration that cannot be used ends the process, so one that runs was good.
    let config = MetricFamily::single(
        "tapster_config_last_reload_successful",
        "Whether the configuration was good when it was last read.",
        Kind::Gauge,
        1.0,
    );
    let mut families = vec![build, config];
    let Ok(stat) = procfs::process::Process::myself().and_then(|process| {
        let open_fds = process.fd_count()?;
        Ok((process.stat()?, open_fds))
    }) else {
        return families;
    };
    let (stat, open_fds) = stat;
    let gauge = |name, help, value| MetricFamily::single(name, help, Kind::Gauge, value);
    let ticks = number(procfs::ticks_per_second());
    let started = procfs::boot_time_secs().map_or(0.0, number) + number(stat.starttime) / ticks;
    let resident = number(stat.rss.saturating_mul(procfs::page_size()));
    let cpu = MetricFamily::single(
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        Kind::Counter,
        number(stat.utime + stat.stime) / ticks,
    );
    families.push(match began {
        Some(began) => cpu.since(began),
        None => cpu,
    });
    families.push(gauge("process_resident_memory_bytes", "Resident memory size in bytes.", resident));
    families.push(gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", number(stat.vsize)));
    families.push(gauge(
        "process_open_fds",
        "Number of open file descriptors.",
        f64::from(u32::try_from(open_fds).unwrap_or(0)),
    ));
    families.push(gauge(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        started,
    ));
    families
}
