//! Collects: maps → metric families.
//!
//! A scrape reads all rows of a probe in one pass, adds the copies of the CPUs, decodes labels into text and joins rows with
//! the same texts (for example, of a cgroup that was created again). A probe that cannot be read is left out of the scrape and
//! reported as down; the others go on.

mod cgroup;
mod estimate;
mod histogram;
mod ledger;
mod retire;
mod retired;
mod row;
mod starts;
mod state;
mod unwanted;
mod waiting;

pub(crate) use crate::label::LabelNeeds;
use crate::{
    cgroup::{Cgroups, GONE, Part},
    family::{MetricFamily, Origin, Sample, SampleValue},
    host::Host,
    label::{self, Decode, DecoderSources, LabelError, StackLookup},
    load::{Attached, LoadError},
    lock::lock,
    reason,
    status::ProgramStatus,
    symbol::Symbols,
    sys::{self, KernelClock, PossibleCpus},
    topology::Topology,
};
use cgroup::CgroupAnswers;
pub use estimate::estimate;
use ledger::Ledger;
use retired::Retired;
use row::RowWords;
use starts::{Start, Starts};
use state::TimedStates;
use std::{
    collections::{HashMap, HashSet},
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};
use tapster_ebpf::{
    layout::{DropReason, Layout, Slot, StartLayout},
    probe::{Classic, Decoder, Reason, Shown},
    program::{DROPS, Program, ROWS},
    typed::{Side, TypedLabel, TypedMetric},
    waiting::Waiting,
};
use unwanted::Unwanted;
use waiting::{DoubtPeriod, Tasks};

/// Why a probe's maps cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// A label's decoder lacks what it needs on this host.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// An inconsistency that is a bug of tapster.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The kernel refused to read a map.
    #[error("a map of the probe cannot be opened: {0}")]
    Map(#[from] io::Error),
}

/// Turns rows into series. Locked while labels are decoded, not while the answer is written; also while maps are read, but only
/// if rows may be removed from them.
struct RowDecoder {
    decoders: Vec<Box<dyn Decode>>,
    /// Rows that were removed from the map.
    retired: Retired,
    /// Counts that moved to another series.
    ledger: Ledger,
}

/// The labels under which counts are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The labels that they have now: counts of what is gone are in `~gone`.
    Now,
    /// The labels that they were counted with, even if what they name is gone. No series decreases, and no count is in two
    /// series.
    Counted,
}

/// How a probe reports its waiting starts, and the layout of starts.
type WaitingReport<'a> = (&'a Waiting, &'a StartLayout);

/// One attached probe, as scrapes read it.
pub struct ProbeReader {
    attached: Attached,
    rows: sys::Map,
    drops: sys::Map,
    starts: Option<Starts>,
    states: TimedStates,
    /// What its programs remember about cgroups.
    answers: Option<CgroupAnswers>,
    /// Where procfs is mounted.
    proc: PathBuf,
    clock: KernelClock,
    cpus: PossibleCpus,
    labels: Mutex<RowDecoder>,
    /// Labels of cgroups: the index of each, and the part of the cgroup that it shows.
    cgroup_labels: Vec<(usize, Part)>,
    cgroups: Arc<Cgroups>,
    /// Indexes of the labels of block devices.
    disk_labels: Vec<usize>,
    /// Indexes of the labels of functions of processes.
    process_labels: Vec<usize>,
    /// Whether a row's texts may change while it is in the map.
    renames: bool,
    label_names: Arc<[String]>,
    /// What is shown of the counts.
    shown: Mutex<Arc<Shown>>,
    /// Devices that are not wanted, for the programs; only if devices were chosen when the probe was compiled.
    unwanted: Option<Unwanted>,
    /// A time before the first event could be counted.
    began: SystemTime,
    expired: AtomicU64,
    doubt: Mutex<DoubtPeriod>,
}

impl std::fmt::Debug for ProbeReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProbeReader").field("probe", &self.attached.program.name).finish_non_exhaustive()
    }
}

/// The result of one probe for a scrape.
#[derive(Debug, Default)]
pub struct ProbeReading {
    /// Its families.
    pub families: Vec<MetricFamily>,
    /// Label sets in the map, including those left out of the families.
    pub series: u64,
    /// Events that were not counted.
    pub dropped: Dropped,
}

