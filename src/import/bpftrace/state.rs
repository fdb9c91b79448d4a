//! Maps that several events share → state of a probe: its entries, the events that change it, and what the probe's own events do
//! to it.

use super::super::sheet::YamlValue;
use super::{
    condition::{all, are_among, exclude, opposite, without},
    flow::{Act, Deed},
    label::{decoded, free_name},
    maps::Roles,
    plan::{Keys, Planner, Played},
    said::{Kept, SaidTerm, SayingScope, Unsaid},
    script::{Term, TermKind},
    several,
};
use std::collections::{BTreeMap, BTreeSet};
use tapster_ebpf::{diagnostic::Span, probe::StateScope};

/// Most entries of a probe's state, and most of its notes.
const MAX_STATES: usize = 16;
const MAX_NOTES: usize = 8;
/// Keys that a map of bpftrace has room for, and how long a key stays that no event deletes.
const MAX_KEYS: u64 = 4096;
const KEY_TIMEOUT: &str = "1h";
/// The same of a map without keys, which has one value for the whole host.
const VALUE_TIMEOUT: &str = "8760h";

/// A map that is state of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ScriptState {
    pub(super) name: String,
    pub(super) per: StateScope,
    /// Whether the map has no key: it is kept by a key that is always the same.
    pub(super) is_single: bool,
    /// What makes a text of the value, if the script called that where it was written.
    pub(super) decoder: Option<String>,
    pub(super) is_text: bool,
    /// Whether a value may be what is read where there is none.
    pub(super) may_be_nothing: bool,
}

/// An event of a probe that has state.
pub(super) struct OwnEvent<'p> {
    pub(super) action: &'p Played,
    pub(super) conditions: Vec<Term>,
    /// What is known there of other events.
    pub(super) kept: BTreeMap<String, Kept>,
    /// The maps that it reads.
    pub(super) reads: BTreeSet<String>,
    /// Whether metrics may have a part of the conditions, so that what the event changes has the others alone.
    pub(super) is_alone: bool,
}

/// The state of a probe as it is written.
#[derive(Debug, Default)]
pub(super) struct SaidState {
    /// `state` and `note`.
    pub(super) declared: Keys,
    /// `set`, `add` and `clear` of each of the probe's own events.
    pub(super) changes: Vec<Keys>,
    /// The conditions of an event that is alone: its own, and those that are left to its metrics.
    pub(super) split: Option<(Vec<Term>, Vec<Term>)>,
    pub(super) lets: Vec<(String, String)>,
    /// Maps of which nothing is deleted.
    pub(super) lasting: Vec<String>,
}

/// What an action does to state under the same conditions.
struct ChangeGroup<'d> {
    conditions: Vec<Term>,
    deeds: Vec<&'d Deed>,
}

impl ChangeGroup<'_> {
    /// The maps that it changes, and those that it reads as well.
    fn maps(&self, roles: &Roles) -> [BTreeSet<String>; 2] {
        let changes = self.deeds.iter().filter_map(|deed| Some(changed(deed)?.0.to_owned()));
        let changes: BTreeSet<String> = changes.collect();
        let terms = self.deeds.iter().flat_map(|deed| deed.terms());
        let reads = terms.flat_map(|term| roles.states(term)).map(|read| read.map);
        let uses = reads.chain(changes.iter().cloned()).collect();
        [changes, uses]
    }
}

/// The map that a deed keeps a value in, adds to, or deletes from, with the key.
fn changed(deed: &Deed) -> Option<(&str, &[Term])> {
    match &deed.act {
        Act::Keep { map, keys, .. } | Act::Add { map, keys, .. } | Act::Forget { map, keys } => {
            Some((map, keys))
        }
        Act::Gather { .. } | Act::Show { .. } => None,
    }
}

