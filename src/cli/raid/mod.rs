//! `tapster raid`: the arrays, and which member is slow.

mod listing;
mod mdstat;
mod report;
#[cfg(test)]
mod tests;
mod verdict;
mod waits;

pub(super) use verdict::Rule;

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
use std::{collections::BTreeSet, fs, path::Path, time::Duration};
use tapster_ebpf::diagnostic::nearest;

/// The probe that times members, and the one that times those of arrays that do not announce their I/O.
const PROBES: [&str; 2] = ["raid_member", "block_io"];

pub(super) fn raid(args: &RaidArgs) -> anyhow::Result<u8> {
    telemetry::init("warn", LogFormat::Text)?;
    let host = args.host.host();
    let before = Watch::new(&host).refresh();
    let names = match select(&before, &args.arrays, &host.dev) {
        Ok(names) => names,
        Err(message) => {
            tell!("error: {message}");
            return Ok(USAGE);
        }
    };
    let arrays = chosen(&before, &names, args);
    if arrays.is_empty() {
        print(if args.json { "{\"arrays\":[]}\n" } else { "this host has no arrays\n" })?;
        return Ok(0);
    }
    if !args.json {
        print(&listing::listing(&arrays, &mdstat(&args.host)))?;
    }
    let Some(exporter) = attach(&arrays, args)? else { return Ok(FAILURE) };
    let sysfs = &args.host.sysfs;
    let stats = waits::stats(sysfs, &arrays);
    tell!("watching for {}; Ctrl-C ends it early", seconds(args.interval));
    let (watched, _) = watch(&exporter, &Until::Time(args.interval), None)?;
    let families = exporter.collect();
    let after = exporter.arrays();
    let rule = Rule {
        ratio: args.ratio,
        floor_seconds: args.floor.as_secs_f64(),
        min_count: args.min_count,
        stuck_seconds: args.stuck.as_secs_f64(),
    };
    let now = chosen(&after, &names, args);
    let spans = waits::spans(&stats, &waits::stats(sysfs, &now));
    let seen = Seen { families: &families, spans: &spans, seconds: watched.as_secs_f64() };
    let measurements: Vec<Measurement<'_>> = now
        .into_iter()
        .map(|array| {
            let earlier = arrays.iter().find(|earlier| earlier.name == array.name).copied();
            Measurement::new(array, earlier, &seen, &rule)
        })
        .collect();
    let gone = arrays.iter().filter(|array| after.arrays().iter().all(|now| now.name != array.name));
    let mut notes: Vec<String> =
        gone.map(|array| format!("{}: went away while it was watched", array.name)).collect();
    notes.extend(said(&families));
    if args.json {
        let mdstat = mdstat(&args.host);
        let arrays: Vec<_> =
            measurements.iter().map(|measurement| measurement.json(&rule, &mdstat)).collect();
        let all = serde_json::json!({ "seconds": watched.as_secs_f64(), "arrays": arrays, "notes": notes });
        print(&format!("{all:#}\n"))?;
    } else {
        print(&text(&measurements, &rule, watched, &notes))?;
    }
    Ok(0)
}

/// What was lost, in sentences.
fn said(families: &[MetricFamily]) -> Vec<String> {
    losses(families).iter().map(Loss::sentence).collect()
}

/// Tables, then sentences.
fn text(measurements: &[Measurement<'_>], rule: &Rule, watched: Duration, notes: &[String]) -> String {
    let mut text = format!("In {}:\n\n", seconds(watched));
    for measurement in measurements {
        text += &measurement.table();
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

/// Kernel names of the arrays asked for: they may be given as such, by device-mapper name, or by a path.
fn select(topology: &Topology, wanted: &[String], dev: &Path) -> Result<BTreeSet<String>, String> {
    let mut names = BTreeSet::new();
    for wanted in wanted {
        let found = find(topology, wanted, dev).ok_or_else(|| {
            let known =
                topology.arrays().iter().flat_map(|array| [array.name.as_str(), array.title.as_str()]);
            let hint = nearest(wanted, known).map(|near| format!("; did you mean `{near}`?"));
            format!("there is no array `{wanted}`{}", hint.unwrap_or_default())
        })?;
        names.insert(found.name.clone());
    }
    Ok(names)
}

fn find<'a>(topology: &'a Topology, wanted: &str, dev: &Path) -> Option<&'a Array> {
    let named = |name: &str| topology.arrays().iter().find(|array| array.name == name || array.title == name);
    let path = Path::new(wanted);
    named(wanted)
        .or_else(|| named(path.strip_prefix(dev).ok()?.to_str()?))
        // `/dev/vg/lv` and `/dev/md/home` are links to the kernel's names.
        .or_else(|| named(fs::canonicalize(path).ok()?.strip_prefix(dev).ok()?.to_str()?))
}

/// Those arrays, or all where none was named.
fn chosen<'a>(topology: &'a Topology, names: &BTreeSet<String>, args: &RaidArgs) -> Vec<&'a Array> {
    let arrays = topology.arrays().iter();
    arrays.filter(|array| args.arrays.is_empty() || names.contains(&array.name)).collect()
}

/// Attaches what these arrays need; `None` if that cannot be, which has been said.
fn attach(arrays: &[&Array], args: &RaidArgs) -> anyhow::Result<Option<Exporter>> {
    let needs_devices = arrays.iter().any(|array| !array.announces);
    let probes = PROBES[..if needs_devices { 2 } else { 1 }].iter().map(ToString::to_string).collect();
    let config = config::load(&Request { probes, ..Request::default() })?;
    let kernel = Kernel::detect(&args.host.paths());
    if lacks(&kernel) {
        return Ok(None);
    }
    let (probes, diagnostics) = tapster_ebpf::check::select(config.probes, &kernel.target());
    if report_diagnostics(&diagnostics) {
        return Ok(None);
    }
    let options = Options { run_stats: false, attach: true, command: false };
    let (exporter, failures, _) = Exporter::start(&probes, &kernel, &args.host.host(), Vec::new(), options);
    for failure in &failures {
        tell!("error: the probe `{}` cannot run: {}", failure.name, failure.down.message);
    }
    Ok(failures.is_empty().then_some(exporter))
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
