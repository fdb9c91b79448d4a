//! Reasons of sleeps, as a file of probes declares them.

use crate::diagnostic::{SourceFile, Spanned};
use std::sync::Arc;

/// What sleeps in certain functions of the kernel wait for. One reason may have several entries.
#[derive(Clone, Debug, PartialEq)]
pub struct Reason {
    /// The label's value.
    pub reason: Spanned<String>,
    /// A sentence about it.
    pub text: Option<Spanned<String>>,
    /// 1 to 100; the highest priority wins.
    pub priority: u32,
    /// The functions.
    pub patterns: Vec<ReasonPattern>,
    /// Its place.
    pub file: Arc<SourceFile>,
}

/// A pattern of functions of a reason.
#[derive(Clone, Debug, PartialEq)]
pub struct ReasonPattern {
    /// A name, or a pattern of [`crate::glob`]. After `;`, as stacks are written, if only calls by a certain caller count.
    pub pattern: Spanned<String>,
    /// Whether only the innermost function, which sleeps, is compared.
    pub innermost: bool,
}

impl Reason {
    /// Whether another entry has the same contents, wherever the two are.
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
    /// The name or pattern of the functions.
    pub fn function(&self) -> &str {
        self.pattern.value.split_once(';').map_or(&self.pattern.value, |(_, function)| function)
    }

    /// The name or pattern of their caller, if it is given.
    pub fn caller(&self) -> Option<&str> {
        self.pattern.value.split_once(';').map(|(caller, _)| caller)
    }
}
