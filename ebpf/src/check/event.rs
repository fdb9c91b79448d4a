//! Checks one event: its attach point, key, filters and values.

use super::{
    Checker, MAX_KEY, common,
    family::with_process,
    scope::{NamedExpression, SavedValue, Scope, is_reserved},
    text::argument,
};
use crate::{
    attach::{self, Missing, Place, ResolveOptions, Resolved, Site, Sites},
    diagnostic::{Diagnostic, Span, Spanned},
    expr::{BinaryOperator, Expr, ExprKind},
    point::{LinkKind, Subject},
    probe::{AttachPoint, Each, Event, Expression},
    typed::{AccessMode, Role, Type, Typed, TypedEach, TypedEvent, TypedKind as TypedNode, TypedValue},
    usdt::FileId,
    yaml::{Data, Node},
};

/// Most programs for the tracepoints of one pattern.
const MOST_FORMS: usize = 64;

/// The attach point as messages name it: of a pattern of tracepoints the one that is looked at.
fn shown(at: &AttachPoint, resolved: &Resolved) -> String {
    match resolved.sites.list.as_slice() {
        [Site { place: Place::Tracepoint { category, name }, .. }] => {
            format!("{}:{category}:{name}", at.kind.name)
        }
        _ => at.to_string(),
    }
}

/// Splits `a && b && c` into its parts.
fn conjuncts<'e>(expr: &'e Expr, parts: &mut Vec<&'e Expr>) {
    if let ExprKind::Binary(BinaryOperator::And, left, right) = &expr.kind {
        conjuncts(left, parts);
        conjuncts(right, parts);
    } else {
        parts.push(expr);
    }
}

/// The first part of an event's key.
fn key_place(event: &Event) -> Span {
    event.key.first().map_or_else(|| event.span.clone(), |part| part.node.span.clone())
}

/// Parts of the key that identify a call besides the declared ones: the number of the function, for `function` with several
/// functions; the goroutine, if the key contains the frame.
fn call(event: &Event, resolved: &Resolved, several: bool) -> Vec<Typed> {
    let framed =
        event.key.iter().any(|part| matches!(&part.ast.kind, ExprKind::Name(name) if name == "frame"));
    let goroutine = resolved.goroutine.clone().filter(|_| framed);
    let function = resolved.function().filter(|_| event.whole && several);
    function.into_iter().chain(goroutine).collect()
}

/// Names the kinds of a key's parts.
pub(super) fn shape(types: &[Type]) -> String {
    let kind = |ty: &Type| match ty {
        Type::Text { capacity } => format!("a text of {capacity} bytes"),
        Type::Bytes { size } => format!("{size} bytes"),
        Type::Int { .. } | Type::Pointer { .. } => "a number".to_owned(),
        Type::Stack { .. } => "a stack".to_owned(),
    };
    types.iter().map(kind).collect::<Vec<_>>().join(" and ")
}

/// Whether the kernel's types are needed to find an attach point.
fn needs_types(at: &AttachPoint) -> bool {
    matches!(at.kind.subject, Subject::Function { traced: true, .. }) && !at.may_be_several()
}

