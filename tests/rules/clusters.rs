//! Rules where the series of several clusters meet, with hosts of the same names: in a federation, in Thanos Ruler, in Mimir.

use crate::{
    support::{
        cases::{Outcome, Skip},
        exporter::within,
        fixture,
        prometheus::{Prometheus, answering},
        rule_tests::{self, AlertCase, RuleTest, RuleTestFile},
    },
    unit_test,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tapster::rules::{self, Settings, TEMPLATES};
use tapster_testing::durations;

/// Alerts of a whole cluster, which name it in their texts.
const OF_MANY: [&str; 2] = ["TapsterProbeDownOnMany", "TapsterMissing"];

/// The rules for one cluster.
fn of_cluster(cluster: &str, set: &[&str]) -> Settings {
    let mut settings = Settings::default();
    settings.set_selector(&format!("cluster=\"{cluster}\"")).unwrap();
    settings.set_cluster("cluster").unwrap();
    for set in set {
        settings.set(set).unwrap_or_else(|wrong| panic!("{set}: {wrong}"));
    }
    settings
}

/// The unit tests of a file that fire alerts, of which the series name no cluster.
fn read(file: &Path) -> RuleTestFile {
    let mut found = rule_tests::read(file);
    found.tests.retain(|test| {
        test.cases.iter().any(|case| !case.expected.is_empty())
            && !test.series.iter().any(|(series, _)| series.contains("cluster="))
    });
    found
}

/// The series of both clusters.
fn of_both(test: &RuleTest) -> Vec<Value> {
    let series = test.series.iter().flat_map(|(series, values)| {
        ["a", "b"].map(|cluster| {
            let series = series.replacen('{', &format!("{{cluster=\"{cluster}\","), 1);
            json!({ "series": series, "values": values })
        })
    });
    series.collect()
}

/// A text of an alert of a whole cluster names it.
fn named(alert: &str, text: &str, cluster: &str) -> String {
    match alert {
        "TapsterProbeDownOnMany" => text.replace(" hosts (", &format!(" hosts of {cluster} (")),
        "TapsterMissing" => text.replace(" has no tapster", &format!(" of {cluster} has no tapster")),
        _ => text.to_owned(),
    }
}

/// What is expected of a case if these clusters fire.
fn expected(case: &AlertCase, clusters: &[&str]) -> Value {
    let alerts = clusters.iter().flat_map(|cluster| {
        case.expected.iter().map(move |(labels, annotations)| {
            let mut labels = labels.clone();
            labels.insert("cluster".into(), (*cluster).into());
            let annotations: BTreeMap<&String, String> =
                annotations.iter().map(|(key, text)| (key, named(&case.alert, text, cluster))).collect();
            json!({ "exp_labels": labels, "exp_annotations": annotations })
        })
    });
    json!({ "alertname": case.alert, "eval_time": case.at, "exp_alerts": alerts.collect::<Vec<_>>() })
}

/// Runs unit tests over rules of several clusters. JSON is YAML.
fn run(
    directory: &Path,
    rules: &[(&str, String)],
    every: &str,
    tests: &[Value],
) -> Result<Option<String>, Skip> {
    for (name, text) in rules {
        fs::write(directory.join(name), text).unwrap();
    }
    let names: Vec<&str> = rules.iter().map(|(name, _)| *name).collect();
    let file = directory.join("tests.yaml");
    let all = json!({ "rule_files": names, "evaluation_interval": every, "tests": tests });
    fs::write(&file, all.to_string()).unwrap();
    unit_test(&file)
}

/// The unit tests of every alert, with each series twice: by one copy of the rules that asks for no cluster, and by a copy for each.
pub(crate) fn every_alert_fires_in_either() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let mut fired = BTreeSet::new();
    for file in fixture::yaml_files("rules") {
        let RuleTestFile { template, every, tests } = read(&file);
        let (mut by_one, mut by_two) = (Vec::new(), Vec::new());
        for test in &tests {
            let series = of_both(test);
            let two: Vec<Value> = test.cases.iter().map(|case| expected(case, &["a", "b"])).collect();
            by_two.push(json!({ "interval": test.interval, "input_series": series, "alert_rule_test": two }));
            // Which disk it is, a copy that asks for no cluster cannot tell; whether it fires, it can.
            let fires = |case: &AlertCase| {
                let labels = |cluster: &str| json!({ "labels": format!("{{cluster=\"{cluster}\"}}"), "value": case.expected.len() });
                let expr = format!(
                    "count by (cluster) (ALERTS{{alertname=\"{}\",alertstate=\"firing\"}})",
                    case.alert
                );
                let samples = if case.expected.is_empty() { vec![] } else { vec![labels("a"), labels("b")] };
                json!({ "expr": expr, "eval_time": case.at, "exp_samples": samples })
            };
            let one: Vec<Value> =
                test.cases.iter().filter(|case| !OF_MANY.contains(&&*case.alert)).map(fires).collect();
            by_one
                .push(json!({ "interval": test.interval, "input_series": series, "promql_expr_test": one }));
            let firing = test.cases.iter().filter(|case| !case.expected.is_empty());
            fired.extend(firing.map(|case| case.alert.clone()));
        }
        if tests.is_empty() {
            continue;
        }
        let copy = |cluster: &str| rules::file(template, &of_cluster(cluster, &[]));
        let shipped = rules::file(template, &Settings::default());
        for (rules, tests) in [
            (vec![("all.yaml", shipped)], by_one),
            (vec![("a.yaml", copy("a")), ("b.yaml", copy("b"))], by_two),
        ] {
            if let Some(said) = run(directory.path(), &rules, &every, &tests)? {
                panic!("{}, {} copies of the rules:\n{said}", file.display(), rules.len());
            }
        }
    }
    let alerts = crate::queries::rules();
    for (name, _) in crate::alerts(&alerts) {
        assert!(fired.contains(name), "no unit test fires `{name}` in two clusters");
    }
    Ok(format!("{} alerts in either of two clusters", fired.len()))
}

