//! The rules for Prometheus: templates, and the numbers, selectors and texts that are put into them.
//!
//! A number in a rule is there when the rule is loaded, not a series that is read when it is evaluated: so copies with different
//! numbers for different clusters go into one ruler. [`Settings`] checks what a person gives; nothing that it accepts can leave
//! the place where it is put.

mod setting;
mod threshold;

pub use setting::{Settings, Wrong};
pub use threshold::{Threshold, thresholds};

use std::{borrow::Cow, fmt::Write};

/// A file of rules.
#[derive(Clone, Copy, Debug)]
pub struct Template {
    /// Where its rules by default are, below `config/rules`.
    pub file: &'static str,
    /// Whether its groups are left out unless asked for.
    pub is_optional: bool,
    text: &'static str,
}

/// All of them, by their names.
pub const TEMPLATES: [Template; 10] = [
    Template {
        file: "block.yaml",
        is_optional: false,
        text: include_str!("../config/rules/templates/block.yaml"),
    },
    Template {
        file: "events.yaml",
        is_optional: false,
        text: include_str!("../config/rules/templates/events.yaml"),
    },
    Template {
        file: "exporter.yaml",
        is_optional: false,
        text: include_str!("../config/rules/templates/exporter.yaml"),
    },
    Template {
        file: "fleet.yaml",
        is_optional: false,
        text: include_str!("../config/rules/templates/fleet.yaml"),
    },
    Template {
        file: "optional/median.yaml",
        is_optional: true,
        text: include_str!("../config/rules/templates/median.yaml"),
    },
    Template {
        file: "optional/nodes.yaml",
        is_optional: true,
        text: include_str!("../config/rules/templates/nodes.yaml"),
    },
    Template {
        file: "optional/peers.yaml",
        is_optional: true,
        text: include_str!("../config/rules/templates/peers.yaml"),
    },
    Template {
        file: "raid.yaml",
        is_optional: false,
        text: include_str!("../config/rules/templates/raid.yaml"),
    },
    Template {
        file: "sched.yaml",
        is_optional: false,
        text: include_str!("../config/rules/templates/sched.yaml"),
    },
    Template {
        file: "optional/slo.yaml",
        is_optional: true,
        text: include_str!("../config/rules/templates/slo.yaml"),
    },
];

/// How a group begins in a template.
const GROUP: &str = "  - name: ";
/// The line before the first group.
const GROUPS: &str = "groups:\n";

/// Where rules go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RulesFormat {
    /// A file of rules, as Prometheus, Thanos Ruler, Mimir and vmalert take it.
    Prometheus,
    /// An object of the Prometheus Operator.
    Operator,
}

impl Template {
    /// Its text up to the groups, and the groups with their names. Comments above a group belong to it.
    fn parts(&self) -> (&'static str, Vec<(&'static str, &'static str)>) {
        let (head, body) = self.text.split_once(GROUPS).expect("a template has groups");
        let (mut begins, mut at, mut comment) = (Vec::new(), 0, None);
        for line in body.split_inclusive('\n') {
            if line.starts_with(GROUP) {
                begins.push(comment.take().unwrap_or(at));
            } else if line.starts_with("  #") {
                comment.get_or_insert(at);
            } else {
                comment = None;
            }
            at += line.len();
        }
        let ends = begins.iter().skip(1).copied().chain([body.len()]);
        let group = |(begin, end): (&usize, usize)| {
            let text = &body[*begin..end];
            let name = text.lines().find_map(|line| line.strip_prefix(GROUP)).unwrap_or_default();
            (name, text.trim_end())
        };
        (head, begins.iter().zip(ends).map(group).collect())
    }

    /// The names of its groups.
    pub fn groups(&self) -> impl Iterator<Item = &'static str> {
        self.parts().1.into_iter().map(|(name, _)| name)
    }
}

/// The names of all groups, in the order in which they are printed.
pub fn groups() -> Vec<&'static str> {
    TEMPLATES.iter().flat_map(Template::groups).collect()
}

/// The whole text of a file of rules.
pub fn file(template: &Template, settings: &Settings) -> String {
    let (head, groups) = template.parts();
    let name = template.file.rsplit('/').next().unwrap_or(template.file);
    let mut text = format!(
        "{head}#\n# Made of templates/{name}; other numbers, selectors and links: `tapster rules --help`.\n\n{GROUPS}"
    );
    let groups = groups.iter().map(|(_, group)| filled(group, settings));
    text += &groups.collect::<Vec<_>>().join("\n");
    text.replace("\n\n#\n# Made", "\n#\n# Made")
}

/// The groups that are asked for, in one text.
pub fn all(settings: &Settings, format: RulesFormat, name: &str) -> String {
    let mut text = format!("# Rules for Prometheus, made by tapster {}.\n", env!("CARGO_PKG_VERSION"));
    for line in settings.described() {
        let _ = writeln!(text, "# {line}");
    }
    let margin = match format {
        RulesFormat::Prometheus => "",
        RulesFormat::Operator => {
            let _ = write!(
                text,
                "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: {name}\nspec:\n"
            );
            "  "
        }
    };
    let _ = write!(text, "{margin}{GROUPS}");
    for template in &TEMPLATES {
        for (name, group) in template.parts().1 {
            if !settings.takes(name, template.is_optional) {
                continue;
            }
            for line in filled(group, settings).lines() {
                let margin = if line.is_empty() { "" } else { margin };
                let _ = writeln!(text, "{margin}{line}");
            }
        }
    }
    text
}

