//! A typed expression at an event → its value.
//!
//! [`super::binary`] defines what an operator does to two words; this module defines the operands: arguments, memory, texts.
//! Memory that cannot be read, or is behind a null pointer, is 0, or an empty text.

use super::StateValues;
use crate::{
    typed::{
        AccessMode, BinaryOperator, Builtin, CUT_PATH, CgroupTest, MOST_WORDS, PACKET, PathRead, Type, Typed,
        TypedKind, UnaryOperator,
    },
    vm::{Environment, Memory},
};
use std::cell::RefCell;

/// The value of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number or an address.
    Number(u64),
    /// A text, without its NUL.
    Text(Vec<u8>),
}

impl Value {
    /// The value as a number; 0 for a text.
    pub fn number(&self) -> u64 {
        match self {
            Self::Number(value) => *value,
            Self::Text(_) => 0,
        }
    }

    /// The value as a text; empty for a number.
    pub fn text(&self) -> &[u8] {
        match self {
            Self::Number(_) => &[],
            Self::Text(bytes) => bytes,
        }
    }
}

/// The values that an expression can name at one event.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The program's context: the words of a raw tracepoint, the record of a tracepoint.
    pub context: &'a [u8],
    /// The task, the clock and memory.
    pub machine: &'a Environment,
    /// Named expressions, by number.
    pub lets: &'a [Typed],
    /// Saved values, by number.
    pub saved: &'a [Value],
    /// Nanoseconds since the start.
    pub duration: u64,
    /// The element of `each`.
    pub item: u64,
    /// What events before this one left.
    pub state: &'a StateValues,
}

/// Evaluates an expression at an event.
pub fn evaluate(typed: &Typed, event: &Inputs<'_>) -> Value {
    Evaluation { event, lets: RefCell::new(vec![None; event.lets.len()]) }.value(typed)
}

/// Values that are computed on the way.
struct Evaluation<'e> {
    event: &'e Inputs<'e>,
    /// Values of named expressions, each computed once.
    lets: RefCell<Vec<Option<Value>>>,
}

fn length(size: u32) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Whether an operation is unsigned: if an operand is a `u64` or an address; for a shift only the left operand counts.
fn is_unsigned(operator: BinaryOperator, left: &Typed, right: &Typed) -> bool {
    let full =
        |typed: &Typed| matches!(typed.ty, Type::Int { bits: 64, signed: false } | Type::Pointer { .. });
    match operator {
        BinaryOperator::Shl | BinaryOperator::Shr => full(left),
        _ => full(left) || full(right),
    }
}

