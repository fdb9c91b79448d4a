//! `events`: single events with labels and values of their own, all of which feed the metrics of one probe.

use super::{FORMS, event_keys};
use crate::{
    diagnostic::{Spanned, nearest},
    probe::{Event, Expression, Label, Metric, OwnValues},
    reader::{Fields, Reader},
    yaml::{Data, Node},
};

/// Most events of a probe, those of `all_of` counted each.
const MAX_EVENTS: usize = 64;

impl Reader {
    /// Reads `events`.
    pub(super) fn single_events(&mut self, node: &Node) -> Vec<Event> {
        let items = self.list(node, "events");
        if matches!(&node.data, Data::Sequence(items) if items.is_empty()) {
            let hint = "write for example [{ at: \"tracepoint:sched:sched_switch\" }]";
            self.error_hint(node.span.clone(), "`events` has no event", hint);
        }
        let mut events = Vec::new();
        for item in items {
            events.extend(self.single_event(item));
            if events.len() > MAX_EVENTS {
                self.error(node.span.clone(), format!("more than {MAX_EVENTS} events in one probe"));
                break;
            }
        }
        events
    }

    fn single_event(&mut self, node: &Node) -> Vec<Event> {
        let Some(fields) = self.fields(node, event_keys::SINGLE, "an item of `events`") else {
            return Vec::new();
        };
        let mut named = |key: &str| fields.get(key).map(|node| self.named_expressions(node, key));
        let own = OwnValues {
            lets: named("let").unwrap_or_default(),
            labels: named("labels").unwrap_or_default(),
            metrics: named("values"),
        };
        let filter = fields.get("where").and_then(|node| self.expression(node, "where"));
        let each = fields.get("each").and_then(|node| self.each(node));
        let changes = self.changes(&fields);
        self.with_points(&fields, |event| Event {
            filter: filter.clone(),
            each: each.clone(),
            changes: changes.clone(),
            own: own.clone(),
            ..event
        })
    }

    /// Reads the keys that events of all lists have; `finish` adds the others. Gives one event for each attach point of
    /// `all_of`.
    pub(super) fn with_points(&mut self, fields: &Fields<'_>, finish: impl Fn(Event) -> Event) -> Vec<Event> {
        let kernel = fields.get("kernel").and_then(|node| self.kernel(node));
        let optional = fields.get("optional").and_then(|node| self.boolean(node, "optional"));
        let optional = optional.unwrap_or_else(|| fields.key("optional").default_truth());
        let points = fields.get("at").map(|node| self.attach_points(node)).unwrap_or_default();
        let event = |at| Event { kernel: kernel.clone(), optional, ..Event::new(at, fields.span.clone()) };
        points.into_iter().map(|at| finish(event(at))).collect()
    }

    /// Reads an event of `between`.
    pub(super) fn between_event(&mut self, node: &Node) -> Vec<Event> {
        let Some(fields) = self.fields(node, event_keys::BETWEEN, "`between`") else { return Vec::new() };
        if fields.lacks("key") {
            let hint = "what the events have in common, such as `tid`; `key: 0` for the time between any two";
            self.error_hint(fields.span.clone(), "`between` needs `key`", hint);
        }
        let key = fields.get("key").map(|node| self.expressions(node, "key")).unwrap_or_default();
        let filter = fields.get("where").and_then(|node| self.expression(node, "where"));
        let saves = fields.get("save").map(|node| self.named_expressions(node, "save")).unwrap_or_default();
        self.with_points(&fields, |event| Event {
            key: key.clone(),
            filter: filter.clone(),
            saves: saves.clone(),
            ..event
        })
    }

