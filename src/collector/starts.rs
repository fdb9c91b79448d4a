//! Starts that wait for their end.

use crate::{
    load::Attached,
    sys::{self, PossibleCpus},
};
use std::{collections::HashMap, io};
use tapster_ebpf::{
    layout::{StartLayout, TableLayout},
    program::{STARTS, TABLE},
};

use super::CollectError;

/// The map of starts and the table of starts in front of it.
#[derive(Debug)]
pub(super) struct Starts {
    map: sys::Map,
    table: Option<(sys::StartTable, TableLayout)>,
    /// Bytes of a key.
    key_size: usize,
    /// Bytes of a value of the map: the time, then the saved values.
    value_size: usize,
}

/// A start that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// The time of the start by the kernel's clock, see [`sys::KernelClock`].
    pub(super) since_ns: u64,
    /// Its key.
    pub(super) key: Vec<u8>,
    /// Its value in the map: the time, then the saved values.
    pub(super) value: Vec<u8>,
    /// The index of its entry, if it is in the table.
    entry: Option<usize>,
}

impl Starts {
    /// Opens the starts of a probe with this layout.
    pub(super) fn open(
        attached: &Attached,
        layout: &StartLayout,
        cpus: PossibleCpus,
    ) -> Result<Self, CollectError> {
        let map = sys::Map::open(attached.map(STARTS)?, cpus)?;
        let table = match &layout.table {
            Some(layout) => Some((sys::StartTable::open(attached.map(TABLE)?, layout)?, layout.clone())),
            None => None,
        };
        let (key_size, value_size) = (map.key_size(), map.value_size());
        Ok(Self { map, table, key_size, value_size })
    }

    /// Gives up the starts before a time; returns their number.
    pub(super) fn expire(&self, before_ns: u64) -> io::Result<u64> {
        let mut expired = self.table.as_ref().map_or(0, |(table, _)| table.expire(before_ns));
        let mut old = Vec::new();
        self.map.scan(|key, value| {
            if since(value).is_some_and(|since| since < before_ns) {
                old.push(key.to_vec());
            }
        })?;
        for key in old {
            expired += u64::from(self.delete(&key)?);
        }
        Ok(expired)
    }

    /// The starts that wait now, each key once. Programs keep running, so a start that comes or ends during the call may or may
    /// not be included.
    pub(super) fn waiting(&self) -> io::Result<Vec<Start>> {
        let mut starts = Vec::new();
        let mut is_map_empty = false;
        if let Some((table, _)) = &self.table {
            is_map_empty = !table.has_elsewhere();
            table.waiting(|entry, since_ns, bytes| {
                let (key, saved) = bytes.split_at(self.key_size.min(bytes.len()));
                let saved = saved.get(..self.value_size - 8).unwrap_or(saved);
                let value = [&since_ns.to_ne_bytes(), saved].concat();
                starts.push(Start { since_ns, key: key.to_vec(), value, entry: Some(entry) });
            });
        }
        if is_map_empty {
            return Ok(starts);
        }
        // The map may have an older start of the same key, whose end was lost: an end of the key would find the one in the
        // table.
        let mut places: HashMap<Vec<u8>, usize> = HashMap::new();
        self.map.scan(|key, value| {
            if places.is_empty() {
                places.extend((0..).zip(&starts).map(|(place, start)| (start.key.clone(), place)));
            }
            let Some(since_ns) = since(value) else { return };
            let start = Start { since_ns, key: key.to_vec(), value: value.to_vec(), entry: None };
            match places.get(key).and_then(|place| starts.get_mut(*place)) {
                Some(known) if known.since_ns < since_ns => *known = start,
                Some(_) => {}
                None => {
                    places.insert(key.to_vec(), starts.len());
                    starts.push(start);
                }
            }
        })?;
        Ok(starts)
    }

    /// Gives up a start whose end will not come; returns whether it still waited.
    pub(super) fn give_up(&self, start: &Start) -> io::Result<bool> {
        match (start.entry, &self.table) {
            (Some(entry), Some((table, _))) => Ok(table.take(entry, start.since_ns)),
            _ => self.delete(&start.key),
        }
    }

    /// Gives up starts before a time until a quarter of the map is free, if less is. A start in the table takes no room in the
    /// map. The oldest stay, because the probe reports their age. Returns the number given up.
    pub(super) fn make_room(&self, starts: &[Start], before_ns: u64) -> io::Result<u64> {
        let mut in_map: Vec<&Start> = starts.iter().filter(|start| start.entry.is_none()).collect();
        let over = in_map.len().saturating_sub(self.map.max_entries() - self.map.max_entries() / 4);
        in_map.retain(|start| start.since_ns < before_ns);
        in_map.sort_unstable_by_key(|start| std::cmp::Reverse(start.since_ns));
        let mut given_up = 0;
        for start in in_map.into_iter().take(over) {
            given_up += u64::from(self.delete(&start.key)?);
        }
        Ok(given_up)
    }

    /// Removes a start from the map; returns whether it was there.
    fn delete(&self, key: &[u8]) -> io::Result<bool> {
        let was_there = self.map.delete(key)?;
        if let (true, Some((table, layout))) = (was_there, &self.table) {
            table.forget_elsewhere(layout.place(key));
        }
        Ok(was_there)
    }
}

/// The time of a start, from its value in the map.
fn since(value: &[u8]) -> Option<u64> {
    value.get(..8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes)
}
