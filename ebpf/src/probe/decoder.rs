//! The decoders of label values: their names, and the values that they accept.
//!
//! A new decoder is one entry in the table below: its name, its input, and its row in `docs/probes.md`, which a test
//! compares. The code that reads the bytes is in the exporter, one file for each decoder.

use crate::{diagnostic::Spanned, stack::Side};
use regex_lite::{Regex, RegexBuilder};
use std::collections::BTreeMap;

/// The input of a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecoderInput {
    /// A number or a pointer.
    Number,
    /// A text.
    Text,
    /// A stack of one side.
    Stack(Side),
    /// The stack of the kernel with which a task slept.
    Sleep,
    /// This many bytes; `None` for any number of them.
    Bytes(Option<u32>),
    /// An address of the Internet: a number of 32 bits, or bytes in one of the numbers of [`ADDRESS_BYTES`].
    Address,
    /// An address of the program that runs at the event: a number or a pointer. The label keeps the process with it, in
    /// [`PROGRAM_ADDRESS_BYTES`].
    ProgramAddress,
}

/// Bytes of an address of a program: the address and the process, a word for each.
pub const PROGRAM_ADDRESS_BYTES: u32 = 16;

/// Bytes of an address of IPv4, of one of IPv6, and of a `struct sockaddr_in6`, which has room for either.
pub const ADDRESS_BYTES: [u32; 3] = [4, 16, 28];

/// A row of the table: decoders with the same input and output.
#[derive(Debug)]
pub struct DecoderRow {
    /// Their names, and the decoders.
    pub decoders: &'static [(&'static str, Decoder)],
    /// Their input.
    pub takes: DecoderInput,
    /// Their input in words, for the documentation.
    pub from: &'static str,
    /// Their output in words, for the documentation.
    pub into: &'static str,
}

/// Makes [`Decoder`] and [`DECODERS`] from one entry for each decoder: its variant, its names, its input, and the two texts
/// of its row in the documentation. A variant with a value has a name for each value: `["pod" = CgroupPart::Pod]`.
macro_rules! decoders {
    ($(
        $variant:ident $(($payload:ty))? {
            $([$($name:literal $(= $value:expr)?),+] $takes:expr, $from:literal => $into:literal;)+
        }
    )+) => {
        /// How a label's value becomes text.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the table of decoders has a text for each")]
        pub enum Decoder {
            /// A table: a text for each number, and one for all others (by default their decimal number).
            Table {
                /// Number → text.
                rows: BTreeMap<i64, String>,
                /// Enumerator → text. Its number is looked up on the kernel; an enumerator that the kernel does not have is
                /// left out.
                named: Vec<(String, String)>,
                /// The text of all other numbers.
                default: Option<String>,
            },
            /// The names of an enumeration of the kernel. The checker makes a table of it.
            Enumeration {
                /// Its name, or that of one of its enumerators; `None` for the value's own type.
                name: Option<String>,
                /// What the names begin with, and the label does not.
                strip: Option<Spanned<String>>,
                /// The text of numbers without a name.
                default: Option<String>,
            },
            /// Names of bits, joined by `|`.
            Flags {
                /// Bits → text.
                rows: BTreeMap<i64, String>,
                /// Enumerator → text, as in a table.
                named: Vec<(String, String)>,
                /// An enumeration whose names they are. The checker makes rows of it.
                of: Option<(String, Option<Spanned<String>>)>,
            },
            /// Texts by the first regular expression that matches the whole of them.
            Regexp {
                /// Expression → text, in which `$1` is a group; without a text the matched one itself.
                rows: Vec<(String, Option<String>)>,
                /// The text of all others.
                default: String,
            },
            $($variant $(($payload))?,)+
        }

        /// The decoders that are one word: all except those that are declared with more than their name.
        pub static DECODERS: &[DecoderRow] = &[$($(DecoderRow {
            decoders: &[$(($name, Decoder::$variant $(($value))?)),+],
            takes: $takes,
            from: $from,
            into: $into,
        },)+)+];
    };
}

