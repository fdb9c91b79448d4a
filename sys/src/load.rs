//! Makes maps and loads programs without an object file.

use super::bpf::{self, Attributes, BpfCommand};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};
use tapster_ebpf::{
    insn::{EncodedInsn, Insn},
    point::PacketHook,
    program::{MapDef, MapKind},
};

/// Bytes for the verifier's log, first and second attempt. The refusal is at its end; the second size, the most that kernels
/// before 5.10 accept, is enough for that. Since 6.4 the kernel keeps the end of a longer log.
const LOG_BYTES: [usize; 2] = [1 << 20, (1 << 24) - 1];
/// `BPF_F_XDP_HAS_FRAGS`: the program reads packets only by helpers, which also find what is behind the first page. Without it
/// drivers refuse the program where packets may be longer, 5.18.
const XDP_HAS_FRAGMENTS: u32 = 1 << 5;
/// Helpers that read memory require a GPL-compatible licence.
const LICENSE: &std::ffi::CStr = c"Dual MIT/GPL";

#[derive(Debug, Default)]
#[repr(C)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    /// From `inner_map_fd` to `map_ifindex`.
    unused: [u32; 7],
    types: u32,
    key_type: u32,
    value_type: u32,
}
const _: () = assert!(std::mem::offset_of!(MapCreate, types) == 48);
// SAFETY: numbers of one size only.
unsafe impl Attributes for MapCreate {}

#[derive(Debug, Default)]
#[repr(C)]
struct BtfLoad {
    types: u64,
    log: u64,
    size: u32,
    log_size: u32,
    log_level: u32,
    /// The kernel reads whole structures of 8 bytes.
    padding: u32,
}
// SAFETY: numbers only, without holes between them.
unsafe impl Attributes for BtfLoad {}

#[derive(Debug, Default)]
#[repr(C)]
struct ProgramLoad {
    kind: u32,
    count: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    expected_attach_type: u32,
    /// From `prog_btf_fd` to `line_info_cnt`: source information about the instructions.
    source: [u32; 9],
    attach_btf_id: u32,
}
const _: () = assert!(std::mem::offset_of!(ProgramLoad, expected_attach_type) == 68);
const _: () = assert!(std::mem::offset_of!(ProgramLoad, attach_btf_id) == 108);
// SAFETY: numbers only, without holes between them.
unsafe impl Attributes for ProgramLoad {}

/// The kind of target of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramKind {
    /// One kprobe or uprobe at a time.
    Probe,
    /// Many kprobes with one link, 5.18.
    KprobeMulti,
    /// Many kprobes with one link, at both ends of each function, 6.10.
    KprobeSession,
    /// Many uprobes with one link, 6.6.
    UprobeMulti,
    /// A raw tracepoint, 4.17.
    RawTracepoint,
    /// A tracepoint through a perf event, 4.7.
    Tracepoint,
    /// Perf events of CPUs, 4.9.
    PerfEvent,
    /// Packets at this hook.
    Packets(PacketHook),
    /// A type of the kernel's BTF that stands for the target, 5.5.
    Tracing {
        /// `BPF_PROG_TYPE_…`
        program: u32,
        /// `expected_attach_type`
        attach: u32,
        /// The type's number.
        id: u32,
    },
}

impl ProgramKind {
    /// `BPF_PROG_TYPE_…` and `expected_attach_type`.
    fn numbers(self) -> (u32, u32) {
        match self {
            Self::Probe => (2, 0),
            Self::KprobeMulti => (2, super::attach::KPROBE_MULTI),
            Self::KprobeSession => (2, super::attach::KPROBE_SESSION),
            Self::UprobeMulti => (2, super::attach::UPROBE_MULTI),
            Self::RawTracepoint => (17, 0),
            Self::Tracepoint => (5, 0),
            Self::PerfEvent => (7, 0),
            Self::Packets(hook) => (hook.program_type(), hook.attach_type()),
            Self::Tracing { program, attach, .. } => (program, attach),
        }
    }

    /// `prog_flags`
    fn flags(self) -> u32 {
        match self {
            Self::Packets(PacketHook::Xdp) => XDP_HAS_FRAGMENTS,
            _ => 0,
        }
    }

    /// `attach_btf_id`
    fn btf_id(self) -> u32 {
        match self {
            Self::Tracing { id, .. } => id,
            _ => 0,
        }
    }
}

/// Why a program was not loaded.
#[derive(Debug, thiserror::Error)]
#[error("{error}{}{log}", if log.is_empty() { "" } else { "\n" })]
pub struct LoadRefused {
    /// The error of the system call.
    pub error: io::Error,
    /// The verifier's log.
    pub log: String,
}

impl From<io::Error> for LoadRefused {
    fn from(error: io::Error) -> Self {
        Self { error, log: String::new() }
    }
}

/// Makes a map. Values with tasks are described by types, which the kernel requires for them.
pub fn create_map(map: &MapDef) -> io::Result<OwnedFd> {
    let types = match map.kind {
        MapKind::TaskStorage => Some(load_types(&words_types(map.value_size))?),
        _ => None,
    };
    let mut attributes = MapCreate {
        kind: map.kind.number(),
        key_size: map.key_size,
        value_size: map.value_size,
        max_entries: map.max_entries,
        flags: map.kind.flags(),
        ..MapCreate::default()
    };
    if let Some(types) = &types {
        attributes.types = bpf::number(types.as_fd());
        (attributes.key_type, attributes.value_type) = (KEY_TYPE, VALUE_TYPE);
    }
    // SAFETY: no addresses, and the command makes a descriptor. The map keeps the types itself.
    Ok(unsafe { bpf::bpf_fd(BpfCommand::MapCreate, &mut attributes) }?)
}

