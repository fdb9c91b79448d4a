//! Writes BTF for tests, by `Documentation/bpf/btf.rst`.

const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const TYPEDEF: u32 = 8;
const CONST: u32 = 10;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;

/// A member: name, type, bit offset, and the width of a bitfield or 0.
pub type Member<'a> = (&'a str, u32, u32, u32);

/// Types being written.
#[derive(Debug)]
pub struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

impl Builder {
    pub fn new() -> Self {
        Self { types: Vec::new(), strings: vec![0], count: 0 }
    }

    fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let at = u32::try_from(self.strings.len()).unwrap();
        self.strings.extend(name.bytes().chain([0]));
        at
    }

    fn words(&mut self, words: &[u32]) {
        self.types.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }

    fn add(&mut self, name: &str, kind: u32, flag: bool, vlen: usize, third: u32) -> u32 {
        let name = self.name(name);
        self.words(&[name, u32::from(flag) << 31 | kind << 24 | u32::try_from(vlen).unwrap(), third]);
        self.count += 1;
        self.count
    }

    pub fn int(&mut self, name: &str, size: u32, signed: bool) -> u32 {
        let id = self.add(name, INT, false, 0, size);
        self.words(&[(u32::from(signed) << 24) | (size * 8)]);
        id
    }

    pub fn pointer(&mut self, to: u32) -> u32 {
        self.add("", PTR, false, 0, to)
    }

    pub fn array(&mut self, element: u32, index: u32, count: u32) -> u32 {
        let id = self.add("", ARRAY, false, 0, 0);
        self.words(&[element, index, count]);
        id
    }

    /// Adds the same type, of what nobody changes.
    pub fn constant(&mut self, of: u32) -> u32 {
        self.add("", CONST, false, 0, of)
    }

    /// Adds another name for a type.
    pub fn alias(&mut self, name: &str, of: u32) -> u32 {
        self.add(name, TYPEDEF, false, 0, of)
    }

    /// Adds a signed enumeration of 32 bits.
    pub fn enumeration(&mut self, name: &str, values: &[(&str, i32)]) -> u32 {
        let id = self.add(name, ENUM, true, values.len(), 4);
        for (name, value) in values {
            let name = self.name(name);
            self.words(&[name, value.cast_unsigned()]);
        }
        id
    }

    fn composite(&mut self, kind: u32, name: &str, size: u32, members: &[Member<'_>]) -> u32 {
        let id = self.add(name, kind, true, members.len(), size);
        for (name, member, offset, bits) in members {
            let name = self.name(name);
            self.words(&[name, *member, bits << 24 | offset]);
        }
        id
    }

    pub fn structure(&mut self, name: &str, size: u32, members: &[Member<'_>]) -> u32 {
        self.composite(STRUCT, name, size, members)
    }

    pub fn union(&mut self, name: &str, size: u32, members: &[Member<'_>]) -> u32 {
        self.composite(UNION, name, size, members)
    }

    /// Adds a raw tracepoint as `tp_btf` finds it: `__traceiter_NAME` and `btf_trace_NAME`.
    pub fn tracepoint(&mut self, name: &str, parameters: &[(&str, u32)]) {
        let void = self.pointer(0);
        let all: Vec<_> = std::iter::once(("", void)).chain(parameters.iter().copied()).collect();
        let prototype = self.function(&format!("__traceiter_{name}"), &all);
        let function = self.pointer(prototype);
        self.add(&format!("btf_trace_{name}"), TYPEDEF, false, 0, function);
    }

    /// Adds a function without a result; returns the number of its prototype.
    pub fn function(&mut self, name: &str, parameters: &[(&str, u32)]) -> u32 {
        let prototype = self.add("", FUNC_PROTO, false, parameters.len(), 0);
        for (name, kind) in parameters {
            let name = if name.is_empty() { 0 } else { self.name(name) };
            self.words(&[name, *kind]);
        }
        self.add(name, FUNC, false, 0, prototype);
        prototype
    }

    /// Adds a global variable.
    pub fn variable(&mut self, name: &str, of: u32) -> u32 {
        let id = self.add(name, VAR, false, 0, of);
        self.words(&[1]);
        id
    }

    /// Adds a section with these variables.
    pub fn section(&mut self, name: &str, variables: &[u32]) {
        self.add(name, DATASEC, false, variables.len(), 0);
        for variable in variables {
            self.words(&[*variable, 0, 8]);
        }
    }

    pub fn finish(self) -> Vec<u8> {
        let (types, strings) =
            (u32::try_from(self.types.len()).unwrap(), u32::try_from(self.strings.len()).unwrap());
        let header = [0x0001_eb9f, 24, 0, types, types, strings];
        header.iter().flat_map(|word| word.to_le_bytes()).chain(self.types).chain(self.strings).collect()
    }
}
