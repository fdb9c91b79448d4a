//! A fleet: each series of a node, for many nodes, with samples until a fixed time, as one block of Prometheus. Nodes differ
//! by a seed; some are slow, some have errors, so that alerts have answers.
//!
//! A series of a node takes its samples from one of [`VARIANTS`] courses of that series, so the chunks of a block have a
//! bounded size, and only the index grows with the fleet.

use super::{
    chunks::{ChunkSegment, ChunkSpan},
    index::{BlockSymbols, IndexFile},
    scrape::{LabelList, NodeSeries, SeriesGrowth},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    fs, io,
    path::Path,
};

/// Courses of each series.
const VARIANTS: usize = 256;
/// The last sample, in seconds: a fixed time, so that each run counts the same samples.
pub(crate) const NOW: i64 = 1_790_000_000;
const DAY: i64 = 86400;
pub(crate) const CLUSTERS: [&str; 2] = ["east", "west"];
/// Some number of 26 digits; there is one block.
const ULID: &str = "01JZ0000000000000000000000";

/// A series that a rule has recorded, or an alert that fires.
#[derive(Clone, Debug)]
pub(crate) struct RecordedSeries {
    /// Without the name, in order.
    pub(crate) labels: LabelList,
    pub(crate) value: f64,
}

/// What a fleet has.
pub(crate) struct NodeFleet {
    pub(crate) nodes: usize,
    /// Seconds between two scrapes, and between two evaluations.
    pub(crate) interval: i64,
    /// Seconds for which series have samples.
    pub(crate) history: i64,
    /// Families that have samples for longer.
    pub(crate) longer: BTreeMap<String, i64>,
    pub(crate) node: Vec<NodeSeries>,
    /// By name.
    pub(crate) recorded: BTreeMap<String, Vec<RecordedSeries>>,
    /// Of each series of a node: written once, and used by every index.
    courses: Vec<SeriesCourses>,
}

/// The chunks of a series of a node.
struct SeriesCourses {
    well: Vec<Vec<ChunkSpan>>,
    unwell: Option<(&'static NodeFault, Vec<Vec<ChunkSpan>>)>,
}

impl SeriesCourses {
    /// Those of a node.
    fn of(&self, node: usize, subject: u64) -> &[ChunkSpan] {
        let courses = match &self.unwell {
            Some((fault, courses)) if node % fault.every == fault.first => courses,
            _ => &self.well,
        };
        let course = scatter(subject ^ scatter(node as u64)) % courses.len() as u64;
        &courses[usize::try_from(course).unwrap()]
    }
}

/// What is in a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockStats {
    pub(crate) series: u64,
    /// Of all files.
    pub(crate) bytes: u64,
}

/// A number that looks random, and is the same in each run.
fn scatter(seed: u64) -> u64 {
    let mut value = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678_9abc_def1);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Between 0 and 1.
fn fraction(seed: u64) -> f64 {
    (scatter(seed) >> 11) as f64 / (1_u64 << 53) as f64
}

pub(crate) fn instance(node: usize) -> String {
    format!("node-{node:05}.example:18277")
}

pub(crate) fn cluster(node: usize) -> &'static str {
    CLUSTERS[usize::from(node % 5 == 4)]
}

/// How some nodes are unwell: every so many, beginning with the one of this number.
struct NodeFault {
    every: usize,
    first: usize,
    name: &'static str,
    labels: &'static [(&'static str, &'static str)],
    effect: FaultEffect,
}

#[derive(Clone, Copy)]
enum FaultEffect {
    /// A gauge has this value.
    Is(f64),
    /// A counter grows by so much in a minute.
    Grows(f64),
    /// A member is slow.
    Slow,
}

