//! One declared probe and its state: brought up, read, brought up again when its files change.

mod objects;
mod packets;

use super::{
    alternative::{Candidate, StartStep},
    files::WatchedProbe,
};
use crate::{
    collector::{LabelContext, LabelNeeds, ProbeReader, ProbeReading, View},
    deadline::{HangingThreads, MayHang, Outcome},
    host::Host,
    kernel::Kernel,
    load::Attached,
    lock::lock,
    reason::ReasonTable,
    sandbox::{LackingRights, Needs},
    status::{Cause, Down, Limit, ProbeStatus},
    sys::PossibleCpus,
    topology::Topology,
};
use packets::sees_packets;
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, OnceLock},
    time::SystemTime,
};
use tapster_ebpf::{
    attach::{Missing, Target},
    diagnostic::Diagnostic,
    missing::AbsentEvent,
    probe::{Decoder, Probe, Shown},
    program::{Code, Program},
    typed::Side,
};

/// Why a probe that a reload adds does not come up.
const ALONE: &str = "it needs rights that tapster gave up when it started without such a probe, to see files of other processes or \
                     functions of the kernel: restart it, or start it with `--sandbox=off --capabilities.keep=all`";

/// What bringing up a probe needs besides its declaration.
pub(super) struct StartContext<'m> {
    pub(super) kernel: &'m Kernel,
    pub(super) target: Target<'m>,
    pub(super) host: &'m Host,
    pub(super) shared: &'m LabelContext,
    /// Rights that were given up after the start.
    pub(super) lacking: LackingRights,
}

/// How often a probe was reattached, by what came or was exchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ReattachCounts {
    pub(super) files: u64,
    /// Each CPU counts separately.
    pub(super) cpus: u64,
    pub(super) modules: u64,
    /// Interfaces and cgroups whose packets it sees; `None` for a probe that sees none.
    pub(super) packets: Option<u64>,
}

/// A declared probe of this process.
#[derive(Debug)]
pub struct Running {
    name: String,
    /// The name of its file, if it is a shipped probe.
    group: Mutex<Option<Arc<str>>>,
    help: String,
    meaning: String,
    /// What is shown of its counts.
    shown: Mutex<Shown>,
    /// The table of reasons that its labels use, if any.
    reasons: Option<Arc<ReasonTable>>,
    /// `FILE:LINE`, which changes with the lines above it.
    source: Mutex<String>,
    /// No event was counted before this time.
    began: SystemTime,
    /// Present since the first attachment.
    reader: OnceLock<ProbeReader>,
    /// Why it is down. If it was up before, its counts stay.
    down: Mutex<Option<Down>>,
    /// Alternatives that the kernel refused.
    passed: Mutex<Vec<String>>,
    /// Optional events that it runs without.
    absent: Mutex<Vec<AbsentEvent>>,
    /// What it cannot report although it is up.
    limit: Mutex<Option<Limit>>,
    /// Why the last scrape of it failed.
    failure: Mutex<Option<Down>>,
    /// Its files, which may be replaced or are not there yet.
    watched: Option<Mutex<WatchedProbe>>,
    /// The declaration, for when its object in the kernel comes or is exchanged.
    declared: Probe,
    /// Why it does not count on all CPUs that are online, if it should.
    uncovered: Mutex<Option<Down>>,
    /// Why it does not count in modules of the kernel, after it was up. It ends independently of `uncovered`.
    unloaded: Mutex<Option<Down>>,
    /// Why it does not see the packets of an interface or cgroup, after it was up.
    displaced: Mutex<Option<Down>>,
    /// The switch of the host that stops it.
    stopped: Mutex<Option<Down>>,
    /// How often it was reattached.
    reattached: Mutex<ReattachCounts>,
    /// A read that hangs, if one was left behind.
    left: HangingThreads,
}

impl Running {
    /// The probe as declared.
    pub(super) fn declared(&self) -> &Probe {
        &self.declared
    }
}

impl MayHang for Running {
    fn left(&self) -> &HangingThreads {
        &self.left
    }
}

