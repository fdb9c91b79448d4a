//! Keys of maps, and what is printed → labels and their decoders.

use super::super::sheet::YamlValue;
use super::{
    maps::{ConstantValue, MapRole},
    said::{Kept, SayingScope, Unsaid},
    script::{Term, TermKind},
};
use std::collections::BTreeSet;
use tapster_ebpf::probe::Decoder;

/// Functions that make a text of a value, and the decoders that do.
const DECODED: [(&str, &str); 8] = [
    ("ksym", "ksym"),
    ("usym", "usym"),
    ("ntop", "ip"),
    ("macaddr", "mac"),
    ("strerror", "errno"),
    ("syscall_name", "syscall"),
    ("cgroup_path", "cgroup"),
    ("signal_name", "signal"),
];

/// A label of a probe.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SaidLabel {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) decoder: Option<YamlValue>,
}

impl SaidLabel {
    pub(super) fn written(&self) -> YamlValue {
        match &self.decoder {
            None => YamlValue::text(&self.value),
            Some(decoder) => YamlValue::Map(vec![
                ("value".into(), YamlValue::text(&self.value)),
                ("as".into(), decoder.clone()),
            ]),
        }
    }
}

/// The decoder for a function that makes a text, if there is one, and the value that the function takes.
pub(super) fn decoded(term: &Term) -> Option<(&'static str, &Term)> {
    let (function, arguments) = term.as_call()?;
    let (_, decoder) = DECODED.iter().find(|(name, _)| *name == function)?;
    // `ntop(AF_INET, address)`
    arguments.last().map(|value| (*decoder, value))
}

impl SayingScope<'_> {
    /// A term as the label `name`.
    pub(super) fn label(&mut self, name: &str, term: &Term) -> Result<SaidLabel, Unsaid> {
        let unsaid = |text: &str| Err(Unsaid { span: term.span.clone(), text: text.to_owned() });
        let label =
            |value: String, decoder: Option<YamlValue>| SaidLabel { name: name.to_owned(), value, decoder };
        if let Some((decoder, value)) = decoded(term) {
            return self.by_decoder(name, decoder, value, term);
        }
        match &term.kind {
            TermKind::Name(word) if word == "probe" && self.point.is_none() => Ok(label("func".into(), None)),
            TermKind::Name(word) if matches!(word.as_str(), "nsecs" | "elapsed") => {
                unsaid("a time is no label: each event would be a series of its own")
            }
            TermKind::Call { name, .. } if name == "strftime" || name == "nsecs" => {
                unsaid("a time is no label: each event would be a series of its own")
            }
            TermKind::Name(word) if word == "cgroup" => {
                Ok(label("cgroup".into(), Some(YamlValue::text("cgroup"))))
            }
            TermKind::Name(word) if word == "username" => self.by_decoder(name, "user", term, term),
            TermKind::Map { name: map, keys } => match (self.roles.of(map).clone(), self.kept.get(map)) {
                (MapRole::Table(texts), _) => {
                    let Some(key) = keys.first() else { return unsaid("the table is read without a key") };
                    // `@table[x & 0xffffffff]` is how scripts cut a number to its width.
                    let value = self.value(key)?.text;
                    let rows = texts.iter().map(|(number, text)| (number.to_string(), YamlValue::text(text)));
                    Ok(label(value, Some(YamlValue::Map(rows.collect()))))
                }
                (MapRole::Constant(ConstantValue::Text(_)), _) | (_, None) => {
                    Ok(label(self.value(term)?.text, None))
                }
                (_, Some(Kept::Value { name: saved, decoder: Some(decoder) })) => {
                    let value = format!("start.{saved}");
                    match Decoder::named(decoder) {
                        // A saved value is 64 bits, and an address is not.
                        Some(_) if decoder == "ip" => {
                            unsaid("an address whose type the script does not tell")
                        }
                        Some(_) => Ok(label(value, Some(YamlValue::text(decoder)))),
                        None => unsaid(&lacking(decoder)),
                    }
                }
                (_, Some(Kept::Time)) => {
                    unsaid("a time is no label: each event would be a series of its own")
                }
                (_, Some(_)) => Ok(label(self.value(term)?.text, None)),
            },
            TermKind::Choice(condition, yes, no) => {
                let (yes, no) = (self.label(name, yes)?, self.label(name, no)?);
                let is_ip = yes.decoder == Some(YamlValue::text("ip"));
                if is_ip && yes.value.starts_with("bytes(") != no.value.starts_with("bytes(") {
                    return unsaid(
                        "it is an address of IPv4 or of IPv6: take each in a probe of its own, by `where`",
                    );
                }
                if yes.decoder != no.decoder {
                    return unsaid("the two values become text in different ways");
                }
                let condition = self.value(condition)?.text;
                Ok(label(format!("({condition}) ? ({}) : ({})", yes.value, no.value), yes.decoder))
            }
            _ => {
                let value = self.value(term)?.text;
                let decoder = match value.as_str() {
                    "args.dev" | "args.sb_dev" => Some("block_device"),
                    _ if name_of(term).ends_with("errno") => Some("errno"),
                    _ => None,
                };
                Ok(label(value, decoder.map(YamlValue::text)))
            }
        }
    }

    fn by_decoder(
        &mut self,
        name: &str,
        decoder: &str,
        value: &Term,
        at: &Term,
    ) -> Result<SaidLabel, Unsaid> {
        if Decoder::named(decoder).is_none() {
            return Err(Unsaid { span: at.span.clone(), text: lacking(decoder) });
        }
        let text = match decoder {
            "user" => "uid".to_owned(),
            _ => self.value(value)?.text,
        };
        let is_array = ["u6_addr8", "s6_addr", "addr8"].iter().any(|end| text.ends_with(end));
        let value = match decoder {
            "mac" => format!("bytes({text})"),
            "ip" if is_array => format!("bytes({text})"),
            // A number of another width is no address, and a script does not tell it.
            "ip" if !matches!(value.kind, TermKind::Field(..)) => {
                let text = "an address whose type the script does not tell".to_owned();
                return Err(Unsaid { span: at.span.clone(), text });
            }
            _ => text,
        };
        Ok(SaidLabel { name: name.to_owned(), value, decoder: Some(YamlValue::text(decoder)) })
    }
}

