//! The shipped probes of the network, of interrupts, processes and memory: as programs, the kernel's counts and its trace say.

use crate::{
    kernel::Kernel,
    machine::Results,
    support::{
        metrics::{Histogram, Metrics, whole},
        pods::Container,
        trace::{Event, Paired, Step, events, paired},
    },
};
use serde_json::Value;
use std::{collections::BTreeMap, ops::Range};

/// How far a duration may be off: the trace has microseconds, and emulated programs at one event run one after the other.
const CLOCKS_SECONDS: f64 = 60e-6;

/// A time, and what probes counted in it.
struct Counted {
    before: Metrics,
    after: Metrics,
}

impl Counted {
    fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.after.since(&self.before, &format!("tapster_{name}"), labels)
    }

    fn histogram(&self, name: &str, labels: &[(&str, &str)]) -> Histogram {
        self.after.histogram_since(&self.before, &format!("tapster_{name}"), labels)
    }
}

/// The numbers behind a word, of the first line that begins with it.
fn said(text: &str, word: &str) -> Vec<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
    let line = line.unwrap_or_else(|| panic!("no `{word}` in:\n{text}"));
    line.split(' ').map(|number| number.parse().unwrap()).collect()
}

/// Connections of a load that ended with this error.
fn connects(text: &str, error: i32) -> u64 {
    let begins = format!("connect {error} ");
    text.lines().filter(|line| line.starts_with(&begins)).count() as u64
}

fn network(kernel: &Kernel, results: &Results, counted: &Counted) -> String {
    let loads = ["connects", "resets", "datagrams", "lost", "lost-large", "unheard"];
    let all = |name: &str| {
        loads.iter().map(|load| said(results.text(load), &format!("kernel {name}"))[0]).sum::<u64>()
    };
    let error = |error: &str| counted.histogram("tcp_connect_duration_seconds", &[("error", error)]).count();
    for (name, number) in [
        ("ECONNREFUSED", libc::ECONNREFUSED),
        ("ETIMEDOUT", libc::ETIMEDOUT),
        ("ECANCELED", libc::ECANCELED),
        ("EADDRNOTAVAIL", libc::EADDRNOTAVAIL),
    ] {
        let own: u64 = loads.iter().map(|load| connects(results.text(load), number)).sum();
        assert_eq!(error(name), own, "{name}");
    }
    let ports = ["4241", "4243", "4245", "4246"];
    let accepted =
        ports.iter().map(|port| counted.count("tcp_accepts_total", &[("port", port)])).sum::<u64>();
    assert_eq!(accepted, all("PassiveOpens"), "PassiveOpens");
    let overflows = counted.count("tcp_listen_overflows_total", &[("port", "4243")]);
    assert_eq!(overflows, all("ListenOverflows"), "ListenOverflows");
    let segments = counted.count("tcp_retransmitted_segments_total", &[]);
    let answers = counted.count("tcp_retransmitted_synacks_total", &[]);
    assert_eq!(segments + answers, all("RetransSegs"), "RetransSegs");
    let lost: Vec<Vec<u64>> = ["lost", "lost-large"].map(|load| said(results.text(load), "lost")).to_vec();
    let bytes = counted.count("tcp_retransmitted_bytes_total", &[("state", "ESTABLISHED")]);
    assert_eq!(bytes, lost.iter().map(|lost| lost[1]).sum::<u64>(), "bytes, by TCP_INFO");
    let resets = |state: &str| counted.count("tcp_resets_received_total", &[("state", state)]);
    assert_eq!(resets("ESTABLISHED"), said(results.text("resets"), "reset")[0]);
    assert_eq!(resets("SYN_SENT"), error("ECONNREFUSED"));
    let sent = counted.count("tcp_resets_sent_total", &[]);
    let version: Vec<u32> = kernel.release.split('.').map_while(|word| word.parse().ok()).collect();
    if version >= vec![6, 10] {
        assert_eq!(sent, all("OutRsts"), "OutRsts");
        let no_socket = counted.count("tcp_resets_sent_total", &[("reason", "NO_SOCKET")]);
        assert_eq!(no_socket, error("ECONNREFUSED"), "resets for no socket");
    } else {
        // Those for no socket are silent.
        assert_eq!(sent, all("OutRsts") - error("ECONNREFUSED"), "OutRsts");
    }
    let lost = all("RcvbufErrors");
    assert_eq!(counted.count("udp_receive_drops_total", &[("port", "4244"), ("error", "ENOMEM")]), lost);
    if version >= vec![5, 17] {
        let drops = |reason: &str| counted.count("packet_drops_total", &[("reason", reason)]);
        assert_eq!(drops("SOCKET_RCVBUFF"), lost, "RcvbufErrors");
        assert_eq!(drops("NO_SOCKET"), all("NoPorts") + error("ECONNREFUSED"), "packets for no socket");
    }
    format!(
        "{segments} segments and {answers} answers again, {bytes} bytes, {sent} resets, {accepted} accepts, {overflows} SYNs without room, {lost} datagrams"
    )
}

