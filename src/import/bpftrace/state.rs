//! Maps that several events share → state of a probe: its entries, the events that change it, and what the probe's own events do
//! to it.

use super::super::sheet::YamlValue;
use super::{
    change::{ChangeGroup, apart, changed, groups, in_order, is_spent, moved, reads_any, stay_apart},
    condition::{all, are_among, opposite, without},
    flow::{Act, Deed},
    label::{decoded, free_name},
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

/// What an event of a probe does to its state.
#[derive(Default)]
struct OwnChanges<'d> {
    deeds: Vec<&'d Deed>,
    /// The conditions under which it does that, if metrics may have the others.
    alone: Option<Vec<Term>>,
    /// The maps that change at its place.
    moved: BTreeSet<String>,
}

/// What is left of changes to a note.
struct SplitGroup {
    conditions: Vec<Term>,
    /// The events that do the rest.
    of: BTreeSet<usize>,
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

/// Whether a value of a script is a text to a probe.
pub(super) fn is_text(value: &Term) -> bool {
    match &value.kind {
        TermKind::Text(_) => true,
        TermKind::Name(name) => matches!(name.as_str(), "comm" | "pcomm" | "probe" | "func"),
        TermKind::Call { name, .. } => matches!(name.as_str(), "str" | "comm" | "pcomm" | "probe" | "func"),
        TermKind::Choice(_, yes, no) => is_text(yes) || is_text(no),
        _ => false,
    }
}

/// Whether a value may be 0, or an empty text. Task 0 is the idle one.
pub(super) fn may_be_nothing(value: &Term) -> bool {
    match &value.kind {
        TermKind::Number(number) => *number == 0,
        TermKind::Text(text) => text.is_empty(),
        TermKind::Cast(_, inner) => may_be_nothing(inner),
        _ => !is_stack(value) && !["nsecs", "comm", "curtask", "func"].iter().any(|name| value.is_name(name)),
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

/// Whether keys are never the same: a part of them is another constant.
fn differ(one: &[Term], other: &[Term]) -> bool {
    one.iter().zip(other).any(|(a, b)| match (&a.kind, &b.kind) {
        (TermKind::Number(a), TermKind::Number(b)) => a != b,
        (TermKind::Text(a), TermKind::Text(b)) => a != b,
        _ => false,
    })
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
        // Of each place its last change: those of `set` come first, then those of `add`, then those of `clear`.
        let mut done = Vec::<(&str, &[Term], String, u8)>::new();
        for deed in deeds {
            let Some((map, keys)) = changed(deed) else { continue };
            let Some(state) = states.get(map) else { continue };
            let place = self.place(state, keys)?;
            let rank = match &deed.act {
                Act::Keep { .. } => 0,
                Act::Add { .. } if clear.contains(&place) || set.iter().any(|(known, _)| *known == place) => {
                    0
                }
                Act::Add { .. } => 1,
                _ => 2,
            };
            let may_be_same = |(of, other, at, before): &(&str, &[Term], String, u8)| {
                *of == map && *at != place && *before > rank && !differ(other, keys)
            };
            if done.iter().any(may_be_same) {
                let text = format!("another key of `@{map}` is changed before, which may be the same");
                return Err(Unsaid { span: deed.span.clone(), text });
            }
            done.retain(|(_, _, at, _)| *at != place);
            done.push((map, keys, place.clone(), rank));
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
                    } else if let Some(at) = clear.iter().position(|known| *known == place) {
                        clear.remove(at);
                        let minus = SaidTerm::new(2, format!("-{}", by.clone().within(1)));
                        set.push((place, if *is_minus { minus } else { by }));
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
        if !clear.is_empty() {
            let clear = clear.into_iter().map(YamlValue::text).collect();
            keys.push(("clear".into(), YamlValue::one_or_list(clear)));
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
        let mut of_own: Vec<OwnChanges<'_>> = own.iter().map(|_| OwnChanges::default()).collect();
        for action in self.actions.iter().filter(|action| !action.points.is_empty()) {
            for (event, changes) in own.iter().zip(&mut of_own) {
                if meet(event.action, action) {
                    changes.moved.extend(moved(&groups(action, states), self.roles));
                }
            }
        }
        let mut left_of = Vec::new();
        for action in self.actions.iter().filter(|action| !action.points.is_empty()) {
            let mut left = Vec::new();
            let before: Vec<usize> = of_own.iter().map(|changes| changes.deeds.len()).collect();
            for group in groups(action, states) {
                let mut split = SplitGroup { conditions: group.conditions.clone(), of: BTreeSet::new() };
                let is_own = self.share(&group, action, own, &mut of_own, &mut split, span)?;
                if !is_own || !split.of.is_empty() {
                    left.push((ChangeGroup { conditions: split.conditions, deeds: group.deeds }, split.of));
                }
            }
            for (changes, before) in of_own.iter_mut().zip(before) {
                in_order(changes.deeds.get_mut(before..).unwrap_or_default());
            }
            left_of.push((action, left));
        }
        for (action, left) in left_of {
            for (group, split_of) in &left {
                self.are_beside(group, split_of, action, own, &of_own)?;
            }
            let left = left.into_iter().map(|(group, _)| group).collect();
            for group in apart(left, action, self.roles)? {
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
        for (event, OwnChanges { deeds, alone, .. }) in own.iter().zip(of_own) {
            if let Some(alone) = alone {
                let of_metrics = without(&event.conditions, &alone);
                let own =
                    event.conditions.iter().filter(|term| are_among(std::slice::from_ref(term), &alone));
                said.split = Some((own.cloned().collect(), of_metrics));
            }
            let mut scope =
                self.scope(event.action.points.first().filter(|_| event.action.points.len() == 1));
            scope.kept.clone_from(&event.kept);
            said.changes.push(scope.changes(&deeds, states)?);
            said.lets.extend(scope.lets);
        }
        let entries =
            states.iter().map(|(map, state)| (state.name.clone(), self.entry(map, state, &mut said.lasting)));
        said.declared.push(("state".into(), YamlValue::Map(entries.collect())));
        if !notes.is_empty() {
            said.declared.push(("note".into(), YamlValue::one_or_list(notes)));
        }
        Ok(said)
    }

    /// Puts what an action does under these conditions to the events of the probe that read what it changes; returns whether
    /// one does, and in `split` the conditions under which it is left to a note.
    fn share<'d>(
        &self,
        group: &ChangeGroup<'d>,
        action: &Played,
        own: &[OwnEvent<'_>],
        of_own: &mut [OwnChanges<'d>],
        split: &mut SplitGroup,
        span: &Span,
    ) -> Result<bool, Unsaid> {
        let place = group.deeds.first().map_or(span, |deed| &deed.span);
        let unsaid = |text: &str| Err(Unsaid { span: place.clone(), text: text.into() });
        let changes = &group.conditions[..];
        let [changed, _] = group.maps(self.roles);
        let mut is_own = false;
        for (at, (event, of_event)) in own.iter().zip(of_own).enumerate() {
            if !meet(event.action, action)
                || stay_apart(changes, &event.conditions, &of_event.moved, self.roles)
            {
                continue;
            }
            // What it does not read may be changed beside it.
            if changed.is_disjoint(&event.reads) && !are_among(&event.conditions, changes) {
                continue;
            }
            let is_whole = event.action.points.len() == action.points.len();
            if !is_whole || !are_among(changes, &event.conditions) {
                return unsaid(
                    "this changes what an event at the same place reads under other conditions: which comes first is open",
                );
            }
            is_own = true;
            of_event.deeds.extend(&group.deeds);
            if event.is_alone {
                let known = of_event.alone.get_or_insert_with(|| changes.to_vec());
                if !are_among(known, changes) || !are_among(changes, known) {
                    return unsaid(
                        "what an event reads is changed under several conditions: it has one for all that it changes",
                    );
                }
                continue;
            }
            let more = without(&event.conditions, changes);
            let is_stable = !more.iter().any(|term| reads_any(term, &of_event.moved, self.roles));
            if !is_stable && !is_spent(group, action) {
                return unsaid("this is done under a condition on what the same event changes");
            }
            if let Some(more) = all(&more) {
                split.conditions.push(opposite(&more));
                split.of.insert(at);
            }
        }
        Ok(is_own)
    }

    /// Refuses a note at the same place as an event of the probe, if one changes what the other uses.
    fn are_beside(
        &self,
        group: &ChangeGroup<'_>,
        split_of: &BTreeSet<usize>,
        action: &Played,
        own: &[OwnEvent<'_>],
        of_own: &[OwnChanges<'_>],
    ) -> Result<(), Unsaid> {
        let [changed, used] = group.maps(self.roles);
        for (at, (event, of_event)) in own.iter().zip(of_own).enumerate() {
            let conditions = of_event.alone.as_ref().unwrap_or(&event.conditions);
            if split_of.contains(&at)
                || !meet(event.action, action)
                || stay_apart(&group.conditions, conditions, &of_event.moved, self.roles)
            {
                continue;
            }
            let of_event = ChangeGroup { conditions: Vec::new(), deeds: of_event.deeds.clone() };
            let [changed_there, used_there] = of_event.maps(self.roles);
            if let Some(deed) = group.deeds.first()
                && !(changed.is_disjoint(&used_there) && changed_there.is_disjoint(&used))
            {
                let text =
                    "this changes what another condition of the same event uses: which comes first is open";
                return Err(Unsaid { span: deed.span.clone(), text: text.into() });
            }
        }
        Ok(())
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
