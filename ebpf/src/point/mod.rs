//! Attach points: a kind and the text after it. Each kind is described in a file of `attach`.

mod kind;
mod mechanism;

pub use kind::{AttachKind, FunctionCount, Subject};
pub use mechanism::{LinkKind, Mechanism, PacketHook, ProgramSection, Tracing};

use crate::glob::is_pattern;
use std::fmt;

/// An attach point of the kernel or of a program, as written: `kprobe:vfs_read`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AttachPoint {
    /// Its kind.
    pub kind: &'static AttachKind,
    /// The root under which its binary is found, if it is in one.
    root: Root,
    /// The text after the kind, split at colons. The kind's own file knows the meaning of each part.
    parts: Vec<String>,
}

/// The root under which a binary is found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Root {
    /// The root of this exporter.
    #[default]
    Host,
    /// The root of a process, by its number.
    Process(u32),
    /// The root of a container, by the beginning of its id, or its name.
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
    /// Makes an attach point from parts that the kind has parsed.
    pub(crate) fn new(kind: &'static AttachKind, parts: Vec<String>) -> Self {
        Self { kind, root: Root::Host, parts }
    }

    /// The parts after the kind.
    pub fn parts(&self) -> &[String] {
        &self.parts
    }

    /// The last part: the name of a tracepoint, function or probe.
    pub fn name(&self) -> &str {
        let Some(name) = self.parts.last() else {
            unreachable!("an attach point has a part behind its kind: this is a bug in tapster")
        };
        name
    }

    /// The part before the name, if there is one: the category of a tracepoint.
    pub fn category(&self) -> Option<&str> {
        self.parts.iter().rev().nth(1).map(String::as_str)
    }

    /// Whether it may match several functions or tracepoints: a pattern, or a name that a program has several times.
    pub fn may_be_several(&self) -> bool {
        match self.kind.several {
            FunctionCount::Never => false,
            FunctionCount::Pattern => self.parts.iter().any(|part| is_pattern(part)),
            FunctionCount::Always => true,
        }
    }

    /// The root and the binary, if it is in one.
    pub fn binary(&self) -> Option<(&Root, &str)> {
        self.kind.is_in_binary().then(|| (&self.root, self.parts[0].as_str()))
    }

    /// Returns the attach point with another root.
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
