//! What one node serves: two real scrapes, of a host and of a guest's array, put together and widened to the disks, members
//! and containers of the node that is measured.

use std::collections::{BTreeMap, BTreeSet};

pub(crate) type LabelList = Vec<(String, String)>;

/// Disks of a node; the first eight are also the members of its array.
pub(crate) const DISKS: usize = 12;
pub(crate) const MEMBERS: usize = 8;
const CONTAINERS: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SeriesGrowth {
    Gauge,
    Counter,
}

/// A series of one node, without the labels of its target.
#[derive(Clone, Debug)]
pub(crate) struct NodeSeries {
    pub(crate) name: String,
    /// In order of names.
    pub(crate) labels: LabelList,
    pub(crate) growth: SeriesGrowth,
    /// As scraped.
    pub(crate) value: f64,
    /// What a slow member has in its place: of a histogram its counts moved to longer times, and its sum.
    pub(crate) slow: Option<f64>,
}

impl NodeSeries {
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str())
    }

    /// What the series of one histogram have in common.
    pub(crate) fn subject(&self) -> String {
        let labels = self.labels.iter().filter(|(name, _)| name != "le");
        let words = labels.flat_map(|(name, value)| [name.as_str(), "=", value.as_str(), ","]);
        words.collect()
    }
}

/// A line of the text format: name, labels in order, value.
fn parse_line(line: &str) -> (String, LabelList, f64) {
    let Some((name, rest)) = line.split_once('{') else {
        let (name, value) = line.split_once(' ').unwrap_or_else(|| panic!("`{line}`"));
        return (name.to_owned(), Vec::new(), value.parse().unwrap());
    };
    let (mut labels, mut rest) = (Vec::new(), rest);
    while !rest.starts_with('}') {
        let (label, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("`{line}`"));
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next().unwrap_or_else(|| panic!("`{line}`")) {
                (at, '"') => break at + 1,
                (_, '\\') => match characters.next().unwrap().1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.push((label.trim_start_matches(',').to_owned(), value));
        rest = &after[end..];
    }
    labels.sort();
    let value = rest[1..].trim().parse().unwrap_or_else(|error| panic!("`{line}`: {error}"));
    (name.to_owned(), labels, value)
}

fn parse(text: &str) -> Vec<NodeSeries> {
    let mut types = BTreeMap::new();
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            types.insert(name.to_owned(), kind.to_owned());
        } else if !line.starts_with('#') {
            let (name, labels, value) = parse_line(line);
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|ending| name.strip_suffix(ending));
            let kind = types.get(&name).or_else(|| types.get(family?));
            let kind = kind.unwrap_or_else(|| panic!("`{name}` has no type")).as_str();
            let growth = if kind == "gauge" { SeriesGrowth::Gauge } else { SeriesGrowth::Counter };
            found.push(NodeSeries { name, labels, growth, value, slow: None });
        }
    }
    found
}

/// The same series with other values of a label; what belongs together changes together.
fn with_labels(series: &NodeSeries, values: &[(&str, &str)]) -> NodeSeries {
    let mut changed = series.clone();
    for (name, value) in &mut changed.labels {
        if let Some((_, new)) = values.iter().find(|(label, _)| label == name) {
            (*new).clone_into(value);
        }
    }
    changed
}

fn disk(number: usize) -> String {
    format!("sd{}", char::from(b'a' + u8::try_from(number).unwrap()))
}

/// How many times as long everything takes on a slow member: of a RAM disk, that is some milliseconds. A power of two, as the
/// bounds of buckets are.
const SLOWER: f64 = 256.0;

/// Gives the histograms of members what a slow one has.
fn slow_down(node: &mut [NodeSeries]) {
    let mut histograms: BTreeMap<String, Vec<(f64, usize)>> = BTreeMap::new();
    for (number, series) in node.iter().enumerate() {
        if series.name == "tapster_raid_member_duration_seconds_bucket" {
            let bound = series.label("le").unwrap().parse().unwrap();
            histograms.entry(series.subject()).or_default().push((bound, number));
        }
    }
    for buckets in histograms.values_mut() {
        buckets.sort_by(|left, right| left.0.total_cmp(&right.0));
        let counts: Vec<f64> = buckets.iter().map(|(_, number)| node[*number].value).collect();
        for (place, (bound, number)) in buckets.iter().enumerate() {
            let from = buckets[..=place].iter().rposition(|(lower, _)| *lower <= bound / SLOWER);
            let count =
                if bound.is_infinite() { counts[place] } else { from.map_or(0.0, |from| counts[from]) };
            node[*number].slow = Some(count);
        }
    }
    for series in node.iter_mut().filter(|series| series.name == "tapster_raid_member_duration_seconds_sum") {
        series.slow = Some(series.value * SLOWER);
    }
}

/// The series of a node, each once.
pub(crate) fn node(host: &str, array: &str) -> Vec<NodeSeries> {
    let mut node = Vec::new();
    for series in parse(host) {
        let is_container = series.label("k8s_pod_name").is_some();
        match series.label("device") {
            Some(_) => {
                // Disks of no array are a group of devices that do the same work.
                let of_disk = |number: usize| {
                    let (name, serial) = (disk(number), format!("VAH{number:05}"));
                    let group = if number < MEMBERS { "" } else { "data" };
                    with_labels(
                        &series,
                        &[("device", &name), ("disk", &name), ("serial", &serial), ("group", group)],
                    )
                };
                node.extend((0..DISKS).map(of_disk));
            }
            None if is_container => {
                for number in 0..CONTAINERS {
                    let (pod, container) =
                        (format!("app-{number:02}-6c9f7d5b8-x2k8q"), format!("app-{number:02}"));
                    let values = [
                        ("k8s_namespace_name", "shop"),
                        ("k8s_pod_name", pod.as_str()),
                        ("k8s_container_name", container.as_str()),
                    ];
                    node.push(with_labels(&series, &values));
                }
                node.push(series);
            }
            None => node.push(series),
        }
    }
    // Its members in order of their slots are the first disks.
    for series in parse(array) {
        if series.label("slot").is_some() {
            let members = (0..MEMBERS).map(|slot| (slot.to_string(), disk(slot)));
            node.extend(
                members.map(|(slot, member)| with_labels(&series, &[("slot", &slot), ("member", &member)])),
            );
        } else {
            node.push(series);
        }
    }
    for name in ["up", "scrape_duration_seconds", "scrape_samples_scraped"] {
        let (name, growth) = (name.to_owned(), SeriesGrowth::Gauge);
        node.push(NodeSeries { name, labels: Vec::new(), growth, value: 1.0, slow: None });
    }
    slow_down(&mut node);
    let distinct: BTreeSet<(&str, &LabelList)> =
        node.iter().map(|series| (series.name.as_str(), &series.labels)).collect();
    assert_eq!(distinct.len(), node.len(), "a series is there twice");
    node
}
