//! Asks every rule and every query of every dashboard, in the order in which Prometheus and Grafana would.

use super::{
    fleet::{BlockStats, NodeFleet, RecordedSeries, cluster, instance},
    scrape::{self, LabelList},
    server::{FleetServer, QueryCost},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::Path,
};
use tapster_testing::{
    cases::{Skip, say},
    durations, fixture,
    queries::{self, Role, Rule},
};

/// Seconds between scrapes, and between evaluations: what the charts of Prometheus' operator set.
const INTERVAL: i64 = 30;
/// Seconds of samples, for windows of an hour and an hour of a dashboard with the windows of its first point.
const HISTORY: i64 = 4500;
/// A question is not asked of all hosts if it would read more samples than this: Prometheus reads some millions in a second.
const WORTHWHILE: u64 = 10_000_000;
/// The host that a dashboard shows; it has a slow member.
const SHOWN: usize = 1;

#[derive(Debug)]
pub(crate) struct RuleRow {
    pub(crate) place: String,
    /// Its file is loaded on request only.
    pub(crate) optional: bool,
    /// Seconds between evaluations, if its group says so itself.
    pub(crate) every: Option<i64>,
    pub(crate) cost: QueryCost,
}

#[derive(Debug)]
pub(crate) struct PanelRow {
    pub(crate) place: String,
    /// `range`, `instant` or `values`.
    pub(crate) kind: &'static str,
    /// It is in a row that is folded when the dashboard is opened.
    pub(crate) folded: bool,
    /// With the variables as they are when the dashboard is opened, for one host.
    pub(crate) one: QueryCost,
    /// With all hosts.
    pub(crate) all: QueryCost,
}

/// Everything that was measured.
#[derive(Debug)]
pub(crate) struct FleetSurvey {
    pub(crate) nodes: usize,
    /// Of one node.
    pub(crate) node_series: usize,
    pub(crate) block: BlockStats,
    pub(crate) rules: Vec<RuleRow>,
    pub(crate) panels: Vec<PanelRow>,
}

/// Families with windows longer than the history of the others, by the rules.
fn longer(rules: &[Rule]) -> BTreeMap<String, i64> {
    let mut found = BTreeMap::new();
    for rule in rules {
        for (at, _) in rule.expr.match_indices('[') {
            let window: String =
                rule.expr[at + 1..].chars().take_while(char::is_ascii_alphanumeric).collect();
            let Some(window) = durations::parse(&window) else { continue };
            let before = rule.expr[..at].trim_end();
            let before = if before.ends_with('}') { before.rsplit_once('{').unwrap().0 } else { before };
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
            let name = &before[before.trim_end_matches(is_part).len()..];
            let seconds = i64::try_from(window.as_secs()).unwrap();
            if seconds > HISTORY - 600 && !name.is_empty() {
                let known = found.entry(name.to_owned()).or_insert(0);
                *known = seconds.max(*known);
            }
        }
    }
    found
}

/// The series of an answer, as a rule with these labels records them.
fn recorded(answer: &Value, more: &[(String, String)]) -> Vec<RecordedSeries> {
    let number = |value: &Value| value[1].as_str().unwrap().parse::<f64>().unwrap();
    if answer["resultType"] == "scalar" {
        return vec![RecordedSeries { labels: more.to_vec(), value: number(&answer["result"]) }];
    }
    let one = |result: &Value| {
        let mut labels: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in result["metric"].as_object().unwrap() {
            labels.insert(name.clone(), value.as_str().unwrap().to_owned());
        }
        labels.extend(more.iter().cloned());
        labels.remove("__name__");
        labels.retain(|_, value| !value.is_empty());
        RecordedSeries { labels: labels.into_iter().collect(), value: number(&result["value"]) }
    };
    answer["result"].as_array().unwrap().iter().map(one).collect()
}