fn processes(results: &Results, counted: &Counted, container: &Container) -> String {
    let ends = |signal: &str, code: &str| {
        counted.count("process_exits_total", &[("signal", signal), ("code", code)])
    };
    assert_eq!([ends("none", "77"), ends("none", "78"), ends("none", "79")], [12, 12, 4]);
    for signal in ["SIGKILL", "SIGUSR2", "SIGSEGV"] {
        let labels = [("comm", "ends-by-signal"), ("signal", signal)];
        assert_eq!(counted.count("process_killed_total", &labels), 12, "{signal}");
    }
    let lives = counted.histogram("process_lifetime_seconds", &[]);
    assert!(lives.count() >= 28 && lives.sum >= 3.0, "{} of {} s", lives.count(), lives.sum);
    let labels = [("comm", "ends-refused"), ("capability", "CAP_SYS_CHROOT")];
    let refused = counted.count("capability_refusals_total", &labels);
    assert_eq!(refused, said(results.text("refused"), "refused")[0]);
    let [first, second, third] = container.labels();
    let kills = counted.count("oom_kills_total", &[first, second, third, ("comm", "ends-greedy")]);
    assert_eq!(kills, said(results.text("memory.events"), "oom_kill")[0]);
    assert_eq!(kills, 3);
    assert_eq!(counted.count("module_loads_total", &[("module", "brd")]), 1);
    let faults = counted.count("major_page_faults_total", &[first, second, third, ("comm", "ends-faults")]);
    let own = said(results.text("faults"), "faults")[0];
    assert!(faults >= 50 && faults <= own, "{faults} faults, the program says {own}");
    format!("{kills} kills, {refused} refused, {faults} faults")
}

fn block(results: &Results, counted: &Counted, container: &Container) -> String {
    let json: Value = serde_json::from_str(results.text("fio.json")).unwrap();
    let side = &json["jobs"][0]["read"];
    let (ios, bytes) = (side["total_ios"].as_u64().unwrap(), side["io_bytes"].as_u64().unwrap());
    let device = [("device", "vdc"), ("operation", "read")];
    let [first, second, third] = container.labels();
    let path = counted.after.values("tapster_block_cgroup_io_total", &device, "cgroup");
    let path = path.into_iter().find(|path| path.ends_with(&container.path)).expect("the container's cgroup");
    for (who, labels) in [
        ("container", vec![first, second, third]),
        ("cgroup", vec![("cgroup", path.as_str())]),
        ("command", vec![("comm", "fio")]),
    ] {
        let labels = [&device[..], &labels].concat();
        let found = (
            counted.count(&format!("block_{who}_io_total"), &labels),
            counted.count(&format!("block_{who}_io_bytes_total"), &labels),
        );
        // fio looks at the device before it begins.
        assert!(
            found.0 >= ios && found.0 <= ios + 8 && found.1 >= bytes,
            "{who}: {found:?} of {ios} and {bytes}"
        );
        assert!(counted.after.sum(&format!("tapster_block_{who}_io_seconds_total"), &labels) > 0.0);
    }
    format!("{ios} reads by container, cgroup and command")
}

/// What the trace has of pairs, in a time and around it, and what a family counted.
fn assert_traced(
    counted: &Counted,
    (family, label): (&str, &str),
    trace: &[Event],
    (inner, outer): (&Range<u64>, &Range<u64>),
    step: impl Fn(&Event) -> Option<Step>,
) -> String {
    let [least, most] = [inner, outer].map(|during| paired(trace, during, &step));
    assert!(!least.is_empty(), "{family}: the trace has none");
    let mut total = Paired::default();
    for (value, most) in most {
        let labels = [(label, value.as_str())];
        let found = counted.histogram(family, if label.is_empty() { &[] } else { &labels });
        let least = least.get(&value).copied().unwrap_or_default();
        let what = format!("{family} of `{value}`");
        assert!(
            found.count() >= least.count && found.count() <= most.count,
            "{what}: {}, the trace says {least:?} to {most:?}",
            found.count()
        );
        let slack = most.count as f64 * CLOCKS_SECONDS;
        assert!(
            found.sum + slack >= least.seconds && found.sum <= most.seconds + slack,
            "time: {what}: {} s, the trace says {least:?} to {most:?}",
            found.sum
        );
        total.count += found.count();
        total.seconds += found.sum;
    }
    format!("{} of {family} in {:.3} s", total.count, total.seconds)
}

