//! The dashboards: their form, what their queries name, and that a real Prometheus answers each query.

#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]
#![allow(clippy::unnecessary_wraps, reason = "cases are alike")]

#[path = "dashboards/answers.rs"]
mod answers;
#[path = "dashboards/grafana.rs"]
mod grafana;

use tapster_testing as support;

use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::PathBuf,
};
use support::{
    cases::{Cases, Outcome},
    command::{output, tool},
    families, fixture,
    golden::Golden,
    promql,
    queries::{self, Query, Role},
};

/// Widest line of a dashboard that can be broken.
const WIDTH: usize = 118;
/// The version of Grafana's schema that they are written in: Grafana 10.4, and all later ones take it.
const SCHEMA_VERSION: u64 = 39;
const PLUGIN_VERSION: &str = "10.4.0";
/// The one that shows all hosts.
const FLEET: &str = "fleet.json";

fn dashboards() -> Vec<(String, Value)> {
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    queries::dashboard_files().iter().map(|path| (name(path), queries::dashboard(path))).collect()
}

/// Panels that show something.
fn shown(dashboard: &Value) -> impl Iterator<Item = &Value> {
    queries::panels(dashboard).into_iter().filter(|panel| panel["type"] != "row")
}

fn title(panel: &Value) -> &str {
    panel["title"].as_str().unwrap_or_default()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// In one line.
fn flat(value: &Value) -> String {
    match value {
        Value::Object(entries) if entries.is_empty() => "{}".into(),
        Value::Object(entries) => {
            let mut entries: Vec<_> =
                entries.iter().map(|(key, value)| format!("{key:?}: {}", flat(value))).collect();
            entries.sort();
            format!("{{ {} }}", entries.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(flat).collect::<Vec<_>>().join(", ")),
        value => value.to_string(),
    }
}

/// As the files are written: keys in order, what fits into a line in one line.
fn written(value: &Value, indent: usize) -> String {
    let line = flat(value);
    if indent + line.len() <= WIDTH {
        return line;
    }
    let pad = " ".repeat(indent + 2);
    let (open, items, close) = match value {
        Value::Object(entries) => {
            let mut items: Vec<String> = entries
                .iter()
                .map(|(key, value)| format!("{pad}{key:?}: {}", written(value, indent + 2)))
                .collect();
            items.sort();
            ('{', items, '}')
        }
        Value::Array(items) => {
            let items = items.iter().map(|item| format!("{pad}{}", written(item, indent + 2)));
            ('[', items.collect(), ']')
        }
        _ => return line,
    };
    format!("{open}\n{}\n{}{close}", items.join(",\n"), " ".repeat(indent))
}

/// A file exported from Grafana is brought into this form by `TAPSTER_ACCEPT=1 cargo test --test dashboards`.
fn files_are_written_alike() -> Outcome {
    let mut golden = Golden::new("dashboards");
    let mut bytes = 0;
    for (name, dashboard) in dashboards() {
        let text = written(&dashboard, 0) + "\n";
        bytes += text.len();
        golden.compare(&format!("../dashboards/{name}"), &text);
    }
    golden.finish();
    Ok(format!("{bytes} bytes"))
}

/// What Grafana needs to import a dashboard without asking, and to know it again.
fn they_import() -> Outcome {
    let (mut uids, mut titles) = (BTreeSet::new(), BTreeSet::new());
    for (name, dashboard) in dashboards() {
        let uid = dashboard["uid"].as_str().unwrap_or_default().to_owned();
        assert_eq!(
            uid,
            format!("tapster-{}", name.trim_end_matches(".json")),
            "{name}: the uid is its address"
        );
        assert!(uids.insert(uid), "{name}: the uid is taken");
        assert!(titles.insert(title(&dashboard).to_owned()), "{name}: the title is taken");
        assert!(title(&dashboard).starts_with("Tapster / "), "{name}: `{}`", title(&dashboard));
        assert!(list(&dashboard["tags"]).any(|tag| tag == "tapster"), "{name}: not tagged");
        assert_eq!(dashboard["schemaVersion"], SCHEMA_VERSION, "{name}");
        assert_eq!(dashboard["editable"], true, "{name}");
        assert!(dashboard["id"].is_null(), "{name}: the id is that of one Grafana");
        for key in ["__inputs", "__requires", "__elements"] {
            assert!(dashboard.get(key).is_none(), "{name}: `{key}` makes Grafana ask");
        }
    }
    Ok(format!("{uids:?}"))
}

/// Every query goes to the data source that is chosen, by a variable.
fn the_data_source_is_a_variable() -> Outcome {
    fn places(value: &Value, path: &str, found: &mut Vec<(String, Value)>) {
        match value {
            Value::Object(entries) => {
                for (key, value) in entries {
                    if key == "datasource" {
                        found.push((path.to_owned(), value.clone()));
                    }
                    places(value, &format!("{path}.{key}"), found);
                }
            }
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(at, item)| places(item, &format!("{path}[{at}]"), found));
            }
            _ => {}
        }
    }
    let wanted = serde_json::json!({ "type": "prometheus", "uid": "${datasource}" });
    let mut count = 0;
    for (name, dashboard) in dashboards() {
        let mut found = Vec::new();
        places(&dashboard, "", &mut found);
        for (path, datasource) in &found {
            let is_grafana = datasource["uid"] == "-- Grafana --" && path == ".annotations.list[0]";
            assert!(*datasource == wanted || is_grafana, "{name}{path}: {datasource}");
        }
        count += found.len();
        let first = &dashboard["templating"]["list"][0];
        assert_eq!((&first["name"], &first["type"]), (&"datasource".into(), &"datasource".into()), "{name}");
        for panel in shown(&dashboard) {
            assert!(!panel["datasource"].is_null(), "{name}: `{}` has no data source", title(panel));
            for target in list(&panel["targets"]) {
                assert!(!target["datasource"].is_null(), "{name}: a query of `{}` has none", title(panel));
            }
        }
    }
    Ok(format!("{count} places"))
}

