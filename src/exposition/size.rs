//! What families take of a scrape.

use super::Format;
use crate::family::{MetricFamily, SampleValue};

/// What a family takes of a scrape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrapeSize {
    /// Series that Prometheus makes of it. A histogram with a native form is one where that is scraped (protobuf): by default
    /// Prometheus then leaves out its classic form.
    pub series: u64,
    /// Bytes before compression.
    pub bytes: u64,
}

impl std::ops::AddAssign for ScrapeSize {
    fn add_assign(&mut self, other: Self) {
        self.series += other.series;
        self.bytes += other.bytes;
    }
}

/// The number of series of a family.
pub(super) fn series(family: &MetricFamily, format: Format) -> u64 {
    let of = |value: &SampleValue| match value {
        SampleValue::Number(_) => 1,
        SampleValue::Histogram(histogram) if format == Format::Protobuf && histogram.native.is_some() => 1,
        // Buckets, `_sum` and `_count`.
        SampleValue::Histogram(histogram) => histogram.counts.len() + 2,
    };
    let series: usize = family.samples.iter().map(|sample| of(&sample.value)).sum();
    u64::try_from(series).expect("series that are in memory")
}