/// A group with everything put in, and a link beside each place of the documentation if there is an address for it.
fn filled(group: &str, settings: &Settings) -> String {
    let mut text = String::new();
    for line in fill(group, settings).lines() {
        let _ = writeln!(text, "{line}");
        if let (Some((margin, place)), Some(url)) = (line.split_once("runbook: "), settings.runbook_url()) {
            let anchor = place.find('#').map_or("", |at| &place[at..]);
            let _ = writeln!(text, "{margin}runbook_url: {url}{anchor}");
        }
    }
    text
}

/// Begin and end of what reads native histograms.
const NATIVE: [&str; 2] = ["${native}", "${end}"];

/// Puts a value in the place of each `${NAME}`.
fn fill(text: &str, settings: &Settings) -> String {
    let mut filled = String::with_capacity(text.len());
    let text = if settings.is_classic() { classic(text) } else { Cow::Borrowed(text) };
    let mut rest = &*text;
    while let Some((before, behind)) = rest.split_once("${") {
        let (name, after) = behind.split_once('}').expect("`${` is closed");
        filled.push_str(before);
        match settings.value(name).expect("a template names what there is") {
            // What a person gave is put in as it is; a shared text has places of its own.
            Filling::Given(value) => filled.push_str(&value),
            Filling::Shared(value) => filled.push_str(&fill(&value, settings)),
        }
        rest = after;
    }
    filled + rest
}

/// The text without what reads native histograms.
fn classic(text: &str) -> Cow<'_, str> {
    let mut parts = text.split(NATIVE[0]);
    let first = parts.next().unwrap_or_default();
    let others = parts.map(|part| part.split_once(NATIVE[1]).expect("`${native}` has an end").1);
    Cow::Owned(std::iter::once(first).chain(others).collect())
}

/// What stands for a name in a template.
enum Filling<'s> {
    Given(Cow<'s, str>),
    Shared(Cow<'s, str>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_name_in_a_template_is_known_and_every_threshold_used() {
        let mut used = BTreeSet::new();
        for template in &TEMPLATES {
            for (_, behind) in template.text.match_indices("${").map(|(at, _)| template.text.split_at(at + 2))
            {
                used.insert(behind.split_once('}').expect("closed").0);
            }
            // Fills all of it, or panics.
            assert!(!file(template, &Settings::default()).contains("${"), "{}", template.file);
        }
        for threshold in thresholds() {
            assert!(used.contains(&*threshold.name), "no rule asks for `{}`", threshold.name);
        }
    }

    #[test]
    fn files_and_the_command_have_the_same_groups() {
        let settings = Settings::default();
        let all = all(&settings, RulesFormat::Prometheus, "tapster");
        for template in &TEMPLATES {
            for (name, group) in template.parts().1 {
                let group = filled(group, &settings);
                assert!(file(template, &settings).contains(&group), "{name}");
                assert_eq!(all.contains(&group), !template.is_optional, "{name}");
            }
        }
        let names = groups();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
        assert!(names.contains(&"tapster-block-peers") && names.contains(&"tapster-nodes"), "{names:?}");
    }

    #[test]
    fn classic_rules_have_no_function_of_native_histograms() {
        let mut settings = Settings::default();
        settings.set_classic(true);
        for template in &TEMPLATES {
            let (both, classic) = (file(template, &Settings::default()), file(template, &settings));
            for function in ["histogram_count", "histogram_sum", "histogram_fraction"] {
                assert!(!classic.contains(function), "{}: {function}", template.file);
            }
            assert_eq!(classic.len() < both.len(), template.text.contains(NATIVE[0]), "{}", template.file);
            // What is left of a quantile is the one of buckets.
            for (_, behind) in
                classic.match_indices("histogram_quantile(").map(|(at, _)| classic.split_at(at))
            {
                assert!(behind[..180.min(behind.len())].contains("_bucket"), "{}", template.file);
            }
        }
    }

    #[test]
    fn a_link_stands_beside_its_place() {
        let mut settings = Settings::default();
        settings.set_runbook_url("https://wiki.example/alerts").expect("a good address");
        let group = "        annotations:\n          runbook: docs/alerts.md#one\n";
        assert_eq!(
            filled(group, &settings),
            format!("{group}          runbook_url: https://wiki.example/alerts#one\n")
        );
        assert_eq!(filled(group, &Settings::default()), group);
    }

    #[test]
    fn an_object_of_the_operator_is_the_file_below_its_specification() {
        let mut settings = Settings::default();
        settings.ask_for("tapster-sched").expect("there is one");
        let (file, object) =
            (all(&settings, RulesFormat::Prometheus, "x"), all(&settings, RulesFormat::Operator, "one"));
        let (_, groups) = file.split_once("groups:\n").expect("groups");
        let (head, below) = object.split_once("  groups:\n").expect("groups");
        assert!(head.ends_with("metadata:\n  name: one\nspec:\n"), "{head}");
        let margin: String =
            below.lines().map(|line| line.strip_prefix("  ").unwrap_or(line).to_owned() + "\n").collect();
        assert_eq!(margin, groups);
        assert!(groups.starts_with("  - name: tapster-sched\n") && !groups.contains("tapster-raid"));
    }
}
