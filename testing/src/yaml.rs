//! Reads YAML files of other programs: rules of Prometheus and their unit tests.

use std::{fs, path::Path};
use tapster_ebpf::{
    diagnostic::SourceFile,
    yaml::{self, Data, Node},
};

/// Reads a whole file.
pub fn read(path: &Path) -> Node {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = SourceFile::new(path.display().to_string(), text);
    yaml::parse(&file).unwrap_or_else(|wrong| panic!("{wrong}")).expect("the file is empty")
}

/// The value of a key.
pub fn get<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    let Data::Mapping(entries) = &node.data else { return None };
    entries.iter().find(|(name, _)| text(name) == key).map(|(_, value)| value)
}

/// The items of a list; none if there is no list.
pub fn items<'a>(node: &'a Node, key: &str) -> &'a [Node] {
    match get(node, key).map(|node| &node.data) {
        Some(Data::Sequence(items)) => items,
        _ => &[],
    }
}

/// The keys and texts of a mapping.
pub fn pairs<'a>(node: &'a Node, key: &str) -> Vec<(&'a str, &'a str)> {
    match get(node, key).map(|node| &node.data) {
        Some(Data::Mapping(entries)) => {
            entries.iter().map(|(name, value)| (text(name), text(value))).collect()
        }
        _ => Vec::new(),
    }
}

/// The text of a scalar.
pub fn text(node: &Node) -> &str {
    match &node.data {
        Data::Scalar { text, .. } => text,
        _ => "",
    }
}
