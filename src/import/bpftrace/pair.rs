//! Pairs: a measure at an event that reads what a start kept for it, or what it kept itself for the next.

use super::super::sheet::YamlValue;
use super::{
    condition,
    flow::{Act, Deed},
    label::{self, decoded},
    measure::{self, ScriptMeasure},
    plan::{Keys, Planner, Played, ProbeHead, terms},
    said::{Kept, SayingScope, Unsaid},
    script::Term,
    several,
    state::{self, OwnEvent},
};
use std::collections::{BTreeMap, BTreeSet};

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

    /// Whether a condition asks that none waits yet.
    fn asks_for_own(&self, term: &Term) -> bool {
        measure::asks_for_none(term).is_some_and(|map| self.writes.contains_key(map))
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
            let value = if is_time { Kept::Time } else { Kept::Value { name, decoder } };
            kept.insert((*map).to_owned(), value);
        }
        let held: BTreeSet<&str> = wanted.iter().copied().filter(|map| kept.contains_key(*map)).collect();
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
        let forgets =
            |deed: &Deed| matches!(&deed.act, Act::Forget { map, .. } if held.contains(map.as_str()));
        let is_forgotten = action.deeds.iter().any(forgets);
        let heads = several::heads(&action.points, self.passes_missing).into_iter();
        if let ([start], false) = (&starts[..], is_forgotten)
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
            let event = vec![("between".to_owned(), one_or_list(events))];
            self.probe(action, measure, &mut scope, ProbeHead { event, declared: Vec::new(), of_metrics });
            return Ok(());
        }
        own.push(own_of(action, &measure.conditions, &kept, self.maps_read(&terms(measure))));
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
        let (key, condition) = (key_of(&key, &mut scope)?, scope.condition(&measure.conditions)?);
        let changes = changes.next().unwrap_or_default();
        let ends: Vec<YamlValue> = heads
            .map(|head| with(event(head, key.clone(), condition.clone(), Vec::new(), false), &changes))
            .collect();
        if events.len() > MAX_EVENTS || ends.len() > MAX_EVENTS {
            return Err(unsaid(format!("a probe has at most {MAX_EVENTS} starts and {MAX_EVENTS} ends")));
        }
        let event = vec![("start".to_owned(), one_or_list(events)), ("end".to_owned(), one_or_list(ends))];
        scope.lets.extend(said.lets);
        self.probe(
            action,
            measure,
            &mut scope,
            ProbeHead { event, declared: said.declared, of_metrics: None },
        );
        if !is_forgotten {
            self.note(&span, "the start is forgotten at its end, which the script does not do");
        }
        self.lasting(&span, &said.lasting);
        Ok(())
    }

    /// The events that keep what is wanted: those that keep all of it, else those that keep the time.
    fn starts(&self, wanted: &BTreeSet<&str>) -> Vec<PairStart<'_>> {
        let mut found = Vec::new();
        for action in self.actions.iter().filter(|action| !action.points.is_empty()) {
            let mut writes: BTreeMap<&str, (&Deed, &[Term], &Term)> = BTreeMap::new();
            for deed in &action.deeds {
                if let Act::Keep { map, keys, value } = &deed.act
                    && wanted.contains(map.as_str())
                {
                    writes.entry(map).or_insert((deed, keys, value));
                }
            }
            let main =
                writes.iter().find(|(map, _)| self.roles.is_time(map)).or_else(|| writes.iter().next());
            let Some((_, (deed, keys, _))) = main else { continue };
            let (deed, keys) = (*deed, *keys);
            // What is kept at other times is no part of this start.
            let spelt = |deed: &Deed| deed.conditions.iter().map(Term::spelling).collect::<Vec<_>>();
            let own = spelt(deed);
            writes.retain(|_, (other, ..)| spelt(other) == own);
            found.push(PairStart {
                action,
                conditions: &deed.conditions,
                keys,
                writes: writes.iter().map(|(map, (_, _, value))| (*map, *value)).collect(),
            });
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
    Ok(match (said.len(), said.pop()) {
        (_, None) => YamlValue::text("0"),
        (1, Some(only)) => only,
        (_, Some(last)) => {
            said.push(last);
            YamlValue::List(said)
        }
    })
}

fn one_or_list(mut events: Vec<YamlValue>) -> YamlValue {
    match (events.len(), events.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            events.extend(last);
            YamlValue::List(events)
        }
    }
}
