//! Arrays and their members by device number, from the topology that the scrape began with.
//!
//! The kernel's event says "a bio went from this device to that one", and arrays are not alone in doing so:
//! partitions, volumes and encryption do it too. So a row whose devices are no array and member of it, or are
//! none any more, is left out.

use super::{Decode, number::unsigned};
use crate::topology::Topology;
use std::sync::Arc;

/// `major << 20 | minor` → `md0`.
#[derive(Debug, Default)]
pub(super) struct RaidArray(Arc<Topology>);

/// `major << 20 | minor` of an array → `raid5`.
#[derive(Debug, Default)]
pub(super) struct RaidLevel(Arc<Topology>);

/// `array << 32 | member` → `3`.
#[derive(Debug, Default)]
pub(super) struct RaidSlot(Arc<Topology>);

impl Decode for RaidArray {
    fn decode(&mut self, raw: &[u8]) -> Option<String> {
        self.0.array(unsigned(raw)).map(|array| array.name.clone())
    }

    fn refresh(&mut self, topology: &Arc<Topology>) {
        self.0 = topology.clone();
    }
}

impl Decode for RaidLevel {
    fn decode(&mut self, raw: &[u8]) -> Option<String> {
        self.0.array(unsigned(raw)).map(|array| array.level.clone())
    }

    fn refresh(&mut self, topology: &Arc<Topology>) {
        self.0 = topology.clone();
    }
}

impl Decode for RaidSlot {
    fn decode(&mut self, raw: &[u8]) -> Option<String> {
        let both = unsigned(raw);
        let (array, member) = (both >> 32, both & u64::from(u32::MAX));
        self.0.member(array, member).map(|member| member.slot.clone())
    }

    fn refresh(&mut self, topology: &Arc<Topology>) {
        self.0 = topology.clone();
    }
}
