//! The measurements of members and the conclusions: as tables and sentences, or as JSON.

use super::{
    Rule,
    arrays::clause,
    listing::done,
    mdstat,
    verdict::{Comparison, OperationMean},
    waits::{MemberWaits, StatPair},
};
use crate::{
    disks::{DeviceIdentity, Disks, KnownDevice},
    family::{HistogramValue, MetricFamily, SampleValue, ValueLimits},
    name,
    table::table,
    topology::{Array, ArrayMember},
};
use serde_json::json;
use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
};

/// The observations of all arrays.
#[derive(Debug)]
pub(super) struct Observations<'a> {
    /// The families at the end.
    pub(super) families: &'a [MetricFamily],
    /// The kernel's counts for the members, by name.
    pub(super) spans: &'a HashMap<String, StatPair>,
    /// The devices of the host.
    pub(super) disks: &'a Disks,
    /// How long the arrays were watched.
    pub(super) seconds: f64,
}

/// One array over the interval.
#[derive(Debug)]
pub struct ArrayMeasurement<'a> {
    pub(super) array: &'a Array,
    pub(super) disks: &'a Disks,
    /// By operation and index of the member.
    pub(super) lines: BTreeMap<(Operation, usize), OperationLine>,
    /// By index of the member.
    waits: Vec<MemberWaits>,
    /// How long the array was watched.
    seconds: f64,
    /// Why members are not compared.
    muted: Option<String>,
}

/// An operation; reads and writes come first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Operation(pub(super) u8, pub(super) String);

/// One operation on one member.
#[derive(Debug)]
pub(super) struct OperationLine {
    pub(super) measured: OperationMean,
    p50_seconds: Option<f64>,
    p99_seconds: Option<f64>,
    pub(super) compared: Option<Comparison>,
}

impl Operation {
    fn new(name: &str) -> Self {
        let order = ["read", "write"].iter().position(|first| *first == name);
        Self(order.and_then(|order| u8::try_from(order).ok()).unwrap_or(u8::MAX), name.to_owned())
    }

    /// The plural for sentences: `reads`.
    fn plural(&self) -> String {
        match self.1.as_str() {
            "flush" => "flushes".into(),
            "other" => "other I/Os".into(),
            name => format!("{name}s"),
        }
    }
}

/// The action of an array during which its members do different work; `frozen` is at rest.
fn busy(array: &Array) -> Option<&str> {
    array.action.as_deref().filter(|action| !matches!(*action, "idle" | "frozen"))
}

/// Whether an array only holds the metadata of its volumes, which are arrays of their own: it has no I/O.
fn is_container(array: &Array) -> bool {
    array.level == "container"
}

/// Whether a member does the same work as the others.
fn is_peer(member: &ArrayMember) -> bool {
    !member.is("write_mostly") && !member.is("journal")
}

impl<'a> ArrayMeasurement<'a> {
    /// Collects a scrape's samples of an array's members and compares them; `before` is the array at the beginning.
    pub(super) fn new(
        array: &'a Array,
        before: Option<&Array>,
        seen: &Observations<'a>,
        rule: &Rule,
    ) -> Self {
        let samples = seen
            .families
            .iter()
            .filter(|family| *family.name == *"tapster_raid_member_duration_seconds")
            .flat_map(|family| &family.samples);
        let mut lines = BTreeMap::new();
        for sample in samples {
            let ([name, _, member, _, operation], SampleValue::Histogram(histogram)) =
                (sample.labels.as_ref(), &sample.value)
            else {
                continue;
            };
            let place = array.members.iter().position(|known| known.name == *member);
            if let (true, Some(place), Some(line)) =
                (*name == array.name, place, OperationLine::new(histogram))
            {
                lines.insert((Operation::new(operation), place), line);
            }
        }
        let muted = match (busy(array), before.and_then(busy)) {
            (Some(action), _) => Some(format!("while the array does `{action}`{}", done(array))),
            (None, Some(action)) => Some(format!("as the array did `{action}` when the watching began")),
            _ if is_container(array) => Some("as a container does no I/O".into()),
            _ if array.level == "linear" => Some("as a concatenation does not spread its load".into()),
            _ => None,
        };
        let waits = MemberWaits::of(array, seen.families, seen.spans);
        let mut measurement = Self { array, disks: seen.disks, lines, waits, seconds: seen.seconds, muted };
        if measurement.muted.is_none() {
            measurement.compare(rule);
        }
        measurement
    }