/// A fleet of the shipped scrape.
fn new_fleet(nodes: usize, rules: &[Rule]) -> NodeFleet {
    let text = |name: &str| fs::read_to_string(fixture::file(format!("scale/{name}"))).unwrap();
    let node = scrape::node(&text("host.prom"), &text("array.prom"));
    let mut fleet = NodeFleet::new(nodes, INTERVAL, HISTORY, longer(rules), node);
    // What kube-state-metrics says of the nodes.
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let known = (0..nodes).map(|node| RecordedSeries {
        labels: vec![
            label("cluster", cluster(node)),
            label("instance", "kube-state-metrics:8080"),
            label("job", "kube-state-metrics"),
            label("node", instance(node).split(':').next().unwrap()),
        ],
        value: 1.0,
    });
    fleet.recorded.insert("kube_node_info".to_owned(), known.collect());
    fleet
}

/// A variable as Grafana puts it into a regular expression.
fn escaped(value: &str) -> String {
    let mut text = String::new();
    for character in value.chars() {
        if "\\$^*{}[]'+?.()|".contains(character) {
            text.push_str("\\\\");
        }
        text.push(character);
    }
    text
}

fn seconds(text: &str) -> i64 {
    let parsed = durations::parse(text).unwrap_or_else(|| panic!("`{text}` is no duration"));
    i64::try_from(parsed.as_secs()).unwrap()
}

/// Dashboards that show all hosts when they are opened.
const OF_ALL: [&str; 1] = ["fleet.json"];

/// Names and values of the variables, with one host or with all of them.
fn variables(dashboard: &Value, all: bool) -> LabelList {
    let mut found = Vec::new();
    for variable in dashboard["templating"]["list"].as_array().into_iter().flatten() {
        let name = variable["name"].as_str().unwrap();
        let current = &variable["current"]["value"];
        let current = current.as_str().or_else(|| current[0].as_str());
        let value = match name {
            "instance" if !all => escaped(&instance(SHOWN)),
            "cluster" if !all => cluster(SHOWN).to_owned(),
            _ if variable["type"] == "datasource" => "prometheus".to_owned(),
            _ => match current {
                Some(value) if !value.is_empty() && value != "$__all" => escaped(value),
                _ => {
                    variable["allValue"].as_str().filter(|value| !value.is_empty()).unwrap_or(".*").to_owned()
                }
            },
        };
        found.push((name.to_owned(), value));
    }
    found
}

/// What a panel that is repeated shows first.
fn first_of(variable: &str) -> &'static str {
    match variable {
        "member" | "device" => "sda",
        "array" => "md0",
        "probe" => "block_io",
        _ => panic!("no panel is repeated by `{variable}`"),
    }
}

/// Calls `visit` for each panel, and whether it is in a folded row.
fn visit_panels<'a>(list: &'a Value, folded: bool, visit: &mut impl FnMut(&'a Value, bool)) {
    for panel in list.as_array().into_iter().flatten() {
        visit(panel, folded);
        visit_panels(&panel["panels"], folded || panel["collapsed"] == true, visit);
    }
}

/// A query of a dashboard before its variables have values.
struct AskedQuery<'a> {
    place: String,
    expr: &'a str,
    kind: &'static str,
    folded: bool,
    step: i64,
    repeat: Option<&'a str>,
}

fn asked<'a>(file: &str, dashboard: &'a Value) -> Vec<AskedQuery<'a>> {
    let mut found = Vec::new();
    visit_panels(&dashboard["panels"], false, &mut |panel, folded| {
        let step = panel["interval"].as_str().map_or(INTERVAL, seconds).max(INTERVAL);
        for target in panel["targets"].as_array().into_iter().flatten() {
            let Some(expr) = target["expr"].as_str() else { continue };
            let kind = if target["instant"] == true { "instant" } else { "range" };
            let place = format!("{file}: {}", panel["title"].as_str().unwrap_or_default());
            found.push(AskedQuery { place, expr, kind, folded, step, repeat: panel["repeat"].as_str() });
        }
    });
    for annotation in dashboard["annotations"]["list"].as_array().into_iter().flatten() {
        if let Some(expr) = annotation["expr"].as_str() {
            let place = format!("{file}: annotation {}", annotation["name"].as_str().unwrap_or_default());
            found.push(AskedQuery {
                place,
                expr,
                kind: "range",
                folded: false,
                step: INTERVAL,
                repeat: None,
            });
        }
    }
    for variable in dashboard["templating"]["list"].as_array().into_iter().flatten() {
        if let Some(expr) = variable["query"]["query"].as_str() {
            let place = format!("{file}: ${}", variable["name"].as_str().unwrap_or_default());
            found.push(AskedQuery {
                place,
                expr,
                kind: "values",
                folded: false,
                step: INTERVAL,
                repeat: None,
            });
        }
    }
    found
}

