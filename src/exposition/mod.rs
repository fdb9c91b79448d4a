//! The exposition: turns metric families into the bytes of a scrape, in the format the scraper asked for.
//! It does not collect and does not speak HTTP; the formats are
//!
//! - `text`: Prometheus text 0.0.4, a writer of our own;
//! - `collector`: `OpenMetrics` and Prometheus protobuf, written by `prometheus-client`;
//! - `native`: the span and delta form of native histogram buckets, for protobuf;
//! - `negotiate`: which of them an `Accept` header asks for.

mod collector;
mod native;
mod negotiate;
mod text;

pub(crate) use negotiate::parse_quality;

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use crate::family::{Histogram, Kind, MetricFamily, Sample, Value};

/// A format a scrape can be answered in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `OpenMetrics` text 1.0.0.
    OpenMetrics,
    /// Prometheus text 0.0.4.
    Text,
    /// Length-delimited `io.prometheus.client.MetricFamily` messages, the only one with native histograms.
    Protobuf,
}

impl Format {
    /// Value of the `Content-Type` header.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

/// Families that no format can express. Each is a mistake of whoever built the families.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ExpositionError {
    /// Two families would be written under one name.
    #[error("metric family `{name}` occurs more than once")]
    DuplicateFamily {
        /// The name of the second of them.
        name: String,
    },
    /// A sample has more or fewer label values than its family has label names.
    #[error("a sample of metric family `{name}` has {found} label values, expected {expected}")]
    LabelCount {
        /// The family.
        name: String,
        /// Number of label names.
        expected: usize,
        /// Number of label values.
        found: usize,
    },
    /// A histogram in a family of numbers, or the reverse.
    #[error("a sample of metric family `{name}` does not fit its kind `{kind:?}`")]
    Kind {
        /// The family.
        name: String,
        /// What the family says it is.
        kind: Kind,
    },
    /// The buckets of a histogram contradict each other.
    #[error("a histogram of metric family `{name}` is malformed: {reason}")]
    Histogram {
        /// The family.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// `prometheus-client` gave up; it says no more than that.
    #[error("the metric families could not be written as {format:?}")]
    Encode {
        /// The format that was asked for.
        format: Format,
    },
}

/// Writes `families` as one complete scrape.
pub fn encode(families: &[MetricFamily], format: Format) -> Result<Vec<u8>, ExpositionError> {
    check(families)?;
    match format {
        Format::OpenMetrics => collector::open_metrics(families),
        Format::Text => Ok(text::encode(families)),
        Format::Protobuf => collector::protobuf(families),
    }
}

/// Name of a family without the `_total` of a counter, which is how `OpenMetrics` names it.
fn base_name(family: &MetricFamily) -> &str {
    match family.kind {
        Kind::Counter => family.name.strip_suffix("_total").unwrap_or(&family.name),
        Kind::Gauge | Kind::Histogram => &family.name,
    }
}

/// Refuses what would be a wrong or unreadable scrape in some format, whichever was asked for: a mistake shows
/// at once and not only to the one server that negotiates the format it breaks.
fn check(families: &[MetricFamily]) -> Result<(), ExpositionError> {
    let mut seen = HashSet::with_capacity(families.len());
    for family in families {
        // By base name: a gauge `x` and a counter `x_total` are one family to OpenMetrics.
        if !seen.insert(base_name(family)) {
            return Err(ExpositionError::DuplicateFamily { name: family.name.to_string() });
        }
        for sample in &family.samples {
            check_sample(family, sample)?;
        }
    }
    Ok(())
}

fn check_sample(family: &MetricFamily, sample: &Sample) -> Result<(), ExpositionError> {
    let name = || family.name.to_string();
    let (expected, found) = (family.label_names.len(), sample.labels.len());
    if expected != found {
        return Err(ExpositionError::LabelCount { name: name(), expected, found });
    }
    match (family.kind, &sample.value) {
        (Kind::Counter | Kind::Gauge, Value::Number(_)) => Ok(()),
        (Kind::Histogram, Value::Histogram(histogram)) => {
            check_histogram(histogram).map_err(|reason| ExpositionError::Histogram { name: name(), reason })
        }
        (kind @ (Kind::Counter | Kind::Gauge), Value::Histogram(_))
        | (kind @ Kind::Histogram, Value::Number(_)) => Err(ExpositionError::Kind { name: name(), kind }),
    }
}

fn check_histogram(histogram: &Histogram) -> Result<(), &'static str> {
    let Histogram { sum: _, bounds, counts, native } = histogram;
    if counts.len() != bounds.len() + 1 {
        return Err("it needs one more count than it has bounds");
    }
    if !bounds.is_sorted_by(|a, b| a < b) || bounds.iter().any(|bound| !bound.is_finite()) {
        return Err("its bounds are not finite and ascending");
    }
    if let Some(native) = native {
        if !native.buckets.is_sorted_by(|a, b| a.0 < b.0) {
            return Err("its native buckets are not ascending");
        }
        // Prometheus refuses the whole scrape over this one.
        if native.zero_count + native.buckets.iter().map(|bucket| bucket.1).sum::<u64>() != histogram.count()
        {
            return Err("its native and classic buckets count differently");
        }
    }
    Ok(())
}