    fn compare(&mut self, rule: &Rule) {
        let mut operations: Vec<Operation> =
            self.lines.keys().map(|(operation, _)| operation.clone()).collect();
        operations.dedup();
        for operation in operations {
            let members: Vec<Option<OperationMean>> = (0..)
                .zip(&self.array.members)
                .map(|(place, member)| {
                    let line = self.lines.get(&(operation.clone(), place))?;
                    is_peer(member).then_some(line.measured)
                })
                .collect();
            for (place, compared) in rule.compare(&members).into_iter().enumerate() {
                if let Some(line) = self.lines.get_mut(&(operation.clone(), place)) {
                    line.compared = compared;
                }
            }
        }
    }

    pub(super) fn member(&self, place: usize) -> Option<&'a ArrayMember> {
        self.array.members.get(place)
    }

    /// The table of an array; empty for a container without anything to show.
    pub(super) fn table(&self) -> String {
        if self.lines.is_empty() {
            let waiting = self.waiting();
            if is_container(self.array) && waiting.is_empty() {
                return waiting;
            }
            return format!("{}: no I/O was completed\n{waiting}", self.array.name);
        }
        let titles = ["Device", "Slot", "Operation", "Count", "Average", "p50", "p99", ""].map(String::from);
        let mut rows = vec![titles];
        for ((operation, place), line) in &self.lines {
            let Some(member) = self.member(*place) else { continue };
            let note = match line.compared {
                Some(compared) if compared.is_slow => format!("slow: {} its peers'", times(compared.ratio)),
                _ => String::new(),
            };
            let shown = |seconds: Option<f64>| seconds.map_or_else(|| "-".into(), time);
            rows.push([
                member.name.clone(),
                member.slot.clone(),
                operation.1.clone(),
                line.measured.count.to_string(),
                time(line.measured.mean_seconds),
                shown(line.p50_seconds),
                shown(line.p99_seconds),
                note,
            ]);
        }
        format!(
            "{}:\n{}{}",
            self.array.name,
            table(&rows, &[false, true, false, true, true, true, true, false]),
            self.waiting()
        )
    }

    /// The table of I/O that members have not completed; empty if there is none.
    fn waiting(&self) -> String {
        let mut rows = vec![["Device", "Slot", "In flight", "Oldest"].map(String::from)];
        for (member, waits) in self.array.members.iter().zip(&self.waits) {
            if waits.in_flight > 0.0 {
                let [number, age] = [waits.in_flight.to_string(), time(waits.oldest_seconds)];
                rows.push([member.name.clone(), member.slot.clone(), number, age]);
            }
        }
        if rows.len() > 1 { table(&rows, &[false, true, true, true]) } else { String::new() }
    }

    /// A sentence for each member that does not answer.
    pub(super) fn stuck(&self, rule: &Rule) -> Vec<String> {
        let array = &self.array.name;
        let members = self.array.members.iter().zip(&self.waits);
        let stuck = members.filter_map(|(member, waits)| {
            let why = waits.stuck(rule, self.seconds)?;
            let disk = clause(self.disks, &member.name);
            Some(format!("{array}: `{}` (slot {}) does not answer: {why}{disk}", member.name, member.slot))
        });
        stuck.collect()
    }

    /// The conclusions about an array: sentences, at least one unless it is a container.
    pub(super) fn summary(&self, rule: &Rule) -> Vec<String> {
        let mut all = self.stuck(rule);
        // Being stuck explains why there is little to compare.
        if all.is_empty() || self.lines.values().any(|line| line.compared.is_some()) {
            all.extend(self.comparison(rule, !all.is_empty()));
        }
        all
    }

    /// Slow members by their place, each with the operations in which it is slow.
    pub(super) fn slow(&self) -> BTreeMap<usize, Vec<(&Operation, &OperationLine)>> {
        let mut slow: BTreeMap<usize, Vec<(&Operation, &OperationLine)>> = BTreeMap::new();
        for ((operation, place), line) in &self.lines {
            if line.compared.is_some_and(|compared| compared.is_slow) {
                slow.entry(*place).or_default().push((operation, line));
            }
        }
        slow
    }

    /// The sentence about a slow member.
    pub(super) fn slow_sentence(
        &self,
        member: &ArrayMember,
        slow: &[(&Operation, &OperationLine)],
    ) -> String {
        let parts: Vec<String> = slow
            .iter()
            .filter_map(|(operation, line)| {
                let compared = line.compared?;
                Some(format!(
                    "{} take {} on average, {} its peers' {}",
                    operation.plural(),
                    time(line.measured.mean_seconds),
                    times(compared.ratio),
                    time(compared.peers_seconds),
                ))
            })
            .collect();
        let ArrayMember { name, slot, .. } = member;
        let disk = clause(self.disks, name);
        format!("{}: `{name}` (slot {slot}) is slow: {}{disk}", self.array.name, parts.join("; "))
    }

    /// Conclusions from the latencies; unimportant ones only if there are no others (`said`).
    pub(super) fn comparison(&self, rule: &Rule, said: bool) -> Vec<String> {
        let array = &self.array.name;
        // The members of a container are never compared.
        if is_container(self.array) {
            return Vec::new();
        }
        if let Some(why) = &self.muted {
            return vec![format!("{array}: members are not compared {why}")];
        }
        let slow = self.slow();
        let sentences: Vec<String> = slow
            .iter()
            .filter_map(|(place, parts)| Some(self.slow_sentence(self.member(*place)?, parts)))
            .collect();
        if !sentences.is_empty() || said {
            return sentences;
        }
        let has_latency = self.array.announces || self.array.members.iter().any(|member| member.exclusive);
        vec![if !has_latency {
            format!("{array}: its members' latency cannot be told: they are partitions, or not its own alone")
        } else if self.lines.values().any(|line| line.compared.is_some()) {
            format!("{array}: no member is slow")
        } else {
            format!(
                "{array}: too little I/O to compare: it takes {} of one operation on each of two members",
                rule.min_count
            )
        }]
    }

    /// Everything as JSON.
    pub fn json(&self, rule: &Rule, mdstat: &str) -> serde_json::Value {
        let Array { name, level, kind, title, disks, degraded, state, action, completed, members, .. } =
            self.array;
        let numbers = mdstat::numbers(mdstat);
        let members: Vec<_> = members
            .iter()
            .enumerate()
            .map(|(place, member)| {
                let parts = member.device.map(name::parts);
                let operations: Vec<_> =
                    self.lines.iter().filter(|((_, of), _)| *of == place).map(OperationLine::json).collect();
                json!({
                    "member": member.name,
                    "number": numbers.get(&(name.as_str(), member.name.as_str())),
                    "major": parts.map(|(major, _)| major),
                    "minor": parts.map(|(_, minor)| minor),
                    "slot": member.slot,
                    "state": member.state,
                    "disk": self.disks.device(&member.name).map(disk),
                    "waiting": self.waits.get(place).map(|waits| waits.json(rule, self.seconds)),
                    "operations": operations,
                })
            })
            .collect();
        json!({
            "array": name,
            "kind": kind.name(),
            "name": title,
            "level": level,
            "disks": disks,
            "degraded": degraded,
            "state": state,
            "sync_action": action,
            "sync_completed_ratio": completed,
            "compared": self.muted.is_none(),
            "members": members,
            "summary": self.summary(rule),
        })
    }
}

