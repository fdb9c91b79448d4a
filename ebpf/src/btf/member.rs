//! Members of structs and unions, including those of anonymous ones.

use super::{Btf, BtfKind, TypeId};

/// One member as declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its name; empty for an anonymous struct or union.
    pub name: &'a str,
    /// Its type.
    pub type_id: TypeId,
    /// Offset in the struct that declares it, bits.
    pub bit_offset: u32,
    /// Width in bits, for a bitfield.
    pub bitfield_bits: Option<u32>,
}

/// A member found by name, with its offset in the outermost struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundMember {
    /// Its type.
    pub type_id: TypeId,
    /// Offset in the struct that was searched, bits.
    pub bit_offset: u32,
    /// Width in bits, for a bitfield.
    pub bitfield_bits: Option<u32>,
}

impl Btf {
    /// Members of a struct or union, in order of declaration.
    pub fn members(&self, id: TypeId) -> impl Iterator<Item = Member<'_>> + '_ {
        let id = self.strip(id);
        let count = if self.kind(id).is_composite() { self.vlen(id) } else { 0 };
        let packed = self.kind_flag(id);
        (0..count).map(move |index| {
            let type_id = self.word(id, 4 + index * 3);
            let raw = self.word(id, 5 + index * 3);
            let (bit_offset, mut bits) = if packed { (raw & 0x00ff_ffff, raw >> 24) } else { (raw, 0) };
            // Before 5.0 compilers described a bitfield by an integer narrower than its storage.
            let stripped = self.strip(type_id);
            if bits == 0 && self.kind(stripped) == BtfKind::Int {
                let width = self.int_bits(stripped);
                if width != self.word(stripped, 2).saturating_mul(8) {
                    bits = width;
                }
            }
            let name = self.text(self.word(id, 3 + index * 3));
            Member { name, type_id, bit_offset, bitfield_bits: (bits > 0).then_some(bits) }
        })
    }

    /// Finds the member `name`, including in anonymous members.
    pub fn member(&self, id: TypeId, name: &str) -> Option<FoundMember> {
        self.member_within(id, name, 16)
    }

    fn member_within(&self, id: TypeId, name: &str, depth: u32) -> Option<FoundMember> {
        let depth = depth.checked_sub(1)?;
        self.members(id).find_map(|member| {
            if member.name == name {
                let Member { type_id, bit_offset, bitfield_bits, .. } = member;
                return Some(FoundMember { type_id, bit_offset, bitfield_bits });
            }
            if !member.name.is_empty() {
                return None;
            }
            let inner = self.member_within(member.type_id, name, depth)?;
            Some(FoundMember { bit_offset: member.bit_offset.checked_add(inner.bit_offset)?, ..inner })
        })
    }

    /// Names of all members that [`Btf::member`] would find.
    pub fn member_names(&self, id: TypeId) -> Vec<&str> {
        let mut names = Vec::new();
        let mut waiting = vec![(id, 16)];
        while let Some((id, depth)) = waiting.pop() {
            for member in self.members(id) {
                if !member.name.is_empty() {
                    names.push(member.name);
                } else if depth > 0 {
                    waiting.push((member.type_id, depth - 1));
                }
            }
        }
        names
    }
}
