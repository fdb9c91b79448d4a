//! The 64-bit address space of a run.
//!
//! Regions of the machine are at non-canonical addresses, to which no pointer of a real machine can point. The top 16 bits
//! identify the region, and each region starts in the middle of its window, so that a pointer that leaves it at either end
//! still identifies the region in the error. Every other address is kernel memory.

use super::{Environment, Fault, MapContents, environment};

/// Size of the stack, bytes.
pub(super) const STACK_SIZE: u64 = 512;

const STACK: u64 = 0x0100;
const CONTEXT: u64 = 0x0101;
const MAPS: u64 = 0x0102;
const SESSION: u64 = 0x0103;
/// Region of the values of map 0; map 1 has the next region.
const VALUES: u64 = 0x0200;
const VALUES_END: u64 = 0x0f00;

const MIDDLE: u64 = 1 << 40;

/// Distance between values, larger than any 16-bit offset.
const GUARD: u64 = 1 << 16;

/// The initial contents of the stack: nonzero, so that code that relies on a cleared stack fails.
const POISON: u8 = 0xa5;

const fn base(region: u64) -> u64 {
    (region << 48) + MIDDLE
}

/// The frame pointer.
pub(super) const FRAME_POINTER: u64 = base(STACK) + STACK_SIZE;

/// Address of the context.
pub(super) const CONTEXT_START: u64 = base(CONTEXT);

/// Address of the eight bytes that the entry of a call leaves for its return.
pub(super) const SESSION_COOKIE: u64 = base(SESSION);

/// The pointer that stands for a map in a program.
pub(super) fn map_address(map: u32) -> u64 {
    base(MAPS) + u64::from(map)
}

/// The map that a pointer of a program stands for.
pub(super) fn map_index(address: u64) -> Option<usize> {
    usize::try_from(address.checked_sub(base(MAPS))?).ok()
}

fn index(value: u64) -> usize {
    usize::try_from(value).expect("bounded by the size of a region")
}

/// The target of an access.
pub(super) enum Destination {
    Stack(usize),
    Context(usize),
    Value { map: usize, cell: usize, offset: usize },
    Session(usize),
    Elsewhere,
}

/// The memory of one run; maps outlive it.
#[derive(Debug)]
pub(super) struct AddressSpace<'a> {
    stack: Vec<u8>,
    written: Vec<bool>,
    context: &'a [u8],
    pub(super) maps: &'a mut [MapContents],
    pub(super) session: [u8; 8],
}

impl<'a> AddressSpace<'a> {
    pub(super) fn new(context: &'a [u8], maps: &'a mut [MapContents], session: [u8; 8]) -> Self {
        let size = index(STACK_SIZE);
        Self { stack: vec![POISON; size], written: vec![false; size], context, maps, session }
    }

    /// Address of a cell of a map's values.
    pub(super) fn value_address(&self, map: usize, cell: usize) -> u64 {
        let widen = |n: usize| u64::try_from(n).expect("a usize has at most 64 bits");
        base(VALUES + widen(map)) + widen(cell) * stride(&self.maps[map])
    }

    fn place(&self, address: u64, size: u64) -> Result<Destination, Fault> {
        let region = address >> 48;
        let start = base(region);
        let out = |region| Fault::OutOfBounds { region, address, size };
        let within = |offset: u64, len: usize| {
            let end = offset.checked_add(size)?;
            (usize::try_from(end).ok()? <= len).then(|| index(offset))
        };
        let offset = address.wrapping_sub(start);
        match region {
            STACK => within(offset, self.stack.len()).map(Destination::Stack).ok_or_else(|| out("stack")),
            CONTEXT => {
                within(offset, self.context.len()).map(Destination::Context).ok_or_else(|| out("context"))
            }
            MAPS => Err(out("map, which is opaque")),
            SESSION => within(offset, self.session.len())
                .map(Destination::Session)
                .ok_or_else(|| out("session cookie")),
            VALUES..VALUES_END => {
                let map = index(region - VALUES);
                let found = self.maps.get(map).filter(|_| address >= start).and_then(|found| {
                    let cell = index(offset / stride(found));
                    let len = found.cell(cell)?.len();
                    Some(Destination::Value { map, cell, offset: within(offset % stride(found), len)? })
                });
                found.ok_or_else(|| out("map value"))
            }
            _ => Ok(Destination::Elsewhere),
        }
    }

