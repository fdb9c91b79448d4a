//! The rules of `config/rules`: what `promtool` says of them, their unit tests in `tests/rules`, and that these tests
//! notice when a rule changes. At the end a real Prometheus evaluates them over an exporter of the story's array, once
//! with classic and once with native histograms.

#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]
#![allow(clippy::unnecessary_wraps, reason = "cases are alike")]

#[path = "rules/served.rs"]
mod served;
use tapster_testing as support;

use base64::Engine;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
    time::Duration,
};
use support::{
    cases::{Cases, Outcome, Skip},
    command::{output, tool},
    durations::{self, Place},
    exporter::within,
    families, fixture,
    prometheus::{Prometheus, text_only},
    promql,
    queries::{self, Role, Rule},
    source, yaml,
};

/// By how many minutes an alert's `for` is changed: a step of the unit tests, or two where the versions of
/// Prometheus differ by one.
fn step_minutes(alert: &str) -> u64 {
    match alert {
        "TapsterRaidArraySlowerThanBefore" => 15,
        "TapsterRaidSyncLong" => 30,
        _ => 2,
    }
}

/// The unit tests that look closely at a rule of this name: at its threshold, or at when it fires. Those of arrays are
/// several, each other file of rules has one.
fn close_tests<'a>(file: &'a Path, name: &str) -> &'a str {
    match name {
        "TapsterRaidMemberSlow" => "raid_slow",
        "TapsterRaidMemberSlowOverHour" => "raid_slow_hours",
        "TapsterRaidSyncLong" => "raid_sync_long",
        "TapsterRaidArraySlowerThanBefore" => "raid_history_thresholds",
        "tapster:raid_slow_quantile:threshold" => "raid_quartile",
        name if name.starts_with("tapster:raid_slow_history_") => "raid_history_thresholds",
        name if name.starts_with("tapster:raid_") => "raid_thresholds",
        name if name.starts_with("TapsterRaid") => "raid_state",
        _ => file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default(),
    }
}

