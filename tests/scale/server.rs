//! A Prometheus over a block, and what it says of the cost of a query.

use super::fleet::NOW;
use serde_json::Value;
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};
use tapster_testing::{cases::Skip, http, prometheus::Prometheus};

/// `query.timeout` of Prometheus is two minutes.
const PATIENCE: Duration = Duration::from_secs(200);

/// What took longer is not asked again.
const ENOUGH: Duration = Duration::from_secs(3);

/// What a query took.
#[derive(Clone, Debug, Default)]
pub(crate) struct QueryCost {
    /// Series of the answer.
    pub(crate) series: usize,
    /// `totalQueryableSamples`: what was read.
    pub(crate) samples: u64,
    /// `peakSamples`: what `query.max-samples` limits.
    pub(crate) peak: u64,
    /// Of all threads of Prometheus, from the question to the last byte of the answer.
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
    /// It was refused or took too long.
    pub(crate) error: Option<String>,
}

/// The time that all threads of a process have had processors.
fn processor_time(process: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let nanoseconds = threads.flatten().filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}

pub(crate) struct FleetServer {
    prometheus: Prometheus,
}

impl FleetServer {
    /// Starts one over what is below `directory`.
    pub(crate) fn start(directory: &Path) -> Result<Self, Skip> {
        Ok(Self { prometheus: Prometheus::start_jobs(directory, "  []")? })
    }

    fn ask(&self, path: &str) -> (Result<Value, String>, QueryCost) {
        let process = self.prometheus.id();
        let (before, began) = (processor_time(process), Instant::now());
        let address = self.prometheus.address;
        let response = http::request_within(PATIENCE, address, "GET", &format!("/api/v1/{path}"), "");
        // The time of a thread that has ended is lost.
        let (wall, cpu) = (began.elapsed(), processor_time(process).saturating_sub(before));
        let mut cost = QueryCost { cpu, wall, ..QueryCost::default() };
        let response = match response {
            Ok(response) => response,
            Err(error) => {
                cost.error = Some(error.to_string());
                return (Err(error.to_string()), cost);
            }
        };
        let answer: Value =
            serde_json::from_slice(&response.body).unwrap_or_else(|error| panic!("{path}: {error}"));
        if answer["status"] != "success" {
            let error = answer["error"].as_str().unwrap_or_default().to_owned();
            cost.error = Some(error.clone());
            return (Err(error), cost);
        }
        let samples = &answer["data"]["stats"]["samples"];
        cost.samples = samples["totalQueryableSamples"].as_u64().unwrap_or_default();
        cost.peak = samples["peakSamples"].as_u64().unwrap_or_default();
        cost.series = match &answer["data"] {
            Value::Array(list) => list.len(),
            data => data["result"].as_array().map_or(0, Vec::len),
        };
        (Ok(answer["data"].clone()), cost)
    }

    /// Of a question that is asked twice, the cheaper: the first reads the block from disk.
    fn cheaper(&self, path: &str) -> QueryCost {
        let (_, first) = self.ask(path);
        if first.error.is_some() || first.wall > ENOUGH {
            return first;
        }
        let (_, second) = self.ask(path);
        if second.error.is_none() && second.cpu < first.cpu { second } else { first }
    }

    /// The answer of an expression now.
    pub(crate) fn answer(&self, expr: &str) -> Result<Value, String> {
        self.ask(&format!("query?time={NOW}&query={}", http::escape(expr))).0
    }

    /// The cost of a rule: without its answer's way through JSON, which no rule takes.
    pub(crate) fn rule(&self, expr: &str) -> QueryCost {
        let path = |expr: &str| format!("query?time={NOW}&stats=all&query={}", http::escape(expr));
        let counted = format!("count({expr}\n)");
        let mut cost = self.cheaper(&path(&counted));
        match &cost.error {
            // A number has no series to be counted.
            Some(error) if error.contains("parse error") => return self.cheaper(&path(expr)),
            Some(_) => return cost,
            None => {}
        }
        let count =
            self.answer(&counted).ok().and_then(|data| data["result"][0]["value"][1].as_str()?.parse().ok());
        cost.series = count.unwrap_or(0);
        cost
    }

    pub(crate) fn instant(&self, expr: &str) -> QueryCost {
        self.cheaper(&format!("query?time={NOW}&stats=all&query={}", http::escape(expr)))
    }

    pub(crate) fn range(&self, expr: &str, seconds: i64, step: i64) -> QueryCost {
        // As Grafana asks: at multiples of the step.
        let end = NOW / step * step;
        let start = (NOW - seconds) / step * step;
        let query = http::escape(expr);
        self.cheaper(&format!("query_range?start={start}&end={end}&step={step}&stats=all&query={query}"))
    }

    /// The values of a label, as a variable of a dashboard gets them.
    pub(crate) fn values(&self, selector: &str, label: &str, seconds: i64) -> QueryCost {
        let selector = http::escape(selector);
        self.cheaper(&format!("label/{label}/values?start={}&end={NOW}&match[]={selector}", NOW - seconds))
    }
}
