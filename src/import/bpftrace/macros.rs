//! Macros, constants and parameters of the command line are put in, so that what follows knows nothing of them.

use super::super::remark::Remark;
use super::script::{Action, Script, ScriptMacro, Step, StepKind, Term, TermKind};
use std::collections::{BTreeMap, BTreeSet};

/// Deepest nesting of macros in macros.
const MAX_DEPTH: usize = 8;
/// Most parts of expressions, with those that macros become; behind it macros stay as they are.
const MAX_NODES: usize = 300_000;
/// Largest expression that a macro becomes.
const MAX_SIZE: usize = 200;

/// What a script's names stand for.
pub(super) struct Substitution<'s> {
    pub(super) macros: &'s [ScriptMacro],
    /// Values of `#define`s.
    pub(super) constants: BTreeMap<String, Term>,
    /// What `$1` and so on are.
    pub(super) parameters: &'s [String],
    pub(super) remarks: Vec<Remark>,
    told: BTreeSet<String>,
    nodes: usize,
}

/// Names of a macro's parameters, as its body has them → what they are in this call.
type Bound = BTreeMap<String, Term>;

impl<'s> Substitution<'s> {
    pub(super) fn new(
        script: &'s Script,
        constants: BTreeMap<String, Term>,
        parameters: &'s [String],
    ) -> Self {
        let macros = &script.macros;
        Self { macros, constants, parameters, remarks: Vec::new(), told: BTreeSet::new(), nodes: 0 }
    }

    /// The action with everything put in.
    pub(super) fn action(&mut self, action: &Action) -> Action {
        let none = Bound::new();
        Action {
            points: action.points.clone(),
            filter: action.filter.as_ref().map(|filter| self.term(filter, &none, 0)),
            body: self.steps(&action.body, &none, 0),
            span: action.span.clone(),
        }
    }

    /// Whether macros became too much; said once.
    fn is_spent(&mut self, at: &Term) -> bool {
        let is_spent = self.nodes >= MAX_NODES;
        if is_spent && self.told.insert("macros".into()) {
            let said = "the macros become too large to be carried over";
            self.remarks.push(Remark::loss(at.span.clone(), said));
        }
        is_spent
    }

    fn steps(&mut self, steps: &[Step], bound: &Bound, depth: usize) -> Vec<Step> {
        steps
            .iter()
            .map(|step| {
                let kind = match &step.kind {
                    StepKind::Set { target, operator, value } => StepKind::Set {
                        target: self.term(target, bound, depth),
                        operator: *operator,
                        value: self.term(value, bound, depth),
                    },
                    StepKind::Value(term) => self.statement(term, bound, depth),
                    StepKind::If { condition, yes, no } => StepKind::If {
                        condition: self.term(condition, bound, depth),
                        yes: self.steps(yes, bound, depth),
                        no: self.steps(no, bound, depth),
                    },
                    StepKind::Block(steps) => StepKind::Block(self.steps(steps, bound, depth)),
                    other => other.clone(),
                };
                Step { kind, span: step.span.clone() }
            })
            .collect()
    }

    /// A call for its own sake: a macro's statements stand in its place.
    fn statement(&mut self, term: &Term, bound: &Bound, depth: usize) -> StepKind {
        let called = match &term.kind {
            TermKind::Call { name, arguments } => Some((name, &arguments[..])),
            TermKind::Name(name) => Some((name, &[][..])),
            _ => None,
        };
        let found = called.and_then(|(name, arguments)| self.find(name).zip(Some(arguments)));
        if let Some((found, arguments)) = found.filter(|_| depth < MAX_DEPTH)
            && !self.is_spent(term)
        {
            let inner = self.bind(found, arguments, bound, depth);
            // What the macro says is said of the place where it is called.
            let mut steps = self.steps(&found.body, &inner, depth + 1);
            for step in &mut steps {
                step.span = term.span.clone();
            }
            return StepKind::Block(steps);
        }
        StepKind::Value(self.term(term, bound, depth))
    }

