//! State: what its values and keys are, what events do to it, and how expressions read it.
//!
//! The type of a state follows from what events set it to, and what they set it to may depend on other states, or on itself. So
//! a probe with state is checked again until no type changes: what a pass finds holds for the reads of the next.

use super::{
    Checker, MAX_KEY, common,
    event::shape,
    expression::number,
    meeting::{Checked, meet},
    scope::{Operand, Problems, Scope},
};
use crate::{
    attach::{self, Resolved},
    diagnostic::{Span, nearest},
    expr::{self, Expr, ExprKind},
    probe::{DeclaredChange, DeclaredEffect, DeclaredState, Event, Expression, Probe, StateScope},
    typed::{AccessMode, Role, StateEffect, Type, Typed, TypedChange, TypedEvent, TypedKind, TypedState},
    yaml::{Data, Node},
};
use std::{cell::RefCell, collections::HashSet};

/// Most passes over a probe: each but the last two settles the type of a state, or makes a text longer.
const MOST_PASSES: usize = 64;

/// What is known of a state.
#[derive(Clone, Debug, Default, PartialEq)]
struct KeptType {
    ty: Option<Type>,
    key: Option<Vec<Type>>,
    /// Whether all that it is set to are times.
    is_time: Option<bool>,
}

/// The states of a probe, and what is known of them.
#[derive(Debug)]
pub(super) struct KnownStates<'a> {
    pub(super) declared: &'a [DeclaredState],
    /// Number of parts of each key, by the first event that changes it.
    parts: Vec<usize>,
    /// What the last pass found.
    types: Vec<KeptType>,
    /// What this pass has found so far.
    found: RefCell<Vec<KeptType>>,
}

impl<'a> KnownStates<'a> {
    pub(super) fn of(probe: &'a Probe) -> Self {
        let parts = |state: &DeclaredState| {
            let mut changes = probe.events().flat_map(|event| &event.changes);
            changes.find(|change| change.name.value == state.name.value).map_or(0, |change| change.key.len())
        };
        let types = vec![KeptType::default(); probe.states.len()];
        Self {
            declared: &probe.states,
            parts: probe.states.iter().map(parts).collect(),
            found: RefCell::new(types.clone()),
            types,
        }
    }

    /// Whether the type of a state is not known yet.
    pub(super) fn are_open(&self) -> bool {
        self.types.iter().any(|known| known.ty.is_none() || known.key.is_none())
    }

    /// Takes over what a pass has found; whether another one is needed. What only depends on itself, or is not written on this
    /// kernel, is a number.
    pub(super) fn learn(&mut self, passes: usize, is_wrong: bool, defaults: &[Option<Typed>]) -> bool {
        let empty = vec![KeptType::default(); self.declared.len()];
        let found = self.found.replace(empty);
        let mut next: Vec<KeptType> = Vec::with_capacity(found.len());
        for ((found, known), default) in found.into_iter().zip(&self.types).zip(defaults) {
            let ty = found.ty.map(|ty| with_default(ty, default.as_ref()));
            next.push(KeptType {
                ty: ty.or_else(|| known.ty.clone()),
                key: found.key.or_else(|| known.key.clone()),
                is_time: found.is_time.or(known.is_time),
            });
        }
        if next == self.types && !is_wrong {
            for (known, parts) in next.iter_mut().zip(&self.parts) {
                known.ty.get_or_insert(Type::U64);
                known.key.get_or_insert_with(|| vec![Type::U64; *parts]);
            }
        }
        let is_new = next != self.types;
        self.types = next;
        is_new && passes < MOST_PASSES
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.declared.iter().position(|state| state.name.value == name)
    }

