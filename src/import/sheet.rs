//! The probe file that an import writes: probes and comments in the order of their source, and their YAML.

use super::remark::plain;

/// Widest line of a mapping or list that is written on one line.
const WIDEST: usize = 110;
/// Widest line of a comment.
const COMMENT: usize = 118;

/// A value of YAML that is to be written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum YamlValue {
    /// A text or an expression: quoted where YAML would read it otherwise.
    Text(String),
    /// A number or `true`, as it is.
    Bare(String),
    /// `[a, b]`
    List(Vec<YamlValue>),
    /// `{ a: b }`, in this order.
    Map(Vec<(String, YamlValue)>),
}

impl YamlValue {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn number(number: impl std::fmt::Display) -> Self {
        Self::Bare(format!("{number}"))
    }

    /// The only one of these as it is, else all of them as a list.
    pub(super) fn one_or_list(mut values: Vec<YamlValue>) -> Self {
        match (values.len(), values.pop()) {
            (1, Some(only)) => only,
            (_, last) => {
                values.extend(last);
                Self::List(values)
            }
        }
    }

    /// The value on one line.
    fn flow(&self) -> String {
        match self {
            Self::Text(text) => quoted(text),
            Self::Bare(text) => text.clone(),
            Self::List(items) => format!("[{}]", items.iter().map(Self::flow).collect::<Vec<_>>().join(", ")),
            Self::Map(entries) if entries.is_empty() => "{}".into(),
            Self::Map(entries) => {
                let entries: Vec<String> = entries
                    .iter()
                    .map(|(key, value)| format!("{}: {}", key_text(key), value.flow()))
                    .collect();
                format!("{{ {} }}", entries.join(", "))
            }
        }
    }

    /// Writes the value behind `head`, which ends with a colon or is the dash of a list, indented by `indent`.
    fn write(&self, head: &str, indent: usize, out: &mut String) {
        let flow = self.flow();
        if matches!(self, Self::Text(_) | Self::Bare(_)) || indent + head.len() + 1 + flow.len() <= WIDEST {
            line(out, indent, &format!("{head} {flow}"));
            return;
        }
        // Behind a dash the key itself stands two columns further.
        let inner = if head.starts_with("- ") { indent + 4 } else { indent + 2 };
        match self {
            Self::Text(_) | Self::Bare(_) => {}
            Self::List(items) => {
                line(out, indent, head);
                for item in items {
                    item.write("-", inner, out);
                }
            }
            Self::Map(entries) if head == "-" => {
                for (at, (key, value)) in entries.iter().enumerate() {
                    let lead =
                        if at == 0 { format!("- {}:", key_text(key)) } else { format!("{}:", key_text(key)) };
                    let further = if at == 0 { 0 } else { 2 };
                    value.write(&lead, indent + further, out);
                }
            }
            Self::Map(entries) => {
                line(out, indent, head);
                for (key, value) in entries {
                    value.write(&format!("{}:", key_text(key)), inner, out);
                }
            }
        }
    }
}

