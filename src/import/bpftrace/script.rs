//! A script as it is written: the syntax tree of bpftrace's language, as far as probes can say it.

use std::rc::Rc;
use tapster_ebpf::diagnostic::{Span, Spanned};

/// A whole script.
#[derive(Debug, Default)]
pub(super) struct Script {
    /// Probes with their actions, in the order written.
    pub(super) actions: Vec<Action>,
    /// `macro NAME(…) { … }`
    pub(super) macros: Vec<ScriptMacro>,
    /// Whether events that the kernel does not have are passed over: `config = { missing_probes = ignore }`.
    pub(super) passes_missing: bool,
}

/// `POINT, POINT /FILTER/ { … }`
#[derive(Clone, Debug)]
pub(super) struct Action {
    pub(super) points: Vec<Spanned<String>>,
    pub(super) filter: Option<Term>,
    pub(super) body: Vec<Step>,
    /// All of it.
    pub(super) span: Span,
}

/// `macro NAME(PARAMETERS) { … }`; parameters have their `$` or `@`.
#[derive(Clone, Debug)]
pub(super) struct ScriptMacro {
    pub(super) name: String,
    pub(super) parameters: Vec<String>,
    pub(super) body: Vec<Step>,
}

/// A statement and its place.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) kind: StepKind,
    pub(super) span: Span,
}

