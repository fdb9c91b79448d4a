//! Brings probes up: compiles, loads and attaches each by itself.

use super::{
    Exporter, Running,
    account::Account,
    alternative::{Candidate, StartStep},
    files::WatchedProbe,
    memory,
    process::process_began,
    running::compile_failure,
};
use crate::{
    cgroup::memory_limit,
    collector::LabelContext,
    disks::DiskWatch,
    follow::FollowedProcesses,
    host::Host,
    kernel::{Kernel, Modules},
    load::Attached,
    status::{Cause, Down},
    sys,
    topology::Watch,
};
use std::{
    os::fd::OwnedFd,
    sync::{Arc, Mutex, RwLock, atomic::AtomicBool},
    time::{Duration, Instant, SystemTime},
};
use tapster_ebpf::{
    attach::Target,
    probe::{KernelVersion, Probe, Reason},
    program::{Program, TRACED},
};

/// Durations of the stages of a start, for the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct StartTimes {
    /// YAML checked against BTF, instructions generated.
    pub compile: Duration,
    /// Maps made, programs verified.
    pub load: Duration,
    /// Programs attached.
    pub attach: Duration,
}

/// A probe that did not come up.
#[derive(Debug)]
pub struct StartFailure {
    /// The probe.
    pub name: String,
    /// Why it is down.
    pub down: Down,
}

/// How the exporter starts.
#[derive(Clone, Copy, Debug)]
pub struct StartOptions {
    /// Whether the kernel counts runs of programs and their time, for all programs of the host. It reads the clock twice for
    /// each run, which takes as long as a small program does.
    pub run_stats: bool,
    /// Whether programs are attached; otherwise they are only loaded, for the verifier's verdict.
    pub attach: bool,
    /// Whether children of this process are distinguished from all others: probes with `traced` count only them.
    pub command: bool,
}

/// Follows the children of this process in the maps of all probes with `traced`; these probes are down if that fails.
fn follow_children(loaded: &mut [Result<Attached, Down>], kernel: &Kernel) -> Option<FollowedProcesses> {
    let map = |attached: &Attached| attached.program.map_named(TRACED);
    let asking = || loaded.iter().flatten();
    let maps: Result<Vec<_>, _> =
        asking().filter_map(|attached| Some(attached.map(map(attached)?))).collect();
    let refused = match (maps, &kernel.btf) {
        (Ok(maps), _) if maps.is_empty() => return None,
        (Ok(maps), Ok(btf)) => match FollowedProcesses::start(btf, &maps) {
            Ok(followed) => return Some(followed),
            Err(error) => error.to_string(),
        },
        (Err(error), _) => error.to_string(),
        (Ok(_), Err(_)) => "without the kernel's BTF processes cannot be followed".to_owned(),
    };
    for attached in loaded.iter_mut() {
        if attached.as_ref().is_ok_and(|attached| map(attached).is_some()) {
            *attached = Err(Down { cause: Cause::Attach, message: refused.clone() });
        }
    }
    None
}

