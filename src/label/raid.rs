//! Arrays and their members by device number, from the topology at the beginning of the scrape.
//!
//! The kernel's event says that a bio went from one device to another. Partitions, volumes and encryption cause it too, not
//! only arrays. So a row is left out if its devices are not an array and a member of it, or no longer.

use super::{Decode, number::unsigned};
use crate::topology::Topology;
use std::sync::Arc;

/// `major << 20 | minor` → `md0`.
#[derive(Debug, Default)]
pub(super) struct RaidArrayDecoder(Arc<Topology>);

/// `major << 20 | minor` of an array → `raid5`.
#[derive(Debug, Default)]
pub(super) struct RaidLevelDecoder(Arc<Topology>);

/// `array << 32 | member` → `3`.
#[derive(Debug, Default)]
pub(super) struct RaidSlotDecoder(Arc<Topology>);

impl Decode for RaidArrayDecoder {
    fn decode(&mut self, raw: &[u8]) -> Option<String> {
        self.0.array(unsigned(raw)).map(|array| array.name.clone())
    }

    fn refresh(&mut self, topology: &Arc<Topology>) {
        self.0 = topology.clone();
    }
}

impl Decode for RaidLevelDecoder {
    fn decode(&mut self, raw: &[u8]) -> Option<String> {
        self.0.array(unsigned(raw)).map(|array| array.level.clone())
    }

    fn refresh(&mut self, topology: &Arc<Topology>) {
        self.0 = topology.clone();
    }
}

impl Decode for RaidSlotDecoder {
    fn decode(&mut self, raw: &[u8]) -> Option<String> {
        let both = unsigned(raw);
        let (array, member) = (both >> 32, both & u64::from(u32::MAX));
        self.0.member(array, member).map(|member| member.slot.clone())
    }

    fn refresh(&mut self, topology: &Arc<Topology>) {
        self.0 = topology.clone();
    }
}
