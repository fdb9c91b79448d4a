//! A compiled probe into the kernel: maps made, programs verified and attached.

mod functions;
pub mod places;
pub mod refusal;
mod user;

use crate::{
    kernel::{Kernel, address},
    lock::lock,
    perf::{self, Events},
    status::{Down, ProgramStatus},
    together::together,
};
use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{Map, MapData},
    programs::{
        BtfTracePoint, FEntry, FExit, PerfEvent, Program as Loaded, ProgramError, RawTracePoint, TracePoint,
    },
};
use functions::Functions;
use refusal::{Asked, because};
use std::{
    collections::HashSet,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tapster_ebpf::{
    attach::{Functions as _, Wanted, left_out},
    glob::is_pattern,
    object,
    probe::{AttachPoint, PerfKind},
    program::{Code, Program},
    typed::Mechanism,
};
use user::User;

/// Lines of the verifier's log that are shown: it ends with what it refused.
const LOG_LINES: usize = 24;

/// Why a probe could not be brought into the kernel.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The object could not be written; our own mistake.
    #[error(transparent)]
    Object(#[from] object::ObjectError),
    /// A map could not be made.
    #[error("the kernel refused the maps of probe `{probe}`: {message}")]
    Map {
        /// The probe.
        probe: String,
        /// What the loader says: the syscall and its error.
        message: String,
    },
    /// The verifier refused a program.
    #[error("the kernel refused the program for `{at}`: the BPF_PROG_LOAD syscall failed: {error}\n{log}")]
    Verifier {
        /// The attach point.
        at: String,
        /// The syscall's error.
        error: std::io::Error,
        /// The last lines of the verifier's log.
        log: String,
    },
    /// A program could not be loaded for a reason that is not the verifier's, or not attached.
    #[error("the program for `{at}` could not be {action}: {message}")]
    Program {
        /// The attach point.
        at: String,
        /// `loaded` or `attached`.
        action: &'static str,
        /// What the loader says: the syscall and its error.
        message: String,
    },
    /// A module that a function was in is not loaded any more.
    #[error("`{at}` is in `{modules}`, which is not loaded any more")]
    Unloaded {
        /// The attach point.
        at: String,
        /// The module; of several, with what stands between them in a sentence.
        modules: String,
    },
    /// What feeds the probe's maps from now on would mean something else.
    #[error("the file has changed so that the values of probe `{0}` are of other types: restart tapster")]
    Other(String),
    /// The object does not hold what was compiled; our own mistake.
    #[error("the object has no {what} `{name}`: this is a bug in tapster")]
    Missing {
        /// `map` or `program`.
        what: &'static str,
        /// Its name.
        name: String,
    },
}

impl LoadError {
    /// A program that was not taken, by the verifier if it had something to say, else for another reason.
    fn not_loaded(code: &Code, error: std::io::Error, log: &str) -> Self {
        let (at, log) = (code.at.to_string(), useful_lines(log));
        if refusal::is_verifiers(&error, &log) {
            return Self::Verifier { at, error, log };
        }
        let message = format!("the BPF_PROG_LOAD syscall failed: {}", refused(&error, Asked::Program));
        Self::Program { at, action: "loaded", message }
    }

    /// The attach point that the kernel did not take.
    pub fn place(&self) -> Option<&str> {
        match self {
            Self::Verifier { at, .. } | Self::Program { at, .. } => Some(at),
            Self::Object(_)
            | Self::Map { .. }
            | Self::Other(_)
            | Self::Missing { .. }
            | Self::Unloaded { .. } => None,
        }
    }

    /// An attach point where a program could not be attached.
    fn not_attached(code: &Code, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut message = refused(error, Asked::Event);
        if matches!(&code.at, AttachPoint::Perf(event) if event.kind == PerfKind::Hardware) {
            message.push_str("; not every processor counts this, and few virtual machines do");
        }
        Self::Program { at: code.at.to_string(), action: "attached", message }
    }

    /// As the landing page and `tapster_probe_up` show it.
    pub fn down(&self) -> Down {
        if let Self::Unloaded { .. } = self {
            let message = format!("{self}; it is attached to when it is loaded again");
            return Down { reason: "waiting", message };
        }
        let reason = match self {
            Self::Object(_) | Self::Missing { .. } => "internal",
            Self::Map { .. } => "map",
            Self::Verifier { .. } => "verifier",
            Self::Program { action, .. } if *action == "attached" => "attach",
            Self::Other(_) | Self::Unloaded { .. } => "attach",
            Self::Program { .. } => "load",
        };
        Down { reason, message: self.to_string() }
    }
}

/// A probe in the kernel. Dropping it detaches its programs and frees its maps.
#[derive(Debug)]
pub struct Attached {
    /// What was compiled.
    pub program: Program,
    /// For each of its codes that is attached to functions by probes, what is in the kernel of it. Before the maps, so that
    /// it is gone before they are.
    functions: Vec<Option<Functions>>,
    /// Programs at user programs that are loaded and not yet attached.
    loaded: Vec<user::Loaded>,
    user: Mutex<User>,
    looks: Arc<user::Look>,
    /// Timers and counters, each with the number of its code.
    events: Mutex<Vec<(usize, Events)>>,
    ebpf: Ebpf,
}

/// What loading needs once for all probes. aya decodes the kernel's whole BTF for each loader that it
/// makes, whether that is wanted or not, so all probes share one.
pub struct Loader {
    ebpf: EbpfLoader<'static>,
    btf: Option<Btf>,
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader").field("btf", &self.btf.is_some()).finish_non_exhaustive()
    }
}