impl Checker<'_> {
    /// Finds the first alternative that this kernel has.
    fn resolve(&mut self, event: &Event) -> Option<(AttachPoint, Vec<Resolved>)> {
        let request = ResolveOptions {
            whole: event.whole,
            most: self.probe.max_functions,
            stacks: self.probe.takes_user_stacks(),
        };
        let mut missing = Vec::new();
        for Spanned { value: at, span } in &event.at {
            match attach::resolve(at, request, self.target) {
                Ok(resolved) => return Some((at.clone(), resolved)),
                Err(why) => {
                    let mut diagnostic = Diagnostic::error(self.file(), span.clone(), why.message);
                    diagnostic.hint = why.hint;
                    diagnostic.lacks_types = self.target.btf.is_none() && needs_types(at);
                    missing.push(diagnostic);
                }
            }
        }
        // The alternatives of `function` are ways to one function, about which one thing is said: by kprobes, which know
        // of more functions, or by the other if there are none.
        if event.whole {
            if self.target.functions.probing().is_ok() {
                missing.drain(..missing.len() - 1);
            } else {
                missing.truncate(1);
            }
        }
        if event.optional {
            self.leave_out(event, &missing);
        } else {
            self.diagnostics.extend(missing);
        }
        None
    }

    /// Numbers the functions of an event. A function that another event has too gets the same number.
    fn number(&mut self, resolved: &mut Resolved) {
        let file = resolved.sites.id;
        let is_one_file = |of: &Option<FileId>| match (of, &file) {
            (Some(one), Some(other)) => one.is_one_file(other),
            (of, file) => of.is_none() && file.is_none(),
        };
        for site in &mut resolved.sites.list {
            let known = self.functions.iter().position(|(of, known)| is_one_file(of) && known.is_same(site));
            let index = known.unwrap_or(self.functions.len());
            site.number = u32::try_from(index).expect("`max_functions` limits how many there are");
            if known.is_none() {
                self.functions.push((file, site.clone()));
            }
        }
    }

    /// Checks an event; one result for each of its programs.
    pub(super) fn event(
        &mut self,
        event: &Event,
        role: Role,
        key: &mut Option<Vec<Type>>,
    ) -> Vec<TypedEvent> {
        if !event.kernel.as_ref().is_none_or(|range| range.contains(self.target.kernel)) {
            return Vec::new();
        }
        let Some((at, mut programs)) = self.resolve(event) else { return Vec::new() };
        for resolved in &mut programs {
            self.number(resolved);
        }
        let named: Vec<(String, u32)> = programs
            .iter()
            .flat_map(|resolved| &resolved.sites.list)
            .map(|site| (site.name.clone(), site.number))
            .collect();
        let several = named.len() > 1;
        for resolved in &mut programs {
            resolved.named.clone_from(&named);
        }
        let namespace = self.namespace(event, &at);
        let mut all: Vec<TypedEvent> = Vec::new();
        for resolved in &programs {
            let Some(mut typed) = self.program(event, role, key, &at, resolved, several) else { continue };
            typed.filters.splice(0..0, namespace.clone());
            // Where what is used of a program's own arguments is at the same places, one program does.
            let are_tracepoints = typed.mechanism.link == LinkKind::Tracepoint;
            let without = |event: &TypedEvent| {
                let sites = if are_tracepoints { Sites::default() } else { event.sites.clone() };
                TypedEvent { usdt: None, sites, ..event.clone() }
            };
            let plain = without(&typed);
            let Some(known) = all.iter_mut().find(|known| without(known) == plain) else {
                all.push(typed);
                continue;
            };
            match (&mut known.usdt, &typed.usdt) {
                (Some(known), Some(sites)) => known.list.extend(&sites.list),
                (None, None) if are_tracepoints => {
                    known.sites.list.append(&mut typed.sites.list);
                    known.sites.left_out.append(&mut typed.sites.left_out);
                }
                _ => all.push(typed),
            }
        }
        if at.kind.subject == Subject::Tracepoint && all.len() > MOST_FORMS {
            let message = format!(
                "what is used of the tracepoints of `{at}` is at different places in {} of them",
                all.len()
            );
            let hint = format!(
                "each needs a program of its own, and {MOST_FORMS} are the most: narrow the pattern, or use fewer fields"
            );
            self.error(event.at.first().map_or(&event.span, |at| &at.span).clone(), message, hint);
            all.truncate(MOST_FORMS);
        }
        all
    }

    /// The condition that excludes other containers, which may run the same file of a shared layer.
    fn namespace(&mut self, event: &Event, at: &AttachPoint) -> Option<Typed> {
        let (root, _) = at.binary()?;
        let number = match self.target.functions.namespace(root) {
            Ok(number) => number?,
            Err(Missing { message, hint }) => {
                let mut diagnostic = Diagnostic::error(self.file(), event.span.clone(), message);
                diagnostic.hint = hint;
                self.diagnostics.push(diagnostic);
                return None;
            }
        };
        let inum = ["nsproxy", "mnt_ns", "ns", "inum"].into_iter().fold(Expr::name("curtask"), Expr::member);
        let ast = inum.equals(number.into());
        let resolved = Resolved::event(attach::USDT, Vec::new());
        let scope = Scope {
            target: self.target,
            file: self.file(),
            resolved: &resolved,
            at: at.to_string(),
            lets: Vec::new(),
            declared: &[],
            item: None,
            saved: None,
            unsaved: &self.unsaved,
            states: self.states,
        };
        let text = ast.to_string();
        let span = event.at.first().map_or(&event.span, |at| &at.span).clone();
        let node = Node { span, data: Data::Scalar { text, quoted: false } };
        let condition = scope.check_number(&Expression { ast, node }, "a condition");
        self.keep(condition)
    }

    /// Checks one program of an event.
    fn program(
        &mut self,
        event: &Event,
        role: Role,
        key: &mut Option<Vec<Type>>,
        at: &AttachPoint,
        resolved: &Resolved,
        several: bool,
    ) -> Option<TypedEvent> {
        let before = self.diagnostics.len();
        let (key_before, saved_before) = (key.clone(), self.saved.clone());
        let typed = self.event_at(event, role, key, at, resolved, several);
        if self.diagnostics.len() == before {
            return Some(typed);
        }
        // An argument that the verifier does not let through may be read by a program without types.
        let tracked: Vec<Diagnostic> = self.diagnostics.split_off(before);
        if let Some(untracked) = attach::resolve_untracked(at, self.target) {
            let mut retried_key = key_before;
            self.saved = saved_before;
            let typed = self.event_at(event, role, &mut retried_key, at, &untracked, several);
            if self.diagnostics.len() == before {
                *key = retried_key;
                return Some(typed);
            }
            self.diagnostics.truncate(before);
        }
        self.diagnostics.extend(tracked);
        None
    }

    pub(super) fn event_at(
        &mut self,
        event: &Event,
        role: Role,
        key: &mut Option<Vec<Type>>,
        at: &AttachPoint,
        resolved: &Resolved,
        several: bool,
    ) -> TypedEvent {
        let probe = self.probe;
        let (saved, unsaved) = (self.saved.clone(), self.unsaved.clone());
        let declared = event.lets(&probe.lets);
        let mut scope = Scope {
            target: self.target,
            file: &probe.file,
            resolved,
            at: shown(at, resolved),
            lets: Vec::new(),
            declared: &declared,
            item: None,
            saved: role.takes_start().then_some(saved.as_slice()),
            unsaved: &unsaved,
            states: self.states,
        };
        scope.lets.extend(resolved.lets.iter().map(NamedExpression::of_event));
        let each_from = event.each.as_ref().and_then(|each| self.each_from(each, &mut scope));
        for (name, expression) in declared.iter() {
            let named = scope.named(&name.value, expression);
            match &named.value {
                Err(problems) if !named.is_known() => {
                    self.let_problems.push((name.span.start, problems.clone()));
                }
                _ => drop(self.let_worked.insert(name.span.start)),
            }
            scope.lets.push(named);
        }
        let each = event.each.as_ref().zip(each_from).and_then(|(each, from)| self.each(each, from, &scope));
        let mut keys: Vec<Typed> = event
            .key
            .iter()
            .filter_map(|part| {
                let key = scope.check(part).and_then(|key| scope.no_stack(part, key, "a key"));
                self.keep(key.and_then(|key| scope.before_start(part, key)))
            })
            .collect();
        if keys.len() == event.key.len() {
            keys.extend(call(event, resolved, several));
            self.join_keys(event, role, &keys, key);
        }
        let mut filters: Vec<Typed> = resolved.condition.clone().into_iter().collect();
        let mut late_filters = Vec::new();
        if let Some(filter) = &event.filter {
            let mut parts = Vec::new();
            conjuncts(&filter.ast, &mut parts);
            for part in parts {
                let part = Expression { ast: part.clone(), node: filter.node.clone() };
                let condition = scope.check_number(&part, "a condition").and_then(|typed| {
                    // What needs no element is tested before the walk.
                    let is_within = typed.needs_item(&placeholder_lets(&scope));
                    if is_within { scope.outside_of_walk(&part, typed) } else { Ok(typed) }
                });
                let Some(condition) = self.keep(condition) else { continue };
                // Known to hold, as `traced` without a command.
                if matches!(condition.kind, TypedNode::Constant(truth) if truth != 0) {
                    continue;
                }
                let lets: Vec<Typed> = placeholder_lets(&scope);
                if condition.needs_start(&lets) {
                    late_filters.push(condition);
                } else {
                    filters.push(condition);
                }
            }
        }
        let saves = self.saves(event, role, &scope);
        let counts = matches!(role, Role::End | Role::Single | Role::Between);
        let (labels, metrics) = if counts { self.action(event, &scope) } else { (Vec::new(), Vec::new()) };
        let changes = self.changes(event, &scope);
        TypedEvent {
            role,
            at: at.clone(),
            mechanism: resolved.mechanism,
            sites: resolved.sites.clone(),
            usdt: resolved.usdt.clone(),
            lets: placeholder_lets(&scope),
            key: keys,
            filters,
            late_filters,
            saves,
            first: event.first,
            each,
            labels,
            metrics,
            changes,
        }
    }

    pub(super) fn each_from(&mut self, each: &Each, scope: &mut Scope<'_>) -> Option<Typed> {
        let from =
            self.keep(scope.check(&each.from).and_then(|from| scope.before_start(&each.from, from)))?;
        let Type::Pointer { to, access } = from.ty else {
            let span = each.from.place(self.file(), each.from.ast.span.clone());
            self.error(span, "`from` must be a pointer to the first element", "for example args.rq.bio");
            return None;
        };
        if is_reserved(&each.name.value) || !self.probe.states.is_empty() && each.name.value == "state" {
            self.error(
                each.name.span.clone(),
                format!("`{}` is a name of the language", each.name.value),
                "choose another name",
            );
        }
        scope.item = Some((each.name.value.clone(), Type::Pointer { to, access }));
        Some(from)
    }

    pub(super) fn each(&mut self, each: &Each, from: Typed, scope: &Scope<'_>) -> Option<TypedEach> {
        let next =
            self.keep(scope.check(&each.next).and_then(|next| scope.before_start(&each.next, next)))?;
        let matches = matches!((&next.ty, &from.ty), (Type::Pointer { to: a, .. }, Type::Pointer { to: b, .. }) if a == b);
        if !matches {
            let span = each.next.place(self.file(), each.next.ast.span.clone());
            self.error(
                span,
                "`next` must be a pointer of the same type as `from`",
                format!("for example {}.next", each.name.value),
            );
            return None;
        }
        // In later rounds the element comes from `next`; if only that is untyped, all rounds are.
        let untyped = |typed: &Typed| !matches!(typed.ty, Type::Pointer { access: AccessMode::Direct, .. });
        if untyped(&next) && !untyped(&from) {
            let span = each.next.place(self.file(), each.next.ast.span.clone());
            self.error(
                span,
                "the verifier does not track `next` as it does `from`",
                "read the list from a cast pointer: from: (struct NAME *)…",
            );
            return None;
        }
        let budget = match (&each.size, &each.within) {
            (Some(size), Some(within)) => {
                let mut amount = |expression: &Expression, what: &str| {
                    self.keep(
                        scope
                            .check_amount(expression, what)
                            .and_then(|amount| scope.outside_of_walk(expression, amount))
                            .and_then(|amount| scope.before_start(expression, amount)),
                    )
                };
                let (size, within) = (amount(size, "`size`"), amount(within, "`within`"));
                Some((size?, within?))
            }
            _ => None,
        };
        Some(TypedEach { from, next, limit: each.limit, budget })
    }

    pub(super) fn join_keys(
        &mut self,
        event: &Event,
        role: Role,
        keys: &[Typed],
        joined: &mut Option<Vec<Type>>,
    ) {
        if matches!(role, Role::Single | Role::Note) {
            return;
        }
        let types: Vec<Type> = keys.iter().map(|key| key.ty.clone()).collect();
        let size: u32 = types.iter().map(Type::room).sum();
        if size > MAX_KEY {
            self.error(
                key_place(event),
                format!("the key takes {size} bytes, more than {MAX_KEY}"),
                "use fewer parts, or shorter texts: str(pointer, SIZE)",
            );
            return;
        }
        let Some(first) = joined else {
            *joined = Some(types);
            return;
        };
        let unified: Option<Vec<Type>> = (first.len() == types.len())
            .then(|| first.iter().zip(&types).map(|(a, b)| common(a, b)).collect())
            .flatten();
        // A text's room is part of the key's bytes, so it must be the same everywhere.
        let same_size = unified.as_ref().is_some_and(|unified| {
            unified
                .iter()
                .zip(first.iter().zip(&types))
                .all(|(unified, (a, b))| unified.room() == a.room() && a.room() == b.room())
        });
        if same_size {
            *joined = unified;
        } else {
            let message =
                format!("this `key` is {}, that of the first event {}", shape(&types), shape(first));
            self.error(key_place(event), message, "a start and its end find each other only by equal keys");
        }
    }

    pub(super) fn saves(&mut self, event: &Event, role: Role, scope: &Scope<'_>) -> Vec<Typed> {
        if !role.keeps_start() {
            return Vec::new();
        }
        let mut values: Vec<(&Spanned<String>, &Expression, Typed)> = Vec::new();
        for (name, expression) in &event.saves {
            let Some(value) = self.keep(scope.check(expression)) else { continue };
            // What is kept is memory, so a pointer comes back as a number that only helpers can follow.
            let ty = match value.ty.clone() {
                Type::Pointer { to, access: AccessMode::Direct } => {
                    Type::Pointer { to, access: AccessMode::Kernel }
                }
                // It is a place in this packet only.
                Type::Pointer { access: AccessMode::Packet, .. } => Type::U64,
                ty => ty,
            };
            let longest = scope.longest(&value);
            match self.saved.iter_mut().find(|kept| kept.name == name.value) {
                Some(kept) => {
                    kept.longest = kept.longest.max(longest);
                    kept.enumeration = kept.enumeration.filter(|kept| value.enumeration == Some(*kept));
                    if matches!((&kept.ty, &ty), (Type::Int { .. }, Type::Int { .. })) {
                        kept.ty = common(&kept.ty, &ty).expect("two numbers have a type in common");
                    }
                }
                None => {
                    let Typed { is_time, enumeration, .. } = value;
                    self.saved.push(SavedValue {
                        name: name.value.clone(),
                        ty,
                        is_time,
                        enumeration,
                        longest,
                    });
                }
            }
            values.push((name, expression, value));
        }
        let size: u32 = self.saved.iter().map(|kept| kept.ty.room()).sum();
        if size > MAX_KEY {
            self.error(
                event.span.clone(),
                format!("the saved values take {size} bytes, more than {MAX_KEY}"),
                "save fewer or shorter ones",
            );
        }
        let mut ordered = Vec::new();
        for SavedValue { name, ty, .. } in &self.saved.clone() {
            let Some((place, expression, value)) = values.iter().find(|(known, _, _)| known.value == *name)
            else {
                let message = format!("every start must save `{name}`, and this one does not");
                self.error(event.span.clone(), message, "save the same names at each start");
                return Vec::new();
            };
            if value.ty.room() != ty.room() || common(&value.ty, ty).is_none() {
                let (here, first) = (shape(std::slice::from_ref(&value.ty)), shape(std::slice::from_ref(ty)));
                let hint = match (&value.ty, ty) {
                    (Type::Text { .. }, Type::Text { .. }) => {
                        format!("say how much is kept at both: str({}, SIZE)", argument(&expression.ast))
                    }
                    _ => "save the same kind of value at each start".to_owned(),
                };
                let message = format!("`{name}` is {here} here, and {first} at the first start");
                self.error(place.span.clone(), message, hint);
                return Vec::new();
            }
            ordered.push(value.clone());
        }
        ordered
    }

    pub(super) fn action(
        &mut self,
        event: &Event,
        scope: &Scope<'_>,
    ) -> (Vec<Typed>, Vec<Option<TypedValue>>) {
        let probe = self.probe;
        let label = |label: &crate::probe::Label| {
            let value = event.own_label(&label.name.value).or(label.value.as_ref())?;
            let typed = scope.check(value).map(|typed| with_process(typed, label.decoder.as_ref()));
            Some(typed.and_then(|typed| scope.outside_of_walk(value, typed)))
        };
        let labels = probe.labels.iter().filter_map(label).filter_map(|label| self.keep(label)).collect();
        let mut metrics = Vec::new();
        for metric in &probe.metrics {
            if !event.feeds(&metric.name.value) {
                metrics.push(None);
                continue;
            }
            let value = match event.own_value(&metric.name.value).or(metric.value.as_ref()) {
                Some(expression) => {
                    let value = scope.check_amount(expression, "a metric's value");
                    self.keep(value.and_then(|typed| scope.outside_of_walk(expression, typed)))
                }
                None => Some(Typed::constant(1)),
            };
            let filter = metric.filter.as_ref().map(|filter| {
                let value = scope.check_number(filter, "a condition");
                self.keep(value.and_then(|typed| scope.outside_of_walk(filter, typed)))
            });
            if let (Some(value), Some(filter)) = (value, filter.map_or(Some(None), |filter| filter.map(Some)))
            {
                metrics.push(Some(TypedValue { filter, value }));
            }
        }
        (labels, metrics)
    }
}

/// The scope's `let` values by number. A value without a meaning in this event is never used, so a placeholder stands for it.
pub(super) fn placeholder_lets(scope: &Scope<'_>) -> Vec<Typed> {
    scope
        .lets
        .iter()
        .map(|named| named.value.as_ref().map_or_else(|_| Typed::constant(0), Clone::clone))
        .collect()
}
