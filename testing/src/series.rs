//! Reads the names of families and series of a scrape from each format, without the code that wrote them, and checks that none
//! occurs twice.

use super::metrics::Metrics;
use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model as proto;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};

/// The names in a scrape.
#[derive(Debug, Default)]
pub struct Series {
    /// Each family with its type, in order.
    families: Vec<(String, String)>,
    /// Each sample by its name and labels.
    pub samples: Vec<(String, BTreeMap<String, String>)>,
}

impl Series {
    /// Parses the text formats.
    pub fn of_text(text: &str) -> Self {
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        let families = types.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect();
        let samples = Metrics::parse(text).0.into_iter().map(|sample| (sample.name, sample.labels)).collect();
        Self { families, samples }
    }

    /// Parses delimited protobuf messages. A histogram's buckets count as they do in text.
    pub fn of_protobuf(mut bytes: &[u8]) -> Self {
        let mut series = Self::default();
        while !bytes.is_empty() {
            let family = proto::MetricFamily::decode_length_delimited(&mut bytes).unwrap();
            let kind = family.r#type().as_str_name().to_lowercase();
            for metric in family.metric {
                let pairs = metric.label.into_iter().map(|pair| (pair.name, pair.value));
                let labels: BTreeMap<_, _> = pairs.clone().collect();
                assert_eq!(labels.len(), pairs.count(), "a label twice in {}", family.name);
                for bucket in metric.histogram.into_iter().flat_map(|histogram| histogram.bucket) {
                    let mut labels = labels.clone();
                    labels.insert("le".into(), bucket.upper_bound.to_string());
                    series.samples.push((format!("{}_bucket", family.name), labels));
                }
                series.samples.push((family.name.clone(), labels));
            }
            series.families.push((family.name, kind));
        }
        series
    }

    /// Fails if something occurs twice.
    pub fn assert_unique(&self, what: &str) {
        let mut seen = BTreeSet::new();
        for sample in &self.samples {
            assert!(seen.insert(sample), "{what}: the series {sample:?} is there twice");
        }
        let mut taken = BTreeMap::new();
        for (name, kind) in &self.families {
            for own in names(name, kind) {
                if let Some(other) = taken.insert(own.clone(), name) {
                    panic!("{what}: `{name}` and `{other}` are both `{own}`");
                }
            }
        }
    }
}

/// The names of a family and its samples by `OpenMetrics` 1.0, which no other family may have.
pub fn names(family: &str, kind: &str) -> BTreeSet<String> {
    let (base, endings) = match kind {
        "counter" => (family.trim_end_matches("_total"), &["", "_total", "_created"][..]),
        "histogram" => (family, &["", "_bucket", "_count", "_sum", "_created"][..]),
        "gauge" => (family, &[""][..]),
        other => panic!("`{family}` is a {other}"),
    };
    endings.iter().map(|ending| format!("{base}{ending}")).collect()
}
