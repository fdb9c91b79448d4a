//! The families of the exporter with their labels: the names that a dashboard or a rule may use.

use std::collections::BTreeMap;
use tapster::{config, family::FamilyKind};

/// Families about arrays and names of devices, from the topology; `tests/rules.rs` compares them with those of a topology.
pub const ARRAYS: [(&str, &[&str]); 9] = [
    (
        "tapster_block_device_info",
        &[
            "device",
            "kind",
            "name",
            "disk",
            "model",
            "vendor",
            "serial",
            "wwn",
            "revision",
            "path",
            "transport",
            "enclosure",
            "slot",
            "rotational",
            "scheduler",
            "group",
        ],
    ),
    ("tapster_block_device_backing_info", &["device", "backing_device", "backing_file"]),
    ("tapster_raid_member_info", &["array", "level", "member", "slot", "state"]),
    ("tapster_raid_array_info", &["array", "level", "kind", "name"]),
    ("tapster_raid_array_disks", &["array"]),
    ("tapster_raid_array_degraded", &["array"]),
    ("tapster_raid_array_state", &["array", "state"]),
    ("tapster_raid_array_sync_action", &["array", "action"]),
    ("tapster_raid_array_sync_completed_ratio", &["array"]),
];

/// Families about the exporter and its probes; `tests/rules.rs` compares them with a scrape.
pub const OWN: [(&str, &[&str]); 30] = [
    ("tapster_probe_up", &["probe", "reason"]),
    ("tapster_probe_dropped_total", &["probe", "reason"]),
    ("tapster_probe_unmatched_total", &["probe"]),
    ("tapster_probe_reattached_total", &["probe", "object"]),
    ("tapster_probe_series", &["probe"]),
    ("tapster_probe_max_series", &["probe"]),
    ("tapster_probe_memory_bytes", &["probe"]),
    ("tapster_probe_runs_total", &["probe", "attach_point", "mechanism"]),
    ("tapster_probe_run_seconds_total", &["probe", "attach_point", "mechanism"]),
    ("tapster_probe_missed_total", &["probe", "attach_point", "mechanism"]),
    ("tapster_probe_event_absent", &["probe", "attach_point"]),
    ("tapster_build_info", &["version"]),
    ("tapster_config_last_reload_successful", &[]),
    ("tapster_config_last_reload_success_timestamp_seconds", &[]),
    ("tapster_config_restart_required", &[]),
    ("tapster_scrape_duration_seconds", &[]),
    ("tapster_scrape_families_left_out", &[]),
    ("tapster_online_cpus", &[]),
    ("tapster_ready", &[]),
    ("tapster_source_age_seconds", &["source"]),
    ("tapster_web_connections", &["state"]),
    ("tapster_web_connections_closed_total", &["reason"]),
    ("tapster_web_accept_failures_total", &[]),
    ("tapster_web_refused_total", &["reason"]),
    ("tapster_log_lines_lost_total", &[]),
    ("process_cpu_seconds_total", &[]),
    ("process_resident_memory_bytes", &[]),
    ("process_virtual_memory_bytes", &[]),
    ("process_open_fds", &[]),
    ("process_start_time_seconds", &[]),
];

/// Families about pushes by OTLP, which the exporter serves while it pushes; `tests/rules.rs` compares them too.
pub const PUSH: [(&str, &[&str]); 8] = [
    ("tapster_otlp_pushes_total", &["result"]),
    ("tapster_otlp_points_total", &[]),
    ("tapster_otlp_rejected_points_total", &[]),
    ("tapster_otlp_sent_bytes_total", &[]),
    ("tapster_otlp_retries_total", &[]),
    ("tapster_otlp_push_seconds_total", &[]),
    ("tapster_otlp_last_success_timestamp_seconds", &[]),
    ("tapster_otlp_interval_seconds", &[]),
];

/// Families about stacks of programs, which the exporter serves if a probe has such stacks.
pub const STACKS: [(&str, &[&str]); 1] = [("tapster_symbols_unread_total", &["reason"])];

/// The kernel's own counts beside probes of the scheduler, which the exporter serves if there are any.
pub const SCHED: [(&str, &[&str]); 1] = [("tapster_host_context_switches_total", &[])];

/// Families about disks with I/O that caused no event, if there are any.
pub const ACCOUNT: [(&str, &[&str]); 1] = [("tapster_block_unseen_bytes", &["device"])];

/// Results of a push: the values of the label `result` of these families.
pub const RESULTS: [&str; 5] = ["taken", "partial", "held_back", "refused", "failed"];

/// Families that Prometheus itself adds, or another exporter.
const PROMETHEUS: [(&str, &[&str]); 5] = [
    ("up", &[]),
    ("scrape_duration_seconds", &[]),
    ("scrape_samples_scraped", &[]),
    ("ALERTS", &["alertname", "alertstate", "severity"]),
    // Of kube-state-metrics.
    ("kube_node_info", &["node"]),
];

/// Families about the web configuration, if there is one.
pub const WEB: [(&str, &[&str]); 1] = [("tapster_web_config_last_reload_successful", &[])];

/// Labels that Prometheus gives to every series.
pub const TARGET: [&str; 3] = ["cluster", "instance", "job"];

/// Families of the shipped probes: name, kind, labels.
pub fn library() -> Vec<(String, FamilyKind, Vec<String>)> {
    let mut families: Vec<(String, FamilyKind, Vec<String>)> = Vec::new();
    for probe in config::library().unwrap() {
        for (name, kind) in probe.families() {
            let name = format!("tapster_{}", name.value);
            // These families determine the labels of all shipped probes of waiting starts.
            let labels = probe.labels.iter().map(|label| label.name.value.clone()).collect();
            // A probe may exist several times, for different kernels.
            match families.iter().find(|(known, ..)| *known == name) {
                Some((_, _, known)) => {
                    assert_eq!(*known, labels, "`{name}` has other labels on other kernels");
                }
                None => families.push((name, kind, labels)),
            }
        }
    }
    families
}

/// Series by name, with their labels; a histogram by all its names as a classic and as a native one.
pub fn series() -> BTreeMap<String, Vec<String>> {
    let mut series = BTreeMap::new();
    for (name, labels) in ARRAYS
        .iter()
        .chain(&OWN)
        .chain(&PUSH)
        .chain(&WEB)
        .chain(&STACKS)
        .chain(&ACCOUNT)
        .chain(&SCHED)
        .chain(&PROMETHEUS)
    {
        series.insert((*name).to_owned(), labels.iter().map(ToString::to_string).collect());
    }
    for (name, kind, labels) in library() {
        if kind == FamilyKind::Histogram {
            let bucket = labels.iter().cloned().chain(["le".to_owned()]).collect();
            series.insert(format!("{name}_bucket"), bucket);
            series.insert(format!("{name}_sum"), labels.clone());
            series.insert(format!("{name}_count"), labels.clone());
        }
        series.insert(name, labels);
    }
    series
}
