//! An event with what it reads, filters and counts.

use super::{CgroupTest, Role, Typed, TypedChange, TypedKind, TypedValue};
use crate::{
    point::{AttachPoint, Mechanism},
    site::Sites,
    usdt,
};
use std::collections::BTreeSet;

/// One event of a probe, which becomes one program.
#[derive(Clone, Debug, PartialEq)]
pub struct TypedEvent {
    /// Its role.
    pub role: Role,
    /// The attach point: the alternative that this kernel has.
    pub at: AttachPoint,
    /// Its mechanism.
    pub mechanism: Mechanism,
    /// The functions that it attaches to; empty for events that are not functions.
    pub sites: Sites,
    /// Places of the USDT probe, if it is one.
    pub usdt: Option<usdt::UsdtSites>,
    /// Named expressions that the event uses.
    pub lets: Vec<Typed>,
    /// The key that joins start and end.
    pub key: Vec<Typed>,
    /// Filters that need no start: an event that fails one does not belong to the probe.
    pub filters: Vec<Typed>,
    /// Filters that need the start or the duration: the start is taken, but nothing is counted.
    pub late_filters: Vec<Typed>,
    /// Values to save, for a start.
    pub saves: Vec<Typed>,
    /// Whether a start that waits is kept when this one of its key comes; otherwise this one replaces it.
    pub first: bool,
    /// The list to walk.
    pub each: Option<TypedEach>,
    /// One value for each label, for an end or single event.
    pub labels: Vec<Typed>,
    /// One value for each metric, for an end or single event; `None` for a metric that the event does not feed.
    pub metrics: Vec<Option<TypedValue>>,
    /// What it does to the state after all else.
    pub changes: Vec<TypedChange>,
}

impl TypedEvent {
    /// Its expressions, without the named ones. Because of the destructuring a new field does not compile until it is listed
    /// here.
    pub(crate) fn expressions(&self) -> impl Iterator<Item = &Typed> {
        let Self {
            role: _,
            at: _,
            mechanism: _,
            sites: _,
            usdt: _,
            lets: _,
            key,
            filters,
            late_filters,
            saves,
            first: _,
            each,
            labels,
            metrics,
            changes,
        } = self;
        let each = each.iter().flat_map(|TypedEach { from, next, limit: _, budget }| {
            let budget = budget.iter().flat_map(|(size, within)| [size, within]);
            [from, next].into_iter().chain(budget)
        });
        let metrics = metrics
            .iter()
            .flatten()
            .flat_map(|TypedValue { filter, value }| std::iter::once(value).chain(filter));
        let changes = changes.iter().flat_map(TypedChange::expressions);
        let own = key.iter().chain(filters).chain(late_filters).chain(saves).chain(labels);
        own.chain(metrics).chain(each).chain(changes)
    }

    /// All expressions that its program computes, including the named ones.
    pub fn values(&self) -> Vec<&Typed> {
        let mut found: Vec<&Typed> = self.expressions().collect();
        let mut seen = BTreeSet::new();
        let mut index = 0;
        while let Some(value) = found.get(index) {
            let needed = value.names();
            found.extend(needed.into_iter().filter(|let_| seen.insert(*let_)).map(|let_| &self.lets[let_]));
            index += 1;
        }
        found
    }

    /// Whether `found` is true for any part of an expression that its program computes.
    pub fn computes(&self, found: &impl Fn(&Typed) -> bool) -> bool {
        self.values().into_iter().any(|value| value.any(found))
    }

    /// What its program asks about cgroups, each question once.
    pub fn cgroup_tests(&self) -> Vec<&CgroupTest> {
        let (mut tests, mut waiting) = (Vec::new(), self.values());
        while let Some(typed) = waiting.pop() {
            if let TypedKind::CgroupMatches(test) = &typed.kind
                && !tests.contains(&&**test)
            {
                tests.push(&**test);
            }
            waiting.extend(typed.children());
        }
        tests
    }

    /// Whether the event depends on the processes of the command.
    pub fn asks_for_traced(&self) -> bool {
        self.computes(&|typed| matches!(typed.kind, TypedKind::Traced(_)))
    }
}

/// A walk over a list.
#[derive(Clone, Debug, PartialEq)]
pub struct TypedEach {
    /// The pointer to the first element.
    pub from: Typed,
    /// The pointer to the next element.
    pub next: Typed,
    /// Most elements.
    pub limit: u32,
    /// The size of an element, and the budget that sizes are subtracted from.
    pub budget: Option<(Typed, Typed)>,
}