/// What a question costs with one host, or with all.
fn asked_of(server: &FleetServer, dashboard: &Value, question: &AskedQuery<'_>, all: bool) -> QueryCost {
    let range = dashboard["time"]["from"].as_str().and_then(|from| from.strip_prefix("now-"));
    let range = range.map_or(3600, seconds);
    let mut values = variables(dashboard, all);
    if let Some(variable) = question.repeat {
        values.retain(|(name, _)| name != variable);
        values.push((variable.to_owned(), first_of(variable).to_owned()));
    }
    let rate = (question.step + INTERVAL).max(4 * INTERVAL);
    for (name, value) in [("__rate_interval", rate), ("__interval", question.step), ("__range", range)] {
        values.push((name.to_owned(), format!("{value}s")));
    }
    let values: Vec<(&str, &str)> =
        values.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let expr = queries::substitute(question.expr, &values);
    match question.kind {
        "instant" => server.instant(&expr),
        "range" => server.range(&expr, range, question.step),
        _ => match queries::query_result(&expr) {
            Some(inner) => server.instant(inner),
            None => {
                let (selector, label) = queries::label_values(&expr).unwrap_or_else(|| panic!("`{expr}`"));
                server.values(selector, label, range)
            }
        },
    }
}

/// All dashboards with one host, and then with all hosts if asked for, which takes much longer.
fn dashboard_rows(server: &FleetServer, nodes: usize, hosts: &[bool]) -> Vec<PanelRow> {
    let mut rows: Vec<PanelRow> = Vec::new();
    for &all in hosts {
        let mut asked_before = 0;
        for path in queries::dashboard_files() {
            let dashboard = queries::dashboard(&path);
            let file = path.file_name().unwrap().to_str().unwrap();
            for question in asked(file, &dashboard) {
                let expected = |row: &PanelRow| row.one.samples * nodes as u64;
                let all_shown = all || OF_ALL.contains(&file);
                let cost = match rows.get(asked_before).filter(|_| all) {
                    Some(row) if expected(row) > WORTHWHILE => QueryCost {
                        samples: expected(row),
                        peak: row.one.peak * nodes as u64,
                        error: Some("not asked".to_owned()),
                        ..QueryCost::default()
                    },
                    _ => asked_of(server, &dashboard, &question, all_shown),
                };
                if hosts.len() > 1 {
                    say(format_args!("{}, {}: {cost:?}", question.place, if all { "all" } else { "one" }));
                }
                if all {
                    let row = &mut rows[asked_before];
                    row.all = cost;
                    asked_before += 1;
                } else {
                    let AskedQuery { place, kind, folded, .. } = question;
                    rows.push(PanelRow { place, kind, folded, one: cost, all: QueryCost::default() });
                }
            }
        }
    }
    rows
}

/// What a rule records: its name, and the labels besides those of the answer.
fn recorded_as(rule: &Rule) -> (String, LabelList) {
    match &rule.role {
        Role::Alert(name) => {
            let mut labels = rule.labels.clone();
            labels.push(("alertname".to_owned(), name.clone()));
            labels.push(("alertstate".to_owned(), "firing".to_owned()));
            ("ALERTS".to_owned(), labels)
        }
        Role::Record(name) => (name.clone(), rule.labels.clone()),
        _ => panic!("a rule is a record or an alert"),
    }
}

