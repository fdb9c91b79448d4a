//! What variables and maps are at a place of an action: their values so far, also behind branches.

use super::{
    condition::{all, are_among, conjuncts, exclude, without},
    script::{Term, TermKind, flat_keys},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

/// Largest value of a variable, in parts of expressions.
pub(super) const MAX_SIZE: usize = 200;
/// Most writes of one place of a map in one action.
const MAX_WRITES: usize = 8;
/// Functions whose first argument is a map, and not its value.
const OF_MAPS: [&str; 6] = ["delete", "has_key", "print", "clear", "zero", "len"];

/// A variable's value, by name.
pub(super) type VariableValues = BTreeMap<String, Term>;

/// What an action has written to maps so far: place → conditions and values, in their order.
#[derive(Debug, Default)]
pub(super) struct MapWrites {
    writes: BTreeMap<String, Vec<(Vec<Term>, Term)>>,
}

impl MapWrites {
    /// A value was written under these conditions.
    pub(super) fn push(&mut self, place: &Term, conditions: &[Term], value: Term) {
        self.writes.entry(place.spelling()).or_default().push((conditions.to_vec(), value));
    }

    /// The value at a place where these conditions hold: what was there before the event, or what the action wrote since.
    pub(super) fn at(&self, place: Term, conditions: &[Term]) -> Term {
        let Some(writes) = self.writes.get(&place.spelling()) else { return place };
        let span = place.span.clone();
        let mut value = place;
        let unknown = |value: &Term| {
            let name = value.as_map().map_or_else(String::new, |(name, _)| name.to_owned());
            Term::new(TermKind::Variable(name), span.clone())
        };
        if writes.len() > MAX_WRITES {
            return unknown(&value);
        }
        for (written_if, written) in writes {
            if exclude(written_if, conditions) {
                continue;
            }
            let kind = match all(&without(written_if, conditions)) {
                Some(rest) if !are_among(written_if, conditions) => {
                    TermKind::Choice(Rc::new(rest), Rc::new(written.clone()), Rc::new(value.clone()))
                }
                _ => written.kind.clone(),
            };
            let next = Term::new(kind, span.clone());
            value = if next.size(MAX_SIZE) >= MAX_SIZE { unknown(&value) } else { next };
        }
        value
    }
}

/// A place of an action, at which expressions are read.
pub(super) struct ReadingPlace<'p> {
    pub(super) values: &'p VariableValues,
    pub(super) writes: &'p MapWrites,
    /// What holds there.
    pub(super) conditions: &'p [Term],
}

impl ReadingPlace<'_> {
    /// A condition, of which a part behind `&&` is read where the parts before it hold.
    pub(super) fn condition(&self, term: &Term) -> Term {
        let TermKind::Binary("&&", a, b) = &term.kind else { return self.resolved(term) };
        let a = self.condition(a);
        let conditions = [self.conditions, &conjuncts(&a)].concat();
        let b = ReadingPlace { conditions: &conditions, ..*self }.condition(b);
        Term::new(TermKind::Binary("&&", Rc::new(a), Rc::new(b)), term.span.clone())
    }

    /// The expression with the values of its variables, and of maps that the action has written.
    pub(super) fn resolved(&self, term: &Term) -> Term {
        match &term.kind {
            TermKind::Variable(name) => match self.values.get(name) {
                Some(value) => Term::new(value.kind.clone(), term.span.clone()),
                None => term.clone(),
            },
            TermKind::Map { .. } => self.writes.at(self.place(term), self.conditions),
            TermKind::Call { name, arguments } if OF_MAPS.contains(&name.as_str()) => {
                let mut resolved = Vec::new();
                for (at, argument) in arguments.iter().enumerate() {
                    let is_map = at == 0 && argument.as_map().is_some();
                    resolved.push(if is_map { self.place(argument) } else { self.resolved(argument) });
                }
                Term::new(TermKind::Call { name: name.clone(), arguments: resolved }, term.span.clone())
            }
            // `$tuple.1`
            TermKind::Field(of, member) => {
                let of = self.resolved(of);
                if let (TermKind::Tuple(parts), Ok(at)) = (&of.kind, member.parse::<usize>())
                    && let Some(part) = parts.get(at)
                {
                    return part.clone();
                }
                Term::new(TermKind::Field(Rc::new(of), member.clone()), term.span.clone())
            }
            _ => term.map(|part| self.resolved(part)),
        }
    }

    /// A place of a map, with the values of its keys.
    pub(super) fn place(&self, map: &Term) -> Term {
        let Some((name, keys)) = map.as_map() else { return map.clone() };
        let keys: Vec<Term> = keys.iter().map(|key| self.resolved(key)).collect();
        Term::new(TermKind::Map { name: name.to_owned(), keys: flat_keys(&keys) }, map.span.clone())
    }
}

