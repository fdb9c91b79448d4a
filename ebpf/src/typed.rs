//! A checked probe: every name is resolved, every value has a type, every load has an offset.
//!
//! Integers are computed in 64 bits. Narrower integers are widened and keep their value, so that `a - b` of two `u32` may be
//! negative. An operation is unsigned only if an operand is a `u64`. Casts truncate.

mod builtin;
mod cgroup;
mod event;
mod path;
mod role;
mod state;
mod waiting;

pub use crate::stack::{LOST_STACK, NO_STACK, Side};
pub use builtin::Builtin;
pub use cgroup::{CgroupOffsets, CgroupTest};
pub use event::{TypedEach, TypedEvent};
pub use path::{CUT_PATH, DentryOffsets, MOST_PATH, PathRead};
pub use role::Role;
pub use state::{StateEffect, TypedChange, TypedState};
pub use waiting::{KnownLabel, Waiting, WaitingMetric};

use crate::{btf::TypeId, diagnostic::Diagnostic, missing::AbsentEvent, probe::Decoder, unit::Unit};
use std::collections::BTreeSet;

/// Type of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// An integer of this width that was loaded or computed; in a register it has 64 bits.
    Int {
        /// 8, 16, 32 or 64.
        bits: u8,
        /// Whether it can be negative.
        signed: bool,
    },
    /// An address.
    Pointer {
        /// The type that it points to, without qualifiers; 0 for `void`.
        to: TypeId,
        /// How programs read the memory behind it.
        access: AccessMode,
    },
    /// A text: bytes up to a NUL, in a buffer of a fixed size.
    Text {
        /// Size of its buffer, a multiple of 8.
        capacity: u32,
    },
    /// This many bytes with any contents: an IPv6 address, a UUID. In a key zeros pad them to whole words.
    Bytes {
        /// Number of bytes.
        size: u32,
    },
    /// A stack, by its number: its hash, [`NO_STACK`] or [`LOST_STACK`].
    Stack {
        /// The side of the stack.
        side: Side,
        /// Most frames that are shown.
        frames: u32,
    },
}

impl Type {
    /// `u64`
    pub const U64: Self = Self::Int { bits: 64, signed: false };
    /// `s64`
    pub const S64: Self = Self::Int { bits: 64, signed: true };
    /// `u32`
    pub const U32: Self = Self::Int { bits: 32, signed: false };

    /// The type of a text of this many bytes including its NUL; the buffer is rounded up to words.
    pub fn text(bytes: u32) -> Self {
        Self::Text { capacity: bytes.max(2).next_multiple_of(8) }
    }

    /// Whether a value of the type is in memory instead of a register.
    pub fn is_wide(&self) -> bool {
        matches!(self, Self::Text { .. } | Self::Bytes { .. })
    }

    /// Size of a value in a key or on the stack, bytes: whole words.
    pub fn room(&self) -> u32 {
        match self {
            Self::Text { capacity } => *capacity,
            Self::Bytes { size } => size.next_multiple_of(8),
            Self::Int { .. } | Self::Pointer { .. } | Self::Stack { .. } => 8,
        }
    }

    /// The integer type of this many bytes; `None` unless they are 1, 2, 4 or 8.
    pub fn integer(bytes: u32, signed: bool) -> Option<Self> {
        let bits = match bytes {
            1 => 8,
            2 => 16,
            4 => 32,
            8 => 64,
            _ => return None,
        };
        Some(Self::Int { bits, signed })
    }

    /// For two stacks of one side, a type that holds both.
    pub fn longer_stack(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Stack { side, frames }, Self::Stack { side: same, frames: others }) if side == same => {
                Some(Self::Stack { side: *side, frames: *frames.max(others) })
            }
            _ => None,
        }
    }

    /// Whether arithmetic with the type is unsigned.
    pub fn is_unsigned(&self) -> bool {
        matches!(self, Self::Int { bits: 64, signed: false } | Self::Pointer { .. })
    }

    /// Whether a value of the type can be negative.
    pub fn is_signed(&self) -> bool {
        matches!(self, Self::Int { signed: true, .. })
    }
}

