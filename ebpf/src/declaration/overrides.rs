//! `overrides:`: what a file says of shipped probes. Whether there are such probes, and what it changes, is found out where the
//! library is known.

use super::keys;
use crate::{
    diagnostic::{SourceFile, Spanned},
    probe::{Choice, Override, Said, Values},
    reader::{Fields, MAX_PARTS, Reader},
    yaml::{self, Data, Node},
};
use std::sync::Arc;

/// Most classic bounds.
const MAX_BOUNDS: usize = 512;

/// Reads a text that has nothing but the entries of `overrides`, as a flag gives it.
pub fn parse_overrides(file: &Arc<SourceFile>) -> (Vec<Override>, Vec<crate::diagnostic::Diagnostic>) {
    let mut reader = Reader::new(file);
    let overrides = match yaml::parse(file) {
        Err(diagnostic) => {
            reader.diagnostics.push(diagnostic);
            Vec::new()
        }
        Ok(None) => Vec::new(),
        Ok(Some(root)) => reader.overrides(&root),
    };
    (overrides, reader.diagnostics)
}

impl Reader {
    fn said<T>(&self, node: &Node, value: T) -> Said<T> {
        Said { value, file: self.file.clone(), span: node.span.clone() }
    }

    pub(super) fn overrides(&mut self, node: &Node) -> Vec<Override> {
        let entries = self.named(node, "overrides");
        entries.into_iter().filter_map(|(name, node)| self.one_override(name, node)).collect()
    }

    fn one_override(&mut self, name: Spanned<String>, node: &Node) -> Option<Override> {
        let before = self.errors();
        let fields = self.fields(node, keys::OVERRIDE, &format!("`{}` of `overrides`", name.value))?;
        if fields.entries.is_empty() && self.errors() == before {
            self.error_hint(
                name.span.clone(),
                format!("nothing is said of `{}`", name.value),
                "write what to change, or leave it out",
            );
        }
        let number = |this: &mut Self, key| {
            let number = this.written::<u32>(&fields, key)?;
            Some(this.said(fields.get(key)?, number))
        };
        let truth = |this: &mut Self, key| {
            let node = fields.get(key)?;
            let truth = this.boolean(node, key)?;
            Some(this.said(node, truth))
        };
        let values = Values {
            enabled: truth(self, "enabled"),
            max_series: number(self, "max_series"),
            devices: self.choice(&fields, "devices"),
            metrics: self.choice(&fields, "metrics"),
            bounds: fields.get("bounds").and_then(|node| self.classic_bounds(node)),
            schema: self
                .written::<u8>(&fields, "schema")
                .zip(fields.get("schema"))
                .map(|(schema, node)| self.said(node, schema)),
            classic: truth(self, "classic"),
        };
        (self.errors() == before).then(|| Override { file: self.file.clone(), name, values })
    }

    /// `include` and `exclude`.
    fn choice(&mut self, fields: &Fields<'_>, key: &'static str) -> Option<Said<Choice>> {
        let node = fields.get(key)?;
        let inner = self.fields(node, keys::CHOICE, &format!("`{key}`"))?;
        let mut patterns =
            |name: &str| inner.get(name).map(|node| self.globs(node, name)).unwrap_or_default();
        let choice = Choice { include: patterns("include"), exclude: patterns("exclude") };
        Some(self.said(node, choice))
    }

    /// One pattern, or a list of them.
    fn globs(&mut self, node: &Node, what: &str) -> Vec<Spanned<String>> {
        let items: Vec<&Node> = match &node.data {
            Data::Sequence(items) => items.iter().collect(),
            _ => vec![node],
        };
        if items.len() > MAX_PARTS {
            self.error(node.span.clone(), format!("more than {MAX_PARTS} patterns in `{what}`"));
            return Vec::new();
        }
        let mut patterns = Vec::new();
        for item in items {
            match self.text(item, what) {
                Some(text) if text.trim().is_empty() => {
                    self.error_hint(item.span.clone(), "the pattern is empty", "write for example \"loop*\"");
                }
                text => patterns.extend(text.map(|text| Spanned::new(text, item.span.clone()))),
            }
        }
        patterns
    }

    fn classic_bounds(&mut self, node: &Node) -> Option<Said<Vec<Spanned<f64>>>> {
        let before = self.errors();
        let items = self.list(node, "bounds");
        if self.errors() > before {
            return None;
        }
        let mut bounds: Vec<Spanned<f64>> = Vec::new();
        if items.is_empty() || items.len() > MAX_BOUNDS {
            let message = format!("`bounds` has 1 to {MAX_BOUNDS} bounds, found {}", items.len());
            self.error_hint(node.span.clone(), message, "`classic: false` leaves the classic form out");
            return None;
        }
        for item in items {
            let text = self.text(item, "bounds")?;
            let Some(bound) = bound(&text) else {
                let shown: String = text.chars().take(40).collect();
                self.error_hint(
                    item.span.clone(),
                    format!("`{shown}` is no bound"),
                    "write a number above 0 in base units, such as 0.0009765625, or a power of two: 2^-10",
                );
                return None;
            };
            if bounds.last().is_some_and(|last| last.value >= bound) {
                self.error_hint(
                    item.span.clone(),
                    "bounds must ascend",
                    "sort them and leave out what stands twice",
                );
                return None;
            }
            bounds.push(Spanned::new(bound, item.span.clone()));
        }
        Some(self.said(node, bounds))
    }
}

/// A number above 0, or `2^POWER`.
fn bound(text: &str) -> Option<f64> {
    let number = match text.strip_prefix("2^") {
        Some(power) => f64::powi(2.0, power.parse::<i8>().ok()?.into()),
        None => text.parse::<f64>().ok()?,
    };
    (number.is_finite() && number > 0.0).then_some(number)
}
