//! Measures → probes. One that reads what another event kept becomes a pair: the other event is its start.

use super::super::{
    remark::Remark,
    sheet::{SheetItem, YamlValue},
};
use super::{
    flow::{Act, Deed},
    label::{self, SaidLabel, decoded},
    maps::Roles,
    measure::{self, ScriptMeasure, metric},
    names::FileNames,
    points::CarriedPoint,
    said::{Kept, SayingScope, Unsaid},
    script::Term,
    several,
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
                measure::measures(&action.deeds, self.roles).into_iter().map(move |one| (action, one))
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
        SayingScope { roles: self.roles, kept: BTreeMap::new(), point, lets: Vec::new(), has_func: false }
    }

    /// A measure of one event, or of each of several.
    fn single(&mut self, action: &Played, measure: &ScriptMeasure) -> Result<(), Unsaid> {
        let is_several = action.points.len() > 1;
        let mut scope = self.scope(action.points.first().filter(|_| !is_several));
        let condition = scope.condition(&measure.conditions)?;
        // The text of an event is a label that each event gives of its own.
        let mut rest = measure.clone();
        rest.keys.retain(|key| !(is_several && key.is_name("probe")));
        let names_probe = (rest.keys.len() < measure.keys.len()).then_some("probe");
        let head = several::events(&action.points, condition, self.passes_missing, names_probe)
            .map_err(|text| Unsaid { span: measure.span.clone(), text })?;
        self.probe(action, &rest, &mut scope, head);
        Ok(())
    }

    /// A measure of an end, with the events that kept what it reads.
    fn pair(&mut self, action: &Played, measure: &ScriptMeasure) -> Result<(), Unsaid> {
        let reads = measure::used_maps(measure);
        let span = measure.span.clone();
        let unsaid = |text: String| Unsaid { span: span.clone(), text };
        for map in reads.keys() {
            let forgets = |other: &Played| {
                other
                    .deeds
                    .iter()
                    .any(|deed| matches!(&deed.act, Act::Forget { map: gone, .. } if gone == map))
            };
            if !forgets(action) && self.actions.iter().any(forgets) {
                let text = format!(
                    "`@{map}` goes on after this event: what several events share is not said here, only what a start keeps for its end"
                );
                return Err(unsaid(text));
            }
        }
        let mut keys = reads.values().map(|read| &read.keys);
        let key = keys.next().cloned().unwrap_or_default();
        let spelt = |keys: &[Term]| keys.iter().map(Term::spelling).collect::<Vec<_>>();
        if keys.any(|other| spelt(other) != spelt(&key)) {
            return Err(unsaid("an end has one key, and this reads maps by several".into()));
        }
        let wanted: BTreeSet<&str> = reads.keys().copied().collect();
        let starts = self.starts(&wanted);
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
        let mut lets = Vec::new();
        let mut events = Vec::new();
        for start in &starts {
            let (written, more) = self.start(start, &kept)?;
            events.extend(written);
            lets.extend(more);
        }
        let point = action.points.first().filter(|_| action.points.len() == 1);
        let mut scope = self.scope(point);
        scope.has_func = action.points.iter().all(CarriedPoint::is_function);
        scope.kept = kept;
        scope.lets = lets;
        let (key, condition) = (key_of(&key, &mut scope)?, scope.condition(&measure.conditions)?);
        let heads = several::heads(&action.points, self.passes_missing).into_iter();
        let ends: Vec<YamlValue> =
            heads.map(|head| event(head, key.clone(), condition.clone(), Vec::new())).collect();
        if events.len() > MAX_EVENTS || ends.len() > MAX_EVENTS {
            return Err(unsaid(format!("a probe has at most {MAX_EVENTS} starts and {MAX_EVENTS} ends")));
        }
        let head = vec![("start".to_owned(), one_or_list(events)), ("end".to_owned(), one_or_list(ends))];
        self.probe(action, measure, &mut scope, head);
        let forgets =
            |deed: &Deed| matches!(&deed.act, Act::Forget { map, .. } if wanted.contains(map.as_str()));
        if !action.deeds.iter().any(forgets) {
            self.note(&span, "the start is forgotten at its end, which the script does not do");
        }
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

    /// The start events of an action, and the `let`s that they use.
    #[allow(clippy::type_complexity, reason = "the events and what they use, once")]
    fn start(
        &self,
        start: &PairStart<'_>,
        kept: &BTreeMap<String, Kept>,
    ) -> Result<(Vec<YamlValue>, Vec<(String, String)>), Unsaid> {
        let point = start.action.points.first().filter(|_| start.action.points.len() == 1);
        let mut scope = self.scope(point);
        let is_own =
            |term: &Term| measure::asks_for_none(term).is_some_and(|map| start.writes.contains_key(map));
        let conditions: Vec<Term> = start.conditions.iter().filter(|term| !is_own(term)).cloned().collect();
        let condition = scope.condition(&conditions)?;
        let key = key_of(start.keys, &mut scope)?;
        let mut saves = Vec::new();
        for (map, value) in &start.writes {
            let Some(Kept::Value { name, .. }) = kept.get(*map) else { continue };
            let value = decoded(value).map_or(*value, |(_, inner)| inner);
            saves.push((name.clone(), YamlValue::text(scope.value(value)?.text)));
        }
        let is_first = conditions.len() < start.conditions.len();
        let heads = several::heads(&start.action.points, self.passes_missing).into_iter();
        let events = heads.map(|mut head| {
            if is_first {
                head.push(("first".into(), YamlValue::Bare("true".into())));
            }
            event(head, key.clone(), condition.clone(), saves.clone())
        });
        Ok((events.collect(), scope.lets))
    }

    /// Writes a probe: what it is attached to, with its labels and metrics.
    fn probe(&mut self, action: &Played, measure: &ScriptMeasure, scope: &mut SayingScope<'_>, head: Keys) {
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
        if !measure.unlabelled.is_empty() {
            let names: Vec<String> = measure.unlabelled.iter().map(|name| format!("`{name}`")).collect();
            let said = "the line is counted; its numbers are no labels, since each may have many values";
            self.note(&measure.span, format!("{said}: {}", names.join(", ")));
        }
        let map = measure.gauged.first().map_or("", |first| first.map.as_str());
        let name = self.names.probe(&[&[map], &words[..]].concat());
        let mut keys: Keys = vec![("name".into(), YamlValue::text(name))];
        let lets = written_lets(&scope.lets);
        // The reference has `let` between the event and its condition.
        let (at, condition): (Keys, Keys) = head.into_iter().partition(|(key, _)| key != "where");
        keys.extend(at);
        keys.extend(lets);
        keys.extend(condition);
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

fn event(mut keys: Keys, key: YamlValue, condition: Option<String>, saves: Keys) -> YamlValue {
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
