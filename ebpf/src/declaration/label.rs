//! Labels.

use super::keys;
use crate::{
    diagnostic::Spanned,
    probe::Label,
    reader::Reader,
    yaml::{Data, Node},
};

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
}
