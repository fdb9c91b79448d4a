//! An exporter without a kernel: the array of the example with everything belonging to it, as families that grow with time,
//! served by the real server. It is for tests of queries; other tests check that the exporter counts correctly.

use super::families;
use std::{
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant, UNIX_EPOCH},
};
use tapster::{
    family::{FamilyKind, HistogramValue, MetricFamily, Native, Sample, SampleValue},
    server,
    source::{Selection, Source},
    status::{ProbeStatus, UnreadyReason},
};

/// I/Os per second, of each member and operation.
const IOS_PER_SECOND: f64 = 200.0;
/// How long an I/O takes on the normal members, and on the slow one.
pub const FAST: f64 = 0.000_1;
pub const SLOW: f64 = 0.05;
/// The members: seven RAM disks and a device-mapper device.
pub const MEMBERS: [&str; 8] = ["ram0", "ram1", "ram2", "ram3", "ram4", "ram5", "ram6", "dm-0"];

/// The families of the example.
#[derive(Debug)]
struct Story {
    begun: Instant,
}

/// `count` observations of `value`.
fn histogram(count: u64, value: f64) -> SampleValue {
    let bounds: Arc<[f64]> = (-14..4).map(|exponent| f64::from(exponent).exp2()).collect();
    let mut counts = vec![0; bounds.len() + 1];
    counts[bounds.iter().position(|bound| value <= *bound).unwrap_or(bounds.len())] = count;
    #[expect(clippy::cast_possible_truncation, reason = "a small number")]
    let index = (value.log2() * 8.0).ceil() as i32;
    let native = Native {
        schema: 3,
        zero_threshold: 1e-9,
        highest: 8.0,
        zero_count: 0,
        buckets: vec![(index, count)],
    };
    SampleValue::Histogram(HistogramValue { sum: count as f64 * value, bounds, counts, native: Some(native) })
}

/// Label sets of a family: one for each value of the labels with several values.
fn label_sets(name: &str, labels: &[&str]) -> Vec<Vec<String>> {
    let is_array = labels.contains(&"array");
    let values = |label: &str| -> &[&str] {
        match label {
            "state" if !is_array => &["interruptible", "uninterruptible"],
            "reason" if !labels.contains(&"probe") => &["direct_io", "epoll", "unknown"],
            "kind" if labels.contains(&"device") => &["md"],
            "kind" if name == "tapster_kernel_warnings_total" => &["bug"],
            "kind" if !is_array => &["voluntary", "involuntary", "from_idle"],
            "array" | "name" => &["md0"],
            "level" => &["raid0"],
            "kind" => &["md"],
            "device" if name == "tapster_block_device_info" => &["md0", "sda", "dm-0"],
            "device" => &["md0", "sda"],
            // A disk that is no path of a multipath disk, and of which little is known.
            "path" | "vendor" | "revision" | "transport" | "enclosure" | "rotational" | "scheduler"
            | "group" | "backing_file" => &[""],
            "operation" => &["read", "write"],
            "state" => &["clean", "active"],
            "action" => &["idle", "check"],
            "probe" => &["block_io", "raid_member", "sched_off_cpu"],
            "object" => &["file", "cpu", "module"],
            "reason" => &["max_series"],
            "attach_point" => &["rawtracepoint:block:block_bio_queue"],
            "mechanism" => &["tp_btf"],
            "filesystem" => &["ext4"],
            "result" if name.starts_with("tapster_otlp_") => &families::RESULTS,
            "result" => &["hit", "miss"],
            "syscall" => &["openat"],
            "error" => &["ok", "ENOENT"],
            "comm" => &["postgres"],
            "command" => &["query"],
            "port" => &["443"],
            "function" => &["tcp_v4_rcv"],
            "signal" => &["SIGKILL"],
            "code" => &["1"],
            "softirq" => &["NET_RX"],
            "irq" => &["24"],
            "handler" => &["virtio0"],
            "module" => &["loop"],
            "mode" => &["async"],
            "cgroup" => &["/kubepods"],
            "server" => &["10.0.0.10"],
            "interface" => &["eth0"],
            "queue" => &["fq_codel"],
            "protocol" => &["tcp"],
            "access" => &["random", "sequential"],
            "wait" => &["no", "yes"],
            "capability" => &["CAP_SYS_ADMIN"],
            "k8s_namespace_name" => &["shop"],
            "k8s_pod_name" => &["web-7d4b9c-x2k8q"],
            "k8s_container_name" => &["nginx"],
            "after" => &["wakeup", "preemption"],
            "version" => &["0.0.0"],
            "source" => &["arrays", "cgroups"],
            "disk" | "backing_device" => &["sda"],
            "model" => &["VIRTUAL-DISK"],
            "serial" | "wwn" => &["S1"],
            "slot" => &["3"],
            _ => panic!("no values for the label `{label}`"),
        }
    };
    let mut sets: Vec<Vec<String>> = vec![Vec::new()];
    let is_of_member = |label: &&&str| matches!(**label, "member" | "slot") && labels.contains(&"member");
    for label in labels.iter().filter(|label| !is_of_member(label)) {
        let longer = |set: &Vec<String>| {
            let set = set.clone();
            values(label)
                .iter()
                .map(move |value| [set.clone(), vec![(*value).to_owned()]].concat())
                .collect::<Vec<_>>()
        };
        sets = sets.iter().flat_map(longer).collect();
    }
    let Some(at) = labels.iter().position(|label| *label == "member") else { return sets };
    let with_member = |(slot, member): (usize, &&str)| {
        let (slot, member) = (slot.to_string(), (*member).to_owned());
        sets.iter()
            .map(move |set| {
                [set[..at].to_vec(), vec![member.clone(), slot.clone()], set[at..].to_vec()].concat()
            })
            .collect::<Vec<_>>()
    };
    MEMBERS.iter().enumerate().flat_map(with_member).collect()
}