/// How programs read the memory behind a pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessMode {
    /// By load instructions: the verifier knows the pointer's type (`tp_btf`, 5.5).
    Direct,
    /// By `bpf_probe_read_kernel`.
    Kernel,
    /// Kernel or user memory, distinguished by the address.
    Auto,
    /// By a helper that copies bytes of the packet: the address is their distance from its beginning, and [`PACKET`].
    Packet,
}

/// The address of the beginning of a packet, so that it is none of a null pointer.
pub const PACKET: u32 = 1 << 28;

pub use crate::metric::TypedMetricKind;

/// An arithmetic or logical operation with its signedness decided.
pub use crate::expr::{BinaryOperator, UnaryOperator};

/// An expression with its type.
#[derive(Clone, Debug, PartialEq)]
pub struct Typed {
    /// The operation.
    pub kind: TypedKind,
    /// Type of the result.
    pub ty: Type,
    /// Whether it is a time in nanoseconds by itself.
    pub is_time: bool,
    /// The enumeration that the value is declared as.
    pub enumeration: Option<TypeId>,
}

/// The operation of a typed expression.
#[derive(Clone, Debug, PartialEq)]
pub enum TypedKind {
    /// A constant.
    Constant(u64),
    /// A constant text.
    Text(Vec<u8>),
    /// A value from a helper.
    Builtin(Builtin),
    /// The address of a symbol of the kernel, as long as the kernel runs.
    Symbol(u64),
    /// Name of the current task, 16 bytes.
    Comm,
    /// A stack, which is taken and kept; the value is its number.
    Stack {
        /// The side of the stack.
        side: Side,
        /// Most frames, innermost first.
        frames: u32,
        /// A pointer to another task, which the verifier knows; `None` for the current task.
        task: Option<Box<Typed>>,
    },
    /// Time between start and end.
    Duration,
    /// A value saved at the start, by its number.
    Saved(usize),
    /// Named expression of this event, by its number.
    Let(usize),
    /// What was left in a state before this event.
    State {
        /// The number of the state.
        state: usize,
        /// The parts of the key, if it is kept by key.
        key: Vec<Typed>,
    },
    /// The element of `each`.
    Item,
    /// The address of the context, which the verifier does not treat as a number.
    Context,
    /// The number of the function of the event. It is a constant if there is only one; otherwise it comes with the attachment
    /// (5.15), or there is one program for each function.
    Function(Option<u32>),
    /// The 64-bit word at an offset of the context.
    Argument(u32),
    /// A field of the context.
    Field {
        /// Byte offset.
        offset: u32,
        /// Size: 1, 2, 4 or 8 bytes.
        size: u32,
    },
    /// A number or pointer in memory.
    Load {
        /// The address.
        base: Box<Typed>,
        /// Bytes added to it.
        offset: i32,
        /// Size: 1, 2, 4 or 8 bytes.
        size: u32,
        /// How it is read.
        access: AccessMode,
        /// Offset from the low end and width in bits, for a bitfield.
        bits: Option<(u32, u32)>,
    },
    /// `-a`, `~a`, `!a`
    Unary(UnaryOperator, Box<Typed>),
    /// `a + b`; unsigned if either operand is.
    Binary(BinaryOperator, Box<Typed>, Box<Typed>),
    /// The smaller of two with [`BinaryOperator::Le`], the larger with [`BinaryOperator::Ge`]; compared as unsigned if either
    /// operand is.
    Extreme(BinaryOperator, Box<Typed>, Box<Typed>),
    /// `c ? a : b`
    Conditional(Box<Typed>, Box<Typed>, Box<Typed>),
    /// Truncated to the bits of the type, and sign-extended if that is signed.
    Cast(Box<Typed>),
    /// The low bytes, as many as the type has, in the opposite order.
    Swap(Box<Typed>),
    /// The address in a pointer that the verifier tracks, as a plain number.
    Number(Box<Typed>),
    /// 1 if the process with this number belongs to the command, otherwise 0.
    Traced(Box<Typed>),
    /// 1 if the pattern names the cgroup or one above it, otherwise 0.
    CgroupMatches(Box<CgroupTest>),
    /// The path of a file.
    Path(Box<PathRead>),
    /// The beginning of a text.
    Cut {
        /// The whole text.
        text: Box<Typed>,
        /// Most bytes of the result, without the NUL.
        most: u32,
    },
    /// 1 if the text has these bytes in it, otherwise 0.
    Contains {
        /// The text that is searched.
        text: Box<Typed>,
        /// What is looked for: at least one byte, and no NUL.
        sought: Vec<u8>,
    },
    /// Text at an address.
    TextAt {
        /// The address.
        base: Box<Typed>,
        /// Bytes added to it.
        offset: i32,
        /// How the memory is read.
        access: AccessMode,
        /// Most bytes that may be read; less than the capacity for arrays.
        limit: u32,
    },
    /// Bytes at an address.
    BytesAt {
        /// The address.
        base: Box<Typed>,
        /// Bytes added to it.
        offset: i32,
        /// How the memory is read.
        access: AccessMode,
        /// Number of bytes.
        size: u32,
    },
    /// Texts that stand one behind the other in a program's memory, each with its NUL, joined by blanks.
    WordsBetween {
        /// The address of the first.
        start: Box<Typed>,
        /// The address behind the NUL of the last.
        end: Box<Typed>,
        /// Most bytes of the result, its NUL included.
        limit: u32,
    },
    /// Texts whose addresses stand in an array that a null pointer ends, joined by blanks; at most [`MOST_WORDS`].
    WordsOf {
        /// The address of the array.
        list: Box<Typed>,
        /// How the memory is read.
        access: AccessMode,
        /// Most bytes of each word, and of the result, its NUL included.
        limit: u32,
    },
    /// Numbers as bytes, 8 for each: an address and its process.
    Numbers(Vec<Typed>),
    /// The address of IPv4 at an address, as one of IPv6 (`::ffff:192.0.2.7`): 16 bytes.
    MappedAt {
        /// The address.
        base: Box<Typed>,
        /// How the memory is read.
        access: AccessMode,
    },
    /// A text inside the context.
    TextField {
        /// Byte offset.
        offset: u32,
        /// Size of the field.
        size: u32,
    },
    /// A text inside the context; a word at `offset` contains its offset and length (`__data_loc`).
    TextLocated {
        /// Byte offset of that word.
        offset: u32,
        /// Whether the text's offset counts from the end of the word (`__rel_loc`, 5.16).
        relative: bool,
    },
}

