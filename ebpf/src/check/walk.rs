//! Probes that walk over objects: they tell what there is, not what happened.

use super::Checker;
use crate::{
    names::FamilyKind,
    typed::{TypedEvent, TypedKind},
};

impl Checker<'_> {
    /// Refuses what has no meaning for objects: times between them, and metrics that never fall.
    pub(super) fn walks(&mut self, events: &[TypedEvent]) {
        let is_walk = |event: &TypedEvent| event.mechanism.link.is_walk();
        let Some(walk) = events.iter().find(|event| is_walk(event)) else { return };
        let at = walk.at.to_string();
        let place = self.probe.name.span.clone();
        if events.iter().any(|event| event.role.keeps_start() || event.role.takes_start()) {
            let message = format!("`{at}` is no event, so nothing begins or ends there");
            self.error(place, message, "write it behind `at`");
            return;
        }
        if !events.iter().all(is_walk) {
            let message = format!("`{at}` is read at a scrape, and the other events happen at any time");
            self.error(place, message, "make them two probes");
            return;
        }
        for (index, label) in self.probe.labels.iter().enumerate() {
            let is_of_program = |event: &TypedEvent| {
                event.labels.get(index).is_some_and(|value| matches!(value.kind, TypedKind::Numbers(_)))
            };
            if events.iter().any(is_of_program) {
                let message = format!("no program runs at `{at}` whose function `usym` could name");
                self.error(label.name.span.clone(), message, "leave `as` out, or use `hex`");
            }
        }
        for metric in self.probe.metrics.iter().filter(|metric| metric.kind.family() != FamilyKind::Gauge) {
            let message = format!("`{}` would fall whenever an object goes", metric.name.value);
            let hint = "objects are counted by a gauge: sum: NAME, or gauge, max";
            self.error(metric.name.span.clone(), message, hint);
        }
    }
}
