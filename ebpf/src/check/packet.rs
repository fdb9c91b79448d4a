//! Events that are packets: no task is theirs.

use super::Checker;
use crate::{
    point::PacketHook,
    probe::StateScope,
    typed::{TypedEvent, TypedKind},
};

impl Checker<'_> {
    /// Refuses two programs where there is room for one, and state of the task that runs where a packet is seen. Names of it are
    /// refused where they are used.
    pub(super) fn packets(&mut self, events: &[TypedEvent]) {
        let at_xdp = |event: &&TypedEvent| event.mechanism.link.packets() == Some(PacketHook::Xdp);
        let xdp: Vec<&TypedEvent> = events.iter().filter(at_xdp).collect();
        let twice = |(index, event): &(usize, &&TypedEvent)| {
            xdp[..*index].iter().any(|earlier| earlier.at == event.at)
        };
        if let Some((_, event)) = xdp.iter().enumerate().find(twice) {
            let message = format!("two events are at `{}`, and there is room for one XDP program", event.at);
            let hint = format!(
                "make them one event, with `where` at its metrics; or see packets at `tc:{}:ingress`",
                event.at.name()
            );
            self.error(self.probe.name.span.clone(), message, hint);
            return;
        }
        for event in events.iter().filter(|event| event.mechanism.link.packets().is_some()) {
            let is_used = |index: usize| {
                event.changes.iter().any(|change| change.state == index)
                    || event.computes(
                        &|part| matches!(part.kind, TypedKind::State { state, .. } if state == index),
                    )
            };
            let used = self
                .probe
                .states
                .iter()
                .enumerate()
                .find(|(index, state)| state.per == StateScope::Task && is_used(*index));
            if let Some((_, state)) = used {
                let message = format!(
                    "`{}` is kept per task, and a packet at `{}` is of none",
                    state.name.value, event.at
                );
                let place = state.name.span.clone();
                self.error(place, message, "keep it `per: cpu` or `per: key`, for example by an address");
                return;
            }
        }
    }
}