/// Why a probe is down that does not compile.
pub(super) fn compile_failure(diagnostics: &[Diagnostic], kernel: &Kernel) -> Down {
    let message = kernel
        .typeless(diagnostics)
        .unwrap_or_else(|| diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    Down { cause: Cause::Compile, message }
}

/// Whether a probe with this state may come up later: when a kernel module is loaded, or at another attempt. Probes that wait
/// for a file are watched by that file.
fn may_come(down: &Down) -> bool {
    matches!(down.cause, Cause::Compile | Cause::Load | Cause::Attach | Cause::Verifier)
}

/// Why a probe is down that lacks rights.
fn alone() -> Down {
    Down { cause: Cause::Sandbox, message: ALONE.into() }
}

/// Compiles a probe that comes after rights were given up.
fn compile(
    probe: &Probe,
    target: &Target<'_>,
    kernel: &Kernel,
    lacking: LackingRights,
) -> Result<Program, Down> {
    let program =
        tapster_ebpf::compile(probe, target).map_err(|diagnostics| compile_failure(&diagnostics, kernel))?;
    let needs = LabelNeeds::of(&program.labels);
    let lacks = lacking.processes && needs.processes || lacking.symbols && needs.symbols;
    if lacks { Err(alone()) } else { Ok(program) }
}

/// Why a probe is down whose file is missing: it waits for the file.
fn waiting(watched: &WatchedProbe) -> Option<Down> {
    let missing = watched.missing()?;
    Some(Down {
        cause: Cause::Waiting,
        message: format!("{}; it is attached to when it appears", missing.message),
    })
}

/// `FILE:LINE` of a probe's declaration.
fn place(probe: &Probe) -> String {
    let (line, _) = probe.file.position(probe.name.span.start);
    format!("{}:{line}", probe.file.name)
}

/// Opens the maps of a probe that was attached after `began`.
fn open(
    attached: Attached,
    began: SystemTime,
    host: &Host,
    shared: &LabelContext,
) -> Result<ProbeReader, Down> {
    let refused = |error: &dyn std::error::Error| Down { cause: Cause::Collect, message: error.to_string() };
    let cpus = PossibleCpus::of_host().map_err(|error| refused(&error))?;
    ProbeReader::new(attached, began, host, shared, cpus).map_err(|error| refused(&error))
}

impl Running {
    /// Makes a probe from its state and from the candidate that was brought up. `watched` has its files from before it was
    /// compiled.
    pub(super) fn new(
        probe: &Probe,
        Candidate { probe: brought, passed }: Candidate,
        mut watched: Option<WatchedProbe>,
        attached: Result<Attached, Down>,
        began: SystemTime,
        host: &Host,
        shared: &LabelContext,
    ) -> Self {
        let (reader, down) = match attached.and_then(|attached| open(attached, began, host, shared)) {
            Ok(reader) => {
                reader.show(Arc::new(probe.shown.clone()));
                (OnceLock::from(reader), None)
            }
            Err(down) => {
                let waiting =
                    watched.as_ref().and_then(waiting).or_else(|| packets::waiting(probe, &host.proc));
                (OnceLock::new(), Some(waiting.unwrap_or(down)))
            }
        };
        let absent = reader.get().map(|reader| reader.program().absent.clone()).unwrap_or_default();
        // If it is down, the reason already names the refused alternatives.
        let passed = if down.is_none() { passed } else { Vec::new() };
        if let Some(watched) = &mut watched {
            watched.probe = brought;
        }
        let mut decoders = probe.labels.iter().filter_map(|label| label.decoder.as_ref());
        Self {
            name: probe.name.value.clone(),
            group: Mutex::new(crate::config::group(probe).map(Arc::from)),
            help: probe.help.clone(),
            meaning: probe.meaning.clone(),
            shown: Mutex::new(probe.shown.clone()),
            reasons: decoders.any(|decoder| decoder.value == Decoder::Reason).then(|| shared.reasons.clone()),
            source: Mutex::new(place(probe)),
            began,
            reader,
            down: Mutex::new(down),
            passed: Mutex::new(passed),
            absent: Mutex::new(absent),
            limit: Mutex::default(),
            failure: Mutex::default(),
            watched: watched.map(Mutex::new),
            declared: probe.clone(),
            uncovered: Mutex::default(),
            unloaded: Mutex::default(),
            displaced: Mutex::default(),
            stopped: Mutex::default(),
            reattached: Mutex::new(ReattachCounts {
                packets: sees_packets(probe).then_some(0),
                ..ReattachCounts::default()
            }),
            left: HangingThreads::default(),
        }
    }

    /// Compiles, loads and attaches one probe.
    pub(super) fn bring_up(probe: &Probe, context: &StartContext<'_>) -> Self {
        // The files are read before compiling: later changes are then seen.
        let watched = WatchedProbe::new(probe, &context.host.proc);
        let mut began = SystemTime::now();
        let compile = || {
            // This includes a probe that waits for its file, because it could not be attached when the file comes.
            if context.lacking.processes && watched.is_some() {
                return Err(alone());
            }
            compile(probe, &context.target, context.kernel, context.lacking)
        };
        let mut candidate = Candidate::new(probe);
        let attached = compile().and_then(|program| {
            began = SystemTime::now();
            candidate.bring(program, StartStep::Attached, (&context.target, context.kernel))
        });
        let running = Self::new(probe, candidate, watched, attached, began, context.host, context.shared);
        running.tell_passed();
        running
    }

    /// Logs which alternatives were refused, and which optional events are not there.
    pub(super) fn tell_passed(&self) {
        for what in self.passed() {
            tracing::warn!(probe = self.name, "{what}");
        }
        for event in self.absent() {
            tracing::warn!(probe = self.name, "{event}");
        }
    }

    /// Optional events that it runs without.
    pub fn absent(&self) -> Vec<AbsentEvent> {
        lock(&self.absent).clone()
    }

    /// Alternatives that the kernel refused, in sentences.
    pub fn passed(&self) -> Vec<String> {
        lock(&self.passed).clone()
    }

    /// The probe's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a word is the name of this probe or of its group.
    pub fn is_called(&self, word: &str) -> bool {
        self.name == word || lock(&self.group).as_deref() == Some(word)
    }

    /// Whether it is attached and can be read.
    pub fn is_up(&self) -> bool {
        self.reader.get().is_some() && self.down().is_none()
    }

    /// Whether it is in the kernel, or waits for its object. A CPU on which it does not count, or a switch that is off, is no
    /// reason to bring it up again, which would end its counts.
    pub(super) fn goes_on(&self) -> bool {
        lock(&self.down).as_ref().is_none_or(|down| down.cause == Cause::Waiting)
    }

    /// Whether it waits for a file that does not exist yet.
    pub fn is_waiting(&self) -> bool {
        lock(&self.down).as_ref().is_some_and(|down| down.cause == Cause::Waiting)
    }

    /// The words that name it.
    pub fn words(&self) -> impl Iterator<Item = String> {
        let group = lock(&self.group).as_deref().map(str::to_owned);
        [self.name.clone()].into_iter().chain(group)
    }

    /// Adds what this probe needs.
    pub(super) fn add_needs(&self, needs: &mut Needs) {
        let Some(program) = self.program() else {
            // A probe that waits for a file will need the rights for that file.
            needs.programs |= self.is_watched();
            needs.processes |= self.is_watched();
            needs.network |= sees_packets(&self.declared);
            // So will a probe in a kernel module that may be loaded later.
            needs.events |= lock(&self.down).as_ref().is_some_and(may_come)
                && self.declared.attach_points().any(|at| at.value.kind.may_need_event());
            return;
        };
        needs.programs |= self.reader().is_some_and(|reader| reader.attached().has_user_events());
        // An optional event in a file that comes later.
        needs.programs |= self.is_watched() && !self.absent().is_empty();
        let labels = LabelNeeds::of(&program.labels);
        // Those that execute a program that was replaced.
        needs.processes |= self.is_watched() || labels.processes;
        needs.network |= program.codes.iter().any(|code| code.mechanism.link.packets().is_some());
        let is_perf = |code: &Code| code.mechanism.link.is_event();
        // Functions of programs need an event on each CPU that reports mappings.
        needs.events |= program.codes.iter().any(is_perf)
            || labels.programs
            || self.reader().is_some_and(|reader| reader.attached().is_in_a_module());
        // Compiled again, at a reload or when a module comes, it asks for addresses again.
        needs.symbols |= labels.symbols || program.has_addresses;
        needs.root |= labels.root;
    }

    /// The compiled program; `None` for a probe that was never up.
    pub fn program(&self) -> Option<&Program> {
        self.reader().map(ProbeReader::program)
    }

    /// The probe in the kernel; `None` if it was never attached.
    pub fn reader(&self) -> Option<&ProbeReader> {
        self.reader.get()
    }

    pub(super) fn began(&self) -> SystemTime {
        self.began
    }

    /// Whether its labels use no table of reasons, or one that equals this one.
    pub(super) fn is_told_by(&self, reasons: &ReasonTable) -> bool {
        self.reasons.as_ref().is_none_or(|own| own.is_same(reasons))
    }

    /// Names of its families, and of their series.
    pub(super) fn families(&self) -> HashSet<String> {
        let families = self.program().into_iter().flat_map(Program::families);
        families.flat_map(|(name, kind)| kind.taken(name)).collect()
    }

    /// Whether a declaration equals that of this probe.
    pub(super) fn is_declared_as(&self, probe: &Probe) -> bool {
        self.meaning == probe.meaning
    }

    /// Updates what may change of its declaration while it runs: its place, and what is shown of its counts.
    pub(super) fn stands_at(&self, probe: &Probe) {
        *lock(&self.source) = place(probe);
        *lock(&self.group) = crate::config::group(probe).map(Arc::from);
        *lock(&self.shown) = probe.shown.clone();
        if let Some(reader) = self.reader() {
            reader.show(Arc::new(probe.shown.clone()));
        }
    }

    /// What is shown of its counts.
    pub(super) fn shown(&self) -> Shown {
        lock(&self.shown).clone()
    }

    pub(super) fn down(&self) -> Option<Down> {
        [&self.down, &self.unloaded, &self.displaced, &self.stopped, &self.uncovered]
            .into_iter()
            .find_map(|down| lock(down).clone())
    }

    /// How often it was reattached.
    pub(super) fn reattached(&self) -> ReattachCounts {
        *lock(&self.reattached)
    }

    pub(super) fn set_down(&self, down: Option<Down>) {
        *lock(&self.down) = down;
    }

    /// What it cannot report although it is up.
    pub(super) fn limit(&self) -> Option<Limit> {
        lock(&self.limit).clone()
    }

    /// Stores what the probe cannot report, and logs it if that is new. `nameless` is why functions of the kernel have no
    /// names, if they have none.
    pub(super) fn judge(&self, nameless: impl FnOnce() -> Option<Missing>) {
        let program = self.program().filter(|program| LabelNeeds::of(&program.labels).symbols);
        let limit = program.and_then(|program| {
            let Missing { message, hint } = nameless()?;
            let has = |wanted: &Decoder| program.labels.iter().any(|label| label.decoder == *wanted);
            let what = [
                (has(&Decoder::Reason), "every reason but `short` is `unknown`"),
                (has(&Decoder::Ksym), "labels by `ksym` are `[unknown]`"),
                (has(&Decoder::Stack(Side::Kernel)), "frames of the kernel are `[unknown]`"),
            ];
            let what: Vec<&str> = what.into_iter().filter_map(|(is, what)| is.then_some(what)).collect();
            let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            Some(Limit { reason: "symbols", message: format!("{}: {message}{hint}", what.join(", ")) })
        });
        let mut known = lock(&self.limit);
        if let Some(limit) = limit.as_ref().filter(|limit| known.as_ref() != Some(limit)) {
            tracing::warn!(probe = self.name, reason = limit.reason, "the probe runs, but {}", limit.message);
        }
        *known = limit;
    }

    pub(super) fn is_watched(&self) -> bool {
        self.watched.is_some()
    }

    /// Reads the probe's maps, which may take long.
    pub(super) fn collect(&self, topology: &Arc<Topology>, view: View) -> Result<ProbeReading, Down> {
        let Some(reader) = self.reader() else {
            return Err(self
                .down()
                .unwrap_or(Down { cause: Cause::Internal, message: "it is not there".into() }));
        };
        reader
            .collect(topology, view)
            .map_err(|error| Down { cause: Cause::Collect, message: error.to_string() })
    }

    /// The probe's result for this scrape; a failure is kept for the landing page and logged once.
    pub(super) fn settle(&self, outcome: Outcome<Result<ProbeReading, Down>>) -> Result<ProbeReading, Down> {
        let result = match outcome {
            Outcome::Read(result) => result,
            Outcome::Slow => Err(Down {
                cause: Cause::Slow,
                message: "what it is read from does not answer in time, so scrapes go on without it".into(),
            }),
            Outcome::Panicked => Err(Down {
                cause: Cause::Internal,
                message: "reading it panicked, which is a bug in tapster; the log says where".into(),
            }),
        };
        // Why a probe was never read is logged already.
        if self.reader().is_none() {
            return result;
        }
        let now = result.as_ref().err().cloned();
        let mut failure = lock(&self.failure);
        if *failure != now {
            match &now {
                Some(Down { cause, message }) => {
                    tracing::error!(
                        probe = self.name,
                        reason = cause.word(),
                        message,
                        "the probe cannot be read"
                    );
                }
                None => tracing::info!(probe = self.name, "the probe can be read again"),
            }
            *failure = now;
        }
        result
    }

    /// The probe's state for the landing page, with the result of the last read.
    pub(super) fn status(&self, collected: Result<ProbeReading, Down>) -> ProbeStatus {
        let mut status = ProbeStatus {
            name: self.name.clone(),
            help: self.help.clone(),
            source: lock(&self.source).clone(),
            down: self.down().or_else(|| collected.as_ref().err().cloned()),
            limit: self.limit(),
            passed: self.passed(),
            absent: self.absent().iter().map(ToString::to_string).collect(),
            ..ProbeStatus::default()
        };
        let Some(reader) = self.reader() else { return status };
        let program = reader.program();
        status.programs = reader.programs();
        status.families = program.families().map(|(name, _)| name.to_owned()).collect();
        status.max_series = program.layout.max_rows.into();
        status.memory_bytes = reader.memory_bytes();
        if let Ok(collected) = collected {
            status.series = collected.series;
            let losses = collected.dropped.losses.iter();
            status.dropped = losses.map(|(reason, count)| ((*reason).to_owned(), *count)).collect();
        }
        status
    }
}