/// Events of a probe that were not counted.
#[derive(Debug, Default)]
pub struct Dropped {
    /// Losses by reason.
    pub losses: Vec<(&'static str, u64)>,
    /// Ends without a start, which need not be losses; `None` for a probe of single events.
    pub unmatched: Option<u64>,
}

/// What the decoders of all probes share.
#[derive(Debug)]
pub struct LabelContext {
    /// Functions of stacks.
    pub symbols: Arc<Symbols>,
    /// Names of cgroups.
    pub cgroups: Arc<Cgroups>,
    /// Reasons of sleeps.
    pub reasons: Arc<reason::ReasonTable>,
}

impl LabelContext {
    /// Makes it for a host whose configuration has these reasons.
    pub fn new(host: &Host, reasons: Vec<Reason>) -> Self {
        Self {
            symbols: Arc::new(Symbols::new(host)),
            cgroups: Arc::new(Cgroups::new(host)),
            reasons: Arc::new(reason::ReasonTable::new(reasons)),
        }
    }

    /// The same symbols and cgroups with other reasons, as after a reload.
    #[must_use]
    pub fn with_reasons(&self, reasons: Vec<Reason>) -> Self {
        Self {
            symbols: self.symbols.clone(),
            cgroups: self.cgroups.clone(),
            reasons: Arc::new(reason::ReasonTable::new(reasons)),
        }
    }
}

/// The indexes of labels with a decoder.
fn labels_by(labels: &[TypedLabel], decoder: &Decoder) -> Vec<usize> {
    (0..).zip(labels).filter_map(|(index, label)| (label.decoder == *decoder).then_some(index)).collect()
}

/// Opens the map of stacks of a probe for one side.
fn stacks(attached: &Attached, side: Side, cpus: PossibleCpus) -> Result<StackLookup, CollectError> {
    let stacks = attached.program.layout.stacks.iter().find(|stack| stack.side == side);
    let index = stacks.and_then(|stacks| attached.program.map_named(stacks.map()));
    let missing = || LoadError::NoMap { probe: attached.program.name.clone(), map: side.name().into() };
    let map = sys::Map::open(attached.map(index.ok_or_else(missing)?)?, cpus)?;
    Ok(Box::new(move |number: u64| map.lookup(&number.to_le_bytes())))
}

impl ProbeReader {
    /// Opens the maps of a probe that was attached after `began`. Fails if a map cannot be opened or a decoder lacks what it
    /// needs.
    pub fn new(
        attached: Attached,
        began: SystemTime,
        host: &Host,
        shared: &LabelContext,
        cpus: PossibleCpus,
    ) -> Result<Self, CollectError> {
        let program = &attached.program;
        let sources = DecoderSources {
            host,
            symbols: &shared.symbols,
            cgroups: &shared.cgroups,
            reasons: &shared.reasons,
            stacks: &|side| Ok(stacks(&attached, side, cpus)?),
        };
        let decoders =
            program.labels.iter().map(|label| label::decoder(label, &sources)).collect::<Result<_, _>>()?;
        let open =
            |index| -> Result<sys::Map, CollectError> { Ok(sys::Map::open(attached.map(index)?, cpus)?) };
        let starts =
            program.layout.start.as_ref().map(|start| Starts::open(&attached, start, cpus)).transpose()?;
        Ok(Self {
            rows: open(ROWS)?,
            drops: open(DROPS)?,
            starts,
            states: TimedStates::open(&attached, cpus)?,
            answers: CgroupAnswers::open(&attached, cpus)?,
            proc: host.proc.clone(),
            clock: KernelClock::of_process(&host.proc),
            cpus,
            labels: Mutex::new(RowDecoder {
                decoders,
                retired: Retired::new(program.layout.max_rows),
                ledger: Ledger::new(program.layout.max_rows),
            }),
            cgroup_labels: (0..)
                .zip(&program.labels)
                .filter_map(|(index, label)| match label.decoder {
                    Decoder::Cgroup(part) => Some((index, part)),
                    _ => None,
                })
                .collect(),
            cgroups: shared.cgroups.clone(),
            disk_labels: labels_by(&program.labels, &Decoder::BlockDevice),
            process_labels: labels_by(&program.labels, &Decoder::Usym),
            renames: program.labels.iter().any(|label| label::may_change(&label.decoder)),
            label_names: program.labels.iter().map(|label| label.name.clone()).collect(),
            shown: Mutex::default(),
            unwanted: Unwanted::open(&attached, cpus)?,
            began,
            expired: AtomicU64::new(0),
            doubt: Mutex::default(),
            attached,
        })
    }

