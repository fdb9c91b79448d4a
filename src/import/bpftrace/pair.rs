//! Pairs: a measure at an event that reads what a start kept for it, or what it kept itself for the next.

use super::super::sheet::YamlValue;
use super::{
    condition,
    flow::{Act, Deed},
    label::{self, decoded},
    measure::{self, ScriptMeasure},
    plan::{Keys, Planner, Played, ProbeHead, terms},
    said::{Kept, SayingScope, Unsaid},
    script::{Term, TermKind},
    several,
    state::{self, OwnEvent},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

/// Most starts, and most ends, of a probe.
const MAX_EVENTS: usize = 8;
/// Most parts of a key.
const MAX_KEYS: usize = 8;

/// A start of a pair.
struct PairStart<'p> {
    action: &'p Played,
    conditions: &'p [Term],
    keys: &'p [Term],
    /// Maps that it writes → their values.
    writes: BTreeMap<&'p str, &'p Term>,
}

impl PairStart<'_> {
    /// All that it reads for what it keeps of these maps.
    fn terms(&self, held: &BTreeSet<&str>) -> Vec<&Term> {
        let conditions = self.conditions.iter().filter(|term| !self.asks_for_own(term));
        let values = self.writes.iter().filter(|(map, _)| held.contains(**map)).map(|(_, value)| *value);
        conditions.chain(self.keys).chain(values).collect()
    }

    /// Whether a condition asks that none waits yet. A value of 0 that waits is none to a script that compares it.
    fn asks_for_own(&self, term: &Term) -> bool {
        let own = measure::asks_for_none(term).and_then(|map| self.writes.get(map));
        let asks_for_key = term.has(&|part| part.as_call().is_some());
        own.is_some_and(|value| asks_for_key || !state::may_be_nothing(value))
    }
}

/// A start, or another event that has a key.
struct SaidStart {
    key: YamlValue,
    condition: Option<String>,
    saves: Keys,
    is_first: bool,
    lets: Vec<(String, String)>,
}

