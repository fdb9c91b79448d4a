//! A probe with its meaning: every name resolved, every value with a type, every load with an offset.
//!
//! Integers are computed in 64 bits. Those narrower than that are widened with their value kept, so
//! `a - b` of two `u32` is what it is on paper; only where an operand is a `u64` is the operation
//! unsigned. Casts cut.

mod waiting;

pub use crate::stack::{LOST_STACK, NO_STACK, Side};
pub use waiting::{KnownLabel, Waiting, WaitingMetric};

use crate::{
    btf::TypeId,
    point::{AttachPoint, Mechanism},
    probe::Decoder,
    site::Sites,
    unit::Unit,
    usdt,
};
use std::collections::BTreeSet;

/// Type of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// An integer of so many bits that was loaded or computed; in a register it has 64.
    Int {
        /// 8, 16, 32 or 64.
        bits: u8,
        /// Whether it can be negative.
        signed: bool,
    },
    /// An address.
    Pointer {
        /// What it points to, without qualifiers; 0 for `void`.
        to: TypeId,
        /// How memory behind it is read.
        access: AccessMode,
    },
    /// Bytes up to a NUL, at most so many with it.
    Text {
        /// Size of its buffer, a multiple of 8.
        capacity: u32,
    },
    /// So many bytes, whatever they are: an address of IPv6, a UUID. In a key zeros follow up to a whole word.
    Bytes {
        /// How many.
        size: u32,
    },
    /// A stack, by the number under which it is kept: its hash, [`NO_STACK`] or [`LOST_STACK`].
    Stack {
        /// Whose.
        side: Side,
        /// Most frames of it that are shown.
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

    /// A text that takes so many bytes, its NUL included: room is given in words.
    pub fn text(bytes: u32) -> Self {
        Self::Text { capacity: bytes.max(2).next_multiple_of(8) }
    }

    /// Whether a value of it lies in memory, and not in a register.
    pub fn is_wide(&self) -> bool {
        matches!(self, Self::Text { .. } | Self::Bytes { .. })
    }

    /// Bytes that a value of it takes in a key or on the stack: whole words.
    pub fn room(&self) -> u32 {
        match self {
            Self::Text { capacity } => *capacity,
            Self::Bytes { size } => size.next_multiple_of(8),
            Self::Int { .. } | Self::Pointer { .. } | Self::Stack { .. } => 8,
        }
    }

    /// The integer of so many bytes; `None` unless they are 1, 2, 4 or 8.
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

    /// Of two stacks of one side, one that holds either.
    pub fn longer_stack(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Stack { side, frames }, Self::Stack { side: same, frames: others }) if side == same => {
                Some(Self::Stack { side: *side, frames: *frames.max(others) })
            }
            _ => None,
        }
    }

    /// Whether arithmetic with it is unsigned.
    pub fn is_unsigned(&self) -> bool {
        matches!(self, Self::Int { bits: 64, signed: false } | Self::Pointer { .. })
    }

    /// Whether a value of it can be negative.
    pub fn is_signed(&self) -> bool {
        matches!(self, Self::Int { signed: true, .. })
    }
}

/// How memory behind a pointer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessMode {
    /// By load instructions: the verifier knows the pointer's type (`tp_btf`, 5.5).
    Direct,
    /// By `bpf_probe_read_kernel`.
    Kernel,
    /// Kernel or user memory, told apart by the address.
    Auto,
}

/// A value that helpers or registers give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builtin {
    /// Process id (thread group).
    Pid,
    /// Thread id.
    Tid,
    /// User id.
    Uid,
    /// Group id.
    Gid,
    /// Number of the CPU.
    Cpu,
    /// Monotonic clock, nanoseconds.
    Nsecs,
    /// Cgroup v2 id of the current task.
    Cgroup,
    /// Address of the current `task_struct`.
    Task,
}

pub use crate::metric::TypedMetricKind;

/// An arithmetic or logical operation with its signedness decided.
pub use crate::expr::{Binary, Unary};