/// Whether a value of a script is a text to a probe.
fn is_text(value: &Term) -> bool {
    match &value.kind {
        TermKind::Text(_) => true,
        TermKind::Name(name) => matches!(name.as_str(), "comm" | "pcomm" | "probe" | "func"),
        TermKind::Call { name, .. } => matches!(name.as_str(), "str" | "comm" | "pcomm" | "probe" | "func"),
        TermKind::Choice(_, yes, no) => is_text(yes) || is_text(no),
        _ => false,
    }
}

/// Whether a value may be 0, or an empty text.
fn may_be_nothing(value: &Term) -> bool {
    match &value.kind {
        TermKind::Number(number) => *number == 0,
        TermKind::Text(text) => text.is_empty(),
        TermKind::Cast(to, inner) => !to.contains('*') && may_be_nothing(inner),
        _ => !["nsecs", "comm", "pid", "tid", "curtask", "func"].iter().any(|name| value.is_name(name)),
    }
}

fn is_stack(value: &Term) -> bool {
    let called = value.as_call().map(|(name, _)| name);
    ["kstack", "ustack"].iter().any(|name| value.is_name(name) || called == Some(name))
}

/// Whether two actions run at the same events.
pub(super) fn meet(one: &Played, other: &Played) -> bool {
    std::ptr::eq(one, other) || one.points.iter().any(|point| other.points.iter().any(|at| at.at == point.at))
}

impl SayingScope<'_> {
    /// `NAME[KEY]` of a state.
    pub(super) fn place(&mut self, state: &ScriptState, keys: &[Term]) -> Result<String, Unsaid> {
        let mut place = state.name.clone();
        if state.is_single {
            place.push_str("[0]");
        } else if state.per == StateScope::Key {
            for key in keys {
                let key = self.value(key)?.text;
                place = format!("{place}[{key}]");
            }
        }
        Ok(place)
    }

    /// What deeds of one event do to state, in their order.
    fn changes(&mut self, deeds: &[&Deed], states: &BTreeMap<String, ScriptState>) -> Result<Keys, Unsaid> {
        let (mut set, mut add) = (Vec::<(String, SaidTerm)>::new(), Vec::<(String, SaidTerm)>::new());
        let mut clear = Vec::<String>::new();
        for deed in deeds {
            let Some((map, keys)) = changed(deed) else { continue };
            let Some(state) = states.get(map) else { continue };
            let place = self.place(state, keys)?;
            let known = set.iter().position(|(known, _)| *known == place);
            match &deed.act {
                Act::Keep { value, .. } => {
                    let value = decoded(value).map_or(value, |(_, inner)| inner);
                    let said = self.value(value)?;
                    set.retain(|(known, _)| *known != place);
                    add.retain(|(known, _)| *known != place);
                    clear.retain(|known| *known != place);
                    set.push((place, said));
                }
                Act::Add { by, is_minus, .. } => {
                    let by = self.value(by)?;
                    let sum = |sum: &SaidTerm| {
                        let sign = if *is_minus { "-" } else { "+" };
                        SaidTerm::new(4, format!("{} {sign} {}", sum.clone().within(4), by.clone().within(3)))
                    };
                    if let Some((_, value)) = known.and_then(|at| set.get_mut(at)) {
                        *value = sum(value);
                    } else if let Some((_, amount)) = add.iter_mut().find(|(known, _)| *known == place) {
                        *amount = sum(amount);
                    } else if *is_minus {
                        add.push((place, SaidTerm::new(2, format!("-{}", by.within(1)))));
                    } else {
                        add.push((place, by));
                    }
                }
                _ => {
                    set.retain(|(known, _)| *known != place);
                    add.retain(|(known, _)| *known != place);
                    if !clear.contains(&place) {
                        clear.push(place);
                    }
                }
            }
        }
        let mut keys = Keys::new();
        for (word, changes) in [("set", set), ("add", add)] {
            let changes: Keys =
                changes.into_iter().map(|(place, said)| (place, YamlValue::text(said.text))).collect();
            if !changes.is_empty() {
                keys.push((word.into(), YamlValue::Map(changes)));
            }
        }
        match &clear[..] {
            [] => {}
            [only] => keys.push(("clear".into(), YamlValue::text(only))),
            several => {
                let several = several.iter().map(YamlValue::text).collect();
                keys.push(("clear".into(), YamlValue::List(several)));
            }
        }
        Ok(keys)
    }
}

