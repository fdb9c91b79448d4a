//! Groups: a site's word for devices that do the same work without an array.

use super::DeviceIdentity;
use tapster_ebpf::{
    glob::Glob,
    probe::{DeviceGroup, DeviceKey},
};

/// The groups of the configuration, in its order.
#[derive(Debug, Default)]
pub struct DeviceGroups(Vec<GroupPatterns>);

#[derive(Debug)]
struct GroupPatterns {
    name: String,
    /// All must match, each by one of its patterns.
    tests: Vec<(DeviceKey, Vec<Glob>)>,
}

impl DeviceGroups {
    /// Makes them of what is declared.
    pub fn new(declared: &[DeviceGroup]) -> Self {
        let group = |declared: &DeviceGroup| GroupPatterns {
            name: declared.group.value.clone(),
            tests: declared
                .tests
                .iter()
                .map(|(key, patterns)| {
                    (*key, patterns.iter().map(|pattern| Glob::new(&pattern.value)).collect())
                })
                .collect(),
        };
        Self(declared.iter().map(group).collect())
    }

    /// The first group that a device is in; empty if it is in none. `identity` is its own: what is on a disk is not the disk.
    pub(super) fn of(&self, device: &str, name: &str, identity: &DeviceIdentity) -> &str {
        let text = |key: DeviceKey| match key {
            DeviceKey::Device => device,
            DeviceKey::Name => name,
            DeviceKey::Model => &identity.model,
            DeviceKey::Serial => &identity.serial,
            DeviceKey::Wwn => &identity.wwn,
            DeviceKey::Path => &identity.path,
            DeviceKey::Transport => &identity.transport,
        };
        let is_in = |group: &&GroupPatterns| {
            group.tests.iter().all(|(key, patterns)| {
                let text = text(*key);
                // What is not known is like nothing, not even `*`.
                !text.is_empty() && patterns.iter().any(|pattern| pattern.matches(text))
            })
        };
        self.0.iter().find(is_in).map_or("", |group| &group.name)
    }
}
