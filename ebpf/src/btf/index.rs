//! The index over BTF: the place of each type's bytes, and lookups by name.

use super::{BtfKind, TypeId};
use std::{
    cell::{OnceCell, RefCell},
    collections::HashMap,
    fmt,
};

/// The reason why bytes are not BTF.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    /// There is no BTF header, or its byte order or version is unknown.
    #[error("not BTF of version 1 in this machine's byte order")]
    Header,
    /// A section or a type reaches beyond the end.
    #[error("truncated BTF: {0} reaches past the end")]
    Truncated(&'static str),
    /// A kind of type is unknown, and so is its size.
    #[error("BTF type {id} has the unknown kind {kind}")]
    UnknownKind {
        /// The type.
        id: TypeId,
        /// The number of its kind.
        kind: u32,
    },
}

/// Number of lookups by name after which functions get a table: a pattern may match thousands.
const MANY: usize = 64;

/// BTF bytes, and the start of each type in them.
pub struct Btf {
    data: Box<dyn AsRef<[u8]> + Send>,
    /// Byte offset of each type; `[0]` is unused.
    offsets: Vec<u32>,
    strings: std::ops::Range<usize>,
    /// Names that were looked up before; a scan of all types takes about a third of a millisecond.
    found: RefCell<HashMap<(String, BtfKind), Option<TypeId>>>,
    /// Functions by name, after many were looked up.
    functions: OnceCell<HashMap<Box<str>, TypeId>>,
    /// All enumerations, after the first lookup.
    enums: OnceCell<Vec<TypeId>>,
}

impl fmt::Debug for Btf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Btf").field("types", &(self.offsets.len() - 1)).finish_non_exhaustive()
    }
}