impl Loader {
    /// Gets ready; `btf` is the kernel's, needed for BTF-typed programs.
    pub fn new(btf: Option<&[u8]>) -> Self {
        // Both take about 20 ms, most of the start of the exporter.
        let (ebpf, btf) = together(
            || {
                let mut ebpf = EbpfLoader::new();
                // The object brings no BTF of its own, so there is nothing to relocate against the kernel's.
                ebpf.btf(None);
                ebpf
            },
            || btf.and_then(|bytes| Btf::parse(bytes, aya::Endianness::Little).ok()),
        );
        Self { ebpf, btf }
    }

    /// Gets ready for this kernel.
    pub fn of(kernel: &Kernel) -> Self {
        Self::new(kernel.btf.as_ref().ok().map(tapster_ebpf::btf::Btf::raw))
    }

    /// Makes the maps of a probe and has the verifier look at its programs, without attaching any.
    pub fn load(&mut self, program: Program) -> Result<Attached, LoadError> {
        let bytes = object::write(&program)?;
        let mut ebpf = self.ebpf.load(&bytes).map_err(|error| LoadError::Map {
            probe: program.name.clone(),
            message: refused(&error, Asked::Map),
        })?;
        let maps = program.maps.iter().map(|map| map_fd(&ebpf, map.name)).collect::<Result<Vec<_>, _>>()?;
        let session = Functions::session(&program, &maps);
        let mut functions: Vec<Option<Functions>> = session.into_iter().flatten().map(Some).collect();
        for code in &program.codes[functions.len()..] {
            if user::is_user(code) {
                functions.push(None);
                continue;
            }
            let begun = std::time::Instant::now();
            let (own, info) = if Functions::are_for(code) {
                let maps =
                    program.maps.iter().map(|map| map_fd(&ebpf, map.name)).collect::<Result<Vec<_>, _>>()?;
                let own = Functions::load(code, &maps)?;
                let info = own.info();
                (Some(own), info)
            } else {
                let loaded = find(&mut ebpf, code)?;
                load_program(loaded, code, self.btf.as_ref())?;
                let info = loaded.fd().ok().and_then(|fd| crate::sys::prog_info(fd.as_fd()).ok());
                (None, info.unwrap_or_default())
            };
            functions.push(own);
            tracing::debug!(at = %code.at, elapsed = ?begun.elapsed(), verified_insns = info.verified_insns, "program loaded");
        }
        let mut attached = Attached {
            program,
            functions,
            loaded: Vec::new(),
            user: Mutex::default(),
            looks: Arc::default(),
            events: Mutex::default(),
            ebpf,
        };
        attached.loaded = user::load(&attached.program, &attached.maps()?)?;
        Ok(attached)
    }
}

fn find<'e>(ebpf: &'e mut Ebpf, code: &Code) -> Result<&'e mut Loaded, LoadError> {
    ebpf.program_mut(&code.name)
        .ok_or_else(|| LoadError::Missing { what: "program", name: code.name.clone() })
}