decoders! {
    Unsigned { ["unsigned"] DecoderInput::Number, "a number" => "decimal"; }
    Signed { ["signed"] DecoderInput::Number, "a number" => "decimal, with its sign"; }
    Hex { ["hex"] DecoderInput::Number, "a number" => "`0x…`"; }
    Text { ["string", "comm"] DecoderInput::Text, "a text" => "itself; a byte that is not UTF-8 as `\\xNN`"; }
    Bytes { ["bytes"] DecoderInput::Bytes(None), "[bytes](#bytes); what they are without `as`" => "two hexadecimal digits for each, in their order"; }
    BlockDevice { ["block_device"] DecoderInput::Number, "`major << 20 \\| minor`" => "the device's name (`sda`, `md0`); `8:16` if there is none of that number, `none` for 0. A device that went keeps its name until [another has it](metrics.md#disks-that-are-exchanged); with `(disk.diskseq ?? 0) << 32` above the number the value says which disk it means. A [path of a multipath NVMe disk](metrics.md#several-paths-to-a-disk) is shown as the disk that it leads to"; }
    BlockPath { ["block_path"] DecoderInput::Number, "the same" => "the path (`nvme0c1n1`) where the device is one of a multipath NVMe disk, empty for any other"; }
    Ip { ["ip"] DecoderInput::Address, "an address of the Internet in the order of the network: a number of 32 bits (`__be32`), or 4 or 16 [bytes](#bytes), or the 28 of a `sockaddr_in6`" => "`192.0.2.7`, `2001:db8::1`; one of IPv4 within one of IPv6 (`::ffff:192.0.2.7`) as the former; a `sockaddr` of another family as `~none`"; }
    Mac { ["mac"] DecoderInput::Bytes(Some(6)), "6 [bytes](#bytes)" => "`02:42:ac:11:00:02`"; }
    Uuid { ["uuid"] DecoderInput::Bytes(Some(16)), "16 [bytes](#bytes)" => "`123e4567-e89b-12d3-a456-426614174000`"; }
    Port { ["port"] DecoderInput::Number, "a port in the order of the network (`__be16`); what is in the order of the processor needs no decoder" => "decimal"; }
    Interface { ["ifname"] DecoderInput::Number, "the index of a network interface, of the host or with `namespace << 32` above it of [another network](#network-interfaces)" => "its name (`eth0`); the index where there is none of that index, `none` for 0. An interface that went keeps its name until another has its index"; }
    User { ["user"] DecoderInput::Number, "the number of a user" => "its name in the host's `/etc/passwd`, the number where it has none there; see [users](#users)"; }
    Errno { ["errno"] DecoderInput::Number, "an error number, positive or negative" => "`ENOENT`; `ok` for 0"; }
    Names(NumberNames) {
        ["signal" = NumberNames::Signal] DecoderInput::Number, "the number of a signal" => "`SIGKILL`; `none` for 0, the number from 32 on";
        ["softirq" = NumberNames::Softirq] DecoderInput::Number, "the number of a soft interrupt" => "`NET_RX`, as `/proc/softirqs` has it";
        ["tcp_state" = NumberNames::TcpState] DecoderInput::Number, "the state of a TCP socket" => "`ESTABLISHED`";
        ["capability" = NumberNames::Capability] DecoderInput::Number, "the number of a capability" => "`CAP_SYS_ADMIN`";
    }
    Pci(PciPart) {
        ["pci_vendor" = PciPart::Vendor] DecoderInput::Number, "the number of a maker of PCI devices" => "`Intel Corporation`, by the host's [`pci.ids`](#pci-devices); `0x8086` where it has no name there";
        ["pci_device" = PciPart::Device] DecoderInput::Number, "`vendor << 16 \\| device`" => "`440FX - 82441FX PMC [Natoma]`; `8086:1237` where it has no name";
        ["pci_class" = PciPart::Class] DecoderInput::Number, "the 24 bits of a class, as `pci_dev.class` has them" => "the class: `Network controller`, `0x02` where it has no name";
        ["pci_subclass" = PciPart::Subclass] DecoderInput::Number, "the same" => "the narrower one: `Ethernet controller`, `0x0200` where it has no name";
    }
    Syscall { ["syscall"] DecoderInput::Number, "a number of a system call; `1 << 32` more if a process of 32 bits called" => "its name on this processor (x86-64, arm64): `openat`; the number where it has none, `unknown` from 1000 on, `compat_4` for 32 bits, `none` for a negative one"; }
    Ksym { ["ksym"] DecoderInput::Number, "an address" => "the function of the kernel around it; `[MODULE]` or `[unknown]` where it is in none. The address itself is not shown: it tells where the kernel is (`hex` does, if you ask for it)"; }
    Usym { ["usym"] DecoderInput::ProgramAddress, "an address of the program that runs at the event" => "the program's [function](#functions-of-programs) there; `[FILE+0x…]` where it has no name, `[unknown]` where no file is. The address itself is not shown"; }
    Stack(Side) {
        ["kstack" = Side::Kernel] DecoderInput::Stack(Side::Kernel), "a [stack](#stacks) of the kernel; what it is without `as`" => "its functions";
        ["ustack" = Side::User] DecoderInput::Stack(Side::User), "a [stack](#stacks) of a program; what it is without `as`" => "its functions";
    }
    Reason { ["reason"] DecoderInput::Sleep, "a [stack](#stacks) of the kernel with which a task slept" => "what it waited for, by a [table](#reasons); `short` for `0`, `unknown` where no function is in the table"; }
    Cgroup(CgroupPart) {
        ["cgroup" = CgroupPart::Path] DecoderInput::Number, "a [cgroup](#cgroups-pods-containers)" => "its path in its hierarchy; of one longer than 1024 bytes the beginning and `~cut`";
        ["namespace" = CgroupPart::Namespace, "pod" = CgroupPart::Pod, "container" = CgroupPart::Container] DecoderInput::Number, "the same" => "the Kubernetes namespace, the pod, the container that it is of";
    }
    RaidArray { ["raid_array"] DecoderInput::Number, "`major << 20 \\| minor` of an array" => "its name (`md0`, `dm-3`); what is no array now is left out"; }
    RaidLevel { ["raid_level"] DecoderInput::Number, "the same" => "its level (`raid5`, `striped`); what is no array now is left out"; }
    RaidSlot { ["raid_slot"] DecoderInput::Number, "`array << 32 \\| member`, both as above" => "the member's place in the array, `none` for a spare; what is no member of that array now is left out"; }
}

