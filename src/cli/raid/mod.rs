//! `tapster raid`: the arrays, and which member is slow.

mod check;
mod listing;
mod mdstat;
mod report;
#[cfg(test)]
mod tests;
mod verdict;
mod waits;

pub(super) use verdict::Rule;

use check::{Check, State};

use super::{
    FAILURE, HostArgs, RaidArgs, USAGE, lacks, print, report as report_diagnostics,
    watch::{Loss, Until, losses, seconds, watch},
};
use crate::{
    config::{self, Request},
    exporter::{Exporter, Options},
    family::MetricFamily,
    kernel::Kernel,
    source::Source,
    telemetry::{self, LogFormat},
    topology::{Array, Topology, Watch},
};
use report::{Measurement, Seen};
use std::{
    collections::{BTreeSet, HashMap},
    ffi::OsString,
    fs,
    path::Path,
    sync::Arc,
    time::Duration,
};
use tapster_ebpf::diagnostic::nearest;

/// The probe that times members, and the one that times those of arrays that do not announce their I/O.
const PROBES: [&str; 2] = ["raid_member", "block_io"];

/// What follows the flags in `--help`.
pub(super) const AFTER_HELP: &str = "\
Exit status: 0 if the arrays were watched, however they are; 1 if that cannot be; 2 for wrong usage. With `--check` it is \
that of a plugin for Nagios: 0 ok, 1 warning, 2 critical, 3 unknown, which includes wrong usage and a host without arrays.";

/// Arrays that were asked for.
struct Asked {
    topology: Arc<Topology>,
    /// The kernel's names; all arrays are meant where none was given.
    names: BTreeSet<String>,
    /// Those that do not say what they are.
    unanswered: Vec<String>,
}

impl Asked {
    /// Reads the arrays of the host; the error is for who asked.
    fn read(args: &RaidArgs) -> Result<Self, String> {
        let host = args.host.host();
        let watch = Watch::new(&host);
        let topology = watch.refresh();
        let mut unanswered = watch.silent();
        // Of other devices nobody wants to know here.
        unanswered.retain(|device| is_array(&args.host.sysfs, device) && !is_there(&topology, device));
        let mut names = BTreeSet::new();
        let mut asked = Vec::new();
        for wanted in &args.arrays {
            match unanswered.iter().find(|device| is_name(wanted, device, &host.dev)) {
                Some(device) => asked.push(device.clone()),
                None => {
                    names.insert(select(&topology, wanted, &host.dev)?);
                }
            }
        }
        if !args.arrays.is_empty() {
            unanswered = asked;
        }
        Ok(Self { topology, names, unanswered })
    }

    /// Those of a topology.
    fn of<'a>(&self, topology: &'a Topology, args: &RaidArgs) -> Vec<&'a Array> {
        let arrays = topology.arrays().iter();
        arrays.filter(|array| args.arrays.is_empty() || self.names.contains(&array.name)).collect()
    }

    /// A sentence for each that does not answer.
    fn silence(&self) -> impl Iterator<Item = String> {
        self.unanswered.iter().map(|device| {
            // Of the device mapper's it is not known what they are.
            let what = if device.starts_with("dm-") { "what may be an array" } else { "the array" };
            format!("{device}: {what} does not answer: it could not be read within a second, so a disk of it may hang")
        })
    }
}

/// Whether a device has what only arrays and volumes have. Looking that up asks no driver.
fn is_array(sysfs: &Path, device: &str) -> bool {
    let directory = sysfs.join("block").join(device.replace('/', "!"));
    directory.join("md").is_dir() || directory.join("dm").is_dir()
}

fn is_there(topology: &Topology, device: &str) -> bool {
    topology.arrays().iter().any(|array| array.name == device)
}

/// Whether a word means a device of which only the kernel's name is known.
fn is_name(wanted: &str, device: &str, dev: &Path) -> bool {
    let path = Path::new(wanted);
    let means = |path: &Path| path.strip_prefix(dev).is_ok_and(|name| name == Path::new(device));
    wanted == device || means(path) || fs::canonicalize(path).is_ok_and(|path| means(&path))
}

/// What was seen while arrays were watched.
struct Watched {
    topology: Arc<Topology>,
    families: Vec<MetricFamily>,
    spans: HashMap<String, waits::Span>,
    time: Duration,
}

impl Watched {
    fn watch(exporter: &Exporter, asked: &Asked, args: &RaidArgs) -> anyhow::Result<Self> {
        let arrays = asked.of(&asked.topology, args);
        let stats = waits::stats(&args.host.sysfs, &arrays);
        let time = watch(exporter, &Until::Time(args.interval), None)?.time;
        let families = exporter.collect();
        let topology = exporter.arrays();
        let spans = waits::spans(&stats, &waits::stats(&args.host.sysfs, &asked.of(&topology, args)));
        Ok(Self { topology, families, spans, time })
    }

