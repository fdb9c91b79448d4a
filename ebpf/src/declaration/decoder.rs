//! Decoders of labels: a name, a table, the names of an enumeration, flags, or regular expressions.

use super::keys;
use crate::{
    diagnostic::{Spanned, nearest},
    probe::Decoder,
    reader::Reader,
    yaml::{Data, Node},
};
use std::collections::BTreeMap;

/// The word for the names of the value's own enumeration.
const ENUM: &str = "enum";
const FLAGS: &str = "flags";
const STRIP: &str = "strip";
const REGEXP: &str = "regexp";

/// What a table says: number → text, enumerator → text, and the text for all other numbers.
#[derive(Default)]
struct WrittenTable {
    rows: BTreeMap<i64, String>,
    named: Vec<(String, String)>,
    default: Option<String>,
}

impl Reader {
    pub(super) fn decoder(&mut self, node: &Node) -> Option<Spanned<Decoder>> {
        let decoder = match &node.data {
            Data::Scalar { text: name, .. } => self.named_decoder(node, name)?,
            Data::Mapping(_) if has(node, REGEXP) => self.regexp(node)?,
            Data::Mapping(_) if has(node, FLAGS) => self.flags(node)?,
            Data::Mapping(_) if has(node, ENUM) || has(node, STRIP) => self.enumeration(node)?,
            Data::Mapping(_) => {
                let WrittenTable { rows, named, default } = self.rows(node)?;
                Decoder::Table { rows, named, default }
            }
            Data::Sequence(_) => {
                let message = format!("`as` takes a decoder or a table, found {}", node.kind());
                self.error_hint(node.span.clone(), message, "a table is {0: read, 1: write}");
                return None;
            }
        };
        Some(Spanned::new(decoder, node.span.clone()))
    }

    fn named_decoder(&mut self, node: &Node, name: &str) -> Option<Decoder> {
        if name == ENUM {
            return Some(Decoder::Enumeration { name: None, strip: None, default: None });
        }
        if name == REGEXP {
            let hint = "write those that are shown: {regexp: [nginx, 'postgres.*']}";
            self.error_hint(node.span.clone(), "`regexp` needs its expressions", hint);
            return None;
        }
        if name == FLAGS {
            let hint = "name their enumeration or a table: {flags: NAME}, {flags: {1: read, 2: write}}";
            self.error_hint(node.span.clone(), "`flags` needs the names of the bits", hint);
            return None;
        }
        if let Some(decoder) = Decoder::named(name) {
            return Some(decoder);
        }
        let names: Vec<&str> = Decoder::names().chain([ENUM]).collect();
        let all = format!("decoders are {}, or a table {{0: read, 1: write}}", names.join(", "));
        let hint = match nearest(name, names.iter().copied()) {
            // Of words of some letters many are near.
            Some(near) if is_slip(name, near) => format!("did you mean `{near}`?"),
            _ => all,
        };
        self.error_hint(node.span.clone(), format!("there is no decoder `{name}`"), hint);
        None
    }

    fn enumeration(&mut self, node: &Node) -> Option<Decoder> {
        let fields = self.fields(node, keys::ENUMERATION, "the enumeration")?;
        let mut text = |key| fields.get(key).and_then(|node| self.text(node, key));
        let (name, default) = (text(ENUM), text("default"));
        let strip = fields.get(STRIP).and_then(|node| self.prefix(node));
        Some(Decoder::Enumeration { name, strip, default })
    }

    fn flags(&mut self, node: &Node) -> Option<Decoder> {
        let fields = self.fields(node, keys::FLAGS, "`flags`")?;
        let strip = fields.get(STRIP).and_then(|node| self.prefix(node));
        let of = fields.get(FLAGS)?;
        if let Data::Mapping(_) = of.data {
            if let Some(strip) = strip {
                let hint = "write the texts in the table as they are to be shown";
                self.error_hint(strip.span, "there is nothing to strip from the texts of a table", hint);
            }
            let WrittenTable { rows, named, default } = self.rows(of)?;
            if default.is_some() {
                let hint = "bits without a name are shown as `0x…`";
                self.error_hint(of.span.clone(), "a table of flags has no `default`", hint);
            }
            return Some(Decoder::Flags { rows, named, of: None });
        }
        let name = self.text(of, FLAGS)?;
        Some(Decoder::Flags { rows: BTreeMap::new(), named: Vec::new(), of: Some((name, strip)) })
    }

    fn prefix(&mut self, node: &Node) -> Option<Spanned<String>> {
        self.text(node, STRIP).map(|text| Spanned::new(text, node.span.clone()))
    }

    fn rows(&mut self, node: &Node) -> Option<WrittenTable> {
        let Data::Mapping(entries) = &node.data else { return None };
        if entries.is_empty() {
            self.error_hint(node.span.clone(), "the table is empty", "a table is {0: read, 1: write}");
            return None;
        }
        let mut table = WrittenTable::default();
        for (key, value) in entries {
            let (Some(number), Some(text)) = (self.text(key, "as"), self.text(value, "as")) else { continue };
            if number == "default" {
                table.default = Some(text);
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
                    if let Some(first) = table.rows.insert(parsed, text) {
                        let message = format!("{parsed} is in the table twice");
                        self.error_hint(key.span.clone(), message, format!("the first is `{first}`"));
                    }
                }
                None if is_enumerator => table.named.push((number, text)),
                None => self.error_hint(
                    key.span.clone(),
                    format!("`{number}` is neither a number nor an enumerator"),
                    "a table maps numbers or names such as REQ_OP_READ to texts, and `default` to the text for all others",
                ),
            }
        }
        Some(table)
    }
}

/// Whether a mapping has a key.
fn has(node: &Node, wanted: &str) -> bool {
    let Data::Mapping(entries) = &node.data else { return false };
    entries.iter().any(|(key, _)| matches!(&key.data, Data::Scalar { text, .. } if text == wanted))
}

/// Whether two names differ by one letter that is added, missing or wrong, or by two that are exchanged, and have the same
/// first and last letter.
fn is_slip(name: &str, near: &str) -> bool {
    let ends = |text: &str| (text.chars().next(), text.chars().last());
    ends(name) == ends(near)
        || name.len().abs_diff(near.len()) == 1 && (near.contains(name) || name.contains(near))
}
