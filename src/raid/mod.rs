//! The arrays of a host, and which member is slow or does not answer: reads them, watches them for a while, and judges.
//! Arguments and output belong to the command line.

mod arrays;
mod check;
mod listing;
mod mdstat;
mod report;
#[cfg(test)]
mod tests;
mod verdict;
mod waits;

pub use arrays::Arrays;
pub use check::{Check, CheckState};
pub use listing::listing;
pub use mdstat::mdstat;
pub use report::ArrayMeasurement;
pub use verdict::Rule;

use crate::{
    exporter::Exporter,
    family::MetricFamily,
    source::Source,
    topology::{Array, Topology},
    watch::{Loss, WatchError, WatchLimit, losses, seconds, watch},
};
use arrays::is_there;
use report::Observations;
use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

/// The probe that times members, and the one for members of arrays that do not announce their I/O.
const PROBES: [&str; 2] = ["raid_member", "block_io"];

/// Names of the shipped probes that time the members of these arrays.
pub fn probes(arrays: &[&Array]) -> &'static [&'static str] {
    let needs_devices = arrays.iter().any(|array| !array.announces);
    &PROBES[..if needs_devices { 2 } else { 1 }]
}

/// The result of watching arrays.
#[derive(Debug)]
pub struct Interval<'a> {
    arrays: &'a Arrays,
    topology: Arc<Topology>,
    families: Vec<MetricFamily>,
    spans: HashMap<String, waits::StatPair>,
    time: Duration,
}

impl<'a> Interval<'a> {
    /// Watches arrays for a time, or until Ctrl-C. `sysfs` has the kernel's own counts.
    pub fn watch(
        exporter: &Exporter,
        arrays: &'a Arrays,
        sysfs: &Path,
        time: Duration,
    ) -> Result<Self, WatchError> {
        let stats = waits::stats(sysfs, &arrays.now());
        let time = watch(exporter, &WatchLimit::Time(time), None)?.time;
        let families = exporter.collect();
        let topology = exporter.arrays();
        let spans = waits::spans(&stats, &waits::stats(sysfs, &arrays.of(&topology)));
        Ok(Self { arrays, topology, families, spans, time })
    }

    /// How long they were watched.
    pub fn time(&self) -> Duration {
        self.time
    }

    /// The measurements of each array that exists at the end.
    pub fn measurements(&self, rule: &Rule) -> Vec<ArrayMeasurement<'_>> {
        let seen = Observations {
            families: &self.families,
            spans: &self.spans,
            disks: self.arrays.disks(),
            seconds: self.time.as_secs_f64(),
        };
        let before = self.arrays.now();
        let now = self.arrays.of(&self.topology).into_iter();
        now.map(|array| {
            let earlier = before.iter().find(|earlier| earlier.name == array.name).copied();
            ArrayMeasurement::new(array, earlier, &seen, rule)
        })
        .collect()
    }

    /// A sentence for each array that was removed meanwhile.
    pub fn gone(&self) -> Vec<String> {
        let before = self.arrays.now().into_iter();
        let gone = before.filter(|array| !is_there(&self.topology, &array.name));
        gone.map(|array| format!("{}: went away while it was watched", array.name)).collect()
    }

    /// Lost events, in sentences.
    pub fn losses(&self) -> Vec<String> {
        lost(&self.families)
    }
}

fn lost(families: &[MetricFamily]) -> Vec<String> {
    losses(families).iter().map(Loss::sentence).collect()
}

/// Tables, then sentences.
pub fn text(
    measurements: &[ArrayMeasurement<'_>],
    rule: &Rule,
    watched: Duration,
    notes: &[String],
) -> String {
    let mut text = format!("In {}:\n\n", seconds(watched));
    for table in measurements.iter().map(ArrayMeasurement::table).filter(|table| !table.is_empty()) {
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