fn alerts(rules: &[Rule]) -> impl Iterator<Item = (&str, &Rule)> {
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
fn unit_test(file: &Path) -> Result<Option<String>, Skip> {
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
        assert!(get(&rule.annotations, "summary").contains("$labels.instance"), "`{name}`: on which host?");
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

/// Thresholds are recorded, one rule each, and no other rule of those groups has a number of its own.
fn thresholds_have_one_place() -> Outcome {
    let rules = queries::rules();
    let mut thresholds = BTreeMap::new();
    for rule in rules.iter().filter(|rule| ["tapster-raid-slow", "tapster-sched"].contains(&&*rule.group)) {
        match &rule.role {
            Role::Record(name) if name.ends_with(":threshold") => {
                let value: f64 = rule.expr.parse().unwrap_or_else(|_| panic!("`{name}` is `{}`", rule.expr));
                assert!(thresholds.insert(name.clone(), value).is_none(), "`{name}` twice");
            }
            Role::Record(name) | Role::Alert(name) => {
                for number in promql::names(&rule.expr).numbers {
                    // The one that a member is less than all, and the states 0 and 1; a percentile has its own in its name.
                    let is_named = number == "0.99" && name.contains("p99");
                    assert!(
                        is_named || ["0", "1"].contains(&number.as_str()),
                        "`{name}` has the number {number}"
                    );
                }
            }
            role => panic!("{role:?}"),
        }
    }
    let used: String = rules.iter().map(|rule| rule.expr.as_str()).collect();
    for name in thresholds.keys() {
        assert!(used.contains(&format!("scalar({name})")), "nobody asks for `{name}`");
    }
    Ok(format!("{thresholds:?}"))
}

/// Labels that recorded series have.
const RECORDED: &str = "array kind level name member slot operation reason state after";

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
    let mut names = 0;
    for rule in &rules {
        let found = promql::names(&rule.expr);
        let mut labels: BTreeSet<&str> = families::TARGET.into();
        for selector in &found.selectors {
            names += 1;
            let metric = selector.metric.as_str();
            let own: Vec<&str> = match known.get(metric) {
                Some(labels) => labels.iter().map(String::as_str).collect(),
                None if recorded.contains(metric) => RECORDED.split(' ').collect(),
                None => panic!("{:?}: there is no `{metric}`", rule.role),
            };
            for label in &selector.labels {
                assert!(own.contains(&label.as_str()), "{:?}: `{metric}` has no label `{label}`", rule.role);
            }
            labels.extend(own);
        }
        for label in &found.grouped {
            assert!(labels.contains(label.as_str()), "{:?}: nothing there has `{label}`", rule.role);
        }
    }
    Ok(format!("{names} selectors in {} rules", rules.len()))
}

/// Whether the unit tests of this name pass once a file of rules is changed.
fn passes(tests: &str, file: &Path, changed: &str) -> Result<bool, Skip> {
    let directory = tempfile::tempdir().unwrap();
    let rules = directory.path().join("rules.yaml");
    fs::write(&rules, changed).unwrap();
    let original = fs::read_to_string(fixture::file(format!("rules/{tests}.yaml"))).unwrap();
    let path = format!("../../config/rules/{}", file.file_name().unwrap().to_str().unwrap());
    assert!(original.contains(&path), "{tests} does not test {path}");
    let copy = directory.path().join("tests.yaml");
    fs::write(&copy, original.replace(&path, "rules.yaml")).unwrap();
    Ok(unit_test(&copy)?.is_none())
}

/// A file of rules with one line changed: the first of these below the line `- KIND: NAME`, counted from `nth`.
fn with(file: &Path, rule: &str, nth: usize, line: &str, to: &str) -> String {
    let text = fs::read_to_string(file).unwrap();
    let at = text.match_indices(rule).nth(nth).unwrap_or_else(|| panic!("no {rule}")).0;
    let (before, after) = text.split_at(at);
    assert!(after.contains(line), "no `{line}` below {rule}");
    before.to_owned() + &after.replacen(line, to, 1)
}

/// The conditions of a rule that begin with `unless`: for each its number and the file without it.
fn without_each_unless(file: &Path, rule: &str) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let start = lines.iter().position(|line| line.trim() == rule).unwrap_or_else(|| panic!("no {rule}"));
    let ends = lines[start + 1..].iter().position(|line| indent(line) <= indent(lines[start]));
    let end = ends.map_or(lines.len(), |ends| start + 1 + ends);
    let begins = |at: &usize| lines[*at].trim_start().starts_with("unless ");
    (start..end)
        .filter(begins)
        .map(|first| {
            let goes_on = |at: &usize| indent(lines[*at]) >= indent(lines[first]) && !begins(at);
            let count = 1 + (first + 1..end).take_while(goes_on).count();
            let (before, after) = (&lines[..first], &lines[first + count..]);
            [before, after].concat().join("\n") + "\n"
        })
        .collect()
}

fn minutes(duration: &str) -> u64 {
    let (number, unit) = duration.split_at(duration.len() - 1);
    let factor = match unit {
        "m" => 1,
        "h" => 60,
        "d" => 24 * 60,
        _ => panic!("`{duration}`"),
    };
    number.parse::<u64>().unwrap() * factor
}

/// A file of rules that is changed: what was done, the unit tests that must fail by it, the file, its new text.
type Change = (String, String, PathBuf, String);

/// The matchers of `sched.yaml`, each left out, or of a regular expression one of the alternatives.
fn without_each_matcher() -> Vec<Change> {
    let file = queries::rule_files().into_iter().find(|file| file.ends_with("sched.yaml")).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    let mut changes = Vec::new();
    let mut change = |at: usize, length: usize, by: &str| {
        let changed = format!("{}{by}{}", &text[..at], &text[at + length..]);
        changes.push((
            format!("without {} at byte {at}", &text[at..at + length]),
            "sched".into(),
            file.clone(),
            changed,
        ));
    };
    // A selector stands behind a name; templates and examples in texts do not.
    let selectors = text.match_indices('{').filter(|(at, _)| text.as_bytes()[at - 1].is_ascii_alphanumeric());
    for (at, _) in selectors {
        let mut begin = at + 1;
        for matcher in text[begin..].split('}').next().unwrap().split_inclusive(", ") {
            change(begin, matcher.len(), "");
            let (before, alternatives) = matcher.trim_end_matches([',', ' ', '"']).split_once('"').unwrap();
            let mut place = begin + before.len() + 1;
            for alternative in alternatives.split('|').filter(|_| alternatives.contains('|')) {
                change(place, alternative.len(), "none");
                place += alternative.len() + 1;
            }
            begin += matcher.len();
        }
    }
    changes
}

