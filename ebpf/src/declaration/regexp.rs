//! Regular expressions that decide how a text is shown.

use super::keys;
use crate::{
    diagnostic::Span,
    probe::Decoder,
    reader::{MAX_PARTS, Reader},
    yaml::{Data, Node},
};
use regex_lite::Regex;

impl Reader {
    pub(super) fn regexp(&mut self, node: &Node) -> Option<Decoder> {
        let fields = self.fields(node, keys::REGEXP, "`regexp`")?;
        let default =
            fields.get("default").map_or_else(|| Some("~other".into()), |node| self.text(node, "default"))?;
        let of = fields.get("regexp")?;
        let rows: Vec<(&Node, Option<&Node>)> = match &of.data {
            Data::Sequence(items) => items.iter().map(|item| (item, None)).collect(),
            Data::Mapping(entries) => entries.iter().map(|(key, value)| (key, Some(value))).collect(),
            Data::Scalar { .. } => vec![(of, None)],
        };
        if rows.is_empty() {
            self.error_hint(
                of.span.clone(),
                "there is no expression",
                "write at least one: [nginx, 'postgres.*']",
            );
            return None;
        }
        if rows.len() > MAX_PARTS {
            self.error(of.span.clone(), format!("more than {MAX_PARTS} expressions"));
            return None;
        }
        let mut read = Vec::new();
        for (pattern, text) in rows {
            let Some(pattern_text) = self.text(pattern, "regexp") else { continue };
            let Some(expression) = self.expression_of(&pattern.span, &pattern_text) else { continue };
            let text = match text {
                Some(node) => {
                    let Some(text) = self.text(node, "regexp") else { continue };
                    self.groups(&node.span, &text, &expression);
                    Some(text)
                }
                None => None,
            };
            read.push((pattern_text, text));
        }
        Some(Decoder::Regexp { rows: read, default })
    }

    fn expression_of(&mut self, span: &Span, pattern: &str) -> Option<Regex> {
        // By itself first: an error of the whole would be about brackets that nobody wrote.
        match Regex::new(pattern).and_then(|_| Decoder::expression(pattern)) {
            Ok(expression) => Some(expression),
            Err(error) => {
                let hint = "it is a regular expression without look-around and references, as in Prometheus; `.` is any character, `\\.` a dot";
                self.error_hint(span.clone(), format!("`{pattern}` is no regular expression: {error}"), hint);
                None
            }
        }
    }

    /// Refuses a text that names a group that the expression does not have.
    fn groups(&mut self, span: &Span, text: &str, expression: &Regex) {
        let mut rest = text;
        while let Some((_, behind)) = rest.split_once('$') {
            rest = behind.strip_prefix('$').unwrap_or(behind);
            if rest.len() < behind.len() {
                continue;
            }
            let name: String = match behind.strip_prefix('{') {
                Some(inside) => inside.split('}').next().unwrap_or_default().to_owned(),
                None => behind.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect(),
            };
            let known = match name.parse::<usize>() {
                Ok(number) => number < expression.captures_len(),
                Err(_) => expression.capture_names().flatten().any(|known| known == name),
            };
            if !known {
                let message = format!("the expression has no group `{name}`");
                let hint = format!(
                    "it has {}, `$0` is the whole text, and `$$` is a dollar",
                    expression.captures_len() - 1
                );
                self.error_hint(span.clone(), message, hint);
            }
        }
    }
}