/// Variables that are used are there, and those that are there are used.
fn variables_are_used() -> Outcome {
    let mut count = 0;
    for (name, dashboard) in dashboards() {
        let variables = &dashboard["templating"]["list"];
        let declared: Vec<&str> =
            list(variables).map(|variable| variable["name"].as_str().unwrap()).collect();
        let text = dashboard.to_string();
        for variable in &declared {
            let forms = [format!("${variable}"), format!("${{{variable}}}"), format!("${{{variable}:")];
            let used = forms.iter().any(|form| text.contains(form));
            assert!(used, "{name}: nobody asks for `{variable}`");
        }
        for (at, _) in text.match_indices('$') {
            let rest = text[at + 1..].trim_start_matches('{');
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            let variable = &rest[..end];
            let is_group = !variable.is_empty() && variable.chars().all(|c| c.is_ascii_digit());
            let is_known = declared.contains(&variable) || variable.starts_with("__") || is_group;
            assert!(is_known, "{name}: there is no variable `{variable}`");
        }
        assert_eq!(
            declared[..4],
            ["datasource", "cluster", "job", "instance"],
            "{name}: the first are the same"
        );
        for variable in list(variables).filter(|variable| variable["type"] != "datasource") {
            let label = variable["name"].as_str().unwrap();
            assert!(!variable["label"].as_str().unwrap_or_default().is_empty(), "{name}: `{label}`");
            if variable["type"] == "constant" {
                assert_eq!(
                    (&variable["hide"], &variable["skipUrlSync"]),
                    (&2.into(), &true.into()),
                    "{name}: `{label}`"
                );
            } else if label == "instance" && name != FLEET {
                // Grafana takes the first host, but everything where `All` can be chosen.
                assert_eq!(variable["includeAll"], false, "{name}: one host unless more are chosen");
                assert_eq!(
                    (&variable["multi"], variable["current"].to_string()),
                    (&true.into(), "{}".into()),
                    "{name}"
                );
            } else {
                // Series without such a label too: `.*` matches what is not there.
                assert_eq!(variable["allValue"], ".*", "{name}: `{label}`");
                assert_eq!(variable["includeAll"], true, "{name}: `{label}`");
                assert_eq!(variable["current"]["value"], serde_json::json!(["$__all"]), "{name}: `{label}`");
            }
        }
        count += declared.len();
    }
    Ok(format!("{count} variables"))
}