/// What the rules record of so many nodes, asked in their order: a rule that reads what others record is asked when that is in the
/// block.
pub(crate) fn learn(nodes: usize, directory: &Path) -> Result<KnownRecords, Skip> {
    let rules = queries::rules();
    let mut fleet = new_fleet(nodes, &rules);
    let data = directory.join("data");
    fs::create_dir_all(&data).unwrap();
    fleet.write(&data).unwrap();
    let mut server = FleetServer::start(directory)?;
    let mut pending: BTreeSet<String> = BTreeSet::new();
    for rule in &rules {
        if pending.iter().any(|name| rule.expr.contains(name.as_str())) {
            drop(server);
            fleet.write(&data).unwrap();
            pending.clear();
            server = FleetServer::start(directory)?;
        }
        let (name, labels) = recorded_as(rule);
        let answer = server.answer(&rule.expr).unwrap_or_else(|error| panic!("{name}: {error}"));
        fleet.recorded.entry(name.clone()).or_default().extend(recorded(&answer, &labels));
        pending.insert(name);
    }
    Ok(KnownRecords { nodes, recorded: fleet.recorded })
}

/// What was recorded of a fleet.
pub(crate) struct KnownRecords {
    nodes: usize,
    recorded: BTreeMap<String, Vec<RecordedSeries>>,
}

impl KnownRecords {
    /// The same for more nodes: those that follow repeat it.
    fn repeated(&self, nodes: usize) -> BTreeMap<String, Vec<RecordedSeries>> {
        let numbers: HashMap<String, usize> = (0..self.nodes).map(|node| (instance(node), node)).collect();
        let repeat = |one: &RecordedSeries| -> Vec<RecordedSeries> {
            let at = one.labels.iter().position(|(name, _)| name == "instance");
            let Some((at, node)) = at.and_then(|at| Some((at, *numbers.get(&one.labels[at].1)?))) else {
                return vec![one.clone()];
            };
            let with = |node| {
                let mut copy = one.clone();
                copy.labels[at].1 = instance(node);
                copy
            };
            (node..nodes).step_by(self.nodes).map(with).collect()
        };
        let lists = self.recorded.iter();
        lists.map(|(name, list)| (name.clone(), list.iter().flat_map(repeat).collect())).collect()
    }
}

/// Measures a fleet of so many nodes; its block is below `directory`. With `all`, dashboards are also asked for all hosts, and each
/// cost is told when it is known: this takes long.
pub(crate) fn measure(
    nodes: usize,
    known: &KnownRecords,
    directory: &Path,
    all: bool,
) -> Result<FleetSurvey, Skip> {
    let mut rules = queries::rules();
    let mut fleet = new_fleet(nodes, &rules);
    let of_nodes = std::mem::replace(&mut fleet.recorded, known.repeated(nodes));
    fleet.recorded.extend(of_nodes);
    let block = fleet.write(&directory.join("data")).unwrap();
    if all {
        say(format_args!("{nodes} nodes: {block:?}"));
    }
    let server = FleetServer::start(directory)?;
    if std::env::var_os("TAPSTER_SCALE_NO_RULES").is_some() {
        rules.clear();
    }
    let mut rows = Vec::new();
    for rule in &rules {
        let (Role::Record(title) | Role::Alert(title)) = &rule.role else { continue };
        let cost = server.rule(&rule.expr);
        if all {
            say(format_args!("{title}: {cost:?}"));
        }
        let file = rule.file.file_name().unwrap().to_str().unwrap();
        let optional = rule.file.parent().is_some_and(|parent| parent.ends_with("optional"));
        let every = rule.every.as_deref().map(seconds);
        rows.push(RuleRow { place: format!("{file}: {title}"), optional, every, cost });
    }
    let panels = dashboard_rows(&server, nodes, if all { &[false, true] } else { &[false] });
    Ok(FleetSurvey { nodes, node_series: fleet.node.len(), block, rules: rows, panels })
}
