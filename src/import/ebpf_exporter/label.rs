//! Their decoders → ours, with a value that stands for what their code computes.

use super::{entries, get, items, regexp, text};
use crate::import::sheet::YamlValue;
use std::collections::BTreeSet;
use tapster_ebpf::{
    probe::{DECODERS, DecoderInput},
    yaml::Node,
};

/// Most rows of a table.
const MAX_ROWS: usize = 2000;
/// Their names of decoders, and ours.
const DECODERS_BY_NAME: [(&str, &str); 16] = [
    ("hex", "hex"),
    ("ksym", "ksym"),
    ("kstack", "kstack"),
    ("majorminor", "block_device"),
    ("cgroup", "cgroup"),
    ("string", "string"),
    ("errno", "errno"),
    ("syscall", "syscall"),
    ("inet_ip", "ip"),
    ("ifname", "ifname"),
    ("pci_vendor", "pci_vendor"),
    ("pci_device", "pci_device"),
    ("pci_class", "pci_class"),
    ("pci_subclass", "pci_subclass"),
    ("uid", "user"),
    ("dname", "dname"),
];

/// A label of a skeleton: its name and value. What cannot be said is said in a sentence.
pub(super) fn label(
    declared: &str,
    node: &Node,
    taken: &mut BTreeSet<String>,
    notes: &mut Vec<String>,
) -> Result<(String, YamlValue), String> {
    let mut name: String = declared
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' })
        .take(60)
        .collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name = format!("{}{}", if name.starts_with("__") { "label" } else { "" }, name);
    if name.is_empty() || matches!(name.as_str(), "le" | "quantile") || !taken.insert(name.clone()) {
        return Err("its name is taken".into());
    }
    // `uint` is how a number is read, whatever becomes of it.
    let chain = get(node, "decoders").map(items).unwrap_or_default();
    let decoders: Vec<(&Node, &str)> = chain
        .iter()
        .filter_map(|decoder| Some((decoder, get(decoder, "name").and_then(text)?)))
        .filter(|(_, name)| !matches!(*name, "uint" | "int"))
        .collect();
    let last = match decoders[..] {
        [] => return Ok((name, YamlValue::text("0"))),
        [(only, decoder)] => (only, decoder),
        // A text that a pattern changes.
        [.., (last, decoder)] => (last, decoder),
    };
    if last.1 == "static_map" {
        return table(last.0).map(|value| (name, value));
    }
    if last.1 == "regexp" {
        let chosen = regexp::regexp(last.0)?;
        if chosen.leaves_others {
            notes.push(format!(
                "the label `{name}` is `~other` where no expression matches: theirs has no series there"
            ));
        }
        let keys = vec![("regexp".to_owned(), YamlValue::Map(chosen.rows))];
        return Ok((name, decoded("comm", YamlValue::Map(keys))));
    }
    let ours = DECODERS_BY_NAME.iter().find(|(theirs, _)| *theirs == last.1).map(|(_, ours)| *ours);
    let Some(ours) = ours else { return Err(format!("the decoder `{}` is not known", last.1)) };
    let row = DECODERS.iter().find(|row| row.decoders.iter().any(|(name, _)| *name == ours));
    let Some(row) = row else {
        return Err(format!("there is no decoder like `{}` in this version", last.1));
    };
    let value = match row.takes {
        DecoderInput::Text => return Ok((name, YamlValue::text("comm"))),
        DecoderInput::Number => "0",
        DecoderInput::Stack(_) | DecoderInput::Sleep => return Ok((name, YamlValue::text("kstack"))),
        // Bytes of any number, or of that which its length is.
        _ => "bytes(curtask.comm, 16)",
    };
    Ok((name, decoded(value, YamlValue::text(ours))))
}

fn decoded(value: &str, decoder: YamlValue) -> YamlValue {
    YamlValue::Map(vec![("value".into(), YamlValue::text(value)), ("as".into(), decoder)])
}

fn table(node: &Node) -> Result<YamlValue, String> {
    let rows = get(node, "static_map").map(entries).unwrap_or_default();
    if rows.is_empty() || rows.len() > MAX_ROWS {
        return Err(format!("a table has 1 to {MAX_ROWS} rows"));
    }
    let mut written = Vec::new();
    let mut numbers = BTreeSet::new();
    for (key, value) in rows {
        let (Some(key), Some(value)) = (text(key), text(value)) else { continue };
        let Ok(number) = key.trim().parse::<i64>() else {
            return Err(format!("`{key}` is no number, and tables are of numbers"));
        };
        if numbers.insert(number) {
            written.push((number.to_string(), YamlValue::text(value)));
        }
    }
    Ok(decoded("0", YamlValue::Map(written)))
}
