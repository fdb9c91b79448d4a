//! A report for programs. `docs/report.md` describes its form; existing keys do not change while `schema` is 1.

use super::{
    Report,
    measure::{LargestBasis, Measurement, MetricForm, MetricTable, TableRow},
};
use crate::{family::Bucket, watch::WatchEnd};
use serde_json::{Map, Value, json};
use std::os::unix::process::ExitStatusExt;

/// A report as JSON.
pub fn json(report: &Report) -> Value {
    let ended_by = match report.end {
        WatchEnd::Time => "time",
        WatchEnd::Interrupt => "interrupt",
        WatchEnd::Command(_) => "command",
    };
    let status = match report.end {
        WatchEnd::Command(status) => Some(status),
        WatchEnd::Time | WatchEnd::Interrupt => None,
    };
    // A command that goes on has no status yet.
    let command = (!report.command.is_empty()).then(|| {
        json!({
            "arguments": report.command,
            "status": status.and_then(|status| status.code()),
            "signal": status.and_then(|status| status.signal()),
        })
    });
    let probes: Vec<Value> = report
        .probes
        .iter()
        .map(|probe| {
            json!({
                "name": probe.name,
                "up": probe.down.is_none(),
                "reason": probe.down.as_ref().map(|down| down.cause.word()),
                "message": probe.down.as_ref().map(|down| down.message.as_str()),
                "unmatched": probe.unmatched.map(number),
            })
        })
        .collect();
    let losses: Vec<Value> = report
        .losses
        .iter()
        .map(|loss| json!({ "probe": loss.probe, "reason": loss.reason, "count": number(loss.count) }))
        .collect();
    json!({
        "schema": 1,
        "seconds": report.elapsed.as_secs_f64(),
        "ended_by": ended_by,
        "command": command,
        "probes": probes,
        "metrics": report.tables.iter().map(metric).collect::<Vec<_>>(),
        "losses": losses,
    })
}

fn metric(table: &MetricTable) -> Value {
    let kind = match table.metric.kind {
        MetricForm::Histogram => "histogram",
        MetricForm::Counter => "counter",
        MetricForm::Gauge | MetricForm::Waiting => "gauge",
        MetricForm::Max => "max",
    };
    let rows: Vec<Value> = table
        .rows
        .iter()
        .map(|row| {
            let labels: Map<String, Value> =
                table.label_names.iter().cloned().zip(row.labels.iter().cloned().map(Value::from)).collect();
            let mut object = Map::from_iter([("labels".to_owned(), labels.into())]);
            object.extend(figures(table, row));
            object.into()
        })
        .collect();
    let sum = |row: &Option<TableRow>| row.as_ref().map(|row| Value::from(figures(table, row)));
    json!({
        "name": table.metric.name,
        "probe": table.metric.probe,
        "help": table.help,
        "kind": kind,
        "unit": table.metric.unit.name(),
        "labels": table.label_names.to_vec(),
        "sentences": table.sentences,
        "rows": rows,
        "rows_left_out": table.left_out,
        "rest": sum(&table.rest),
        "all": sum(&table.all),
    })
}

fn figures(table: &MetricTable, row: &TableRow) -> Map<String, Value> {
    let mut object = Map::new();
    let mut set = |name: &str, value: Value| {
        object.insert(name.to_owned(), value);
    };
    match &row.measured {
        Measurement::Histogram(histogram, largest) => {
            set("count", histogram.count().into());
            set("sum", number(histogram.sum));
            set("average", histogram.mean().map_or(Value::Null, number));
            let quantile = |q| row.quantile(q).map_or(Value::Null, number);
            set(
                "quantiles",
                json!({ "0.5": quantile(0.5), "0.9": quantile(0.9), "0.99": quantile(0.99), "0.999": quantile(0.999) }),
            );
            let max = largest.map(|largest| {
                let source = match largest.source {
                    LargestBasis::Bucket => "bucket",
                    LargestBasis::Above => "above",
                    LargestBasis::Metric => "metric",
                };
                json!({ "value": number(largest.value), "source": source })
            });
            set("max", max.unwrap_or(Value::Null));
            set("buckets", histogram.buckets().iter().map(bucket).collect());
        }
        Measurement::Number(value) => {
            set("value", number(*value));
            if table.metric.kind == MetricForm::Counter {
                set("per_second", number(value / table.seconds.max(1e-9)));
            }
        }
    }
    if matches!(table.metric.kind, MetricForm::Histogram | MetricForm::Counter) {
        set("share", row.share.map_or(Value::Null, number));
    }
    object
}

fn bucket(bucket: &Bucket) -> Value {
    json!({ "above": number(bucket.lower), "le": number(bucket.upper), "count": bucket.count })
}

/// Writes whole numbers without a point; JSON has no infinity, which becomes `null`.
fn number(value: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "checked: whole, and far from the end of an i64")]
    if value.fract() == 0.0 && value.abs() < 9e15 {
        return (value as i64).into();
    }
    value.into()
}