    /// The name and the parts of the key in `state.NAME[KEY]`, if it is a state that has a key of so many parts or more.
    fn path<'e>(&self, expr: &'e Expr) -> Option<(&'e str, Span, Vec<&'e Expr>)> {
        let (mut base, mut key) = (expr, Vec::new());
        while let ExprKind::Index(inner, index) = &base.kind {
            key.insert(0, &**index);
            base = inner;
        }
        let ExprKind::Member(of, field) = &base.kind else { return None };
        let index = self.position(&field.name)?;
        let fits = matches!(&of.kind, ExprKind::Name(name) if name == "state")
            && self.declared[index].per == StateScope::Key
            && key.len() <= self.parts[index];
        fits.then(|| (field.name.as_str(), field.span.clone(), key))
    }

    /// Joins the types of a key with those at other events; in words what does not fit.
    fn join_key(&self, index: usize, key: &[Typed]) -> Result<(), String> {
        let mut found = self.found.borrow_mut();
        let types: Vec<Type> = key.iter().map(|part| part.ty.clone()).collect();
        let known = found[index].key.get_or_insert_with(|| types.clone());
        let joined: Option<Vec<Type>> = known.iter().zip(&types).map(|(a, b)| common(a, b)).collect();
        match joined {
            Some(joined) => *known = joined,
            None => return Err(format!("{} here, and {} at another event", shape(&types), shape(known))),
        }
        Ok(())
    }

    /// Joins the type of a value with those at other events; in words what does not fit.
    fn join_value(&self, index: usize, ty: &Type, is_time: Option<bool>) -> Result<(), String> {
        let mut found = self.found.borrow_mut();
        let known = &mut found[index];
        let before = known.ty.get_or_insert_with(|| ty.clone());
        let both = [ty.clone(), before.clone()];
        let [here, other] = both.each_ref().map(|ty| shape(std::slice::from_ref(ty)));
        *before = common(before, ty).ok_or_else(|| format!("{here} here, and {other} at another event"))?;
        if let Some(is_time) = is_time {
            known.is_time = Some(known.is_time.unwrap_or(true) && is_time);
        }
        Ok(())
    }
}

impl Scope<'_> {
    /// `state.NAME[KEY]`; `None` for what is not a state.
    pub(super) fn indexed_state(
        &self,
        expression: &Expression,
        expr: &Expr,
    ) -> Option<Result<Operand, Problems>> {
        let (name, span, key) = self.states.path(expr)?;
        Some(self.state(expression, span, name, &key))
    }

    /// `state.NAME` and the parts of its key.
    pub(super) fn state(
        &self,
        expression: &Expression,
        span: Span,
        name: &str,
        key: &[&Expr],
    ) -> Result<Operand, Problems> {
        let names = self.states.declared.iter().map(|state| state.name.value.as_str());
        let Some(index) = self.states.position(name) else {
            let hint = nearest(name, names).map_or_else(
                || format!("declare it: state: {{ {name}: {{ per: cpu }} }}"),
                |near| format!("did you mean `{near}`?"),
            );
            return Err(self.problem(expression, span, format!("there is no state `{name}`"), Some(hint)));
        };
        let parts = self.states.parts[index];
        if self.states.declared[index].per == StateScope::Key && key.len() != parts {
            let (message, hint) = if key.is_empty() {
                (format!("`{name}` is kept by key"), format!("write state.{name}[KEY]"))
            } else {
                let message = format!("the key of `{name}` has {parts} parts, not {}", key.len());
                (message, format!("write state.{name}{}", "[PART]".repeat(parts)))
            };
            return Err(self.problem(expression, span, message, Some(hint)));
        }
        let key = self.state_key(expression, key)?;
        self.states.join_key(index, &key).map_err(|what| self.misfit(expression, span, name, &what))?;
        // Where its type is not known yet, this pass is not the last.
        let known = &self.states.types[index];
        let ty = known.ty.clone().ok_or_else(Vec::new)?;
        let is_time = known.is_time == Some(true);
        Ok(Operand::Value(Typed { is_time, ..Typed::new(TypedKind::State { state: index, key }, ty) }))
    }

    fn state_key(&self, expression: &Expression, key: &[&Expr]) -> Result<Vec<Typed>, Problems> {
        let mut typed = Vec::new();
        for part in key {
            let value = self.value(expression, part)?;
            if let Type::Stack { .. } = value.ty {
                return self.no_text(expression, part, value, "a key").map(|value| vec![value]);
            }
            typed.push(value);
        }
        Ok(typed)
    }

    fn misfit(&self, expression: &Expression, span: Span, name: &str, what: &str) -> Problems {
        let hint = "an event finds what another one left only by an equal key".to_owned();
        self.problem(expression, span, format!("the key of `{name}` is {what}"), Some(hint))
    }
}

/// The words of a constant of this type.
fn words(value: &TypedKind, ty: &Type) -> Vec<u64> {
    let room = usize::try_from(ty.room() / 8).expect("a value has at most 256 bytes");
    let mut words = vec![0; room];
    match value {
        TypedKind::Constant(value) => words[0] = *value,
        TypedKind::Text(bytes) => {
            for (word, chunk) in words.iter_mut().zip(bytes.chunks(8)) {
                let mut eight = [0; 8];
                eight[..chunk.len()].copy_from_slice(chunk);
                *word = u64::from_le_bytes(eight);
            }
        }
        _ => {}
    }
    words
}