impl Planner<'_> {
    /// The maps that a start keeps for this end: by one key, and deleted here. A time that nobody deletes is one as well.
    pub(super) fn held<'m>(&self, action: &Played, measure: &'m ScriptMeasure) -> BTreeSet<&'m str> {
        let forgets = |action: &Played, map: &str| {
            action.deeds.iter().any(|deed| matches!(&deed.act, Act::Forget { map: gone, .. } if gone == map))
        };
        let is_added = |map: &str| {
            let mut deeds = self.actions.iter().flat_map(|action| &action.deeds);
            deeds.any(|deed| matches!(&deed.act, Act::Add { map: added, .. } if added == map))
        };
        let mut keys = BTreeMap::<&str, BTreeSet<Vec<String>>>::new();
        for read in &measure.states {
            keys.entry(&read.map).or_default().insert(condition::spelt(&read.keys));
        }
        keys.retain(|map, keys| {
            let is_last = forgets(action, map)
                || self.roles.is_time(map) && !self.actions.iter().any(|action| forgets(action, map));
            keys.len() == 1 && is_last && !is_added(map)
        });
        let main = keys.iter().find(|(map, _)| self.roles.is_time(map)).or_else(|| keys.iter().next());
        let Some((_, key)) = main else { return BTreeSet::new() };
        keys.iter().filter(|(_, other)| *other == key).map(|(map, _)| *map).collect()
    }

    /// A measure of an end, with the events that kept what it reads.
    pub(super) fn held_pair(
        &mut self,
        action: &Played,
        measure: &ScriptMeasure,
        wanted: &BTreeSet<&str>,
    ) -> Result<(), Unsaid> {
        let reads = measure::used_maps(measure);
        let span = measure.span.clone();
        let unsaid = |text: String| Unsaid { span: span.clone(), text };
        let key =
            wanted.iter().find_map(|map| reads.get(map)).map(|read| read.keys.clone()).unwrap_or_default();
        let starts = self.starts(wanted);
        let Some(first) = starts.first() else {
            let list = wanted.iter().map(|map| format!("`@{map}`")).collect::<Vec<_>>().join(", ");
            return Err(unsaid(format!("no event that is carried over writes {list}")));
        };
        let mut kept = BTreeMap::new();
        let mut saved_names = BTreeSet::new();
        for map in wanted.iter().filter(|map| starts.iter().all(|start| start.writes.contains_key(*map))) {
            let is_time = self.roles.is_time(map);
            let decoder =
                first.writes.get(map).and_then(|value| decoded(value)).map(|(name, _)| name.to_owned());
            let name = label::free_name(if map.is_empty() { "value" } else { map }, &mut saved_names);
            let values = || starts.iter().filter_map(|start| start.writes.get(map).copied());
            let (is_text, may_be_nothing) =
                (values().any(state::is_text), values().any(state::may_be_nothing));
            let value = Kept::Value { name, decoder, is_text, may_be_nothing };
            kept.insert((*map).to_owned(), if is_time { Kept::Time } else { value });
        }
        let held: BTreeSet<&str> = wanted.iter().copied().filter(|map| kept.contains_key(*map)).collect();
        self.are_all(&starts, &held)?;
        let mut read = terms(measure);
        for start in &starts {
            read.extend(start.terms(&held));
        }
        let states = self.states(&read, &held, &span)?;
        let of_state = states.iter().map(|(map, state)| (map.clone(), Kept::State(state.clone())));
        let of_state: BTreeMap<String, Kept> = of_state.collect();
        let own_of = |action, conditions: &[Term], kept: &BTreeMap<String, Kept>, reads| {
            let mut all = kept.clone();
            all.extend(of_state.clone());
            OwnEvent { action, conditions: conditions.to_vec(), kept: all, reads, is_alone: false }
        };
        let mut own = Vec::new();
        for start in &starts {
            let reads = self.maps_read(&start.terms(&held));
            own.push(own_of(start.action, start.conditions, &BTreeMap::new(), reads));
        }
        let point = action.points.first().filter(|_| action.points.len() == 1);
        let mut scope = self.scope(point);
        (scope.has_func, scope.has_tracepoint) = several::named_sites(&action.points);
        scope.kept.clone_from(&kept);
        scope.kept.extend(of_state.clone());
        let taken = self.taken(action, measure, &held, &key)?;
        let heads = several::heads(&action.points, self.passes_missing).into_iter();
        if let ([start], None) = (&starts[..], &taken)
            && state::meet(start.action, action)
            && start.action.points.len() == action.points.len()
            && condition::are_among(start.conditions, &measure.conditions)
            && states.is_empty()
        {
            // The time from each event to the next.
            let saves = self.start(start, &kept, &of_state)?;
            let key = key_of(&key, &mut scope)?;
            let own = self.scope(point).condition(start.conditions)?;
            let more = condition::without(&measure.conditions, start.conditions);
            let of_metrics = scope.condition(&more)?;
            scope.lets.extend(saves.lets);
            let events =
                heads.map(|head| event(head, key.clone(), own.clone(), saves.saves.clone(), false)).collect();
            let event = vec![("between".to_owned(), YamlValue::one_or_list(events))];
            self.probe(action, measure, &mut scope, ProbeHead { event, declared: Vec::new(), of_metrics });
            return Ok(());
        }
        let is_first =
            starts.iter().any(|start| start.conditions.iter().any(|term| start.asks_for_own(term)));
        let conditions = taken.as_deref().unwrap_or(&measure.conditions);
        for term in conditions.iter().filter(|term| !scope.asks_for_start(term)) {
            let is_of_start = self.maps_read(&[term]).iter().any(|map| held.contains(map.as_str()));
            if taken.is_some() && is_of_start && (is_first || !is_settled(term, &kept)) {
                let text = "an end takes its start whatever it kept: this keeps a start that waits";
                return Err(Unsaid { span: term.span.clone(), text: text.into() });
            }
        }
        own.push(own_of(action, conditions, &kept, self.maps_read(&terms(measure))));
        let said = self.said_state(&states, &own, &span)?;
        let mut events = Vec::new();
        let mut changes = said.changes.into_iter();
        for start in &starts {
            let said = self.start(start, &kept, &of_state)?;
            let changes = changes.next().unwrap_or_default();
            for head in several::heads(&start.action.points, self.passes_missing) {
                let written =
                    event(head, said.key.clone(), said.condition.clone(), said.saves.clone(), said.is_first);
                events.push(with(written, &changes));
            }
            scope.lets.extend(said.lets);
        }
        let (key, condition) = (key_of(&key, &mut scope)?, scope.condition(conditions)?);
        let of_metrics = scope.condition(&condition::without(&measure.conditions, conditions))?;
        let changes = changes.next().unwrap_or_default();
        let ends: Vec<YamlValue> = heads
            .map(|head| with(event(head, key.clone(), condition.clone(), Vec::new(), false), &changes))
            .collect();
        if events.len() > MAX_EVENTS || ends.len() > MAX_EVENTS {
            return Err(unsaid(format!("a probe has at most {MAX_EVENTS} starts and {MAX_EVENTS} ends")));
        }
        let event = vec![
            ("start".to_owned(), YamlValue::one_or_list(events)),
            ("end".to_owned(), YamlValue::one_or_list(ends)),
        ];
        scope.lets.extend(said.lets);
        self.probe(action, measure, &mut scope, ProbeHead { event, declared: said.declared, of_metrics });
        if taken.is_none() {
            self.note(&span, "the start is forgotten at its end, which the script does not do");
        }
        self.lasting(&span, &said.lasting);
        Ok(())
    }

    /// The events that keep what is wanted: those that keep all of it, else those that keep the time.
    fn starts(&self, wanted: &BTreeSet<&str>) -> Vec<PairStart<'_>> {
        let mut found = Vec::<PairStart<'_>>::new();
        for action in self.actions.iter().filter(|action| !action.points.is_empty()) {
            // What is kept at other times, or by another key, is another start.
            let mut known = BTreeMap::new();
            for deed in &action.deeds {
                let Act::Keep { map, keys, value } = &deed.act else { continue };
                if !wanted.contains(map.as_str()) {
                    continue;
                }
                let same = (condition::spelt(&deed.conditions), condition::spelt(keys));
                let at = *known.entry(same).or_insert(found.len());
                match found.get_mut(at) {
                    Some(start) => drop(start.writes.insert(map, value)),
                    None => found.push(PairStart {
                        action,
                        conditions: &deed.conditions,
                        keys,
                        writes: BTreeMap::from([(map.as_str(), value)]),
                    }),
                }
            }
        }
        let has_all = |start: &PairStart<'_>| wanted.iter().all(|map| start.writes.contains_key(map));
        if found.iter().any(has_all) {
            found.retain(has_all);
        } else {
            let has_time = |start: &PairStart<'_>| start.writes.keys().any(|map| self.roles.is_time(map));
            if found.iter().any(has_time) {
                found.retain(has_time);
            }
        }
        found
    }

    /// Refuses starts that are not all of what is kept in these maps, and those of one action that may both happen.
    fn are_all(&self, starts: &[PairStart<'_>], held: &BTreeSet<&str>) -> Result<(), Unsaid> {
        for action in self.actions.iter().filter(|action| !action.points.is_empty()) {
            let own = || starts.iter().filter(|start| std::ptr::eq(start.action, action));
            for deed in &action.deeds {
                let Act::Keep { map, keys, value } = &deed.act else { continue };
                if !held.contains(map.as_str()) {
                    continue;
                }
                let is_of = |start: &PairStart<'_>| {
                    condition::spelt(start.conditions) == condition::spelt(&deed.conditions)
                        && condition::spelt(start.keys) == condition::spelt(keys)
                };
                let text = match own().find(|start| is_of(start)) {
                    None => format!("`@{map}` is written here without the rest of what a start keeps"),
                    Some(start) => {
                        let meets = |other: &PairStart<'_>| {
                            !is_of(other) && !condition::exclude(other.conditions, start.conditions)
                        };
                        if !own().any(meets) {
                            continue;
                        }
                        format!("`@{map}` is written twice at one event: which start is kept is open")
                    }
                };
                return Err(Unsaid { span: value.span.clone(), text });
            }
        }
        Ok(())
    }

    /// The conditions under which an end takes its start, which are those of its `delete`s; `None` if it has none.
    fn taken(
        &self,
        action: &Played,
        measure: &ScriptMeasure,
        held: &BTreeSet<&str>,
        key: &[Term],
    ) -> Result<Option<Vec<Term>>, Unsaid> {
        let mut deleted = BTreeMap::<&str, Vec<&Deed>>::new();
        for of in self.actions {
            for deed in &of.deeds {
                let Act::Forget { map, keys } = &deed.act else { continue };
                if !held.contains(map.as_str()) {
                    continue;
                }
                if !std::ptr::eq(of, action) || condition::spelt(keys) != condition::spelt(key) {
                    let text = format!("`@{map}` is deleted here as well, and not by the end alone");
                    return Err(Unsaid { span: deed.span.clone(), text });
                }
                deleted.entry(map).or_default().push(deed);
            }
        }
        let Some(first) = deleted.values().next() else { return Ok(None) };
        let whens = |deeds: &[&Deed]| -> Vec<Vec<String>> {
            deeds.iter().map(|deed| condition::spelt(&deed.conditions)).collect()
        };
        let are_one =
            deleted.len() == held.len() && deleted.values().all(|other| whens(other) == whens(first));
        let of_all = measure::common(first.iter().map(|deed| &deed.conditions[..]));
        let rests: Vec<Option<Term>> =
            first.iter().map(|deed| condition::all(&condition::without(&deed.conditions, &of_all))).collect();
        let rests: Option<Vec<Term>> = rests.into_iter().collect();
        let mut conditions = of_all;
        // One of them has no more conditions, or one has what the other has not.
        let either = rests.and_then(|rests| match &rests[..] {
            [one, other] if condition::opposite(one).spelling() == other.spelling() => None,
            _ => rests.into_iter().reduce(|one, other| {
                let span = one.span.clone();
                Term::new(TermKind::Binary("||", Rc::new(one), Rc::new(other)), span)
            }),
        });
        let is_implied = either.is_none() && condition::are_among(&conditions, &measure.conditions)
            || first.iter().any(|deed| condition::are_among(&deed.conditions, &measure.conditions));
        if !are_one || !is_implied {
            let span = first.first().map_or_else(|| measure.span.clone(), |deed| deed.span.clone());
            let text = "what a start kept is deleted under other conditions than it is measured";
            return Err(Unsaid { span, text: text.into() });
        }
        conditions.extend(either);
        Ok(Some(conditions))
    }

    /// What the start events of an action have in common.
    fn start(
        &self,
        start: &PairStart<'_>,
        kept: &BTreeMap<String, Kept>,
        of_state: &BTreeMap<String, Kept>,
    ) -> Result<SaidStart, Unsaid> {
        let point = start.action.points.first().filter(|_| start.action.points.len() == 1);
        let mut scope = self.scope(point);
        scope.kept.clone_from(of_state);
        let conditions: Vec<Term> =
            start.conditions.iter().filter(|term| !start.asks_for_own(term)).cloned().collect();
        let condition = scope.condition(&conditions)?;
        let key = key_of(start.keys, &mut scope)?;
        let mut saves = Vec::new();
        for (map, value) in &start.writes {
            let Some(Kept::Value { name, .. }) = kept.get(*map) else { continue };
            let value = decoded(value).map_or(*value, |(_, inner)| inner);
            saves.push((name.clone(), YamlValue::text(scope.value(value)?.text)));
        }
        let is_first = conditions.len() < start.conditions.len();
        Ok(SaidStart { key, condition, saves, is_first, lets: scope.lets })
    }
}