/// For each alert with a threshold: one that keeps it quiet in cluster b.
const QUIET: [(&str, &str); 18] = [
    ("TapsterRaidMemberSlow", "raid_slow_excess_seconds=9000"),
    ("TapsterRaidMemberSlowOverHour", "raid_slow_ratio=9000"),
    ("TapsterRaidArraySlowerThanBefore", "raid_slow_history_ratio=9000"),
    ("TapsterRaidMemberStuck", "stuck_seconds=9000"),
    ("TapsterBlockIoStuck", "stuck_seconds=9000"),
    ("TapsterBlockPeerSlow", "peers_slow_excess_seconds=9000"),
    ("TapsterBlockSloBurning", "slo_ios_per_second=9000"),
    ("TapsterRunQueueSaturated", "run_queue_waiting_per_cpu=9000"),
    ("TapsterWakeupsLate", "run_queue_wakeup_seconds=9000"),
    ("TapsterTasksBlocked", "blocked_seconds=9000"),
    ("TapsterSleepUnexplained", "off_cpu_unexplained=1"),
    ("TapsterProbeDownOnMany", "probe_down_instances=9000"),
    ("TapsterSeriesNearLimit", "series_near_limit=1"),
    ("TapsterScrapeSlow", "scrape_slow_seconds=9000"),
    ("TapsterSourceSilent", "source_silent_seconds=900000"),
    ("TapsterPushFailing", "push_intervals=900000"),
    ("TapsterProbeSilent", "probe_silent_bytes=9000000000"),
    ("TapsterProbeSilent", "probe_silent_switches=900000"),
];