    /// Changes what is shown of the counts.
    pub fn show(&self, shown: Arc<Shown>) {
        *lock(&self.shown) = shown;
    }

    /// What is shown of the counts.
    pub(super) fn shown(&self) -> Arc<Shown> {
        lock(&self.shown).clone()
    }

    /// Whether a row with these texts is one of devices that are shown.
    fn is_wanted(&self, shown: &Shown, texts: &[String]) -> bool {
        let mut devices = self.disk_labels.iter().filter_map(|index| texts.get(*index));
        devices.all(|device| device == GONE || shown.takes(device))
    }

    /// The compiled program.
    pub fn program(&self) -> &Program {
        &self.attached.program
    }

    /// The probe in the kernel.
    pub fn attached(&self) -> &Attached {
        &self.attached
    }

    /// The probe's programs in the kernel, and their run time.
    pub fn programs(&self) -> Vec<ProgramStatus> {
        self.attached.programs()
    }

    /// Kernel memory of its maps, in bytes: as the kernel reports it, else as computed.
    pub fn memory_bytes(&self) -> u64 {
        let maps = (0..).zip(&self.program().maps).map(|(index, _)| self.attached.map(index));
        let told: Option<u64> = maps.map(|map| sys::map_memory(map.ok()?)).sum();
        told.filter(|bytes| *bytes > 0).unwrap_or_else(|| self.program().memory_bytes(self.cpus.get()))
    }

    /// Number of copies of a row if each CPU has its own.
    fn copies(&self) -> usize {
        usize::try_from(self.cpus.get()).expect("a number of CPUs")
    }

    /// The present time of the kernel's clock, in which starts and maxima have their times, ns.
    pub fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    /// Reads the probe's maps; labels of arrays and their members are decoded by `topology`.
    pub fn collect(&self, topology: &Arc<Topology>, view: View) -> io::Result<ProbeReading> {
        let Program { layout, metrics, .. } = self.program();
        let now_ns = self.now_ns();
        let shown = self.shown();
        // The lock is taken before the map is read: a row must not be seen both in the map and among those removed from it, nor
        // in neither.
        let is_walk = self.program().is_walk();
        let held = (self.takes_out() || is_walk).then(|| self.lock_labels());
        if is_walk {
            // What there is now, and nothing of what there was.
            self.rows.clear()?;
            self.attached.walk()?;
        }
        let dump = self.rows.dump()?;
        let mut series = count(dump.len());
        let waits = self.waits()?;
        let waits_until_ns = self.now_ns();
        let mut rows: Vec<(Arc<[String]>, RowWords)> = Vec::with_capacity(dump.len());
        let mut waiting = Vec::new();
        let origin = {
            let mut labels = held.unwrap_or_else(|| self.lock_labels());
            for decoder in &mut labels.decoders {
                decoder.refresh(topology);
            }
            let gone = self.gone_objects(&mut labels.decoders, dump.iter().map(|(key, _)| key));
            let RowDecoder { decoders, retired, ledger } = &mut *labels;
            let moves = self.takes_out() || self.renames;
            let at = SystemTime::now();
            let mut places: HashMap<Arc<[String]>, usize> = HashMap::with_capacity(dump.len());
            for (key, value) in dump.iter().filter(|(key, _)| !gone.contains_key(*key)) {
                if let Some(labels) = texts(key, layout, decoders) {
                    if !self.is_wanted(&shown, &labels) {
                        series -= 1;
                        continue;
                    }
                    let row = RowWords::read(value, layout, metrics, self.copies(), now_ns);
                    if moves {
                        ledger.show(key, &labels, &row, at, metrics, layout);
                    }
                    place(&mut rows, &mut places, labels, row, metrics, layout);
                }
            }
            self.take_out((decoders, retired, ledger), gone, at)?;
            self.settle_disks((decoders, retired, ledger), &places, at);
            let in_map = rows.len();
            for (labels, row) in retired.rows() {
                place(&mut rows, &mut places, labels.clone(), row.clone(), metrics, layout);
            }
            if moves && ledger.has_too_much(dump.len()) {
                let keys: HashSet<&[u8]> = dump.iter().map(|(key, _)| key).collect();
                ledger.forget(&keys, &places);
            }
            if let Some((told, starts)) = &waits {
                // Starts wait only under labels in the map, not under those of removed rows.
                let present: Vec<Arc<[String]>> =
                    rows[..in_map].iter().map(|(labels, _)| labels.clone()).collect();
                let origin = Origin::at(self.began);
                let named = (&*self.label_names, &origin);
                let takes =
                    |place: usize, text: &str| !self.disk_labels.contains(&place) || shown.takes(text);
                waiting =
                    waiting::families(*told, starts, waits_until_ns, (decoders, &takes), &present, named);
            }
            match view {
                View::Now => Origin { began: Some(self.began), restarted: ledger.restarted() },
                View::Counted => {
                    rows = ledger.own(rows, &places, metrics, layout);
                    Origin::at(self.began)
                }
            }
        };
        // Rows of disks that are gone, from before other devices were chosen.
        rows.retain(|(texts, _)| self.is_wanted(&shown, texts));
        rows.sort_by(|(a, _), (b, _)| a.cmp(b));
        let families = metrics
            .iter()
            .enumerate()
            .map(|(index, metric)| self.family(index, metric, &origin, &rows, &shown.classic))
            .chain(waiting)
            .collect();
        Ok(ProbeReading { families, series, dropped: self.dropped()? })
    }

