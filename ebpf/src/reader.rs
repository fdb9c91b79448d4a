//! Reads values of a YAML tree by the table of their keys: checks forms, and collects mistakes with their places.
//!
//! The callers define the keys and the meaning of values: [`crate::declaration`], and each kind of [`crate::metric`] for its
//! own keys.

use crate::{
    diagnostic::{Diagnostic, SourceFile, Span, Spanned, nearest},
    key::{self, Form, Key},
    yaml::{Data, Node},
};
use std::sync::Arc;

/// Most entries of one mapping or list of a probe: metrics, labels, lets and saves, each for itself.
pub(crate) const MAX_PARTS: usize = 64;
/// Longest name, bytes.
const MAX_NAME: usize = 200;

/// The fields of one mapping, each checked to be known.
pub(crate) struct Fields<'n> {
    keys: &'static [Key],
    /// Keys that are present, in the order written.
    pub(crate) entries: Vec<(&'static str, &'n Node)>,
    /// Keys that an unknown key is probably a misspelling of. The misspelling is reported; the key is not reported as missing
    /// as well.
    misspelt: Vec<&'static str>,
    /// The place of the mapping.
    pub(crate) span: Span,
}

impl<'n> Fields<'n> {
    pub(crate) fn get(&self, name: &str) -> Option<&'n Node> {
        self.entries.iter().find(|(key, _)| *key == name).map(|(_, node)| *node)
    }

    /// Makes a mapping without any keys.
    pub(crate) fn nothing(node: &Node, keys: &'static [Key]) -> Self {
        Self { keys, entries: Vec::new(), misspelt: Vec::new(), span: node.span.clone() }
    }

    /// Finds a key in the table.
    pub(crate) fn key(&self, name: &str) -> &'static Key {
        self.keys.iter().find(|key| key.name == name).expect("a value is read by a key of its table")
    }

    /// Whether a key is absent, and no misspelling of it is present.
    pub(crate) fn lacks(&self, name: &str) -> bool {
        self.get(name).is_none() && !self.misspelt.contains(&name)
    }
}

/// The first sentence of a key's description, as a hint.
fn phrase(doc: &str) -> String {
    let sentence = doc.split(". ").next().unwrap_or(doc).trim_end_matches('.');
    let mut characters = sentence.chars();
    characters.next().map(|first| first.to_lowercase().chain(characters).collect()).unwrap_or_default()
}

/// Reads values and collects mistakes.
pub(crate) struct Reader {
    /// The file, for the places of messages.
    pub(crate) file: Arc<SourceFile>,
    /// The messages so far.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

impl Reader {
    pub(crate) fn new(file: &Arc<SourceFile>) -> Self {
        Self { file: file.clone(), diagnostics: Vec::new() }
    }

    pub(crate) fn error(&mut self, span: Span, message: impl Into<String>) {
        self.diagnostics.push(Diagnostic::error(&self.file, span, message));
    }

    pub(crate) fn error_hint(&mut self, span: Span, message: impl Into<String>, hint: impl Into<String>) {
        self.diagnostics.push(Diagnostic::error(&self.file, span, message).hint(hint));
    }

    /// Number of errors so far; a caller compares it to learn whether a part was read without errors.
    pub(crate) fn errors(&self) -> usize {
        self.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count()
    }