/// The same series in two clusters: the alert fires for the one whose threshold they are beyond.
pub(crate) fn thresholds_are_those_of_the_cluster() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let files: Vec<RuleTestFile> = fixture::yaml_files("rules").iter().map(|file| read(file)).collect();
    let mut alerts = 0;
    for (alert, quiet) in QUIET {
        for RuleTestFile { template, every, tests } in &files {
            let of_alert = |case: &&AlertCase| case.alert == alert && !case.expected.is_empty();
            let mut made = Vec::new();
            for test in tests {
                let cases: Vec<Value> = test
                    .cases
                    .iter()
                    .filter(of_alert)
                    .map(|case| {
                        // Of probes of two kinds one is quiet.
                        let mut found = expected(case, &["a"]);
                        if alert == "TapsterProbeSilent" {
                            let is_of_disks = quiet.starts_with("probe_silent_bytes");
                            let mut more = expected(case, &["b"]);
                            let more = more["exp_alerts"].as_array_mut().unwrap();
                            more.retain(|one| (one["exp_labels"]["probe"] == "block_io") != is_of_disks);
                            found["exp_alerts"].as_array_mut().unwrap().append(more);
                        }
                        found
                    })
                    .collect();
                if !cases.is_empty() {
                    made.push(json!({
                        "interval": test.interval, "input_series": of_both(test), "alert_rule_test": cases,
                    }));
                }
            }
            if made.is_empty() {
                continue;
            }
            let copies = [
                ("a.yaml", rules::file(template, &of_cluster("a", &[]))),
                ("b.yaml", rules::file(template, &of_cluster("b", &[quiet]))),
            ];
            if let Some(said) = run(directory.path(), &copies, every, &made)? {
                panic!("{alert}, with {quiet} in cluster b:\n{said}");
            }
            alerts += made.len();
        }
    }
    // Nine seconds, against a tenth of one and ten.
    let series = ["a", "b"].map(|cluster| {
        json!({
            "series": format!("tapster_scrape_duration_seconds{{cluster=\"{cluster}\",instance=\"h\",job=\"tapster\"}}"),
            "values": "9x30",
        })
    });
    let test = json!({
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": [{
            "expr": "sum by (cluster) (ALERTS{alertname=\"TapsterScrapeSlow\",alertstate=\"firing\"})",
            "eval_time": "20m",
            "exp_samples": [{ "labels": "{cluster=\"a\"}", "value": 1 }],
        }],
    });
    let template = TEMPLATES.iter().find(|template| template.file == "exporter.yaml").unwrap();
    let copies = [
        ("a.yaml", rules::file(template, &of_cluster("a", &["scrape_slow_seconds=0.1"]))),
        ("b.yaml", rules::file(template, &of_cluster("b", &["scrape_slow_seconds=10"]))),
    ];
    if let Some(said) = run(directory.path(), &copies, "1m", &[test])? {
        panic!("nine seconds:\n{said}");
    }
    Ok(format!("{alerts} tests fire in one cluster, and not in the other"))
}

/// By how much the rules are faster in the real Prometheus.
const FASTER: u32 = 60;
/// Alerts that take an hour, a day or a week even then.
const TOO_LONG: [&str; 3] =
    ["TapsterRaidMemberSlowOverHour", "TapsterRaidArraySlowerThanBefore", "TapsterRaidSyncLong"];