    fn measurements(&self, asked: &Asked, args: &RaidArgs, rule: &Rule) -> Vec<Measurement<'_>> {
        let seen = Seen { families: &self.families, spans: &self.spans, seconds: self.time.as_secs_f64() };
        let before = asked.of(&asked.topology, args);
        let now = asked.of(&self.topology, args).into_iter();
        now.map(|array| {
            let earlier = before.iter().find(|earlier| earlier.name == array.name).copied();
            Measurement::new(array, earlier, &seen, rule)
        })
        .collect()
    }

    /// Arrays that are no more.
    fn gone(&self, asked: &Asked, args: &RaidArgs) -> Vec<String> {
        let before = asked.of(&asked.topology, args).into_iter();
        let gone = before.filter(|array| !is_there(&self.topology, &array.name));
        gone.map(|array| format!("{}: went away while it was watched", array.name)).collect()
    }
}

fn rule(args: &RaidArgs) -> Rule {
    Rule {
        ratio: args.ratio,
        floor_seconds: args.floor.as_secs_f64(),
        critical_ratio: args.critical_ratio,
        min_count: args.min_count,
        stuck_seconds: args.stuck.as_secs_f64(),
    }
}

pub(super) fn raid(args: &RaidArgs) -> anyhow::Result<u8> {
    telemetry::init("warn", LogFormat::Text)?;
    if args.check {
        let check = check(args).unwrap_or_else(|error| Check::unknown(&format!("{error:#}")));
        let printed = print(&check.line());
        // The line is the answer: without it nobody knows.
        return Ok(printed.map_or_else(
            |error| {
                tell!("error: {error:#}");
                State::Unknown.status()
            },
            |()| check.worst().status(),
        ));
    }
    let asked = match Asked::read(args) {
        Ok(asked) => asked,
        Err(message) => {
            tell!("error: {message}");
            return Ok(USAGE);
        }
    };
    let arrays = asked.of(&asked.topology, args);
    let silence: Vec<String> = asked.silence().collect();
    if arrays.is_empty() && silence.is_empty() {
        print(if args.json { "{\"arrays\":[]}\n" } else { "this host has no arrays\n" })?;
        return Ok(0);
    }
    if arrays.is_empty() {
        if args.json {
            let all = serde_json::json!({ "arrays": [], "unanswered": asked.unanswered });
            print(&format!("{all:#}\n"))?;
        } else {
            print(&(silence.join("\n") + "\n"))?;
        }
        return Ok(FAILURE);
    }
    if !args.json {
        print(&listing::listing(&arrays, &mdstat(&args.host)))?;
    }
    let Ok(exporter) = attach(&arrays, args)? else { return Ok(FAILURE) };
    tell!("watching for {}; Ctrl-C ends it early", seconds(args.interval));
    let watched = Watched::watch(&exporter, &asked, args)?;
    let rule = rule(args);
    let measurements = watched.measurements(&asked, args, &rule);
    let mut notes = watched.gone(&asked, args);
    notes.extend(silence);
    notes.extend(said(&watched.families));
    if args.json {
        let mdstat = mdstat(&args.host);
        let arrays: Vec<_> =
            measurements.iter().map(|measurement| measurement.json(&rule, &mdstat)).collect();
        let all = serde_json::json!({
            "seconds": watched.time.as_secs_f64(),
            "arrays": arrays,
            "unanswered": asked.unanswered,
            "notes": notes,
        });
        print(&format!("{all:#}\n"))?;
    } else {
        print(&text(&measurements, &rule, watched.time, &notes))?;
    }
    Ok(0)
}

/// The exit status for wrong flags of a check, to whose caller 2 is critical, and says there what is wrong; `None` for another
/// command line.
pub(super) fn usage(mut words: impl Iterator<Item = OsString>, error: &clap::Error) -> Option<u8> {
    let is_check = words.any(|word| word == "raid") && words.any(|word| word == "--check");
    is_check.then(|| {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        // Whoever cannot hear it has the exit status.
        let _ = print(&Check::unknown(first.strip_prefix("error: ").unwrap_or(first)).line());
        State::Unknown.status()
    })
}

