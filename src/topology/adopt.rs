//! I/O of members whose array does not announce it.
//!
//! The device-mapper targets `raid` and `mirror` hand bios to their members without the event that names the array, or with it
//! for a part of them. Such a member is a device of its own, so its I/O as measured by `block_io` is the array's I/O there: its
//! rows become the array's. `docs/adr/0009-silent-arrays.md` has the reasons.
//!
//! Probes are recognised by their declarations, not by their names: a site that copies `raid_member` or `block_io` into a file
//! of its own gets the same rows.

use super::{Array, ArrayMember, Topology};
use crate::family::{MetricFamily, Sample, SampleValue};
use std::{collections::HashMap, fmt, sync::Arc};
use tapster_ebpf::{
    expr::ExprKind,
    point::{self, AttachPoint},
    probe::{Decoder, Event, Metric, MetricKind, Probe},
    waiting,
};

/// The event at which a bio is submitted, and the one at which it completes.
const SUBMITTED: &str = "block_bio_queue";
/// See [`SUBMITTED`].
const COMPLETED: &str = "block_bio_complete";

/// The meaning of a label of such a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LabelMeaning {
    Array,
    Level,
    Slot,
    Device,
    /// Something that does not depend on the device, such as the operation.
    Other,
}

/// The quantity that a metric of such a probe measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    Duration,
    InFlight,
    Oldest,
}

/// The devices whose I/O a probe measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IoSubject {
    /// Arrays, on each of their members.
    Members,
    /// Devices, from the submission of a bio to its completion.
    Devices,
}

/// A probe of the I/O of devices, or of members of arrays, as declared.
#[derive(Debug)]
struct IoProbe<'p> {
    probe: &'p str,
    whose: IoSubject,
    /// Labels by name.
    labels: Vec<(&'p str, LabelMeaning)>,
    /// Metrics by the name of their family.
    metrics: Vec<(String, Measure)>,
}

/// A probe as declared, and its families in this scrape.
#[derive(Debug)]
pub struct ProbeFamilies<'p> {
    /// The probe.
    pub probe: &'p Probe,
    /// Its families.
    pub families: Vec<MetricFamily>,
}

/// Why members of silent arrays have no latency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAdopted {
    /// The probe `block_io` does not run.
    NoDevices,
    /// The probes of devices and of members have different buckets, which a family cannot have.
    OtherBuckets {
        /// The probe of devices.
        devices: String,
        /// The probe of members.
        members: String,
    },
    /// The probe of members has a label that the probe of devices lacks, or the other way round.
    OtherLabels {
        /// The probe of devices.
        devices: String,
        /// The probe of members.
        members: String,
    },
}

impl fmt::Display for NotAdopted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDevices => f.write_str("they are measured by the probe `block_io`, which does not run"),
            Self::OtherBuckets { devices, members } => write!(
                f,
                "they are measured by the probe `{devices}`, whose buckets are not those of `{members}`"
            ),
            Self::OtherLabels { devices, members } => write!(
                f,
                "they are measured by the probe `{devices}`, whose labels besides the device's are not those of `{members}`"
            ),
        }
    }
}

/// Whether an event is at this tracepoint, without a filter.
fn is_at(event: &Event, tracepoint: &str) -> bool {
    let is_it = |at: &AttachPoint| at.kind.subject == point::Subject::Tracepoint && at.name() == tracepoint;
    event.filter.is_none() && event.at.iter().any(|at| is_it(&at.value))
}

/// The quantity that a metric of events measures, if it counts all of them.
fn measure(metric: &Metric) -> Option<Measure> {
    let value = &metric.value.as_ref()?.ast.kind;
    let is_duration = matches!(value, ExprKind::Name(name) if name == "duration");
    let is_histogram = matches!(metric.kind, MetricKind::Histogram { .. });
    (is_duration && is_histogram && metric.filter.is_none()).then_some(Measure::Duration)
}