/// Most texts that [`TypedKind::WordsOf`] joins: each is read by instructions of its own.
pub const MOST_WORDS: u32 = 20;

impl Typed {
    /// Makes a constant of type `s64`, or of type `u64` if it does not fit.
    pub fn constant(value: u64) -> Self {
        let ty = if i64::try_from(value).is_ok() { Type::S64 } else { Type::U64 };
        Self::new(TypedKind::Constant(value), ty)
    }

    /// Joins an operation and its type.
    pub fn new(kind: TypedKind, ty: Type) -> Self {
        Self { kind, ty, is_time: false, enumeration: None }
    }

    /// The operands of the operation.
    pub fn children(&self) -> Vec<&Self> {
        match &self.kind {
            TypedKind::Load { base, .. }
            | TypedKind::TextAt { base, .. }
            | TypedKind::BytesAt { base, .. }
            | TypedKind::MappedAt { base, .. }
            | TypedKind::Cut { text: base, .. }
            | TypedKind::WordsOf { list: base, .. }
            | TypedKind::Contains { text: base, .. } => vec![base],
            TypedKind::WordsBetween { start, end, .. } => vec![start, end],
            TypedKind::Unary(_, a)
            | TypedKind::Cast(a)
            | TypedKind::Swap(a)
            | TypedKind::Number(a)
            | TypedKind::Traced(a) => vec![a],
            TypedKind::Binary(_, a, b) | TypedKind::Extreme(_, a, b) => vec![a, b],
            TypedKind::Conditional(c, a, b) => vec![c, a, b],
            TypedKind::Stack { task: Some(task), .. } => vec![task],
            TypedKind::State { key: words, .. } | TypedKind::Numbers(words) => words.iter().collect(),
            TypedKind::CgroupMatches(test) => vec![&test.key, &test.cgroup],
            TypedKind::Path(read) => [&read.dentry].into_iter().chain(&read.root).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether `found` is true for the expression or any operand.
    pub fn any(&self, found: &impl Fn(&Self) -> bool) -> bool {
        found(self) || self.children().into_iter().any(|child| child.any(found))
    }

    /// Numbers of the named expressions that the expression uses directly, each once.
    pub fn names(&self) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut waiting = vec![self];
        while let Some(typed) = waiting.pop() {
            if let TypedKind::Let(index) = typed.kind {
                found.insert(index);
            }
            waiting.extend(typed.children());
        }
        found
    }

    /// Whether `found` is true for any part of the expression, or of a named expression that it uses. Each named expression
    /// is visited once, however often it is used.
    fn any_of_all(&self, lets: &[Self], found: &impl Fn(&Self) -> bool) -> bool {
        let mut seen = BTreeSet::new();
        let mut waiting = vec![self];
        while let Some(typed) = waiting.pop() {
            if typed.any(found) {
                return true;
            }
            waiting.extend(
                typed.names().into_iter().filter(|index| seen.insert(*index)).map(|index| &lets[index]),
            );
        }
        false
    }

    /// Whether the expression needs the start of a pair.
    pub fn needs_start(&self, lets: &[Self]) -> bool {
        self.any_of_all(lets, &|typed| matches!(typed.kind, TypedKind::Duration | TypedKind::Saved(_)))
    }

    /// Whether the expression needs the element of `each`.
    pub fn needs_item(&self, lets: &[Self]) -> bool {
        self.any_of_all(lets, &|typed| typed.kind == TypedKind::Item)
    }
}

/// Whether an operation is on unsigned numbers.
pub(crate) fn unsigned_operation(operator: BinaryOperator, left: &Typed, right: &Typed) -> bool {
    let shifts = matches!(operator, BinaryOperator::Shl | BinaryOperator::Shr);
    left.ty.is_unsigned() || !shifts && right.ty.is_unsigned()
}

/// A checked probe, ready to be lowered.
#[derive(Clone, Debug, PartialEq)]
pub struct TypedProbe {
    /// Its name.
    pub name: String,
    /// Its help text.
    pub help: String,
    /// Its events: notes, starts, ends; each becomes a program.
    pub events: Vec<TypedEvent>,
    /// Optional events that this kernel does not have.
    pub absent: Vec<AbsentEvent>,
    /// Its state.
    pub states: Vec<TypedState>,
    /// Whether the kernel keeps what is per task with the task (`BPF_MAP_TYPE_TASK_STORAGE`, 6.4).
    pub task_storage: bool,
    /// Parts of the key; empty for a probe of single events.
    pub key: Vec<Type>,
    /// Values that a start saves.
    pub saved: Vec<(String, Type)>,
    /// Labels in order.
    pub labels: Vec<TypedLabel>,
    /// Metrics in order.
    pub metrics: Vec<TypedMetric>,
    /// Most label sets.
    pub max_series: u32,
    /// Most waiting starts.
    pub max_inflight: u32,
    /// The metrics of waiting starts, and how they are computed, if the probe has any.
    pub waiting: Option<Waiting>,
    /// Nanoseconds after which a waiting start is given up.
    pub inflight_timeout_ns: u64,
    /// Whether rows are kept per CPU, if declared.
    pub per_cpu: Option<bool>,
    /// Indexes of the labels of block devices, if only some devices are wanted.
    pub chosen: Vec<usize>,
    /// What is accepted, but is probably not what was meant.
    pub warnings: Vec<Diagnostic>,
}

impl TypedProbe {
    /// Whether the probe measures between two events.
    pub fn is_pair(&self) -> bool {
        self.events.iter().any(|event| event.role.keeps_start())
    }
}

/// The value of a metric at an event.
#[derive(Clone, Debug, PartialEq)]
pub struct TypedValue {
    /// The filter of the metric.
    pub filter: Option<Typed>,
    /// The value that is added or kept.
    pub value: Typed,
}

/// A label.
#[derive(Clone, Debug, PartialEq)]
pub struct TypedLabel {
    /// Its name.
    pub name: String,
    /// Its decoder.
    pub decoder: Decoder,
    /// The type of its value, the same at every event.
    pub ty: Type,
}

/// A metric.
#[derive(Clone, Debug, PartialEq)]
pub struct TypedMetric {
    /// Its name, `tapster_` included.
    pub name: String,
    /// Its help text.
    pub help: String,
    /// Its kind.
    pub kind: TypedMetricKind,
    /// The unit of the raw value.
    pub unit: Unit,
    /// Whether the raw value can be negative.
    pub signed: bool,
}
