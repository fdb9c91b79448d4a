//! The rules of `config/rules`: what `promtool` says of them, their unit tests in `tests/rules`, and that these tests
//! notice when a rule changes. At the end a real Prometheus evaluates them over an exporter of the story's array, once
//! with classic and once with native histograms.

#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]
#![allow(clippy::unnecessary_wraps, reason = "cases are alike")]

#[path = "rules/changed.rs"]
mod changed;
#[path = "rules/clusters.rs"]
mod clusters;
#[path = "rules/made.rs"]
mod made;
#[path = "rules/served.rs"]
mod served;
use tapster_testing as support;

use std::{collections::BTreeSet, fs, path::Path, time::Duration};
use support::{
    cases::{Cases, Outcome, Skip},
    command::{output, tool},
    durations,
    exporter::within,
    families, fixture,
    prometheus::{Prometheus, text_only},
    promql,
    queries::{self, Role, Rule},
    source, yaml,
};

pub(crate) fn alerts(rules: &[Rule]) -> impl Iterator<Item = (&str, &Rule)> {
    rules.iter().filter_map(|rule| match &rule.role {
        Role::Alert(name) => Some((name.as_str(), rule)),
        _ => None,
    })
}

fn check() -> Outcome {
    let files = queries::rule_files();
    let output =
        output(tool("promtool")?.args(["check", "rules", "--lint=all", "--lint-fatal"]).args(&files));
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    Ok(format!("{} rules in {} files", queries::rules().len(), files.len()))
}

/// What `promtool test rules` says about a file of unit tests; none if they pass.
pub(crate) fn unit_test(file: &Path) -> Result<Option<String>, Skip> {
    let output = output(tool("promtool")?.args(["test", "rules"]).arg(file));
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Ok((!output.status.success()).then_some(said))
}

fn unit_tests() -> Outcome {
    let mut tests = 0;
    for file in fixture::yaml_files("rules") {
        if let Some(said) = unit_test(&file)? {
            panic!("{}:\n{said}", file.display());
        }
        tests += yaml::items(&yaml::read(&file), "tests").len();
    }
    Ok(format!("{tests} tests pass"))
}

/// Each alert has a unit test that knows its text, and one that sees it wait.
fn every_alert_is_tested() -> Outcome {
    let (mut firing, mut text) = (BTreeSet::new(), String::new());
    for file in fixture::yaml_files("rules") {
        for test in yaml::items(&yaml::read(&file), "tests") {
            for case in yaml::items(test, "alert_rule_test") {
                if !yaml::items(case, "exp_alerts").is_empty() {
                    firing
                        .insert(yaml::get(case, "alertname").map(yaml::text).unwrap_or_default().to_owned());
                }
            }
        }
        text += &fs::read_to_string(&file).unwrap();
    }
    let rules = queries::rules();
    let names: BTreeSet<&str> = alerts(&rules).map(|(name, _)| name).collect();
    for name in &names {
        assert!(firing.contains(*name), "no unit test has `{name}` with its annotations");
        assert!(
            text.contains(&format!("alertname=\"{name}\"")) || text.contains("(ALERTS)"),
            "no unit test looks at `{name}` while it is pending"
        );
    }
    Ok(format!("{} alerts", names.len()))
}

/// Says what is wrong, what to do, how bad it is, and where there is more.
fn every_alert_says_what_to_do() -> Outcome {
    let page = fs::read_to_string(fixture::file("../docs/alerts.md")).unwrap();
    let titles: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .filter(|title| !title.contains(' ') && title.starts_with("Tapster"))
        .collect();
    let rules = queries::rules();
    let mut names = BTreeSet::new();
    for (name, rule) in alerts(&rules) {
        let get = |pairs: &[(String, String)], key: &str| {
            let found = pairs.iter().find(|(found, _)| found == key);
            found.unwrap_or_else(|| panic!("`{name}` has no `{key}`")).1.clone()
        };
        assert!(name.starts_with("Tapster"), "`{name}` is not ours by its name");
        let severity = get(&rule.labels, "severity");
        assert!(["info", "warning", "critical"].contains(&severity.as_str()), "`{name}`: `{severity}`");
        assert!(rule.lasts.is_some(), "`{name}` fires at once");
        let is_of_many = ["TapsterProbeDownOnMany", "TapsterMissing"].contains(&name);
        let is_named = get(&rule.annotations, "summary").contains("$labels.instance");
        assert!(is_named != is_of_many, "`{name}`: on which host?");
        assert!(get(&rule.annotations, "description").len() > 80, "`{name}`: and now?");
        let page = get(&rule.annotations, "runbook");
        let anchor = page.strip_prefix("docs/alerts.md#").expect("the runbook is docs/alerts.md");
        // A link to a host that there is not is worse than none: a site says where the page is.
        assert!(rule.annotations.iter().all(|(_, text)| !text.contains("example.invalid")), "`{name}`");
        assert_eq!(anchor, name.to_lowercase(), "`{name}` leads elsewhere");
        assert!(titles.contains(name), "docs/alerts.md has no section `{name}`");
        names.insert(name);
    }
    for title in titles {
        assert!(names.contains(title), "docs/alerts.md has `{title}`, which is no alert");
    }
    Ok(format!("{} alerts have severity, texts and a page", names.len()))
}