/// Everything that is wrong with a host, as it is after so many seconds.
fn ill(seconds: f64) -> String {
    let mut text = String::new();
    let mut put =
        |name: &str, labels: &str, value: f64| writeln!(text, "{name}{{{labels}}} {value}").unwrap();
    let n = seconds * 100.0;
    // The exporter. Without a gap before it, `increase` would not see what was there at the first scrape.
    put("tapster_build_info", "version=\"0\"", 1.0);
    put("tapster_probe_up", "probe=\"files\",reason=\"attach\"", 0.0);
    put("tapster_probe_up", "probe=\"block_io\"", 1.0);
    put("tapster_block_unseen_bytes", "device=\"sda\"", n * 1e6);
    put("tapster_probe_up", "probe=\"sched_switches\"", 1.0);
    put("tapster_host_context_switches_total", "", n * 10.0);
    put("tapster_probe_dropped_total", "probe=\"p\",reason=\"busy\"", n);
    put("tapster_probe_series", "probe=\"p\"", 95.0);
    put("tapster_probe_max_series", "probe=\"p\"", 100.0);
    put("tapster_scrape_families_left_out", "", 1.0);
    put("tapster_scrape_duration_seconds", "", 6.0);
    put("tapster_source_age_seconds", "source=\"arrays\"", 100.0);
    put("tapster_config_last_reload_successful", "", 0.0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    put("tapster_otlp_last_success_timestamp_seconds", "", now - 400.0);
    put("process_start_time_seconds", "", now - 4000.0);
    put("tapster_otlp_interval_seconds", "", 60.0);
    put("tapster_otlp_rejected_points_total", "", n);
    put("kube_node_info", "node=\"alone\"", 1.0);
    // Devices.
    put("tapster_block_io_errors_total", "device=\"sda\",operation=\"read\"", n);
    put("tapster_block_io_oldest_seconds", "device=\"sda\",operation=\"read\"", 40.0);
    for (device, takes) in [("sda", 0.001), ("sdb", 0.001), ("sdc", 0.1)] {
        put("tapster_block_device_info", &format!("device=\"{device}\",kind=\"disk\",group=\"osd\""), 1.0);
        let labels = format!("device=\"{device}\",operation=\"read\"");
        put("tapster_block_io_duration_seconds_count", &labels, n);
        put("tapster_block_io_duration_seconds_sum", &labels, n * takes);
        let within = if takes < 0.0625 { n } else { 0.0 };
        put("tapster_block_io_duration_seconds_bucket", &format!("{labels},le=\"0.0625\""), within);
        put("tapster_block_io_duration_seconds_bucket", &format!("{labels},le=\"+Inf\""), n);
    }
    // Arrays.
    for (slot, (member, takes)) in [("sda", 0.001), ("sdb", 0.001), ("sdc", 0.1)].into_iter().enumerate() {
        let labels =
            format!("array=\"md0\",level=\"raid5\",member=\"{member}\",slot=\"{slot}\",operation=\"read\"");
        put("tapster_raid_member_duration_seconds_count", &labels, n);
        put("tapster_raid_member_duration_seconds_sum", &labels, n * takes);
    }
    let stuck = "array=\"md1\",level=\"raid5\",member=\"sdd\",slot=\"0\",operation=\"write\"";
    put("tapster_raid_member_oldest_seconds", stuck, 40.0);
    put(
        "tapster_raid_member_info",
        "array=\"md1\",level=\"raid5\",member=\"sde\",slot=\"1\",state=\"faulty\"",
        1.0,
    );
    for (array, degraded) in [("md1", 1.0), ("md2", 2.0)] {
        put(
            "tapster_raid_array_info",
            &format!("array=\"{array}\",level=\"raid5\",kind=\"md\",name=\"\""),
            1.0,
        );
        put("tapster_raid_array_disks", &format!("array=\"{array}\""), 3.0);
        put("tapster_raid_array_degraded", &format!("array=\"{array}\""), degraded);
    }
    put("tapster_raid_array_state", "array=\"md3\",state=\"inactive\"", 1.0);
    put("tapster_raid_array_sync_action", "array=\"md4\",action=\"recover\"", 1.0);
    put("tapster_raid_array_sync_completed_ratio", "array=\"md4\"", 0.5);
    // Tasks.
    put("tapster_online_cpus", "", 2.0);
    for after in ["wakeup", "preemption"] {
        let labels = format!("after=\"{after}\"");
        put("tapster_run_queue_duration_seconds_count", &labels, n);
        put("tapster_run_queue_duration_seconds_sum", &labels, n);
        put("tapster_run_queue_duration_seconds_bucket", &format!("{labels},le=\"0.5\""), 0.0);
        put("tapster_run_queue_duration_seconds_bucket", &format!("{labels},le=\"1\""), n);
        put("tapster_run_queue_duration_seconds_bucket", &format!("{labels},le=\"+Inf\""), n);
    }
    for reason in ["direct_io", "unknown"] {
        let labels = format!("state=\"uninterruptible\",reason=\"{reason}\"");
        put("tapster_off_cpu_duration_seconds_count", &labels, n);
        put("tapster_off_cpu_duration_seconds_sum", &labels, n);
    }
    text
}

/// Serves that host until the test process ends.
fn serve(begun: Instant) -> SocketAddr {
    answering(move || {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4".to_owned();
        Some((head, ill(begun.elapsed().as_secs_f64()).into_bytes()))
    })
}

/// Every threshold out of reach.
fn deaf() -> Vec<String> {
    let set = |one: rules::Threshold| {
        let value: f64 = one.default.parse().unwrap();
        let to = match (one.unit.as_str(), one.name.as_str()) {
            (_, "slo_share") => 0.0,
            ("power of two", _) => value,
            ("share", _) => 1.0,
            _ => value * 1000.0,
        };
        format!("{}={to}", one.name)
    };
    rules::thresholds().into_iter().map(set).collect()
}

/// One Prometheus with three clusters, in each of which a host of the same name has everything that an alert is for, and another one
/// is down. Its rules are a copy for each cluster, of which the third has other thresholds.
pub(crate) fn alerts_of_a_real_prometheus(directory: &Path) -> Outcome {
    let directory = directory.join("clusters");
    fs::create_dir_all(&directory).unwrap();
    let begun = Instant::now();
    let deaf = deaf();
    let mut config = String::from(
        "global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}\nrule_files:\n",
    );
    let mut jobs = String::from("scrape_configs:\n  - job_name: tapster\n    static_configs:\n");
    let down = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for cluster in ["a", "b", "c"] {
        let mut set = vec!["probe_down_instances=1"];
        if cluster == "c" {
            set = deaf.iter().map(String::as_str).collect();
        }
        let settings = of_cluster(cluster, &set);
        for template in &TEMPLATES {
            let name = template.file.replace('/', "-");
            let file: PathBuf = directory.join(format!("{cluster}-{name}"));
            let text = durations::replace(&rules::file(template, &settings), |_, old| old / FASTER);
            fs::write(&file, text).unwrap();
            writeln!(config, "  - {}", file.display()).unwrap();
        }
        let address = serve(begun);
        for (target, instance) in [(address.to_string(), "host"), (down.to_string(), "down")] {
            // Two targets of one address and one set of labels would be one.
            writeln!(
                jobs,
                "      - {{targets: ['{target}'], labels: {{cluster: {cluster}, instance: {instance}}}}}"
            )
            .unwrap();
        }
    }
    let prometheus = Prometheus::start_with(&directory.join("prometheus"), &(config + &jobs))?;
    let alerts = crate::queries::rules();
    let all: BTreeSet<String> = crate::alerts(&alerts).map(|(name, _)| name.to_owned()).collect();
    let driven: BTreeSet<String> =
        all.iter().filter(|name| !TOO_LONG.contains(&name.as_str())).cloned().collect();
    let quiet: BTreeSet<&str> = QUIET.iter().map(|(name, _)| *name).collect();
    let firing = |cluster: &str| -> BTreeSet<String> {
        let found = prometheus.query(&format!("ALERTS{{cluster=\"{cluster}\",alertstate=\"firing\"}}"));
        found.into_iter().map(|(labels, _)| labels["alertname"].as_str().unwrap().to_owned()).collect()
    };
    let are_there = || firing("a") == driven && firing("b") == driven;
    let took = within(Duration::from_secs(150), are_there);
    let missing = |cluster: &str| driven.difference(&firing(cluster)).cloned().collect::<Vec<_>>();
    assert!(took.is_some(), "after {:?}: a: {:?}, b: {:?}", begun.elapsed(), missing("a"), missing("b"));
    let others: BTreeSet<String> =
        driven.iter().filter(|name| !quiet.contains(name.as_str())).cloned().collect();
    assert_eq!(firing("c"), others, "with other thresholds");
    let wrong = prometheus.api("rules");
    let groups = wrong["groups"].as_array().unwrap();
    let ill: Vec<&Value> = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
        .filter(|rule| rule["health"] == "err")
        .collect();
    assert!(ill.is_empty(), "{ill:#?}");
    Ok(format!(
        "{} of {} alerts in each of two clusters, {} in one with other thresholds, in {:.0} s",
        driven.len(),
        all.len(),
        others.len(),
        begun.elapsed().as_secs_f64()
    ))
}