/// An event with what it does to state.
fn with(event: YamlValue, changes: &Keys) -> YamlValue {
    match event {
        YamlValue::Map(keys) => YamlValue::Map(keys.into_iter().chain(changes.clone()).collect()),
        other => other,
    }
}

fn event(
    mut keys: Keys,
    key: YamlValue,
    condition: Option<String>,
    saves: Keys,
    is_first: bool,
) -> YamlValue {
    if is_first {
        keys.push(("first".into(), YamlValue::Bare("true".into())));
    }
    keys.push(("key".into(), key));
    keys.extend(condition.map(|condition| ("where".to_owned(), YamlValue::text(condition))));
    if !saves.is_empty() {
        keys.push(("save".into(), YamlValue::Map(saves)));
    }
    YamlValue::Map(keys)
}

/// The key of an event; that of a map without one is the same always.
fn key_of(keys: &[Term], scope: &mut SayingScope<'_>) -> Result<YamlValue, Unsaid> {
    let mut said = Vec::new();
    for key in keys.iter().take(MAX_KEYS) {
        said.push(YamlValue::text(scope.value(key)?.text));
    }
    Ok(if said.is_empty() { YamlValue::text("0") } else { YamlValue::one_or_list(said) })
}

/// Whether a condition is of what a start kept alone, so that what it is at one end it is at each.
fn is_settled(term: &Term, kept: &BTreeMap<String, Kept>) -> bool {
    match &term.kind {
        TermKind::Map { name, .. } => matches!(kept.get(name), Some(Kept::Value { .. })),
        TermKind::Number(_) | TermKind::Text(_) => true,
        TermKind::Unary(_, inner) | TermKind::Cast(_, inner) => is_settled(inner, kept),
        TermKind::Binary(_, a, b) => is_settled(a, kept) && is_settled(b, kept),
        _ => false,
    }
}
