//! Every query that the project ships, in `config/rules` and in `dashboards`, ready to be sent.

use super::{fixture::repository, yaml};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The values of Grafana's variables, unless a test gives others: everything, and a window that a test of a minute fills.
pub const VARIABLES: [(&str, &str); 14] = [
    ("datasource", "prometheus"),
    ("cluster", ".*"),
    ("job", ".*"),
    ("instance", ".*"),
    ("array", ".*"),
    ("member", ".*"),
    ("device", ".*"),
    ("operation", ".*"),
    ("probe", ".*"),
    ("reason", ".*"),
    ("namespace", ".*"),
    ("__rate_interval", "1m"),
    ("__interval", "15s"),
    ("__range", "5m"),
];

/// The use of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// A panel draws it.
    Panel,
    /// It gives the values of a variable: `label_values(SELECTOR, LABEL)`, of which `expr` is the selector, or
    /// `query_result(EXPR)`.
    Variable,
    /// It marks the graphs.
    Annotation,
    /// A recording rule of this name.
    Record(String),
    /// An alert of this name.
    Alert(String),
}

/// A query and its place.
#[derive(Clone, Debug)]
pub struct Query {
    /// `dashboards/raid.json: I/O per second`, `config/rules/raid.yaml: TapsterRaidMemberSlow`.
    pub place: String,
    pub role: Role,
    /// The `PromQL` with variables replaced.
    pub expr: String,
}

impl Query {
    /// Why a Prometheus that scrapes a working exporter may have no answer; `None` if it must have one.
    pub fn may_be_empty(&self) -> Option<&'static str> {
        let asks = |text: &str| self.expr.contains(text);
        match &self.role {
            Role::Alert(_) => Some("an alert is empty while all is well"),
            Role::Annotation => Some("only while an alert fires"),
            Role::Record(name) if name.contains(":past_") => Some("there is no yesterday"),
            Role::Record(name) if name == "tapster:oom_kills:increase1m" => {
                Some("only in the minute of a kill")
            }
            Role::Record(name) if name.contains("_bears:") => Some("only where an array has redundancy"),
            Role::Record(name) if name.contains(":slow_") => Some("only while a member is slow"),
            Role::Record(name) if name.starts_with("tapster:blocked_long:") => {
                Some("only while tasks are blocked for long")
            }
            Role::Record(name) if name.contains(":late_ratio") => Some("only of devices with enough I/O"),
            Role::Record(name)
                if ["group_device_operation:", "group_operation:", "device_group:"]
                    .iter()
                    .any(|of| name.starts_with(of)) =>
            {
                Some("only where a site has named groups of devices")
            }
            Role::Panel if asks(":slow_ratio") => Some("only while a member is slow"),
            Role::Panel if asks("tapster:blocked_long:tasks5m") => {
                Some("only while tasks are blocked for long")
            }
            Role::Panel if asks("ALERTS{") => Some("only while an alert is active"),
            Role::Panel if asks("_sync_completed_ratio") => Some("only while an array is synchronised"),
            Role::Panel | Role::Variable | Role::Record(_) => None,
        }
    }
}

/// A file or directory of the repository.
fn place(path: &str) -> PathBuf {
    repository().join(path)
}

/// Files in `directory` with this ending, in order.
fn files(directory: &str, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(place(directory)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|found| found == ending)).collect();
    files.sort();
    assert!(!files.is_empty(), "{directory} holds no .{ending}");
    files
}

fn name(path: &Path) -> String {
    path.strip_prefix(repository()).unwrap().display().to_string()
}

/// The files of rules, those that are loaded on request too.
pub fn rule_files() -> Vec<PathBuf> {
    let mut all = files("config/rules", "yaml");
    all.extend(files("config/rules/optional", "yaml"));
    all
}

/// A threshold of the shipped rules.
pub fn threshold(name: &str) -> f64 {
    let settings = tapster::rules::Settings::default();
    let value = settings.threshold(name).unwrap_or_else(|| panic!("there is no threshold `{name}`"));
    value.parse().expect("a threshold is a number")
}

/// Writes changed copies of the files of rules to `directory`.
pub fn changed_rule_files(directory: &Path, change: impl Fn(&str) -> String) -> Vec<PathBuf> {
    fs::create_dir_all(directory).unwrap();
    let copy = |file: PathBuf| {
        let copy = directory.join(file.file_name().expect("a file has a name"));
        fs::write(&copy, change(&fs::read_to_string(&file).unwrap())).unwrap();
        copy
    };
    rule_files().into_iter().map(copy).collect()
}

/// The dashboards.
pub fn dashboard_files() -> Vec<PathBuf> {
    files("dashboards", "json")
}

/// A rule as in its file.
#[derive(Clone, Debug)]
pub struct Rule {
    pub file: PathBuf,
    pub group: String,
    pub role: Role,
    pub expr: String,
    /// How often its group is evaluated, as written, if it says so itself.
    pub every: Option<String>,
    /// How long an alert's condition must last, as written.
    pub lasts: Option<String>,
    pub labels: Vec<(String, String)>,
    pub annotations: Vec<(String, String)>,
}