fn lacking(decoder: &str) -> String {
    let what = match decoder {
        "ip" => "addresses of the network",
        "mac" => "addresses of network cards",
        "signal" => "names of signals",
        _ => "such texts",
    };
    format!("{what} have no decoder in this version")
}

/// A name for the label of a term.
pub(super) fn name_of(term: &Term) -> String {
    let name = match &term.kind {
        TermKind::Name(name) | TermKind::Variable(name) | TermKind::Field(_, name)
            if !name.starts_with(|c: char| c.is_ascii_digit()) =>
        {
            name.clone()
        }
        TermKind::Let(named) => named.name.clone(),
        TermKind::Field(of, _) => name_of(of),
        // A table is named by its key, unless that is a value of the start, which has the better name.
        TermKind::Map { name, keys } => match keys.first() {
            Some(key) if key.as_map().is_some() => name_of(key),
            _ => name.clone(),
        },
        TermKind::Call { name, arguments } => match arguments.last() {
            Some(argument) if !matches!(argument.kind, TermKind::Number(_)) => name_of(argument),
            _ => arguments.first().map_or_else(|| name.clone(), name_of),
        },
        TermKind::Unary(_, inner) | TermKind::Cast(_, inner) | TermKind::Index(inner, _) => name_of(inner),
        TermKind::Binary(_, a, b) => {
            if a.as_number().is_some() {
                name_of(b)
            } else {
                name_of(a)
            }
        }
        TermKind::Choice(_, yes, no) => {
            if yes.as_number().is_some() {
                name_of(no)
            } else {
                name_of(yes)
            }
        }
        TermKind::Name(_)
        | TermKind::Variable(_)
        | TermKind::Number(_)
        | TermKind::Text(_)
        | TermKind::Parameter(_)
        | TermKind::Tuple(_) => "key".into(),
    };
    name.strip_prefix("skc_").map(str::to_owned).unwrap_or(name)
}

/// A name that a label may have, and that no other of `taken` has.
pub(super) fn free_name(wanted: &str, taken: &mut BTreeSet<String>) -> String {
    let mut name: String =
        wanted.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(60).collect();
    name = name.trim_start_matches('_').to_ascii_lowercase();
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert_str(0, "key_");
    }
    if matches!(name.as_str(), "le" | "quantile" | "job" | "instance" | "namespace" | "pod" | "container") {
        name.push_str("_value");
    }
    let mut free = name.clone();
    let mut number = 2;
    while !taken.insert(free.clone()) {
        free = format!("{name}_{number}");
        number += 1;
    }
    free
}
