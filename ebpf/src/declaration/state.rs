//! State: its entries, what events do to it, and whether each entry is both written and read.

use super::keys;
use crate::{
    diagnostic::{Spanned, nearest},
    expr::{self, Expr, ExprKind},
    probe::{
        DeclaredChange, DeclaredEffect, DeclaredState, Event, Expression, Label, Metric, StateScope,
        parse_error,
    },
    reader::{Fields, Reader},
    yaml::{Data, Node},
};

/// Most entries of a probe's state.
const MAX_STATES: usize = 16;
/// Most parts of a key.
const MAX_PARTS_OF_KEY: usize = 8;

/// `NAME[KEY][KEY]` → the name and the parts of the key.
fn target(expr: &Expr) -> Option<(&Expr, &str, Vec<&Expr>)> {
    match &expr.kind {
        ExprKind::Name(name) => Some((expr, name, Vec::new())),
        ExprKind::Index(base, index) => {
            let (place, name, mut key) = target(base)?;
            key.push(index);
            Some((place, name, key))
        }
        _ => None,
    }
}

/// The name in `state.NAME`.
fn read_name(expr: &Expr) -> Option<&str> {
    match &expr.kind {
        ExprKind::Member(base, field) if matches!(&base.kind, ExprKind::Name(name) if name == "state") => {
            Some(&field.name)
        }
        _ => None,
    }
}

impl Reader {
    /// Reads `state`.
    pub(super) fn states(&mut self, node: &Node) -> Vec<DeclaredState> {
        let entries = self.named(node, "state");
        if entries.len() > MAX_STATES {
            self.error(node.span.clone(), format!("more than {MAX_STATES} entries in `state`"));
            return Vec::new();
        }
        entries.into_iter().filter_map(|(name, node)| self.state(name, node)).collect()
    }

    fn state(&mut self, name: Spanned<String>, node: &Node) -> Option<DeclaredState> {
        let what = format!("`{}`", name.value);
        let fields = self.fields(node, keys::STATE, &what)?;
        let default = fields.get("default").and_then(|node| self.expression(node, "default"));
        let max = self.number(&fields, "max");
        let timeout_ns = fields.get("timeout").and_then(|node| self.duration(node, "timeout"));
        let per_node = fields.get("per")?;
        let per = match self.text(per_node, "per")?.as_str() {
            "cpu" => StateScope::Cpu,
            "task" => StateScope::Task,
            "key" => StateScope::Key,
            other => {
                let message = format!("`per` cannot be `{other}`");
                let hint = "use cpu, task or key; a key is written at each event: NAME[KEY]";
                self.error_hint(per_node.span.clone(), message, hint);
                return None;
            }
        };
        if per != StateScope::Key {
            for key in ["max", "timeout"] {
                if let Some(node) = fields.get(key) {
                    let message = format!("`{key}` is about keys, and {what} has none");
                    let hint = "leave it out; what is per task goes with its task";
                    self.error_hint(node.span.clone(), message, hint);
                }
            }
        }
        Some(DeclaredState { name, per, default, max, timeout_ns })
    }

    /// Reads `set`, `add` and `clear` of an event, or beside `at`.
    pub(super) fn changes(&mut self, fields: &Fields<'_>) -> Vec<DeclaredChange> {
        let mut changes = Vec::new();
        for word in ["set", "add"] {
            let Some(node) = fields.get(word) else { continue };
            let Data::Mapping(entries) = &node.data else {
                let message = format!("`{word}` must be a mapping of states, found {}", node.kind());
                self.error_hint(node.span.clone(), message, format!("write {word}: {{ NAME: EXPRESSION }}"));
                continue;
            };
            for (key, value) in entries {
                let (Some((name, key)), Some(value)) = (self.target(key, word), self.expression(value, word))
                else {
                    continue;
                };
                let effect =
                    if word == "set" { DeclaredEffect::Set(value) } else { DeclaredEffect::Add(value) };
                changes.push(DeclaredChange { name, key, effect });
            }
        }
        if let Some(node) = fields.get("clear") {
            let nodes: Vec<&Node> = match &node.data {
                Data::Sequence(items) => items.iter().collect(),
                _ => vec![node],
            };
            for node in nodes {
                if let Some((name, key)) = self.target(node, "clear") {
                    changes.push(DeclaredChange { name, key, effect: DeclaredEffect::Clear });
                }
            }
        }
        changes
    }

    /// `NAME` or `NAME[KEY]`, before the colon of `set` and `add`, or behind `clear`.
    fn target(&mut self, node: &Node, word: &str) -> Option<(Spanned<String>, Vec<Expression>)> {
        let text = self.text(node, word)?;
        let expr = match expr::parse(&text) {
            Ok(expr) => expr,
            Err(error) => {
                self.diagnostics.push(parse_error(&self.file, node, error));
                return None;
            }
        };
        let Some((place, name, key)) = target(&expr) else {
            let message = format!("`{text}` is not a state");
            let hint = "write NAME, or NAME[KEY] for one that is kept by key";
            self.error_hint(node.span.clone(), message, hint);
            return None;
        };
        if key.len() > MAX_PARTS_OF_KEY {
            let message = format!("a key has more than {MAX_PARTS_OF_KEY} parts");
            self.error(node.span.clone(), message);
            return None;
        }
        let span = node.part(&self.file, place.span.clone());
        let part = |part: &Expr| Expression { ast: part.clone(), node: node.clone() };
        Some((Spanned::new(name.to_owned(), span), key.into_iter().map(part).collect()))
    }