/// An expression with its type.
#[derive(Clone, Debug, PartialEq)]
pub struct Typed {
    /// What it is.
    pub kind: Node,
    /// Type of the result.
    pub ty: Type,
    /// Whether it is a time in nanoseconds by itself.
    pub is_time: bool,
}

/// What a typed expression is.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// A constant.
    Constant(u64),
    /// A constant text.
    Text(Vec<u8>),
    /// From a helper.
    Builtin(Builtin),
    /// Name of the current task, 16 bytes.
    Comm,
    /// Takes a stack and keeps it; the value is its number.
    Stack {
        /// Whose.
        side: Side,
        /// Most frames, innermost first.
        frames: u32,
        /// Another task's, by a pointer that the verifier knows; the current one's without.
        task: Option<Box<Typed>>,
    },
    /// Time between start and end.
    Duration,
    /// Value kept at start, by its number.
    Saved(usize),
    /// Named expression of this event, by its number.
    Let(usize),
    /// The element of `each`.
    Item,
    /// The address of the context, which the verifier does not take for a number.
    Context,
    /// Number of the function that the event is of: known where it is the only one, else it comes with attaching
    /// the program (5.15), or is written into one program for each.
    Function(Option<u32>),
    /// The 64-bit word at an offset of the context.
    Argument(u32),
    /// A field of the context.
    Field {
        /// Byte offset.
        offset: u32,
        /// 1, 2, 4 or 8.
        size: u32,
    },
    /// A number or pointer in memory.
    Load {
        /// The address.
        base: Box<Typed>,
        /// Bytes added to it.
        offset: i32,
        /// 1, 2, 4 or 8.
        size: u32,
        /// How it is read.
        access: AccessMode,
        /// Distance from the right and width, for a bitfield.
        bits: Option<(u32, u32)>,
    },
    /// `-a`, `~a`, `!a`
    Unary(Unary, Box<Typed>),
    /// `a + b`; unsigned if either operand is.
    Binary(Binary, Box<Typed>, Box<Typed>),
    /// The smaller of two with [`Binary::Le`], the larger with [`Binary::Ge`]; compared unsigned if either operand is.
    Extreme(Binary, Box<Typed>, Box<Typed>),
    /// `c ? a : b`
    Conditional(Box<Typed>, Box<Typed>, Box<Typed>),
    /// Cut to the type's bits and extended by its sign.
    Cast(Box<Typed>),
    /// Address of a type that the verifier tracks, as a plain number.
    Number(Box<Typed>),
    /// Whether the process of this number is the command's, 1 or 0.
    Traced(Box<Typed>),
    /// The beginning of a text.
    Cut {
        /// The whole.
        text: Box<Typed>,
        /// Most bytes of it, without the NUL.
        most: u32,
    },
    /// Text at an address.
    TextAt {
        /// The address.
        base: Box<Typed>,
        /// Bytes added to it.
        offset: i32,
        /// Which memory.
        access: AccessMode,
        /// Bytes that may be read; less than the capacity for arrays.
        limit: u32,
    },
    /// Bytes at an address.
    BytesAt {
        /// The address.
        base: Box<Typed>,
        /// Bytes added to it.
        offset: i32,
        /// Which memory.
        access: AccessMode,
        /// How many are read.
        size: u32,
    },
    /// Text inside the context.
    TextField {
        /// Byte offset.
        offset: u32,
        /// Size of the field.
        size: u32,
    },
    /// Text inside the context, whose offset and length stand at `offset` (`__data_loc`).
    TextLocated {
        /// Byte offset of that word.
        offset: u32,
        /// Whether the text's offset counts from behind the word (`__rel_loc`, 5.16).
        relative: bool,
    },
}

impl Typed {
    /// A constant of type `s64`, or `u64` where it needs that.
    pub fn constant(value: u64) -> Self {
        let ty = if i64::try_from(value).is_ok() { Type::S64 } else { Type::U64 };
        Self::new(Node::Constant(value), ty)
    }

