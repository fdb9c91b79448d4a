//! What each map of a script is for: all of its actions are looked at together.

use super::{
    flow::{Act, Deed},
    script::{Term, TermKind},
};
use std::collections::{BTreeMap, BTreeSet};

/// What a map is for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum MapRole {
    /// Texts by number, written at the script's begin.
    Table(BTreeMap<u64, String>),
    /// A number or text, written at the script's begin alone.
    Constant(ConstantValue),
    /// A time or value that one event writes and another reads.
    State { is_time: bool },
    /// A metric: counted, summed, or a distribution.
    Metric,
    /// A value that is only looked at.
    LastValue,
    /// Nothing writes it.
    Unwritten,
}

/// The value of a constant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ConstantValue {
    Number(u64),
    Text(String),
}

/// The roles of all maps.
#[derive(Debug, Default)]
pub(super) struct Roles {
    pub(super) roles: BTreeMap<String, MapRole>,
    /// Maps from which keys are deleted.
    pub(super) forgotten: BTreeSet<String>,
}

impl Roles {
    pub(super) fn of(&self, map: &str) -> &MapRole {
        self.roles.get(map).unwrap_or(&MapRole::Unwritten)
    }

    pub(super) fn is_state(&self, map: &str) -> bool {
        matches!(self.of(map), MapRole::State { .. })
    }

    pub(super) fn is_time(&self, map: &str) -> bool {
        matches!(self.of(map), MapRole::State { is_time: true })
    }

    /// The maps of state that a term reads, with their keys.
    pub(super) fn states(&self, term: &Term) -> Vec<StateRead> {
        let mut found = Vec::new();
        self.collect(term, &mut found);
        found
    }

    fn collect(&self, term: &Term, found: &mut Vec<StateRead>) {
        // `has_key(@x, key)` reads the map by keys that are arguments.
        if let Some(("has_key", [first, keys @ ..])) = term.as_call()
            && let Some((map, own)) = first.as_map()
            && self.is_state(map)
        {
            let keys = super::script::flat_keys(&[own, keys].concat());
            found.push(StateRead { map: map.to_owned(), keys });
            return;
        }
        if let Some((map, keys)) = term.as_map()
            && self.is_state(map)
        {
            let keys = super::script::flat_keys(keys);
            found.push(StateRead { map: map.to_owned(), keys });
        }
        term.parts().into_iter().for_each(|part| self.collect(part, found));
    }
}

/// A read of a map of state.
#[derive(Clone, Debug)]
pub(super) struct StateRead {
    pub(super) map: String,
    pub(super) keys: Vec<Term>,
}

/// Finds out what maps are for, from what is done at the begin and at events.
pub(super) fn roles(begin: &[Deed], events: &[&Deed]) -> Roles {
    let mut roles = Roles::default();
    let mut written: BTreeMap<&str, Vec<&Term>> = BTreeMap::new();
    let (mut added, mut gathered) = (BTreeSet::new(), BTreeSet::new());
    for deed in events {
        match &deed.act {
            Act::Keep { map, value, .. } => written.entry(map).or_default().push(value),
            Act::Gather { map, .. } => drop(gathered.insert(map.as_str())),
            Act::Add { map, .. } => drop(added.insert(map.as_str())),
            Act::Forget { map, .. } => drop(roles.forgotten.insert(map.clone())),
            Act::Show { .. } => {}
        }
    }
    let mut read = BTreeSet::new();
    // What is only shown of a sum is no use of it that would take the metric away.
    let mut used = BTreeSet::new();
    for deed in events {
        deed.terms().into_iter().for_each(|term| reads(term, &mut read));
        let is_shown = matches!(deed.act, Act::Show { .. });
        let terms = if is_shown { deed.conditions.iter().collect() } else { deed.terms() };
        for term in terms {
            reads(term, &mut used);
        }
    }
    for map in added.iter().filter(|map| used.contains(**map) && !gathered.contains(*map)) {
        roles.roles.insert((*map).to_owned(), MapRole::State { is_time: false });
    }
    for map in added.into_iter().chain(gathered) {
        roles.roles.entry(map.to_owned()).or_insert(MapRole::Metric);
    }
    for (map, values) in written {
        let is_read = read.contains(map) || roles.forgotten.contains(map);
        let is_time = values.iter().all(|value| value.is_name("nsecs"));
        let role = if is_read { MapRole::State { is_time } } else { MapRole::LastValue };
        roles.roles.entry(map.to_owned()).or_insert(role);
    }
    let mut tables: BTreeMap<&str, Vec<(&[Term], &Term)>> = BTreeMap::new();
    for deed in begin {
        if let Act::Keep { map, keys, value } = &deed.act {
            tables.entry(map).or_default().push((keys, value));
        }
    }
    for (map, rows) in tables {
        if let Some(role) = table(&rows) {
            roles.roles.entry(map.to_owned()).or_insert(role);
        }
    }
    roles
}

fn table(rows: &[(&[Term], &Term)]) -> Option<MapRole> {
    if let [(keys, value)] = rows
        && keys.is_empty()
    {
        let value = match &value.kind {
            TermKind::Text(text) => ConstantValue::Text(text.clone()),
            _ => ConstantValue::Number(value.as_number()?),
        };
        return Some(MapRole::Constant(value));
    }
    let mut texts = BTreeMap::new();
    for (keys, value) in rows {
        let (number, TermKind::Text(text)) = (keys.first()?.as_number()?, &value.kind) else { return None };
        texts.insert(number, text.clone());
    }
    Some(MapRole::Table(texts))
}

fn reads(term: &Term, found: &mut BTreeSet<String>) {
    if let Some((map, _)) = term.as_map() {
        found.insert(map.to_owned());
    }
    term.parts().into_iter().for_each(|part| reads(part, found));
}

impl Deed {
    /// All expressions that are read for it.
    pub(super) fn terms(&self) -> Vec<&Term> {
        let mut terms: Vec<&Term> = self.conditions.iter().collect();
        match &self.act {
            Act::Keep { keys, value, .. } => {
                terms.extend(keys);
                terms.push(value);
            }
            Act::Add { keys, by, .. } => {
                terms.extend(keys);
                terms.push(by);
            }
            Act::Gather { keys, arguments, .. } => {
                terms.extend(keys);
                terms.extend(arguments);
            }
            Act::Forget { keys, .. } => terms.extend(keys),
            Act::Show { arguments } => terms.extend(arguments),
        }
        terms
    }
}
