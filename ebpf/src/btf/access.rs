//! Whether the verifier allows a program to load from a BTF-typed pointer directly.
//!
//! The verifier walks the struct by offset, not by name (`btf_struct_walk` in `kernel/bpf/btf.c`), so it may find another
//! member at an offset than the named one: the first member of a union, for example. Then a helper call reads the memory
//! instead.

use super::{Btf, BtfKind, TypeId};

/// The type that the verifier gives to the result of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A number.
    Scalar,
    /// A pointer to that type. A pointer to a struct or union allows direct loads in turn. A pointer to a number is tracked
    /// since 6.17 (`rdonly_untrusted_mem`), and was a number before.
    Pointer(TypeId),
}

/// The verifier's result for a load of `size` bytes at `offset` of a struct; `None` if it refuses the load.
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
    /// The search continues in that struct, at that offset.
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
        let mut is_renamed = false;
        while btf.kind(type_id) == BtfKind::Array {
            let element = btf.array(type_id).0;
            is_renamed = btf.kind(element).is_modifier();
            type_id = btf.strip(element);
            let element = btf.size(type_id).filter(|element| *element > 0)?;
            start += (offset - start) / element * element;
            length = element;
        }
        return match btf.kind(type_id) {
            // At the beginning of an element Linux 5.10 goes on with the element's type as it is declared, and a typedef is no struct.
            BtfKind::Struct | BtfKind::Union if is_renamed && offset == start => None,
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
