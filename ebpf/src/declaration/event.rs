//! Events: their attach points, keys, saved values and walks.

use super::keys;
use crate::{
    attach,
    diagnostic::Spanned,
    expr::Expr,
    glob::is_pattern,
    probe::{Each, Event, Expression},
    reader::Reader,
    yaml::{Data, Node},
};

impl Reader {
    /// Reads an event or a list of events: of `start`, `end` or `between`.
    pub(super) fn events(&mut self, node: Option<&Node>, what: &str) -> Vec<Event> {
        let Some(node) = node else { return Vec::new() };
        let nodes: Vec<&Node> = match &node.data {
            Data::Sequence(items) if items.len() > 8 => {
                self.error(node.span.clone(), format!("more than 8 events in `{what}`"));
                Vec::new()
            }
            Data::Sequence(items) => items.iter().collect(),
            _ => vec![node],
        };
        let mut events = Vec::new();
        for node in nodes {
            if what == "between" {
                events.extend(self.between_event(node));
            } else {
                events.extend(self.event(node, what));
            }
        }
        events
    }

    fn event(&mut self, node: &Node, what: &str) -> Vec<Event> {
        let Some(fields) = self.fields(node, keys::EVENT, &format!("`{what}`")) else { return Vec::new() };
        if what == "end"
            && let Some(save) = fields.get("save")
        {
            self.error_hint(
                save.span.clone(),
                "`save` belongs to `start`",
                "values of the end are read directly",
            );
        }
        if what == "start"
            && let Some(each) = fields.get("each")
        {
            self.error_hint(
                each.span.clone(),
                "`each` belongs to `end`",
                "a start is one event: walk the list where the time ends",
            );
        }
        if fields.lacks("key") {
            self.error_hint(
                fields.span.clone(),
                format!("`{what}` needs `key`"),
                "an expression that is the same at start and end, such as `tid`",
            );
        }
        if what == "end"
            && let Some(first) = fields.get("first")
        {
            let hint = "it is about a second start of the same key";
            self.error_hint(first.span.clone(), "`first` belongs to `start`", hint);
        }
        let key = fields.get("key").map(|node| self.expressions(node, "key")).unwrap_or_default();
        let filter = fields.get("where").and_then(|node| self.expression(node, "where"));
        let saves = fields.get("save").map(|node| self.named_expressions(node, "save")).unwrap_or_default();
        let each = fields.get("each").and_then(|node| self.each(node));
        let first = fields.get("first").and_then(|node| self.boolean(node, "first"));
        let first = first.unwrap_or_else(|| fields.key("first").default_truth());
        let changes = self.changes(&fields);
        self.with_points(&fields, |event| Event {
            key: key.clone(),
            filter: filter.clone(),
            saves: saves.clone(),
            each: each.clone(),
            first,
            changes: changes.clone(),
            ..event
        })
    }

    pub(super) fn named_expressions(
        &mut self,
        node: &Node,
        what: &str,
    ) -> Vec<(Spanned<String>, Expression)> {
        let entries = self.named(node, what);
        entries.into_iter().filter_map(|(name, node)| Some((name, self.expression(node, what)?))).collect()
    }

    pub(super) fn each(&mut self, node: &Node) -> Option<Each> {
        let fields = self.fields(node, keys::EACH, "`each`")?;
        let mut expression = |name: &str| fields.get(name).and_then(|node| self.expression(node, name));
        let (from, next, size, within) =
            (expression("from"), expression("next"), expression("size"), expression("within"));
        if size.is_some() != within.is_some() {
            self.error_hint(fields.span.clone(), "`size` and `within` go together", "give both or none");
        }
        Some(Each {
            name: self.name(fields.get("name")?, "name")?,
            from: from?,
            next: next?,
            limit: self.written(&fields, "limit")?,
            size,
            within,
        })
    }

    /// `function: NAME` or `function: BINARY:NAME` → the events of its entry and its return. The frame of the call joins
    /// them, so that recursive functions are measured correctly.
    pub(super) fn function(
        &mut self,
        node: &Node,
        saves: Vec<(Spanned<String>, Expression)>,
        filter: Option<Expression>,
    ) -> Option<(Event, Event)> {
        let text = self.text(node, "function")?;
        // The first that the kernel takes is used; both ends decide alike.
        let (entries, returns, key): (&[&str], &[&str], &[&str]) = if text.contains(':') {
            (&["uprobe"], &["uretprobe"], &["pid", "frame"])
        } else if is_pattern(&text) {
            (&["kprobe"], &["kretprobe"], &["frame"])
        } else {
            (&["fentry", "kprobe"], &["fexit", "kretprobe"], &["frame"])
        };
        let mut event = |kinds: &[&str], saves, filter| -> Option<Event> {
            let mut at = Vec::new();
            for kind in kinds {
                let Ok(point) = attach::parse(&format!("{kind}:{text}")) else {
                    self.error_hint(
                        node.span.clone(),
                        format!("`{text}` is not a function"),
                        "write the name of a function of the kernel, or BINARY:FUNCTION; `*` and `?` match several",
                    );
                    return None;
                };
                at.push(Spanned::new(point, node.span.clone()));
            }
            let key =
                key.iter().map(|name| Expression { ast: Expr::name(name), node: node.clone() }).collect();
            Some(Event { key, filter, saves, whole: true, ..Event::new(at, node.span.clone()) })
        };
        Some((event(entries, saves, None)?, event(returns, Vec::new(), filter)?))
    }
}
