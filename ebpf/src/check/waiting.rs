//! Finds the labels that are known of a start that waits for its end.

use super::Checker;
use crate::{
    probe::Probe,
    typed::{
        Builtin, KnownLabel, Role, Type, Typed, TypedEvent, TypedKind, TypedLabel, UnaryOperator, Waiting,
        WaitingMetric,
    },
};
use std::collections::HashMap;

/// An end, from the point of view of a start.
struct KnownEnd<'e> {
    end: &'e TypedEvent,
    /// Number of saved values.
    saved: usize,
    /// `let` values by number: their index among the values of a start, if they are known.
    lets: HashMap<usize, Option<usize>>,
    shared: Vec<Typed>,
}

impl KnownEnd<'_> {
    /// Rewrites an expression so that it uses only the contents of an entry; `None` if that is impossible.
    fn tell(&mut self, typed: &Typed) -> Option<Typed> {
        let with = |kind| Some(Typed { kind, ..typed.clone() });
        if let Some(part) = self.end.key.iter().position(|part| part.kind == typed.kind) {
            return with(TypedKind::Saved(self.saved + part));
        }
        match &typed.kind {
            TypedKind::Constant(_) | TypedKind::Text(_) | TypedKind::Saved(_) => Some(typed.clone()),
            TypedKind::Function(Some(number)) => with(TypedKind::Constant(u64::from(*number))),
            TypedKind::Let(index) => {
                let known = match self.lets.get(index) {
                    Some(known) => *known,
                    None => {
                        let value = self.end.lets.get(*index).cloned().and_then(|value| self.tell(&value));
                        let place = value.map(|value| {
                            self.shared.push(value);
                            self.saved + self.end.key.len() + self.shared.len() - 1
                        });
                        self.lets.insert(*index, place);
                        place
                    }
                };
                with(TypedKind::Saved(known?))
            }
            TypedKind::Unary(operator, a) if *operator != UnaryOperator::Deref => {
                with(TypedKind::Unary(*operator, Box::new(self.tell(a)?)))
            }
            TypedKind::Cast(a) => with(TypedKind::Cast(Box::new(self.tell(a)?))),
            TypedKind::Swap(a) => with(TypedKind::Swap(Box::new(self.tell(a)?))),
            TypedKind::Number(a) => with(TypedKind::Number(Box::new(self.tell(a)?))),
            TypedKind::Binary(operator, a, b) => {
                with(TypedKind::Binary(*operator, Box::new(self.tell(a)?), Box::new(self.tell(b)?)))
            }
            TypedKind::Extreme(operator, a, b) => {
                with(TypedKind::Extreme(*operator, Box::new(self.tell(a)?), Box::new(self.tell(b)?)))
            }
            TypedKind::Conditional(c, a, b) => {
                let [c, a, b] = [self.tell(c)?, self.tell(a)?, self.tell(b)?].map(Box::new);
                with(TypedKind::Conditional(c, a, b))
            }
            _ => None,
        }
    }
}

impl Checker<'_> {
    /// The waiting metrics of a probe. A label is left out unless every start determines it, in the same way for all ends.
    pub(super) fn waiting(
        &self,
        events: &[TypedEvent],
        labels: &[TypedLabel],
        key: &[Type],
    ) -> Option<Waiting> {
        let Probe { waiting, inflight_timeout_ns, .. } = self.probe;
        if waiting.is_empty() {
            return None;
        }
        let saved = self.saved.len();
        let told = |end: &TypedEvent| {
            let mut told = KnownEnd { end, saved, lets: HashMap::new(), shared: Vec::new() };
            let labels: Vec<Option<Typed>> = end.labels.iter().map(|label| told.tell(label)).collect();
            (labels, told.shared)
        };
        let mut ends = events.iter().filter(|event| event.role == Role::End).map(told);
        let (mut known, shared) = ends.next()?;
        for (other, others) in ends {
            for (label, other) in known.iter_mut().zip(other) {
                // By its number, what is shared is the same only if all of it is.
                let is_own =
                    |typed: &Typed| matches!(typed.kind, TypedKind::Saved(n) if n >= saved + key.len());
                let same = *label == other
                    && (shared == others || label.as_ref().is_none_or(|label| !label.any(&is_own)));
                if !same {
                    *label = None;
                }
            }
        }
        let starts = || events.iter().filter(|event| event.role == Role::Start);
        let is_task = |typed: &Typed| matches!(typed.kind, TypedKind::Builtin(Builtin::Pid | Builtin::Tid));
        let task =
            (0..key.len()).find(|part| starts().all(|start| start.key.get(*part).is_some_and(is_task)));
        let metrics = waiting.iter().map(|metric| WaitingMetric {
            name: format!("tapster_{}", metric.name.value),
            help: metric.help.clone(),
            kind: metric.kind,
        });
        let of_label = |(place, (value, label)): (usize, (Option<Typed>, &TypedLabel))| {
            let fits = |value: &Typed| value.ty.room() <= label.ty.room();
            Some(KnownLabel { place, value: value.filter(fits)?, ty: label.ty.clone() })
        };
        Some(Waiting {
            metrics: metrics.collect(),
            labels: known.into_iter().zip(labels).enumerate().filter_map(of_label).collect(),
            values: self.saved.iter().map(|kept| kept.ty.clone()).chain(key.iter().cloned()).collect(),
            shared,
            task,
            keeps: inflight_timeout_ns.is_none(),
        })
    }
}