impl OperationLine {
    fn new(histogram: &HistogramValue) -> Option<Self> {
        Some(Self {
            measured: OperationMean { count: histogram.count(), mean_seconds: histogram.mean()? },
            p50_seconds: histogram.quantile_within(0.5, ValueLimits::POSITIVE),
            p99_seconds: histogram.quantile_within(0.99, ValueLimits::POSITIVE),
            compared: None,
        })
    }

    fn json(((operation, _), line): (&(Operation, usize), &Self)) -> serde_json::Value {
        json!({
            "operation": operation.1,
            "count": line.measured.count,
            "average_seconds": line.measured.mean_seconds,
            "p50_seconds": line.p50_seconds,
            "p99_seconds": line.p99_seconds,
            "peers_average_seconds": line.compared.map(|compared| compared.peers_seconds),
            "ratio": line.compared.map(|compared| compared.ratio),
            "slow": line.compared.map(|compared| compared.is_slow),
        })
    }
}

/// What is known of the disk that a member is, or is on; an empty text is not known.
fn disk(device: &KnownDevice) -> serde_json::Value {
    let DeviceIdentity { model, vendor, serial, wwn, revision, path, transport, enclosure, slot } =
        &*device.identity;
    json!({
        "disk": device.disk,
        "model": model,
        "vendor": vendor,
        "serial": serial,
        "wwn": wwn,
        "revision": revision,
        "path": path,
        "transport": transport,
        "enclosure": enclosure,
        "slot": slot,
    })
}

/// A time in milliseconds, with about three digits.
fn time(seconds: f64) -> String {
    let ms = seconds * 1e3;
    let digits = match ms {
        ms if ms >= 99.95 => 0,
        ms if ms >= 9.995 => 1,
        ms if ms >= 0.9995 => 2,
        _ => 3,
    };
    format!("{ms:.digits$} ms")
}

/// `512 times`, `2.4 times`.
fn times(ratio: f64) -> String {
    let mut text = String::new();
    let _ = if ratio >= 9.95 { write!(text, "{ratio:.0} times") } else { write!(text, "{ratio:.1} times") };
    text
}
