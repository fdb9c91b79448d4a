//! Cgroups by key: their paths, or their pods and containers.

use super::{Decode, HostError, number::unsigned};
use crate::cgroup::{Cgroups, Part};
use std::sync::Arc;

/// One part of a cgroup's names.
#[derive(Debug)]
pub(super) struct CgroupDecoder {
    cgroups: Arc<Cgroups>,
    part: Part,
}

impl CgroupDecoder {
    pub(super) fn new(cgroups: &Arc<Cgroups>, part: Part) -> Result<Self, HostError> {
        cgroups.want()?;
        Ok(Self { cgroups: cgroups.clone(), part })
    }
}

impl Decode for CgroupDecoder {
    fn decode(&mut self, raw: &[u8]) -> Option<String> {
        Some(self.cgroups.text(unsigned(raw), self.part).as_ref().to_owned())
    }
}
