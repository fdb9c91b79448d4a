//! The error for what a kernel or a file does not have.

/// The reason why an attach point cannot be used, and the remedy.
#[derive(Clone, Debug)]
pub struct Missing {
    /// The reason.
    pub message: String,
    /// The remedy.
    pub hint: Option<String>,
}

/// The reason why the address of a symbol of the kernel is not known.
#[derive(Clone, Debug)]
pub struct UnknownSymbol {
    /// The reason, and the remedy.
    pub why: Missing,
    /// Whether that is because the kernel has none of this name, so that `??` takes what stands behind it. It is not where
    /// addresses are hidden.
    pub is_absent: bool,
}

/// An optional event that a kernel or a file does not have, so that its probe runs without it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbsentEvent {
    /// The attach point as written; several alternatives are joined by ` or `.
    pub at: String,
    /// The reason.
    pub why: String,
}

impl std::fmt::Display for AbsentEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` is optional and left out: {}", self.at, self.why)
    }
}
