//! What is known of a kind of attach points without a kernel.

use super::Mechanism;
use std::{
    fmt,
    hash::{Hash, Hasher},
};

/// A kind of attach points. Each is described once, in a file of `attach`.
pub struct AttachKind {
    /// Its name, with which attach points begin.
    pub name: &'static str,
    /// bpftrace's short name for it.
    pub short: &'static str,
    /// The form of its attach points, for messages.
    pub form: &'static str,
    /// What its attach points are.
    pub subject: Subject,
    /// How many functions one may mean.
    pub several: FunctionCount,
    /// The ways in which its programs are attached.
    pub mechanisms: &'static [Mechanism],
}

/// What attach points of a kind are, by which two of them are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Tracepoints of the kernel, however their arguments are read.
    Tracepoint,
    /// Functions of the kernel.
    Function {
        /// Whether at their return.
        at_return: bool,
        /// Whether a program is called by the function itself, and not by a probe on it: `frame` is another number.
        traced: bool,
    },
    /// Functions of a program or library.
    UserFunction {
        /// Whether at their return.
        at_return: bool,
    },
    /// Probes that a program or library brings along.
    UserProbe,
    /// Timers: two of one unit are one event only if they are as often.
    Timer,
    /// Counters.
    Counter,
    /// What no other kind has.
    Own,
}

/// How many functions an attach point may mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FunctionCount {
    /// None, or one.
    Never,
    /// Several with a pattern.
    Pattern,
    /// Several also with a name, which a program may have more than once.
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