    /// The waiting starts, and how the probe reports them; `None` if it does not.
    fn waits(&self) -> io::Result<Option<(WaitingReport<'_>, Vec<Start>)>> {
        let Program { layout, waiting, .. } = self.program();
        let (Some(starts), Some(layout), Some(waiting)) = (&self.starts, &layout.start, waiting) else {
            return Ok(None);
        };
        let mut found = starts.waiting()?;
        let mut tasks = Tasks::new(&self.proc);
        found.retain(|start| !tasks.are_without(start, waiting, layout));
        Ok(Some(((waiting, layout), found)))
    }

    fn lock_labels(&self) -> MutexGuard<'_, RowDecoder> {
        self.labels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn family(
        &self,
        index: usize,
        metric: &TypedMetric,
        origin: &Origin,
        rows: &[(Arc<[String]>, RowWords)],
        classic: &Classic,
    ) -> MetricFamily {
        let kind = metric.kind.family();
        let slot = self.program().layout.metrics[index];
        let mut samples = Vec::with_capacity(rows.len());
        if let Some(buckets) = metric.kind.buckets() {
            let shape = histogram::FamilyBounds::new(buckets, metric.unit, classic);
            samples.extend(rows.iter().map(|(labels, row)| Sample {
                labels: labels.clone(),
                value: SampleValue::Histogram(shape.histogram(row.words(slot), metric)),
            }));
        } else {
            samples.extend(rows.iter().filter_map(|(labels, row)| {
                let raw = row.number(slot, metric)?;
                Some(Sample { labels: labels.clone(), value: SampleValue::Number(metric.unit.to_base(raw)) })
            }));
        }
        MetricFamily {
            name: metric.name.as_str().into(),
            help: help(metric, self.program()).into(),
            kind,
            label_names: self.label_names.clone(),
            origin: origin.clone(),
            samples,
        }
    }

    /// Drops for one reason since the probe was attached.
    fn drops_of(&self, reason: DropReason) -> io::Result<u64> {
        let value = self.drops.lookup(&reason.index().to_le_bytes())?.unwrap_or_default();
        Ok(value.chunks_exact(8).filter_map(|chunk| chunk.try_into().ok()).map(u64::from_le_bytes).sum())
    }