/// The integer type that also has this default.
fn with_default(ty: Type, default: Option<&Typed>) -> Type {
    let (Type::Int { bits, signed }, Some(TypedKind::Constant(value))) =
        (&ty, default.map(|default| &default.kind))
    else {
        return ty;
    };
    let most = if *signed { (1_u128 << (bits - 1)) - 1 } else { (1_u128 << bits) - 1 };
    let is_negative = default.is_some_and(|default| default.ty.is_signed()) && value.cast_signed() < 0;
    match (is_negative, u128::from(*value) > most) {
        (true, _) => Type::S64,
        (false, true) => Type::U64,
        (false, false) => ty,
    }
}

impl Checker<'_> {
    /// What is read of each state where nothing was set: a constant.
    pub(super) fn state_defaults(&mut self) -> Vec<Option<Typed>> {
        let probe = self.probe;
        let (resolved, unsaved) = (Resolved::event(attach::USDT, Vec::new()), HashSet::new());
        let mut defaults = Vec::new();
        for state in &probe.states {
            let scope = Scope {
                target: self.target,
                file: &probe.file,
                resolved: &resolved,
                at: String::new(),
                lets: Vec::new(),
                declared: &[],
                item: None,
                saved: None,
                unsaved: &unsaved,
                states: self.states,
            };
            let default = state.default.as_ref().and_then(|default| {
                let typed = scope.check(default);
                Some((default, self.keep(typed)?))
            });
            defaults.push(match default {
                Some((_, typed)) if matches!(typed.kind, TypedKind::Constant(_) | TypedKind::Text(_)) => {
                    Some(typed)
                }
                Some((default, _)) => {
                    let span = default.place(self.file(), default.ast.span.clone());
                    self.error(span, "a default is a number or a text", "what an event knows is `set` there");
                    None
                }
                None => None,
            });
        }
        for (index, default) in defaults.iter().enumerate() {
            let text = default.as_ref().filter(|default| matches!(default.ty, Type::Text { .. }));
            if let Some(text) = text {
                let joined = self.states.join_value(index, &text.ty, None);
                joined.expect("nothing was joined before the defaults");
            }
        }
        defaults
    }

    /// What an event does to the state.
    pub(super) fn changes(&mut self, event: &Event, scope: &Scope<'_>) -> Vec<TypedChange> {
        event.changes.iter().filter_map(|change| self.change(change, scope)).collect()
    }

    fn change(&mut self, change: &DeclaredChange, scope: &Scope<'_>) -> Option<TypedChange> {
        let DeclaredChange { name, key, effect } = change;
        let state = self.states.position(&name.value)?;
        let parts = self.states.parts[state];
        if key.len() != parts {
            let message = format!("the key of `{}` has {parts} parts, not {}", name.value, key.len());
            self.error(name.span.clone(), message, "give it as many parts at every event");
            return None;
        }
        let mut typed = Vec::new();
        for part in key {
            typed.extend(self.keep(scope.state_key(part, &[&part.ast]))?);
        }
        if let Err(what) = self.states.join_key(state, &typed) {
            let hint = "an event finds what another one left only by an equal key";
            self.error(name.span.clone(), format!("the key of `{}` is {what}", name.value), hint);
            return None;
        }
        let effect = match effect {
            DeclaredEffect::Set(expression) => {
                let value = self.keep(
                    scope
                        .check(expression)
                        .and_then(|value| scope.no_stack(expression, value, "what a state is set to")),
                )?;
                // What is kept is memory, so a pointer comes back as a number that only helpers can follow.
                let ty = match value.ty.clone() {
                    Type::Pointer { to, access: AccessMode::Direct } => {
                        Type::Pointer { to, access: AccessMode::Kernel }
                    }
                    // It is a place in this packet only.
                    Type::Pointer { access: AccessMode::Packet, .. } => Type::U64,
                    ty => ty,
                };
                let is_time = (!matches!(value.kind, TypedKind::Constant(_))).then_some(value.is_time);
                self.joined(change, &ty, is_time)?;
                // With a default that is not 0, it is the difference that is kept, and a tracked pointer has none.
                let is_plain = self.probe.states[state].default.is_none();
                StateEffect::Set(if is_plain { value } else { number(value) })
            }
            DeclaredEffect::Add(expression) => {
                let value = self.keep(scope.check_amount(expression, "what is added to a state"))?;
                let may_fall = match value.kind {
                    TypedKind::Constant(amount) => amount.cast_signed() < 0 && value.ty.is_signed(),
                    _ => value.ty.is_signed(),
                };
                self.joined(change, if may_fall { &Type::S64 } else { &Type::U64 }, None)?;
                StateEffect::Add(value)
            }
            DeclaredEffect::Clear => StateEffect::Clear,
        };
        Some(TypedChange { state, key: typed, effect })
    }

    fn joined(&mut self, change: &DeclaredChange, ty: &Type, is_time: Option<bool>) -> Option<()> {
        let state = self.states.position(&change.name.value)?;
        if let Err(what) = self.states.join_value(state, ty, is_time) {
            let message = format!("`{}` is {what}", change.name.value);
            let hint = "a state has one kind of value; what is of another kind is another state";
            let place = change.effect.value().map_or_else(
                || change.name.span.clone(),
                |value| value.place(self.file(), value.ast.span.clone()),
            );
            self.error(place, message, hint);
            return None;
        }
        Some(())
    }

    /// The states with the types that were found.
    pub(super) fn typed_states(&mut self, defaults: &[Option<Typed>]) -> Vec<TypedState> {
        let probe = self.probe;
        let mut states = Vec::new();
        for ((state, default), known) in probe.states.iter().zip(defaults).zip(&self.states.types) {
            let (Some(ty), Some(key)) = (known.ty.clone(), known.key.clone()) else { continue };
            let name = &state.name;
            let size: u32 = key.iter().map(Type::room).sum();
            if size > MAX_KEY {
                let message = format!("the key of `{}` takes {size} bytes, more than {MAX_KEY}", name.value);
                self.error(
                    name.span.clone(),
                    message,
                    "use fewer parts, or shorter texts: str(pointer, SIZE)",
                );
            }
            if let (Some(default), Some(written)) = (default, &state.default)
                && matches!(default.ty, Type::Text { .. })
                    != matches!(ty, Type::Text { .. }) | matches!(ty, Type::Bytes { .. })
            {
                let [found, set] = [&default.ty, &ty].map(|ty| shape(std::slice::from_ref(ty)));
                let span = written.place(self.file(), written.ast.span.clone());
                let message = format!("the default is {found}, and `{}` is set to {set}", name.value);
                self.error(span, message, "give a default of the same kind, or none");
            }
            let default =
                words(default.as_ref().map_or(&TypedKind::Constant(0), |default| &default.kind), &ty);
            let (name, per) = (name.value.clone(), state.per);
            let DeclaredState { max, timeout_ns, .. } = *state;
            states.push(TypedState { name, per, key, ty, default, max, timeout_ns });
        }
        states
    }

    /// Refuses a change that meets another event that reads or changes the same state: which of the two comes first is not
    /// determined.
    pub(super) fn state_meetings(&mut self, events: &[Checked<'_>]) {
        let changes = |event: &TypedEvent, state| event.changes.iter().any(|change| change.state == state);
        let reads = |event: &TypedEvent, wanted| {
            event.computes(&|typed| matches!(typed.kind, TypedKind::State { state, .. } if state == wanted))
        };
        for (index, (declared, later)) in events.iter().enumerate() {
            for (other, earlier) in &events[..index] {
                if std::ptr::eq(*other, *declared) {
                    continue;
                }
                let state = (0..self.probe.states.len()).find(|state| {
                    let state = *state;
                    changes(earlier, state) && (changes(later, state) || reads(later, state))
                        || changes(later, state) && reads(earlier, state)
                });
                let Some(state) = state.filter(|_| meet(earlier, later)) else { continue };
                let name = &self.probe.states[state].name.value;
                let message = format!(
                    "`{}` meets another event that uses `{name}`: which comes first is open",
                    later.at
                );
                let hint = "let one event do both: it reads what was there before, and what it writes is there after it";
                let span = declared.at.first().map_or_else(|| declared.span.clone(), |at| at.span.clone());
                self.error(span, message, hint);
            }
        }
    }

    /// The event at which the kernel has ended a task, where what is per task does not go with it: it gives up what is kept
    /// by the task's number.
    pub(super) fn forgetting(&mut self, state: usize) -> Vec<TypedEvent> {
        let probe = self.probe;
        let span = probe.states[state].name.span.clone();
        let written =
            |text: &str| Node { span: span.clone(), data: Data::Scalar { text: text.into(), quoted: false } };
        let (Ok(at), Ok(pid)) =
            (attach::parse("tracepoint:sched:sched_process_free"), expr::parse("args.pid"))
        else {
            return Vec::new();
        };
        let event = Event {
            key: vec![Expression { ast: pid, node: written("args.pid") }],
            ..Event::new(vec![crate::diagnostic::Spanned::new(at, span.clone())], span.clone())
        };
        let mut events = self.event(&event, Role::Note, &mut None);
        for event in &mut events {
            let key = std::mem::take(&mut event.key);
            event.changes = vec![TypedChange { state, key, effect: StateEffect::Forget }];
        }
        events
    }
}
