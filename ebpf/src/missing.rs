//! Something that a kernel or a file does not have.

/// Why an attach point cannot be used: a sentence and what to do.
#[derive(Clone, Debug)]
pub struct Missing {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}
