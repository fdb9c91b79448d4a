//! The statements of an action → what it does under which conditions. Variables are replaced by their values, or become
//! `let`s.

use super::super::remark::Remark;
use super::{
    condition::{all, conjuncts, constant, opposite},
    script::{Action, NamedTerm, Step, StepKind, Term, TermKind, flat_keys},
    value::{MAX_SIZE, MapWrites, ReadingPlace, VariableValues, merge},
};
use std::{collections::BTreeMap, rc::Rc};
use tapster_ebpf::diagnostic::Span;

/// Most variables of an action that become `let`s; a probe may have 64.
const MAX_LETS: usize = 48;
/// Most conditions of one statement.
const MAX_CONDITIONS: usize = 32;
/// Most variables of an action at one time, and statements of it that do something.
const MAX_VALUES: usize = 200;
const MAX_DEEDS: usize = 1000;
/// Functions that keep a sum, a distribution or the like in a map.
const GATHERING: [&str; 9] = ["count", "sum", "hist", "lhist", "avg", "min", "max", "stats", "tseries"];
/// Functions that print, and what else needs no counterpart.
const PRINTING: [&str; 10] =
    ["print", "clear", "zero", "time", "exit", "cat", "debugf", "errorf", "warnf", "unwatch"];

/// Something an action does to a map, or shows.
#[derive(Clone, Debug)]
pub(super) struct Deed {
    /// All must hold.
    pub(super) conditions: Vec<Term>,
    pub(super) act: Act,
    pub(super) span: Span,
}

/// What is done.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// `@x[keys] = value`
    Keep { map: String, keys: Vec<Term>, value: Term },
    /// `@x[keys] += value`, `@x[keys]++`
    Add { map: String, keys: Vec<Term>, by: Term, is_minus: bool },
    /// `@x[keys] = count()`
    Gather { map: String, keys: Vec<Term>, function: String, arguments: Vec<Term> },
    /// `delete(@x, keys)`
    Forget { map: String, keys: Vec<Term> },
    /// `printf(format, …)`
    Show { arguments: Vec<Term> },
}

/// What an action comes to.
#[derive(Debug, Default)]
pub(super) struct ActionFlow {
    pub(super) deeds: Vec<Deed>,
    pub(super) remarks: Vec<Remark>,
    /// Places of printing that needs no counterpart.
    pub(super) printing: Vec<Span>,
}

struct Walker<'w> {
    flow: ActionFlow,
    writes: MapWrites,
    lets: usize,
    /// Names of `let`s of the whole script → the values they have.
    names: &'w mut BTreeMap<String, String>,
}

/// Walks through an action. `names` are the `let`s of the script so far: one name is one value in all of them.
pub(super) fn walk(action: &Action, names: &mut BTreeMap<String, String>) -> ActionFlow {
    let mut walker = Walker { flow: ActionFlow::default(), writes: MapWrites::default(), lets: 0, names };
    let mut values = VariableValues::new();
    let conditions = action.filter.iter().flat_map(conjuncts).collect();
    walker.steps(&action.body, &mut values, conditions);
    walker.flow
}

