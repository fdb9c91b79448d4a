//! Each changed rule, and each threshold that is set otherwise, makes a unit test fail.

use crate::{
    alerts,
    support::{
        cases::{Outcome, Skip},
        command::tool,
        durations::{self, Place},
        fixture, promql,
        queries::{self, Role},
    },
    unit_test,
};
use base64::Engine;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
    time::Duration,
};
use tapster::rules::{self, Settings};

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
        "TapsterProbeDownOnMany" => "probe_down_on_many",
        name if name.starts_with("TapsterRaid") => "raid_state",
        _ => file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default(),
    }
}

/// Whether the unit tests of this name pass once a file of rules is changed.
fn passes(tests: &str, file: &Path, changed: &str) -> Result<bool, Skip> {
    let directory = tempfile::tempdir().unwrap();
    let rules = directory.path().join("rules.yaml");
    fs::write(&rules, changed).unwrap();
    let original = fs::read_to_string(fixture::file(format!("rules/{tests}.yaml"))).unwrap();
    let (_, name) = file.to_str().unwrap().rsplit_once("config/rules/").unwrap();
    let path = format!("../../config/rules/{name}");
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

/// The matchers of a file of rules, each left out, or of a regular expression one of the alternatives.
fn without_each_matcher(name: &str) -> Vec<Change> {
    let file = queries::rule_files().into_iter().find(|file| file.ends_with(format!("{name}.yaml"))).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    let mut changes = Vec::new();
    let mut change = |at: usize, length: usize, by: &str| {
        let changed = format!("{}{by}{}", &text[..at], &text[at + length..]);
        changes.push((
            format!("without {} at byte {at}", &text[at..at + length]),
            name.into(),
            file.clone(),
            changed,
        ));
    };
    // A selector stands behind a name; templates and examples in texts do not. Those of native histograms have no unit tests:
    // promtool 2.42 knows no such series.
    let is_selector =
        |at: usize| text.as_bytes()[at - 1].is_ascii_alphanumeric() && !text[at..].starts_with("{{");
    let is_native = |at: usize| text[..at].ends_with("_duration_seconds");
    let selectors = text.match_indices('{').filter(|(at, _)| is_selector(*at) && !is_native(*at));
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

/// The file of rules that has a threshold, and the unit tests that look at it.
fn tests_of(threshold: &str) -> (&'static str, &'static str) {
    match threshold {
        "raid_slow_quantile" => ("raid.yaml", "raid_quartile"),
        name if name.starts_with("raid_slow_history_") => ("raid.yaml", "raid_history_thresholds"),
        name if name.starts_with("raid_") => ("raid.yaml", "raid_thresholds"),
        "stuck_seconds" => ("block.yaml", "block"),
        "peers_slow_quantile" => ("optional/peers.yaml", "peers_quartile"),
        name if name.starts_with("peers_") => ("optional/peers.yaml", "peers"),
        "slo_burn_1d" | "slo_burn_3d" => ("optional/slo.yaml", "slo_days"),
        name if name.starts_with("slo_") => ("optional/slo.yaml", "slo"),
        name if name.starts_with("run_queue_") || name.starts_with("blocked_") => ("sched.yaml", "sched"),
        "off_cpu_unexplained" => ("sched.yaml", "sched"),
        "memory_stalled_tasks" | "throttled_cpus" => ("events.yaml", "events"),
        name if name.starts_with("probe_down_") => ("exporter.yaml", "probe_down_on_many"),
        _ => ("exporter.yaml", "exporter"),
    }
}

/// Each threshold a little lower and higher, as it can be set.
fn with_other_thresholds() -> Vec<Change> {
    let mut changes = Vec::new();
    for threshold in rules::thresholds() {
        let (file, tests) = tests_of(&threshold.name);
        let template = rules::TEMPLATES.iter().find(|template| template.file == file).unwrap();
        let value: f64 = threshold.default.parse().unwrap();
        let to = match (threshold.unit.as_str(), threshold.name.as_str()) {
            ("power of two", _) => [value / 2.0, value * 2.0],
            // A number of minutes or of hosts is whole.
            (_, name) if name.ends_with("_minutes") || name.ends_with("_instances") => {
                [value - 1.0, value + 1.0]
            }
            // A share has its end at 1.
            ("share", _) if value * 1.07 > 1.0 => [value * 0.93, 1.0 - (1.0 - value) / 2.0],
            _ => [value * 0.93, value * 1.07],
        };
        for to in to {
            let mut settings = Settings::default();
            let set = format!("{}={to}", threshold.name);
            settings.set(&set).unwrap_or_else(|wrong| panic!("{set}: {wrong}"));
            let place = queries::rule_files().into_iter().find(|path| path.ends_with(file)).unwrap();
            changes.push((set, tests.into(), place, rules::file(template, &settings)));
        }
    }
    // One number for two alerts.
    let twice =
        changes.iter().filter(|(set, ..)| set.starts_with("stuck_seconds=")).cloned().collect::<Vec<_>>();
    for (set, ..) in twice {
        let mut settings = Settings::default();
        settings.set(&set).unwrap();
        let template = rules::TEMPLATES.iter().find(|template| template.file == "raid.yaml").unwrap();
        let place = queries::rule_files().into_iter().find(|path| path.ends_with("raid.yaml")).unwrap();
        changes.push((
            format!("{set} of arrays"),
            "raid_state".into(),
            place,
            rules::file(template, &settings),
        ));
    }
    changes
}

/// The alerts of `exporter.yaml` and `events.yaml` with other numbers, windows or offsets in their expressions.
fn with_other_numbers() -> Vec<Change> {
    let mut changes = Vec::new();
    let rules = queries::rules();
    // Thresholds have changes of their own.
    let own = |(name, rule): &(&str, &queries::Rule)| {
        let is_looked_at = ["exporter.yaml", "events.yaml"].iter().any(|file| rule.file.ends_with(file));
        is_looked_at && *name != "TapsterProbeDownOnMany"
    };
    for (name, rule) in alerts(&rules).filter(own) {
        let tests = close_tests(&rule.file, name);
        let text = fs::read_to_string(&rule.file).unwrap();
        let begin = text.find(&format!("- alert: {name}\n")).unwrap();
        let end = begin + text[begin..].find("\n        for: ").unwrap();
        let expr = &text[begin..end];
        let mut change = |what: String, to: &str| {
            let changed = format!("{}{to}{}", &text[..begin], &text[end..]);
            changes.push((format!("{name}: {what}"), tests.into(), rule.file.clone(), changed));
        };
        // 0 and 1 are none, and a state.
        let thresholds: Vec<String> = rules::thresholds().into_iter().map(|one| one.default).collect();
        let is_own = |number: &&String| !["0", "1"].contains(&&***number) && !thresholds.contains(number);
        let numbers = promql::names(&rule.expr).numbers;
        // The least room of a probe that can be full.
        let room = ["10".to_owned()];
        let extra: &[String] = if name == "TapsterSeriesNearLimit" { &room } else { &[] };
        for number in numbers.iter().filter(is_own).chain(extra) {
            let value: f64 = number.parse().unwrap();
            for to in [value * 0.93, value * 1.07] {
                let found = format!(" {number}");
                assert_eq!(expr.matches(&found).count(), 1, "`{name}`: which {number}?");
                change(format!("{to} for {number}"), &expr.replace(&found, &format!(" {to}")));
            }
        }
        // All of them at once: that what one no longer sees is old for another one, too, is no mistake.
        let by = |old: Duration| (old.mul_f64(0.07)).max(Duration::from_mins(step_minutes(name)));
        let with = |changed: Place, to: &dyn Fn(Duration) -> Duration| {
            durations::replace(expr, |place, old| if place == changed { to(old) } else { old })
        };
        for (what, to) in [
            ("shorter windows", with(Place::Window, &|old| old.saturating_sub(by(old)))),
            ("longer windows", with(Place::Window, &|old| old + by(old))),
            ("later offsets", with(Place::Offset, &|old| old.saturating_sub(by(old)))),
            ("earlier offsets", with(Place::Offset, &|old| old + by(old))),
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
    let mut changes = without_each_matcher("sched");
    assert!(changes.len() > 10, "{} matchers", changes.len());
    changes.extend(without_each_matcher("events"));
    let numbers = with_other_numbers();
    assert!(numbers.len() > 8, "{} numbers", numbers.len());
    changes.extend(numbers);
    let thresholds = with_other_thresholds();
    assert!(thresholds.len() > 60, "{} thresholds", thresholds.len());
    changes.extend(thresholds);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for rule in queries::rules() {
        let (kind, name) = match &rule.role {
            Role::Record(name) => ("record", name),
            Role::Alert(name) => ("alert", name),
            role => panic!("{role:?}"),
        };
        let without = without_each_unless(&rule.file, &format!("- {kind}: {name}"));
        let begins = |line: &&str| line.trim_start().starts_with("unless ");
        assert_eq!(without.len(), rule.expr.lines().filter(begins).count(), "{name}");
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
        if let Role::Alert(name) = &rule.role {
            let nth = seen.entry(name.clone()).or_default();
            let alert = format!("- alert: {name}\n");
            let tests = close_tests(&rule.file, name);
            // Those of arrays are looked at in other unit tests than these.
            if rule.file.file_stem().is_some_and(|stem| stem == tests) {
                let severity = &rule.labels.iter().find(|(key, _)| key == "severity").unwrap().1;
                let line = format!("severity: {severity}\n");
                let changed = with(&rule.file, &alert, *nth, &line, "severity: none\n");
                changes.push((format!("{name} without severity"), tests.into(), rule.file.clone(), changed));
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
    }
    changes
}

/// What the changes and their outcome come from: the rules, their unit tests, and this file.
fn digest_of_rules() -> String {
    let mut files: Vec<PathBuf> =
        queries::rule_files().into_iter().chain(fixture::yaml_files("rules")).collect();
    files.push(fixture::file("rules/changed.rs"));
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
pub(crate) fn changed_rules_are_noticed() -> Outcome {
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
