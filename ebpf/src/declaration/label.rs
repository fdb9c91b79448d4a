//! Labels.

use super::keys;
use crate::{
    probe::Label,
    reader::Reader,
    yaml::{Data, Node},
};

impl Reader {
    pub(super) fn labels(&mut self, node: &Node) -> Vec<Label> {
        let mut labels = Vec::new();
        for (name, node) in self.named(node, "labels") {
            if name.value.starts_with("__") || matches!(name.value.as_str(), "le" | "quantile") {
                self.error_hint(
                    name.span.clone(),
                    format!("the label name `{}` is reserved by Prometheus", name.value),
                    "choose another name",
                );
                continue;
            }
            let label = if let Data::Mapping(_) = node.data {
                let Some(fields) = self.fields(node, keys::LABEL, "the label") else { continue };
                let value = fields.get("value").and_then(|node| self.expression(node, "value"));
                let decoder = fields.get("as").and_then(|node| self.decoder(node));
                value.map(|value| Label { name, value, decoder })
            } else {
                self.expression(node, "labels").map(|value| Label { name, value, decoder: None })
            };
            labels.extend(label);
        }
        labels
    }
}
