//! The scenarios: a script for the guest, and what its results must show.

mod story;

use super::{kernel::Kernel, machine::Results};

/// A script and its check.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) script: &'static str,
    /// Empty virtio disks, bytes each.
    pub(crate) disks: &'static [u64],
    pub(crate) memory_mib: u32,
    /// Figures in one line; a failure is a panic.
    pub(crate) check: fn(&Kernel, &Results) -> String,
}

/// All of them.
pub(crate) const ALL: [Scenario; 1] = [Scenario {
    name: "story",
    script: include_str!("scenarios/story.sh"),
    disks: &[],
    memory_mib: 1536,
    check: story::check,
}];
