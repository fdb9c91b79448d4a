//! Measures → probes. One that reads what another event kept becomes a pair: the other event is its start.

use super::super::{
    remark::Remark,
    sheet::{SheetItem, YamlValue},
};
use super::{
    flow::Deed,
    label::{self, SaidLabel},
    maps::Roles,
    measure::{self, ScriptMeasure, metric},
    names::FileNames,
    points::CarriedPoint,
    said::{Kept, SayingScope, Unsaid},
    script::Term,
    several,
    state::OwnEvent,
};
use std::collections::{BTreeMap, BTreeSet};
use tapster_ebpf::diagnostic::Span;

/// Most labels of a probe.
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
        for action in actions.iter().filter(|action| action.is_tick && !action.points.is_empty()) {
            if !measures.iter().any(|(measured, _)| std::ptr::eq(*measured, action)) {
                let said = "texts that are printed at each tick are no values, and are not measured";
                self.planned.remarks.push(Remark::loss(action.span.clone(), said));
            }
        }
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

    pub(super) fn note(&mut self, span: &Span, said: impl Into<String>) {
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
        let reads = self.maps_read(&terms(measure));
        let own = OwnEvent { action, conditions: conditions.clone(), kept, reads, is_alone: true };
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

    /// The maps of state that terms read.
    pub(super) fn maps_read(&self, terms: &[&Term]) -> BTreeSet<String> {
        terms.iter().flat_map(|term| self.roles.states(term)).map(|read| read.map).collect()
    }

    pub(super) fn lasting(&mut self, span: &Span, maps: &[String]) {
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

    /// Writes a probe: what it is attached to, with its labels and metrics.
    pub(super) fn probe(
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
            if let Ok(Some((short, long))) = scope.addresses(&wanted, key) {
                let said = format!("an address of IPv4 is the label `{wanted}`, one of IPv6 `{}`", long.name);
                for label in [short, long] {
                    let name = label::free_name(&label.name, &mut taken);
                    labels.push(SaidLabel { name, ..label });
                }
                self.note(&key.span, said);
                continue;
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

/// What a probe is attached to.
pub(super) struct ProbeHead {
    pub(super) event: Keys,
    /// `state` and `note`.
    pub(super) declared: Keys,
    /// What else must hold for its metrics.
    pub(super) of_metrics: Option<String>,
}

/// All that a measure reads.
pub(super) fn terms(measure: &ScriptMeasure) -> Vec<&Term> {
    let gauged = measure.gauged.iter().flat_map(|gauged| &gauged.arguments);
    measure.conditions.iter().chain(&measure.keys).chain(gauged).collect()
}
