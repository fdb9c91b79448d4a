//! Facts about an attach kind that need no kernel.

use super::Mechanism;
use std::{
    fmt,
    hash::{Hash, Hasher},
};

/// An attach kind. Each is described once, in a file of `attach`.
pub struct AttachKind {
    /// Its name, the first word of its attach points.
    pub name: &'static str,
    /// bpftrace's short name for it.
    pub short: &'static str,
    /// The form of its attach points, for messages.
    pub form: &'static str,
    /// The subject of its attach points.
    pub subject: Subject,
    /// Number of functions, or tracepoints, that one attach point may match.
    pub several: FunctionCount,
    /// The mechanisms of its programs.
    pub mechanisms: &'static [Mechanism],
}

/// The subject of the attach points of a kind; two events are compared by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Tracepoints of the kernel, whichever way their arguments are read.
    Tracepoint,
    /// Functions of the kernel.
    Function {
        /// Whether the events are returns.
        at_return: bool,
        /// Whether the function itself calls the program, and not a probe on it: then `frame` is another number.
        traced: bool,
    },
    /// Functions of a program or library.
    UserFunction {
        /// Whether the events are returns.
        at_return: bool,
    },
    /// USDT probes of a program or library.
    UserProbe,
    /// Timers: two of one unit are one event only if they have the same period.
    Timer,
    /// Counters.
    Counter,
    /// Objects that there are.
    Objects,
    /// A subject that no other kind has.
    Own,
}

/// Number of functions, or tracepoints, that an attach point may match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FunctionCount {
    /// None or one.
    Never,
    /// Several, with a pattern.
    Pattern,
    /// Several, also with a name, because a program may have several functions of one name.
    Always,
}

impl AttachKind {
    /// Whether its attach points are in a program or library, whose name is their first part.
    pub fn is_in_binary(&self) -> bool {
        matches!(self.subject, Subject::UserFunction { .. } | Subject::UserProbe)
    }

    /// Whether attaching may need a perf event.
    pub fn may_need_event(&self) -> bool {
        self.mechanisms.iter().any(|mechanism| mechanism.link.may_need_event())
    }
}

impl fmt::Debug for AttachKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for AttachKind {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for AttachKind {}

impl Hash for AttachKind {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}
