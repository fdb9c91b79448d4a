//! What sleeps in functions of the kernel wait for, as a file of probes says it.

use crate::diagnostic::{SourceFile, Spanned};
use std::sync::Arc;

/// What sleeps in certain functions of the kernel wait for. One reason may have several.
#[derive(Clone, Debug, PartialEq)]
pub struct Reason {
    /// The label's value.
    pub reason: Spanned<String>,
    /// The same in a sentence.
    pub text: Option<Spanned<String>>,
    /// 1 to 100; the highest counts.
    pub priority: u32,
    /// The functions.
    pub patterns: Vec<ReasonPattern>,
    /// Where it stands.
    pub file: Arc<SourceFile>,
}

/// Functions of a reason.
#[derive(Clone, Debug, PartialEq)]
pub struct ReasonPattern {
    /// A name, or a pattern of [`crate::glob`]; behind `;`, as stacks are written, where only a certain caller's counts.
    pub pattern: Spanned<String>,
    /// Whether they count only if it is they who sleep.
    pub innermost: bool,
}

impl Reason {
    /// Whether another entry says the same, wherever the two stand.
    pub fn means(&self, other: &Self) -> bool {
        let text = |reason: &Self| reason.text.as_ref().map(|text| text.value.clone());
        let patterns = |reason: &Self| -> Vec<(String, bool)> {
            reason.patterns.iter().map(|pattern| (pattern.pattern.value.clone(), pattern.innermost)).collect()
        };
        self.reason.value == other.reason.value
            && self.priority == other.priority
            && text(self) == text(other)
            && patterns(self) == patterns(other)
    }
}

impl ReasonPattern {
    /// The functions.
    pub fn function(&self) -> &str {
        self.pattern.value.split_once(';').map_or(&self.pattern.value, |(_, function)| function)
    }

    /// Who must have called them, if that matters.
    pub fn caller(&self) -> Option<&str> {
        self.pattern.value.split_once(';').map(|(caller, _)| caller)
    }
}
