//! An independent observer in the kernel: `bpftrace` on the block tracepoints.
//!
//! It does not track single bios. Summed over sectors, completion times less submission times are the total time that all
//! sectors waited, however bios are split, merged or completed; divided by the number of sectors, that is the mean latency of
//! bios of one size.

use super::{cases::Skip, command::tool, exporter::within};
use serde_json::Value;
use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdout, Stdio},
    sync::mpsc,
    time::Duration,
};

const PROGRAM: &str = r#"
BEGIN { @base = nsecs; printf("ready\n"); }
tracepoint:block:block_bio_queue /args->nr_sector/ {
    @queue_time[args->dev] = sum((nsecs - @base) * args->nr_sector);
    @queue_sectors[args->dev] = sum(args->nr_sector);
    @bios[args->dev] = count();
}
tracepoint:block:block_bio_complete /args->nr_sector/ {
    @bio_time[args->dev] = sum((nsecs - @base) * args->nr_sector);
    @bio_sectors[args->dev] = sum(args->nr_sector);
}
tracepoint:block:block_rq_complete /args->nr_sector/ {
    @request_time[args->dev] = sum((nsecs - @base) * args->nr_sector);
    @request_sectors[args->dev] = sum(args->nr_sector);
}
"#;

/// A running observer.
#[derive(Debug)]
pub struct Observer {
    child: Child,
    output: BufReader<ChildStdout>,
}

/// Its measurement of one device.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub bios: i64,
    pub sectors: i64,
    /// Mean time of a sector from submission to completion, seconds; `None` if it missed an event.
    pub mean: Option<f64>,
}

impl Observer {
    pub fn start() -> Result<Self, Skip> {
        let mut command = tool("bpftrace")?;
        command
            .args(["-q", "-f", "json", "-e", PROGRAM])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| Skip(format!("bpftrace: {error}")))?;
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while output.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
            if line.contains("ready") {
                return Ok(Self { child, output });
            }
            line.clear();
        }
        let _ = child.wait();
        Err(Skip("bpftrace does not run here".into()))
    }

    /// Ends it and returns its measurements, by the kernel's device number.
    pub fn stop(mut self) -> HashMap<u64, Seen> {
        let pid = i32::try_from(self.child.id()).unwrap();
        let mut text = String::new();
        let (done, ended) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                // A signal that comes while it is still attaching may be lost, so it is sent again.
                for signal in [libc::SIGINT; 6].into_iter().chain([libc::SIGKILL]) {
                    // SAFETY: it reads no memory of ours, and the process is a child that has not been waited for.
                    unsafe { libc::kill(pid, signal) };
                    if ended.recv_timeout(Duration::from_secs(5)) != Err(mpsc::RecvTimeoutError::Timeout) {
                        return;
                    }
                }
            });
            self.output.read_to_string(&mut text).unwrap();
            drop(done);
        });
        let mut maps: HashMap<String, HashMap<u64, i64>> = HashMap::new();
        for line in text.lines() {
            let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
            for (name, map) in line["data"].as_object().into_iter().flatten() {
                for (key, value) in map.as_object().into_iter().flatten() {
                    if let (Ok(key), Some(value)) = (key.parse(), value.as_i64()) {
                        maps.entry(name.clone()).or_default().insert(key, value);
                    }
                }
            }
        }
        let get =
            |map: &str, device: u64| maps.get(map).and_then(|map| map.get(&device)).copied().unwrap_or(0);
        let devices: Vec<u64> = maps.get("@bios").into_iter().flatten().map(|(device, _)| *device).collect();
        devices
            .into_iter()
            .map(|device| {
                // Devices with requests complete those; the others complete bios.
                let has_requests = get("@request_sectors", device) > 0;
                let kind = if has_requests { "@request" } else { "@bio" };
                let done = get(&format!("{kind}_time"), device);
                let sectors = get("@queue_sectors", device);
                let mean = (done - get("@queue_time", device)) as f64 / sectors as f64 / 1e9;
                let mean = (get(&format!("{kind}_sectors"), device) == sectors).then_some(mean);
                (device, Seen { bios: get("@bios", device), sectors, mean })
            })
            .collect()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        if within(Duration::from_secs(5), || matches!(self.child.try_wait(), Ok(Some(_)))).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The number of a device as in tracepoints.
pub fn number(device: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/sys/block/{device}/dev")).unwrap();
    let (major, minor) = text.trim().split_once(':').unwrap();
    major.parse::<u64>().unwrap() << 20 | minor.parse::<u64>().unwrap()
}
