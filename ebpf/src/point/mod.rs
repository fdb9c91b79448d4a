//! Where programs attach: a kind, and what stands behind it. What the kinds are is said by `attach`, one file for each.

mod kind;
mod mechanism;

pub use kind::{AttachKind, FunctionCount, Subject};
pub use mechanism::{LinkKind, Mechanism, ProgramSection, Tracing};

use crate::glob::is_pattern;
use std::fmt;

/// A point of the kernel or of a program that a program attaches to, as it was written: `kprobe:vfs_read`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AttachPoint {
    /// Its kind.
    pub kind: &'static AttachKind,
    /// Where its binary is looked for, if it is in one.
    root: Root,
    /// What stands behind the kind, between colons. The kind's own file knows what each part is.
    parts: Vec<String>,
}

/// Whose files a binary is looked for among.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Root {
    /// Those that this exporter sees.
    #[default]
    Host,
    /// Those that a process sees, by its number.
    Process(u32),
    /// Those of a container, by the beginning of its id, or its name.
    Container(String),
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("this host"),
            Self::Process(pid) => write!(f, "process {pid}"),
            Self::Container(name) => write!(f, "container `{name}`"),
        }
    }
}

impl AttachPoint {
    /// A point whose parts the kind has read.
    pub(crate) fn new(kind: &'static AttachKind, parts: Vec<String>) -> Self {
        Self { kind, root: Root::Host, parts }
    }

    /// What stands behind the kind, between colons.
    pub fn parts(&self) -> &[String] {
        &self.parts
    }

    /// The last part, which is the name of a tracepoint, function or probe.
    pub fn name(&self) -> &str {
        let Some(name) = self.parts.last() else {
            unreachable!("an attach point has a part behind its kind: this is a bug in tapster")
        };
        name
    }

    /// What stands before the name, if anything does: the category of a tracepoint.
    pub fn category(&self) -> Option<&str> {
        self.parts.iter().rev().nth(1).map(String::as_str)
    }

    /// Whether it may be several functions: a pattern, or a name that a program has more than once.
    pub fn may_be_several(&self) -> bool {
        match self.kind.several {
            FunctionCount::Never => false,
            FunctionCount::Pattern => is_pattern(self.name()),
            FunctionCount::Always => true,
        }
    }

    /// Where its binary is looked for, and the binary, if it is in one.
    pub fn binary(&self) -> Option<(&Root, &str)> {
        self.kind.is_in_binary().then(|| (&self.root, self.parts[0].as_str()))
    }

    /// The same with its binary looked for elsewhere.
    #[must_use]
    pub fn within(mut self, wanted: &Root) -> Self {
        if self.kind.is_in_binary() {
            self.root.clone_from(wanted);
        }
        self
    }
}

impl fmt::Display for AttachPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.name, self.parts.join(":"))
    }
}
