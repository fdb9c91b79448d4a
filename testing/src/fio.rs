//! Load by `fio`, and its own report.

use super::{
    cases::Skip,
    command::{text, tool},
};
use serde_json::Value;
use std::{path::Path, process::Command};

/// Percentiles that are requested.
pub const PERCENTILES: [f64; 8] = [1.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0];

/// `fio` counts latencies in buckets 1/64 of a power of two wide and reports their middle.
pub const PERCENTILE_ERROR: f64 = 1.0 / 64.0;

#[derive(Clone, Debug)]
pub struct Job<'a> {
    pub target: &'a Path,
    /// In fio's words: `randread`, `write`, …
    pub pattern: &'a str,
    pub block_bytes: u64,
    pub depth: u32,
    /// Bytes that are read or written, each block once.
    pub bytes: u64,
    pub extra: &'a [&'a str],
}

/// fio's report about one direction.
#[derive(Clone, Debug)]
pub struct Report {
    pub ios: u64,
    pub bytes: u64,
    pub runtime_ms: u64,
    /// From before the submission until the completion was fetched, in seconds.
    pub mean: f64,
    pub percentiles: Vec<(f64, f64)>,
    /// Number of `fsync` calls.
    pub syncs: u64,
}

impl Job<'_> {
    pub fn operation(&self) -> &'static str {
        if self.pattern.contains("read") { "read" } else { "write" }
    }

    pub fn name(&self) -> String {
        format!("{} {} KiB depth {}", self.pattern, self.block_bytes >> 10, self.depth)
    }

    pub fn run(&self) -> Result<Report, Skip> {
        Ok(self.run_by(tool("fio")?))
    }

    /// Runs it by a command that executes `fio` with additional arguments.
    pub fn run_by(&self, mut command: Command) -> Report {
        let percentiles: Vec<String> = PERCENTILES.iter().map(ToString::to_string).collect();
        command
            .args(["--name=job", "--ioengine=libaio", "--direct=1", "--thread", "--output-format=json"])
            // The clock that eBPF programs read, so that times can be compared to the nanosecond.
            .arg("--clocksource=clock_gettime")
            // Only the job itself accesses the device.
            .args(["--invalidate=0", "--allow_file_create=0", "--randrepeat=1"])
            .args(["--lat_percentiles=1", &format!("--percentile_list={}", percentiles.join(":"))])
            .arg(format!("--filename={}", self.target.display()))
            .arg(format!("--rw={}", self.pattern))
            .arg(format!("--bs={}", self.block_bytes))
            .arg(format!("--iodepth={}", self.depth))
            .arg(format!("--size={}", self.bytes))
            .args(self.extra);
        let output = text(&mut command);
        let json: Value =
            serde_json::from_str(&output[output.find('{').expect("fio prints JSON")..]).unwrap();
        let job = &json["jobs"][0];
        assert_eq!(job["error"], 0, "fio: {output}");
        let side = &job[self.operation()];
        let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("not a number: {value}"));
        let latency = &side["lat_ns"];
        let found = latency["percentile"].as_object().into_iter().flatten();
        let mut percentiles: Vec<(f64, f64)> =
            found.map(|(key, ns)| (key.parse().unwrap(), ns.as_f64().unwrap() / 1e9)).collect();
        percentiles.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        Report {
            ios: number(&side["total_ios"]),
            bytes: number(&side["io_bytes"]),
            runtime_ms: number(&side["runtime"]),
            mean: latency["mean"].as_f64().unwrap() / 1e9,
            percentiles,
            syncs: job["sync"]["total_ios"].as_u64().unwrap_or(0),
        }
    }
}
