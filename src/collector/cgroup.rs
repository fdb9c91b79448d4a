//! Answers about cgroups that the programs of a probe remember (`cgroup_matches`). They need no order from here to be right in version
//! 2: ids are never used again there, and paths do not change. What is done is about memory and about version 1.

use super::CollectError;
use crate::{
    load::Attached,
    sys::{self, PossibleCpus},
};
use std::io;
use tapster_ebpf::layout::CGROUPS;

/// Bits of a key below the hierarchy's number.
const ID_BITS: u32 = 48;

/// The map of answers.
#[derive(Debug)]
pub(super) struct CgroupAnswers(sys::Map);

impl CgroupAnswers {
    /// Opens the map; `None` if the probe asks nothing about cgroups.
    pub(super) fn open(attached: &Attached, cpus: PossibleCpus) -> Result<Option<Self>, CollectError> {
        let Some(map) = attached.program.map_named(CGROUPS) else { return Ok(None) };
        Ok(Some(Self(sys::Map::open(attached.map(map)?, cpus)?)))
    }

    /// Removes answers about cgroups of version 1, which may have got another name, and all of them once half of the room is taken:
    /// most are of cgroups that are gone. Programs find again what they need.
    pub(super) fn renew(&self) -> io::Result<()> {
        let (mut count, mut old) = (0, Vec::new());
        self.0.scan(|key, _| {
            count += 1;
            if hierarchy(key) != Some(0) {
                old.push(key.to_vec());
            }
        })?;
        if count > self.0.max_entries() / 2 {
            return self.0.clear();
        }
        for key in old {
            self.0.delete(&key)?;
        }
        Ok(())
    }
}

/// The hierarchy of the cgroup of a key; 0 for version 2.
fn hierarchy(key: &[u8]) -> Option<u64> {
    let id = key.get(..8)?.try_into().ok()?;
    Some(u64::from_le_bytes(id) >> ID_BITS)
}
