//! What a person sets for the rules: numbers, selectors, the label of clusters, links. It goes into queries, into texts of alerts
//! and into YAML, so what could end the place where it stands is refused.

use super::{
    Filling, groups,
    threshold::{shared, thresholds},
};
use std::{borrow::Cow, collections::BTreeMap};
use tapster_ebpf::diagnostic::nearest;

/// What is wrong with a setting, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{message}{}", hint.as_ref().map(|hint| format!("\n  hint: {hint}")).unwrap_or_default())]
pub struct Wrong {
    message: String,
    hint: Option<String>,
}

impl Wrong {
    fn new(message: impl Into<String>, hint: impl Into<Option<String>>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

/// What a person gave, for a message: what a terminal would obey is escaped.
fn shown(text: &str) -> String {
    let character = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    text.chars().map(character).collect()
}

/// Everything that is put into the templates; by default what makes the files in `config/rules`.
#[derive(Clone, Debug)]
pub struct Settings {
    numbers: BTreeMap<String, String>,
    /// Numbers that are not the default.
    changed: BTreeMap<String, String>,
    /// `cluster="a"`, without braces.
    selector: String,
    cluster: Option<String>,
    runbook_url: Option<String>,
    job: Option<String>,
    nodes: Option<String>,
    groups: Vec<String>,
    is_classic: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let numbers = thresholds().into_iter().map(|one| (one.name, one.default)).collect();
        Self {
            numbers,
            changed: BTreeMap::new(),
            selector: String::new(),
            cluster: None,
            runbook_url: None,
            job: None,
            nodes: None,
            groups: Vec::new(),
            is_classic: false,
        }
    }
}

impl Settings {
    /// Sets a threshold: `NAME=VALUE`.
    pub fn set(&mut self, text: &str) -> Result<(), Wrong> {
        let Some((name, value)) = text.split_once('=') else {
            return Err(Wrong::new(
                format!("`{text}` is no threshold with a value"),
                "write NAME=VALUE: `raid_slow_ratio=2`".to_owned(),
            ));
        };
        let (name, value) = (name.trim(), value.trim());
        let all = thresholds();
        let Some(threshold) = all.iter().find(|threshold| threshold.name == name) else {
            let hint = match nearest(name, all.iter().map(|threshold| &*threshold.name)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`tapster rules --list` shows them".into(),
            };
            return Err(Wrong::new(format!("there is no threshold `{name}`"), hint));
        };
        let number = number(value).ok_or_else(|| {
            let hint = format!("a decimal number, in {}: `{}`", threshold.unit, threshold.default);
            Wrong::new(format!("`{value}` is no value for `{name}`"), hint)
        })?;
        match threshold.unit.as_str() {
            "share" if number > 1.0 => {
                let message = format!("`{name}` is a share, and {value} is more than 1");
                return Err(Wrong::new(message, "a per cent is 0.01".to_owned()));
            }
            "power of two" if number <= 0.0 || number.log2().fract() != 0.0 => {
                let message = format!("`{name}` must be a bound of the buckets, and {value} is none");
                let near = number.max(f64::MIN_POSITIVE).log2().round().exp2();
                return Err(Wrong::new(message, format!("bounds are powers of two: `{near}`")));
            }
            _ => {}
        }
        // Without an exponent, as bounds are written.
        let written = number.to_string();
        if written == threshold.default {
            self.changed.remove(name);
        } else {
            self.changed.insert(name.to_owned(), written.clone());
        }
        self.numbers.insert(name.to_owned(), written);
        Ok(())
    }

    /// Restricts every rule to series with these labels: `cluster="a", job=~"tapster.*"`.
    pub fn set_selector(&mut self, text: &str) -> Result<(), Wrong> {
        let text = text.trim();
        if !text.is_empty() {
            selector(text).map_err(|message| {
                Wrong::new(
                    format!("the selector `{}` is malformed: {message}", shown(text)),
                    "write it as between the braces of PromQL: `cluster=\"a\", job=~\"tapster.*\"`"
                        .to_owned(),
                )
            })?;
        }
        text.clone_into(&mut self.selector);
        Ok(())
    }

    /// The label that names a cluster: what counts hosts keeps it, and texts name it.
    pub fn set_cluster(&mut self, label: &str) -> Result<(), Wrong> {
        if label.is_empty() {
            self.cluster = None;
            return Ok(());
        }
        if !is_name(label) {
            let message = format!("`{}` is no name of a label", shown(label));
            return Err(Wrong::new(message, "letters, digits and `_`: `cluster`".to_owned()));
        }
        self.cluster = Some(label.to_owned());
        Ok(())
    }