fn read_u32(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

fn size_of(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl Btf {
    /// Indexes little-endian BTF as in `/sys/kernel/btf/vmlinux` (5.2), without a copy.
    pub fn parse(data: impl AsRef<[u8]> + Send + 'static) -> Result<Self, BtfError> {
        let bytes = data.as_ref();
        let field = |at| read_u32(bytes, at).ok_or(BtfError::Header).map(size_of);
        if bytes.get(..3) != Some(&[0x9f, 0xeb, 1]) {
            return Err(BtfError::Header);
        }
        let header = field(4)?;
        let section = |start: usize, length: usize, name| {
            let start = header.checked_add(start).ok_or(BtfError::Truncated(name))?;
            let end = start
                .checked_add(length)
                .filter(|end| *end <= bytes.len())
                .ok_or(BtfError::Truncated(name))?;
            Ok(start..end)
        };
        let types = section(field(8)?, field(12)?, "the type section")?;
        let strings = section(field(16)?, field(20)?, "the string section")?;
        let mut offsets = Vec::with_capacity(types.len() / 20 + 1);
        offsets.push(0);
        let mut at = types.start;
        while at < types.end {
            let info = read_u32(bytes, at + 4).ok_or(BtfError::Truncated("a type"))?;
            let vlen = size_of(info & 0xffff);
            let id = TypeId::try_from(offsets.len()).map_err(|_| BtfError::Truncated("the type table"))?;
            let kind = info >> 24 & 0x1f;
            let extra = match BtfKind::from_number(kind) {
                BtfKind::Int | BtfKind::Var | BtfKind::DeclTag => 4,
                BtfKind::Array => 12,
                BtfKind::Struct | BtfKind::Union | BtfKind::Datasec | BtfKind::Enum64 => 12 * vlen,
                BtfKind::Enum | BtfKind::FuncProto => 8 * vlen,
                BtfKind::Void => return Err(BtfError::UnknownKind { id, kind }),
                _ => 0,
            };
            offsets.push(u32::try_from(at).map_err(|_| BtfError::Truncated("the type section"))?);
            at += 12 + extra;
        }
        if at != types.end {
            return Err(BtfError::Truncated("the last type"));
        }
        Ok(Self {
            data: Box::new(data),
            offsets,
            strings,
            found: RefCell::default(),
            functions: OnceCell::new(),
            enums: OnceCell::new(),
        })
    }

    fn bytes(&self) -> &[u8] {
        (*self.data).as_ref()
    }

    /// The word at `index` (in units of 4 bytes) of a type's record; 0 if it does not exist.
    pub(super) fn word(&self, id: TypeId, index: usize) -> u32 {
        let offset = self.offsets.get(size_of(id)).copied().unwrap_or(0);
        if offset == 0 {
            return 0;
        }
        read_u32(self.bytes(), size_of(offset) + index * 4).unwrap_or(0)
    }

    /// Number of types, without `void`.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there are no types.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The text at an offset of the string section; empty if it is not UTF-8.
    pub(super) fn text(&self, offset: u32) -> &str {
        let strings = &self.bytes()[self.strings.clone()];
        let rest = strings.get(size_of(offset)..).unwrap_or(&[]);
        let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
        std::str::from_utf8(&rest[..end]).unwrap_or("")
    }

    /// The kind of a type.
    pub fn kind(&self, id: TypeId) -> BtfKind {
        BtfKind::from_number(self.word(id, 1) >> 24 & 0x1f)
    }

    /// The name of a type; empty for an anonymous one.
    pub fn name(&self, id: TypeId) -> &str {
        self.text(self.word(id, 0))
    }

    pub(super) fn vlen(&self, id: TypeId) -> usize {
        size_of(self.word(id, 1) & 0xffff)
    }

    /// The flag whose meaning depends on the kind: bitfield members, signed enumerations, forward declarations of a `union`.
    pub(super) fn kind_flag(&self, id: TypeId) -> bool {
        self.word(id, 1) >> 31 == 1
    }

    /// The type that a pointer, modifier, function or variable refers to.
    pub fn target(&self, id: TypeId) -> TypeId {
        self.word(id, 2)
    }

    /// The type without typedefs and qualifiers.
    pub fn strip(&self, mut id: TypeId) -> TypeId {
        // Bounded, because a damaged file may hold a cycle.
        for _ in 0..64 {
            if !self.kind(id).is_modifier() {
                return id;
            }
            id = self.target(id);
        }
        0
    }

    /// Whether the type carries the tag `name` (`user`, `percpu`), 5.17.
    pub fn has_tag(&self, mut id: TypeId, name: &str) -> bool {
        for _ in 0..64 {
            match self.kind(id) {
                BtfKind::TypeTag if self.name(id) == name => return true,
                kind if kind.is_modifier() => id = self.target(id),
                _ => return false,
            }
        }
        false
    }

    /// Element type and length of an array type.
    pub fn array(&self, id: TypeId) -> (TypeId, u32) {
        (self.word(id, 3), self.word(id, 5))
    }

    /// Size in bytes; `None` for functions, `void` and types that are not defined.
    pub fn size(&self, id: TypeId) -> Option<u32> {
        self.size_within(id, 32)
    }

    fn size_within(&self, id: TypeId, depth: u32) -> Option<u32> {
        let id = self.strip(id);
        match self.kind(id) {
            BtfKind::Int
            | BtfKind::Struct
            | BtfKind::Union
            | BtfKind::Enum
            | BtfKind::Enum64
            | BtfKind::Float => Some(self.word(id, 2)),
            BtfKind::Ptr => Some(8),
            BtfKind::Array => {
                let (element, count) = self.array(id);
                self.size_within(element, depth.checked_sub(1)?)?.checked_mul(count)
            }
            _ => None,
        }
    }

    /// Whether an integer or enumeration type is signed. BTF marks C's plain `char`, which is signed on x86-64.
    pub fn is_signed(&self, id: TypeId) -> bool {
        match self.kind(id) {
            BtfKind::Int => self.word(id, 3) >> 24 & 1 == 1,
            BtfKind::Enum | BtfKind::Enum64 => self.kind_flag(id),
            _ => false,
        }
    }

    /// Bits of an integer type; fewer than its size for old-style bitfields.
    pub fn int_bits(&self, id: TypeId) -> u32 {
        self.word(id, 3) & 0xff
    }

    /// The first type with that name and kind.
    pub fn find(&self, name: &str, kind: BtfKind) -> Option<TypeId> {
        let key = (name.to_owned(), kind);
        if let Some(found) = self.found.borrow().get(&key) {
            return *found;
        }
        let is_one_of_many = kind == BtfKind::Func && self.found.borrow().len() >= MANY;
        let found = if is_one_of_many { self.functions().get(name).copied() } else { self.scan(name, kind) };
        self.found.borrow_mut().insert(key, found);
        found
    }

    fn functions(&self) -> &HashMap<Box<str>, TypeId> {
        self.functions.get_or_init(|| {
            // Backwards, so that the first of a name stays.
            let ids = (1..self.offsets.len()).rev().filter_map(|id| TypeId::try_from(id).ok());
            let functions = ids.filter(|id| self.kind(*id) == BtfKind::Func);
            functions.map(|id| (self.name(id).into(), id)).collect()
        })
    }

    /// Finds a type by name. A name is stored once, so this finds its offset in the strings and then compares numbers.
    fn scan(&self, name: &str, kind: BtfKind) -> Option<TypeId> {
        let places = self.places(name);
        if places.is_empty() {
            return None;
        }
        self.ids().find(|id| places.contains(&self.word(*id, 0)) && self.kind(*id) == kind)
    }

    /// The type of a pointer that leads to this type through `depth` pointers, if the kernel has one.
    pub fn pointer(&self, to: TypeId, depth: u32) -> Option<TypeId> {
        let to = self.strip(to);
        self.ids().find(|id| {
            let mut at = *id;
            for _ in 0..depth {
                if self.kind(at) != BtfKind::Ptr {
                    return false;
                }
                at = self.strip(self.target(at));
            }
            at == to
        })
    }

    /// All types.
    pub fn ids(&self) -> impl Iterator<Item = TypeId> + '_ {
        1..TypeId::try_from(self.offsets.len()).unwrap_or(TypeId::MAX)
    }

    /// Names of all types of a kind, for suggestions and lists.
    pub fn names(&self, kind: BtfKind) -> impl Iterator<Item = &str> + '_ {
        self.ids()
            .filter(move |id| self.kind(*id) == kind)
            .map(|id| self.name(id))
            .filter(|name| !name.is_empty())
    }

    /// Names of the types of a kind in a module's BTF, which goes on where that of the kernel, `base`, ends: numbers of types and
    /// places of names begin there.
    pub fn names_behind<'a>(&'a self, base: &'a Self, kind: BtfKind) -> impl Iterator<Item = &'a str> + 'a {
        let length = u32::try_from(base.strings.len()).unwrap_or(u32::MAX);
        self.ids()
            .filter(move |id| self.kind(*id) == kind)
            .map(move |id| {
                let place = self.word(id, 0);
                place.checked_sub(length).map_or_else(|| base.text(place), |own| self.text(own))
            })
            .filter(|name| !name.is_empty())
    }

    /// Parameters of a function prototype: name and type.
    pub fn parameters(&self, prototype: TypeId) -> Vec<(&str, TypeId)> {
        let count = if self.kind(prototype) == BtfKind::FuncProto { self.vlen(prototype) } else { 0 };
        (0..count)
            .map(|index| {
                (self.text(self.word(prototype, 3 + index * 2)), self.word(prototype, 4 + index * 2))
            })
            .collect()
    }

    /// Whether a type, without its typedefs, is an enumeration.
    pub fn is_enumeration(&self, id: TypeId) -> bool {
        matches!(self.kind(id), BtfKind::Enum | BtfKind::Enum64)
    }

    /// An enumeration by its name, or by that of a typedef of it.
    pub fn enumeration(&self, name: &str) -> Option<TypeId> {
        [BtfKind::Enum, BtfKind::Enum64, BtfKind::Typedef].into_iter().find_map(|kind| {
            self.find(name, kind).map(|id| self.strip(id)).filter(|id| self.is_enumeration(*id))
        })
    }

    /// Names and values of an enumeration.
    pub fn enumerators(&self, id: TypeId) -> Vec<(&str, i64)> {
        let id = self.strip(id);
        let signed = self.kind_flag(id);
        match self.kind(id) {
            BtfKind::Enum => (0..self.vlen(id))
                .map(|index| {
                    let raw = self.word(id, 4 + index * 2);
                    let value = if signed { i64::from(raw.cast_signed()) } else { i64::from(raw) };
                    (self.text(self.word(id, 3 + index * 2)), value)
                })
                .collect(),
            BtfKind::Enum64 => (0..self.vlen(id))
                .map(|index| {
                    let low = u64::from(self.word(id, 4 + index * 3));
                    let high = u64::from(self.word(id, 5 + index * 3));
                    (self.text(self.word(id, 3 + index * 3)), (high << 32 | low).cast_signed())
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    /// Value of an enumerator by its name, in any enumeration.
    pub fn enumerator(&self, name: &str) -> Option<i64> {
        self.enumerator_at(name).map(|(_, value)| value)
    }

    /// The enumeration that has an enumerator of this name.
    pub fn enumeration_of(&self, enumerator: &str) -> Option<TypeId> {
        self.enumerator_at(enumerator).map(|(id, _)| id)
    }

    fn enumerator_at(&self, name: &str) -> Option<(TypeId, i64)> {
        let places = self.places(name);
        if places.is_empty() {
            return None;
        }
        let enums = self.enums.get_or_init(|| self.ids().filter(|id| self.is_enumeration(*id)).collect());
        enums.iter().find_map(|id| {
            let words = if self.kind(*id) == BtfKind::Enum { 2 } else { 3 };
            let index =
                (0..self.vlen(*id)).find(|index| places.contains(&self.word(*id, 3 + index * words)))?;
            self.enumerators(*id).get(index).map(|(_, value)| (*id, *value))
        })
    }

    /// Offsets of a name in the string section. It is stored once, but the format allows copies.
    fn places(&self, name: &str) -> Vec<u32> {
        if name.is_empty() || name.contains('\0') {
            return Vec::new();
        }
        let strings = &self.bytes()[self.strings.clone()];
        let needle: Vec<u8> = [&[0], name.as_bytes(), &[0]].concat();
        memchr::memmem::find_iter(strings, &needle).filter_map(|at| u32::try_from(at + 1).ok()).collect()
    }

    /// The type as C writes it: `struct request *`, `unsigned int`, `char[16]`.
    pub fn display(&self, id: TypeId) -> String {
        self.display_within(id, 16)
    }

    fn display_within(&self, id: TypeId, depth: u32) -> String {
        let Some(depth) = depth.checked_sub(1) else { return "…".into() };
        let name = || if self.name(id).is_empty() { "(anonymous)" } else { self.name(id) };
        match self.kind(id) {
            BtfKind::Void => "void".into(),
            BtfKind::Union => format!("union {}", name()),
            BtfKind::Enum | BtfKind::Enum64 => format!("enum {}", name()),
            BtfKind::Fwd if self.kind_flag(id) => format!("union {}", name()),
            BtfKind::Struct | BtfKind::Fwd => format!("struct {}", name()),
            BtfKind::Ptr => {
                let inner = self.display_within(self.target(id), depth);
                if inner.ends_with('*') { inner + "*" } else { inner + " *" }
            }
            BtfKind::Array => {
                let (element, count) = self.array(id);
                format!("{}[{count}]", self.display_within(element, depth))
            }
            BtfKind::Const => format!("const {}", self.display_within(self.target(id), depth)),
            BtfKind::Volatile | BtfKind::Restrict | BtfKind::TypeTag => {
                self.display_within(self.target(id), depth)
            }
            BtfKind::FuncProto => "(function)".into(),
            _ => name().to_owned(),
        }
    }
}
