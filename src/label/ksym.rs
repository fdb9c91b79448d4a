//! Functions of the kernel by address.
//!
//! The address itself is never shown: metrics would reveal where the kernel is in memory, which the kernel hides from users
//! (KASLR).

use super::{Decode, number::unsigned};
use crate::{
    host::{Host, HostError},
    symbol::KernelSymbols,
    topology::Topology,
};
use std::{collections::HashMap, sync::Arc};

/// Most addresses that are remembered with their text. Kernels have fewer functions; only values that are no addresses of
/// functions exceed it.
const SHOWN_LIMIT: usize = 1 << 18;

/// Functions by address, each with the text that was shown first.
#[derive(Debug)]
pub(super) struct KsymDecoder {
    pub(super) functions: KernelSymbols,
    /// The text of each address.
    shown: HashMap<u64, String>,
}

impl KsymDecoder {
    pub(super) fn new(host: &Host) -> Result<Self, HostError> {
        Ok(Self { functions: KernelSymbols::new(host)?, shown: HashMap::new() })
    }
}

impl Decode for KsymDecoder {
    fn decode(&mut self, raw: &[u8]) -> Option<String> {
        let address = unsigned(raw);
        let name = self.functions.name(address);
        // If the table cannot be read, the row is left out, because a text that was shown once has to stay.
        if !self.functions.is_read() {
            return None;
        }
        // Addresses without a name share a series. Its count must not decrease when one of them gets a name, nor increase by
        // the counts of a function whose module is gone.
        let nameless = self.functions.nameless(address);
        let text = match (self.shown.get(&address), name) {
            (Some(before), None) => before.clone(),
            (Some(before), Some(_)) if before.starts_with('[') => before.clone(),
            (_, Some(name)) => name,
            (None, None) => nameless,
        };
        let is_new = self.shown.get(&address) != Some(&text);
        if is_new && (self.shown.len() < SHOWN_LIMIT || self.shown.contains_key(&address)) {
            self.shown.insert(address, text.clone());
        }
        Some(text)
    }

    fn refresh(&mut self, _: &Arc<Topology>) {
        self.functions.look_again();
    }
}