/// What every selector has, so that no query reads the hosts that nobody chose.
const CHOSEN: &str = "cluster=~\"$cluster\", job=~\"$job\", instance=~\"$instance\"";

/// Queries read the hosts that are chosen; those of all hosts, a recorded series or two of each.
fn queries_read_what_is_chosen() -> Outcome {
    let recorded: BTreeSet<String> = recorded();
    let mut count = 0;
    for (name, dashboard) in dashboards() {
        for panel in shown(&dashboard) {
            for target in list(&panel["targets"]) {
                let expr = target["expr"].as_str().unwrap();
                let found = promql::names(&queries::substitute(expr, &[]));
                // Nodes are not those of tapster, and alerts that count hosts name none.
                let others =
                    found.selectors.iter().filter(|one| ["kube_node_info", "ALERTS"].contains(&&*one.metric));
                let (selectors, others) = (found.selectors.len(), others.count());
                let alerts = usize::from(expr.contains("ALERTS{") && expr.contains(CHOSEN));
                let place = format!("{name}: `{}`\n{expr}", title(panel));
                assert_eq!(expr.matches(CHOSEN).count(), selectors - others + alerts, "{place}");
                count += selectors;
                if name != FLEET {
                    continue;
                }
                assert!(!expr.contains('['), "{place}\nreads windows of every host");
                for selector in &found.selectors {
                    let of_host =
                        recorded.contains(&selector.metric) && selector.metric.starts_with("instance:");
                    let is_small = of_host || selector.metric == "tapster_build_info";
                    assert!(
                        is_small || target["instant"] == true,
                        "{place}\nreads `{}` over time",
                        selector.metric
                    );
                }
            }
        }
    }
    Ok(format!("{count} selectors"))
}

/// Links lead to dashboards that there are, with variables that these have, and to sections of docs/alerts.md.
fn links_lead_somewhere() -> Outcome {
    fn urls(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(entries) => {
                for (key, value) in entries {
                    if let ("url", Some(url)) = (key.as_str(), value.as_str()) {
                        found.push(url.to_owned());
                    }
                    urls(value, found);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| urls(item, found)),
            _ => {}
        }
    }
    let alerts = fs::read_to_string(fixture::file("../docs/alerts.md")).unwrap();
    let sections: BTreeSet<String> =
        alerts.lines().filter_map(|line| line.strip_prefix("### ")).map(str::to_lowercase).collect();
    let dashboards = dashboards();
    let variables: BTreeMap<&str, BTreeSet<&str>> = dashboards
        .iter()
        .map(|(_, dashboard)| {
            let names =
                list(&dashboard["templating"]["list"]).map(|variable| variable["name"].as_str().unwrap());
            (dashboard["uid"].as_str().unwrap(), names.collect())
        })
        .collect();
    let (mut boards, mut pages, mut hosts) = (BTreeSet::new(), BTreeSet::new(), 0);
    for (name, dashboard) in &dashboards {
        let mut found = Vec::new();
        urls(dashboard, &mut found);
        for url in found.iter().filter(|url| !url.is_empty()) {
            if let Some(section) = url.strip_prefix("${runbook:raw}") {
                let section = section.strip_prefix('#').unwrap_or_default();
                assert!(
                    section.is_empty() || sections.contains(section),
                    "{name}: there is no section `{section}`"
                );
                pages.insert(section.to_owned());
            } else if let Some(rest) = url.strip_prefix("/d/") {
                let (uid, query) =
                    rest.split_once('?').unwrap_or_else(|| panic!("{name}: {url} takes nothing along"));
                let known =
                    variables.get(uid).unwrap_or_else(|| panic!("{name}: there is no dashboard `{uid}`"));
                for part in query.split('&').filter(|part| *part != "${__url_time_range}") {
                    let of_value =
                        part.strip_prefix("var-").and_then(|part| part.split_once('=')).map(|(name, _)| name);
                    let of_variable =
                        part.strip_prefix("${").and_then(|part| part.strip_suffix(":queryparam}"));
                    let variable =
                        of_value.or(of_variable).unwrap_or_else(|| panic!("{name}: {url}: `{part}`"));
                    assert!(known.contains(variable), "{name}: {url}: {uid} has no `{variable}`");
                }
                assert!(query.ends_with("&${__url_time_range}"), "{name}: {url} forgets the time");
                boards.insert(uid.to_owned());
            } else {
                assert!(url.starts_with("${node_dashboard:raw}"), "{name}: {url}");
                hosts += 1;
            }
        }
    }
    assert_eq!(boards.len(), 4, "{boards:?}");
    Ok(format!("{} dashboards, {} sections, {hosts} links to hosts", boards.len(), pages.len()))
}