impl Evaluation<'_> {
    fn value(&self, typed: &Typed) -> Value {
        if let TypedKind::Let(index) = typed.kind {
            let known = self.lets.borrow().get(index).cloned().flatten();
            let value = known
                .unwrap_or_else(|| self.event.lets.get(index).map_or(Value::Number(0), |of| self.value(of)));
            if let Some(place) = self.lets.borrow_mut().get_mut(index) {
                *place = Some(value.clone());
            }
            return value;
        }
        if let Type::Bytes { size } = typed.ty {
            let mut bytes = self.text(typed);
            bytes.resize(length(size), 0);
            return Value::Text(bytes);
        }
        if let Type::Text { capacity } = typed.ty {
            let mut bytes = self.text(typed);
            if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
                bytes.truncate(end);
            }
            // The NUL takes one.
            bytes.truncate(length(capacity.saturating_sub(1)));
            return Value::Text(bytes);
        }
        Value::Number(self.number(typed))
    }

    fn truth(&self, typed: &Typed) -> bool {
        self.value(typed).number() != 0
    }

    fn number(&self, typed: &Typed) -> u64 {
        let of = |operand: &Typed| self.value(operand).number();
        match &typed.kind {
            TypedKind::Constant(value) | TypedKind::Symbol(value) => *value,
            TypedKind::Builtin(builtin) => self.builtin(*builtin),
            TypedKind::Duration => self.event.duration,
            TypedKind::Saved(index) => self.event.saved.get(*index).map_or(0, Value::number),
            TypedKind::State { state, key } => self.state(*state, key).number(),
            TypedKind::Item => self.event.item,
            TypedKind::Function(number) => number.map_or(self.event.machine.cookie, u64::from),
            TypedKind::Argument(offset) => little_endian(self.record(*offset, 8)),
            TypedKind::Field { offset, size } => {
                in_type(little_endian(self.record(*offset, *size)), &typed.ty)
            }
            TypedKind::Load { base, offset, size, access, bits } => {
                let address = of(base);
                let word = if address == 0 { None } else { self.read(*access, address, *offset, *size) };
                let word = word.map_or(0, |bytes| little_endian(&bytes));
                match bits {
                    Some((distance, width)) => {
                        let width = u8::try_from(*width).unwrap_or(64);
                        super::extend(word.checked_shr(*distance).unwrap_or(0), width, typed.ty.is_signed())
                    }
                    None => in_type(word, &typed.ty),
                }
            }
            TypedKind::Unary(
                operator @ (UnaryOperator::Neg
                | UnaryOperator::BitNot
                | UnaryOperator::Not
                | UnaryOperator::Deref),
                operand,
            ) => super::unary(*operator, of(operand)),
            TypedKind::Binary(BinaryOperator::And, left, right) => {
                u64::from(self.truth(left) && self.truth(right))
            }
            TypedKind::Binary(BinaryOperator::Or, left, right) => {
                u64::from(self.truth(left) || self.truth(right))
            }
            TypedKind::Extreme(operator, left, right) => {
                let (a, b) = (of(left), of(right));
                let holds = super::binary(*operator, is_unsigned(*operator, left, right), a, b) != 0;
                if holds { a } else { b }
            }
            TypedKind::Binary(operator, left, right) => match (self.value(left), self.value(right)) {
                (Value::Text(left), Value::Text(right)) => {
                    u64::from((left == right) == (*operator == BinaryOperator::Eq))
                }
                (a, b) => {
                    super::binary(*operator, is_unsigned(*operator, left, right), a.number(), b.number())
                }
            },
            TypedKind::Contains { text, sought } => {
                let text = self.value(text);
                u64::from(text.text().windows(sought.len().max(1)).any(|part| part == sought))
            }
            TypedKind::Conditional(condition, then, otherwise) => {
                of(if self.truth(condition) { then } else { otherwise })
            }
            TypedKind::Cast(operand) => in_type(of(operand), &typed.ty),
            TypedKind::Swap(operand) => super::swapped(of(operand), &typed.ty),
            TypedKind::Number(operand) => of(operand),
            TypedKind::CgroupMatches(test) => u64::from(self.cgroup_matches(test).unwrap_or(false)),
            // Where the context lies is known to a running program only; texts are no numbers.
            // Stacks are kept by the program, not computed; and only a map knows who is followed.
            TypedKind::Stack { .. }
            | TypedKind::Traced(_)
            | TypedKind::Let(_)
            | TypedKind::Context
            | TypedKind::Text(_)
            | TypedKind::Comm
            | TypedKind::Cut { .. }
            | TypedKind::Path(_)
            | TypedKind::TextAt { .. }
            | TypedKind::BytesAt { .. }
            | TypedKind::WordsBetween { .. }
            | TypedKind::WordsOf { .. }
            | TypedKind::Numbers(_)
            | TypedKind::MappedAt { .. }
            | TypedKind::TextField { .. }
            | TypedKind::TextLocated { .. } => 0,
        }
    }

    /// Reads bytes up to a NUL as a text.
    fn text(&self, typed: &Typed) -> Vec<u8> {
        let of = |operand: &Typed| self.value(operand).text().to_vec();
        match &typed.kind {
            TypedKind::Text(bytes) => bytes.clone(),
            TypedKind::Comm => self.event.machine.comm.iter().copied().take(15).collect(),
            TypedKind::TextAt { base, offset, access, limit } => match self.value(base).number() {
                0 => Vec::new(),
                address => self.read_text(*access, address, *offset, *limit),
            },
            TypedKind::BytesAt { base, offset, size, .. } if base.kind == TypedKind::Context => {
                u32::try_from(*offset).map(|offset| self.record(offset, *size).to_vec()).unwrap_or_default()
            }
            // What cannot be read is zeros.
            TypedKind::BytesAt { base, offset, access, size } => match self.value(base).number() {
                0 => Vec::new(),
                address => self.read(*access, address, *offset, *size).unwrap_or_default(),
            },
            TypedKind::WordsBetween { start, end, limit } => {
                let (start, end) = (self.value(start).number(), self.value(end).number());
                if start == 0 || end == start {
                    return Vec::new();
                }
                let size = end.wrapping_sub(start).wrapping_sub(1).min(u64::from(*limit) - 1);
                let bytes = (0..size).map(|index| byte(&self.event.machine.user, start.checked_add(index)?));
                joined(bytes.collect::<Option<Vec<u8>>>().unwrap_or_default())
            }
            TypedKind::WordsOf { list, access, limit } => match self.value(list).number() {
                0 => Vec::new(),
                list => self.words(*access, list, *limit),
            },
            TypedKind::Numbers(words) => {
                words.iter().flat_map(|word| self.value(word).number().to_le_bytes()).collect()
            }
            TypedKind::MappedAt { base, access } => match self.value(base).number() {
                0 => Vec::new(),
                address => {
                    let own = self.read(*access, address, 0, 4).unwrap_or_default();
                    [[0; 10].as_slice(), &[0xff; 2], &own].concat()
                }
            },
            TypedKind::TextField { offset, size } => {
                let field = self.record(*offset, *size);
                field[..field.len().saturating_sub(1)].to_vec()
            }
            TypedKind::TextLocated { offset, relative } => {
                let place = little_endian(self.record(*offset, 2));
                let behind = if *relative { u64::from(*offset) + 4 } else { 0 };
                let start = usize::try_from(place + behind).unwrap_or(usize::MAX);
                self.event.context.get(start..).unwrap_or_default().to_vec()
            }
            TypedKind::Saved(index) => {
                self.event.saved.get(*index).map(|value| value.text().to_vec()).unwrap_or_default()
            }
            TypedKind::State { state, key } => self.state(*state, key).text().to_vec(),
            TypedKind::Path(read) => self.path(read).unwrap_or_default(),
            TypedKind::Cut { text, most } => {
                let mut bytes = of(text);
                bytes.truncate(length(*most));
                bytes
            }
            TypedKind::Conditional(condition, then, otherwise) => {
                of(if self.truth(condition) { then } else { otherwise })
            }
            _ => Vec::new(),
        }
    }

    fn state(&self, state: usize, key: &[Typed]) -> Value {
        let key: Vec<Value> = key.iter().map(|part| self.value(part)).collect();
        self.event.state.read(state, &key, self.event)
    }

    fn builtin(&self, builtin: Builtin) -> u64 {
        let Environment { pid_tgid, uid_gid, cpu, ktime_ns, cgroup_id, task, packet, packet_cgroup, .. } =
            self.event.machine;
        match builtin {
            Builtin::Pid => pid_tgid >> 32,
            Builtin::Tid => pid_tgid & 0xffff_ffff,
            Builtin::Uid => uid_gid & 0xffff_ffff,
            Builtin::Gid => uid_gid >> 32,
            Builtin::Cpu => u64::from(*cpu),
            Builtin::Nsecs => *ktime_ns,
            Builtin::Cgroup => *cgroup_id,
            Builtin::Task => *task,
            Builtin::PacketLength => u64::try_from(packet.len()).unwrap_or(u64::MAX),
            Builtin::PacketCgroup => *packet_cgroup,
        }
    }

    /// Whether the path of a cgroup matches, found from the cgroup upwards; `None` if it cannot be read.
    fn cgroup_matches(&self, test: &CgroupTest) -> Option<bool> {
        let CgroupTest { key, cgroup, offsets, pattern } = test;
        let word = |address: u64, offset: u32, size| {
            let bytes = self.read(AccessMode::Kernel, address, offset.try_into().ok()?, size)?;
            Some(little_endian(&bytes))
        };
        let mut cgroup = self.value(cgroup).number();
        if self.value(key).number() == 0 || cgroup == 0 {
            return Some(false);
        }
        let mut path = Vec::new();
        for _ in 0..word(cgroup, offsets.level, 4)? {
            let name = word(word(cgroup, offsets.node, 8)?, offsets.name, 8)?;
            path.insert(0, self.read_text(AccessMode::Kernel, name, 0, 256));
            cgroup = word(word(cgroup, offsets.parent, 8)?, offsets.cgroup, 8)?;
        }
        Some(pattern.matches(&path))
    }

    /// The path of a file; `None` if it cannot be read.
    fn path(&self, read: &PathRead) -> Option<Vec<u8>> {
        let word = |address: u64, offset: u32, size| {
            let bytes = self.read(AccessMode::Kernel, address, offset.try_into().ok()?, size)?;
            Some(little_endian(&bytes))
        };
        let root = read.root.as_ref().map(|root| self.value(root).number());
        let mut dentry = self.value(&read.dentry).number();
        let mut path = Vec::new();
        let room = length(read.limit) - 1 - CUT_PATH.len();
        if dentry == 0 {
            return None;
        }
        for _ in 0..64 {
            if Some(dentry) == root {
                return Some(if path.is_empty() { b"/".to_vec() } else { path });
            }
            let parent = word(dentry, read.offsets.parent, 8)?;
            if parent == dentry && !path.is_empty() {
                return Some(path);
            }
            let name = word(dentry, read.offsets.name, 8)?;
            let size = word(dentry, read.offsets.length, 4)?;
            let slash: &[u8] = if parent == dentry { b"" } else { b"/" };
            if slash.len() + usize::try_from(size).ok()? + path.len() > room {
                return Some([&CUT_PATH[..], &path].concat());
            }
            let name = self.read(AccessMode::Kernel, name, 0, size.try_into().ok()?)?;
            path = [slash, &name, &path].concat();
            if parent == dentry {
                return Some(path);
            }
            dentry = parent;
        }
        Some([&CUT_PATH[..], &path].concat())
    }

    fn record(&self, offset: u32, size: u32) -> &[u8] {
        let start = length(offset);
        self.event.context.get(start..start.saturating_add(length(size))).unwrap_or_default()
    }

    fn memory(&self, access: AccessMode, address: u64) -> &Memory {
        match access {
            // The upper half of the addresses is the kernel's.
            AccessMode::Auto if address.cast_signed() >= 0 => &self.event.machine.user,
            AccessMode::Auto | AccessMode::Direct | AccessMode::Kernel | AccessMode::Packet => {
                &self.event.machine.kernel
            }
        }
    }

    fn read(&self, access: AccessMode, address: u64, offset: i32, size: u32) -> Option<Vec<u8>> {
        let address = address.wrapping_add_signed(offset.into());
        if access == AccessMode::Packet {
            // Helpers take 32 bits of it.
            let low = address.wrapping_sub(PACKET.into()) & u64::from(u32::MAX);
            let from = usize::try_from(low).ok()?;
            return self.event.machine.packet.get(from..from.checked_add(length(size))?).map(<[u8]>::to_vec);
        }
        let memory = self.memory(access, address);
        (0..u64::from(size)).map(|index| byte(memory, address.checked_add(index)?)).collect()
    }

    /// Reads at most `limit` bytes including the NUL; nothing if one of them faults.
    fn read_text(&self, access: AccessMode, address: u64, offset: i32, limit: u32) -> Vec<u8> {
        let address = address.wrapping_add_signed(offset.into());
        self.text_at(access, address, limit).unwrap_or_default()
    }

    /// The same; `None` if one of them faults.
    fn text_at(&self, access: AccessMode, address: u64, limit: u32) -> Option<Vec<u8>> {
        let memory = self.memory(access, address);
        let mut text = Vec::new();
        for index in 0..u64::from(limit) {
            match byte(memory, address.wrapping_add(index))? {
                0 => return Some(text),
                byte => text.push(byte),
            }
        }
        text.pop();
        Some(text)
    }

    /// The texts whose addresses stand at `list`, up to the first that is 0 or faults.
    fn words(&self, access: AccessMode, list: u64, limit: u32) -> Vec<u8> {
        let mut words = Vec::new();
        for index in 0..MOST_WORDS {
            let place = list.wrapping_add(u64::from(index) * 8);
            let address = self.read(access, place, 0, 8).map_or(0, |bytes| little_endian(&bytes));
            if address == 0 || words.len() >= length(limit) {
                break;
            }
            let Some(word) = self.text_at(AccessMode::Auto, address, limit) else { break };
            words.extend(word);
            words.push(0);
        }
        words.pop();
        words.truncate(length(limit - 1));
        joined(words)
    }
}

/// Blanks in the place of the NULs between texts.
fn joined(bytes: Vec<u8>) -> Vec<u8> {
    bytes.into_iter().map(|byte| if byte == 0 { b' ' } else { byte }).collect()
}

/// A word as a value of a type: truncated to its width and sign-extended.
fn in_type(word: u64, ty: &Type) -> u64 {
    match ty {
        Type::Int { bits, signed } => super::extend(word, *bits, *signed),
        Type::Pointer { .. } | Type::Text { .. } | Type::Bytes { .. } | Type::Stack { .. } => word,
    }
}

fn byte(memory: &Memory, address: u64) -> Option<u8> {
    let (start, block) = memory.range(..=address).next_back()?;
    block.get(usize::try_from(address - start).ok()?).copied()
}
