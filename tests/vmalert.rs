//! The rules on `VictoriaMetrics`: its `vmalert` takes them, every alert of their unit tests fires in it, and its texts name the disk.
#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]
#![allow(clippy::cast_precision_loss, reason = "samples are f64, as Prometheus keeps them")]

use tapster_testing as support;

use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use support::{
    cases::{Cases, Outcome},
    command::{output, text, tool},
    exporter::within,
    fixture, http,
    prometheus::{answering, free_port},
    rule_tests::{self, RuleTest},
    victoria::Victoria,
};
use tapster::rules::{self, Settings, TEMPLATES};

/// All rules as a site loads them into vmalert.
fn rules() -> String {
    let mut settings = Settings::default();
    settings.set_classic(true);
    settings.set_cluster("cluster").unwrap();
    let files = TEMPLATES.iter().map(|template| rules::file(template, &settings));
    let groups = files.map(|text| text.split_once("groups:\n").unwrap().1.to_owned());
    format!("groups:\n{}", groups.collect::<String>())
}

/// Without what a text asks about the disk: vmalert does not do that for the past.
fn without_queries(text: &str) -> String {
    let mut parts = text.split("{{ range printf `tapster_block_device_info");
    let mut whole = parts.next().unwrap().to_owned();
    for part in parts {
        whole += part.split_once("{{ end }}{{ end }}").unwrap().1;
    }
    assert!(!whole.contains("| query"));
    whole
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn accepted(directory: &Path) -> Outcome {
    let file = directory.join("rules.yaml");
    fs::write(&file, rules()).unwrap();
    let said = output(tool("vmalert")?.args(["-dryRun", &format!("-rule={}", file.display())]));
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    // It reads them.
    fs::write(&file, rules().replacen("increase(", "increase((", 1)).unwrap();
    let said = output(tool("vmalert")?.args(["-dryRun", &format!("-rule={}", file.display())]));
    assert!(!said.status.success(), "a bracket too many was taken");
    Ok(format!("{} groups", rules().matches("\n  - name: ").count()))
}

/// A device that does not answer, now.
fn texts(directory: &Path) -> Outcome {
    let victoria = Victoria::start(directory)?;
    let begin = now() - 600;
    let series = |labels: Value, value: f64| {
        let times: Vec<u64> = (0..80).map(|at| (begin + at * 15) * 1000).collect();
        json!({ "metric": labels, "values": vec![value; times.len()], "timestamps": times })
    };
    let target = |name: &str, more: Value| {
        let mut labels =
            json!({ "__name__": name, "cluster": "a", "instance": "h", "job": "tapster", "device": "sda" });
        labels.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        labels
    };
    victoria.import(&[
        series(target("tapster_block_io_oldest_seconds", json!({ "operation": "read" })), 40.0),
        series(
            target("tapster_block_device_info", json!({ "serial": "S1", "model": "MG08", "slot": "7" })),
            1.0,
        ),
    ]);
    let file = directory.join("live.yaml");
    fs::write(&file, rules()).unwrap();
    let alertmanager = answering(|| Some(("HTTP/1.1 200 OK\r\nContent-Length: 0".into(), Vec::new())));
    let port = free_port();
    let mut vmalert = victoria
        .vmalert(&file)?
        .arg(format!("-notifier.url=http://{alertmanager}"))
        .args(["-evaluationInterval=1s", &format!("-httpListenAddr=127.0.0.1:{port}")])
        .stdout(Stdio::null())
        .stderr(fs::File::create(directory.join("live.log")).unwrap())
        .spawn()
        .unwrap();
    let mut text = None;
    within(Duration::from_secs(30), || {
        let Ok(answer) = http::get(([127, 0, 0, 1], port).into(), "/api/v1/alerts", None) else {
            return false;
        };
        let answer: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let alerts = answer["data"]["alerts"].as_array().cloned().unwrap_or_default();
        let stuck = alerts.into_iter().find(|alert| alert["name"] == "TapsterBlockIoStuck");
        text = stuck.and_then(|alert| Some(alert["annotations"]["description"].as_str()?.to_owned()));
        text.is_some()
    });
    vmalert.kill().unwrap();
    vmalert.wait().unwrap();
    let log = || fs::read_to_string(directory.join("live.log")).unwrap();
    let text = text.unwrap_or_else(|| panic!("no alert:\n{}", log()));
    assert!(
        text.ends_with("Its serial number is S1. Its model is MG08. It is in bay 7."),
        "{text}\n{}",
        log()
    );
    Ok(text)
}

#[test]
fn rules_are_taken_and_texts_name_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let mut cases = Cases::new("vmalert");
    cases.run("accepted", || accepted(directory.path()));
    cases.run("texts", || texts(directory.path()));
    cases.finish();
}

/// The longest unit test that is replayed.
const LONGEST: Duration = Duration::from_hours(24);

/// The cluster of a unit test: all are replayed at once, each with its own.
fn cluster(number: usize, own: Option<&String>) -> String {
    own.map_or(format!("t{number}"), |own| format!("t{number}-{own}"))
}

