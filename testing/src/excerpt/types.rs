//! Types cut out of a kernel's BTF: the wanted ones, and of all others as much as determines their size.
//!
//! A struct to which a member with a wanted name points is whole. A struct inside a whole one keeps its members only if its own
//! name is wanted, it has none, or it is in a union, of which the verifier checks the first member. The target of any other
//! pointer is declared and not defined.

use super::Wanted;
use std::collections::{BTreeSet, HashMap};
use tapster_ebpf::btf::{Btf, BtfKind, TypeId};

/// A type of the excerpt: its number in the kernel, and how much of it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Part {
    Whole(TypeId),
    /// A struct or union of its full size, without members.
    Size(TypeId),
    /// Declared.
    Forward(TypeId),
    /// A typedef of `void *`.
    Name(TypeId),
}

struct Cutter<'a> {
    btf: &'a Btf,
    wanted: &'a Wanted,
    /// Structs and unions that are whole.
    whole: BTreeSet<TypeId>,
    numbers: HashMap<Part, u32>,
    order: Vec<Part>,
    types: Vec<u8>,
    strings: Vec<u8>,
    places: HashMap<String, u32>,
}

/// The excerpt as BTF; structs with these names are left out.
pub fn cut(btf: &Btf, wanted: &Wanted, without: &[&str]) -> Vec<u8> {
    let mut cutter = Cutter {
        btf,
        wanted,
        whole: BTreeSet::new(),
        numbers: HashMap::new(),
        order: Vec::new(),
        types: Vec::new(),
        strings: vec![0],
        places: HashMap::new(),
    };
    let functions =
        btf.ids().filter(|id| btf.kind(*id) == BtfKind::Func && wanted.has_function(btf.name(*id)));
    let names = wanted.names.iter().filter_map(|name| btf.find(name, BtfKind::Typedef));
    let structs = wanted.structs.iter().filter_map(|name| btf.find(name, BtfKind::Struct));
    let (functions, names, structs): (Vec<_>, Vec<_>, Vec<_>) =
        (functions.collect(), names.collect(), structs.collect());
    let enumerations = btf.ids().filter(|id| matches!(btf.kind(*id), BtfKind::Enum | BtfKind::Enum64));
    let enumerations: Vec<_> = enumerations
        .filter(|id| btf.enumerators(*id).iter().any(|(name, _)| wanted.has_enumerator(name)))
        .collect();
    for id in &structs {
        cutter.keep(*id);
    }
    for function in &functions {
        let prototype = btf.target(*function);
        for (name, id) in btf.parameters(prototype) {
            if wanted.members.contains(name) {
                cutter.keep_behind(id);
            }
        }
    }
    cutter.whole.retain(|id| !without.contains(&btf.name(*id)));
    // In the kernel's order, so that of two types with one name the same one comes first.
    let mut roots: Vec<Part> =
        functions.iter().chain(&structs).chain(&enumerations).map(|id| cutter.part(*id, false)).collect();
    roots.extend(names.iter().map(|id| Part::Name(*id)));
    roots.extend(cutter.whole.iter().map(|id| Part::Whole(*id)));
    roots.sort_by_key(|part| part.id());
    for root in roots {
        cutter.number(root);
    }
    cutter.finish()
}

impl Part {
    fn id(self) -> TypeId {
        match self {
            Self::Whole(id) | Self::Size(id) | Self::Forward(id) | Self::Name(id) => id,
        }
    }
}