    /// Compares what events give of their own with the labels and metrics of the probe. A label that only events name is
    /// added to those of the probe.
    pub(super) fn own_values(&mut self, events: &[Event], labels: &mut Vec<Label>, metrics: &[Metric]) {
        for (name, _) in events.iter().flat_map(|event| &event.own.labels) {
            if !labels.iter().any(|label| label.name.value == name.value) && self.is_label_name(name) {
                labels.push(Label { name: name.clone(), value: None, decoder: None });
            }
        }
        for event in events {
            for label in labels.iter().filter(|label| label.value.is_none()) {
                if !event.own.labels.iter().any(|(name, _)| name.value == label.name.value) {
                    let message = format!("this event has no value for the label `{}`", label.name.value);
                    let hint =
                        "add it to the `labels` of the event, or give the label of the probe a `value`";
                    self.error_hint(event.span.clone(), message, hint);
                }
            }
            self.own_metrics(event, metrics);
        }
        let feeds = |metric: &Metric| events.iter().any(|event| event.feeds(&metric.name.value));
        for metric in metrics.iter().filter(|metric| !feeds(metric)) {
            let message = format!("no event feeds `{}`", metric.name.value);
            self.error_hint(metric.name.span.clone(), message, "name it in the `values` of an event");
        }
        for metric in metrics.iter().filter(|metric| metric.value.is_none()) {
            let is_given = |event: &Event| event.own_value(&metric.name.value).is_some();
            if let (Some(unit), false) = (&metric.unit, events.iter().any(is_given))
                && unit.value != crate::unit::Unit::One
            {
                let message = format!("`{}` counts events, which have no unit", metric.name.value);
                self.error_hint(unit.span.clone(), message, "leave `unit` out, or give a `value`");
            }
        }
    }

    fn own_metrics(&mut self, event: &Event, metrics: &[Metric]) {
        for (name, _) in event.own.metrics.iter().flatten() {
            let names = || metrics.iter().map(|metric| metric.name.value.as_str());
            if names().any(|known| known == name.value) {
                continue;
            }
            let hint = match nearest(&name.value, names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("it has {}", names().collect::<Vec<_>>().join(", ")),
            };
            let message = format!("the probe has no metric `{}` that events feed", name.value);
            self.error_hint(name.span.clone(), message, hint);
        }
        for metric in metrics.iter().filter(|metric| metric.value.is_none()) {
            let name = &metric.name.value;
            if metric.kind.needs_value() && event.feeds(name) && event.own_value(name).is_none() {
                let message = format!("this event has no value for the {} `{name}`", metric.kind.key());
                let hint = "add it to the `values` of the event, or give the metric a `value`";
                self.error_hint(event.span.clone(), message, hint);
            }
        }
    }

    /// Refuses a `let` of an event that the probe has as well: which of them a label means would be hard to see.
    pub(super) fn own_lets(&mut self, events: &[Event], lets: &[(Spanned<String>, Expression)]) {
        for (name, _) in events.iter().flat_map(|event| &event.own.lets) {
            if lets.iter().any(|(known, _)| known.value == name.value) {
                let message = format!("the `let` of the probe has a `{}` as well", name.value);
                self.error_hint(
                    name.span.clone(),
                    message,
                    "choose another name, or leave out that of the probe",
                );
            }
        }
    }

    /// Refuses forms of a probe beside each other; whether `events` or `between` is the only one.
    pub(super) fn is_only_form(&mut self, fields: &Fields<'_>) -> bool {
        let Some(new) = ["events", "between"].into_iter().find(|key| fields.get(key).is_some()) else {
            return false;
        };
        for other in FORMS.into_iter().filter(|other| *other != new) {
            if let Some(node) = fields.get(other) {
                let message = format!("`{other}` cannot stand beside `{new}`");
                let hint = "a probe has one of `at`, `events`, `function`, `between`, or `start` and `end`";
                self.error_hint(node.span.clone(), message, hint);
                return false;
            }
        }
        for key in ["where", "each"] {
            if let Some(node) = fields.get(key) {
                let message = format!("`{key}` does not stand beside `{new}`");
                let hint = if new == "between" && key == "each" {
                    "the time is measured between events, not between elements of a list"
                } else {
                    "move it into each event"
                };
                self.error_hint(node.span.clone(), message, hint);
            }
        }
        true
    }
}