    /// Where `docs/alerts.md` can be read.
    pub fn set_runbook_url(&mut self, url: &str) -> Result<(), Wrong> {
        if url.is_empty() {
            self.runbook_url = None;
            return Ok(());
        }
        let scheme = ["https://", "http://"].into_iter().find_map(|scheme| url.strip_prefix(scheme));
        let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '#' | '{' | '}' | '"' | '\\' | '`');
        if !scheme.is_some_and(|rest| !rest.is_empty() && rest.chars().all(is_plain)) {
            let message = format!("`{}` is no address of a page", shown(url));
            let hint = "http:// or https://, without what stands behind `#`: that is the alert's".to_owned();
            return Err(Wrong::new(message, hint));
        }
        self.runbook_url = Some(url.to_owned());
        Ok(())
    }

    /// Which jobs are tapster's: a regular expression.
    pub fn set_job(&mut self, regex: &str) -> Result<(), Wrong> {
        if regex.is_empty() {
            self.job = None;
            return Ok(());
        }
        value(regex).map_err(|message| {
            Wrong::new(format!("the job `{}` is malformed: {message}", shown(regex)), None)
        })?;
        self.job = Some(regex.to_owned());
        Ok(())
    }

    /// Which nodes there are: an expression with their names in the label `node`.
    pub fn set_nodes(&mut self, expression: &str) -> Result<(), Wrong> {
        if expression.is_empty() {
            self.nodes = None;
            return Ok(());
        }
        whole(expression).map_err(|message| {
            let text = shown(expression);
            let hint = "an expression in one line: `kube_node_info{cluster=\"a\"}`".to_owned();
            Wrong::new(format!("the nodes `{text}` are malformed: {message}"), hint)
        })?;
        self.nodes = Some(expression.to_owned());
        Ok(())
    }

    /// Whether rules read classic histograms only, for what does not know functions of native ones.
    pub fn set_classic(&mut self, is_classic: bool) {
        self.is_classic = is_classic;
    }

    pub(super) fn is_classic(&self) -> bool {
        self.is_classic
    }

    /// Asks for a group: then those that are not asked for are left out.
    pub fn ask_for(&mut self, group: &str) -> Result<(), Wrong> {
        let known = groups();
        if !known.contains(&group) {
            let hint = match nearest(group, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are {}", known.join(", ")),
            };
            return Err(Wrong::new(format!("there is no group `{}`", shown(group)), hint));
        }
        self.groups.push(group.to_owned());
        Ok(())
    }

    pub(super) fn takes(&self, group: &str, is_optional: bool) -> bool {
        if self.groups.is_empty() { !is_optional } else { self.groups.iter().any(|asked| asked == group) }
    }

    pub(super) fn runbook_url(&self) -> Option<&str> {
        self.runbook_url.as_deref()
    }

    /// A threshold as it is set.
    pub fn threshold(&self, name: &str) -> Option<&str> {
        self.numbers.get(name).map(String::as_str)
    }

    /// What is set, a line each.
    pub fn described(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (what, value) in [
            ("selector", (!self.selector.is_empty()).then_some(&*self.selector)),
            ("label of clusters", self.cluster.as_deref()),
            ("jobs", self.job.as_deref()),
            ("nodes", self.nodes.as_deref()),
        ] {
            lines.extend(value.map(|value| format!("{what}: {value}")));
        }
        lines.extend(self.is_classic.then(|| "classic histograms only".to_owned()));
        lines.extend(self.changed.iter().map(|(name, value)| format!("{name} = {value}")));
        lines
    }

    /// What stands for `${name}` in a template.
    pub(super) fn value(&self, name: &str) -> Option<Filling<'_>> {
        let of_cluster = |text: &dyn Fn(&str) -> String| {
            Some(Filling::Given(Cow::Owned(self.cluster.as_deref().map(text).unwrap_or_default())))
        };
        let of_selector = |text: &dyn Fn(&str) -> String| {
            let text = if self.selector.is_empty() { String::new() } else { text(&self.selector) };
            Some(Filling::Given(Cow::Owned(text)))
        };
        match name {
            "selector" => of_selector(&|selector| format!("{{{selector}}}")),
            "matchers" => of_selector(&|selector| format!(", {selector}")),
            "cluster" => of_cluster(&|label| format!(", {label}")),
            "of_cluster" => of_cluster(&|label| format!(" of {{{{ $labels.{label} }}}}")),
            "cluster_is" => of_cluster(&|label| format!(", {label}=%q")),
            "native" | "end" => Some(Filling::Given(Cow::Borrowed(""))),
            "cluster_is_of" => of_cluster(&|label| format!(" $labels.{label}")),
            _ => {
                let given = match name {
                    "job" => self.job.as_deref(),
                    "nodes" => self.nodes.as_deref(),
                    _ => self.threshold(name),
                };
                let given = given.map(|value| Filling::Given(Cow::Borrowed(value)));
                given.or_else(|| Some(Filling::Shared(Cow::Owned(shared(name)?))))
            }
        }
    }
}

