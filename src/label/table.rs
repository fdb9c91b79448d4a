//! Numbers with names that a probe declares.

use super::{Decode, number::signed};
use std::collections::BTreeMap;

/// Names by number.
#[derive(Debug)]
pub(super) struct TableDecoder {
    rows: BTreeMap<i64, String>,
    default: Option<String>,
}

impl TableDecoder {
    pub(super) fn new(rows: BTreeMap<i64, String>, default: Option<String>) -> Self {
        Self { rows, default }
    }
}

impl Decode for TableDecoder {
    fn decode(&mut self, raw: &[u8]) -> Option<String> {
        let number = signed(raw);
        let name = self.rows.get(&number).or(self.default.as_ref());
        Some(name.cloned().unwrap_or_else(|| number.to_string()))
    }
}