    /// Drops since the probe was attached.
    fn dropped(&self) -> io::Result<Dropped> {
        let mut dropped = Dropped::default();
        let is_paired = self.program().layout.start.as_ref().is_some_and(|start| start.is_paired);
        for reason in DropReason::ALL {
            let count = self.drops_of(reason)?;
            match reason {
                DropReason::Unmatched => dropped.unmatched = is_paired.then_some(count),
                DropReason::Inflight if self.starts.is_none() => {}
                DropReason::Stack if self.program().layout.stacks.is_empty() => {}
                DropReason::State if !self.program().layout.state.may_be_full() => {}
                _ => dropped.losses.push((reason.name(), count)),
            }
        }
        if is_paired || self.program().layout.state.may_expire() {
            dropped.losses.push(("expired", self.expired.load(Ordering::Relaxed)));
        }
        Ok(dropped)
    }

    /// Gives up starts whose end will not come, so that lost ends do not fill the map.
    ///
    /// These are starts that have waited for the probe's `inflight_timeout`. A probe that reports their age and declares no
    /// such timeout keeps them longer, unless an end may have been missed since they began, or little room is left. Calls of
    /// processes that are gone are given up too, and so are keys of the state that were not set for long. `now_ns` is by the
    /// clock of [`ProbeReader::now_ns`].
    pub fn sweep(&self, now_ns: u64) -> io::Result<()> {
        self.expired.fetch_add(self.states.expire(now_ns)?, Ordering::Relaxed);
        if let Some(answers) = &self.answers {
            answers.renew()?;
        }
        let Some(starts) = &self.starts else { return Ok(()) };
        let Program { layout, waiting, inflight_timeout_ns, .. } = self.program();
        let mut before_ns = now_ns.saturating_sub(*inflight_timeout_ns);
        let mut given_up = 0;
        if let (Some(layout), Some(waiting)) = (&layout.start, waiting) {
            let found = starts.waiting()?;
            let mut tasks = Tasks::new(&self.proc);
            for start in found.iter().filter(|start| tasks.are_without(start, waiting, layout)) {
                given_up += u64::from(starts.give_up(start)?);
            }
            if waiting.keeps {
                given_up += starts.make_room(&found, before_ns)?;
                let mut doubt = self.doubt.lock().unwrap_or_else(PoisonError::into_inner);
                before_ns = before_ns.min(doubt.until_ns(self.missed()?, now_ns));
            }
        }
        given_up += starts.expire(before_ns)?;
        self.expired.fetch_add(given_up, Ordering::Relaxed);
        Ok(())
    }

    /// Number of missed events, each of which may have been the end of a start: runs that the kernel left out, and events that
    /// programs saw but could not count.
    fn missed(&self) -> io::Result<u64> {
        let missed: u64 = self.programs().iter().map(|program| program.missed).sum();
        Ok(missed + self.drops_of(DropReason::EachLimit)? + self.drops_of(DropReason::Busy)?)
    }
}

/// Adds a row to the rows with the same texts.
fn place(
    rows: &mut Vec<(Arc<[String]>, RowWords)>,
    places: &mut HashMap<Arc<[String]>, usize>,
    texts: Arc<[String]>,
    row: RowWords,
    metrics: &[TypedMetric],
    layout: &Layout,
) {
    match places.get(&texts) {
        Some(place) => rows[*place].1.join(&row, metrics, layout),
        None => {
            places.insert(texts.clone(), rows.len());
            rows.push((texts, row));
        }
    }
}

fn count(rows: usize) -> u64 {
    u64::try_from(rows).expect("rows that are in memory")
}

/// The bytes of a label in a key.
fn part(key: &[u8], slot: Slot) -> &[u8] {
    let [start, size] = [slot.offset, slot.size].map(|bytes| usize::try_from(bytes).expect("32 bits"));
    key.get(start..start + size).expect("keys of the map have the size that the layout says")
}

/// The label texts of a row; `None` if a decoder leaves the row out.
fn texts(key: &[u8], layout: &Layout, decoders: &mut [Box<dyn Decode>]) -> Option<Arc<[String]>> {
    let slots = layout.labels.iter();
    slots.zip(decoders).map(|(slot, decoder)| decoder.decode(part(key, *slot))).collect()
}

/// The help text of a metric: its own, else a text about what its probe measures.
fn help(metric: &TypedMetric, program: &Program) -> String {
    if !metric.help.is_empty() {
        metric.help.clone()
    } else if !program.help.is_empty() {
        program.help.clone()
    } else {
        format!("From the probe {}.", program.name)
    }
}
