//! Reasons of sleeps: what a sleep in certain functions waits for.

use super::keys;
use crate::{
    diagnostic::Spanned,
    probe::{Reason, ReasonPattern},
    reader::Reader,
    yaml::{Data, Node},
};
use std::collections::{HashMap, hash_map::Entry};

/// Most entries of one file, and most patterns of an entry.
const MAX_REASONS: usize = 1000;
const MAX_PATTERNS: usize = 1000;
/// Label values of stacks without a reason; they cannot be reasons.
const TAKEN: [&str; 2] = ["short", "unknown"];

/// The patterns and texts that were read before.
#[derive(Default)]
struct EarlierReasons {
    /// Line and reason of a pattern, by its priority and whether it is for the innermost function.
    patterns: HashMap<(u32, bool, String), (usize, String)>,
    /// Text of a reason, and its line.
    texts: HashMap<String, (String, usize)>,
}

impl Reader {
    /// Reads `reasons:`. Returns the entries without mistakes, and collects messages about the others.
    pub(super) fn reasons(&mut self, node: &Node) -> Vec<Reason> {
        let items = self.list(node, "reasons");
        if items.len() > MAX_REASONS {
            self.error(node.span.clone(), format!("more than {MAX_REASONS} reasons in one file"));
            return Vec::new();
        }
        let mut told = EarlierReasons::default();
        let mut reasons = Vec::new();
        for item in items {
            let Some(reason) = self.reason(item) else { continue };
            self.told_twice(&mut told, &reason);
            reasons.push(reason);
        }
        reasons
    }

    fn reason(&mut self, node: &Node) -> Option<Reason> {
        let before = self.errors();
        let fields = self.fields(node, keys::REASON, "the reason")?;
        let reason = fields.get("reason").and_then(|node| self.identifier(node));
        let text = fields.get("text").and_then(|node| {
            let text = self.text(node, "text")?;
            if text.trim().is_empty() {
                self.error_hint(
                    node.span.clone(),
                    "the text is empty",
                    "a sentence for people, such as `Waiting for the frame grabber`",
                );
            }
            Some(Spanned::new(text, node.span.clone()))
        });
        let priority = self.number(&fields, "priority");
        let mut patterns = Vec::new();
        for (key, innermost) in [("functions", false), ("innermost", true)] {
            if let Some(node) = fields.get(key) {
                patterns.extend(self.patterns(node, key, innermost));
            }
        }
        if fields.lacks("functions") && fields.lacks("innermost") {
            self.error_hint(
                fields.span.clone(),
                "the reason has no functions",
                "functions: [NAME, NAME*], or innermost: for those that count only if it is they who sleep",
            );
        }
        let reason = Reason { reason: reason?, text, priority, patterns, file: self.file.clone() };
        (self.errors() == before).then_some(reason)
    }

    /// Reads a label value that is a constant.
    fn identifier(&mut self, node: &Node) -> Option<Spanned<String>> {
        let name = self.name(node, "reason")?;
        let lower = |byte: u8| byte == b'_' || byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if !name.value.bytes().all(lower) {
            let message = format!("the reason `{}` is not in lower case", name.value);
            self.error_hint(name.span, message, "it is the value of a label: `frame_grabber`, say");
            return None;
        }
        if TAKEN.contains(&name.value.as_str()) {
            let message = format!("`{}` is what sleeps without a reason are called", name.value);
            self.error_hint(name.span, message, "choose another name");
            return None;
        }
        Some(name)
    }

    fn patterns(&mut self, node: &Node, key: &str, innermost: bool) -> Vec<ReasonPattern> {
        let items = self.list(node, key);
        if items.len() > MAX_PATTERNS {
            self.error(node.span.clone(), format!("more than {MAX_PATTERNS} patterns in `{key}`"));
            return Vec::new();
        }
        if matches!(&node.data, Data::Sequence(items) if items.is_empty()) {
            self.error_hint(
                node.span.clone(),
                format!("`{key}` is empty"),
                "leave it out, or name functions",
            );
        }
        items.into_iter().filter_map(|item| self.pattern(item, key, innermost)).collect()
    }

    fn pattern(&mut self, node: &Node, key: &str, innermost: bool) -> Option<ReasonPattern> {
        let text = self.text(node, key)?;
        let hint = "the name of a function of the kernel, or CALLER;FUNCTION; `*` is any text, `?` one character, `[ab]` one of those";
        let wrong = |byte: u8| !(byte.is_ascii_alphanumeric() || b"_*?[]!-;".contains(&byte));
        if text.split(';').any(str::is_empty) {
            self.error_hint(node.span.clone(), "the pattern is empty", hint);
            return None;
        }
        if let Some(suffix) = text.split_once('.').map(|(_, suffix)| suffix) {
            let message = format!("`{text}` never matches: names are compared without `.{suffix}`");
            self.error_hint(node.span.clone(), message, "leave out what compilers append");
            return None;
        }
        if text.bytes().any(wrong) || text.split(';').count() > 2 {
            self.error_hint(node.span.clone(), format!("`{text}` is no pattern of functions"), hint);
            return None;
        }
        if text.bytes().all(|byte| matches!(byte, b'*' | b'?' | b';')) {
            let message = format!("`{text}` matches every function");
            self.error_hint(node.span.clone(), message, "sleeps without a reason are `unknown` as it is");
            return None;
        }
        Some(ReasonPattern { pattern: Spanned::new(text, node.span.clone()), innermost })
    }

    /// Reports repetitions: a pattern whose first occurrence always wins, or a second text of one reason.
    fn told_twice(&mut self, told: &mut EarlierReasons, reason: &Reason) {
        let name = &reason.reason.value;
        for ReasonPattern { pattern, innermost } in &reason.patterns {
            let line = self.file.position(pattern.span.start).0;
            match told.patterns.entry((reason.priority, *innermost, pattern.value.clone())) {
                Entry::Vacant(place) => drop(place.insert((line, name.clone()))),
                Entry::Occupied(first) => {
                    let (line, of) = first.get();
                    let message = format!("`{}` is in the table twice with this priority", pattern.value);
                    let hint = format!("line {line} has it for `{of}`, and that is what counts");
                    self.error_hint(pattern.span.clone(), message, hint);
                }
            }
        }
        let Some(text) = &reason.text else { return };
        let line = self.file.position(text.span.start).0;
        let (first, line) = told.texts.entry(name.clone()).or_insert_with(|| (text.value.clone(), line));
        if *first != text.value {
            let hint = format!("line {line} has another: write it once");
            self.error_hint(text.span.clone(), format!("`{name}` has two texts"), hint);
        }
    }
}