/// The series of a unit test from this time on, in seconds.
fn series(test: &RuleTest, number: usize, begin: u64) -> Vec<Value> {
    let interval = rule_tests::time(&test.interval);
    let of = |(series, values): &(String, String)| {
        let mut labels = rule_tests::series(series);
        labels.insert("cluster".into(), cluster(number, labels.get("cluster")));
        // In unit tests it is 1970.
        let name = &labels["__name__"];
        let is_never = |value: f64| name.ends_with("_timestamp_seconds") && value == 0.0;
        let is_time = name.ends_with("_timestamp_seconds") || name == "process_start_time_seconds";
        let samples = rule_tests::values(values).into_iter().enumerate().filter_map(|(at, value)| {
            let (at, value) = (interval * u32::try_from(at).unwrap(), value?);
            let shift = if is_time && !is_never(value) { begin as f64 } else { 0.0 };
            (at <= LONGEST).then_some((value + shift, begin * 1000 + u64::try_from(at.as_millis()).unwrap()))
        });
        let (values, times): (Vec<f64>, Vec<u64>) = samples.unzip();
        json!({ "metric": labels, "values": values, "timestamps": times })
    };
    test.series.iter().map(of).collect()
}

/// How often each alert is evaluated, in seconds.
fn intervals(rules: &str) -> BTreeMap<String, u64> {
    let mut every = 60;
    let mut found = BTreeMap::new();
    for line in rules.lines() {
        let line = line.trim_start_matches([' ', '-']);
        if line.starts_with("name: ") {
            every = 60;
        } else if let Some(interval) = line.strip_prefix("interval: ") {
            every = rule_tests::time(interval).as_secs();
        } else if let Some(alert) = line.strip_prefix("alert: ") {
            found.insert(alert.to_owned(), every);
        }
    }
    found
}

fn replayed() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let victoria = Victoria::start(directory.path())?;
    let files = fixture::yaml_files("rules");
    // With other thresholds, alerts of the shipped rules are others.
    let tests: Vec<RuleTest> = files.iter().flat_map(|file| rule_tests::read(file).tests).collect();
    // On the hour, three days ago: groups are evaluated at the same times as in the unit tests.
    let begin = (now() - 3 * 86400) / 3600 * 3600;
    for (number, test) in tests.iter().enumerate() {
        victoria.import(&series(test, number, begin));
    }
    let file = directory.path().join("rules.yaml");
    fs::write(&file, without_queries(&rules())).unwrap();
    let written =
        |seconds: u64| text(Command::new("date").args(["-u", "-d", &format!("@{seconds}"), "+%FT%TZ"]));
    let ended = output(victoria.vmalert(&file)?.args([
        &format!("-replay.timeFrom={}", written(begin).trim()),
        &format!("-replay.timeTo={}", written(begin + LONGEST.as_secs()).trim()),
        "-replay.disableProgressBar",
        "-replay.maxDatapointsPerQuery=30000",
        // What a rule recorded is found a second or two later.
        "-replay.rulesDelay=3s",
        // A step is the interval of the group.
        "-datasource.queryStep=0s",
    ]));
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    victoria.flush();
    let every = intervals(&rules());
    let (mut fired, mut quiet) = (BTreeSet::new(), 0);
    for (number, test) in tests.iter().enumerate() {
        for case in &test.cases {
            let at = rule_tests::time(&case.at);
            if at > LONGEST {
                continue;
            }
            let own: BTreeSet<BTreeMap<String, String>> =
                case.expected.iter().map(|(labels, _)| labels.clone()).collect();
            // An evaluation later than in Prometheus at most: vmalert does not count the first one for `for`.
            let firing = |window: u64, at: u64| -> BTreeSet<BTreeMap<String, String>> {
                let query = format!(
                    "last_over_time(ALERTS{{alertname=\"{}\",alertstate=\"firing\",cluster=~\"t{number}(-.+)?\"}}[{window}s])",
                    case.alert
                );
                let found = victoria.query(&query, begin + at);
                let strip = |labels: Value| {
                    let labels: BTreeMap<String, String> = serde_json::from_value(labels).unwrap();
                    let added = ["__name__", "alertname", "alertstate", "alertgroup", "cluster"];
                    labels.into_iter().filter(|(name, _)| !added.contains(&name.as_str())).collect()
                };
                found.into_iter().map(strip).collect()
            };
            let every = every[&case.alert];
            let found = firing(every, at.as_secs());
            let found = if found == own { found } else { firing(every, at.as_secs() + every) };
            assert_eq!(found, own, "{} at {} of `{}`", case.alert, case.at, test.name);
            if own.is_empty() {
                quiet += 1;
            } else {
                fired.insert(case.alert.as_str());
            }
        }
    }
    assert!(fired.len() >= 25, "{fired:?}");
    Ok(format!("{} alerts fire as in {} unit tests, and {quiet} times none", fired.len(), tests.len()))
}

#[test]
#[ignore = "minutes: vmalert waits three seconds after each rule, until what it recorded is found"]
fn every_alert_fires() {
    let mut cases = Cases::new("vmalert");
    cases.run("replayed", replayed);
    cases.finish();
}
