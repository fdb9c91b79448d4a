//! Groups of block devices that do the same work.

use crate::diagnostic::Spanned;

/// An entry of `device_groups`.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceGroup {
    /// The label's value.
    pub group: Spanned<String>,
    /// What a device must be: all of these, each by one of its patterns ([`crate::glob`]).
    pub tests: Vec<(DeviceKey, Vec<Spanned<String>>)>,
}

/// By what devices are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKey {
    /// The kernel's name.
    Device,
    /// What people call it.
    Name,
    /// The model of the disk.
    Model,
    /// Its serial number.
    Serial,
    /// Its world-wide name.
    Wwn,
    /// The way to it.
    Path,
    /// `sata`, `sas`, `nvme`, …
    Transport,
}

impl DeviceKey {
    /// All, in the order of the reference.
    pub const ALL: [Self; 7] =
        [Self::Device, Self::Name, Self::Model, Self::Serial, Self::Wwn, Self::Path, Self::Transport];

    /// The key of the YAML, which is also the label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Name => "name",
            Self::Model => "model",
            Self::Serial => "serial",
            Self::Wwn => "wwn",
            Self::Path => "path",
            Self::Transport => "transport",
        }
    }
}
