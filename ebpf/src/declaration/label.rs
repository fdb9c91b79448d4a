//! Labels and their decoders.

use super::keys;
use crate::{
    diagnostic::{Spanned, nearest},
    probe::{Decoder, Label},
    reader::Reader,
    yaml::{Data, Node},
};
use std::collections::BTreeMap;

impl Reader {
    /// Reads the labels of a probe. With `events` one may be without a value, if each event has its own.
    pub(super) fn labels(&mut self, node: &Node, has_events: bool) -> Vec<Label> {
        let mut labels = Vec::new();
        for (name, node) in self.named(node, "labels") {
            if !self.is_label_name(&name) {
                continue;
            }
            let label = if let Data::Mapping(_) = node.data {
                let Some(fields) = self.fields(node, keys::LABEL, "the label") else { continue };
                let lacks_value = fields.lacks("value");
                if lacks_value && !has_events {
                    self.error_hint(fields.span.clone(), "the label needs `value`", "the label's value");
                }
                let value = fields.get("value").and_then(|node| self.expression(node, "value"));
                let decoder = fields.get("as").and_then(|node| self.decoder(node));
                (value.is_some() || lacks_value && has_events).then_some(Label { name, value, decoder })
            } else {
                let value = self.expression(node, "labels");
                value.map(|value| Label { name, value: Some(value), decoder: None })
            };
            labels.extend(label);
        }
        labels
    }

    /// Refuses names that labels must not have.
    pub(super) fn is_label_name(&mut self, name: &Spanned<String>) -> bool {
        let is_reserved = name.value.starts_with("__") || matches!(name.value.as_str(), "le" | "quantile");
        if is_reserved {
            let message = format!("the label name `{}` is reserved by Prometheus", name.value);
            self.error_hint(name.span.clone(), message, "choose another name");
        }
        !is_reserved
    }

    pub(super) fn decoder(&mut self, node: &Node) -> Option<Spanned<Decoder>> {
        let Data::Mapping(entries) = &node.data else {
            let Data::Scalar { text: name, .. } = &node.data else {
                let message = format!("`as` takes a decoder or a table, found {}", node.kind());
                self.error_hint(node.span.clone(), message, "a table is {0: read, 1: write}");
                return None;
            };
            if let Some(decoder) = Decoder::named(name) {
                return Some(Spanned::new(decoder, node.span.clone()));
            }
            let names: Vec<&str> = Decoder::names().collect();
            let all = format!("decoders are {}, or a table {{0: read, 1: write}}", names.join(", "));
            let hint = match nearest(name, names.iter().copied()) {
                // Of words of some letters many are near: `signal` is none of these.
                Some(near) if is_slip(name, near) => format!("did you mean `{near}`?"),
                _ => all,
            };
            self.error_hint(node.span.clone(), format!("there is no decoder `{name}`"), hint);
            return None;
        };
        if entries.is_empty() {
            self.error_hint(node.span.clone(), "the table is empty", "a table is {0: read, 1: write}");
            return None;
        }
        let mut rows = BTreeMap::new();
        let mut named = Vec::new();
        let mut default = None;
        for (key, value) in entries {
            let (Some(number), Some(text)) = (self.text(key, "as"), self.text(value, "as")) else { continue };
            if number == "default" {
                default = Some(text);
                continue;
            }
            let parsed = match number.strip_prefix("0x") {
                Some(hex) => i64::from_str_radix(hex, 16).ok(),
                None => number.parse().ok(),
            };
            let is_enumerator = number.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                && number.starts_with(|c: char| c.is_ascii_uppercase());
            match parsed {
                Some(parsed) => {
                    if let Some(first) = rows.insert(parsed, text) {
                        let message = format!("{parsed} is in the table twice");
                        self.error_hint(key.span.clone(), message, format!("the first is `{first}`"));
                    }
                }
                None if is_enumerator => named.push((number, text)),
                None => self.error_hint(
                    key.span.clone(),
                    format!("`{number}` is neither a number nor an enumerator"),
                    "a table maps numbers or names such as REQ_OP_READ to texts, and `default` to the text for all others",
                ),
            }
        }
        Some(Spanned::new(Decoder::Table { rows, named, default }, node.span.clone()))
    }
}

/// Whether two names differ by one letter that is added, missing or wrong, or by two that are exchanged, and have the same
/// first and last letter.
fn is_slip(name: &str, near: &str) -> bool {
    let ends = |text: &str| (text.chars().next(), text.chars().last());
    ends(name) == ends(near)
        || name.len().abs_diff(near.len()) == 1 && (near.contains(name) || name.contains(near))
}
