//! Attach points behind `at`: one, or several of which a word says what they mean.

use super::{MAX_ALTERNATIVES, event_keys};
use crate::{
    attach,
    diagnostic::{Diagnostic, Spanned},
    probe::AttachPoint,
    reader::Reader,
    yaml::{Data, Node},
};

/// The attach points of an event: the first that the kernel has and takes is used.
pub(super) type Alternatives = Vec<Spanned<AttachPoint>>;

impl Reader {
    /// Reads `at`; one for each event that it stands for.
    pub(super) fn attach_points(&mut self, node: &Node) -> Vec<Alternatives> {
        match &node.data {
            Data::Mapping(_) => self.named_points(node),
            Data::Sequence(items) => {
                // In all other places, a list is all of its items.
                if items.len() > 1 {
                    let message = "a list behind `at` is the first of them that the kernel has, not all";
                    let hint = "write `at: { one_of: […] }` for that, or `all_of` for all";
                    let warning = Diagnostic::warning(&self.file, node.span.clone(), message).hint(hint);
                    self.diagnostics.push(warning);
                }
                vec![self.several_points(node, items)]
            }
            Data::Scalar { .. } => self.point(node).map(|point| vec![point]).into_iter().collect(),
        }
    }

    /// `one_of` or `all_of`.
    fn named_points(&mut self, node: &Node) -> Vec<Alternatives> {
        let Some(fields) = self.fields(node, event_keys::POINTS, "`at`") else { return Vec::new() };
        let mut points = |list: &Node, word: &str| {
            let Data::Sequence(items) = &list.data else {
                let message = format!("`{word}` takes a list of attach points, found {}", list.kind());
                self.error_hint(list.span.clone(), message, "one alone stands behind `at` itself");
                return Vec::new();
            };
            self.several_points(list, items)
        };
        match (fields.get("one_of"), fields.get("all_of")) {
            (Some(list), None) => vec![points(list, "one_of")],
            (None, Some(list)) => points(list, "all_of").into_iter().map(|point| vec![point]).collect(),
            (Some(_), Some(all)) => {
                self.error_hint(
                    all.span.clone(),
                    "`all_of` cannot stand beside `one_of`",
                    "make several events of it, each with its own `at`",
                );
                Vec::new()
            }
            (None, None) => {
                if matches!(&node.data, Data::Mapping(entries) if entries.is_empty()) {
                    let hint = "write `one_of: […]` for the first that the kernel has, `all_of: […]` for all";
                    self.error_hint(node.span.clone(), "`at` names no attach point", hint);
                }
                Vec::new()
            }
        }
    }

    fn several_points(&mut self, list: &Node, items: &[Node]) -> Alternatives {
        if items.is_empty() || items.len() > MAX_ALTERNATIVES {
            let message = format!("`at` has 1 to {MAX_ALTERNATIVES} attach points, found {}", items.len());
            self.error(list.span.clone(), message);
            return Vec::new();
        }
        items.iter().filter_map(|item| self.point(item)).collect()
    }

    fn point(&mut self, node: &Node) -> Option<Spanned<AttachPoint>> {
        let Data::Scalar { text, .. } = &node.data else {
            let message = format!("`at` takes attach points, found {}", node.kind());
            self.error_hint(node.span.clone(), message, "write for example tracepoint:sched:sched_switch");
            return None;
        };
        match attach::parse(text) {
            Ok(point) => Some(Spanned::new(point, node.span.clone())),
            Err((message, hint)) => {
                self.error_hint(node.span.clone(), message, hint);
                None
            }
        }
    }
}