/// The alerts of `exporter.yaml` with other numbers, or with other windows, in their expressions.
fn with_other_numbers() -> Vec<Change> {
    let mut changes = Vec::new();
    let rules = queries::rules();
    // Those of arrays and of tasks have their numbers in recording rules.
    for (name, rule) in alerts(&rules).filter(|(_, rule)| rule.file.ends_with("exporter.yaml")) {
        let text = fs::read_to_string(&rule.file).unwrap();
        let begin = text.find(&format!("- alert: {name}\n")).unwrap();
        let end = begin + text[begin..].find("\n        for: ").unwrap();
        let expr = &text[begin..end];
        let mut change = |what: String, to: &str| {
            let changed = format!("{}{to}{}", &text[..begin], &text[end..]);
            changes.push((format!("{name}: {what}"), "exporter".into(), rule.file.clone(), changed));
        };
        // 0 and 1 are none, and a state.
        for number in
            promql::names(&rule.expr).numbers.iter().filter(|number| !["0", "1"].contains(&&***number))
        {
            let value: f64 = number.parse().unwrap();
            for to in [value * 0.93, value * 1.07] {
                let found = format!(" {number}");
                assert_eq!(expr.matches(&found).count(), 1, "`{name}`: which {number}?");
                change(format!("{to} for {number}"), &expr.replace(&found, &format!(" {to}")));
            }
        }
        // All of them at once: that what one no longer sees is old for another one, too, is no mistake.
        let by = |old: Duration| (old.mul_f64(0.07)).max(Duration::from_mins(step_minutes(name)));
        let windows = |to: &dyn Fn(Duration) -> Duration| {
            durations::replace(expr, |place, old| if place == Place::Window { to(old) } else { old })
        };
        for (what, to) in [
            ("shorter windows", windows(&|old| old.saturating_sub(by(old)))),
            ("longer windows", windows(&|old| old + by(old))),
        ] {
            if to != expr {
                change(what.into(), &to);
            }
        }
    }
    changes
}

/// Changes of one number, condition, matcher or severity each, and the unit tests that must fail by it.
fn changes() -> Vec<Change> {
    let mut changes = without_each_matcher();
    assert!(changes.len() > 10, "{} matchers", changes.len());
    let numbers = with_other_numbers();
    assert!(numbers.len() > 10, "{} numbers", numbers.len());
    changes.extend(numbers);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for rule in queries::rules() {
        let (kind, name) = match &rule.role {
            Role::Record(name) => ("record", name),
            Role::Alert(name) => ("alert", name),
            role => panic!("{role:?}"),
        };
        let without = without_each_unless(&rule.file, &format!("- {kind}: {name}"));
        assert_eq!(without.len(), rule.expr.matches("\nunless ").count(), "{name}");
        for (nth, changed) in without.into_iter().enumerate() {
            let tests = match name.as_str() {
                name if name.ends_with("1h") => "raid_slow_hours",
                "TapsterRaidArraySlowerThanBefore" => "raid_history",
                name if name.ends_with("2m") => "raid_slow",
                name => close_tests(&rule.file, name),
            };
            changes.push((
                format!("{name} without `unless` {nth}"),
                tests.into(),
                rule.file.clone(),
                changed,
            ));
        }
        match &rule.role {
            Role::Record(name) if name.ends_with(":threshold") => {
                let value: f64 = rule.expr.parse().unwrap();
                // A number of minutes is whole.
                let by = if name.contains("_minutes:") { 1.0 } else { value * 0.07 };
                for to in [value - by, value + by] {
                    let changed = with(
                        &rule.file,
                        &format!("- record: {name}\n"),
                        0,
                        &format!("expr: {}\n", rule.expr),
                        &format!("expr: {to}\n"),
                    );
                    let tests = close_tests(&rule.file, name).to_owned();
                    changes.push((format!("{name} = {to}"), tests, rule.file.clone(), changed));
                }
            }
            Role::Alert(name) => {
                let nth = seen.entry(name.clone()).or_default();
                let alert = format!("- alert: {name}\n");
                let tests = close_tests(&rule.file, name);
                // Those of arrays are looked at in other unit tests than these.
                if rule.file.file_stem().is_some_and(|stem| stem == tests) {
                    let severity = &rule.labels.iter().find(|(key, _)| key == "severity").unwrap().1;
                    let line = format!("severity: {severity}\n");
                    let changed = with(&rule.file, &alert, *nth, &line, "severity: none\n");
                    changes.push((
                        format!("{name} without severity"),
                        tests.into(),
                        rule.file.clone(),
                        changed,
                    ));
                }
                let lasts = rule.lasts.clone().unwrap();
                let step = step_minutes(name);
                for to in [minutes(&lasts).saturating_sub(step), minutes(&lasts) + step] {
                    let changed =
                        with(&rule.file, &alert, *nth, &format!("for: {lasts}\n"), &format!("for: {to}m\n"));
                    changes.push((format!("{name} for {to}m"), tests.into(), rule.file.clone(), changed));
                }
                *nth += 1;
            }
            _ => {}
        }
    }
    changes
}

