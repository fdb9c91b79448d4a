//! What actions do to state, by conditions: what of it two events at one would do in an order that is open.

use super::{
    condition::{all, are_among, exclude, opposite, without},
    flow::{Act, Deed},
    maps::Roles,
    plan::Played,
    said::Unsaid,
    script::{Term, TermKind},
    state::ScriptState,
};
use std::collections::{BTreeMap, BTreeSet};

/// What an action does to state under the same conditions.
pub(super) struct ChangeGroup<'d> {
    pub(super) conditions: Vec<Term>,
    pub(super) deeds: Vec<&'d Deed>,
}

impl ChangeGroup<'_> {
    /// The maps that it changes, and those that it reads as well.
    pub(super) fn maps(&self, roles: &Roles) -> [BTreeSet<String>; 2] {
        let changes = self.deeds.iter().filter_map(|deed| Some(changed(deed)?.0.to_owned()));
        let changes: BTreeSet<String> = changes.collect();
        let terms = self.deeds.iter().flat_map(|deed| deed.terms());
        let reads = terms.flat_map(|term| roles.states(term)).map(|read| read.map);
        let uses = reads.chain(changes.iter().cloned()).collect();
        [changes, uses]
    }
}

/// The map that a deed keeps a value in, adds to, or deletes from, with the key.
pub(super) fn changed(deed: &Deed) -> Option<(&str, &[Term])> {
    match &deed.act {
        Act::Keep { map, keys, .. } | Act::Add { map, keys, .. } | Act::Forget { map, keys } => {
            Some((map, keys))
        }
        Act::Gather { .. } | Act::Show { .. } => None,
    }
}

/// What an action does to state, by conditions.
pub(super) fn groups<'d>(action: &'d Played, states: &BTreeMap<String, ScriptState>) -> Vec<ChangeGroup<'d>> {
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

/// The maps that one of these groups changes.
pub(super) fn moved(groups: &[ChangeGroup<'_>], roles: &Roles) -> BTreeSet<String> {
    groups.iter().flat_map(|group| group.maps(roles)[0].clone()).collect()
}

/// Whether a condition reads one of these maps. What changes tells no two events at one apart: the second reads what the first left.
pub(super) fn reads_any(term: &Term, maps: &BTreeSet<String>, roles: &Roles) -> bool {
    roles.states(term).iter().any(|read| maps.contains(&read.map))
}

/// Whether conditions exclude each other also while these maps change.
pub(super) fn stay_apart(some: &[Term], others: &[Term], moved: &BTreeSet<String>, roles: &Roles) -> bool {
    let still = |terms: &[Term]| -> Vec<Term> {
        terms.iter().filter(|term| !reads_any(term, moved, roles)).cloned().collect()
    };
    exclude(&still(some), &still(others))
}

/// Whether what a group does makes its own conditions false: it deletes what they ask for, and nothing of its action writes that.
/// Then also what has more conditions cannot happen behind it, whichever comes first.
pub(super) fn is_spent(group: &ChangeGroup<'_>, action: &Played) -> bool {
    let is_written = |map: &str| {
        action.deeds.iter().any(
            |deed| matches!(&deed.act, Act::Keep { map: of, .. } | Act::Add { map: of, .. } if of == map),
        )
    };
    group.deeds.iter().any(|deed| {
        let Act::Forget { map, keys } = &deed.act else { return false };
        let place = TermKind::Map { name: map.clone(), keys: keys.clone() };
        let place = Term::new(place, deed.span.clone());
        are_among(&[place], &group.conditions) && !is_written(map)
    })
}

/// Puts deeds of one action in the order in which it does them: they are elements of one list.
pub(super) fn in_order(deeds: &mut [&Deed]) {
    deeds.sort_by_key(|deed| std::ptr::from_ref(*deed));
}

/// Makes groups of one action exclude each other, if one changes what another uses: they would be two events at one, whose order is
/// open. What holds for all is put to what holds for some, and is left to the rest of them.
pub(super) fn apart<'d>(
    groups: Vec<ChangeGroup<'d>>,
    action: &Played,
    roles: &Roles,
) -> Result<Vec<ChangeGroup<'d>>, Unsaid> {
    let maps: Vec<[BTreeSet<String>; 2]> = groups.iter().map(|group| group.maps(roles)).collect();
    let moved = moved(&groups, roles);
    let unsaid = |at: usize, text: &str| {
        let deed = groups.get(at).and_then(|group| group.deeds.first());
        Unsaid { span: deed.map_or(0..0, |deed| deed.span.clone()), text: text.into() }
    };
    // Wide → narrow.
    let mut nested = Vec::<(usize, usize)>::new();
    let mut crossing = Vec::<(usize, usize)>::new();
    let mut is_open = false;
    for (at, (later, [changed, used])) in groups.iter().zip(&maps).enumerate() {
        for (before, (earlier, [changed_before, used_before])) in
            groups.iter().zip(&maps).take(at).enumerate()
        {
            if stay_apart(&earlier.conditions, &later.conditions, &moved, roles) {
                continue;
            }
            let is_wide = |wide: &ChangeGroup<'_>, narrow: &ChangeGroup<'_>| {
                are_among(&wide.conditions, &narrow.conditions)
            };
            let meets = !changed.is_disjoint(used_before) || !changed_before.is_disjoint(used);
            is_open |= meets;
            match (is_wide(earlier, later), is_wide(later, earlier)) {
                (true, _) => nested.push((before, at)),
                (_, true) => nested.push((at, before)),
                _ if meets => {
                    return Err(unsaid(
                        at,
                        "this changes what another condition of the same event uses: which comes first is open",
                    ));
                }
                _ => crossing.push((before, at)),
            }
        }
    }
    if !is_open {
        return Ok(groups);
    }
    let known: BTreeSet<(usize, usize)> = nested.iter().copied().collect();
    for (one, other) in crossing {
        if nested.iter().any(|(wide, narrow)| *narrow == one && known.contains(&(*wide, other))) {
            return Err(unsaid(
                other,
                "this and another condition of the same event may both hold, and both have to do what is done in any case: it would be done twice",
            ));
        }
    }
    let whole: Vec<(Vec<Term>, Vec<&Deed>)> =
        groups.iter().map(|group| (group.conditions.clone(), group.deeds.clone())).collect();
    let mut apart: Vec<(Vec<Term>, Vec<&Deed>)> = whole.clone();
    for (wide, narrow) in nested {
        let (Some((conditions, deeds)), Some((more, _))) = (whole.get(wide), whole.get(narrow)) else {
            continue;
        };
        let more = without(more, conditions);
        let is_stable = !more.iter().any(|term| reads_any(term, &moved, roles));
        if !is_stable && !groups.get(wide).is_some_and(|wide| is_spent(wide, action)) {
            return Err(unsaid(narrow, "this is done under a condition on what the same event changes"));
        }
        if let Some((_, own)) = apart.get_mut(narrow) {
            own.extend(deeds);
            in_order(own);
        }
        if let (Some((own, _)), Some(more)) = (apart.get_mut(wide), all(&more)) {
            own.push(opposite(&more));
        }
    }
    Ok(apart.into_iter().map(|(conditions, deeds)| ChangeGroup { conditions, deeds }).collect())
}
