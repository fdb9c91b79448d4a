//! Decodes the raw bytes of a label in a map key into the text of a label value.
//!
//! Each decoder has a file, and a line in `decoder`. The compiler's table `tapster_ebpf::probe::DECODERS` lists the decoders
//! and the types that they take. A decoder lives as long as its probe and may cache: at the start of a scrape,
//! [`Decode::refresh`] checks again what may have changed. Different raw values may give the same text (two generations of a
//! cgroup, addresses in one function); the collector adds them up.

mod address;
mod block_device;
mod bytes;
mod cgroup;
mod errno;
mod flags;
mod hidden;
mod interface;
mod ksym;
mod names;
pub(crate) mod number;
mod pci;
mod raid;
mod reason;
mod regexp;
mod stack;
mod syscall;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod user;
mod usym;
mod uuid;

pub(crate) use stack::StackLookup;

use crate::{
    cgroup::Cgroups,
    host::{Host, HostError},
    reason as reasons,
    symbol::Symbols,
    topology::Topology,
};
use std::{error::Error, sync::Arc};
use tapster_ebpf::{
    probe::Decoder,
    typed::{Side, TypedLabel},
};

/// Turns a label's raw value into text.
pub trait Decode: Send {
    /// The text of a raw value; numbers are up to 8 bytes, little endian. Any length is accepted. `None` leaves the row out of
    /// this scrape.
    fn decode(&mut self, raw: &[u8]) -> Option<String>;

    /// Called once at the beginning of each scrape, with the arrays of this scrape.
    fn refresh(&mut self, _: &Arc<Topology>) {}

    /// Called about once a second between scrapes: checks whether values still have the same meaning.
    fn look(&mut self) {}

    /// Whether the object of a raw value is gone, so that its row must leave the map before another object is counted in it.
    /// The text of the value is unchanged.
    fn is_gone(&mut self, _raw: &[u8]) -> bool {
        false
    }

    /// Whether another object has the text of one that is gone, so that nothing of the gone one may be shown under it any more.
    fn has_heir(&self, _text: &str) -> bool {
        false
    }

    /// Called when all rows of objects that are gone have left the map: from now on a value means the object that has it now.
    fn forget_gone(&mut self) {}
}

/// What decoders are made from.
pub(crate) struct DecoderSources<'s> {
    pub(crate) host: &'s Host,
    /// Functions of stacks.
    pub(crate) symbols: &'s Arc<Symbols>,
    /// Names of cgroups.
    pub(crate) cgroups: &'s Arc<Cgroups>,
    /// Reasons of sleeps.
    pub(crate) reasons: &'s reasons::ReasonTable,
    /// Opens the probe's stacks of one side.
    pub(crate) stacks: &'s dyn Fn(Side) -> Result<StackLookup, Box<dyn Error + Send + Sync>>,
}

/// Why a label cannot be decoded on this machine.
#[derive(Debug, thiserror::Error)]
pub enum LabelError {
    /// The host does not have what the decoder needs.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The probe's stacks cannot be opened.
    #[error("{0}")]
    Stacks(Box<dyn Error + Send + Sync>),
}

/// What decoders of labels need besides their own values, so that rights for it are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a need of its own")]
pub(crate) struct LabelNeeds {
    /// Functions of programs, by the kernel's reports of mappings.
    pub(crate) programs: bool,
    /// Functions of the kernel.
    pub(crate) symbols: bool,
    /// Files in procfs that only those see who may trace the process.
    pub(crate) processes: bool,
    /// Files below the host's root.
    pub(crate) root: bool,
}

impl LabelNeeds {
    /// What a probe's labels need.
    pub(crate) fn of(labels: &[TypedLabel]) -> Self {
        let any = |needs: fn(&TypedLabel) -> bool| labels.iter().any(needs);
        let programs = any(|label| matches!(label.decoder, Decoder::Stack(Side::User) | Decoder::Usym));
        let is_of_kernel = |decoder: &Decoder| {
            matches!(decoder, Decoder::Ksym | Decoder::Reason | Decoder::Stack(Side::Kernel))
        };
        Self {
            programs,
            symbols: labels.iter().any(|label| is_of_kernel(&label.decoder)),
            processes: programs
                || any(|label| label.decoder == Decoder::Interface && interface::has_namespace(&label.ty)),
            root: any(|label| matches!(label.decoder, Decoder::User | Decoder::Pci(_))),
        }
    }
}

/// Whether a text of a value may be another at a later scrape: symbols are read late, users and interfaces get other names.
pub(crate) fn may_change(decoder: &Decoder) -> bool {
    matches!(decoder, Decoder::Stack(Side::User) | Decoder::Usym | Decoder::Interface | Decoder::User)
}

/// Makes the decoder of a label. Fails if the host lacks what it needs, or if the stacks cannot be opened.
pub(crate) fn decoder(label: &TypedLabel, from: &DecoderSources<'_>) -> Result<Box<dyn Decode>, LabelError> {
    Ok(match &label.decoder {
        Decoder::Unsigned => Box::new(number::UnsignedDecoder),
        Decoder::Signed => Box::new(number::SignedDecoder),
        Decoder::Hex => Box::new(number::HexDecoder),
        Decoder::Text => Box::new(text::TextDecoder),
        Decoder::Bytes => Box::new(bytes::BytesDecoder::of(&label.ty)),
        Decoder::Table { rows, default, .. } => {
            Box::new(table::TableDecoder::new(rows.clone(), default.clone()))
        }
        Decoder::Flags { rows, .. } => Box::new(flags::FlagsDecoder::new(rows)),
        Decoder::Regexp { rows, default } => Box::new(regexp::RegexpDecoder::new(rows, default)),
        Decoder::Enumeration { .. } => unreachable!("the checker makes a table of it"),
        Decoder::Ip => Box::new(address::IpDecoder::of(&label.ty)),
        Decoder::Mac => Box::new(address::MacDecoder),
        Decoder::Uuid => Box::new(uuid::UuidDecoder),
        Decoder::Port => Box::new(address::PortDecoder),
        Decoder::Interface => Box::new(interface::InterfaceDecoder::of(&label.ty, from.host)?),
        Decoder::User => Box::new(user::UserDecoder::new(from.host)?),
        Decoder::Pci(part) => Box::new(pci::PciDecoder::new(from.host, *part)?),
        Decoder::Names(names) => Box::new(names::NamesDecoder::of(*names)),
        Decoder::BlockDevice => Box::new(block_device::BlockDeviceDecoder::new(from.host)?),
        Decoder::BlockPath => Box::new(block_device::BlockPathDecoder::new(from.host)?),
        Decoder::Errno => Box::new(errno::ErrnoDecoder),
        Decoder::Syscall => Box::new(syscall::SyscallDecoder::new()),
        Decoder::Ksym => Box::new(ksym::KsymDecoder::new(from.host)?),
        Decoder::Usym => Box::new(usym::UsymDecoder::new(from.host, from.symbols)),
        Decoder::Stack(side) => Box::new(stack::StackDecoder::of(*side, &label.ty, from)?),
        Decoder::Reason => Box::new(reason::ReasonDecoder::of(&label.ty, from)?),
        Decoder::Cgroup(part) => Box::new(cgroup::CgroupDecoder::new(from.cgroups, *part)?),
        Decoder::RaidArray => Box::new(raid::RaidArrayDecoder::default()),
        Decoder::RaidLevel => Box::new(raid::RaidLevelDecoder::default()),
        Decoder::RaidSlot => Box::new(raid::RaidSlotDecoder::default()),
    })
}