    /// Fails unless all stack bytes of a range were written.
    fn initialised(&self, offset: usize, len: usize) -> Result<(), Fault> {
        let Some(unwritten) = self.written[offset..offset + len].iter().position(|written| !written) else {
            return Ok(());
        };
        let from_start = u64::try_from(offset + unwritten).expect("below the stack's size");
        let address = FRAME_POINTER - STACK_SIZE + from_start;
        Err(Fault::UninitialisedStack {
            address,
            offset: address.cast_signed() - FRAME_POINTER.cast_signed(),
        })
    }

    /// Bytes of a region; `None` for kernel memory.
    pub(super) fn own(&self, address: u64, size: u64) -> Result<Option<&[u8]>, Fault> {
        let place = self.place(address, size)?;
        let len = index_of_size(size);
        Ok(Some(match place {
            Destination::Stack(offset) => {
                self.initialised(offset, len)?;
                &self.stack[offset..offset + len]
            }
            Destination::Context(offset) => &self.context[offset..offset + len],
            Destination::Session(offset) => &self.session[offset..offset + len],
            Destination::Value { map, cell, offset } => {
                let cell = self.maps[map].cell(cell).expect("`place` found the cell");
                &cell[offset..offset + len]
            }
            Destination::Elsewhere => return Ok(None),
        }))
    }

    /// Bytes that a helper reads through a pointer argument: on the stack or in a map value.
    pub(super) fn argument(&self, address: u64, size: u64) -> Result<&[u8], Fault> {
        match self.place(address, size)? {
            Destination::Context(_) | Destination::Elsewhere => Err(Fault::NotOwn { address }),
            Destination::Stack(_) | Destination::Value { .. } | Destination::Session(_) => {
                self.own(address, size)?.ok_or(Fault::NotOwn { address })
            }
        }
    }

    /// Writes to a region; the context is read only, as for every tracing program.
    pub(super) fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Fault> {
        let size = u64::try_from(bytes.len()).expect("a usize has at most 64 bits");
        match self.place(address, size)? {
            Destination::Stack(offset) => {
                self.stack[offset..offset + bytes.len()].copy_from_slice(bytes);
                self.written[offset..offset + bytes.len()].fill(true);
            }
            Destination::Value { map, cell, offset } => {
                let cell = self.maps[map].cell_mut(cell).expect("`place` found the cell");
                cell[offset..offset + bytes.len()].copy_from_slice(bytes);
            }
            Destination::Session(offset) => self.session[offset..offset + bytes.len()].copy_from_slice(bytes),
            Destination::Context(_) | Destination::Elsewhere => return Err(Fault::NotOwn { address }),
        }
        Ok(())
    }

    /// Marks stack bytes as written, as the verifier does for a whole buffer that a helper fills.
    pub(super) fn fill(&mut self, address: u64, size: u64) -> Result<(), Fault> {
        match self.place(address, size)? {
            Destination::Stack(offset) => self.written[offset..offset + index_of_size(size)].fill(true),
            Destination::Value { .. } | Destination::Session(_) => {}
            Destination::Context(_) | Destination::Elsewhere => return Err(Fault::NotOwn { address }),
        }
        Ok(())
    }

    /// Checks an access of an instruction by the verifier's rules of alignment.
    pub(super) fn aligned(&self, address: u64, size: u64) -> Result<(), Fault> {
        match self.place(address, size)? {
            Destination::Stack(_) | Destination::Context(_) if !address.is_multiple_of(size) => {
                Err(Fault::Misaligned { address, size })
            }
            Destination::Stack(_)
            | Destination::Context(_)
            | Destination::Value { .. }
            | Destination::Session(_)
            | Destination::Elsewhere => Ok(()),
        }
    }

    /// Bytes at any address that the kernel can read, including regions; `None` if the access faults.
    pub(super) fn kernel(
        &self,
        env: &Environment,
        address: u64,
        size: u64,
    ) -> Result<Option<Vec<u8>>, Fault> {
        Ok(match self.own(address, size)? {
            Some(bytes) => Some(bytes.to_vec()),
            None => environment::bytes(&env.kernel, address, size),
        })
    }
}

fn stride(map: &MapContents) -> u64 {
    u64::try_from(map.value_size().next_multiple_of(8)).expect("a usize has at most 64 bits") + GUARD
}

/// The length of an access that `place` accepted; longer ones have already failed there.
fn index_of_size(size: u64) -> usize {
    usize::try_from(size).expect("the access was accepted")
}