const FAULTS: [NodeFault; 10] = [
    NodeFault {
        every: 50,
        first: 1,
        name: "tapster_raid_member_duration_seconds_bucket",
        labels: &[("slot", "3")],
        effect: FaultEffect::Slow,
    },
    NodeFault {
        every: 50,
        first: 1,
        name: "tapster_raid_member_duration_seconds_sum",
        labels: &[("slot", "3")],
        effect: FaultEffect::Slow,
    },
    NodeFault {
        every: 100,
        first: 2,
        name: "tapster_raid_array_degraded",
        labels: &[],
        effect: FaultEffect::Is(1.0),
    },
    NodeFault {
        every: 100,
        first: 3,
        name: "tapster_probe_up",
        labels: &[("probe", "raid_member")],
        effect: FaultEffect::Is(0.0),
    },
    NodeFault {
        every: 200,
        first: 4,
        name: "tapster_block_io_oldest_seconds",
        labels: &[("device", "sdb"), ("operation", "read")],
        effect: FaultEffect::Is(45.0),
    },
    NodeFault {
        every: 200,
        first: 4,
        name: "tapster_raid_member_oldest_seconds",
        labels: &[("slot", "1"), ("operation", "read")],
        effect: FaultEffect::Is(45.0),
    },
    NodeFault {
        every: 50,
        first: 5,
        name: "tapster_block_io_errors_total",
        labels: &[("device", "sdc"), ("operation", "read")],
        effect: FaultEffect::Grows(1.0),
    },
    NodeFault {
        every: 100,
        first: 6,
        name: "tapster_probe_dropped_total",
        labels: &[("probe", "block_io"), ("reason", "max_series")],
        effect: FaultEffect::Grows(30.0),
    },
    NodeFault {
        every: 100,
        first: 7,
        name: "tapster_scrape_duration_seconds",
        labels: &[],
        effect: FaultEffect::Is(6.5),
    },
    NodeFault {
        every: 200,
        first: 8,
        name: "tapster_config_last_reload_successful",
        labels: &[],
        effect: FaultEffect::Is(0.0),
    },
];

impl NodeFault {
    fn meets(&self, series: &NodeSeries) -> bool {
        self.name == series.name && self.labels.iter().all(|(name, value)| series.label(name) == Some(value))
    }
}

/// What a counter has at a time in place of its scraped value: a factor that grows by about one in half a minute.
fn factor(variant: usize, time: i64) -> f64 {
    let seed = variant as u64;
    let (rate, phase, period) = (
        0.5 + 1.5 * fraction(seed),
        std::f64::consts::TAU * fraction(seed + 1000),
        300.0 + 900.0 * fraction(seed + 2000),
    );
    let seconds = (time - (NOW - 8 * DAY)) as f64;
    let turn = std::f64::consts::TAU / period;
    rate / 30.0 * (seconds + 0.5 / turn * (phase.cos() - (seconds * turn + phase).cos()))
}

/// The value of a series in one of its courses.
fn value_at(series: &NodeSeries, effect: Option<FaultEffect>, variant: usize, time: i64) -> f64 {
    let scraped = match effect {
        Some(FaultEffect::Is(value)) => return value,
        Some(FaultEffect::Grows(speed)) => return ((time - (NOW - 8 * DAY)) as f64 * speed / 60.0).floor(),
        Some(FaultEffect::Slow) => series.slow.expect("only members are slow"),
        None => series.value,
    };
    match series.growth {
        SeriesGrowth::Counter if series.name.ends_with("_sum") || series.name.ends_with("_seconds_total") => {
            scraped * factor(variant, time)
        }
        SeriesGrowth::Counter => (scraped * factor(variant, time)).floor(),
        SeriesGrowth::Gauge if series.name == "process_start_time_seconds" => (NOW - 2 * DAY) as f64,
        SeriesGrowth::Gauge if series.name.ends_with("_timestamp_seconds") => (time - 10) as f64,
        SeriesGrowth::Gauge if scraped.fract() == 0.0 => scraped,
        SeriesGrowth::Gauge => {
            let seed = (variant as u64) << 32 | time.cast_unsigned();
            scraped * (0.9 + 0.2 * fraction(seed))
        }
    }
}

/// A series of the template in the block that is written.
struct PlacedSeries<'a> {
    courses: &'a SeriesCourses,
    /// Its pairs before `cluster`, between it and `instance`, and behind.
    before: Vec<u32>,
    between: Vec<u32>,
    behind: Vec<u32>,
    subject: u64,
}

impl NodeFleet {
    pub(crate) fn new(
        nodes: usize,
        interval: i64,
        history: i64,
        longer: BTreeMap<String, i64>,
        node: Vec<NodeSeries>,
    ) -> Self {
        Self { nodes, interval, history, longer, node, recorded: BTreeMap::new(), courses: Vec::new() }
    }

    fn times(&self, name: &str) -> impl Iterator<Item = i64> {
        let history = self.longer.get(name).copied().unwrap_or(self.history).max(self.history);
        let count = history / self.interval;
        let interval = self.interval;
        (0..=count).map(move |number| NOW - (count - number) * interval)
    }

