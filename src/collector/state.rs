//! State that is kept by key: keys that were not set for long are given up.

use super::CollectError;
use crate::{
    load::{Attached, LoadError},
    sys::{self, PossibleCpus},
};
use std::io;

/// The maps of states that have a timeout.
#[derive(Debug)]
pub(super) struct TimedStates(Vec<TimedState>);

#[derive(Debug)]
struct TimedState {
    map: sys::Map,
    timeout_ns: u64,
}

impl TimedStates {
    /// Opens those of a probe.
    pub(super) fn open(attached: &Attached, cpus: PossibleCpus) -> Result<Self, CollectError> {
        let mut states = Vec::new();
        for keyed in attached.program.layout.state.keyed() {
            let Some(timeout_ns) = keyed.timeout_ns else { continue };
            let missing =
                || LoadError::NoMap { probe: attached.program.name.clone(), map: keyed.map.to_owned() };
            let index = attached.program.map_named(keyed.map).ok_or_else(missing)?;
            states.push(TimedState { map: sys::Map::open(attached.map(index)?, cpus)?, timeout_ns });
        }
        Ok(Self(states))
    }

    /// Gives up the keys that were not set for the time that their state has; returns how many. `now_ns` is by the clock of
    /// programs.
    pub(super) fn expire(&self, now_ns: u64) -> io::Result<u64> {
        let mut given_up = 0;
        for TimedState { map, timeout_ns } in &self.0 {
            let before_ns = now_ns.saturating_sub(*timeout_ns);
            let is_old = |value: &[u8]| set_at(value).is_some_and(|at| at < before_ns);
            let mut old = Vec::new();
            map.scan(|key, value| {
                if is_old(value) {
                    old.push(key.to_vec());
                }
            })?;
            for key in old {
                // It may have been set again meanwhile.
                if map.lookup(&key)?.is_some_and(|value| is_old(&value)) {
                    given_up += u64::from(map.delete(&key)?);
                }
            }
        }
        Ok(given_up)
    }
}

/// The time at which a value was set.
fn set_at(value: &[u8]) -> Option<u64> {
    value.get(..8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes)
}