/// What the changes and their outcome come from: the rules, their unit tests, and this file.
fn digest_of_rules() -> String {
    let mut files: Vec<PathBuf> =
        queries::rule_files().into_iter().chain(fixture::yaml_files("rules")).collect();
    files.push(fixture::file("rules.rs"));
    files.sort();
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    for file in files {
        let content = fs::read(&file).unwrap();
        let name = file.file_name().unwrap().as_encoded_bytes();
        for part in [name, &content] {
            digest.update(&part.len().to_le_bytes());
            digest.update(part);
        }
    }
    base64::engine::general_purpose::STANDARD.encode(digest.finish())
}

/// A threshold that is 7 % or a minute off, a window or a `for` that is a step or two off, an `unless`, a matcher or a
/// severity that is missing: each makes the unit tests fail. `promtool` runs for each of them, which takes minutes, so at each change
/// this is tried only where rules or tests are others than those of which it was recorded (`TAPSTER_ACCEPT=1`). The long run always
/// tries it.
fn changed_rules_are_noticed() -> Outcome {
    tool("promtool")?;
    let (digest, record) = (digest_of_rules(), fixture::file("rules/noticed"));
    let recorded = fs::read_to_string(&record).unwrap_or_default();
    if recorded.trim() == digest && std::env::var_os("TAPSTER_LONG").is_none() {
        return Ok("rules and unit tests are those of which it was recorded".into());
    }
    let changes = Mutex::new(changes());
    let total = changes.lock().unwrap().len();
    let unnoticed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let Some((what, tests, file, changed)) = changes.lock().unwrap().pop() else { break };
                    if passes(&tests, &file, &changed).is_ok_and(|passes| passes) {
                        unnoticed.lock().unwrap().push(format!("{what}: {tests} passes"));
                    }
                }
            });
        }
    });
    let unnoticed = unnoticed.into_inner().unwrap();
    assert!(unnoticed.is_empty(), "{unnoticed:#?}");
    if std::env::var_os("TAPSTER_ACCEPT").is_some() {
        fs::write(record, format!("{digest}\n")).unwrap();
    }
    Ok(format!("{total} changes, each noticed"))
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
    cases.run("thresholds have one place", thresholds_have_one_place);
    cases.run("names are known", names_are_known);
    cases.run("changed rules are noticed", changed_rules_are_noticed);
    cases.run("families as served", served::families_are_served);
    cases.run("families of arrays", served::arrays_are_described);
    let directory = tempfile::tempdir().unwrap();
    cases.run("a real Prometheus", || evaluated(directory.path()));
    cases.finish();
}
