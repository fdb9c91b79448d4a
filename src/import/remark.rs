//! What is said of a place of an imported file that the probes do not say as it did.

use std::fmt;
use tapster_ebpf::diagnostic::{SourceFile, Span};

/// Whether something that was measured is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RemarkKind {
    /// Nothing is lost: it is done elsewhere, as printing is, or said in another way.
    Note,
    /// It is not measured, or not in the same way.
    Loss,
}

/// A sentence about a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Whether something is lost.
    pub kind: RemarkKind,
    /// The place in the imported file.
    pub span: Span,
    /// The sentence: lower case, names in backticks, no full stop.
    pub text: String,
}

impl Remark {
    /// A remark about something that needs no counterpart.
    pub(super) fn note(span: Span, text: impl Into<String>) -> Self {
        Self { kind: RemarkKind::Note, span, text: text.into() }
    }

    /// A remark about something that is lost.
    pub(super) fn loss(span: Span, text: impl Into<String>) -> Self {
        Self { kind: RemarkKind::Loss, span, text: text.into() }
    }

    /// The remark as one line for a terminal: file, line, column, sentence.
    pub fn told<'r>(&'r self, file: &'r SourceFile) -> impl fmt::Display + 'r {
        ToldRemark { remark: self, file }
    }

    /// The remark as a comment of the probe file: line and sentence.
    pub(super) fn comment(&self, file: &SourceFile) -> String {
        let (first, _) = file.position(self.span.start);
        let spanned = file.text.get(self.span.clone()).unwrap_or_default().trim_end();
        let (last, _) = file.position(self.span.start + spanned.len().max(1) - 1);
        let lines = if last > first { format!("lines {first}-{last}") } else { format!("line {first}") };
        match self.kind {
            RemarkKind::Note => format!("{lines}: {}", plain(&self.text)),
            RemarkKind::Loss => format!("{lines}, left out: {}", plain(&self.text)),
        }
    }
}

/// A remark on its way to a terminal.
struct ToldRemark<'r> {
    remark: &'r Remark,
    file: &'r SourceFile,
}

impl fmt::Display for ToldRemark<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.file.position(self.remark.span.start);
        let word = match self.remark.kind {
            RemarkKind::Note => "note",
            RemarkKind::Loss => "left out",
        };
        write!(f, "{}:{line}:{column}: {word}: {}", self.file.name, plain(&self.remark.text))
    }
}

/// A text on one line, without what would drive a terminal or end a comment.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
