//! A key of the YAML: its form, its default and its documentation. The checks of a file, the JSON Schema for editors and the
//! tables of the reference are all made from the table of keys in `declaration::keys`.

use crate::expr;
use serde_json::{Value, json};
use std::fmt::Write;

/// The form of a key's value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    /// Any text.
    Text,
    /// A name: letters, digits, `_`, not starting with a digit.
    Name,
    /// An expression.
    Expression,
    /// `true` or `false`.
    Boolean,
    /// A whole number in this range.
    Integer(i64, i64),
    /// A number or a duration such as `10s`.
    Duration,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A part of one or of a second: `1/2048`, `1/250 s`.
    Part,
    /// Nested keys.
    Mapping(&'static [Key]),
    /// A list of values of this form.
    List(&'static Form),
    /// Keys chosen by the user, with values of this form.
    Named(&'static Form),
    /// A value of any of these forms.
    Either(&'static [Form]),
    /// A table: whole number → text, and `default` → text.
    Table,
    /// A number in base units.
    Number,
}

impl Form {
    /// Whether the value may be empty: a list or mapping without any entry.
    pub(crate) fn may_be_empty(&self) -> bool {
        match self {
            Self::List(_) | Self::Named(_) | Self::Mapping(_) => true,
            Self::Either(forms) => forms.iter().any(Self::may_be_empty) && !forms.iter().any(Self::is_text),
            _ => false,
        }
    }

    fn is_text(&self) -> bool {
        matches!(self, Self::Text | Self::Expression)
    }
}

/// The value of a key that is not written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fallback {
    /// No value.
    None,
    /// The key must be written.
    Required,
    /// A number.
    Integer(i64),
    /// Yes or no.
    Boolean(bool),
    /// A word or duration, as a user would write it.
    Text(&'static str),
    /// A value that depends on more than the key, described in words.
    Told(&'static str),
}

/// A key of a mapping.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// Its name, as it is written.
    pub(crate) name: &'static str,
    /// The form of its value.
    pub(crate) form: Form,
    /// The value if it is not written.
    pub(crate) fallback: Fallback,
    /// Its description in Markdown; links are to sections of the reference.
    pub(crate) doc: &'static str,
}

impl Key {
    /// Makes a key that may be left out.
    pub(crate) const fn new(name: &'static str, form: Form, doc: &'static str) -> Self {
        Self { name, form, fallback: Fallback::None, doc }
    }

    /// Makes a key that must be written.
    pub(crate) const fn required(name: &'static str, form: Form, doc: &'static str) -> Self {
        Self { name, form, fallback: Fallback::Required, doc }
    }

    /// Returns the key with this default.
    pub(crate) const fn or(self, fallback: Fallback) -> Self {
        Self { fallback, ..self }
    }

    /// Its default, a number.
    pub(crate) fn default_number<T: TryFrom<i64>>(&self) -> T {
        let Fallback::Integer(number) = self.fallback else { self.has_no_default() };
        T::try_from(number).ok().expect("the default in the table is one of the type")
    }

    /// Its default, a duration in nanoseconds.
    pub(crate) fn default_ns(&self) -> u64 {
        let Fallback::Text(text) = self.fallback else { self.has_no_default() };
        duration(text).expect("the default in the table is a duration")
    }

    /// Its default, yes or no.
    pub(crate) fn default_truth(&self) -> bool {
        let Fallback::Boolean(truth) = self.fallback else { self.has_no_default() };
        truth
    }

    fn has_no_default(&self) -> ! {
        unreachable!("`{}` has no default of this kind: this is a bug in tapster", self.name)
    }

    pub(crate) fn is_required(&self) -> bool {
        matches!(self.fallback, Fallback::Required)
    }

    /// Its description without links.
    pub(crate) fn plain_doc(&self) -> String {
        let mut plain = String::new();
        let mut rest = self.doc;
        while let Some((before, link)) = rest.split_once('[') {
            plain.push_str(before);
            match link.split_once("](") {
                Some((text, target)) if !text.contains(['[', ']']) => {
                    plain.push_str(text);
                    rest = target.split_once(')').map_or("", |(_, behind)| behind);
                }
                _ => {
                    plain.push('[');
                    rest = link;
                }
            }
        }
        plain + rest
    }
}

/// Parses a duration such as `10s` or `500ms` into nanoseconds; a plain number is seconds.
pub(crate) fn duration(text: &str) -> Option<u64> {
    let has_unit = text.ends_with(|c: char| c.is_ascii_alphabetic());
    match expr::parse(text).map(|expr| expr.kind) {
        Ok(expr::ExprKind::Integer(value)) if has_unit && value > 0 => Some(value),
        Ok(expr::ExprKind::Integer(value)) if value > 0 => value.checked_mul(1_000_000_000),
        _ => None,
    }
}

/// Total number of keys of several lists.
pub(crate) const fn total(lists: &[&[Key]]) -> usize {
    let (mut sum, mut at) = (0, 0);
    while at < lists.len() {
        sum += lists[at].len();
        at += 1;
    }
    sum
}

/// Joins several lists of keys.
pub(crate) const fn concat<const N: usize>(lists: &[&[Key]]) -> [Key; N] {
    let mut all = [Key::new("", Form::Text, ""); N];
    let (mut list, mut filled) = (0, 0);
    while list < lists.len() {
        let mut at = 0;
        while at < lists[list].len() {
            all[filled] = lists[list][at];
            filled += 1;
            at += 1;
        }
        list += 1;
    }
    all
}

/// Makes the JSON Schema of a mapping.
pub(crate) fn mapping(keys: &[Key]) -> Value {
    let properties: serde_json::Map<String, Value> = keys
        .iter()
        .map(|key| {
            let mut value = of(&key.form);
            value["description"] = json!(key.plain_doc());
            match key.fallback {
                Fallback::Integer(number) => value["default"] = json!(number),
                Fallback::Boolean(truth) => value["default"] = json!(truth),
                Fallback::Text(text) => value["default"] = json!(text),
                Fallback::None | Fallback::Required | Fallback::Told(_) => {}
            }
            (key.name.to_owned(), value)
        })
        .collect();
    let required: Vec<&str> = keys.iter().filter(|key| key.is_required()).map(|key| key.name).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn of(form: &Form) -> Value {
    match form {
        Form::Text => json!({"type": "string"}),
        Form::Name => json!({"type": "string", "pattern": "^[a-zA-Z_][a-zA-Z0-9_]*$"}),
        // `value: 1` and `where: true` are read by YAML as a number and a boolean.
        Form::Expression => json!({"type": ["string", "integer", "boolean"]}),
        Form::Boolean => json!({"type": "boolean"}),
        Form::Integer(least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
        Form::Duration => json!({"type": ["string", "integer"]}),
        Form::Word(words) => json!({"enum": words}),
        Form::Part => json!({"type": "string", "pattern": "^1/[0-9]{1,10}( s)?$"}),
        Form::Mapping(keys) => mapping(keys),
        Form::List(inner) => json!({"type": "array", "items": of(inner)}),
        Form::Named(inner) => json!({"type": "object", "additionalProperties": of(inner)}),
        Form::Either(forms) => json!({"anyOf": forms.iter().map(of).collect::<Vec<_>>()}),
        Form::Table => {
            json!({"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}})
        }
        Form::Number => json!({"type": "number"}),
    }
}

/// Formats a number with spaces between thousands: 1 000 000.
fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut shown = String::from(if number < 0 { "−" } else { "" });
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) && digits.len() > 4 {
            shown.push(' ');
        }
        shown.push(digit);
    }
    shown
}

/// Makes the table of a mapping's keys in Markdown.
pub(crate) fn table(keys: &[Key]) -> String {
    let mut table = String::from("| key | value | default |\n|---|---|---|\n");
    for key in keys {
        let mut doc = key.doc.trim_end_matches('.').replace('|', "\\|");
        if let Form::Integer(least, most) = key.form {
            let _ = write!(doc, " ({} to {})", grouped(least), grouped(most));
        }
        let fallback = match key.fallback {
            Fallback::None => String::new(),
            Fallback::Required => "required".into(),
            Fallback::Integer(number) => grouped(number),
            Fallback::Boolean(truth) => format!("`{truth}`"),
            Fallback::Text(text) => format!("`{text}`"),
            Fallback::Told(words) => words.into(),
        };
        let _ = writeln!(table, "| `{}` | {doc} | {fallback} |", key.name);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_for_the_reference_only() {
        for (doc, plain) in [
            ("no link", "no link"),
            ("an [event](#events) or a [list](#a) of them", "an event or a list of them"),
            ("`[...]` matches, see [there](#x)", "`[...]` matches, see there"),
            ("[unclosed", "[unclosed"),
        ] {
            assert_eq!(Key::new("x", Form::Text, doc).plain_doc(), plain);
        }
    }

    #[test]
    fn numbers_are_grouped() {
        for (number, shown) in
            [(0, "0"), (4096, "4096"), (-40, "−40"), (16_384, "16 384"), (1_000_000, "1 000 000")]
        {
            assert_eq!(grouped(number), shown);
        }
    }
}
