//! Measures → probes. One that reads what another event kept becomes a pair: the other event is its start.

use super::super::{
    remark::Remark,
    sheet::{SheetItem, YamlValue},
};
use super::{
    condition,
    flow::{Act, Deed},
    label::{self, SaidLabel, decoded},
    maps::Roles,
    measure::{self, ScriptMeasure, metric},
    names::FileNames,
    points::CarriedPoint,
    said::{Kept, SayingScope, Unsaid},
    script::Term,
    several,
    state::{self, OwnEvent},
};
use std::collections::{BTreeMap, BTreeSet};
use tapster_ebpf::diagnostic::Span;

/// Most starts, and most ends, of a probe.
const MAX_EVENTS: usize = 8;
/// Most parts of a key, and most labels.
const MAX_KEYS: usize = 8;
const MAX_LABELS: usize = 32;
/// Most probes that one file becomes, which may have 1000, and most that are tried.
const MAX_PROBES: usize = 500;
const MAX_TRIED: usize = 2000;

/// An action of an event, looked through.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) points: Vec<CarriedPoint>,
    pub(super) deeds: Vec<Deed>,
    pub(super) span: Span,
    /// Whether it runs each so often and only shows values: they are gauges.
    pub(super) is_tick: bool,
}

/// What the plan comes to: items with the places that they are from.
#[derive(Debug, Default)]
pub(super) struct Planned {
    pub(super) items: Vec<(Span, SheetItem)>,
    pub(super) remarks: Vec<Remark>,
}

pub(super) struct Planner<'p> {
    pub(super) actions: &'p [Played],
    pub(super) roles: &'p Roles,
    pub(super) names: FileNames,
    /// The script, as helps name it.
    pub(super) file: &'p str,
    pub(super) passes_missing: bool,
    pub(super) planned: Planned,
    /// Whether several actions only print.
    several_lines: bool,
}

/// Keys of a mapping, in their order.
pub(super) type Keys = Vec<(String, YamlValue)>;

/// A start of a pair.
struct PairStart<'p> {
    action: &'p Played,
    conditions: &'p [Term],
    keys: &'p [Term],
    /// Maps that it writes → their values.
    writes: BTreeMap<&'p str, &'p Term>,
}

impl PairStart<'_> {
    /// Whether a condition asks that none waits yet.
    fn asks_for_own(&self, term: &Term) -> bool {
        measure::asks_for_none(term).is_some_and(|map| self.writes.contains_key(map))
    }
}

impl<'p> Planner<'p> {
    pub(super) fn new(
        actions: &'p [Played],
        roles: &'p Roles,
        names: FileNames,
        file: &'p str,
        passes_missing: bool,
    ) -> Self {
        let planned = Planned::default();
        Self { actions, roles, names, file, passes_missing, planned, several_lines: false }
    }

    pub(super) fn plan(mut self) -> Planned {
        let actions = self.actions;
        let mut tried = 0;
        let mut joined = BTreeSet::new();
        let measures: Vec<(&Played, ScriptMeasure)> = actions
            .iter()
            .filter(|action| !action.points.is_empty())
            .flat_map(|action| {
                measure::measures(action, self.roles).into_iter().map(move |one| (action, one))
            })
            .collect();
        self.several_lines = measures.iter().filter(|(_, one)| one.is_shown).count() > 1;
        let mut by_map: BTreeMap<&str, Vec<(&Played, ScriptMeasure)>> = BTreeMap::new();
        for (action, one) in measures.iter().filter(|(_, one)| !one.is_shown) {
            for gauged in &one.gauged {
                by_map.entry(&gauged.map).or_default().push((*action, one.clone()));
            }
        }
        for (action, one) in &measures {
            tried += 1;
            if self.planned.items.len() >= MAX_PROBES || tried > MAX_TRIED {
                let said = format!("more than {MAX_PROBES} probes of one script");
                self.planned.remarks.push(Remark::loss(one.span.clone(), said));
                return self.planned;
            }
            let map = one.gauged.first().map_or("", |first| first.map.as_str());
            let together = by_map.get(map).filter(|_| !one.is_shown);
            let falls = one.gauged.iter().any(|gauged| gauged.function == "minus");
            let together = together.filter(|all| (all.len() > 1 || falls) && several::are_sums(all));
            let result = match together {
                Some(_) if joined.contains(map) => continue,
                Some(all) => {
                    joined.insert(map);
                    self.several(map, all)
                }
                None if one.states.is_empty() => self.single(action, one),
                None => self.pair(action, one),
            };
            if let Err(Unsaid { span, text }) = result {
                self.planned.remarks.push(Remark::loss(span, text));
            }
        }
        self.planned
    }

    fn note(&mut self, span: &Span, said: impl Into<String>) {
        self.planned.remarks.push(Remark::note(span.clone(), said));
    }

