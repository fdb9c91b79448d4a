//! Frames as the kernel writes them.

use tapster_ebpf::typed::Side;

/// `enum bpf_stack_build_id_status`
const BY_BUILD_ID: u32 = 1;
const BY_ADDRESS: u32 = 2;
/// Bytes of the longest build id that the kernel reports; shorter ones are padded with zeros.
const BUILD_ID: usize = 20;

/// A place in a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Frame {
    /// An address of the kernel.
    Kernel(u64),
    /// A place in a file.
    File {
        /// The file's build id, padded with zeros.
        build_id: [u8; BUILD_ID],
        /// Bytes from its start.
        offset: u64,
    },
    /// An address of a process, in a file without a build id, or one that the kernel could not read at that moment.
    Address(u64),
}

/// The frames of a stack, innermost first.
pub fn frames(side: Side, bytes: &[u8]) -> Vec<Frame> {
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
    match side {
        Side::Kernel => bytes.chunks_exact(8).map(|address| Frame::Kernel(word(address))).collect(),
        Side::User => bytes
            .chunks_exact(32)
            .filter_map(|frame| {
                let (status, rest) = frame.split_at(4);
                let (build_id, place) = rest.split_at(BUILD_ID);
                match status.try_into().map_or(0, u32::from_le_bytes) {
                    BY_BUILD_ID => {
                        Some(Frame::File { build_id: build_id.try_into().ok()?, offset: word(place) })
                    }
                    BY_ADDRESS => Some(Frame::Address(word(place))),
                    _ => None,
                }
            })
            .collect(),
    }
}