    /// Joins a node and its type.
    pub fn new(kind: Node, ty: Type) -> Self {
        Self { kind, ty, is_time: false }
    }

    /// The operands.
    pub fn children(&self) -> Vec<&Self> {
        match &self.kind {
            Node::Load { base, .. }
            | Node::TextAt { base, .. }
            | Node::BytesAt { base, .. }
            | Node::Cut { text: base, .. } => vec![base],
            Node::Unary(_, a) | Node::Cast(a) | Node::Number(a) | Node::Traced(a) => vec![a],
            Node::Binary(_, a, b) | Node::Extreme(_, a, b) => vec![a, b],
            Node::Conditional(c, a, b) => vec![c, a, b],
            Node::Stack { task: Some(task), .. } => vec![task],
            _ => Vec::new(),
        }
    }

    /// Whether `found` holds for this or any operand.
    pub fn any(&self, found: &impl Fn(&Self) -> bool) -> bool {
        found(self) || self.children().into_iter().any(|child| child.any(found))
    }

    /// Whether a stack is taken in it.
    pub fn takes_stack(&self) -> bool {
        self.any(&|typed| matches!(typed.kind, Node::Stack { .. }))
    }

    /// Numbers of the named expressions that it names itself, each once.
    pub fn names(&self) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut waiting = vec![self];
        while let Some(typed) = waiting.pop() {
            if let Node::Let(index) = typed.kind {
                found.insert(index);
            }
            waiting.extend(typed.children());
        }
        found
    }

    /// Whether `found` holds for any part of this, or of a named expression that it needs. Each of those is looked at once,
    /// however often it is named.
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

    /// Whether it needs the start of a pair.
    pub fn needs_start(&self, lets: &[Self]) -> bool {
        self.any_of_all(lets, &|typed| matches!(typed.kind, Node::Duration | Node::Saved(_)))
    }

    /// Whether it needs the element of `each`.
    pub fn needs_item(&self, lets: &[Self]) -> bool {
        self.any_of_all(lets, &|typed| typed.kind == Node::Item)
    }
}

/// Whether an operation works on unsigned numbers.
pub(crate) fn unsigned_operation(operator: Binary, left: &Typed, right: &Typed) -> bool {
    let shifts = matches!(operator, Binary::Shl | Binary::Shr);
    left.ty.is_unsigned() || !shifts && right.ty.is_unsigned()
}

/// A probe ready to be lowered.
#[derive(Clone, Debug, PartialEq)]
pub struct TypedProbe {
    /// Its name.
    pub name: String,
    /// What it measures.
    pub help: String,
    /// Programs to make, starts first.
    pub events: Vec<TypedEvent>,
    /// Parts of the start key; empty for a probe of single events.
    pub key: Vec<Type>,
    /// Values kept from the start.
    pub saved: Vec<(String, Type)>,
    /// Labels in order.
    pub labels: Vec<TypedLabel>,
    /// Metrics in order.
    pub metrics: Vec<TypedMetric>,
    /// Most label sets.
    pub max_series: u32,
    /// Most waiting starts.
    pub max_inflight: u32,
    /// What is told of starts that wait, if anything is.
    pub waiting: Option<Waiting>,
    /// When a waiting start is given up.
    pub inflight_timeout_ns: u64,
    /// Whether rows are kept per CPU, where it was said.
    pub per_cpu: Option<bool>,
    /// Indexes of the labels of block devices, if only some devices are wanted.
    pub chosen: Vec<usize>,
}

impl TypedProbe {
    /// Whether it measures between two events.
    pub fn is_pair(&self) -> bool {
        self.events.iter().any(|event| event.role == Role::Start)
    }
}

/// What an event does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Keeps the time.
    Start,
    /// Takes the time and counts.
    End,
    /// Counts.
    Single,
}

