//! The conditions that a family must meet to be readable. A reader that meets one bad line refuses the whole
//! scrape, so such a family is found here, where only the family is lost.

use super::{Format, base_name};
use crate::family::{FamilyKind, HistogramValue, MetricFamily, Sample, SampleValue};
use std::{collections::HashSet, sync::Arc};

/// Why a family is left out of a scrape. Each is a mistake in the code that built the family.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ExpositionError {
    /// Two families would be written under one name.
    #[error("metric family `{name}` occurs more than once")]
    DuplicateFamily {
        /// The name of the second of them.
        name: String,
    },
    /// A series would have a name that is another family's.
    #[error("metric family `{name}` collides with `{other}`: readers know both as `{taken}`")]
    Collision {
        /// The family.
        name: String,
        /// The family before it.
        other: Arc<str>,
        /// The name.
        taken: String,
    },
    /// Two samples would be one series.
    #[error("metric family `{name}` has two samples with the labels {labels:?}")]
    DuplicateSeries {
        /// The family.
        name: String,
        /// The label values of the second of them.
        labels: Arc<[String]>,
    },
    /// Prometheus does not accept the name.
    #[error("metric family `{name}` is not named as a metric can be")]
    Name {
        /// The family.
        name: String,
    },
    /// Prometheus does not accept a label name, or it is reserved or occurs twice.
    #[error("metric family `{name}` cannot have a label `{label}`: {reason}")]
    Label {
        /// The family.
        name: String,
        /// The label name.
        label: String,
        /// What is wrong with it.
        reason: &'static str,
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
        /// The kind of the family.
        kind: FamilyKind,
    },
    /// The buckets of a histogram contradict each other.
    #[error("a histogram of metric family `{name}` is malformed: {reason}")]
    Histogram {
        /// The family.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// `prometheus-client` failed, without a reason.
    #[error("metric family `{name}` could not be written as {format:?}")]
    Encode {
        /// The family.
        name: String,
        /// The requested format.
        format: Format,
    },
}

impl ExpositionError {
    /// Name of the family that was left out.
    pub fn family(&self) -> &str {
        match self {
            Self::DuplicateFamily { name }
            | Self::Collision { name, .. }
            | Self::DuplicateSeries { name, .. }
            | Self::Name { name }
            | Self::Label { name, .. }
            | Self::LabelCount { name, .. }
            | Self::Kind { name, .. }
            | Self::Histogram { name, .. }
            | Self::Encode { name, .. } => name,
        }
    }
}

/// Refuses a family that is wrong or unreadable in any format, whichever was requested: a mistake then shows at once, and
/// not only to the one server that negotiates the format that it breaks.
pub(super) fn family(family: &MetricFamily) -> Result<(), ExpositionError> {
    if !is_name(base_name(family), ":_") {
        return Err(ExpositionError::Name { name: family.name.to_string() });
    }
    for (index, label) in family.label_names.iter().enumerate() {
        check_label(family, &family.label_names[..index], label).map_err(|reason| {
            ExpositionError::Label { name: family.name.to_string(), label: label.clone(), reason }
        })?;
    }
    family.samples.iter().try_for_each(|sample| check_sample(family, sample))?;
    match duplicate(&family.samples) {
        None => Ok(()),
        Some(labels) => Err(ExpositionError::DuplicateSeries {
            name: family.name.to_string(),
            labels: Arc::clone(labels),
        }),
    }
}

/// Label values that two samples share.
fn duplicate(samples: &[Sample]) -> Option<&Arc<[String]>> {
    // Usually sorted by the collector. Comparing each neighbour costs far less than writing them.
    if samples.is_sorted_by(|a, b| a.labels < b.labels) {
        return None;
    }
    let mut seen = HashSet::with_capacity(samples.len());
    samples.iter().map(|sample| &sample.labels).find(|labels| !seen.insert(*labels))
}

/// Whether every version of Prometheus accepts the name without quotes.
fn is_name(name: &str, punctuation: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|character| character.is_ascii_alphanumeric() || punctuation.contains(character))
}

fn check_label(family: &MetricFamily, before: &[String], label: &String) -> Result<(), &'static str> {
    if !is_name(label, "_") {
        Err("it is not named as a label can be")
    } else if label.starts_with("__") {
        Err("names with two underscores in front are Prometheus' own")
    } else if family.kind == FamilyKind::Histogram && label == "le" {
        Err("histograms have their own")
    } else if before.contains(label) {
        Err("it has that one already")
    } else {
        Ok(())
    }
}

fn check_sample(family: &MetricFamily, sample: &Sample) -> Result<(), ExpositionError> {
    let name = || family.name.to_string();
    let (expected, found) = (family.label_names.len(), sample.labels.len());
    if expected != found {
        return Err(ExpositionError::LabelCount { name: name(), expected, found });
    }
    match (family.kind, &sample.value) {
        (FamilyKind::Counter | FamilyKind::Gauge, SampleValue::Number(_)) => Ok(()),
        (FamilyKind::Histogram, SampleValue::Histogram(histogram)) => {
            check_histogram(histogram).map_err(|reason| ExpositionError::Histogram { name: name(), reason })
        }
        (kind @ (FamilyKind::Counter | FamilyKind::Gauge), SampleValue::Histogram(_))
        | (kind @ FamilyKind::Histogram, SampleValue::Number(_)) => {
            Err(ExpositionError::Kind { name: name(), kind })
        }
    }
}

fn check_histogram(histogram: &HistogramValue) -> Result<(), &'static str> {
    let HistogramValue { sum: _, bounds, counts, native } = histogram;
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
        // Prometheus refuses the whole scrape over this mistake.
        if native.zero_count + native.buckets.iter().map(|bucket| bucket.1).sum::<u64>() != histogram.count()
        {
            return Err("its native and classic buckets count differently");
        }
    }
    Ok(())
}
