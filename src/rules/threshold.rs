//! The thresholds with their defaults, and texts that rules share: `config/rules/templates/thresholds.yaml`.

use tapster_ebpf::{
    diagnostic::SourceFile,
    yaml::{self, Data, Node},
};

const FILE: &str = include_str!("../../config/rules/templates/thresholds.yaml");

/// A number of the rules that can be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Threshold {
    pub name: String,
    /// As it is written.
    pub default: String,
    /// `seconds`, `times`, `share`, …
    pub unit: String,
    /// What it decides.
    pub help: String,
}

/// All thresholds, in the order of their file.
pub fn thresholds() -> Vec<Threshold> {
    let threshold = |node: &Node| Threshold {
        name: text(node, "name"),
        default: text(node, "default"),
        unit: text(node, "unit"),
        help: text(node, "help"),
    };
    items("thresholds").iter().map(threshold).collect()
}

/// A text that rules share.
pub(super) fn shared(name: &str) -> Option<String> {
    items("texts").iter().find(|node| text(node, "name") == name).map(|node| text(node, "text"))
}

fn items(key: &str) -> Vec<Node> {
    let root = yaml::parse(&SourceFile::new("thresholds.yaml", FILE));
    let root = root.expect("it is YAML").expect("it is not empty");
    match find(&root, key).map(|node| node.data.clone()) {
        Some(Data::Sequence(items)) => items,
        _ => unreachable!("thresholds.yaml has a list `{key}`"),
    }
}

fn find<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    let Data::Mapping(entries) = &node.data else { return None };
    entries.iter().find_map(|(name, value)| match &name.data {
        Data::Scalar { text, .. } if text == key => Some(value),
        _ => None,
    })
}

fn text(node: &Node, key: &str) -> String {
    match find(node, key).map(|node| &node.data) {
        Some(Data::Scalar { text, .. }) => text.trim_end().to_owned(),
        _ => unreachable!("an entry of thresholds.yaml has `{key}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_file_has_each_threshold_once_with_a_default_that_may_be_set() {
        let all = thresholds();
        assert!(all.len() > 20, "{}", all.len());
        let names: BTreeSet<&str> = all.iter().map(|threshold| &*threshold.name).collect();
        assert_eq!(names.len(), all.len());
        let mut settings = super::super::Settings::default();
        for Threshold { name, default, help, .. } in &all {
            settings.set(&format!("{name}={default}")).expect("a default is a good value");
            assert!(help.len() > 15, "{name}");
        }
        assert!(settings.described().is_empty(), "defaults are no changes");
        assert!(shared("disk_of_member").is_some() && shared("disk_of_nobody").is_none());
    }
}