/// A statement.
#[derive(Clone, Debug)]
pub(super) enum StepKind {
    /// `TARGET = VALUE`; `operator` is that of `+=` and the like.
    Set { target: Term, operator: Option<&'static str>, value: Term },
    /// A call, or a value that nobody uses.
    Value(Term),
    /// `if … else …`
    If { condition: Term, yes: Vec<Step>, no: Vec<Step> },
    /// `for`, `while` or `unroll`, by its word, and the variables that it changes.
    Loop { word: String, changes: Vec<String> },
    /// `{ … }`, also what a macro became.
    Block(Vec<Step>),
    /// `return`, `break` or `continue`.
    Leave,
    /// `let $x;`
    Nothing,
}

/// An expression and its place. Clones are cheap: a variable's value is used wherever the variable is.
#[derive(Clone, Debug)]
pub(super) struct Term {
    pub(super) kind: TermKind,
    pub(super) span: Span,
}

/// A variable that became a `let` of the probe.
#[derive(Debug)]
pub(super) struct NamedTerm {
    pub(super) name: String,
    pub(super) term: Term,
}

/// An expression.
#[derive(Clone, Debug)]
pub(super) enum TermKind {
    Number(u64),
    Text(String),
    /// A builtin, an enumerator, a macro's parameter, or a type such as `struct sock *`.
    Name(String),
    /// `$x`
    Variable(String),
    /// A variable whose value is named by `let`.
    Let(Rc<NamedTerm>),
    /// `@x`, `@x[a, b]`
    Map {
        name: String,
        keys: Vec<Term>,
    },
    /// `$1`
    Parameter(String),
    /// `a.b`, `a->b`, `a.1`
    Field(Rc<Term>, String),
    /// `a[b]`
    Index(Rc<Term>, Rc<Term>),
    /// `f(…)`
    Call {
        name: String,
        arguments: Vec<Term>,
    },
    Unary(&'static str, Rc<Term>),
    Binary(&'static str, Rc<Term>, Rc<Term>),
    /// `a ? b : c`
    Choice(Rc<Term>, Rc<Term>, Rc<Term>),
    /// `(struct sock *)x`, `(uint64)x`
    Cast(String, Rc<Term>),
    /// `(a, b)`
    Tuple(Vec<Term>),
}

impl Term {
    pub(super) fn new(kind: TermKind, span: Span) -> Self {
        Self { kind, span }
    }

    /// The parts of the expression, one level down.
    pub(super) fn parts(&self) -> Vec<&Self> {
        match &self.kind {
            TermKind::Number(_)
            | TermKind::Text(_)
            | TermKind::Name(_)
            | TermKind::Variable(_)
            | TermKind::Parameter(_)
            | TermKind::Let(_) => Vec::new(),
            TermKind::Map { keys: terms, .. }
            | TermKind::Call { arguments: terms, .. }
            | TermKind::Tuple(terms) => terms.iter().collect(),
            TermKind::Field(a, _) | TermKind::Unary(_, a) | TermKind::Cast(_, a) => vec![a],
            TermKind::Index(a, b) | TermKind::Binary(_, a, b) => vec![a, b],
            TermKind::Choice(a, b, c) => vec![a, b, c],
        }
    }

    /// The expression with its parts replaced, one level down.
    pub(super) fn map(&self, mut change: impl FnMut(&Self) -> Self) -> Self {
        let mut all = |terms: &[Self]| terms.iter().map(&mut change).collect::<Vec<_>>();
        let kind = match &self.kind {
            TermKind::Map { name, keys } => TermKind::Map { name: name.clone(), keys: all(keys) },
            TermKind::Call { name, arguments } => {
                TermKind::Call { name: name.clone(), arguments: all(arguments) }
            }
            TermKind::Tuple(terms) => TermKind::Tuple(all(terms)),
            TermKind::Field(a, name) => TermKind::Field(Rc::new(change(a)), name.clone()),
            TermKind::Unary(sign, a) => TermKind::Unary(sign, Rc::new(change(a))),
            TermKind::Cast(to, a) => TermKind::Cast(to.clone(), Rc::new(change(a))),
            TermKind::Index(a, b) => TermKind::Index(Rc::new(change(a)), Rc::new(change(b))),
            TermKind::Binary(sign, a, b) => TermKind::Binary(sign, Rc::new(change(a)), Rc::new(change(b))),
            TermKind::Choice(a, b, c) => {
                TermKind::Choice(Rc::new(change(a)), Rc::new(change(b)), Rc::new(change(c)))
            }
            other => other.clone(),
        };
        Self { kind, span: self.span.clone() }
    }

    /// Whether the expression or a part of it is so; `let`s are not looked into.
    pub(super) fn has(&self, is: &dyn Fn(&Self) -> bool) -> bool {
        is(self) || self.parts().into_iter().any(|part| part.has(is))
    }

    /// How many parts it has in all, at most `limit`.
    pub(super) fn size(&self, limit: usize) -> usize {
        let mut size = 1;
        for part in self.parts() {
            if size >= limit {
                break;
            }
            size += part.size(limit - size);
        }
        size
    }

    /// The expression in the script's own words, spelt in one way: equal texts mean the same.
    pub(super) fn spelling(&self) -> String {
        let all = |terms: &[Self]| terms.iter().map(Self::spelling).collect::<Vec<_>>().join(", ");
        match &self.kind {
            TermKind::Number(number) => number.to_string(),
            TermKind::Text(text) => format!("{text:?}"),
            TermKind::Name(name) => name.clone(),
            TermKind::Variable(name) | TermKind::Parameter(name) => format!("${name}"),
            TermKind::Let(named) => format!("${}", named.name),
            TermKind::Map { name, keys } if keys.is_empty() => format!("@{name}"),
            TermKind::Map { name, keys } => format!("@{name}[{}]", all(keys)),
            TermKind::Field(a, name) => format!("{}.{name}", a.spelling()),
            TermKind::Index(a, b) => format!("{}[{}]", a.spelling(), b.spelling()),
            TermKind::Call { name, arguments } => format!("{name}({})", all(arguments)),
            TermKind::Unary(sign, a) => format!("{sign}{}", a.spelling()),
            TermKind::Binary(sign, a, b) => format!("({} {sign} {})", a.spelling(), b.spelling()),
            TermKind::Choice(a, b, c) => {
                format!("({} ? {} : {})", a.spelling(), b.spelling(), c.spelling())
            }
            TermKind::Cast(to, a) => format!("({to}){}", a.spelling()),
            TermKind::Tuple(terms) => format!("({})", all(terms)),
        }
    }

    /// The name and keys of a map, if it is one.
    pub(super) fn as_map(&self) -> Option<(&str, &[Self])> {
        match &self.kind {
            TermKind::Map { name, keys } => Some((name, keys)),
            _ => None,
        }
    }

    /// The name and arguments of a call, if it is one.
    pub(super) fn as_call(&self) -> Option<(&str, &[Self])> {
        match &self.kind {
            TermKind::Call { name, arguments } => Some((name, arguments)),
            _ => None,
        }
    }

    /// Whether it is this word.
    pub(super) fn is_name(&self, word: &str) -> bool {
        match &self.kind {
            TermKind::Name(name) => name == word,
            // `nsecs()` and `nsecs(boot)` are newer spellings of `nsecs`.
            TermKind::Call { name, arguments } => name == word && (arguments.is_empty() || word == "nsecs"),
            _ => false,
        }
    }

    /// Its number, if it is a constant.
    pub(super) fn as_number(&self) -> Option<u64> {
        match &self.kind {
            TermKind::Number(number) => Some(*number),
            TermKind::Name(name) if name == "true" => Some(1),
            TermKind::Name(name) if name == "false" => Some(0),
            TermKind::Cast(_, inner) => inner.as_number(),
            _ => None,
        }
    }
}

/// The keys of a map, where a tuple stands for its parts.
pub(super) fn flat_keys(keys: &[Term]) -> Vec<Term> {
    keys.iter()
        .flat_map(|key| match &key.kind {
            TermKind::Tuple(parts) => flat_keys(parts),
            _ => vec![key.clone()],
        })
        .collect()
}

/// The variables that statements assign, with those of statements within them.
pub(super) fn assigned(steps: &[Step]) -> Vec<String> {
    let mut names = Vec::new();
    for step in steps {
        match &step.kind {
            StepKind::Set { target: Term { kind: TermKind::Variable(name), .. }, .. } => {
                names.push(name.clone());
            }
            StepKind::If { yes, no, .. } => names.extend([assigned(yes), assigned(no)].concat()),
            StepKind::Loop { changes, .. } => names.extend(changes.clone()),
            StepKind::Block(steps) => names.extend(assigned(steps)),
            StepKind::Set { .. } | StepKind::Value(_) | StepKind::Leave | StepKind::Nothing => {}
        }
    }
    names
}