fn load_program(loaded: &mut Loaded, code: &Code, btf: Option<&Btf>) -> Result<(), LoadError> {
    let (_, name) = code.at.names();
    let result = match (code.mechanism, btf) {
        (Mechanism::TpBtf, Some(btf)) => {
            <&mut BtfTracePoint>::try_from(loaded).and_then(|program| program.load(name, btf))
        }
        (Mechanism::Fentry, Some(btf)) => {
            <&mut FEntry>::try_from(loaded).and_then(|program| program.load(name, btf))
        }
        (Mechanism::Fexit, Some(btf)) => {
            <&mut FExit>::try_from(loaded).and_then(|program| program.load(name, btf))
        }
        (
            Mechanism::Kprobe
            | Mechanism::Kretprobe
            | Mechanism::Uprobe
            | Mechanism::Uretprobe
            | Mechanism::UprobeReturn
            | Mechanism::Usdt,
            _,
        ) => unreachable!("probes of functions are loaded in another way: this is a bug in tapster"),
        (Mechanism::PerfEvent, _) => <&mut PerfEvent>::try_from(loaded).and_then(PerfEvent::load),
        (Mechanism::TpBtf | Mechanism::Fentry | Mechanism::Fexit, None) => {
            let message = "the kernel's BTF is not at hand".into();
            return Err(LoadError::Program { at: code.at.to_string(), action: "loaded", message });
        }
        (Mechanism::RawTp, _) => <&mut RawTracePoint>::try_from(loaded).and_then(RawTracePoint::load),
        (Mechanism::Tracepoint, _) => <&mut TracePoint>::try_from(loaded).and_then(TracePoint::load),
    };
    result.map_err(|error| match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            LoadError::not_loaded(code, io_error, &verifier_log.to_string())
        }
        other => LoadError::Program {
            at: code.at.to_string(),
            action: "loaded",
            message: refused(&other, Asked::Program),
        },
    })
}

/// The end of the verifier's log without its statistics and without addresses.
fn useful_lines(log: &str) -> String {
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| {
            !line.trim().is_empty()
                && !line.starts_with("processed ")
                && !line.starts_with("verification time")
        })
        .collect();
    let from = lines.len().saturating_sub(LOG_LINES);
    // It is shown to everybody who may open the landing page, and has addresses of maps in it.
    lines[from..].iter().map(|line| format!("    {}", address::hidden(line))).collect::<Vec<_>>().join("\n")
}