impl<'p> Planner<'p> {
    /// All that events do to a map.
    fn deeds_on<'s>(&'s self, map: &'s str) -> impl Iterator<Item = &'p Deed> + 's {
        let actions: &'p [Played] = self.actions;
        let played = actions.iter().filter(|action| !action.points.is_empty());
        played
            .flat_map(|action| &action.deeds)
            .filter(move |deed| changed(deed).is_some_and(|(changed, _)| changed == map))
    }

    /// The maps that are state of a probe which reads these terms, with those that the events read which change them. Those of `held`
    /// are none: a start keeps them for its end.
    pub(super) fn states(
        &self,
        terms: &[&Term],
        held: &BTreeSet<&str>,
        span: &Span,
    ) -> Result<BTreeMap<String, ScriptState>, Unsaid> {
        let mut open: Vec<_> = terms.iter().flat_map(|term| self.roles.states(term)).collect();
        let mut keys = BTreeMap::<String, Vec<Vec<Term>>>::new();
        while let Some(read) = open.pop() {
            if held.contains(read.map.as_str()) {
                continue;
            }
            if !keys.contains_key(&read.map) {
                if keys.len() == MAX_STATES {
                    let text = format!("a probe has at most {MAX_STATES} values of state");
                    return Err(Unsaid { span: span.clone(), text });
                }
                for deed in self.deeds_on(&read.map) {
                    open.extend(deed.terms().into_iter().flat_map(|term| self.roles.states(term)));
                }
            }
            keys.entry(read.map).or_default().push(read.keys);
        }
        let unsaid = |text: String| Unsaid { span: span.clone(), text };
        let mut taken = BTreeSet::new();
        let mut states = BTreeMap::new();
        for (map, mut keys) in keys {
            keys.extend(self.deeds_on(&map).filter_map(changed).map(|(_, keys)| keys.to_vec()));
            let state = self.state(&map, &keys, &mut taken).map_err(unsaid)?;
            states.insert(map, state);
        }
        Ok(states)
    }

    fn state(
        &self,
        map: &str,
        keys: &[Vec<Term>],
        taken: &mut BTreeSet<String>,
    ) -> Result<ScriptState, String> {
        let parts = keys.first().map_or(0, Vec::len);
        if keys.iter().any(|key| key.len() != parts) || parts > 8 {
            return Err(format!("`@{map}` has keys of several lengths, or of more than 8 parts"));
        }
        let of_all = |name: &str| parts == 1 && keys.iter().flatten().all(|key| key.is_name(name));
        let per = match () {
            () if of_all("tid") => StateScope::Task,
            () if of_all("cpu") => StateScope::Cpu,
            () => StateScope::Key,
        };
        let (mut values, mut is_added, mut is_written) = (Vec::new(), false, false);
        for deed in self.deeds_on(map) {
            match &deed.act {
                Act::Keep { value, .. } => values.push(value),
                Act::Add { .. } => is_added = true,
                _ => continue,
            }
            is_written = true;
        }
        if !is_written {
            return Err(format!("no event that is carried over writes `@{map}`"));
        }
        if values.iter().any(|value| is_stack(value)) {
            return Err(format!("`@{map}` is a stack: those are kept by a start for its end alone"));
        }
        let mut decoders = values.iter().map(|value| decoded(value).map(|(decoder, _)| decoder.to_owned()));
        let decoder = decoders.next().flatten();
        if decoders.any(|other| other != decoder) {
            return Err(format!("`@{map}` becomes text in several ways"));
        }
        Ok(ScriptState {
            name: free_name(if map.is_empty() { "value" } else { map }, taken),
            per,
            is_single: parts == 0,
            decoder,
            is_text: values.iter().any(|value| is_text(value)),
            may_be_nothing: is_added || values.iter().any(|value| may_be_nothing(value)),
        })
    }

    /// Says the state of a probe with these events of its own.
    pub(super) fn said_state(
        &self,
        states: &BTreeMap<String, ScriptState>,
        own: &[OwnEvent<'_>],
        span: &Span,
    ) -> Result<SaidState, Unsaid> {
        let mut said = SaidState::default();
        if states.is_empty() {
            said.changes = own.iter().map(|_| Keys::new()).collect();
            return Ok(said);
        }
        let kept: BTreeMap<String, Kept> =
            states.iter().map(|(map, state)| (map.clone(), Kept::State(state.clone()))).collect();
        let mut notes = Vec::new();
        let mut of_own: Vec<Vec<&Deed>> = own.iter().map(|_| Vec::new()).collect();
        for action in self.actions.iter().filter(|action| !action.points.is_empty()) {
            let mut left = Vec::new();
            for group in groups(action, states) {
                let mut rest = Vec::new();
                let mut is_own = false;
                for (event, deeds) in own.iter().zip(&mut of_own) {
                    if !meet(event.action, action) || exclude(&group.conditions, &event.conditions) {
                        continue;
                    }
                    let changes = &group.conditions[..];
                    let [changed, _] = group.maps(self.roles);
                    // What it does not read may be changed beside it.
                    if changed.is_disjoint(&event.reads) && !are_among(&event.conditions, changes) {
                        continue;
                    }
                    let is_whole = event.action.points.len() == action.points.len();
                    if !is_whole || !are_among(changes, &event.conditions) {
                        let place =
                            group.deeds.first().map_or_else(|| span.clone(), |deed| deed.span.clone());
                        let text = "this changes what an event at the same place reads under other conditions: which comes first is open";
                        return Err(Unsaid { span: place, text: text.into() });
                    }
                    is_own = true;
                    deeds.extend(&group.deeds);
                    if event.is_alone {
                        let whole = || (event.conditions.clone(), Vec::new());
                        let (own, of_metrics) = said.split.get_or_insert_with(whole);
                        of_metrics.extend(without(own, changes));
                        own.retain(|term| are_among(std::slice::from_ref(term), changes));
                    } else {
                        let more = without(&event.conditions, changes);
                        rest.extend(all(&more).map(|more| opposite(&more)));
                    }
                }
                if !is_own || !rest.is_empty() {
                    let conditions = [group.conditions, rest].concat();
                    left.push(ChangeGroup { conditions, deeds: group.deeds });
                }
            }
            for group in apart(left, self.roles)? {
                let mut scope = self.scope(action.points.first().filter(|_| action.points.len() == 1));
                scope.kept.clone_from(&kept);
                let condition = scope.condition(&group.conditions)?;
                let changes = scope.changes(&group.deeds, states)?;
                said.lets.extend(scope.lets);
                for mut head in several::heads(&action.points, self.passes_missing) {
                    let condition =
                        condition.clone().map(|condition| ("where".to_owned(), YamlValue::text(condition)));
                    head.extend(condition);
                    head.extend(changes.clone());
                    notes.push(YamlValue::Map(head));
                }
            }
        }
        if notes.len() > MAX_NOTES {
            let text = format!("a probe has at most {MAX_NOTES} events that change its state alone");
            return Err(Unsaid { span: span.clone(), text });
        }
        for (event, deeds) in own.iter().zip(&of_own) {
            let mut scope =
                self.scope(event.action.points.first().filter(|_| event.action.points.len() == 1));
            scope.kept.clone_from(&event.kept);
            said.changes.push(scope.changes(deeds, states)?);
            said.lets.extend(scope.lets);
        }
        let entries =
            states.iter().map(|(map, state)| (state.name.clone(), self.entry(map, state, &mut said.lasting)));
        said.declared.push(("state".into(), YamlValue::Map(entries.collect())));
        match (notes.len(), notes.pop()) {
            (_, None) => {}
            (1, Some(only)) => said.declared.push(("note".into(), only)),
            (_, Some(last)) => {
                notes.push(last);
                said.declared.push(("note".into(), YamlValue::List(notes)));
            }
        }
        Ok(said)
    }

    /// An entry of `state`.
    fn entry(&self, map: &str, state: &ScriptState, lasting: &mut Vec<String>) -> YamlValue {
        let mut keys = vec![("per".to_owned(), YamlValue::text(state.per.word()))];
        if state.per == StateScope::Key {
            let is_cleared = self.deeds_on(map).any(|deed| matches!(deed.act, Act::Forget { .. }));
            keys.push(("max".into(), YamlValue::number(if state.is_single { 1 } else { MAX_KEYS })));
            if !is_cleared {
                let timeout = if state.is_single { VALUE_TIMEOUT } else { KEY_TIMEOUT };
                keys.push(("timeout".into(), YamlValue::text(timeout)));
                lasting.extend((!state.is_single).then(|| map.to_owned()));
            }
        }
        YamlValue::Map(keys)
    }
}