/// Panels say what they show, in which unit, and what it means that they show nothing.
fn panels_explain_themselves() -> Outcome {
    let mut count = 0;
    for (name, dashboard) in dashboards() {
        let (mut ids, mut titles) = (BTreeSet::new(), BTreeSet::new());
        for panel in queries::panels(&dashboard) {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{name}: id {} twice", panel["id"]);
            assert!(titles.insert(title(panel)), "{name}: `{}` twice", title(panel));
            assert!(!title(panel).is_empty(), "{name}: panel {} has no title", panel["id"]);
        }
        for panel in shown(&dashboard) {
            let defaults = &panel["fieldConfig"]["defaults"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let title = title(panel);
            let description = text(&panel["description"]);
            assert!(description.len() > 20 && description.ends_with('.'), "{name}: `{title}`: {description}");
            assert!(!text(&defaults["unit"]).is_empty(), "{name}: `{title}` has no unit");
            assert!(!text(&defaults["noValue"]).is_empty(), "{name}: `{title}` is silent about nothing");
            assert!(list(&panel["targets"]).next().is_some(), "{name}: `{title}` asks nothing");
            // Without it Grafana takes the panel for one of its first versions and migrates what is new.
            assert_eq!(panel["pluginVersion"], PLUGIN_VERSION, "{name}: `{title}`");
            let mut references = BTreeSet::new();
            for target in list(&panel["targets"]) {
                assert!(references.insert(text(&target["refId"])), "{name}: `{title}`: refId twice");
                let is_series = !["table"].contains(&panel["type"].as_str().unwrap());
                let is_named = !text(&target["legendFormat"]).is_empty();
                assert!(is_named || !is_series || panel["type"] == "stat", "{name}: `{title}` has no legend");
            }
            count += 1;
        }
    }
    Ok(format!("{count} panels"))
}

/// Panels stand on the grid, and not on each other.
fn panels_do_not_overlap() -> Outcome {
    let mut folded = 0;
    let mut pages = Vec::new();
    for (name, dashboard) in dashboards() {
        for row in list(&dashboard["panels"]).filter(|panel| panel["type"] == "row") {
            let is_folded = row["collapsed"] == true;
            assert_eq!(is_folded, list(&row["panels"]).next().is_some(), "{name}: `{}`", title(row));
            if is_folded {
                folded += 1;
                pages.push((format!("{name}: {}", title(row)), row.clone()));
            }
        }
        pages.push((name, dashboard));
    }
    for (name, page) in pages {
        let mut taken: BTreeMap<(u64, u64), &str> = BTreeMap::new();
        let mut order = Vec::new();
        for panel in list(&page["panels"]) {
            let place =
                |key: &str| panel["gridPos"][key].as_u64().unwrap_or_else(|| panic!("{name}: `{key}`"));
            let (x, y, width, height) = (place("x"), place("y"), place("w"), place("h"));
            assert!(width > 0 && height > 0 && x + width <= 24, "{name}: `{}` is off the grid", title(panel));
            for cell in (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))) {
                if let Some(other) = taken.insert(cell, title(panel)) {
                    panic!("{name}: `{}` lies on `{other}`", title(panel));
                }
            }
            order.push((y, x));
        }
        assert!(order.is_sorted(), "{name}: the file has the panels in another order than the page");
    }
    Ok(format!("none overlaps; {folded} rows are folded"))
}

