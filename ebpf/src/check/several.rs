//! Events of a list: those that are optional, and those between which times are measured.

use super::Checker;
use crate::{
    diagnostic::{Diagnostic, Spanned},
    missing::AbsentEvent,
    probe::{Event, Expression},
    typed::Role,
};
use std::borrow::Cow;

impl Event {
    /// The named expressions that it can use: its own, then those of the probe.
    pub(super) fn lets<'p>(
        &self,
        of_probe: &'p [(Spanned<String>, Expression)],
    ) -> Cow<'p, [(Spanned<String>, Expression)]> {
        if self.own.lets.is_empty() {
            Cow::Borrowed(of_probe)
        } else {
            Cow::Owned(self.own.lets.iter().chain(of_probe).cloned().collect())
        }
    }

    /// Its attach points as one text, for messages.
    fn points(&self) -> String {
        self.at.iter().map(|at| at.value.to_string()).collect::<Vec<_>>().join(" or ")
    }
}

impl Checker<'_> {
    /// Notes an optional event that this kernel does not have. `missing` says why of each of its attach points.
    pub(super) fn leave_out(&mut self, event: &Event, missing: &[Diagnostic]) {
        let why = missing.iter().map(|diagnostic| diagnostic.message.as_str()).collect::<Vec<_>>();
        self.absent.push(AbsentEvent { at: event.points(), why: why.join("; ") });
    }

    /// Checks what the events of `between` save, before any of them reads it.
    pub(super) fn saves_between(&mut self, events: &[Event]) {
        let absent = self.absent.len();
        for event in events {
            // A condition may ask for the duration, which a start does not know; and keys are compared once, later.
            let start = Event { filter: None, key: Vec::new(), ..event.clone() };
            self.event(&start, Role::Start, &mut None);
        }
        // The events are looked for once more, as what they are.
        self.absent.truncate(absent);
        if self.diagnostics.iter().any(Diagnostic::is_error) {
            let saves = events.iter().flat_map(|event| &event.saves);
            self.unsaved = saves.map(|(name, _)| name.value.clone()).collect();
        }
    }

    /// Refuses a probe that has no event on this kernel in one of its roles.
    pub(super) fn none_is_there(&mut self, name: &str) {
        let place = self.probe.name.span.clone();
        match self.absent.first() {
            Some(absent) => {
                let hint = format!("one of them has to be: {}", absent.why);
                self.error(place, format!("no event of `{name}` is there, all are optional"), hint);
            }
            None => {
                let message = format!("no event of `{name}` is for kernel {}", self.target.kernel);
                self.error(place, message, "add one without `kernel`");
            }
        }
    }
}
