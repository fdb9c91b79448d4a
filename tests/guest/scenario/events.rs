//! What functions of the kernel tell: cgroups that are held back, beside their `cpu.stat`, and queues of listeners, beside the program
//! and `/proc/net/netstat`. And name servers and lines of the log, of which kernels tell in ways of their own.

use super::number;
use crate::{
    kernel::Kernel,
    machine::Results,
    support::metrics::{Metrics, whole},
};

/// Ports of `tests/programs/network.c`: of a listener that accepts at once, and of one that does not.
const OPEN: (&str, &str) = ("port", "4241");
const FULL: (&str, &str) = ("port", "4243");

fn held_back(kernel: &Kernel, results: &Results, before: &Metrics, after: &Metrics) -> String {
    let stat = results.text("held");
    let (periods, counted) = (number(stat, "nr_throttled"), number(stat, "throttled_usec") as f64 / 1e6);
    let labels = [("k8s_pod_name", "~none"), ("k8s_container_name", "~none")];
    let times = after.since(before, "tapster_cpu_throttles_total", &labels);
    let sum = |metrics: &Metrics| metrics.sum("tapster_cpu_throttled_seconds_total", &labels);
    let seconds = sum(after) - sum(before);
    assert!(periods >= 20 && counted > 2.0, "{stat}");
    // In each of these periods one processor at least was held back.
    assert!(times >= periods - 1, "{times} times in {periods} periods");
    // Newer kernels hold back each task by itself, when it returns from the kernel, and count from then: after a tick, which takes longer
    // on an emulated processor.
    let later = if kernel.release.starts_with('7') { 0.02 * times as f64 } else { 0.0 };
    assert!(
        seconds > 0.95 * counted && seconds < 1.05 * counted + later,
        "{seconds} s, cpu.stat says {counted} s, {times} times"
    );
    format!("held back for {seconds:.2} s, cpu.stat {counted:.2} s, {times} times in {periods} periods")
}

fn listeners(results: &Results, before: &Metrics, after: &Metrics) -> String {
    let overflows = number(results.text("connects"), "kernel ListenOverflows");
    let found = after.since(before, "tapster_tcp_listen_overflows_total", &[FULL]);
    assert!(found == overflows && found >= 9, "{found} of {overflows} overflows");
    let queue = |port| after.histogram_since(before, "tapster_tcp_listen_queue_length", &[port]);
    // 60 are accepted at once; of two more the second finds the first.
    let open = queue(OPEN);
    let lengths: Vec<u64> = open.buckets.iter().take(3).map(|(_, count)| *count).collect();
    assert_eq!((lengths, whole(open.sum)), (vec![61, 1, 0], 1), "{:?}", open.buckets);
    let full = queue(FULL);
    assert!(full.count() > found, "{} SYNs, {found} too many", full.count());
    format!("{found} overflows, {} SYNs with the length of the queue", open.count() + full.count())
}

fn names(results: &Results, before: &Metrics, after: &Metrics) -> String {
    let (mut own, mut seconds) = (0.0, 0.0);
    for (family, server) in ["127.0.0.1", "0.0.0.0"].into_iter().enumerate() {
        for (code, result) in [(0, "ok"), (2, "server_failure"), (3, "no_such_name")] {
            let labels = [("server", server), ("result", result)];
            let found = after.histogram_since(before, "tapster_dns_answer_duration_seconds", &labels);
            assert_eq!(found.count(), 10, "{server} {result}");
            let begins = format!("answer {family} {code} ");
            let lines = results.text("names").lines().filter_map(|line| line.strip_prefix(&begins));
            own += lines.map(|ns| ns.parse::<f64>().unwrap() / 1e9).sum::<f64>();
            seconds += found.sum;
        }
    }
    // Questions take 20 ms, and 6 of 60 are asked twice.
    assert!(seconds > 66.0 * 0.02 && seconds < own, "{seconds} s, the program says {own} s");
    format!("60 answers in {seconds:.2} of {own:.2} s")
}

fn warnings(before: &Metrics, after: &Metrics) -> String {
    for kind in ["bug", "warning", "oops", "hung_task", "rcu_stall"] {
        let found = after.since(before, "tapster_kernel_warnings_total", &[("kind", kind)]);
        assert_eq!(found, 1, "{kind}");
    }
    "5 lines of the log".into()
}

pub(crate) fn check(kernel: &Kernel, results: &Results) -> String {
    let [before, after] = ["before", "after"].map(|when| results.metrics(&format!("{when}.prom")));
    for reason in ["max_series", "max_inflight", "busy", "fault"] {
        let lost = after.sum("tapster_probe_dropped_total", &[("reason", reason)]);
        assert_eq!(whole(lost), 0, "{reason}");
    }
    let figures = [
        held_back(kernel, results, &before, &after),
        listeners(results, &before, &after),
        names(results, &before, &after),
        warnings(&before, &after),
    ];
    figures.join("; ")
}