impl Story {
    fn family(&self, name: &str, kind: FamilyKind, labels: &[&str]) -> MetricFamily {
        let mut family = MetricFamily::new(name, "A family of the story.", kind, labels);
        let seconds = self.begun.elapsed().as_secs_f64();
        let states = labels.iter().any(|label| matches!(*label, "state" | "action"));
        for set in label_sets(name, labels) {
            // One of the states of an array is the current one; a member has one state.
            if name == "tapster_raid_member_info" && set.last().is_some_and(|state| state != "clean") {
                continue;
            }
            let current = matches!(set.last().map(String::as_str), Some("clean" | "idle"));
            let value = match kind {
                FamilyKind::Counter => SampleValue::Number(seconds.floor()),
                FamilyKind::Gauge if name.ends_with("_degraded") || name.ends_with("_left_out") => {
                    SampleValue::Number(0.0)
                }
                FamilyKind::Gauge if states && !current => SampleValue::Number(0.0),
                FamilyKind::Gauge if name == "tapster_probe_max_series" => SampleValue::Number(1024.0),
                // Pushes succeed.
                FamilyKind::Gauge if name == "tapster_otlp_last_success_timestamp_seconds" => {
                    SampleValue::Number(UNIX_EPOCH.elapsed().unwrap_or_default().as_secs_f64())
                }
                FamilyKind::Gauge => SampleValue::Number(1.0),
                FamilyKind::Histogram => {
                    let is_slow = set.iter().any(|value| value == "dm-0");
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "a small number"
                    )]
                    let count = (seconds * IOS_PER_SECOND) as u64;
                    histogram(count, if is_slow { SLOW } else { FAST })
                }
            };
            family.samples.push(Sample { labels: set.into(), value });
        }
        family
    }
}

impl Source for Story {
    fn select(&self, _: &Selection) -> Vec<MetricFamily> {
        let mut all = Vec::new();
        for (name, labels) in families::ARRAYS {
            all.push(self.family(name, FamilyKind::Gauge, labels));
        }
        // The server adds its own families.
        let is_of_server =
            |name: &str| ["tapster_scrape_", "tapster_web_"].iter().any(|of| name.starts_with(of));
        let own = families::OWN.iter().filter(|(name, _)| !is_of_server(name));
        for (name, labels) in own.chain(&families::PUSH) {
            let kind = if name.ends_with("_total") { FamilyKind::Counter } else { FamilyKind::Gauge };
            all.push(self.family(name, kind, if *name == "tapster_probe_up" { &["probe"] } else { labels }));
        }
        for (name, kind, labels) in families::library() {
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            all.push(self.family(&name, kind, &labels));
        }
        all
    }

    fn status(&self) -> Vec<ProbeStatus> {
        Vec::new()
    }

    fn unready(&self) -> Option<UnreadyReason> {
        None
    }
}

/// The example, which began a minute ago, so that the first query has data.
pub fn story() -> Arc<dyn Source> {
    Arc::new(Story { begun: Instant::now().checked_sub(Duration::from_mins(1)).unwrap_or_else(Instant::now) })
}

/// Serves the example until the test process ends.
pub fn serve() -> SocketAddr {
    serve_source(story())
}

/// Serves a source until the test process ends.
pub fn serve_source(source: Arc<dyn Source>) -> SocketAddr {
    let listener = server::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr();
    thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime
            .block_on(server::serve(
                vec![listener],
                source,
                server::ServerOptions::default(),
                std::future::pending(),
            ))
            .unwrap();
    });
    address
}