impl<'p> IoProbe<'p> {
    /// The subject of a probe; `None` if it measures something else.
    fn of(probe: &'p Probe) -> Option<Self> {
        let meaning = |decoder: Option<&Decoder>| match decoder {
            Some(Decoder::RaidArray) => LabelMeaning::Array,
            Some(Decoder::RaidLevel) => LabelMeaning::Level,
            Some(Decoder::RaidSlot) => LabelMeaning::Slot,
            Some(Decoder::BlockDevice) => LabelMeaning::Device,
            _ => LabelMeaning::Other,
        };
        let labels = probe.labels.iter().map(|label| {
            let decoder = label.decoder.as_ref().map(|decoder| &decoder.value);
            (label.name.value.as_str(), meaning(decoder))
        });
        let labels: Vec<(&str, LabelMeaning)> = labels.collect();
        let number = |wanted| labels.iter().filter(|(_, meaning)| *meaning == wanted).count();
        let is_of_arrays = labels.iter().any(|(_, meaning)| {
            matches!(meaning, LabelMeaning::Array | LabelMeaning::Level | LabelMeaning::Slot)
        });
        let whose = if number(LabelMeaning::Array) == 1
            && number(LabelMeaning::Slot) + number(LabelMeaning::Device) > 0
        {
            IoSubject::Members
        } else if !is_of_arrays
            && number(LabelMeaning::Device) == 1
            && probe.starts.iter().any(|start| is_at(start, SUBMITTED))
            && probe.ends.iter().any(|end| is_at(end, COMPLETED))
        {
            IoSubject::Devices
        } else {
            return None;
        };
        let family = |name: &str| format!("tapster_{name}");
        let of_events = probe.metrics.iter();
        let of_events = of_events.filter_map(|metric| Some((family(&metric.name.value), measure(metric)?)));
        let of_starts = probe.waiting.iter().map(|metric| {
            let measure = match metric.kind {
                waiting::WaitingKind::InFlight => Measure::InFlight,
                waiting::WaitingKind::Oldest => Measure::Oldest,
            };
            (family(&metric.name.value), measure)
        });
        let metrics = of_events.chain(of_starts).collect();
        Some(Self { probe: &probe.name.value, whose, labels, metrics })
    }

    fn measure(&self, family: &MetricFamily) -> Option<Measure> {
        self.metrics.iter().find(|(name, _)| *name == *family.name).map(|(_, measure)| *measure)
    }

    /// The meaning of each label of a family; a family of waiting starts may lack some labels.
    fn meanings(&self, family: &MetricFamily) -> Vec<LabelMeaning> {
        let meaning = |name: &String| self.labels.iter().find(|(known, _)| *known == name);
        let names = family.label_names.iter();
        names.map(|name| meaning(name).map_or(LabelMeaning::Other, |(_, meaning)| *meaning)).collect()
    }
}

/// A family of devices, with the indexes of the labels that a family of members has.
struct DeviceFamily<'f> {
    family: &'f MetricFamily,
    /// The index of the label of the device.
    device: usize,
    /// Indexes of the labels that do not depend on the device, in the order of the family of members.
    others: Vec<usize>,
}