/// What an action does to state, by conditions.
fn groups<'d>(action: &'d Played, states: &BTreeMap<String, ScriptState>) -> Vec<ChangeGroup<'d>> {
    let mut groups = Vec::<ChangeGroup<'d>>::new();
    for deed in &action.deeds {
        if changed(deed).is_none_or(|(map, _)| !states.contains_key(map)) {
            continue;
        }
        let is_same = |group: &&mut ChangeGroup<'_>| {
            are_among(&group.conditions, &deed.conditions) && are_among(&deed.conditions, &group.conditions)
        };
        match groups.iter_mut().find(is_same) {
            Some(group) => group.deeds.push(deed),
            None => groups.push(ChangeGroup { conditions: deed.conditions.clone(), deeds: vec![deed] }),
        }
    }
    groups
}

/// Makes groups of one action exclude each other, if one changes what another uses: they would be two events at one, whose order is
/// open. What holds for all is put to what holds for some, and is left to the rest of them.
fn apart<'d>(groups: Vec<ChangeGroup<'d>>, roles: &Roles) -> Result<Vec<ChangeGroup<'d>>, Unsaid> {
    let maps: Vec<[BTreeSet<String>; 2]> = groups.iter().map(|group| group.maps(roles)).collect();
    let mut pairs = Vec::new();
    let mut is_open = false;
    for (at, (later, [changed, used])) in groups.iter().zip(&maps).enumerate() {
        for (before, (earlier, [changed_before, used_before])) in
            groups.iter().zip(&maps).take(at).enumerate()
        {
            if exclude(&earlier.conditions, &later.conditions) {
                continue;
            }
            let is_wide = |wide: &ChangeGroup<'_>, narrow: &ChangeGroup<'_>| {
                are_among(&wide.conditions, &narrow.conditions)
            };
            let meets = !changed.is_disjoint(used_before) || !changed_before.is_disjoint(used);
            is_open |= meets;
            match (is_wide(earlier, later), is_wide(later, earlier)) {
                (true, _) => pairs.push((before, at)),
                (_, true) => pairs.push((at, before)),
                _ if meets => {
                    let span = later.deeds.first().map_or(0..0, |deed| deed.span.clone());
                    let text = "this changes what another condition of the same event uses: which comes first is open";
                    return Err(Unsaid { span, text: text.into() });
                }
                _ => {}
            }
        }
    }
    if !is_open {
        return Ok(groups);
    }
    let whole: Vec<(Vec<Term>, Vec<&Deed>)> =
        groups.iter().map(|group| (group.conditions.clone(), group.deeds.clone())).collect();
    let mut groups = groups;
    for (wide, narrow) in pairs {
        if let Some(group) = groups.get_mut(narrow) {
            group.deeds.extend(&whole[wide].1);
            group.deeds.sort_by_key(|deed| deed.span.start);
        }
        let more = all(&without(&whole[narrow].0, &whole[wide].0));
        if let (Some(group), Some(more)) = (groups.get_mut(wide), more) {
            group.conditions.push(opposite(&more));
        }
    }
    Ok(groups)
}
