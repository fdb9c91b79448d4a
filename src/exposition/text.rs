//! Prometheus text format 0.0.4, written straight from the families. A scrape may hold thousands of histogram
//! rows, so the label part of a line is rendered once per sample and numbers are formatted on the stack.

use super::base_name;
use crate::family::{FamilyKind, HistogramValue, MetricFamily, SampleValue};

/// Appends a checked family.
pub(super) fn write(out: &mut Vec<u8>, family: &MetricFamily) {
    let mut name = base_name(family).to_owned();
    if family.kind == FamilyKind::Counter {
        name.push_str("_total");
    }
    let name = name.as_bytes();
    let mut labels = Vec::new();
    write_head(out, name, family);
    for sample in &family.samples {
        labels.clear();
        for (label, value) in family.label_names.iter().zip(sample.labels.iter()) {
            if !labels.is_empty() {
                labels.push(b',');
            }
            labels.extend_from_slice(label.as_bytes());
            labels.extend_from_slice(b"=\"");
            escape(&mut labels, value, true);
            labels.push(b'"');
        }
        match &sample.value {
            SampleValue::Number(number) => {
                write_series(out, name, b"", &labels, None);
                write_number(out, *number);
                out.push(b'\n');
            }
            SampleValue::Histogram(histogram) => write_histogram(out, name, &labels, histogram),
        }
    }
}

fn write_head(out: &mut Vec<u8>, name: &[u8], family: &MetricFamily) {
    out.extend_from_slice(b"# HELP ");
    out.extend_from_slice(name);
    out.push(b' ');
    escape(out, &family.help, false);
    out.extend_from_slice(b"\n# TYPE ");
    out.extend_from_slice(name);
    out.extend_from_slice(match family.kind {
        FamilyKind::Counter => b" counter\n",
        FamilyKind::Gauge => b" gauge\n",
        FamilyKind::Histogram => b" histogram\n",
    });
}

fn write_histogram(out: &mut Vec<u8>, name: &[u8], labels: &[u8], histogram: &HistogramValue) {
    let HistogramValue { sum, bounds, counts, native: _ } = histogram;
    let mut cumulative = 0;
    let mut buffer = dtoa::Buffer::new();
    for (index, count) in counts.iter().enumerate() {
        cumulative += count;
        // `1.0` and not `1`, as in the other two formats: to Prometheus before version 3 the spelling is
        // part of the series, and a change of format must not start a new one.
        let bound = bounds.get(index).map_or("+Inf", |bound| buffer.format_finite(*bound));
        write_series(out, name, b"_bucket", labels, Some(bound));
        write_count(out, cumulative);
        out.push(b'\n');
    }
    write_series(out, name, b"_sum", labels, None);
    write_number(out, *sum);
    out.push(b'\n');
    write_series(out, name, b"_count", labels, None);
    write_count(out, cumulative);
    out.push(b'\n');
}

/// Everything before the value: `name_suffix{labels,le="bound"} `.
fn write_series(out: &mut Vec<u8>, name: &[u8], suffix: &[u8], labels: &[u8], bound: Option<&str>) {
    out.extend_from_slice(name);
    out.extend_from_slice(suffix);
    if !labels.is_empty() || bound.is_some() {
        out.push(b'{');
        out.extend_from_slice(labels);
        if let Some(bound) = bound {
            if !labels.is_empty() {
                out.push(b',');
            }
            out.extend_from_slice(b"le=\"");
            out.extend_from_slice(bound.as_bytes());
            out.push(b'"');
        }
        out.push(b'}');
    }
    out.push(b' ');
}

fn write_count(out: &mut Vec<u8>, count: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
}

fn write_number(out: &mut Vec<u8>, number: f64) {
    if number.is_finite() {
        let mut buffer = dtoa::Buffer::new();
        let text = buffer.format_finite(number);
        out.extend_from_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes());
    } else if number.is_nan() {
        out.extend_from_slice(b"NaN");
    } else {
        out.extend_from_slice(if number > 0.0 { b"+Inf" } else { b"-Inf" });
    }
}

/// Help escapes backslash and line feed, label values the double quote as well.
fn escape(out: &mut Vec<u8>, text: &str, quotes: bool) {
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| match byte {
        b'\\' | b'\n' => true,
        b'"' => quotes,
        _ => false,
    }) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(&[b'\\', if rest[at] == b'\n' { b'n' } else { rest[at] }]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}