/// Numbers of the types of [`words_types`].
const KEY_TYPE: u32 = 1;
const WORD_TYPE: u32 = 2;
const WORDS_TYPE: u32 = 3;
const VALUE_TYPE: u32 = 4;

/// BTF of a key, `int`, and of a value of this many bytes: a struct with an array of words. See
/// `Documentation/bpf/btf.rst`.
fn words_types(bytes: u32) -> Vec<u8> {
    const INT: u32 = 1 << 24;
    const ARRAY: u32 = 3 << 24;
    const STRUCT: u32 = 4 << 24;
    const SIGNED: u32 = 1 << 24;
    let names = b"\0int\0word\0words\0value\0";
    let [int, word, words, value] = [1, 5, 10, 16];
    let types: [&[u32]; 4] = [
        &[int, INT, 4, SIGNED | 32],
        &[word, INT, 8, 64],
        // Element, index, number of elements.
        &[0, ARRAY, 0, WORD_TYPE, KEY_TYPE, bytes / 8],
        // One member: its name, type and offset.
        &[value, STRUCT | 1, bytes, words, WORDS_TYPE, 0],
    ];
    let types: Vec<u8> = types.concat().iter().flat_map(|number| number.to_ne_bytes()).collect();
    let size = |bytes: &[u8]| u32::try_from(bytes.len()).expect("there are four types");
    // Magic, version and flags; length of the header; then where types and names are behind it.
    let header = [u32::from(0xeb9f_u16) | 1 << 16, 24, 0, size(&types), size(&types), size(names)];
    let header: Vec<u8> = header.iter().flat_map(|number| number.to_ne_bytes()).collect();
    [header.as_slice(), &types, names].concat()
}

fn load_types(types: &[u8]) -> io::Result<OwnedFd> {
    let mut attributes = BtfLoad {
        types: types.as_ptr() as u64,
        size: u32::try_from(types.len()).map_err(io::Error::other)?,
        ..BtfLoad::default()
    };
    // SAFETY: the kernel reads `size` bytes, which live until after the call, and makes a descriptor.
    Ok(unsafe { bpf::bpf_fd(BpfCommand::BtfLoad, &mut attributes) }?)
}

/// Loads a program; its instructions refer to these maps by index.
pub fn load_program(
    name: &str,
    kind: ProgramKind,
    insns: &[Insn],
    maps: &[BorrowedFd<'_>],
) -> Result<OwnedFd, LoadRefused> {
    load_with_logs(name, kind, insns, maps, &LOG_BYTES)
}

/// Like [`load_program`] with these sizes of logs, one after the other until one has room.
pub(super) fn load_with_logs(
    name: &str,
    kind: ProgramKind,
    insns: &[Insn],
    maps: &[BorrowedFd<'_>],
    log_bytes: &[usize],
) -> Result<OwnedFd, LoadRefused> {
    let mut slots: Vec<EncodedInsn> = Vec::new();
    for insn in insns {
        let at = slots.len();
        insn.encode(&mut slots);
        if let Insn::Map(_, index) = insn {
            let fd = usize::try_from(*index).ok().and_then(|index| maps.get(index)).ok_or_else(|| {
                io::Error::other(format!("the program refers to map {index}: this is a bug in tapster"))
            })?;
            // The constant of the first half becomes the descriptor.
            slots[at][4..].copy_from_slice(&bpf::number(*fd).to_le_bytes());
        }
    }
    let (number, expected_attach_type) = kind.numbers();
    let mut attributes = ProgramLoad {
        kind: number,
        count: u32::try_from(slots.len()).map_err(io::Error::other)?,
        insns: slots.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        expected_attach_type,
        attach_btf_id: kind.btf_id(),
        flags: kind.flags(),
        ..ProgramLoad::default()
    };
    // Fifteen bytes and a NUL; the kernel refuses other characters.
    let letters = name.bytes().filter(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').take(15);
    for (place, byte) in attributes.name.iter_mut().zip(letters) {
        *place = byte;
    }
    // SAFETY: the kernel reads `count` instructions and a string; both live until after the call, which makes a descriptor.
    let first = unsafe { bpf::bpf_fd(BpfCommand::ProgramLoad, &mut attributes) };
    let Err(refused) = first else { return Ok(first.map_err(io::Error::from)?) };
    let mut said = LoadRefused::from(io::Error::from(refused));
    for bytes in log_bytes {
        let mut log = vec![0_u8; *bytes];
        attributes.log_level = 1;
        attributes.log_size = u32::try_from(log.len()).map_err(io::Error::other)?;
        attributes.log = log.as_mut_ptr() as u64;
        // SAFETY: as above, and the log has room for as much as is said.
        let again = match unsafe { bpf::bpf_fd(BpfCommand::ProgramLoad, &mut attributes) } {
            Ok(fd) => return Ok(fd),
            Err(again) => again,
        };
        let length = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
        said = LoadRefused { log: String::from_utf8_lossy(&log[..length]).trim_end().to_owned(), ..said };
        // Only with this error was the log too long.
        if again.errno != libc::ENOSPC {
            break;
        }
    }
    Err(said)
}