/// All rules, in the order of the files.
pub fn rules() -> Vec<Rule> {
    let mut rules = Vec::new();
    for file in rule_files() {
        let root = yaml::read(&file);
        for group in yaml::items(&root, "groups") {
            for rule in yaml::items(group, "rules") {
                let text = |key: &str| yaml::get(rule, key).map(|node| yaml::text(node).to_owned());
                let role = match (text("record"), text("alert")) {
                    (Some(name), None) => Role::Record(name),
                    (None, Some(name)) => Role::Alert(name),
                    _ => panic!("{}: a rule is a `record` or an `alert`", file.display()),
                };
                let owned = |key: &str| {
                    let pairs = yaml::pairs(rule, key).into_iter();
                    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
                };
                rules.push(Rule {
                    file: file.clone(),
                    group: yaml::get(group, "name")
                        .map(|name| yaml::text(name).to_owned())
                        .unwrap_or_default(),
                    role,
                    expr: text("expr").expect("a rule has an `expr`"),
                    every: yaml::get(group, "interval").map(|every| yaml::text(every).to_owned()),
                    lasts: text("for"),
                    labels: owned("labels"),
                    annotations: owned("annotations"),
                });
            }
        }
    }
    assert!(!rules.is_empty());
    rules
}

/// All panels of a dashboard, including those in rows.
pub fn panels(dashboard: &Value) -> Vec<&Value> {
    fn collect<'a>(list: &'a Value, panels: &mut Vec<&'a Value>) {
        for panel in list.as_array().into_iter().flatten() {
            panels.push(panel);
            collect(&panel["panels"], panels);
        }
    }
    let mut panels = Vec::new();
    collect(&dashboard["panels"], &mut panels);
    panels
}

/// Reads a dashboard.
pub fn dashboard(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Replaces `$name` and `${name}` by the value in `variables`, else in [`VARIABLES`]; panics for an unknown name.
pub fn substitute(text: &str, variables: &[(&str, &str)]) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        // `$1` is a group of a regular expression.
        if rest.starts_with(|c: char| c.is_ascii_digit()) {
            result.push('$');
            continue;
        }
        // `=~"x$"` ends a regular expression.
        let (name, after) = match rest.strip_prefix('{') {
            Some(inner) => inner.split_once('}').unwrap_or_else(|| panic!("`{text}`: `${{` is not closed")),
            None => rest
                .split_at(rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len())),
        };
        assert!(!name.is_empty(), "`{text}`: a `$` without a name");
        let known = variables.iter().chain(&VARIABLES).find(|(known, _)| *known == name);
        result.push_str(known.unwrap_or_else(|| panic!("`{text}`: there is no variable `{name}`")).1);
        rest = after;
    }
    result + rest
}

/// The expression of `query_result(EXPR)`.
pub fn query_result(query: &str) -> Option<&str> {
    query.strip_prefix("query_result(")?.strip_suffix(')')
}

/// The selector of `label_values(SELECTOR, LABEL)`, and the label.
pub fn label_values(query: &str) -> Option<(&str, &str)> {
    let inner = query.strip_prefix("label_values(")?.strip_suffix(')')?;
    inner.rsplit_once(',').map(|(selector, label)| (selector.trim(), label.trim()))
}

/// Every query of every dashboard and rule. `variables` go before [`VARIABLES`].
pub fn all(variables: &[(&str, &str)]) -> Vec<Query> {
    let mut queries = Vec::new();
    for rule in rules() {
        let (Role::Record(title) | Role::Alert(title)) = &rule.role else { continue };
        let place = format!("{}: {title}", name(&rule.file));
        queries.push(Query { place, role: rule.role, expr: rule.expr });
    }
    for file in dashboard_files() {
        let dashboard = dashboard(&file);
        let name = name(&file);
        let mut push = |title: &str, role, expr: &str| {
            let expr = substitute(expr, variables);
            queries.push(Query { place: format!("{name}: {title}"), role, expr });
        };
        for panel in panels(&dashboard) {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let expr = target["expr"].as_str().expect("a target has an `expr`");
                push(panel["title"].as_str().unwrap_or_default(), Role::Panel, expr);
            }
        }
        for annotation in dashboard["annotations"]["list"].as_array().into_iter().flatten() {
            if let Some(expr) = annotation["expr"].as_str() {
                push(annotation["name"].as_str().unwrap_or_default(), Role::Annotation, expr);
            }
        }
        for variable in dashboard["templating"]["list"].as_array().into_iter().flatten() {
            if variable["type"] == "query" {
                let query = variable["query"]["query"].as_str().expect("a variable has a query");
                let expr = query_result(query).or_else(|| label_values(query).map(|(selector, _)| selector));
                let expr = expr.unwrap_or_else(|| panic!("`{query}`"));
                push(variable["name"].as_str().unwrap_or_default(), Role::Variable, expr);
            }
        }
    }
    queries
}
