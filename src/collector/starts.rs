//! Starts that wait for their end.

use crate::{
    loader::Attached,
    sys::{self, PossibleCpus},
};
use tapster_ebpf::{
    layout::{StartLayout, TableLayout},
    program::{STARTS, TABLE},
};

use super::CollectError;

/// The map of starts and the table before it.
#[derive(Debug)]
pub(super) struct Starts {
    map: sys::Map,
    table: Option<(sys::Table, TableLayout)>,
}

impl Starts {
    /// Opens those of a probe with this layout.
    pub(super) fn open(
        attached: &Attached,
        layout: &StartLayout,
        cpus: PossibleCpus,
    ) -> Result<Self, CollectError> {
        let map = sys::Map::open(attached.map(STARTS)?, cpus)?;
        let table = match &layout.table {
            Some(layout) => Some((sys::Table::open(attached.map(TABLE)?, layout)?, layout.clone())),
            None => None,
        };
        Ok(Self { map, table })
    }

    /// Gives up the starts before a time; their number.
    pub(super) fn expire(&self, before_ns: u64) -> std::io::Result<u64> {
        let mut expired = self.table.as_ref().map_or(0, |(table, _)| table.expire(before_ns));
        let mut old = Vec::new();
        self.map.scan(|key, value| {
            let since = value.get(..8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
            if since.is_some_and(|since| since < before_ns) {
                old.push(key.to_vec());
            }
        })?;
        for key in old {
            if self.map.delete(&key)? {
                expired += 1;
                if let Some((table, layout)) = &self.table {
                    table.forget_elsewhere(layout.place(&key));
                }
            }
        }
        Ok(expired)
    }
}
