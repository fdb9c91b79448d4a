//! A metric family: what a scrape consists of, between the collector that fills it and the
//! exposition that writes it. Nothing here knows the kernel or a wire format.

use std::sync::Arc;

/// What kind of metric a family holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until the exporter restarts; the name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Distribution, with classic and, where the scheme allows, native buckets.
    Histogram,
}

/// All series of one metric name.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricFamily {
    /// Full name as exposed by Prometheus text, `_total` included for counters.
    pub name: Arc<str>,
    /// Unescaped help text.
    pub help: Arc<str>,
    /// What the samples are.
    pub kind: Kind,
    /// Label names shared by every sample, in the order of `Sample::labels`.
    pub label_names: Arc<[String]>,
    /// One per label set.
    pub samples: Vec<Sample>,
}

/// One label set and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Unescaped label values, as many as the family has label names.
    pub labels: Arc<[String]>,
    /// The measured value; its variant fits the family's `kind`.
    pub value: Value,
}

/// A sample's value in the metric's base unit (seconds, bytes, …).
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// For counters and gauges.
    Number(f64),
    /// For histograms.
    Histogram(Histogram),
}

/// A histogram ready to be exposed.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// Sum of all observed values.
    pub sum: f64,
    /// Upper bounds (inclusive, ascending, without `+Inf`), shared by every sample of the family.
    pub bounds: Arc<[f64]>,
    /// Observations per classic bucket, not cumulative; one more than `bounds`, the last for `+Inf`.
    pub counts: Vec<u64>,
    /// The same observations as a native histogram, where the bucket scheme is exponential.
    pub native: Option<Native>,
}

/// Native (sparse exponential) buckets of a histogram; only the positive side exists.
#[derive(Clone, Debug, PartialEq)]
pub struct Native {
    /// Prometheus schema, 0 to 4: bucket `i` covers `(2^((i-1)/2^schema), 2^(i/2^schema)]`.
    pub schema: i32,
    /// Width of the zero bucket: observations at or below it are in `zero_count`.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: u64,
    /// `(index, count)` of the buckets that are not empty, ascending by index.
    pub buckets: Vec<(i32, u64)>,
}

impl Histogram {
    /// Number of observations: the buckets are the only count that is kept, so it always agrees with them.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

impl MetricFamily {
    /// A family of one unlabelled sample.
    pub fn single(name: &str, help: &str, kind: Kind, value: f64) -> Self {
        let mut family = Self::new(name, help, kind, &[]);
        family.push(&[], value);
        family
    }

    /// An empty family.
    pub fn new(name: &str, help: &str, kind: Kind, label_names: &[&str]) -> Self {
        Self {
            name: name.into(),
            help: help.into(),
            kind,
            label_names: label_names.iter().map(ToString::to_string).collect(),
            samples: Vec::new(),
        }
    }

    /// Adds a number under `labels`, given in the order of the family's label names.
    pub fn push(&mut self, labels: &[&str], value: f64) {
        debug_assert_eq!(labels.len(), self.label_names.len(), "`{}` has another label count", self.name);
        self.samples.push(Sample {
            labels: labels.iter().map(ToString::to_string).collect(),
            value: Value::Number(value),
        });
    }
}