/// One program's worth of a probe.
#[derive(Clone, Debug, PartialEq)]
pub struct TypedEvent {
    /// What it does.
    pub role: Role,
    /// The alternative that this kernel has.
    pub at: AttachPoint,
    /// How it is attached.
    pub mechanism: Mechanism,
    /// The functions that it is attached to; empty for events that are none's.
    pub sites: Sites,
    /// Places that pass the probe of a program.
    pub usdt: Option<usdt::Sites>,
    /// Named expressions that this event uses.
    pub lets: Vec<Typed>,
    /// Values that join start and end.
    pub key: Vec<Typed>,
    /// Conditions that need no start: an event that fails one is not this probe's.
    pub filters: Vec<Typed>,
    /// Conditions on start and duration: the start is taken, but nothing counted.
    pub late_filters: Vec<Typed>,
    /// Values to keep, at a start.
    pub saves: Vec<Typed>,
    /// The list to walk.
    pub each: Option<TypedEach>,
    /// One value for each label, at an end.
    pub labels: Vec<Typed>,
    /// One for each metric, at an end.
    pub metrics: Vec<TypedValue>,
}

impl TypedEvent {
    /// Its expressions without the named ones. A new field does not compile until it is sorted in here.
    pub(crate) fn expressions(&self) -> impl Iterator<Item = &Typed> {
        let Self {
            role: _,
            at: _,
            mechanism: _,
            sites: _,
            usdt: _,
            lets: _,
            key,
            filters,
            late_filters,
            saves,
            each,
            labels,
            metrics,
        } = self;
        let each = each.iter().flat_map(|TypedEach { from, next, limit: _, budget }| {
            let budget = budget.iter().flat_map(|(size, within)| [size, within]);
            [from, next].into_iter().chain(budget)
        });
        let metrics =
            metrics.iter().flat_map(|TypedValue { filter, value }| std::iter::once(value).chain(filter));
        key.iter().chain(filters).chain(late_filters).chain(saves).chain(labels).chain(metrics).chain(each)
    }

    /// All that its program computes: its expressions, and the named ones that these need.
    pub fn values(&self) -> Vec<&Typed> {
        let mut found: Vec<&Typed> = self.expressions().collect();
        let mut seen = BTreeSet::new();
        let mut index = 0;
        while let Some(value) = found.get(index) {
            let needed = value.names();
            found.extend(needed.into_iter().filter(|let_| seen.insert(*let_)).map(|let_| &self.lets[let_]));
            index += 1;
        }
        found
    }

    /// Whether `found` holds for anything that its program computes.
    pub fn computes(&self, found: &impl Fn(&Typed) -> bool) -> bool {
        self.values().into_iter().any(|value| value.any(found))
    }

    /// Whether anything of it depends on whose a process is.
    pub fn asks_for_traced(&self) -> bool {
        self.computes(&|typed| matches!(typed.kind, Node::Traced(_)))
    }
}

/// A metric's value at one event.
#[derive(Clone, Debug, PartialEq)]
pub struct TypedValue {
    /// Whether this event counts for the metric.
    pub filter: Option<Typed>,
    /// What is added or kept.
    pub value: Typed,
}

/// A list walk.
#[derive(Clone, Debug, PartialEq)]
pub struct TypedEach {
    /// First element.
    pub from: Typed,
    /// Next element.
    pub next: Typed,
    /// Most elements.
    pub limit: u32,
    /// Size of an element, and the budget it is taken from.
    pub budget: Option<(Typed, Typed)>,
}

/// A label.
#[derive(Clone, Debug, PartialEq)]
pub struct TypedLabel {
    /// Its name.
    pub name: String,
    /// How its value becomes text.
    pub decoder: Decoder,
    /// Type of its value at every event.
    pub ty: Type,
}

/// A metric.
#[derive(Clone, Debug, PartialEq)]
pub struct TypedMetric {
    /// Its name, `tapster_` included.
    pub name: String,
    /// Its help text.
    pub help: String,
    /// What is kept.
    pub kind: TypedMetricKind,
    /// What one of the raw value is.
    pub unit: Unit,
    /// Whether the raw value can be negative.
    pub signed: bool,
}
