//! BTF, the kernel's own description of its types: an index over the raw bytes, decoded on demand.
//!
//! This module has only what expressions need: lookup of a type by name, its size, its members (including those of anonymous
//! structs and unions) and function prototypes. Format: `Documentation/bpf/btf.rst`.

mod access;
mod index;
mod member;
mod variable;

pub use access::{Access, direct_access};
pub use index::{Btf, BtfError};
pub use member::{FoundMember, Member};
pub use variable::KernelVariable;

/// Number of a type; 0 is `void`.
pub type TypeId = u32;

/// Kind of a type, with BTF's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum BtfKind {
    /// `void`, and unknown numbers.
    Void = 0,
    /// Integer, including `char` and `_Bool`.
    Int = 1,
    /// Pointer.
    Ptr = 2,
    /// Array of fixed length.
    Array = 3,
    /// `struct`
    Struct = 4,
    /// `union`
    Union = 5,
    /// Enumeration of 32-bit values.
    Enum = 6,
    /// Forward declaration of a struct or union.
    Fwd = 7,
    /// Type alias.
    Typedef = 8,
    /// `volatile`
    Volatile = 9,
    /// `const`
    Const = 10,
    /// `restrict`
    Restrict = 11,
    /// Function; its type is a `FuncProto`.
    Func = 12,
    /// Prototype.
    FuncProto = 13,
    /// Variable.
    Var = 14,
    /// Section of variables.
    Datasec = 15,
    /// Floating point.
    Float = 16,
    /// Attribute of a declaration, 5.16.
    DeclTag = 17,
    /// Attribute of a type such as `user` or `percpu`, 5.17.
    TypeTag = 18,
    /// Enumeration of 64-bit values, 6.0.
    Enum64 = 19,
}

impl BtfKind {
    fn from_number(number: u32) -> Self {
        const KINDS: [BtfKind; 20] = [
            BtfKind::Void,
            BtfKind::Int,
            BtfKind::Ptr,
            BtfKind::Array,
            BtfKind::Struct,
            BtfKind::Union,
            BtfKind::Enum,
            BtfKind::Fwd,
            BtfKind::Typedef,
            BtfKind::Volatile,
            BtfKind::Const,
            BtfKind::Restrict,
            BtfKind::Func,
            BtfKind::FuncProto,
            BtfKind::Var,
            BtfKind::Datasec,
            BtfKind::Float,
            BtfKind::DeclTag,
            BtfKind::TypeTag,
            BtfKind::Enum64,
        ];
        usize::try_from(number).ok().and_then(|number| KINDS.get(number).copied()).unwrap_or(Self::Void)
    }

    /// Whether the kind only qualifies another type.
    pub fn is_modifier(self) -> bool {
        matches!(self, Self::Typedef | Self::Volatile | Self::Const | Self::Restrict | Self::TypeTag)
    }

    /// Whether the kind is `struct` or `union`.
    pub fn is_composite(self) -> bool {
        matches!(self, Self::Struct | Self::Union)
    }
}