/// A decimal number that is not negative: the forms of `f64` that are none to a person (`inf`, `1e5`) are refused.
fn number(text: &str) -> Option<f64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
    let is_number = digits(whole) && digits(fraction) && text.len() <= 40;
    text.parse().ok().filter(|number: &f64| is_number && number.is_finite())
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Checks what stands between the quotes of a matcher, here and in the argument of a template's `printf`.
fn value(text: &str) -> Result<(), String> {
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '"' => return Err("a quote ends the value".into()),
            '\\' if !matches!(rest.next(), Some('\\' | '"')) => {
                return Err("behind a backslash stands another one or a quote".into());
            }
            '`' | '%' => return Err(format!("`{c}` cannot stand in it")),
            '$' if rest.as_str().starts_with('{') => return Err("`${` cannot stand in it".into()),
            c if c.is_control() => return Err("it has a control character".into()),
            _ => {}
        }
    }
    Ok(())
}

/// Checks matchers: `label="value", other=~"regex"`.
fn selector(text: &str) -> Result<(), String> {
    let mut rest = text;
    loop {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (label, behind) = rest.split_at(end);
        if !is_name(label) {
            let found = rest.split(['=', '!', ',']).next().unwrap_or_default();
            return Err(format!("`{}` is no name of a label", shown(found)));
        }
        if label == "__name__" {
            return Err("the rules themselves name the metrics".into());
        }
        let behind = behind.trim_start_matches(' ');
        let operator = ["=~", "!~", "!=", "="].into_iter().find(|operator| behind.starts_with(operator));
        let operator =
            operator.ok_or_else(|| format!("`=`, `!=`, `=~` or `!~` is missing behind `{label}`"))?;
        let quoted = behind[operator.len()..].trim_start_matches(' ');
        let quoted = quoted
            .strip_prefix('"')
            .ok_or_else(|| format!("the value of `{label}` does not stand in double quotes"))?;
        let end = closing(quoted).ok_or_else(|| format!("the value of `{label}` has no closing quote"))?;
        value(&quoted[..end])?;
        rest = quoted[end + 1..].trim_start_matches(' ');
        if rest.is_empty() {
            return Ok(());
        }
        rest = rest
            .strip_prefix(',')
            .ok_or_else(|| format!("a comma is missing behind the value of `{label}`"))?
            .trim_start_matches(' ');
    }
}

/// The place of the first quote that no backslash stands before.
fn closing(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let ends = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        ends.then_some(at)
    })
}

