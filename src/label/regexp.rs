//! Texts by regular expressions.

use super::{Decode, text::TextDecoder};
use regex_lite::Regex;
use tapster_ebpf::probe::Decoder;

/// The first expression that matches the whole text decides.
#[derive(Debug)]
pub(super) struct RegexpDecoder {
    rows: Vec<(Regex, Option<String>)>,
    default: String,
}

impl RegexpDecoder {
    pub(super) fn new(rows: &[(String, Option<String>)], default: &str) -> Self {
        let compiled = |(pattern, text): &(String, Option<String>)| {
            let expression = Decoder::expression(pattern).expect("the reader of the file compiled it");
            (expression, text.clone())
        };
        Self { rows: rows.iter().map(compiled).collect(), default: default.to_owned() }
    }
}

impl Decode for RegexpDecoder {
    fn decode(&mut self, raw: &[u8]) -> Option<String> {
        let text = TextDecoder.decode(raw)?;
        for (expression, shown) in &self.rows {
            let Some(groups) = expression.captures(&text) else { continue };
            let Some(shown) = shown else { return Some(text) };
            let mut expanded = String::new();
            groups.expand(shown, &mut expanded);
            return Some(expanded);
        }
        Some(self.default.clone())
    }
}
