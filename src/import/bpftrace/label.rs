//! Keys of maps, and what is printed → labels and their decoders.

use super::super::sheet::YamlValue;
use super::{
    maps::{ConstantValue, MapRole},
    said::{Kept, SayingScope, Unsaid},
    script::{Term, TermKind},
    state::ScriptState,
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
            TermKind::Name(word) if word == "probe" => match self.sites() {
                Some(of_sites) => Ok(label(of_sites.into(), None)),
                None => Ok(label(self.value(term)?.text, None)),
            },
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
                (
                    _,
                    Some(
                        Kept::Value { decoder: Some(decoder), .. }
                        | Kept::State(ScriptState { decoder: Some(decoder), .. }),
                    ),
                ) => {
                    let decoder = decoder.clone();
                    let value = self.value(term)?.within(2);
                    match Decoder::named(&decoder) {
                        // A value that is kept is 64 bits, and an address of IPv4 is not.
                        Some(_) if decoder == "ip" => {
                            Ok(label(format!("(u32){value}"), Some(YamlValue::text(decoder))))
                        }
                        Some(_) => Ok(label(value, Some(YamlValue::text(decoder)))),
                        None => unsaid(&lacking(&decoder)),
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
                if is_ip && is_bytes(&yes) != is_bytes(&no) {
                    return unsaid("an address of IPv4 and one of IPv6 are two labels");
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

    /// The labels of an address that is one of IPv4 or one of IPv6, which differ in their length: one for each.
    pub(super) fn addresses(
        &mut self,
        name: &str,
        term: &Term,
    ) -> Result<Option<(SaidLabel, SaidLabel)>, Unsaid> {
        let TermKind::Choice(condition, yes, no) = &term.kind else { return Ok(None) };
        let is_address = |term: &Term| decoded(term).is_some_and(|(decoder, _)| decoder == "ip");
        if !is_address(yes) || !is_address(no) {
            return Ok(None);
        }
        let (yes, no) = (self.label(name, yes)?, self.label(name, no)?);
        if is_bytes(&yes) == is_bytes(&no) {
            return Ok(None);
        }
        let condition = self.value(condition)?.within(12);
        let (short, long) = if is_bytes(&no) {
            (format!("{condition} ? {} : 0", yes.value), no)
        } else {
            (format!("{condition} ? 0 : {}", no.value), yes)
        };
        let short = SaidLabel { value: short, ..long.clone() };
        Ok(Some((short, SaidLabel { name: format!("{name}_v6"), ..long })))
    }

    /// The word for the function or tracepoint at which an event of several happened, where `probe` means that.
    fn sites(&self) -> Option<&'static str> {
        match self.point {
            Some(point) if !point.is_pattern() => None,
            Some(point) if point.is_function() => Some("func"),
            Some(point) => point.category().map(|_| "tracepoint"),
            None if self.has_func => Some("func"),
            None => self.has_tracepoint.then_some("tracepoint"),
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
        // Fields of tracepoints that are addresses are arrays of bytes.
        let of_tracepoint = ["args.saddr", "args.daddr", "args.saddr_v6", "args.daddr_v6"]
            .contains(&text.as_str())
            && self.point.is_some_and(|point| point.at.starts_with("tracepoint:"));
        let is_array =
            of_tracepoint || ["u6_addr8", "s6_addr", "addr8"].iter().any(|end| text.ends_with(end));
        let value = match decoder {
            "mac" => format!("bytes({text})"),
            "ip" if is_array => format!("bytes({text})"),
            // A number is an address of IPv4, however wide the script has it.
            "ip" if !matches!(value.kind, TermKind::Field(..)) => {
                format!("(u32){}", self.value(value)?.within(2))
            }
            _ => text,
        };
        Ok(SaidLabel { name: name.to_owned(), value, decoder: Some(YamlValue::text(decoder)) })
    }
}

fn is_bytes(label: &SaidLabel) -> bool {
    label.value.starts_with("bytes(")
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
        TermKind::Call { name, arguments } if name.ends_with("kaddr") => match arguments.first() {
            Some(Term { kind: TermKind::Text(symbol), .. }) => symbol.clone(),
            _ => name.clone(),
        },
        // `buf(data, length)`
        TermKind::Call { name, arguments } if name == "buf" => {
            arguments.first().map_or_else(|| name.clone(), name_of)
        }
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
