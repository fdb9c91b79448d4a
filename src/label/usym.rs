//! Functions of programs by address and process.
//!
//! A scrape comes later than the event, and the process may have ended: its mappings are known from the kernel's reports, as for
//! stacks, and its files are read by the same rules. The address itself is never shown: it tells where the program is in memory.

use super::{Decode, number::unsigned};
use crate::{
    symbol::{Frame, Symbols},
    topology::Topology,
};
use std::{collections::HashMap, sync::Arc};

/// Most addresses whose text is remembered; of others it is made again at each scrape.
const TEXTS: usize = 1 << 16;

/// Functions by address and process.
#[derive(Debug)]
pub(super) struct UsymDecoder {
    symbols: Arc<Symbols>,
    /// Texts that will not change any more: a process that has ended is forgotten, and its counts keep their name.
    texts: HashMap<(u64, u32), String>,
}

impl UsymDecoder {
    pub(super) fn new(symbols: &Arc<Symbols>) -> Self {
        symbols.want_files();
        Self { symbols: symbols.clone(), texts: HashMap::new() }
    }
}

impl Decode for UsymDecoder {
    fn decode(&mut self, raw: &[u8]) -> Option<String> {
        let (address, process) = raw.split_at_checked(8)?;
        let (address, process) = (unsigned(address), u32::try_from(unsigned(process)).ok()?);
        if address == 0 {
            return Some("none".to_owned());
        }
        if let Some(text) = self.texts.get(&(address, process)) {
            return Some(text.clone());
        }
        let mut names = self.symbols.names(&[Frame::Address(address)], process);
        let text = names.list.pop()?;
        if names.are_final && self.texts.len() < TEXTS {
            self.texts.insert((address, process), text.clone());
        }
        Some(text)
    }

    fn refresh(&mut self, _: &Arc<Topology>) {
        self.symbols.refresh();
    }
}
