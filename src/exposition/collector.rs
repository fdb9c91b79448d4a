//! `OpenMetrics` and protobuf, through `prometheus-client`: each family is passed to a registry as a
//! collector, the client's only way in for buckets that were counted elsewhere.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NativeHistogram,
    NativeHistogramBuckets, NoLabelSet, prometheus_protobuf, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::native::Spans;
use super::{ExpositionError, Format, base_name};
use crate::family::{FamilyKind, HistogramValue, MetricFamily, Sample, SampleValue};

/// Appends a checked family as `OpenMetrics` text, or nothing.
pub(super) fn open_metrics(out: &mut Vec<u8>, family: MetricFamily) -> Result<(), ExpositionError> {
    let start = out.len();
    let name = Arc::clone(&family.name);
    text::encode_registry(&mut Utf8(out), &registry(family, Format::OpenMetrics)).map_err(|fmt::Error| {
        out.truncate(start);
        ExpositionError::Encode { name: name.to_string(), format: Format::OpenMetrics }
    })
}

/// Appends a checked family as a delimited protobuf message, or nothing.
pub(super) fn protobuf(out: &mut Vec<u8>, family: MetricFamily) -> Result<(), ExpositionError> {
    // A family without metrics is an error to some readers of the format.
    if family.samples.is_empty() {
        return Ok(());
    }
    let name = Arc::clone(&family.name);
    let message = prometheus_protobuf::encode_to_vec(&registry(family, Format::Protobuf))
        .map_err(|_| ExpositionError::Encode { name: name.to_string(), format: Format::Protobuf })?;
    out.extend_from_slice(&message);
    Ok(())
}

/// A registry of one family: the client stops at the first family it cannot write.
fn registry(family: MetricFamily, format: Format) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(FamilyEncoder { family, format }));
    registry
}

/// A writer in the form that the client needs for the end of a scrape.
struct Utf8<'a>(&'a mut Vec<u8>);

impl fmt::Write for Utf8<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[derive(Debug)]
struct FamilyEncoder {
    family: MetricFamily,
    format: Format,
}

impl Collector for FamilyEncoder {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let Self { family, format } = self;
        let help = match format {
            Format::Protobuf => Cow::Borrowed(&*family.help),
            Format::OpenMetrics | Format::Text => escape_help(&family.help),
        };
        let kind = match family.kind {
            FamilyKind::Counter => MetricType::Counter,
            FamilyKind::Gauge => MetricType::Gauge,
            FamilyKind::Histogram => MetricType::Histogram,
        };
        let mut metric = encoder.encode_descriptor(base_name(family), &help, None, kind)?;
        for sample in &family.samples {
            if sample.labels.is_empty() {
                // An empty label set would be written as `{}`.
                encode_value(&mut metric, family.kind, &sample.value)?;
            } else {
                let labels = SampleLabels { family, sample };
                encode_value(&mut metric.encode_family(&labels)?, family.kind, &sample.value)?;
            }
        }
        Ok(())
    }
}

fn encode_value(encoder: &mut MetricEncoder, kind: FamilyKind, value: &SampleValue) -> fmt::Result {
    match (kind, value) {
        (FamilyKind::Counter, SampleValue::Number(number)) => {
            encoder.encode_counter::<NoLabelSet, _, f64>(number, None)
        }
        (FamilyKind::Gauge | FamilyKind::Histogram, SampleValue::Number(number)) => {
            encoder.encode_gauge(number)
        }
        (_, SampleValue::Histogram(histogram)) => encode_histogram(encoder, histogram),
    }
}

fn encode_histogram(encoder: &mut MetricEncoder, histogram: &HistogramValue) -> fmt::Result {
    let HistogramValue { sum, bounds, counts, native } = histogram;
    // The encoder adds up the counts and writes the last bound as it is, so `+Inf` must be added here.
    let bounds = bounds.iter().copied().chain([f64::INFINITY]);
    let classic: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
    let Some(native) = native else {
        return encoder.encode_histogram::<NoLabelSet>(*sum, histogram.count(), &classic, None);
    };
    let positive = Spans::of(native);
    let native = NativeHistogram {
        schema: native.schema,
        zero_threshold: native.zero_threshold,
        zero_count: native.zero_count,
        negative: NativeHistogramBuckets { spans: &[], deltas: &[] },
        positive: NativeHistogramBuckets { spans: &positive.spans, deltas: &positive.deltas },
        created: None,
    };
    encoder.encode_histogram_with_native::<NoLabelSet>(*sum, histogram.count(), &classic, None, native)
}

/// Label names of the family beside label values of the sample.
struct SampleLabels<'a> {
    family: &'a MetricFamily,
    sample: &'a Sample,
}

impl EncodeLabelSet for SampleLabels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> fmt::Result {
        for (name, value) in self.family.label_names.iter().zip(self.sample.labels.iter()) {
            (name.as_str(), value.as_str()).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

/// `OpenMetrics` escapes help like a label value; the client escapes label values only.
fn escape_help(help: &str) -> Cow<'_, str> {
    if !help.contains(['\\', '\n', '"']) {
        return Cow::Borrowed(help);
    }
    let mut escaped = String::with_capacity(help.len() + 8);
    for character in help.chars() {
        match character {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '"' => escaped.push_str("\\\""),
            other => escaped.push(other),
        }
    }
    Cow::Owned(escaped)
}