impl Cutter<'_> {
    /// The type of the values of a type: without qualifiers, the element of an array.
    fn element(&self, id: TypeId) -> TypeId {
        let mut id = self.btf.strip(id);
        while self.btf.kind(id) == BtfKind::Array {
            id = self.btf.strip(self.btf.array(id).0);
        }
        id
    }

    /// Keeps the struct behind any number of pointers.
    fn keep_behind(&mut self, id: TypeId) {
        let mut id = self.element(id);
        if self.btf.kind(id) != BtfKind::Ptr {
            return;
        }
        while self.btf.kind(id) == BtfKind::Ptr {
            id = self.element(self.btf.target(id));
        }
        self.keep(id);
    }

    fn keep(&mut self, id: TypeId) {
        if !self.btf.kind(id).is_composite() || !self.whole.insert(id) {
            return;
        }
        let is_union = self.btf.kind(id) == BtfKind::Union;
        let members: Vec<_> =
            self.btf.members(id).map(|member| (member.name.to_owned(), member.type_id)).collect();
        for (name, type_id) in members {
            let is_wanted = self.wanted.members.contains(&name);
            if is_wanted {
                self.keep_behind(type_id);
            }
            if is_wanted || is_union || name.is_empty() {
                self.keep(self.element(type_id));
            }
        }
    }

    fn part(&self, id: TypeId, behind_pointer: bool) -> Part {
        match self.btf.kind(id) {
            BtfKind::Struct | BtfKind::Union if self.whole.contains(&id) => Part::Whole(id),
            BtfKind::Struct | BtfKind::Union if behind_pointer => Part::Forward(id),
            BtfKind::Struct | BtfKind::Union => Part::Size(id),
            _ => Part::Whole(id),
        }
    }

    /// The number of a part in the excerpt; the part is written later.
    fn number(&mut self, part: Part) -> u32 {
        if let Some(number) = self.numbers.get(&part) {
            return *number;
        }
        self.order.push(part);
        let number = u32::try_from(self.order.len()).unwrap();
        self.numbers.insert(part, number);
        number
    }

    /// The number of the type that a type refers to.
    fn reference(&mut self, id: TypeId, behind_pointer: bool) -> u32 {
        // Behind a pointer, a qualifier or a typedef leads to a type that is only declared.
        match self.btf.kind(id) {
            BtfKind::Void | BtfKind::FuncProto | BtfKind::Func => 0,
            kind if kind.is_modifier() && behind_pointer => {
                let to = self.btf.strip(id);
                let part = self.part(to, true);
                // A whole type keeps its names and tags.
                if part == Part::Forward(to) { self.number(part) } else { self.number(Part::Whole(id)) }
            }
            _ => {
                let part = self.part(id, behind_pointer);
                self.number(part)
            }
        }
    }

    fn text(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        let place = u32::try_from(self.strings.len()).unwrap();
        self.strings.extend(text.bytes().chain([0]));
        self.places.insert(text.to_owned(), place);
        place
    }

    fn words(&mut self, words: &[u32]) {
        self.types.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }

    fn head(&mut self, name: &str, kind: BtfKind, flag: bool, vlen: usize, third: u32) {
        let name = self.text(name);
        let kind = u32::from(kind as u8);
        self.words(&[name, u32::from(flag) << 31 | kind << 24 | u32::try_from(vlen).unwrap(), third]);
    }

    fn write(&mut self, part: Part) {
        let btf = self.btf;
        let (id, kind) = (part.id(), btf.kind(part.id()));
        let name = btf.name(id);
        let size = || btf.size(id).unwrap_or_default();
        match part {
            Part::Name(_) => return self.head(name, BtfKind::Typedef, false, 0, 0),
            Part::Forward(_) => return self.head(name, BtfKind::Fwd, kind == BtfKind::Union, 0, 0),
            Part::Size(_) => return self.head(name, kind, false, 0, size()),
            Part::Whole(_) => {}
        }
        match kind {
            BtfKind::Int => {
                self.head(name, kind, false, 0, size());
                self.words(&[u32::from(btf.is_signed(id)) << 24 | btf.int_bits(id)]);
            }
            BtfKind::Float => self.head(name, kind, false, 0, size()),
            BtfKind::Array => {
                let (element, count) = btf.array(id);
                let element = self.reference(element, false);
                self.head(name, kind, false, 0, 0);
                // The type of an index does not matter.
                self.words(&[element, element, count]);
            }
            BtfKind::Struct | BtfKind::Union => self.composite(id),
            BtfKind::Enum | BtfKind::Enum64 => {
                let all = btf.enumerators(id);
                let wanted: Vec<_> =
                    all.into_iter().filter(|(name, _)| self.wanted.has_enumerator(name)).collect();
                self.head(name, kind, btf.is_signed(id), wanted.len(), size());
                for (name, value) in wanted {
                    let (name, value) = (self.text(name), value.cast_unsigned().to_le_bytes());
                    let half = |at: usize| u32::from_le_bytes(value[at..at + 4].try_into().unwrap());
                    let words = [name, half(0), half(4)];
                    self.words(&words[..if kind == BtfKind::Enum { 2 } else { 3 }]);
                }
            }
            BtfKind::Fwd => self.head(name, kind, btf.display(id).starts_with("union"), 0, 0),
            BtfKind::Ptr => {
                let to = self.reference(btf.target(id), true);
                self.head(name, kind, false, 0, to);
            }
            BtfKind::Typedef | BtfKind::Volatile | BtfKind::Const | BtfKind::Restrict | BtfKind::TypeTag => {
                let to = self.reference(btf.target(id), false);
                self.head(name, kind, false, 0, to);
            }
            BtfKind::Func => {
                let prototype = self.number(Part::Whole(btf.target(id)));
                self.head(name, kind, false, 0, prototype);
            }
            BtfKind::FuncProto => {
                let parameters = btf.parameters(id);
                let result = self.reference(btf.target(id), false);
                let words: Vec<[u32; 2]> = parameters
                    .iter()
                    .map(|(name, id)| [self.text(name), self.reference(*id, false)])
                    .collect();
                self.head(name, kind, false, words.len(), result);
                self.words(words.as_flattened());
            }
            BtfKind::Void | BtfKind::Var | BtfKind::Datasec | BtfKind::DeclTag => {
                unreachable!("no value is of {kind:?}")
            }
        }
    }

    fn composite(&mut self, id: TypeId) {
        let btf = self.btf;
        let members: Vec<_> = btf.members(id).collect();
        // Offsets are in bits; with bitfields, in the lower three bytes.
        let packed = members.iter().any(|member| member.bitfield_bits.is_some());
        let words: Vec<[u32; 3]> = members
            .iter()
            .map(|member| {
                let bits = if packed { member.bitfield_bits.unwrap_or(0) << 24 } else { 0 };
                [self.text(member.name), self.reference(member.type_id, false), bits | member.bit_offset]
            })
            .collect();
        self.head(btf.name(id), btf.kind(id), packed, words.len(), btf.size(id).unwrap_or_default());
        self.words(words.as_flattened());
    }

    fn finish(mut self) -> Vec<u8> {
        let mut next = 0;
        while let Some(part) = self.order.get(next).copied() {
            self.write(part);
            next += 1;
        }
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
        let (types, strings) = (length(&self.types), length(&self.strings));
        let header = [0x0001_eb9f, 24, 0, types, types, strings];
        header.iter().flat_map(|word| word.to_le_bytes()).chain(self.types).chain(self.strings).collect()
    }
}
