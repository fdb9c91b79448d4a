//! Numbers of which each bit has a name.

use super::Decode;
use std::collections::BTreeMap;

/// Names of bits, joined by `|` in the order of the bits.
#[derive(Debug)]
pub(super) struct FlagsDecoder {
    /// Those of several bits first, which mean all of these.
    names: Vec<(u64, String)>,
    none: String,
}

impl FlagsDecoder {
    pub(super) fn new(rows: &BTreeMap<i64, String>) -> Self {
        let mut names: Vec<(u64, String)> =
            rows.iter().map(|(bits, name)| (bits.cast_unsigned(), name.clone())).collect();
        let none = rows.get(&0).map_or("none", String::as_str).to_owned();
        names.retain(|(bits, _)| *bits != 0);
        names.sort_by_key(|(bits, _)| (64 - bits.count_ones(), *bits));
        Self { names, none }
    }
}

impl Decode for FlagsDecoder {
    fn decode(&mut self, raw: &[u8]) -> Option<String> {
        let mut left = super::number::unsigned(raw);
        if left == 0 {
            return Some(self.none.clone());
        }
        let mut found: Vec<(u64, &str)> = Vec::new();
        for (bits, name) in &self.names {
            if left & bits == *bits {
                left &= !bits;
                found.push((*bits, name));
            }
        }
        found.sort_by_key(|(bits, _)| bits.trailing_zeros());
        let mut texts: Vec<String> = found.into_iter().map(|(_, name)| name.to_owned()).collect();
        if left != 0 {
            texts.push(format!("{left:#x}"));
        }
        Some(texts.join("|"))
    }
}