    /// The scope of an event; of several the point is not known.
    pub(super) fn scope<'s>(&self, point: Option<&'s CarriedPoint>) -> SayingScope<'s>
    where
        Self: 's,
    {
        SayingScope {
            roles: self.roles,
            kept: BTreeMap::new(),
            point,
            lets: Vec::new(),
            has_func: false,
            has_tracepoint: false,
        }
    }

    /// A measure of one event, or of each of several, which may read what others left.
    fn single(&mut self, action: &Played, measure: &ScriptMeasure) -> Result<(), Unsaid> {
        let is_several = action.points.len() > 1;
        let states = self.states(&terms(measure), &BTreeSet::new(), &measure.span)?;
        let mut scope = self.scope(action.points.first().filter(|_| !is_several));
        (scope.has_func, scope.has_tracepoint) = several::named_sites(&action.points);
        let kept = states.iter().map(|(map, state)| (map.clone(), Kept::State(state.clone())));
        scope.kept.extend(kept);
        let (conditions, kept) = (measure.conditions.clone(), scope.kept.clone());
        let own = OwnEvent { action, conditions: conditions.clone(), kept, is_alone: true };
        let said = self.said_state(&states, &[own], &measure.span)?;
        let (own, of_metrics) = said.split.unwrap_or_else(|| (conditions, Vec::new()));
        let condition = scope.condition(&own)?;
        let of_metrics = scope.condition(&of_metrics)?;
        scope.lets.extend(said.lets);
        // The text of an event is a label that each event gives of its own, unless a word of probes says it.
        let mut rest = measure.clone();
        if is_several && !action.points.iter().any(CarriedPoint::is_pattern) {
            rest.keys.retain(|key| !key.is_name("probe"));
        }
        let names_probe = (rest.keys.len() < measure.keys.len()).then_some("probe");
        let changes = said.changes.into_iter().next().unwrap_or_default();
        let event = several::events(&action.points, condition, self.passes_missing, names_probe, &changes)
            .map_err(|text| Unsaid { span: measure.span.clone(), text })?;
        let head = ProbeHead { event, declared: said.declared, of_metrics };
        self.probe(action, &rest, &mut scope, head);
        self.lasting(&measure.span, &said.lasting);
        Ok(())
    }

    fn lasting(&mut self, span: &Span, maps: &[String]) {
        for map in maps {
            self.note(
                span,
                format!("nothing deletes from `@{map}`: a key that no event sets for an hour is given up"),
            );
        }
    }

    /// A measure that reads what other events kept: a start keeps it for its end, or it is state.
    fn pair(&mut self, action: &Played, measure: &ScriptMeasure) -> Result<(), Unsaid> {
        let held = self.held(action, measure);
        if held.is_empty() {
            return self.single(action, measure);
        }
        let why = match self.held_pair(action, measure, &held) {
            Ok(()) => return Ok(()),
            Err(why) => why,
        };
        self.single(action, measure).map_err(|_| why)
    }

    /// The maps that a start keeps for this end: by one key, and deleted here. A time that nobody deletes is one as well.
    fn held<'m>(&self, action: &Played, measure: &'m ScriptMeasure) -> BTreeSet<&'m str> {
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
    fn held_pair(
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
            read.extend(start.conditions.iter().filter(|term| !start.asks_for_own(term)).chain(start.keys));
            read.extend(start.writes.iter().filter(|(map, _)| held.contains(**map)).map(|(_, value)| *value));
        }
        let states = self.states(&read, &held, &span)?;
        let of_state = states.iter().map(|(map, state)| (map.clone(), Kept::State(state.clone())));
        let of_state: BTreeMap<String, Kept> = of_state.collect();
        let own_of = |action, conditions: &[Term], kept: &BTreeMap<String, Kept>| {
            let mut all = kept.clone();
            all.extend(of_state.clone());
            OwnEvent { action, conditions: conditions.to_vec(), kept: all, is_alone: false }
        };
        let nothing = BTreeMap::new();
        let mut own: Vec<OwnEvent<'_>> =
            starts.iter().map(|start| own_of(start.action, start.conditions, &nothing)).collect();
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
        own.push(own_of(action, &measure.conditions, &kept));
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

    /// Writes a probe: what it is attached to, with its labels and metrics.
    fn probe(
        &mut self,
        action: &Played,
        measure: &ScriptMeasure,
        scope: &mut SayingScope<'_>,
        head: ProbeHead,
    ) {
        // Lines of several actions are told apart by what they are about.
        let first = action.points.first().map_or("", |point| point.target.as_str());
        let words = if measure.is_shown && self.several_lines { vec![first] } else { Vec::new() };
        let labels = self.labels(measure, scope);
        let (mut metrics, mut notes) = (Vec::new(), Vec::new());
        for gauged in &measure.gauged {
            let help = if measure.is_shown {
                format!(" of what {} prints", self.file)
            } else {
                format!(", `@{}` of {}", gauged.map, self.file)
            };
            match metric(gauged, scope, &mut self.names, &words, &help) {
                Ok(said) => {
                    metrics.extend(said.metrics);
                    notes.extend(said.notes.into_iter().map(|note| (gauged.span.clone(), note)));
                }
                Err(Unsaid { span, text }) => self.planned.remarks.push(Remark::loss(span, text)),
            }
        }
        if metrics.is_empty() {
            return;
        }
        for (span, text) in notes {
            self.note(&span, text);
        }
        for metric in &mut metrics {
            if let (YamlValue::Map(keys), Some(condition)) = (metric, &head.of_metrics) {
                keys.push(("where".into(), YamlValue::text(condition)));
            }
        }
        if !measure.unlabelled.is_empty() {
            let names: Vec<String> = measure.unlabelled.iter().map(|name| format!("`{name}`")).collect();
            let said = if measure.is_tick {
                "texts of a line that is printed at each tick are no labels"
            } else {
                "the line is counted; its numbers are no labels, since each may have many values"
            };
            self.note(&measure.span, format!("{said}: {}", names.join(", ")));
        }
        let map = measure.gauged.first().filter(|_| !measure.is_tick);
        let map = map.map_or("", |first| first.map.as_str());
        let name = self.names.probe(&[&[map], &words[..]].concat());
        let mut keys: Keys = vec![("name".into(), YamlValue::text(name))];
        let lets = written_lets(&scope.lets);
        // The reference has `let` and state between the event and its condition.
        let rank = |key: &str| ["set", "add", "clear", "where"].contains(&key);
        let (behind, at): (Keys, Keys) = head.event.into_iter().partition(|(key, _)| rank(key));
        keys.extend(at);
        keys.extend(lets);
        keys.extend(head.declared);
        keys.extend(behind);
        if !labels.is_empty() {
            let labels = labels.iter().map(|label| (label.name.clone(), label.written()));
            keys.push(("labels".into(), YamlValue::Map(labels.collect())));
        }
        keys.push(("metrics".into(), YamlValue::List(metrics)));
        self.planned.items.push((action.span.clone(), SheetItem::Probe(keys)));
    }

    fn labels(&mut self, measure: &ScriptMeasure, scope: &mut SayingScope<'_>) -> Vec<SaidLabel> {
        let (mut labels, mut taken) = (Vec::<SaidLabel>::new(), BTreeSet::new());
        for key in &measure.keys {
            if labels.len() == MAX_LABELS {
                let said = format!("a probe has at most {MAX_LABELS} labels here");
                self.planned.remarks.push(Remark::loss(key.span.clone(), said));
                break;
            }
            // A constant key keeps rows of one script apart; each is a metric of its own here.
            let wanted = label::name_of(key);
            match scope.addresses(&wanted, key) {
                Ok(Some((short, long))) => {
                    let said =
                        format!("an address of IPv4 is the label `{wanted}`, one of IPv6 `{}`", long.name);
                    for label in [short, long] {
                        let name = label::free_name(&label.name, &mut taken);
                        labels.push(SaidLabel { name, ..label });
                    }
                    self.note(&key.span, said);
                    continue;
                }
                Ok(None) | Err(_) => {}
            }
            match scope.label(&wanted, key) {
                Ok(label) if labels.iter().any(|known| known.value == label.value) => {}
                Ok(label) => {
                    let name = label::free_name(&wanted, &mut taken);
                    labels.push(SaidLabel { name, ..label });
                }
                Err(Unsaid { span, text }) => {
                    let said = format!("the label `{wanted}`: {text}");
                    let known =
                        self.planned.remarks.iter().any(|known| known.span == span && known.text == said);
                    if !known {
                        self.planned.remarks.push(Remark::loss(span, said));
                    }
                }
            }
        }
        labels
    }
}

/// The `let`s of a probe or an event: each once, though both events of a pair may use one.
pub(super) fn written_lets(lets: &[(String, String)]) -> Option<(String, YamlValue)> {
    let mut known = BTreeSet::new();
    let lets = lets.iter().filter(|(name, _)| known.insert(name.as_str()));
    let lets: Keys = lets.map(|(name, text)| (name.clone(), YamlValue::text(text))).collect();
    (!lets.is_empty()).then(|| ("let".to_owned(), YamlValue::Map(lets)))
}

/// A start, or another event that has a key.
struct SaidStart {
    key: YamlValue,
    condition: Option<String>,
    saves: Keys,
    is_first: bool,
    lets: Vec<(String, String)>,
}

/// What a probe is attached to.
struct ProbeHead {
    event: Keys,
    /// `state` and `note`.
    declared: Keys,
    /// What else must hold for its metrics.
    of_metrics: Option<String>,
}

/// All that a measure reads.
fn terms(measure: &ScriptMeasure) -> Vec<&Term> {
    let gauged = measure.gauged.iter().flat_map(|gauged| &gauged.arguments);
    measure.conditions.iter().chain(&measure.keys).chain(gauged).collect()
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
