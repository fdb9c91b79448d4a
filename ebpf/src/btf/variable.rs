//! Variables of the kernel. BTF has those that exist once for each CPU (5.2), others only where the kernel was built so.

use super::{Btf, BtfKind, TypeId};

/// A variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelVariable {
    /// Its type.
    pub type_id: TypeId,
    /// Whether each CPU has one.
    pub is_per_cpu: bool,
}

impl Btf {
    /// Finds a variable by name.
    pub fn variable(&self, name: &str) -> Option<KernelVariable> {
        let id = self.find(name, BtfKind::Var)?;
        let is_per_cpu = self.ids().filter(|section| self.is_per_cpu(*section)).any(|section| {
            // A section has three words for each variable: its number, where it is, and its size.
            (0..self.vlen(section)).any(|index| self.word(section, 3 + index * 3) == id)
        });
        Some(KernelVariable { type_id: self.target(id), is_per_cpu })
    }

    /// Whether a type is the section of the variables that each CPU has: `.data..percpu`.
    fn is_per_cpu(&self, id: TypeId) -> bool {
        self.kind(id) == BtfKind::Datasec && self.name(id).ends_with("percpu")
    }
}
