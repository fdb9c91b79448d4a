//! Destinations of metrics. This module checks only forms: the exporter parses the texts, because flags and variables have
//! the same settings.

use super::keys;
use crate::{
    diagnostic::Spanned,
    probe::Otlp,
    reader::{Fields, MAX_PARTS, Reader},
    yaml::{Data, Node},
};

impl Reader {
    /// Reads `exporters:` and `otlp:`; either may be missing.
    pub(super) fn otlp(&mut self, exporters: Option<&Node>, otlp: Option<&Node>) -> Option<Otlp> {
        let span = otlp.or(exporters)?.span.clone();
        let mut result = Otlp {
            file: self.file.clone(),
            span,
            settings: Vec::new(),
            headers: Vec::new(),
            resource: Vec::new(),
        };
        if let Some(node) = exporters {
            let items = self.list(node, "exporters");
            let words: Vec<String> = items.iter().filter_map(|item| self.text(item, "exporters")).collect();
            result.settings.push(("exporters", Spanned::new(words.join(","), node.span.clone())));
        }
        let Some(fields) = otlp.and_then(|node| self.fields(node, keys::OTLP, "`otlp`")) else {
            return Some(result);
        };
        let Fields { entries, .. } = fields;
        for (key, node) in entries {
            match key {
                "headers" => result.headers = self.texts(node, key),
                "resource" => result.resource = self.texts(node, key),
                _ => {
                    let text = self.text(node, key);
                    result.settings.extend(text.map(|text| (key, Spanned::new(text, node.span.clone()))));
                }
            }
        }
        Some(result)
    }

    /// Reads texts by keys that are not names, such as `service.instance.id` and `x-scope-orgid`.
    fn texts(&mut self, node: &Node, what: &str) -> Vec<(Spanned<String>, Spanned<String>)> {
        let Data::Mapping(entries) = &node.data else {
            let message = format!("`{what}` must be a mapping of names and texts, found {}", node.kind());
            self.error(node.span.clone(), message);
            return Vec::new();
        };
        if entries.len() > MAX_PARTS {
            self.error(node.span.clone(), format!("more than {MAX_PARTS} entries in `{what}`"));
            return Vec::new();
        }
        let mut texts = Vec::new();
        for (key, value) in entries {
            if let (Some(name), Some(text)) = (self.text(key, what), self.text(value, what)) {
                texts.push((Spanned::new(name, key.span.clone()), Spanned::new(text, value.span.clone())));
            }
        }
        texts
    }
}