    fn samples(&self, series: &NodeSeries, effect: Option<FaultEffect>, variant: usize) -> Vec<(i64, f64)> {
        // Not all targets are scraped at the same time.
        let early = (scatter(variant as u64 + 7) % (self.interval * 1000).cast_unsigned()).cast_signed();
        self.times(&series.name)
            .map(|time| (time * 1000 - early, value_at(series, effect, variant, time)))
            .collect()
    }

    fn pairs(&self) -> BTreeSet<(String, String)> {
        let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut pairs = BTreeSet::from([own("job", "tapster")]);
        pairs.extend(CLUSTERS.map(|cluster| own("cluster", cluster)));
        pairs.extend((0..self.nodes).map(|node| own("instance", &instance(node))));
        for series in &self.node {
            pairs.insert(own("__name__", &series.name));
            // An empty label is none.
            pairs.extend(series.labels.iter().filter(|(_, value)| !value.is_empty()).cloned());
        }
        for (name, list) in &self.recorded {
            pairs.insert(own("__name__", name));
            for recorded in list {
                for pair in &recorded.labels {
                    if !pairs.contains(pair) {
                        pairs.insert(pair.clone());
                    }
                }
            }
        }
        pairs
    }

    /// Writes the samples of every series of a node in all of its courses.
    fn write_courses(&self, segment: &mut ChunkSegment) -> io::Result<Vec<SeriesCourses>> {
        let mut all = Vec::new();
        for series in &self.node {
            let mut courses = |effect: Option<FaultEffect>| -> io::Result<Vec<Vec<ChunkSpan>>> {
                let variants = 0..VARIANTS.min(self.nodes);
                variants.map(|variant| segment.add(&self.samples(series, effect, variant))).collect()
            };
            let well = courses(None)?;
            let fault = FAULTS.iter().find(|fault| fault.meets(series));
            let unwell = fault.map(|fault| Ok::<_, io::Error>((fault, courses(Some(fault.effect))?)));
            all.push(SeriesCourses { well, unwell: unwell.transpose()? });
        }
        Ok(all)
    }