impl Walker<'_> {
    fn at<'p>(&'p self, values: &'p VariableValues, conditions: &'p [Term]) -> ReadingPlace<'p> {
        ReadingPlace { values, writes: &self.writes, conditions }
    }

    /// Returns the conditions that hold behind the steps; `None` if nothing is reached there.
    fn steps(
        &mut self,
        steps: &[Step],
        values: &mut VariableValues,
        mut conditions: Vec<Term>,
    ) -> Option<Vec<Term>> {
        for step in steps {
            conditions = self.step(step, values, conditions)?;
        }
        Some(conditions)
    }

    fn step(&mut self, step: &Step, values: &mut VariableValues, conditions: Vec<Term>) -> Option<Vec<Term>> {
        match &step.kind {
            StepKind::Set { target, operator, value } => {
                let value = self.at(values, &conditions).resolved(value);
                self.set(step, target, *operator, value, values, &conditions);
            }
            StepKind::Value(term) => {
                let term = self.at(values, &conditions).resolved(term);
                self.call(step, &term, &conditions);
            }
            StepKind::Block(steps) => return self.steps(steps, values, conditions),
            StepKind::If { condition, yes, no } => {
                return self.branch(step, condition, yes, no, values, conditions);
            }
            StepKind::Loop { word, changes } => {
                // What they are behind it is not known.
                values.retain(|name, _| !changes.contains(name));
                let said = format!("a program of a probe has no `{word}`; `each` walks a list");
                self.flow.remarks.push(Remark::loss(step.span.clone(), said));
            }
            StepKind::Leave => return None,
            StepKind::Nothing => {}
        }
        Some(conditions)
    }

    fn branch(
        &mut self,
        step: &Step,
        condition: &Term,
        yes: &[Step],
        no: &[Step],
        values: &mut VariableValues,
        conditions: Vec<Term>,
    ) -> Option<Vec<Term>> {
        let condition = self.at(values, &conditions).condition(condition);
        if let Some(number) = constant(&condition) {
            return self.steps(if number == 0 { no } else { yes }, values, conditions);
        }
        if conditions.len() >= MAX_CONDITIONS {
            let said = format!("more than {MAX_CONDITIONS} conditions");
            self.flow.remarks.push(Remark::loss(step.span.clone(), said));
            return Some(conditions);
        }
        let before = values.clone();
        let with = |more: Vec<Term>| [conditions.clone(), more].concat();
        let (holds, fails) = (conjuncts(&condition), vec![opposite(&condition)]);
        let mut values_if_not = before.clone();
        let reached = self.steps(yes, values, with(holds.clone()));
        let reached_if_not = self.steps(no, &mut values_if_not, with(fails.clone()));
        match (reached, reached_if_not) {
            (None, None) => None,
            (Some(reached), None) => Some(reached),
            (None, Some(reached)) => {
                *values = values_if_not;
                Some(reached)
            }
            (Some(reached), Some(reached_if_not)) => {
                merge(&condition, &before, values, &values_if_not);
                // What holds behind a branch holds behind both, or it was the other branch.
                let of_yes = reached.get(conditions.len() + holds.len()..).and_then(all);
                let of_no = reached_if_not.get(conditions.len() + fails.len()..).and_then(all);
                let or = |other: Term, term: Term| {
                    Term::new(TermKind::Binary("||", Rc::new(other), Rc::new(term)), step.span.clone())
                };
                let more: Vec<Term> = [
                    of_yes.map(|term| or(opposite(&condition), term)),
                    of_no.map(|term| or(condition.clone(), term)),
                ]
                .into_iter()
                .flatten()
                .collect();
                if more.iter().any(|term| term.size(MAX_SIZE) >= MAX_SIZE) {
                    let said = "when this is left is too long a condition: what stands behind it is left out";
                    self.flow.remarks.push(Remark::loss(step.span.clone(), said));
                    return None;
                }
                Some(with(more))
            }
        }
    }

    fn set(
        &mut self,
        step: &Step,
        target: &Term,
        operator: Option<&'static str>,
        value: Term,
        values: &mut VariableValues,
        conditions: &[Term],
    ) {
        let span = step.span.clone();
        match &target.kind {
            TermKind::Variable(name) => {
                if value.as_call().is_some_and(|(function, _)| function == "delete") {
                    self.call(step, &value, conditions);
                    return;
                }
                let value = match (operator, values.get(name)) {
                    (None, _) => value,
                    (Some(operator), Some(old)) => {
                        let kind = TermKind::Binary(operator, Rc::new(old.clone()), Rc::new(value));
                        Term::new(kind, span)
                    }
                    (Some(_), None) => return,
                };
                if value.size(MAX_SIZE) >= MAX_SIZE || values.len() >= MAX_VALUES {
                    let said =
                        format!("`${name}` becomes too long an expression, or is one variable too many");
                    self.flow.remarks.push(Remark::loss(step.span.clone(), said));
                    values.remove(name);
                } else {
                    let value = self.named(name, value);
                    values.insert(name.clone(), value);
                }
            }
            TermKind::Map { .. } => {
                let place = self.at(values, conditions).place(target);
                let TermKind::Map { name: map, keys } = place.kind.clone() else { return };
                let gathers = value.as_call().filter(|(function, _)| GATHERING.contains(function));
                let act = match (operator, gathers) {
                    (None, Some((function, arguments))) => Act::Gather {
                        map,
                        keys,
                        function: function.to_owned(),
                        arguments: arguments.to_vec(),
                    },
                    (None, None) => Act::Keep { map, keys, value },
                    (Some("+"), _) => Act::Add { map, keys, by: value, is_minus: false },
                    (Some("-"), _) => Act::Add { map, keys, by: value, is_minus: true },
                    (Some(operator), _) => {
                        let said = format!("metrics are added to: `{operator}=` has no counterpart");
                        self.flow.remarks.push(Remark::loss(span, said));
                        return;
                    }
                };
                let written = match &act {
                    Act::Keep { value, .. } => Some(value.clone()),
                    Act::Add { by, is_minus, .. } => {
                        let before = self.writes.at(place.clone(), conditions);
                        let sign = if *is_minus { "-" } else { "+" };
                        let kind = TermKind::Binary(sign, Rc::new(before.clone()), Rc::new(by.clone()));
                        let is_first = before.as_number() == Some(0) && !is_minus;
                        Some(if is_first { by.clone() } else { Term::new(kind, span.clone()) })
                    }
                    _ => None,
                };
                if let Some(value) = written {
                    self.writes.push(&place, conditions, value);
                }
                self.deed(conditions, act, span);
            }
            _ => {
                let said = format!("`{}` cannot be assigned", target.spelling());
                self.flow.remarks.push(Remark::loss(span, said));
            }
        }
    }

    fn call(&mut self, step: &Step, term: &Term, conditions: &[Term]) {
        let span = step.span.clone();
        let Some((function, arguments)) = term.as_call() else {
            if let Some((map, _)) = term.as_map() {
                let said = format!("`@{map}` alone does nothing");
                self.flow.remarks.push(Remark::note(span, said));
            } else if !matches!(term.kind, TermKind::Number(_)) {
                let said = format!("nothing is done with `{}`", term.spelling());
                self.flow.remarks.push(Remark::note(span, said));
            }
            return;
        };
        let act = match (function, arguments) {
            ("printf" | "print" | "join", _)
                if function != "print" || arguments.first().is_none_or(|first| first.as_map().is_none()) =>
            {
                // What stands between the words is not carried over.
                let words = arguments.first().cloned();
                let words = words.map(|words| TermKind::Call { name: "join".into(), arguments: vec![words] });
                let arguments = match (function, words) {
                    ("join", Some(words)) => vec![Term::new(words, term.span.clone())],
                    _ => arguments.to_vec(),
                };
                Act::Show { arguments }
            }
            ("delete", [first, rest @ ..]) => {
                let Some((map, keys)) = first.as_map() else { return };
                let (map, keys) = (map.to_owned(), flat_keys(&[keys, rest].concat()));
                // What is read there from now on is what was never written.
                let place = TermKind::Map { name: map.clone(), keys: keys.clone() };
                let nothing = Term::new(TermKind::Number(0), span.clone());
                self.writes.push(&Term::new(place, span.clone()), conditions, nothing);
                Act::Forget { map, keys }
            }
            (function, _) if PRINTING.contains(&function) => {
                self.flow.printing.push(span);
                return;
            }
            ("signal" | "override" | "system" | "skboutput" | "setcpumask" | "socket_lookup", _) => {
                let said = format!("a probe only observes: `{function}` is not carried over");
                self.flow.remarks.push(Remark::loss(span, said));
                return;
            }
            (function, _) => {
                let said = format!("`{function}` has no counterpart");
                self.flow.remarks.push(Remark::loss(span, said));
                return;
            }
        };
        self.deed(conditions, act, span);
    }

    fn deed(&mut self, conditions: &[Term], act: Act, span: Span) {
        if self.flow.deeds.len() == MAX_DEEDS {
            let said = format!("more than {MAX_DEEDS} statements of one action");
            self.flow.remarks.push(Remark::loss(span, said));
        } else if self.flow.deeds.len() < MAX_DEEDS {
            self.flow.deeds.push(Deed { conditions: conditions.to_vec(), act, span });
        }
    }

    /// A variable's value as a `let`, where that is shorter than to repeat it and it means the same at every event.
    fn named(&mut self, name: &str, value: Term) -> Term {
        let is_short = match &value.kind {
            TermKind::Field(of, _) => of.is_name("args"),
            _ => value.parts().is_empty(),
        };
        let is_bound = value.has(&|part| {
            matches!(
                part.kind,
                TermKind::Map { .. } | TermKind::Tuple(_) | TermKind::Call { .. } | TermKind::Text(_)
            ) || part.is_name("nsecs")
                || part.is_name("retval")
        });
        if is_short || is_bound || self.lets >= MAX_LETS {
            return value;
        }
        let spelling = value.spelling();
        let plain: String = name
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || *c == '_')
            .take(60)
            .collect::<String>()
            .to_lowercase();
        let plain = if is_reserved(&plain) { format!("{plain}_value") } else { plain };
        let mut free = plain.clone();
        let mut number = 2;
        while self.names.get(&free).is_some_and(|known| *known != spelling) {
            free = format!("{plain}_{number}");
            number += 1;
        }
        self.names.insert(free.clone(), spelling);
        self.lets += 1;
        let span = value.span.clone();
        Term::new(TermKind::Let(Rc::new(NamedTerm { name: free, term: value })), span)
    }
}

/// Whether a name has a meaning of its own in expressions, or is none.
fn is_reserved(name: &str) -> bool {
    const WORDS: &[&str] = &[
        "args",
        "pid",
        "tid",
        "uid",
        "gid",
        "comm",
        "curtask",
        "cgroup",
        "cpu",
        "nsecs",
        "retval",
        "frame",
        "func",
        "tracepoint",
        "duration",
        "start",
        "state",
        "kstack",
        "ustack",
        "traced",
        "tracing",
        "true",
        "false",
        "struct",
        "union",
        "enum",
    ];
    let is_argument = name.strip_prefix("arg").is_some_and(|rest| rest.parse::<u8>().is_ok());
    WORDS.contains(&name) || is_argument || name.starts_with(|c: char| !c.is_ascii_alphabetic() && c != '_')
}