    pub(crate) fn fields<'n>(
        &mut self,
        node: &'n Node,
        keys: &'static [Key],
        what: &str,
    ) -> Option<Fields<'n>> {
        let Data::Mapping(entries) = &node.data else {
            let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
            let hint = format!("keys are {}", names.join(", "));
            self.error_hint(
                node.span.clone(),
                format!("{what} must be a mapping, found {}", node.kind()),
                hint,
            );
            return None;
        };
        let mut fields = Fields::nothing(node, keys);
        if let Some((first, _)) = entries.first() {
            fields.span = first.span.clone();
        }
        for (key, value) in entries {
            let Data::Scalar { text, .. } = &key.data else {
                self.error(key.span.clone(), "a key must be a name");
                continue;
            };
            if let Some(known) = keys.iter().find(|known| known.name == text) {
                if !value.is_null() {
                    fields.entries.push((known.name, value));
                } else if !known.form.may_be_empty() {
                    // A condition that somebody forgot to write would be none.
                    self.error_hint(
                        key.span.clone(),
                        format!("`{text}` has nothing behind it"),
                        "write its value, or leave the key out",
                    );
                    fields.misspelt.push(known.name);
                }
                continue;
            }
            let near = nearest(text, keys.iter().map(|key| key.name));
            fields.misspelt.extend(near);
            let hint = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    format!("keys are {}", keys.iter().map(|key| key.name).collect::<Vec<_>>().join(", "))
                }
            };
            self.error_hint(key.span.clone(), format!("{what} has no key `{text}`"), hint);
        }
        for missing in keys.iter().filter(|key| key.is_required() && fields.lacks(key.name)) {
            let message = format!("{what} needs `{}`", missing.name);
            self.error_hint(fields.span.clone(), message, phrase(&missing.plain_doc()));
        }
        Some(fields)
    }

    pub(crate) fn list<'n>(&mut self, node: &'n Node, what: &str) -> Vec<&'n Node> {
        if let Data::Sequence(items) = &node.data {
            return items.iter().collect();
        }
        let message = format!("`{what}` must be a list, found {}", node.kind());
        self.error_hint(node.span.clone(), message, "write each item behind `- `");
        Vec::new()
    }

    /// Reads the entries of a mapping whose keys the user chose.
    pub(crate) fn named<'n>(&mut self, node: &'n Node, what: &str) -> Vec<(Spanned<String>, &'n Node)> {
        let Data::Mapping(entries) = &node.data else {
            self.error(
                node.span.clone(),
                format!("`{what}` must be a mapping of names, found {}", node.kind()),
            );
            return Vec::new();
        };
        if entries.len() > MAX_PARTS {
            self.error(node.span.clone(), format!("more than {MAX_PARTS} entries in `{what}`"));
            return Vec::new();
        }
        entries.iter().filter_map(|(key, value)| Some((self.name(key, what)?, value))).collect()
    }

    pub(crate) fn text(&mut self, node: &Node, what: &str) -> Option<String> {
        if let Data::Scalar { text, .. } = &node.data {
            return Some(text.clone());
        }
        self.error(node.span.clone(), format!("`{what}` must be text, found {}", node.kind()));
        None
    }

    pub(crate) fn name(&mut self, node: &Node, what: &str) -> Option<Spanned<String>> {
        let text = self.text(node, what)?;
        let valid = text.bytes().enumerate().all(|(index, byte)| {
            byte == b'_' || byte.is_ascii_alphabetic() || index > 0 && byte.is_ascii_digit()
        });
        if valid && text.len() > MAX_NAME {
            let message = format!("the name has {} characters, more than {MAX_NAME}", text.len());
            self.error(node.span.clone(), message);
            return None;
        }
        if text.is_empty() || !valid {
            let shown: String = text.chars().take(60).collect();
            self.error_hint(
                node.span.clone(),
                format!("`{shown}` is not a valid name"),
                "use letters, digits and `_`, not starting with a digit",
            );
            return None;
        }
        Some(Spanned::new(text, node.span.clone()))
    }

    pub(crate) fn boolean(&mut self, node: &Node, what: &str) -> Option<bool> {
        match &node.data {
            Data::Scalar { text, quoted: false } if text == "true" => Some(true),
            Data::Scalar { text, quoted: false } if text == "false" => Some(false),
            _ => {
                self.error(node.span.clone(), format!("`{what}` must be true or false"));
                None
            }
        }
    }

    fn integer(&mut self, node: &Node, key: &Key) -> Option<i64> {
        let Key { name: what, form: Form::Integer(least, most), .. } = *key else {
            unreachable!("`{}` is no number: this is a bug in tapster", key.name)
        };
        let text = self.text(node, what)?;
        match text.replace('_', "").parse::<i64>() {
            Ok(value) if (least..=most).contains(&value) => Some(value),
            _ => {
                let shown: String = text.chars().take(40).collect();
                self.error(
                    node.span.clone(),
                    format!("`{what}` must be a whole number from {least} to {most}, found `{shown}`"),
                );
                None
            }
        }
    }

    /// Reads a number.
    pub(crate) fn written<T: TryFrom<i64>>(&mut self, fields: &Fields<'_>, name: &str) -> Option<T> {
        let number = self.integer(fields.get(name)?, fields.key(name))?;
        Some(T::try_from(number).ok().expect("the range in the table is one of the type"))
    }

    /// Reads a number; its default if it is not written.
    pub(crate) fn number<T: TryFrom<i64>>(&mut self, fields: &Fields<'_>, name: &str) -> T {
        self.written(fields, name).unwrap_or_else(|| fields.key(name).default_number())
    }

    /// Reads a duration, nanoseconds; its default if it is not written.
    pub(crate) fn duration_or_default(&mut self, fields: &Fields<'_>, name: &str) -> u64 {
        let written = fields.get(name).and_then(|node| self.duration(node, name));
        written.unwrap_or_else(|| fields.key(name).default_ns())
    }

    pub(crate) fn duration(&mut self, node: &Node, what: &str) -> Option<u64> {
        let text = self.text(node, what)?;
        key::duration(&text).or_else(|| {
            self.error_hint(
                node.span.clone(),
                format!("`{what}` must be a duration"),
                "write for example 30s, 500ms or 10m",
            );
            None
        })
    }
}