    fn place<'a>(&'a self, number: usize, symbols: &BlockSymbols) -> PlacedSeries<'a> {
        let (series, courses) = (&self.node[number], &self.courses[number]);
        let labels = || series.labels.iter().filter(|(_, value)| !value.is_empty());
        let numbers = |from: &str, to: &str| -> Vec<u32> {
            let among = labels().filter(|(name, _)| name.as_str() > from && name.as_str() < to);
            among.map(|(name, value)| symbols.pair(name, value)).collect()
        };
        let mut before = vec![symbols.pair("__name__", &series.name)];
        before.extend(numbers("", "cluster"));
        let mut behind = numbers("instance", "\u{10ffff}");
        behind.push(symbols.pair("job", "tapster"));
        behind.sort_unstable();
        let subject = series.subject().bytes().fold(7_u64, |sum, byte| scatter(sum ^ u64::from(byte)));
        PlacedSeries { courses, before, between: numbers("cluster", "instance"), behind, subject }
    }

    /// Writes the series of a family of all nodes, in order of labels.
    fn family(&self, list: &[usize], symbols: &BlockSymbols, index: &mut IndexFile<'_>) -> io::Result<()> {
        // In order of labels: those before `cluster`, the cluster, those before `instance`, the node, and the rest.
        let mut tree: BTreeMap<Vec<u32>, BTreeMap<Vec<u32>, Vec<PlacedSeries<'_>>>> = BTreeMap::new();
        let (cluster_name, instance_name) =
            (symbols.pair("cluster", CLUSTERS[0]), symbols.pair("instance", &instance(0)));
        for number in list {
            let mut placed = self.place(*number, symbols);
            // A list that ends is followed by these labels.
            placed.before.push(cluster_name);
            placed.between.push(instance_name);
            let inner = tree.entry(placed.before.clone()).or_default();
            inner.entry(placed.between.clone()).or_default().push(placed);
        }
        let nodes: Vec<u32> = (0..self.nodes).map(|node| symbols.pair("instance", &instance(node))).collect();
        let mut pairs = Vec::new();
        for (before, inner) in &mut tree {
            for name in CLUSTERS {
                for (between, list) in inner.iter_mut() {
                    list.sort_by(|left, right| left.behind.cmp(&right.behind));
                    for node in (0..self.nodes).filter(|node| cluster(*node) == name) {
                        for placed in list.iter() {
                            pairs.clear();
                            pairs.extend(&before[..before.len() - 1]);
                            pairs.push(symbols.pair("cluster", name));
                            pairs.extend(&between[..between.len() - 1]);
                            pairs.push(nodes[node]);
                            pairs.extend(&placed.behind);
                            let chunks = placed.courses.of(node, placed.subject);
                            index.series(&pairs, chunks.iter().copied())?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes what a rule has recorded: its value for as long as there are samples, and a sample a day and a week ago.
    fn recorded(
        &self,
        name: &str,
        symbols: &BlockSymbols,
        segment: &mut ChunkSegment,
        index: &mut IndexFile<'_>,
    ) -> io::Result<()> {
        let own = symbols.pair("__name__", name);
        let mut known: HashMap<u64, Vec<ChunkSpan>> = HashMap::new();
        let mut list: Vec<(Vec<u32>, u64)> = Vec::new();
        for recorded in &self.recorded[name] {
            let labels = recorded.labels.iter().map(|(name, value)| symbols.pair(name, value));
            list.push(([own].into_iter().chain(labels).collect(), recorded.value.to_bits()));
        }
        list.sort_unstable();
        list.dedup_by(|left, right| left.0 == right.0);
        for (pairs, bits) in list {
            if let Entry::Vacant(place) = known.entry(bits) {
                let value = f64::from_bits(bits);
                let mut chunks = Vec::new();
                let recent: Vec<(i64, f64)> = self.times(name).map(|time| (time * 1000, value)).collect();
                for before in [7 * DAY, DAY] {
                    let time = (NOW - before) * 1000;
                    if !name.starts_with("ALERTS") && time < recent[0].0 {
                        chunks.extend(segment.add(&[(time, value)])?);
                    }
                }
                chunks.extend(segment.add(&recent)?);
                place.insert(chunks);
            }
            index.series(&pairs, known[&bits].iter().copied())?;
        }
        Ok(())
    }

    /// Writes the block below `data`, or its index and what was recorded anew.
    pub(crate) fn write(&mut self, data: &Path) -> io::Result<BlockStats> {
        let block = data.join(ULID);
        if self.courses.is_empty() {
            if block.exists() {
                fs::remove_dir_all(&block)?;
            }
            fs::create_dir_all(block.join("chunks"))?;
            let mut segment = ChunkSegment::create(&block, 0)?;
            self.courses = self.write_courses(&mut segment)?;
            segment.finish()?;
        }
        let symbols = BlockSymbols::new(self.pairs());
        let mut segment = ChunkSegment::create(&block, 1)?;
        let mut index = IndexFile::create(&block.join("index"), &symbols)?;
        let mut families: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (number, series) in self.node.iter().enumerate() {
            families.entry(&series.name).or_default().push(number);
        }
        let names: BTreeSet<&str> =
            families.keys().copied().chain(self.recorded.keys().map(String::as_str)).collect();
        for name in names {
            match families.get(name) {
                Some(list) => self.family(list, &symbols, &mut index)?,
                None => self.recorded(name, &symbols, &mut segment, &mut index)?,
            }
        }
        segment.finish()?;
        let chunks = index.chunks;
        let series = index.finish()?;
        let oldest = if self.recorded.is_empty() { 2 * DAY } else { 8 * DAY };
        // The number of samples is nothing that Prometheus needs.
        let meta = format!(
            "{{\"ulid\":\"{ULID}\",\"minTime\":{},\"maxTime\":{},\"stats\":{{\"numSeries\":{series},\"numChunks\":{chunks}}},\
             \"compaction\":{{\"level\":1,\"sources\":[\"{ULID}\"]}},\"version\":1}}\n",
            (NOW - oldest) * 1000,
            NOW * 1000 + 1,
        );
        fs::write(block.join("meta.json"), meta)?;
        let bytes = ["index", "chunks/000001", "chunks/000002"].map(|file| fs::metadata(block.join(file)));
        let bytes = bytes.into_iter().map(|file| file.map(|file| file.len())).sum::<io::Result<u64>>()?;
        Ok(BlockStats { series, bytes })
    }
}