/// Joins the values of two branches into `values`, those of the first.
pub(super) fn merge(
    condition: &Term,
    before: &VariableValues,
    values: &mut VariableValues,
    others: &VariableValues,
) {
    let names: BTreeSet<String> = values.keys().chain(others.keys()).cloned().collect();
    for name in names {
        let joined = match (values.get(&name), others.get(&name)) {
            (Some(one), Some(other)) if one.spelling() == other.spelling() => continue,
            (Some(one), Some(other)) => {
                let kind = TermKind::Choice(
                    Rc::new(condition.clone()),
                    Rc::new(one.clone()),
                    Rc::new(other.clone()),
                );
                Term::new(kind, one.span.clone())
            }
            // Declared within a branch: it has no value outside of it.
            (Some(one), None) if !before.contains_key(&name) => one.clone(),
            (None, Some(other)) if !before.contains_key(&name) => other.clone(),
            // Known before, and not any more behind this branch.
            (Some(_), None) => {
                values.remove(&name);
                continue;
            }
            // The same behind the other.
            (None, _) => continue,
        };
        if joined.size(MAX_SIZE) >= MAX_SIZE {
            values.remove(&name);
        } else {
            values.insert(name, joined);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::parser, *};
    use tapster_ebpf::diagnostic::SourceFile;

    fn values(values: &[(&str, &str)]) -> VariableValues {
        let file = SourceFile::new("a.bt", "");
        let term = |text: &str| parser::parse_term(&file, text).unwrap();
        values.iter().map(|(name, text)| ((*name).to_owned(), term(text))).collect()
    }

    /// Whichever branch it was, what is not known behind it is not known behind both.
    #[test]
    fn branches_are_merged_alike() {
        let before = values(&[("a", "1"), ("b", "1"), ("both", "1")]);
        let one = values(&[("a", "2"), ("both", "2"), ("same", "3"), ("one", "4")]);
        let other = values(&[("b", "2"), ("both", "5"), ("same", "3"), ("other", "6")]);
        let condition = values(&[("condition", "pid == 7")])["condition"].clone();
        let merged = |one: &VariableValues, other: &VariableValues| {
            let mut joined = one.clone();
            merge(&condition, &before, &mut joined, other);
            let joined = joined.iter().map(|(name, term)| format!("{name}: {}", term.spelling()));
            joined.collect::<Vec<_>>()
        };
        let (there, back) = (merged(&one, &other), merged(&other, &one));
        let names = |merged: &[String]| -> Vec<String> {
            merged.iter().filter_map(|line| Some(line.split_once(':')?.0.to_owned())).collect()
        };
        assert_eq!(names(&there), ["both", "one", "other", "same"]);
        assert_eq!(names(&back), names(&there));
        let choice = |one: &str, other: &str| {
            values(&[("both", &format!("pid == 7 ? {one} : {other}"))])["both"].spelling()
        };
        assert_eq!(there[0], format!("both: {}", choice("2", "5")));
        assert_eq!(back[0], format!("both: {}", choice("5", "2")));
    }
}