/// A text as YAML reads it back, within `{ }` as well: as it is if nothing in it has a meaning to YAML, else in quotes.
pub(super) fn quoted(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if c.is_control() => quoted = format!("{quoted}\\u{:04x}", u32::from(c)),
            // Not printable in YAML, or a byte order mark.
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                quoted = format!("{quoted}\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A key: a number of a table is one.
fn key_text(key: &str) -> String {
    let digits = key.strip_prefix('-').unwrap_or(key);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { key.to_owned() } else { quoted(key) }
}

/// Whether a text needs no quotes: an expression of names, numbers and operators that YAML knows nothing of.
fn is_plain(text: &str) -> bool {
    const WORDS: [&str; 10] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "~"];
    let is_harmless = |c: char| c.is_ascii_alphanumeric() || " _.+/<>=()-".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '(')
        && text.chars().all(is_harmless)
        && !text.ends_with(' ')
        && !text.contains("  ")
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

/// What stands in the file: a comment, or a probe.
#[derive(Clone, Debug)]
pub(super) enum SheetItem {
    /// A comment, wrapped where it is written.
    Comment(String),
    /// A probe: its keys in the order of the reference.
    Probe(Vec<(String, YamlValue)>),
}

/// The file: a comment at its head, then probes and comments.
#[derive(Clone, Debug, Default)]
pub(super) struct Sheet {
    pub(super) head: Vec<String>,
    pub(super) items: Vec<SheetItem>,
}

/// The file as text, with the lines, from 1, at which each item begins.
#[derive(Debug)]
pub(super) struct SheetText {
    pub(super) text: String,
    pub(super) begins: Vec<usize>,
}

impl Sheet {
    /// Whether there is any probe.
    pub(super) fn has_probes(&self) -> bool {
        self.items.iter().any(|item| matches!(item, SheetItem::Probe(_)))
    }

    /// The file as text.
    pub(super) fn write(&self) -> SheetText {
        let mut text = String::new();
        for line in &self.head {
            comment(line, 0, &mut text);
        }
        let (has_probes, mut begins) = (self.has_probes(), Vec::new());
        if has_probes {
            text.push_str("probes:\n");
        }
        let mut is_after_probe = false;
        for item in &self.items {
            if is_after_probe {
                text.push('\n');
            }
            begins.push(text.matches('\n').count() + 1);
            match item {
                SheetItem::Comment(line) => comment(line, if has_probes { 2 } else { 0 }, &mut text),
                SheetItem::Probe(keys) => probe(keys, &mut text),
            }
            is_after_probe = matches!(item, SheetItem::Probe(_));
        }
        SheetText { text, begins }
    }
}

/// Writes a probe: each key on a line of its own.
fn probe(keys: &[(String, YamlValue)], out: &mut String) {
    for (at, (key, value)) in keys.iter().enumerate() {
        let (head, indent) = if at == 0 { (format!("- {key}:"), 2) } else { (format!("{key}:"), 4) };
        match value {
            // One metric, one label or one event for each line is easier to change.
            YamlValue::List(items) if matches!(items.first(), Some(YamlValue::Map(_))) => {
                line(out, indent, &head);
                for item in items {
                    item.write("-", 6, out);
                }
            }
            YamlValue::Map(entries) if entries.len() > 3 && key != "start" && key != "end" => {
                line(out, indent, &head);
                for (name, value) in entries {
                    value.write(&format!("{}:", key_text(name)), 6, out);
                }
            }
            value => value.write(&head, indent, out),
        }
    }
}

/// Writes a line.
fn line(out: &mut String, indent: usize, text: &str) {
    out.extend(std::iter::repeat_n(' ', indent));
    out.push_str(text);
    out.push('\n');
}

/// Writes a comment, wrapped at words.
fn comment(text: &str, indent: usize, out: &mut String) {
    let mut written = String::from("#");
    for word in plain(text).split(' ').filter(|word| !word.is_empty()) {
        if written.len() > 1 && indent + written.chars().count() + 1 + word.chars().count() > COMMENT {
            line(out, indent, &written);
            written = String::from("#  ");
        }
        written.push(' ');
        written.push_str(word);
    }
    line(out, indent, &written);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tapster_ebpf::{
        diagnostic::SourceFile,
        yaml::{self, Data, Node},
    };

    fn same(node: &Node, written: &YamlValue) {
        match (&node.data, written) {
            (Data::Scalar { text, .. }, YamlValue::Text(wanted) | YamlValue::Bare(wanted)) => {
                assert_eq!(text, wanted);
            }
            (Data::Sequence(items), YamlValue::List(wanted)) => {
                assert_eq!(items.len(), wanted.len());
                items.iter().zip(wanted).for_each(|(item, wanted)| same(item, wanted));
            }
            (Data::Mapping(entries), YamlValue::Map(wanted)) => {
                assert_eq!(entries.len(), wanted.len());
                for ((key, value), (name, wanted)) in entries.iter().zip(wanted) {
                    same(key, &YamlValue::text(name));
                    same(value, wanted);
                }
            }
            (found, wanted) => panic!("{found:?} is not {wanted:?}"),
        }
    }

    /// Values of all forms, as wide as they are not written on one line, and texts that mean something to YAML.
    #[test]
    fn what_is_written_is_read_back() {
        let texts = [
            "",
            " a",
            "a ",
            "a: b",
            "a # b",
            "- a",
            "[a",
            "{a}",
            "a,b",
            "*a",
            "&a",
            "!a",
            "%a",
            "@a",
            "`a",
            "true",
            "~",
            "0x10",
            "1e3",
            "\"quoted\"",
            "back\\slash",
            "tab\there",
            "line\nbreak",
            "\u{7}\u{2028}\u{feff}é",
            "a  b",
            "x == \"y: z\" && (a | b) != 0",
            "? a",
            "a:",
            ":a",
            "#",
            "null",
            "(a + b) * 2",
        ];
        let list = YamlValue::List(texts.map(YamlValue::text).to_vec());
        let map =
            YamlValue::Map(texts.iter().map(|text| ((*text).to_owned(), YamlValue::text(*text))).collect());
        let numbers =
            YamlValue::Map(vec![("-1".into(), YamlValue::number(1)), ("0".into(), YamlValue::text("x"))]);
        let nested = YamlValue::List(vec![
            YamlValue::Map(vec![
                ("at".into(), list.clone()),
                ("key".into(), numbers.clone()),
                ("b".into(), map.clone()),
            ]),
            YamlValue::Map(vec![("at".into(), map.clone()), ("key".into(), YamlValue::text("tid"))]),
            YamlValue::List(vec![list.clone(), YamlValue::text("c")]),
        ]);
        let keys = [("list", list), ("map", map), ("numbers", numbers), ("nested", nested)];
        let keys: Vec<(String, YamlValue)> = keys.map(|(key, value)| (key.to_owned(), value)).to_vec();
        let items = vec![SheetItem::Comment("a\nb".into()), SheetItem::Probe(keys.clone())];
        let written = Sheet { head: vec!["word ".repeat(60)], items }.write();
        let root = yaml::parse(&SourceFile::new("a", written.text.clone())).unwrap().unwrap();
        let wanted = YamlValue::Map(vec![("probes".into(), YamlValue::List(vec![YamlValue::Map(keys)]))]);
        same(&root, &wanted);
        assert!(written.text.lines().take(3).all(|line| line.starts_with("# ") && line.len() < 120));
        assert_eq!(written.begins, [5, 6]);
    }
}
