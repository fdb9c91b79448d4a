//! The error for what a kernel or a file does not have.

/// The reason why an attach point cannot be used, and the remedy.
#[derive(Clone, Debug)]
pub struct Missing {
    /// The reason.
    pub message: String,
    /// The remedy.
    pub hint: Option<String>,
}