    fn find(&self, name: &str) -> Option<&'s ScriptMacro> {
        self.macros.iter().find(|one| one.name == name)
    }

    fn bind(&mut self, found: &ScriptMacro, arguments: &[Term], bound: &Bound, depth: usize) -> Bound {
        let arguments: Vec<Term> =
            arguments.iter().map(|argument| self.term(argument, bound, depth)).collect();
        found.parameters.iter().cloned().zip(arguments).collect()
    }

    fn term(&mut self, term: &Term, bound: &Bound, depth: usize) -> Term {
        self.nodes += 1;
        let placed = |found: &Term| Term::new(found.kind.clone(), term.span.clone());
        match &term.kind {
            TermKind::Name(name) => {
                if let Some(found) = bound.get(name).or_else(|| self.constants.get(name)) {
                    return placed(found);
                }
                self.expanded(term, name, &[], bound, depth).unwrap_or_else(|| term.clone())
            }
            TermKind::Variable(name) => bound.get(&format!("${name}")).map_or_else(|| term.clone(), placed),
            TermKind::Map { name, keys } => {
                let keys = keys.iter().map(|key| self.term(key, bound, depth)).collect();
                let given = bound.get(&format!("@{name}")).and_then(Term::as_map);
                let name = given.map_or_else(|| name.clone(), |(name, _)| name.to_owned());
                Term::new(TermKind::Map { name, keys }, term.span.clone())
            }
            TermKind::Parameter(name) => self.parameter(name, term),
            TermKind::Call { name, arguments } if name == "getopt" => {
                let said = |term: Option<&Term>| term.map(Term::spelling).unwrap_or_default();
                let (option, default) = (said(arguments.first()), arguments.get(1));
                if self.told.insert(option.clone()) {
                    let text =
                        format!("the option {option} is as it is without the option: `{}`", said(default));
                    self.remarks.push(Remark::note(term.span.clone(), text));
                }
                default.map_or_else(|| Term::new(TermKind::Number(0), term.span.clone()), placed)
            }
            TermKind::Call { name, arguments } => match self.expanded(term, name, arguments, bound, depth) {
                Some(expanded) => expanded,
                None => term.map(|part| self.term(part, bound, depth)),
            },
            _ => term.map(|part| self.term(part, bound, depth)),
        }
    }

    /// What a macro of one expression is.
    fn expanded(
        &mut self,
        at: &Term,
        name: &str,
        arguments: &[Term],
        bound: &Bound,
        depth: usize,
    ) -> Option<Term> {
        let found = self.find(name).filter(|_| depth < MAX_DEPTH)?;
        let [Step { kind: StepKind::Value(value), .. }] = &found.body[..] else { return None };
        if self.is_spent(at) {
            return None;
        }
        let inner = self.bind(found, arguments, bound, depth);
        let value = self.term(value, &inner, depth + 1);
        if value.size(MAX_SIZE) >= MAX_SIZE {
            let said = format!("`{name}` becomes too long an expression");
            self.remarks.push(Remark::loss(at.span.clone(), said));
            return Some(Term::new(TermKind::Name(name.to_owned()), at.span.clone()));
        }
        Some(Term::new(value.kind, at.span.clone()))
    }

    /// `$1`: the word of the command line, or what bpftrace takes where there is none.
    fn parameter(&mut self, name: &str, term: &Term) -> Term {
        let given = match name.parse::<usize>() {
            Ok(number) => number.checked_sub(1).and_then(|at| self.parameters.get(at)).cloned(),
            Err(_) => Some(self.parameters.len().to_string()),
        };
        if given.is_none() && self.told.insert(format!("${name}")) {
            let text = format!("`${name}` is 0, as without parameters: write them behind the script's name");
            self.remarks.push(Remark::note(term.span.clone(), text));
        }
        let given = given.unwrap_or_else(|| "0".into());
        let kind = match given.parse() {
            Ok(number) => TermKind::Number(number),
            Err(_) => TermKind::Text(given),
        };
        Term::new(kind, term.span.clone())
    }
}