/// Numbers that the kernel never gives another meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberNames {
    /// Signals.
    Signal,
    /// Soft interrupts.
    Softirq,
    /// States of TCP sockets.
    TcpState,
    /// Capabilities.
    Capability,
}

/// The part of a PCI device's numbers that is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PciPart {
    /// Who made it.
    Vendor,
    /// What it is.
    Device,
    /// What kind of device it is.
    Class,
    /// What kind of that.
    Subclass,
}

/// The part of a cgroup that is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupPart {
    /// Its path.
    Path,
    /// The namespace of its pod.
    Namespace,
    /// Its pod.
    Pod,
    /// Its container.
    Container,
}

/// Most bytes of a compiled regular expression.
const MOST_EXPRESSION: usize = 1 << 17;

impl Decoder {
    /// Compiles a regular expression that matches whole texts, as those of Prometheus do. Matching takes time in proportion to
    /// the text, whatever the expression is.
    ///
    /// # Errors
    ///
    /// It is no regular expression, or a large one.
    pub fn expression(pattern: &str) -> Result<Regex, regex_lite::Error> {
        RegexBuilder::new(&format!("^(?s:{pattern})$")).size_limit(MOST_EXPRESSION).build()
    }

    /// Names of all decoders that have one, in the order of the table.
    pub fn names() -> impl Iterator<Item = &'static str> {
        DECODERS.iter().flat_map(|row| row.decoders).map(|(name, _)| *name)
    }

    /// Finds a decoder by its name.
    pub fn named(name: &str) -> Option<Self> {
        let mut all = DECODERS.iter().flat_map(|row| row.decoders);
        all.find(|(known, _)| *known == name).map(|(_, decoder)| decoder.clone())
    }

    /// Its input.
    pub(crate) fn takes(&self) -> DecoderInput {
        if let Self::Table { .. } | Self::Enumeration { .. } | Self::Flags { .. } = self {
            return DecoderInput::Number;
        }
        if let Self::Regexp { .. } = self {
            return DecoderInput::Text;
        }
        let has = |row: &&DecoderRow| row.decoders.iter().any(|(_, decoder)| decoder == self);
        DECODERS.iter().find(has).expect("each other variant has a row").takes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_name_is_one_decoder() {
        let names: Vec<&str> = Decoder::names().collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
        for name in names {
            let decoder = Decoder::named(name).unwrap();
            let row =
                DECODERS.iter().find(|row| row.decoders.iter().any(|(known, _)| *known == name)).unwrap();
            assert_eq!(decoder.takes(), row.takes, "{name}");
        }
        assert_eq!(Decoder::named("table"), None);
    }
}