/// Labels that recorded series have.
const RECORDED: &str = "array kind level name member slot operation reason state after device group le node probe \
     k8s_namespace_name k8s_pod_name k8s_container_name";

/// Every metric and label is one that the exporter has, or that a rule records.
fn names_are_known() -> Outcome {
    let known = families::series();
    let rules = queries::rules();
    let recorded: BTreeSet<&str> = rules
        .iter()
        .filter_map(|rule| match &rule.role {
            Role::Record(name) => Some(name.as_str()),
            _ => None,
        })
        .collect();
    let info = made::device_info();
    let mut names = 0;
    for rule in &rules {
        let found = promql::names(&rule.expr);
        let mut labels: BTreeSet<&str> = families::TARGET.into();
        // Where a selector asks for these, and where they are left out.
        labels.extend(info.iter().map(String::as_str));
        for selector in &found.selectors {
            names += 1;
            let metric = selector.metric.as_str();
            let own: Vec<&str> = match known.get(metric) {
                Some(labels) => labels.iter().map(String::as_str).collect(),
                None if recorded.contains(metric) => RECORDED.split(' ').collect(),
                None => panic!("{:?}: there is no `{metric}`", rule.role),
            };
            for label in &selector.labels {
                let is_known = own.contains(&label.as_str()) || families::TARGET.contains(&label.as_str());
                assert!(
                    is_known || metric == "tapster_block_device_info" && info.contains(label),
                    "{:?}: `{metric}` has no label `{label}`",
                    rule.role
                );
            }
            labels.extend(own);
        }
        for label in &found.grouped {
            assert!(labels.contains(label.as_str()), "{:?}: nothing there has `{label}`", rule.role);
        }
    }
    Ok(format!("{names} selectors in {} rules", rules.len()))
}

/// A real Prometheus evaluates all rules without an error, and both forms of histograms give the same. What it asks
/// every minute is asked every second here, or five minutes would pass before there is an answer.
fn evaluated(directory: &Path) -> Outcome {
    let exporter = source::serve();
    let rules = queries::changed_rule_files(&directory.join("rules"), durations::step_of_a_second);
    let classic =
        Prometheus::start(&directory.join("classic"), &[("tapster", text_only(exporter))], &[], &rules)?;
    let native = Prometheus::start(
        &directory.join("native"),
        &[("tapster", exporter)],
        &["--enable-feature=native-histograms"],
        &rules,
    )?;
    let level = "array_member_operation:tapster_raid_member_duration_seconds";
    let ratio = format!("round({level}:slow_ratio10m{{operation=\"read\"}})");
    let waits = "count(ALERTS{alertname=\"TapsterRaidMemberSlow\",alertstate=\"pending\"})";
    for prometheus in [&classic, &native] {
        prometheus.wait_value(&ratio, source::SLOW / source::FAST);
        // Reading and writing, as a warning and as urgent.
        prometheus.wait_value(waits, 4.0);
        let means = prometheus.query(&format!("round(1e6 * {level}:quartile10m{{operation=\"write\"}})"));
        assert_eq!(means.len(), source::MEMBERS.len(), "{means:?}");
        for (labels, mean) in means {
            let expected = if labels["member"] == "dm-0" { source::SLOW } else { source::FAST };
            assert!((mean - expected * 1e6).abs() < 1.5, "{labels}: {mean} us");
        }
        let healthy = || {
            let groups = prometheus.api("rules");
            let groups = groups["groups"].as_array().unwrap();
            let rules: Vec<_> = groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
            rules.len() == queries::rules().len() && rules.iter().all(|rule| rule["health"] == "ok")
        };
        assert!(within(Duration::from_secs(20), healthy).is_some(), "{}", prometheus.api("rules"));
    }
    let none = native.query("tapster_raid_member_duration_seconds_count");
    assert!(none.is_empty(), "this Prometheus took the classic histograms: {none:?}");
    let windows = classic.query(&format!("{level}_count:increase10m")).len();
    Ok(format!("{windows} series of I/Os, ratio {}", source::SLOW / source::FAST))
}

#[test]
fn rules() {
    let mut cases = Cases::new("rules");
    cases.run("promtool check rules", check);
    cases.run("promtool test rules", unit_tests);
    cases.run("every alert is tested", every_alert_is_tested);
    cases.run("every alert says what to do", every_alert_says_what_to_do);
    cases.run("files are made of the templates", made::files_are_up_to_date);
    cases.run("numbers are thresholds", made::numbers_are_thresholds);
    cases.run("selectors reach every series", made::selectors_reach_every_series);
    cases.run("what the command prints", made::printed);
    cases.run("labels of devices", made::labels_of_devices_are_known);
    cases.run("two clusters", clusters::every_alert_fires_in_either);
    cases.run("two clusters with their own thresholds", clusters::thresholds_are_those_of_the_cluster);
    cases.run("names are known", names_are_known);
    cases.run("changed rules are noticed", changed::changed_rules_are_noticed);
    cases.run("families as served", served::families_are_served);
    cases.run("families of arrays", served::arrays_are_described);
    cases.run("switches of the host", served::switches_are_compared);
    let directory = tempfile::tempdir().unwrap();
    cases.run("a real Prometheus", || evaluated(directory.path()));
    cases.run("a real Prometheus of several clusters", || {
        clusters::alerts_of_a_real_prometheus(directory.path())
    });
    cases.finish();
}