fn traced(results: &Results, counted: &Counted) -> Vec<String> {
    let trace = events(results.text("events.trace"));
    let mark = |text: &str| {
        let found = trace.iter().find(|event| event.name == "tracing_mark_write" && event.fields == text);
        found.unwrap_or_else(|| panic!("no mark `{text}`")).ns
    };
    let times = (&(mark("begun")..mark("ended")), &(mark("first")..mark("last")));
    let softirqs = |event: &Event| {
        let kind = event.fields.split_once("action=").map(|(_, kind)| kind.trim_end_matches(']').to_owned());
        match &*event.name {
            "softirq_entry" => Some(Step::Start(event.cpu.to_string(), kind?)),
            "softirq_exit" => Some(Step::End(event.cpu.to_string())),
            _ => None,
        }
    };
    let function = |event: &Event| event.field("function").trim_end_matches(']').to_owned();
    let work = |event: &Event| event.field("struct").trim_end_matches(':').to_owned();
    let waits = |event: &Event| match &*event.name {
        "workqueue_queue_work" => Some(Step::Start(work(event), function(event))),
        "workqueue_execute_start" => Some(Step::End(work(event))),
        _ => None,
    };
    let runs = |event: &Event| match &*event.name {
        "workqueue_execute_start" => Some(Step::Start(event.tid.to_string(), function(event))),
        "workqueue_execute_end" => Some(Step::End(event.tid.to_string())),
        _ => None,
    };
    let reclaim = |event: &Event| {
        let (kind, end) = event.name.strip_prefix("mm_vmscan_")?.rsplit_once('_')?;
        let key = format!("{} {kind}", event.tid);
        Some(if end == "begin" { Step::Start(key, String::new()) } else { Step::End(key) })
    };
    let compaction = |event: &Event| match &*event.name {
        "mm_compaction_begin" => Some(Step::Start(event.tid.to_string(), String::new())),
        "mm_compaction_end" => Some(Step::End(event.tid.to_string())),
        _ => None,
    };
    vec![
        assert_traced(counted, ("softirq_run_duration_seconds", "softirq"), &trace, times, softirqs),
        assert_traced(counted, ("workqueue_wait_duration_seconds", "function"), &trace, times, waits),
        assert_traced(counted, ("workqueue_run_duration_seconds", "function"), &trace, times, runs),
        assert_traced(counted, ("memory_reclaim_duration_seconds", ""), &trace, times, reclaim),
        assert_traced(counted, ("memory_compaction_duration_seconds", ""), &trace, times, compaction),
        interrupts(counted, &trace, times),
    ]
}

fn interrupts(counted: &Counted, trace: &[Event], (inner, outer): (&Range<u64>, &Range<u64>)) -> String {
    let step = |event: &Event| {
        let key = format!("{} {}", event.cpu, event.field("irq"));
        match &*event.name {
            "irq_handler_entry" => Some(Step::Start(key, event.field("name").to_owned())),
            "irq_handler_exit" => Some(Step::End(key)),
            _ => None,
        }
    };
    let [least, most] = [inner, outer].map(|during| paired(trace, during, step));
    assert!(!least.is_empty(), "the trace has no interrupts");
    let of = |all: &BTreeMap<String, Paired>, name: &str| all.get(name).map_or(0, |of| of.count);
    for name in most.keys() {
        let found = counted.count("interrupts_total", &[("handler", name)]);
        let (least, most) = (of(&least, name), of(&most, name));
        assert!(found >= least && found <= most, "{name}: {found}, the trace says {least} to {most}");
    }
    format!("{} interrupts", most.values().map(|of| of.count).sum::<u64>())
}

pub(crate) fn check(kernel: &Kernel, results: &Results) -> String {
    let counted = |before: &str, after: &str| Counted {
        before: results.metrics(before),
        after: results.metrics(after),
    };
    let (caused, recorded) = (counted("before.prom", "after.prom"), counted("begun.prom", "ended.prom"));
    for reason in ["max_series", "max_inflight", "busy", "fault"] {
        let lost = recorded.after.sum("tapster_probe_dropped_total", &[("reason", reason)]);
        assert_eq!(whole(lost), 0, "{reason}");
    }
    let container = Container::all("v2").remove(0);
    let mut figures = vec![
        network(kernel, results, &caused),
        processes(results, &caused, &container),
        block(results, &caused, &container),
    ];
    figures.extend(traced(results, &recorded));
    figures.join("; ")
}