    /// Reads `note`.
    pub(super) fn notes(&mut self, node: &Node) -> Vec<Event> {
        let nodes: Vec<&Node> = match &node.data {
            Data::Sequence(items) if items.len() > 8 => {
                self.error(node.span.clone(), "more than 8 events in `note`");
                Vec::new()
            }
            Data::Sequence(items) => items.iter().collect(),
            _ => vec![node],
        };
        nodes.into_iter().flat_map(|node| self.note(node)).collect()
    }

    fn note(&mut self, node: &Node) -> Vec<Event> {
        let before = self.errors();
        let Some(fields) = self.fields(node, keys::NOTE, "`note`") else { return Vec::new() };
        let filter = fields.get("where").and_then(|node| self.expression(node, "where"));
        let changes = self.changes(&fields);
        let events = self.with_points(&fields, |event| Event {
            filter: filter.clone(),
            changes: changes.clone(),
            ..event
        });
        if changes.is_empty() && self.errors() == before {
            self.error_hint(
                fields.span.clone(),
                "the event of `note` changes nothing",
                "add `set`, `add` or `clear`",
            );
        }
        events
    }

    /// Refuses state that is written or read without the other, whose keys nothing removes, and changes that do not fit it.
    /// `before` is the number of errors before the probe.
    pub(super) fn state_is_used(
        &mut self,
        states: &[DeclaredState],
        events: &[&Event],
        lets: &[(Spanned<String>, Expression)],
        (labels, metrics): (&[Label], &[Metric]),
        before: usize,
    ) {
        let is_wrong = self.errors() > before;
        for event in events {
            for change in &event.changes {
                self.change_fits(change, event, states, is_wrong);
            }
        }
        // What is wrong elsewhere may be what would write or read it.
        if self.errors() > before {
            return;
        }
        let mut expressions: Vec<&Expression> = events.iter().flat_map(|event| event.expressions()).collect();
        expressions.extend(lets.iter().map(|(_, value)| value));
        expressions.extend(labels.iter().filter_map(|label| label.value.as_ref()));
        expressions.extend(metrics.iter().flat_map(|metric| metric.value.iter().chain(&metric.filter)));
        for state in states {
            let name = &state.name;
            let mut effects = events
                .iter()
                .flat_map(|event| &event.changes)
                .filter(|change| change.name.value == name.value)
                .map(|change| &change.effect)
                .peekable();
            let is_written = effects.peek().is_some();
            let is_cleared = effects.any(|effect| matches!(effect, DeclaredEffect::Clear));
            let is_read = expressions
                .iter()
                .any(|expression| expression.ast.any(&|part| read_name(part) == Some(&name.value)));
            if !is_written {
                let message = format!("no event writes `{}`", name.value);
                let hint = format!(
                    "write set: {{ {}: EXPRESSION }} at an event of `note`, or at another",
                    name.value
                );
                self.error_hint(name.span.clone(), message, hint);
            } else if !is_read {
                let message = format!("nothing reads `{}`", name.value);
                let hint = format!("read it as state.{}, or leave it out", name.value);
                self.error_hint(name.span.clone(), message, hint);
            } else if state.per == StateScope::Key && !is_cleared && state.timeout_ns.is_none() {
                let message = format!("nothing gives up the keys of `{}`", name.value);
                let hint = "let an event `clear` them, or write a `timeout`, such as 10m";
                self.error_hint(name.span.clone(), message, hint);
            }
        }
    }

    fn change_fits(
        &mut self,
        change: &DeclaredChange,
        event: &Event,
        states: &[DeclaredState],
        is_wrong: bool,
    ) {
        let DeclaredChange { name, key, effect } = change;
        let Some(state) = states.iter().find(|state| state.name.value == name.value) else {
            // It may be one whose own mistake was told.
            if is_wrong {
                return;
            }
            let hint = nearest(&name.value, states.iter().map(|state| state.name.value.as_str()))
                .map_or_else(
                    || format!("declare it: state: {{ {}: {{ per: cpu }} }}", name.value),
                    |near| format!("did you mean `{near}`?"),
                );
            self.error_hint(name.span.clone(), format!("there is no state `{}`", name.value), hint);
            return;
        };
        if event.each.is_some() {
            let message = format!("`{}` does not go with `each`", effect.word());
            let hint = "give the change an event of `note` at the same attach point";
            self.error_hint(name.span.clone(), message, hint);
            return;
        }
        let place = key
            .first()
            .map_or_else(|| name.span.clone(), |part| part.place(&self.file, part.ast.span.clone()));
        match (state.per, key.is_empty()) {
            (StateScope::Key, true) => {
                let message = format!("`{}` is kept by key", name.value);
                self.error_hint(place, message, format!("write {}[KEY]", name.value));
            }
            (StateScope::Cpu | StateScope::Task, false) => {
                let per = if state.per == StateScope::Cpu { "processor" } else { "task" };
                let message = format!("`{}` is kept per {per} and has no key", name.value);
                let hint = format!("write {} alone, or declare it with per: key", name.value);
                self.error_hint(place, message, hint);
            }
            _ => {}
        }
    }
}
