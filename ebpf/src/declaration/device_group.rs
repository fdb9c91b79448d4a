//! Groups of block devices that do the same work.

use super::keys;
use crate::{
    diagnostic::Spanned,
    probe::{DeviceGroup, DeviceKey},
    reader::Reader,
    yaml::{Data, Node},
};

/// Most entries of one file, and most patterns of a key.
const MAX_GROUPS: usize = 1000;
const MAX_PATTERNS: usize = 1000;
/// Longest name of a group, in bytes.
const MAX_NAME: usize = 100;

impl Reader {
    /// `device_groups:`; entries that can be read are kept beside what is wrong with others.
    pub(super) fn device_groups(&mut self, node: &Node) -> Vec<DeviceGroup> {
        let items = self.list(node, "device_groups");
        if items.len() > MAX_GROUPS {
            self.error(node.span.clone(), format!("more than {MAX_GROUPS} groups in one file"));
            return Vec::new();
        }
        items.into_iter().filter_map(|item| self.device_group(item)).collect()
    }

    fn device_group(&mut self, node: &Node) -> Option<DeviceGroup> {
        let before = self.errors();
        let fields = self.fields(node, keys::DEVICE_GROUP, "the group")?;
        let group = fields.get("group").and_then(|node| self.group_name(node));
        let mut tests = Vec::new();
        for key in DeviceKey::ALL {
            if let Some(node) = fields.get(key.name()) {
                tests.push((key, self.device_patterns(node, key.name())));
            }
        }
        if DeviceKey::ALL.iter().all(|key| fields.lacks(key.name())) {
            self.error_hint(
                fields.span.clone(),
                "the group has no devices",
                "device: \"sd[b-m]\", or model: \"HUH72*\"; a device is in it if it is like all that is given",
            );
        }
        let group = DeviceGroup { group: group?, tests };
        (self.errors() == before).then_some(group)
    }

    fn group_name(&mut self, node: &Node) -> Option<Spanned<String>> {
        let text = self.text(node, "group")?;
        let hint = "it is the value of a label: `osd`, say";
        if text.trim().is_empty() {
            self.error_hint(node.span.clone(), "the group has no name", hint);
            return None;
        }
        if text.len() > MAX_NAME || text.chars().any(char::is_control) {
            let message = format!("the name of a group is at most {MAX_NAME} characters in one line");
            self.error_hint(node.span.clone(), message, hint);
            return None;
        }
        Some(Spanned::new(text, node.span.clone()))
    }

    /// A pattern, or a list of them.
    fn device_patterns(&mut self, node: &Node, key: &str) -> Vec<Spanned<String>> {
        let items: Vec<&Node> = match &node.data {
            Data::Sequence(items) => items.iter().collect(),
            _ => vec![node],
        };
        if items.is_empty() {
            let hint = "leave it out, or write a pattern such as \"sd[b-m]\"";
            self.error_hint(node.span.clone(), format!("`{key}` is empty"), hint);
        }
        if items.len() > MAX_PATTERNS {
            self.error(node.span.clone(), format!("more than {MAX_PATTERNS} patterns in `{key}`"));
            return Vec::new();
        }
        items.into_iter().filter_map(|item| self.device_pattern(item, key)).collect()
    }

    fn device_pattern(&mut self, node: &Node, key: &str) -> Option<Spanned<String>> {
        let text = self.text(node, key)?;
        let message = match text.strip_prefix("/dev/") {
            _ if text.trim().is_empty() => format!("`{key}` has an empty pattern"),
            Some(name) if key == "device" => {
                let hint = format!("write `{name}`: the kernel's name, as in the label `device`");
                self.error_hint(
                    node.span.clone(),
                    format!("`{text}` is a path, and no device is called so"),
                    hint,
                );
                return None;
            }
            _ => return Some(Spanned::new(text, node.span.clone())),
        };
        self.error_hint(
            node.span.clone(),
            message,
            "`*` is any text, `?` one character, `[ab]` one of those",
        );
        None
    }
}