/// Adds the I/O of members of silent arrays to the families of members, in place of the part that the kernel announced.
pub fn adopt(topology: &Topology, probes: &mut [ProbeFamilies<'_>]) -> Result<(), NotAdopted> {
    let silent: Vec<&Array> = topology.arrays().iter().filter(|array| !array.announces).collect();
    if silent.is_empty() {
        return Ok(());
    }
    let declared: Vec<&Probe> = probes.iter().map(|measured| measured.probe).collect();
    let subjects: Vec<Option<IoProbe<'_>>> = declared.into_iter().map(IoProbe::of).collect();
    // Each family is handled by itself: different buckets do not matter for what is in flight.
    let mut outcomes = Vec::new();
    for (place, subject) in subjects.iter().enumerate() {
        let Some(subject) = subject.as_ref().filter(|subject| subject.whose == IoSubject::Members) else {
            continue;
        };
        for index in 0..probes[place].families.len() {
            let family = &mut probes[place].families[index];
            let Some(measure) = subject.measure(family) else { continue };
            let meanings = subject.meanings(family);
            let Some(array) = meanings.iter().position(|meaning| *meaning == LabelMeaning::Array) else {
                continue;
            };
            // What is announced of them is only a part of their I/O: for example, a mirror's reads but not its writes.
            let is_announced = |name: &String| silent.iter().all(|silent| silent.name != *name);
            family.samples.retain(|sample| sample.labels.get(array).is_none_or(is_announced));
            let devices = subjects.iter().zip(&*probes).filter_map(|(subject, measured)| {
                let subject = subject.as_ref().filter(|subject| subject.whose == IoSubject::Devices)?;
                Some((subject, measured.families.as_slice()))
            });
            let members = &probes[place].families[index];
            let adopted = adopted(&silent, devices, (subject, members), measure, &meanings);
            outcomes.push(adopted.map(|adopted| {
                let samples = &mut probes[place].families[index].samples;
                samples.extend(adopted);
                samples.sort_by(|a, b| a.labels.cmp(&b.labels));
            }));
        }
    }
    outcomes.into_iter().collect()
}

/// The rows of members of silent arrays, for a family with labels of these meanings.
fn adopted<'p>(
    silent: &[&Array],
    devices: impl Iterator<Item = (&'p IoProbe<'p>, &'p [MetricFamily])>,
    (subject, members): (&IoProbe<'_>, &MetricFamily),
    measure: Measure,
    meanings: &[LabelMeaning],
) -> Result<Vec<Sample>, NotAdopted> {
    let mut owners: HashMap<&str, (&Array, &ArrayMember)> = HashMap::new();
    for array in silent.iter().copied() {
        let own = array.members.iter().filter(|member| member.exclusive);
        owners.extend(own.map(|member| (member.name.as_str(), (array, member))));
    }
    let mut refused = NotAdopted::NoDevices;
    for (device, families) in devices {
        let both = || (device.probe.to_owned(), subject.probe.to_owned());
        for family in families.iter().filter(|family| device.measure(family) == Some(measure)) {
            let Some(source) = DeviceFamily::new(device, family, members, meanings) else {
                let (devices, members) = both();
                refused = NotAdopted::OtherLabels { devices, members };
                continue;
            };
            let rows = source.rows(&owners, meanings);
            match (bounds(&members.samples), bounds(&rows)) {
                (Some(known), Some(new)) if known != new => {
                    let (devices, members) = both();
                    refused = NotAdopted::OtherBuckets { devices, members };
                }
                _ => return Ok(rows),
            }
        }
    }
    Err(refused)
}

impl<'f> DeviceFamily<'f> {
    /// `None` if the labels that do not depend on the device differ from those of the family of members.
    fn new(
        subject: &IoProbe<'_>,
        family: &'f MetricFamily,
        members: &MetricFamily,
        meanings: &[LabelMeaning],
    ) -> Option<Self> {
        let own = subject.meanings(family);
        let device = own.iter().position(|meaning| *meaning == LabelMeaning::Device)?;
        let wanted = members.label_names.iter().zip(meanings);
        let others: Vec<usize> = wanted
            .filter(|(_, meaning)| **meaning == LabelMeaning::Other)
            .map(|(name, _)| family.label_names.iter().position(|own| own == name))
            .collect::<Option<_>>()?;
        (others.len() + 1 == own.len()).then_some(Self { family, device, others })
    }

    /// Its rows for these devices, as rows of members.
    fn rows(&self, owners: &HashMap<&str, (&Array, &ArrayMember)>, meanings: &[LabelMeaning]) -> Vec<Sample> {
        let row = |sample: &Sample| {
            let (array, member) = owners.get(sample.labels.get(self.device)?.as_str())?;
            let mut others = self.others.iter();
            let mut label = |meaning: &LabelMeaning| match meaning {
                LabelMeaning::Array => Some(&array.name),
                LabelMeaning::Level => Some(&array.level),
                LabelMeaning::Slot => Some(&member.slot),
                LabelMeaning::Device => Some(&member.name),
                LabelMeaning::Other => sample.labels.get(*others.next()?),
            };
            let labels = meanings.iter().map(|meaning| label(meaning).cloned()).collect::<Option<_>>()?;
            Some(Sample { labels, value: sample.value.clone() })
        };
        self.family.samples.iter().filter_map(row).collect()
    }
}

fn bounds(samples: &[Sample]) -> Option<&Arc<[f64]>> {
    samples.iter().find_map(|sample| match &sample.value {
        SampleValue::Histogram(histogram) => Some(&histogram.bounds),
        SampleValue::Number(_) => None,
    })
}
