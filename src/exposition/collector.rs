//! `OpenMetrics` and protobuf, through `prometheus-client`: the families are handed to its registry as a
//! collector, because that is its only way in for buckets that were counted elsewhere.

use std::borrow::Cow;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NativeHistogram,
    NativeHistogramBuckets, NoLabelSet, prometheus_protobuf, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::native::Spans;
use super::{ExpositionError, Format, base_name};
use crate::family::{Histogram, Kind, MetricFamily, Sample, Value};

/// Writes checked families as `OpenMetrics` text.
pub(super) fn open_metrics(families: &[MetricFamily]) -> Result<Vec<u8>, ExpositionError> {
    let mut out = String::new();
    text::encode(&mut out, &registry(families, Format::OpenMetrics))
        .map_err(|fmt::Error| ExpositionError::Encode { format: Format::OpenMetrics })?;
    Ok(out.into_bytes())
}

/// Writes checked families as delimited protobuf messages.
pub(super) fn protobuf(families: &[MetricFamily]) -> Result<Vec<u8>, ExpositionError> {
    prometheus_protobuf::encode_to_vec(&registry(families, Format::Protobuf))
        .map_err(|_| ExpositionError::Encode { format: Format::Protobuf })
}

fn registry(families: &[MetricFamily], format: Format) -> Registry {
    // A collector has to be `'static`, hence the copy; labels and bounds are shared, only counts are duplicated.
    let families = families.to_vec();
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Families { families, format }));
    registry
}

#[derive(Debug)]
struct Families {
    families: Vec<MetricFamily>,
    format: Format,
}

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        for family in &self.families {
            let help = match self.format {
                // A family without metrics is an error to some readers of the protobuf format.
                Format::Protobuf if family.samples.is_empty() => continue,
                Format::Protobuf => Cow::Borrowed(&*family.help),
                Format::OpenMetrics | Format::Text => escape_help(&family.help),
            };
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let mut metric = encoder.encode_descriptor(base_name(family), &help, None, kind)?;
            for sample in &family.samples {
                if sample.labels.is_empty() {
                    // An empty label set would be written as `{}`.
                    encode_value(&mut metric, family.kind, &sample.value)?;
                } else {
                    let labels = Labels { family, sample };
                    encode_value(&mut metric.encode_family(&labels)?, family.kind, &sample.value)?;
                }
            }
        }
        Ok(())
    }
}

fn encode_value(encoder: &mut MetricEncoder, kind: Kind, value: &Value) -> fmt::Result {
    match (kind, value) {
        (Kind::Counter, Value::Number(number)) => encoder.encode_counter::<NoLabelSet, _, f64>(number, None),
        (Kind::Gauge | Kind::Histogram, Value::Number(number)) => encoder.encode_gauge(number),
        (_, Value::Histogram(histogram)) => encode_histogram(encoder, histogram),
    }
}

fn encode_histogram(encoder: &mut MetricEncoder, histogram: &Histogram) -> fmt::Result {
    let Histogram { sum, bounds, counts, native } = histogram;
    // The encoder adds the counts up and takes the last bound as it is, so `+Inf` is ours to name.
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
struct Labels<'a> {
    family: &'a MetricFamily,
    sample: &'a Sample,
}

impl EncodeLabelSet for Labels<'_> {
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
