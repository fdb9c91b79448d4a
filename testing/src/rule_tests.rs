//! Unit tests of rules, as `promtool test rules` reads them.

use super::{durations, yaml};
use std::{collections::BTreeMap, path::Path, time::Duration};
use tapster::rules::{TEMPLATES, Template};
use tapster_ebpf::yaml::Node;

/// An alert that a unit test asks for: its name, when, and the labels and texts of each that fires.
#[derive(Debug)]
pub struct AlertCase {
    pub alert: String,
    pub at: String,
    pub expected: Vec<(BTreeMap<String, String>, BTreeMap<String, String>)>,
}

/// A unit test with its series, in promtool's notation.
#[derive(Debug)]
pub struct RuleTest {
    pub name: String,
    pub interval: String,
    pub series: Vec<(String, String)>,
    pub cases: Vec<AlertCase>,
}

/// The unit tests of a file, how often the rules are evaluated in them, and the template of these rules.
#[derive(Debug)]
pub struct RuleTestFile {
    pub template: &'static Template,
    pub every: String,
    pub tests: Vec<RuleTest>,
}

fn text(node: &Node, key: &str) -> String {
    yaml::get(node, key).map(yaml::text).unwrap_or_default().to_owned()
}

/// Reads a file of unit tests.
pub fn read(file: &Path) -> RuleTestFile {
    let root = yaml::read(file);
    let rules = yaml::text(&yaml::items(&root, "rule_files")[0]).to_owned();
    let template =
        TEMPLATES.iter().find(|template| rules == format!("../../config/rules/{}", template.file)).unwrap();
    let owned = |node: &Node, key: &str| {
        yaml::pairs(node, key).into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    };
    let case = |node: &Node| AlertCase {
        alert: text(node, "alertname"),
        at: text(node, "eval_time"),
        expected: yaml::items(node, "exp_alerts")
            .iter()
            .map(|alert| (owned(alert, "exp_labels"), owned(alert, "exp_annotations")))
            .collect(),
    };
    let test = |node: &Node| RuleTest {
        name: text(node, "name"),
        interval: text(node, "interval"),
        series: yaml::items(node, "input_series")
            .iter()
            .map(|series| (text(series, "series"), text(series, "values")))
            .collect(),
        cases: yaml::items(node, "alert_rule_test").iter().map(case).collect(),
    };
    let tests = yaml::items(&root, "tests").iter().map(test).collect();
    RuleTestFile { template, every: text(&root, "evaluation_interval"), tests }
}

/// A time of a test: `1h5m`.
pub fn time(text: &str) -> Duration {
    let mut rest = text;
    let mut time = Duration::ZERO;
    while !rest.is_empty() {
        let unit = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let end = rest[unit..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |more| unit + more);
        time += durations::parse(&rest[..end]).unwrap_or_else(|| panic!("`{text}` is no time"));
        rest = &rest[end..];
    }
    time
}

/// Name and labels of `name{a="b"}`.
pub fn series(text: &str) -> BTreeMap<String, String> {
    let (name, labels) = text.split_once('{').unwrap_or((text, ""));
    let mut found = BTreeMap::from([("__name__".to_owned(), name.to_owned())]);
    let mut rest = labels.trim_end_matches('}');
    while let Some((label, more)) = rest.split_once("=\"") {
        let (value, more) = more.split_once('"').unwrap_or_else(|| panic!("`{text}`"));
        assert!(!value.contains('\\'), "`{text}`: escapes are not read here");
        found.insert(label.trim_start_matches([',', ' ']).to_owned(), value.to_owned());
        rest = more;
    }
    found
}

/// The samples of a series, one for each interval: `1 2+3x4 _x2 stale`. `None` where there is none.
pub fn values(text: &str) -> Vec<Option<f64>> {
    let mut values = Vec::new();
    for word in text.split_whitespace() {
        let (word, times) = word.rsplit_once('x').unwrap_or((word, "0"));
        let times: u32 = times.parse().unwrap_or_else(|_| panic!("`x{times}` in `{text}`"));
        match word {
            // Once, or as often as it says.
            "_" => values.extend(std::iter::repeat_n(None, times.max(1) as usize)),
            "stale" => values.push(None),
            _ => {
                // The sign of an exponent is none of a step.
                let step = word.char_indices().skip(1).find(|(at, c)| {
                    matches!(c, '+' | '-') && !matches!(word.as_bytes()[at - 1], b'e' | b'E')
                });
                let (first, step) = word.split_at(step.map_or(word.len(), |(at, _)| at));
                let number =
                    |number: &str| number.parse::<f64>().unwrap_or_else(|_| panic!("`{word}` in `{text}`"));
                let (first, step) = (number(first), if step.is_empty() { 0.0 } else { number(step) });
                values.extend((0..=times).map(|at| Some(first + step * f64::from(at))));
            }
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notation_of_promtool_is_read() {
        let some = |values: &[f64]| values.iter().copied().map(Some).collect::<Vec<_>>();
        assert_eq!(values("1 2+3x2"), some(&[1.0, 2.0, 5.0, 8.0]));
        assert_eq!(values("4-1x2 1e-3x1"), some(&[4.0, 3.0, 2.0, 0.001, 0.001]));
        assert_eq!(values("_x2 7 stale _"), [None, None, Some(7.0), None, None]);
        assert_eq!(time("1h5m30s"), Duration::from_secs(3930));
        assert_eq!(time("0m"), Duration::ZERO);
        let found = series(r#"up{instance="a", job="x,y"}"#);
        assert_eq!(found.values().collect::<Vec<_>>(), ["up", "a", "x,y"]);
        assert_eq!(series("up").len(), 1);
    }
}