/// Nothing, and zero, are never in an alarming colour.
fn an_idle_host_is_not_red() -> Outcome {
    let alarming =
        |color: &Value| ["red", "orange", "yellow"].iter().any(|alarm| color.to_string().contains(alarm));
    let mut steps = 0;
    for (name, dashboard) in dashboards() {
        for panel in shown(&dashboard) {
            let config = &panel["fieldConfig"];
            let overrides = list(&config["overrides"]).flat_map(|rule| list(&rule["properties"]));
            let own = overrides
                .filter(|property| property["id"] == "thresholds")
                .map(|property| &property["value"]);
            for thresholds in own.chain([&config["defaults"]["thresholds"]]) {
                for step in list(&thresholds["steps"]) {
                    steps += 1;
                    let begins = step["value"].as_f64().unwrap_or(0.0);
                    assert!(
                        begins > 0.0 || !alarming(&step["color"]),
                        "{name}: `{}` is {} at nothing",
                        title(panel),
                        step["color"]
                    );
                }
            }
            let scheme = &panel["options"]["color"]["scheme"];
            assert!(scheme.is_null() || scheme == "Blues", "{name}: `{}` is drawn in {scheme}", title(panel));
        }
    }
    Ok(format!("{steps} steps of thresholds"))
}

/// Colours change where alerts begin.
fn colours_agree_with_the_rules() -> Outcome {
    let rules = queries::rules();
    let threshold = queries::threshold;
    let steps = |file: &str, wanted: &str| -> Vec<f64> {
        let dashboards = dashboards();
        let dashboard = &dashboards.iter().find(|(name, _)| name == file).unwrap().1;
        let panel = shown(dashboard).find(|panel| title(panel) == wanted).unwrap();
        let steps = &panel["fieldConfig"]["defaults"]["thresholds"]["steps"];
        list(steps).filter_map(|step| step["value"].as_f64()).collect()
    };
    let (slow, critical) = (threshold("raid_slow_ratio"), threshold("raid_slow_critical_ratio"));
    assert_eq!(steps("raid.json", "Slow members"), [slow, critical]);
    assert_eq!(steps("raid.json", "Ratio to the other members"), [slow]);
    assert_eq!(steps(FLEET, "Slow members of all hosts"), [slow, critical]);
    let near = rules.iter().find(|rule| rule.role == Role::Alert("TapsterSeriesNearLimit".into())).unwrap();
    let limit: f64 = promql::names(&near.expr).numbers[0].parse().unwrap();
    assert_eq!(steps("exporter.json", "Series, of those that fit").last(), Some(&limit));
    for (title, threshold) in [
        ("Tasks that wait, per processor", threshold("run_queue_waiting_per_cpu")),
        ("Tasks that wait for a processor", threshold("run_queue_waiting_per_cpu")),
        ("Wake-ups, the slowest of 100", threshold("run_queue_wakeup_seconds")),
        ("How long they wait", threshold("run_queue_wakeup_seconds")),
        ("Blocked for long", threshold("blocked_tasks")),
        ("Mean length of a blocked sleep", threshold("blocked_seconds")),
        ("Sleep without a reason", threshold("off_cpu_unexplained")),
        ("Sleep without a reason, share", threshold("off_cpu_unexplained")),
    ] {
        assert_eq!(steps("sched.json", title), [threshold], "{title}");
    }
    for (title, threshold) in [
        ("Tasks that free memory", threshold("memory_stalled_tasks")),
        ("Processors on which containers are held back", threshold("throttled_cpus")),
    ] {
        assert_eq!(steps("events.json", title), [threshold], "{title}");
    }
    Ok(format!("{slow}, {critical}, {limit}, and those of sched.yaml and events.yaml"))
}

fn queries() -> Vec<Query> {
    let of_dashboards = |query: &Query| !matches!(query.role, Role::Record(_) | Role::Alert(_));
    queries::all(&[]).into_iter().filter(of_dashboards).collect()
}

fn queries_parse() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let mut file = "groups:\n  - name: dashboards\n    rules:\n".to_owned();
    let queries = queries();
    for (number, Query { place, expr, .. }) in queries.iter().enumerate() {
        let expr = serde_json::to_string(expr).unwrap();
        writeln!(file, "      # {place}\n      - {{ record: 'query_{number}', expr: {expr} }}").unwrap();
    }
    let path = directory.path().join("queries.yaml");
    fs::write(&path, &file).unwrap();
    let output = output(tool("promtool")?.args(["check", "rules", "--lint=none"]).arg(&path));
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{file}");
    Ok(format!("{} queries", queries.len()))
}