/// Watches, and judges.
fn check(args: &RaidArgs) -> anyhow::Result<Check> {
    let asked = match Asked::read(args) {
        Ok(asked) => asked,
        Err(message) => return Ok(Check::unknown(&message)),
    };
    let mut check = Check::default();
    for text in asked.silence() {
        check.add(State::Critical, text);
    }
    let arrays = asked.of(&asked.topology, args);
    if arrays.is_empty() {
        return Ok(if asked.unanswered.is_empty() {
            Check::unknown("this host has no arrays")
        } else {
            check
        });
    }
    match attach(&arrays, args)? {
        Ok(exporter) => {
            let watched = Watched::watch(&exporter, &asked, args)?;
            let rule = rule(args);
            for measurement in watched.measurements(&asked, args, &rule) {
                check.array(&measurement, &rule);
            }
            for text in watched.gone(&asked, args) {
                check.add(State::Critical, text);
            }
            // What was lost may be what is slow.
            for text in said(&watched.families) {
                check.add(State::Unknown, text);
            }
            check.only_containers();
        }
        // How the arrays are is known all the same.
        Err(why) => {
            for array in arrays {
                check.state(array);
            }
            check.add(State::Unknown, format!("members cannot be watched: {why}"));
        }
    }
    Ok(check)
}

/// What was lost, in sentences.
fn said(families: &[MetricFamily]) -> Vec<String> {
    losses(families).iter().map(Loss::sentence).collect()
}

/// Tables, then sentences.
fn text(measurements: &[Measurement<'_>], rule: &Rule, watched: Duration, notes: &[String]) -> String {
    let mut text = format!("In {}:\n\n", seconds(watched));
    for table in measurements.iter().map(Measurement::table).filter(|table| !table.is_empty()) {
        text += &table;
        text.push('\n');
    }
    for line in
        measurements.iter().flat_map(|measurement| measurement.summary(rule)).chain(notes.iter().cloned())
    {
        text += &line;
        text.push('\n');
    }
    text
}

/// The kernel's name of an array: it may be given as such, by device-mapper name, or by a path.
fn select(topology: &Topology, wanted: &str, dev: &Path) -> Result<String, String> {
    let found = find(topology, wanted, dev).ok_or_else(|| {
        let known = topology.arrays().iter().flat_map(|array| [array.name.as_str(), array.title.as_str()]);
        let hint = nearest(wanted, known).map(|near| format!("; did you mean `{near}`?"));
        format!("there is no array `{wanted}`{}", hint.unwrap_or_default())
    })?;
    Ok(found.name.clone())
}

fn find<'a>(topology: &'a Topology, wanted: &str, dev: &Path) -> Option<&'a Array> {
    let named = |name: &str| topology.arrays().iter().find(|array| array.name == name || array.title == name);
    let path = Path::new(wanted);
    named(wanted)
        .or_else(|| named(path.strip_prefix(dev).ok()?.to_str()?))
        // `/dev/vg/lv` and `/dev/md/home` are links to the kernel's names.
        .or_else(|| named(fs::canonicalize(path).ok()?.strip_prefix(dev).ok()?.to_str()?))
}

/// Attaches what these arrays need; why that cannot be, which has been said on standard error as well.
fn attach(arrays: &[&Array], args: &RaidArgs) -> anyhow::Result<Result<Exporter, String>> {
    let needs_devices = arrays.iter().any(|array| !array.announces);
    let probes = PROBES[..if needs_devices { 2 } else { 1 }].iter().map(ToString::to_string).collect();
    let config = config::load(&Request { probes, ..Request::default() })?;
    let kernel = Kernel::detect(&args.host.host());
    if lacks(&kernel) {
        let first = kernel.requirements().err().and_then(|missing| Some(missing.first()?.message.clone()));
        return Ok(Err(first.unwrap_or_else(|| "this host lacks what probes need".into())));
    }
    let (probes, diagnostics) = tapster_ebpf::check::select(config.probes, &kernel.target());
    if report_diagnostics(&diagnostics) {
        return Ok(Err("the shipped probes do not fit this kernel".into()));
    }
    let options = Options { run_stats: false, attach: true, command: false };
    let (exporter, failures, _) = Exporter::start(&probes, &kernel, &args.host.host(), Vec::new(), options);
    for failure in &failures {
        tell!("error: the probe `{}` cannot run: {}", failure.name, failure.down.message);
    }
    Ok(match failures.first() {
        None => Ok(exporter),
        Some(failure) => Err(format!("the probe `{}` cannot run ({})", failure.name, failure.down.reason)),
    })
}

fn mdstat(host: &HostArgs) -> String {
    fs::read(host.procfs.join("mdstat")).map(|bytes| crate::name::escape(&bytes)).unwrap_or_default()
}

/// Reads a ratio: a number of 1 or more.
pub(super) fn ratio(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if number.is_finite() && number >= 1.0 {
        Ok(number)
    } else {
        Err("expected a number of 1 or more".into())
    }
}