/// Checks that an expression ends where it should: brackets and quotes are closed, nothing is a comment.
fn whole(text: &str) -> Result<(), String> {
    let (mut open, mut quote, mut rest) = (Vec::new(), None, text.chars());
    while let Some(c) = rest.next() {
        if c.is_control() {
            return Err("it has a control character".into());
        }
        if c == '$' && rest.as_str().starts_with('{') {
            return Err("`${` cannot stand in it".into());
        }
        match quote {
            Some(end) if c == end => quote = None,
            Some(end) => {
                if c == '\\' && end != '`' {
                    rest.next();
                }
            }
            None => match c {
                '"' | '\'' | '`' => quote = Some(c),
                '#' => return Err("`#` begins a comment".into()),
                '(' => open.push(')'),
                '[' => open.push(']'),
                '{' => open.push('}'),
                ')' | ']' | '}' if open.pop() != Some(c) => return Err(format!("`{c}` closes nothing")),
                _ => {}
            },
        }
    }
    match (quote, open.pop()) {
        (None, None) => Ok(()),
        (Some(end), _) | (None, Some(end)) => Err(format!("`{end}` is missing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_cannot_leave_its_braces() {
        for good in [
            "",
            "cluster=\"a\"",
            "cluster = \"a\" ,job=~\"tapster|x\\\\.y.{2}\", _a!=\"\", b!~\"c\\\"d\"",
            "cluster=\"a} or vector(1)\"",
            "cluster=\"#\"",
        ] {
            Settings::default().set_selector(good).unwrap_or_else(|wrong| panic!("{good}: {wrong}"));
        }
        for (bad, why) in [
            ("cluster", "`=`, `!=`, `=~` or `!~` is missing behind `cluster`"),
            ("{cluster=\"a\"}", "`{cluster` is no name of a label"),
            ("cluster=a", "the value of `cluster` does not stand in double quotes"),
            ("cluster='a'", "the value of `cluster` does not stand in double quotes"),
            ("cluster=\"a", "the value of `cluster` has no closing quote"),
            ("cluster=\"a\\\"", "the value of `cluster` has no closing quote"),
            ("cluster=\"a\"} or vector(1) or x{y=\"\"", "a comma is missing behind the value of `cluster`"),
            ("cluster=\"a\" or b=\"\"", "a comma is missing behind the value of `cluster`"),
            ("cluster=\"a\",", "`` is no name of a label"),
            ("cluster=\"a\nb\"", "it has a control character"),
            ("a=\"1\",\nb=\"2\"", "`\\nb` is no name of a label"),
            ("cluster=\"a\\d\"", "behind a backslash stands another one or a quote"),
            ("cluster=\"`}}\"", "``` cannot stand in it"),
            ("cluster=\"%s\"", "`%` cannot stand in it"),
            ("cluster=\"${job}\"", "`${` cannot stand in it"),
            ("__name__=\"up\"", "the rules themselves name the metrics"),
            ("clüster=\"a\"", "is missing behind `cl`"),
        ] {
            let said = Settings::default().set_selector(bad).expect_err(bad).to_string();
            assert!(said.contains(why) && said.contains("hint: "), "{bad}: {said}");
        }
    }

    #[test]
    fn numbers_are_decimal_and_make_sense() {
        let mut settings = Settings::default();
        settings.set("raid_slow_ratio= 2.50").expect("a number");
        assert_eq!(settings.threshold("raid_slow_ratio"), Some("2.5"));
        settings.set("slo_bound_seconds=0.0000152587890625").expect("two to the power of -16");
        assert_eq!(settings.threshold("slo_bound_seconds"), Some("0.0000152587890625"));
        assert_eq!(settings.described(), ["raid_slow_ratio = 2.5", "slo_bound_seconds = 0.0000152587890625"]);
        for (bad, said) in [
            (
                "raid_slow_ratio",
                "`raid_slow_ratio` is no threshold with a value\n  hint: write NAME=VALUE: `raid_slow_ratio=2`",
            ),
            (
                "raid_slow_ration=2",
                "there is no threshold `raid_slow_ration`\n  hint: did you mean `raid_slow_ratio`?",
            ),
            ("x=1", "there is no threshold `x`\n  hint: `tapster rules --list` shows them"),
            (
                "raid_slow_ratio=2x",
                "`2x` is no value for `raid_slow_ratio`\n  hint: a decimal number, in times: `1.8`",
            ),
            (
                "stuck_seconds=1e3",
                "`1e3` is no value for `stuck_seconds`\n  hint: a decimal number, in seconds: `30`",
            ),
            ("slo_share=99", "`slo_share` is a share, and 99 is more than 1\n  hint: a per cent is 0.01"),
            (
                "slo_bound_seconds=0.05",
                "`slo_bound_seconds` must be a bound of the buckets, and 0.05 is none\n  hint: bounds are powers of two: `0.0625`",
            ),
        ] {
            assert_eq!(Settings::default().set(bad).expect_err(bad).to_string(), said);
        }
        for bad in ["inf", "nan", "-1", "+1", "", ".", "1.", ".5", "0x10", "1 or vector(1)"] {
            assert!(Settings::default().set(&format!("stuck_seconds={bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn other_settings_stay_where_they_are_put() {
        let mut settings = Settings::default();
        for bad in ["a b", "1a", "a-b", "a}", "ü"] {
            assert!(settings.set_cluster(bad).is_err(), "{bad}");
        }
        for bad in ["ftp://x", "https://", "https://x/ y", "https://x#y", "https://x/{{ . }}", "https://x\n"]
        {
            assert!(settings.set_runbook_url(bad).is_err(), "{bad}");
        }
        for bad in ["a\"} or up{job=~\"", "a\\", "a\n"] {
            assert!(settings.set_job(bad).is_err(), "{bad}");
        }
        for (bad, why) in [
            ("up) or (vector(1)", "`)` closes nothing"),
            ("up # all", "`#` begins a comment"),
            ("up{a=\"}\"", "`}` is missing"),
            ("up{a=\"}", "`\"` is missing"),
            ("up\n", "control character"),
            ("${job}", "`${`"),
        ] {
            assert!(settings.set_nodes(bad).expect_err(bad).to_string().contains(why), "{bad}");
        }
        settings
            .set_nodes("label_replace(up{job=\"no)de\"}, \"node\", \"$1\", \"instance\", '(.+):.*')")
            .expect("whole");
        let said = settings.ask_for("tapster-raid-slo").expect_err("no group").to_string();
        assert_eq!(said, "there is no group `tapster-raid-slo`\n  hint: did you mean `tapster-raid-slow`?");
    }
}