/// Lets the kernel count runs, which needs `CAP_SYS_ADMIN` and Linux 5.8.
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
    /// Brings probes up, each by itself: failures are returned in the list, and such probes show as down. `reasons` are those
    /// of the configuration, which come before the shipped ones.
    pub fn start(
        probes: &[Probe],
        kernel: &Kernel,
        host: &Host,
        reasons: Vec<Reason>,
        options: StartOptions,
    ) -> (Self, Vec<StartFailure>, StartTimes) {
        let compile = |probe: &Probe, target: &Target<'_>| {
            tapster_ebpf::compile(probe, target).map_err(|diagnostics| compile_failure(&diagnostics, kernel))
        };
        Self::bring_up(probes, compile, kernel, host, reasons, options)
    }

    /// Lets the kernel verify compiled probes without attaching them.
    pub fn attempt(compiled: &[(Probe, Program)], kernel: &Kernel, host: &Host) -> (Self, Vec<StartFailure>) {
        let probes: Vec<Probe> = compiled.iter().map(|(probe, _)| probe.clone()).collect();
        let mut programs = compiled.iter().map(|(_, program)| program.clone());
        let next = |_: &Probe, _: &Target<'_>| Ok(programs.next().expect("there is one for each probe"));
        let options = StartOptions { run_stats: false, attach: false, command: false };
        let (exporter, failures, _) = Self::bring_up(&probes, next, kernel, host, Vec::new(), options);
        (exporter, failures)
    }

    fn bring_up(
        probes: &[Probe],
        mut compile: impl FnMut(&Probe, &Target<'_>) -> Result<Program, Down>,
        kernel: &Kernel,
        host: &Host,
        reasons: Vec<Reason>,
        options: StartOptions,
    ) -> (Self, Vec<StartFailure>, StartTimes) {
        let mut times = StartTimes::default();
        if kernel.version < KernelVersion(5, 11, 0)
            && let Err(error) = sys::lift_memlock()
        {
            tracing::debug!(%error, "the limit on locked memory stays");
        }
        let limit = memory_limit(kernel.proc());
        let target = Target { command: options.command, ..kernel.target() };
        let begun = Instant::now();
        // Modules and files are read before compiling: later changes are then seen.
        let modules = Modules::new(&host.sys);
        let watched: Vec<_> = probes.iter().map(|probe| WatchedProbe::new(probe, &host.proc)).collect();
        let compiled: Vec<_> = probes.iter().map(|probe| compile(probe, &target)).collect();
        times.compile = begun.elapsed();
        for what in memory::too_little(kernel, limit.as_ref(), compiled.iter().flatten()) {
            tracing::warn!("{what}");
        }
        let begun = Instant::now();
        let mut candidates: Vec<_> = probes.iter().map(Candidate::new).collect();
        let mut loaded: Vec<_> = compiled
            .into_iter()
            .zip(&mut candidates)
            .map(|(program, candidate)| candidate.bring(program?, StartStep::Loaded, (&target, kernel)))
            .collect();
        times.load = begun.elapsed();
        let (begun, began) = (Instant::now(), SystemTime::now());
        let step = if options.attach { StartStep::Attached } else { StartStep::Tried };
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
        // Following begins after everything that may bring a probe up again with other maps.
        let followed = if options.attach { follow_children(&mut loaded, kernel) } else { None };
        times.attach = begun.elapsed();
        let shared = LabelContext::new(host, reasons);
        let mut failures = Vec::new();
        let mut running = Vec::new();
        for (((probe, candidate), watched), attached) in
            probes.iter().zip(candidates).zip(watched).zip(loaded)
        {
            let probe = Running::new(probe, candidate, watched, attached, began, host, &shared);
            if options.attach {
                probe.tell_passed();
            }
            failures.extend(probe.down().map(|down| StartFailure { name: probe.name().into(), down }));
            running.push(Arc::new(probe));
        }
        let stats = options.run_stats.then(count_runs).flatten();
        let exporter = Self {
            probes: RwLock::new(running),
            arrays: Watch::new(host),
            disks: DiskWatch::new(host),
            account: Mutex::new(Account::new(&host.sys)),
            online: host.online_cpus(),
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Cause;
    use std::fs;
    use tapster_ebpf::{declaration, diagnostic::SourceFile};

    const TEXT: &str =
        "probes:\n- name: naps\n  at: 'tracepoint:test:nap'\n  metrics: [{ counter: naps_total }]\n";
    const FORMAT: &str =
        "name: nap\nID: 7\nformat:\n\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n";

    /// The target of the probe is removed after compiling, so that compiling it again would show.
    #[test]
    fn what_is_compiled_is_not_compiled_again() {
        let dir = tempfile::tempdir().unwrap();
        let (proc, sys) = (dir.path().join("proc"), dir.path().join("sys"));
        let tracing = sys.join("kernel/tracing");
        fs::create_dir_all(tracing.join("events/test/nap")).unwrap();
        fs::write(tracing.join("available_events"), "test:nap\n").unwrap();
        fs::write(tracing.join("events/test/nap/format"), FORMAT).unwrap();
        let kernel = Kernel::detect(&Host { proc: proc.clone(), sys: sys.clone(), ..Host::default() });
        let (file, diagnostics) = declaration::parse(&SourceFile::new("t", TEXT));
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
        let program = tapster_ebpf::compile(&file.probes[0], &kernel.target()).unwrap();
        let compiled = [(file.probes[0].clone(), program)];
        fs::remove_dir_all(tracing.join("events/test")).unwrap();
        fs::write(tracing.join("available_events"), "").unwrap();
        let host = Host { proc, sys, dev: dir.path().into(), ..Host::default() };
        let is_compile =
            |failures: &[StartFailure]| failures.iter().any(|one| one.down.cause == Cause::Compile);
        let options = StartOptions { run_stats: false, attach: false, command: false };
        let (_, again, _) = Exporter::start(&file.probes, &kernel, &host, Vec::new(), options);
        assert!(is_compile(&again), "{again:?}");
        let (_, once) = Exporter::attempt(&compiled, &kernel, &host);
        assert!(!is_compile(&once), "{once:?}");
    }
}