/// Names of recorded series.
fn recorded() -> BTreeSet<String> {
    let name = |rule: queries::Rule| match rule.role {
        Role::Record(name) => Some(name),
        _ => None,
    };
    queries::rules().into_iter().filter_map(name).collect()
}

/// Labels that `label_replace` makes of a whole value.
fn made(expr: &str) -> BTreeSet<String> {
    let label = |(at, _)| {
        let before: &str = &expr[..at];
        before.rsplit('"').nth(1).map(str::to_owned)
    };
    expr.match_indices(", \"$1\"").filter_map(label).collect()
}

/// Every metric, label and placeholder of a legend is one that the exporter has or a rule records.
fn names_are_known() -> Outcome {
    let known = families::series();
    let recorded = recorded();
    let of_member = ["array", "level", "member", "slot", "operation"];
    let labels_of = |place: &str, metric: &str| -> Vec<String> {
        // An alert has the labels of its series.
        if metric == "ALERTS" || recorded.contains(metric) {
            let own = [
                "alertname",
                "alertstate",
                "severity",
                "device",
                "group",
                "probe",
                "reason",
                "state",
                "after",
                "k8s_namespace_name",
                "k8s_pod_name",
                "k8s_container_name",
            ];
            return of_member.iter().chain(&own).map(ToString::to_string).collect();
        }
        known.get(metric).unwrap_or_else(|| panic!("{place}: there is no `{metric}`")).clone()
    };
    let mut legends = BTreeMap::new();
    for (name, dashboard) in dashboards() {
        for panel in shown(&dashboard) {
            for target in list(&panel["targets"]) {
                let legend = target["legendFormat"].as_str().unwrap_or_default().to_owned();
                let expr = queries::substitute(target["expr"].as_str().unwrap(), &[]);
                legends.insert((format!("dashboards/{name}: {}", title(panel)), expr), legend);
            }
        }
    }
    let mut count = 0;
    for Query { place, expr, .. } in queries() {
        let found = promql::names(&expr);
        let mut labels: BTreeSet<String> = families::TARGET.map(String::from).into();
        for selector in &found.selectors {
            let own = labels_of(&place, &selector.metric);
            for label in &selector.labels {
                let is_there = own.contains(label) || families::TARGET.contains(&label.as_str());
                assert!(is_there, "{place}: `{}` has no label `{label}`", selector.metric);
            }
            labels.extend(own);
            count += 1;
        }
        labels.extend(made(&expr));
        for label in &found.grouped {
            assert!(labels.contains(label), "{place}: nothing there has `{label}`");
        }
        let shows = if found.kept.is_empty() { labels } else { found.kept };
        let legend = legends.get(&(place.clone(), expr)).cloned().unwrap_or_default();
        for (at, _) in legend.match_indices("{{") {
            let label = legend[at + 2..].split("}}").next().unwrap();
            assert!(shows.contains(label), "{place}: the legend's `{label}` is always empty");
        }
    }
    Ok(format!("{count} selectors"))
}

#[test]
fn dashboards_hold() {
    let mut cases = Cases::new("dashboards");
    cases.run("files are written alike", files_are_written_alike);
    cases.run("they import", they_import);
    cases.run("the data source is a variable", the_data_source_is_a_variable);
    cases.run("variables are used", variables_are_used);
    cases.run("queries read what is chosen", queries_read_what_is_chosen);
    cases.run("links lead somewhere", links_lead_somewhere);
    cases.run("panels explain themselves", panels_explain_themselves);
    cases.run("panels do not overlap", panels_do_not_overlap);
    cases.run("an idle host is not red", an_idle_host_is_not_red);
    cases.run("colours agree with the rules", colours_agree_with_the_rules);
    cases.run("queries parse", queries_parse);
    cases.run("names are known", names_are_known);
    cases.run("Grafana's schema", grafana::schema);
    let directory = tempfile::tempdir().unwrap();
    cases.run("queries are answered", || answers::all(directory.path()));
    cases.finish();
}