/// An error with its causes and what it means here.
fn refused(error: &(dyn std::error::Error + 'static), asked: Asked) -> String {
    chain(error) + &because(error, asked)
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

impl Attached {
    /// Attaches all programs: those that end a pair first, so that no start waits for an end that is
    /// not there yet.
    pub fn attach(&mut self, kernel: &Kernel) -> Result<(), LoadError> {
        let mut loaded = std::mem::take(&mut self.loaded);
        // Of a pair with one end in the kernel, the start is the first.
        if !self.program.codes.first().is_some_and(user::is_user) {
            self.user().attach(std::mem::take(&mut loaded), &self.maps()?, kernel)?;
        }
        let Self { program, functions, events, ebpf, .. } = self;
        let others = program.codes.iter().zip(functions).enumerate().rev();
        for (index, (code, functions)) in others.filter(|(_, (code, _))| !user::is_user(code)) {
            if let Some(functions) = functions {
                let maps =
                    program.maps.iter().map(|map| map_fd(ebpf, map.name)).collect::<Result<Vec<_>, _>>()?;
                functions.attach(code, &maps, kernel)?;
                continue;
            }
            if let AttachPoint::Perf(event) = &code.at {
                let program = program_fd(ebpf, code)?;
                let attached =
                    kernel.online_cpus().and_then(|online| Events::attach(program, event, &online));
                let attached = attached.map_err(|error| LoadError::not_attached(code, &error))?;
                lock(events).push((index, attached));
                continue;
            }
            let (category, name) = code.at.names();
            let loaded = find(ebpf, code)?;
            let result = match code.mechanism {
                Mechanism::TpBtf => {
                    <&mut BtfTracePoint>::try_from(loaded).and_then(BtfTracePoint::attach).map(drop)
                }
                Mechanism::Fentry => <&mut FEntry>::try_from(loaded).and_then(FEntry::attach).map(drop),
                Mechanism::Fexit => <&mut FExit>::try_from(loaded).and_then(FExit::attach).map(drop),
                Mechanism::Kprobe
                | Mechanism::Kretprobe
                | Mechanism::Uprobe
                | Mechanism::Uretprobe
                | Mechanism::UprobeReturn
                | Mechanism::Usdt
                | Mechanism::PerfEvent => {
                    unreachable!("`{}` is attached in another way: this is a bug in tapster", code.at)
                }
                Mechanism::RawTp => {
                    <&mut RawTracePoint>::try_from(loaded).and_then(|program| program.attach(name)).map(drop)
                }
                Mechanism::Tracepoint => <&mut TracePoint>::try_from(loaded)
                    .and_then(|program| program.attach(category.unwrap_or_default(), name))
                    .map(drop),
            };
            result.map_err(|error| LoadError::not_attached(code, &error))?;
        }
        self.user().attach(loaded, &self.maps()?, kernel)
    }

    /// Tries what attaching needs, as far as it can be had without attaching: whether the timers and counters are there.
    pub fn attempt(&self, kernel: &Kernel) -> Result<(), LoadError> {
        for code in &self.program.codes {
            if let AttachPoint::Perf(event) = &code.at {
                let tried = kernel.online_cpus().and_then(|online| perf::attempt(event, &online));
                tried.map_err(|error| LoadError::not_attached(code, &error))?;
            }
        }
        Ok(())
    }

    /// Attaches what was compiled anew for files that are others now; maps stay, and all that is counted. `all`: also to
    /// files that are the same.
    pub fn renew(&self, program: &Program, kernel: &Kernel, all: bool) -> Result<(), LoadError> {
        let own = &self.program;
        let same = (&own.maps, &own.layout, &own.labels, &own.metrics, &own.waiting)
            == (&program.maps, &program.layout, &program.labels, &program.metrics, &program.waiting);
        if !same {
            return Err(LoadError::Other(own.name.clone()));
        }
        self.user().renew(program, &self.maps()?, kernel, all)
    }

    /// Whether it is attached to CPUs, which come and go.
    pub fn has_cpu_events(&self) -> bool {
        !lock(&self.events).is_empty()
    }

    /// Attaches timers and counters to CPUs that came online, and again to those that were offline meanwhile: these CPUs, and why
    /// the first was refused of which some were.
    pub fn follow_cpus(&self, online: &[u32]) -> (Vec<u32>, Option<LoadError>) {
        let (mut all, mut refused) = (Vec::new(), None);
        for (index, events) in &mut *lock(&self.events) {
            let Some(code) = self.program.codes.get(*index) else { continue };
            let error = match program_fd(&self.ebpf, code) {
                Ok(program) => {
                    let covered = events.follow(program, online);
                    all.extend(covered.cpus);
                    covered.refused.map(|error| LoadError::not_attached(code, &error))
                }
                Err(error) => Some(error),
            };
            refused = refused.or(error);
        }
        all.sort_unstable();
        all.dedup();
        (all, refused)
    }

    /// Whether it is attached to functions in modules of the kernel, which come and go.
    pub fn is_in_a_module(&self) -> bool {
        self.functions.iter().flatten().any(Functions::are_in_modules)
    }

    /// Functions of modules that were loaded after the probe, which its patterns match and it is not attached to, in sentences.
    /// `kernel` is asked for only if there is a pattern.
    pub fn left_later<'k>(&self, modules: &[String], kernel: impl Fn() -> &'k Kernel) -> Vec<String> {
        let patterns = self.program.codes.iter().filter_map(|code| match &code.at {
            AttachPoint::Function { function, .. } if is_pattern(function) => Some((code, function)),
            _ => None,
        });
        patterns
            .filter_map(|(code, function)| {
                let wanted =
                    Wanted { function, at_return: false, whole: false, most: u32::MAX, stacks: false };
                let kernel = kernel();
                let now = kernel.probed(&wanted).ok()?;
                let before: HashSet<&str> = code.sites.list.iter().map(|site| site.name.as_str()).collect();
                let names = now.list.iter().map(|site| site.name.as_str());
                let is_there = |name: &str| {
                    kernel.module_of(name).is_some_and(|of| modules.iter().any(|module| module == of))
                };
                let later: Vec<&str> =
                    names.filter(|name| !before.contains(name) && is_there(name)).collect();
                let later = left_out("were loaded after the probe was attached", &later)?;
                Some(format!(
                    "`{}`: of what matches, {later} and are not counted until tapster is restarted",
                    code.at
                ))
            })
            .collect()
    }

    /// Whether it is attached to functions in one of these modules of the kernel, or to none of what was in others.
    pub fn is_in_modules(&self, modules: &[String]) -> bool {
        self.functions.iter().flatten().any(|functions| functions.follow(modules))
    }

    /// Attaches anew to functions in modules of the kernel that changed, and to those that could not be attached to before. What
    /// cannot be had keeps nothing else from being attached to; the first of it is the error.
    pub fn follow_modules(&self, changed: &[String], kernel: &Kernel) -> Result<(), LoadError> {
        let maps = self.maps()?;
        let mut result = Ok(());
        for (code, functions) in self.program.codes.iter().zip(&self.functions).rev() {
            if let Some(functions) = functions.as_ref().filter(|functions| functions.follow(changed)) {
                result = result.and(functions.renew(code, &maps, kernel));
            }
        }
        result
    }

    /// Whether it is attached to user programs by perf events, for which kernels ask more rights than for links.
    pub fn has_user_events(&self) -> bool {
        self.user().has_events()
    }

    /// Detaches from files that were replaced and that no process runs any more.
    pub fn release(&self, proc: &Path) {
        let replaced = self.user().replaced();
        if !replaced.is_empty() {
            // Without the lock that scrapes take: a process may not answer.
            let unused = self.looks.unused(proc, replaced);
            self.user().release(&unused);
        }
    }

    fn user(&self) -> MutexGuard<'_, User> {
        self.user.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file descriptors of all maps, in the order that instructions refer to them.
    fn maps(&self) -> Result<Vec<BorrowedFd<'_>>, LoadError> {
        (0..self.program.maps.len()).map(|index| self.map(u32::try_from(index).unwrap_or(u32::MAX))).collect()
    }

    /// The file descriptor of one of the probe's maps, by its index in the program.
    pub fn map(&self, index: u32) -> Result<BorrowedFd<'_>, LoadError> {
        let name = usize::try_from(index)
            .ok()
            .and_then(|index| self.program.maps.get(index))
            .map_or("?", |map| map.name);
        map_fd(&self.ebpf, name)
    }

    /// The file descriptor of one of the programs, in the order of the compiled codes; of many for one, the first. `None`
    /// for those at user programs, of which there may be several.
    pub fn program_fd(&self, index: usize) -> Option<BorrowedFd<'_>> {
        if let Some(functions) = self.functions.get(index)?.as_ref() {
            return functions.programs().next();
        }
        let code = self.program.codes.get(index)?;
        self.ebpf.program(&code.name)?.fd().ok().map(|fd| fd.as_fd())
    }

    /// What each program is and what it costs, as the kernel counts it.
    pub fn programs(&self) -> Vec<ProgramStatus> {
        self.program
            .codes
            .iter()
            .zip(&self.functions)
            .enumerate()
            .filter(|(_, (code, _))| !user::is_user(code))
            .map(|(index, (code, functions))| {
                let (mechanism, info) = match functions {
                    Some(functions) => (functions.mechanism(code), functions.info()),
                    None => {
                        let info = self.program_fd(index).and_then(|fd| crate::sys::prog_info(fd).ok());
                        (code.mechanism.name().into(), info.unwrap_or_default())
                    }
                };
                ProgramStatus {
                    attach_point: code.at.to_string(),
                    mechanism,
                    functions: code.sites.list.len(),
                    instructions: u64::try_from(code.assembled.insns.len()).unwrap_or(0),
                    runs: info.runs,
                    run_ns: info.run_ns,
                    missed: info.missed,
                }
            })
            .chain(self.user().status())
            .collect()
    }

    /// Functions of patterns that have no probe, in sentences.
    pub fn left_out(&self) -> Vec<String> {
        let codes = self.program.codes.iter().zip(&self.functions);
        codes
            .flat_map(|(code, functions)| {
                let refused = functions.as_ref().and_then(|functions| functions.refused(code));
                let left_out = code.sites.left_out.iter().cloned().chain(refused);
                left_out.map(move |what| format!("{}: left out {what}", code.at))
            })
            .chain(self.user().refused())
            .collect()
    }
}

/// The program of a code that aya has loaded.
fn program_fd<'e>(ebpf: &'e Ebpf, code: &Code) -> Result<BorrowedFd<'e>, LoadError> {
    let program = ebpf.program(&code.name).and_then(|program| program.fd().ok());
    program
        .map(|fd| fd.as_fd())
        .ok_or_else(|| LoadError::Missing { what: "program", name: code.name.clone() })
}

/// A map by its name.
fn map_fd<'e>(ebpf: &'e Ebpf, name: &str) -> Result<BorrowedFd<'e>, LoadError> {
    ebpf.map(name)
        .map(|map| data(map).fd().as_fd())
        .ok_or_else(|| LoadError::Missing { what: "map", name: name.into() })
}

fn data(map: &Map) -> &MapData {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::PerCpuArray(data)
        | Map::PerCpuHashMap(data)
        | Map::Unsupported(data) => data,
        // The compiler makes no other kinds.
        other => unreachable!("a probe has no map of the kind {other:?}: this is a bug in tapster"),
    }
}
