//! Whether the verifier lets a program load from a BTF-typed pointer directly.
//!
//! It walks the struct by offset, not by name (`btf_struct_walk` in `kernel/bpf/btf.c`), so what it
//! finds at an offset can differ from the member that was named: the first member of a union, say.
//! Where the two differ a helper call reads the memory instead.

use super::{Btf, BtfKind, TypeId};

/// What the verifier takes a load for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A number.
    Scalar,
    /// A pointer to that type. If it is a struct or union it may be loaded from directly in turn; one to a
    /// number is tracked as well since 6.17 (`rdonly_untrusted_mem`), and before that was a number.
    Pointer(TypeId),
}

/// What the verifier makes of loading `size` bytes at `offset` of a struct; `None` if it refuses.
pub fn direct_access(btf: &Btf, structure: TypeId, offset: u32, size: u32) -> Option<Access> {
    let mut id = btf.strip(structure);
    let mut offset = offset;
    // Each round steps into a nested struct; real ones nest a few levels.
    for _ in 0..32 {
        let next = step(btf, id, offset, size)?;
        match next {
            AccessStep::Done(access) => return Some(access),
            AccessStep::Into(inner, distance) => {
                id = inner;
                offset -= distance;
            }
        }
    }
    None
}

enum AccessStep {
    Done(Access),
    /// Go on in that struct, that many bytes further.
    Into(TypeId, u32),
}

fn step(btf: &Btf, id: TypeId, offset: u32, size: u32) -> Option<AccessStep> {
    if !btf.kind(id).is_composite() || offset.checked_add(size)? > btf.size(id)? {
        return None;
    }
    let end = offset + size;
    for member in btf.members(id) {
        let start = member.bit_offset / 8;
        if end <= start {
            return None;
        }
        if let Some(bits) = member.bitfield_bits {
            if offset <= start && (member.bit_offset + bits).div_ceil(8) <= end {
                return Some(AccessStep::Done(Access::Scalar));
            }
            continue;
        }
        if offset < start {
            return None;
        }
        let mut type_id = btf.strip(member.type_id);
        let Some(length) = btf.size(type_id) else { continue };
        if offset >= start.checked_add(length)? {
            continue;
        }
        let mut start = start;
        let mut length = length;
        while btf.kind(type_id) == BtfKind::Array {
            type_id = btf.strip(btf.array(type_id).0);
            let element = btf.size(type_id).filter(|element| *element > 0)?;
            start += (offset - start) / element * element;
            length = element;
        }
        return match btf.kind(type_id) {
            BtfKind::Struct | BtfKind::Union => Some(AccessStep::Into(type_id, start)),
            BtfKind::Ptr => {
                let target = btf.target(type_id);
                if offset != start
                    || size != 8
                    || btf.has_tag(target, "user")
                    || btf.has_tag(target, "percpu")
                {
                    return None;
                }
                Some(AccessStep::Done(Access::Pointer(btf.strip(target))))
            }
            _ if end > start + length => None,
            _ => Some(AccessStep::Done(Access::Scalar)),
        };
    }
    None
}
