//! A declared probe × a kernel → a typed probe, or what is wrong with it.

mod expression;
mod scope;

pub(crate) use expression::unsigned_operation;

use crate::{
    attach::{self, Resolved, Target},
    btf::Kind,
    declaration,
    diagnostic::{Diagnostic, SourceFile, Span, Spanned},
    expr::{Binary, Expr, ExprKind},
    histogram::{Buckets, Exponential},
    probe::{AttachPoint, Decoder, Each, Event, Expression, Metric, MetricKind, Probe, Unit},
    typed::{
        AccessMode, Role, Scheme, Type, Typed, TypedEach, TypedEvent, TypedLabel, TypedMetric,
        TypedMetricKind, TypedProbe, TypedValue,
    },
};
use scope::{Problem, Problems, Scope, is_reserved};
use std::collections::HashSet;

/// Largest key of a row or a start, bytes; a program has 512 bytes of stack.
pub const MAX_KEY: u32 = 256;

/// Gives a probe its meaning on a kernel.
pub fn check(probe: &Probe, target: &Target<'_>) -> Result<TypedProbe, Vec<Diagnostic>> {
    let mut checker = Checker {
        probe,
        target,
        diagnostics: Vec::new(),
        saved: Vec::new(),
        let_worked: HashSet::new(),
        let_problems: Vec::new(),
    };
    let typed = checker.probe();
    let mut diagnostics = checker.diagnostics;
    let mut seen = HashSet::new();
    // One expression typed for several events says the same thing for each.
    diagnostics.retain(|diagnostic| seen.insert((diagnostic.span.clone(), diagnostic.message.clone())));
    typed.filter(|_| !diagnostics.iter().any(Diagnostic::is_error)).ok_or(diagnostics)
}

/// Picks from probes of one name the first that is for this kernel, and refuses two that both are.
pub fn select(probes: Vec<Probe>, target: &Target<'_>) -> (Vec<Probe>, Vec<Diagnostic>) {
    let mut chosen: Vec<Probe> = Vec::new();
    let mut diagnostics = Vec::new();
    let mut others: Vec<Probe> = Vec::new();
    for probe in probes {
        if !probe.kernel.as_ref().is_none_or(|range| range.contains(target.kernel)) {
            others.push(probe);
            continue;
        }
        if let Some(first) = chosen.iter().find(|other| other.name.value == probe.name.value) {
            if first.kernel.is_none() && probe.kernel.is_none() {
                let (line, _) = first.file.position(first.name.span.start);
                let message = format!("there are two probes called `{}`", probe.name.value);
                diagnostics.push(
                    Diagnostic::error(&probe.file, probe.name.span.clone(), message)
                        .hint(format!("the first is in {}:{line}; variants need `kernel`", first.file.name)),
                );
            }
            continue;
        }
        chosen.push(probe);
    }
    let mut seen = HashSet::new();
    for probe in others {
        let name = &probe.name;
        if chosen.iter().all(|other| other.name.value != name.value) && seen.insert(name.value.clone()) {
            let message =
                format!("the probe `{}` is not for kernel {} and does not run", name.value, target.kernel);
            diagnostics.push(
                Diagnostic::warning(&probe.file, name.span.clone(), message)
                    .hint("add a variant of the same name without `kernel`"),
            );
        }
    }
    let mut metrics: Vec<(&str, &Probe)> = Vec::new();
    for probe in &chosen {
        for metric in &probe.metrics {
            let name = metric.name.value.as_str();
            if let Some((_, first)) = metrics.iter().find(|(known, _)| *known == name) {
                let message = format!("the metric `{name}` is fed by two places");
                diagnostics.push(
                    Diagnostic::error(&probe.file, metric.name.span.clone(), message).hint(format!(
                        "also in probe `{}`; one family belongs to one probe",
                        first.name.value
                    )),
                );
            }
            metrics.push((name, probe));
        }
    }
    (chosen, diagnostics)
}

struct Checker<'a> {
    probe: &'a Probe,
    target: &'a Target<'a>,
    diagnostics: Vec<Diagnostic>,
    saved: Vec<(String, Type, bool)>,
    /// `let` names that had a meaning at some event.
    let_worked: HashSet<String>,
    let_problems: Vec<(String, Problems)>,
}

/// Splits `a && b && c` into its parts.
fn conjuncts<'e>(expr: &'e Expr, parts: &mut Vec<&'e Expr>) {
    if let ExprKind::Binary(Binary::And, left, right) = &expr.kind {
        conjuncts(left, parts);
        conjuncts(right, parts);
    } else {
        parts.push(expr);
    }
}

/// Size of a value inside a key, bytes.
pub(crate) fn key_size(ty: &Type) -> u32 {
    match ty {
        Type::Text { capacity } => *capacity,
        _ => 8,
    }
}

/// The first part of an event's key.
fn key_place(event: &Event) -> Span {
    event.key.first().map_or_else(|| event.span.clone(), |part| part.node.span.clone())
}

/// The kinds of a key's parts in words.
fn shape(types: &[Type]) -> String {
    let kind = |ty: &Type| match ty {
        Type::Text { capacity } => format!("a text of {capacity} bytes"),
        Type::Int { .. } | Type::Pointer { .. } => "a number".to_owned(),
    };
    types.iter().map(kind).collect::<Vec<_>>().join(" and ")
}

/// Two types that fill one place in a key: numbers, or texts of the larger size.
fn common(a: &Type, b: &Type) -> Option<Type> {
    match (a, b) {
        (Type::Text { capacity: x }, Type::Text { capacity: y }) => Some(Type::Text { capacity: *x.max(y) }),
        (Type::Text { .. }, _) | (_, Type::Text { .. }) => None,
        _ if a == b => Some(a.clone()),
        _ if a.is_signed() || b.is_signed() => Some(Type::S64),
        _ => Some(Type::U64),
    }
}

impl Checker<'_> {
    fn file(&self) -> &std::sync::Arc<SourceFile> {
        &self.probe.file
    }

    fn keep<T>(&mut self, result: Result<T, Problems>) -> Option<T> {
        result
            .map_err(|problems| {
                self.diagnostics.extend(problems.into_iter().map(|Problem { diagnostic, .. }| diagnostic));
            })
            .ok()
    }

    fn error(&mut self, span: std::ops::Range<usize>, message: impl Into<String>, hint: impl Into<String>) {
        let diagnostic = Diagnostic::error(self.file(), span, message).hint(hint);
        self.diagnostics.push(diagnostic);
    }

    fn probe(&mut self) -> Option<TypedProbe> {
        let probe = self.probe;
        for (name, _) in &probe.lets {
            if is_reserved(&name.value) {
                self.error(
                    name.span.clone(),
                    format!("`{}` is a name of the language", name.value),
                    "choose another name",
                );
            }
        }
        let mut events = Vec::new();
        let mut key: Option<Vec<Type>> = None;
        let mut starts = Vec::new();
        for event in &probe.starts {
            if let Some(typed) = self.event(event, Role::Start, &mut key) {
                starts.push((event, typed.saves.len()));
                events.push(typed);
            }
        }
        // A later start may have added a value, which is not there after an earlier one.
        for (event, saves) in starts {
            if let Some((name, _, _)) = self.saved.get(saves) {
                let message = format!("every start must save `{name}`, with one type");
                self.error(event.span.clone(), message, "save the same names at each start");
            }
        }
        let role = if probe.is_pair() { Role::End } else { Role::Single };
        for event in &probe.ends {
            events.extend(self.event(event, role, &mut key));
        }
        for (name, problems) in std::mem::take(&mut self.let_problems) {
            if !self.let_worked.contains(&name) {
                self.diagnostics.extend(problems.into_iter().map(|problem| problem.diagnostic));
            }
        }
        for (role, name) in [(Role::Start, "start"), (role, if probe.is_pair() { "end" } else { "at" })] {
            let wanted = role != Role::Start || probe.is_pair();
            if wanted
                && !self.diagnostics.iter().any(Diagnostic::is_error)
                && !events.iter().any(|event| event.role == role)
            {
                self.error(
                    probe.name.span.clone(),
                    format!("no event of `{name}` is for kernel {}", self.target.kernel),
                    "add one without `kernel`",
                );
            }
        }
        if self.diagnostics.iter().any(Diagnostic::is_error) {
            return None;
        }
        let ends: Vec<&TypedEvent> = events.iter().filter(|event| event.role == role).collect();
        let labels = self.labels(&ends);
        let metrics = self.metrics(&ends);
        let size: u32 = labels.iter().map(|label| key_size(&label.ty)).sum();
        if size > MAX_KEY {
            self.error(
                probe.labels[0].name.span.clone(),
                format!("the labels take {size} bytes, more than {MAX_KEY}"),
                "shorten texts with str(pointer, SIZE), or drop a label",
            );
        }
        Some(TypedProbe {
            name: probe.name.value.clone(),
            help: probe.help.clone(),
            events,
            key: key.unwrap_or_default(),
            saved: self.saved.iter().map(|(name, ty, _)| (name.clone(), ty.clone())).collect(),
            labels,
            metrics,
            max_series: probe.max_series,
            max_inflight: probe.max_inflight,
            inflight_timeout_ns: probe.inflight_timeout_ns,
            per_cpu: probe.per_cpu,
        })
    }

    /// The first alternative that this kernel has.
    fn resolve(&mut self, event: &Event) -> Option<(AttachPoint, Resolved)> {
        let mut missing = Vec::new();
        for Spanned { value: at, span } in &event.at {
            match attach::resolve(at, self.target) {
                Ok(resolved) => return Some((at.clone(), resolved)),
                Err(why) => {
                    let mut diagnostic = Diagnostic::error(self.file(), span.clone(), why.message);
                    diagnostic.hint = why.hint;
                    missing.push(diagnostic);
                }
            }
        }
        self.diagnostics.extend(missing);
        None
    }

    fn event(&mut self, event: &Event, role: Role, key: &mut Option<Vec<Type>>) -> Option<TypedEvent> {
        if !event.kernel.as_ref().is_none_or(|range| range.contains(self.target.kernel)) {
            return None;
        }
        let (at, resolved) = self.resolve(event)?;
        let before = self.diagnostics.len();
        let (key_before, saved_before) = (key.clone(), self.saved.clone());
        let typed = self.event_at(event, role, key, &at, &resolved);
        if self.diagnostics.len() == before {
            return Some(typed);
        }
        // An argument that the verifier does not let through may be read by a program without types.
        let tracked: Vec<Diagnostic> = self.diagnostics.split_off(before);
        if let Some(untracked) = attach::resolve_untracked(&at, self.target) {
            let mut retried_key = key_before;
            self.saved = saved_before;
            let typed = self.event_at(event, role, &mut retried_key, &at, &untracked);
            if self.diagnostics.len() == before {
                *key = retried_key;
                return Some(typed);
            }
            self.diagnostics.truncate(before);
        }
        self.diagnostics.extend(tracked);
        None
    }

    fn event_at(
        &mut self,
        event: &Event,
        role: Role,
        key: &mut Option<Vec<Type>>,
        at: &AttachPoint,
        resolved: &Resolved,
    ) -> TypedEvent {
        let probe = self.probe;
        let saved = self.saved.clone();
        let mut scope = Scope {
            target: self.target,
            file: &probe.file,
            resolved,
            at: at.to_string(),
            lets: Vec::new(),
            item: None,
            saved: (role == Role::End).then_some(saved.as_slice()),
        };
        let each_from = event.each.as_ref().and_then(|each| self.each_from(each, &mut scope));
        for (name, expression) in &probe.lets {
            let typed = scope.check(expression);
            match &typed {
                Ok(_) => drop(self.let_worked.insert(name.value.clone())),
                Err(problems) => self.let_problems.push((name.value.clone(), problems.clone())),
            }
            scope.lets.push((name.value.clone(), typed));
        }
        let each = event.each.as_ref().zip(each_from).and_then(|(each, from)| self.each(each, from, &scope));
        let keys: Vec<Typed> = event
            .key
            .iter()
            .filter_map(|part| self.keep(scope.check(part).and_then(|key| scope.before_start(part, key))))
            .collect();
        if keys.len() == event.key.len() {
            self.join_keys(event, role, &keys, key);
        }
        let mut filters = Vec::new();
        let mut late_filters = Vec::new();
        if let Some(filter) = &event.filter {
            let mut parts = Vec::new();
            conjuncts(&filter.ast, &mut parts);
            for part in parts {
                let part = Expression { ast: part.clone(), node: filter.node.clone() };
                let Some(condition) = self.keep(scope.check_number(&part, "a condition")) else { continue };
                let lets: Vec<Typed> = placeholder_lets(&scope);
                if condition.needs_start(&lets) {
                    late_filters.push(condition);
                } else {
                    filters.push(condition);
                }
            }
        }
        let saves = self.saves(event, role, &scope);
        let (labels, metrics) =
            if role == Role::Start { (Vec::new(), Vec::new()) } else { self.action(&scope) };
        TypedEvent {
            role,
            at: at.clone(),
            mechanism: resolved.mechanism,
            lets: placeholder_lets(&scope),
            key: keys,
            filters,
            late_filters,
            saves,
            each,
            labels,
            metrics,
        }
    }

    fn each_from(&mut self, each: &Each, scope: &mut Scope<'_>) -> Option<Typed> {
        let from =
            self.keep(scope.check(&each.from).and_then(|from| scope.before_start(&each.from, from)))?;
        let Type::Pointer { to, access } = from.ty else {
            let span = each.from.place(self.file(), each.from.ast.span.clone());
            self.error(span, "`from` must be a pointer to the first element", "for example args.rq.bio");
            return None;
        };
        if is_reserved(&each.name.value) {
            self.error(
                each.name.span.clone(),
                format!("`{}` is a name of the language", each.name.value),
                "choose another name",
            );
        }
        scope.item = Some((each.name.value.clone(), Type::Pointer { to, access }));
        Some(from)
    }

    fn each(&mut self, each: &Each, from: Typed, scope: &Scope<'_>) -> Option<TypedEach> {
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

    fn join_keys(&mut self, event: &Event, role: Role, keys: &[Typed], joined: &mut Option<Vec<Type>>) {
        if role == Role::Single {
            return;
        }
        let types: Vec<Type> = keys.iter().map(|key| key.ty.clone()).collect();
        let size: u32 = types.iter().map(key_size).sum();
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
                .all(|(unified, (a, b))| key_size(unified) == key_size(a) && key_size(a) == key_size(b))
        });
        if same_size {
            *joined = unified;
        } else {
            let message =
                format!("this `key` is {}, that of the first event {}", shape(&types), shape(first));
            self.error(key_place(event), message, "a start and its end find each other only by equal keys");
        }
    }

    fn saves(&mut self, event: &Event, role: Role, scope: &Scope<'_>) -> Vec<Typed> {
        if role != Role::Start {
            return Vec::new();
        }
        let first = self.saved.is_empty();
        let mut values = Vec::new();
        for (name, expression) in &event.saves {
            let Some(value) = self.keep(scope.check(expression)) else { continue };
            // What is kept is memory, so a pointer comes back as a number that only helpers can follow.
            let ty = match value.ty.clone() {
                Type::Pointer { to, access: AccessMode::Direct } => {
                    Type::Pointer { to, access: AccessMode::Kernel }
                }
                ty => ty,
            };
            if first || !self.saved.iter().any(|(known, _, _)| *known == name.value) {
                self.saved.push((name.value.clone(), ty, value.is_time));
            }
            values.push((name.value.clone(), value));
        }
        let size: u32 = self.saved.iter().map(|(_, ty, _)| key_size(ty)).sum();
        if size > MAX_KEY {
            self.error(
                event.span.clone(),
                format!("the saved values take {size} bytes, more than {MAX_KEY}"),
                "save fewer or shorter ones",
            );
        }
        let mut ordered = Vec::new();
        for (name, ty, _) in &self.saved.clone() {
            match values.iter().find(|(known, _)| known == name) {
                Some((_, value)) if key_size(&value.ty) == key_size(ty) => ordered.push(value.clone()),
                _ => {
                    self.error(
                        event.span.clone(),
                        format!("every start must save `{name}`, with one type"),
                        "save the same names at each start",
                    );
                    return Vec::new();
                }
            }
        }
        ordered
    }

    fn action(&mut self, scope: &Scope<'_>) -> (Vec<Typed>, Vec<TypedValue>) {
        let probe = self.probe;
        let labels = probe.labels.iter().filter_map(|label| self.keep(scope.check(&label.value))).collect();
        let mut metrics = Vec::new();
        for metric in &probe.metrics {
            let value = match &metric.value {
                Some(expression) => self.keep(scope.check_amount(expression, "a metric's value")),
                None => Some(Typed::constant(1)),
            };
            let filter =
                metric.filter.as_ref().map(|filter| self.keep(scope.check_number(filter, "a condition")));
            if let (Some(value), Some(filter)) = (value, filter.map_or(Some(None), |filter| filter.map(Some)))
            {
                metrics.push(TypedValue { filter, value });
            }
        }
        (labels, metrics)
    }

    fn labels(&mut self, ends: &[&TypedEvent]) -> Vec<TypedLabel> {
        let mut labels = Vec::new();
        for (index, label) in self.probe.labels.iter().enumerate() {
            let mut types = ends.iter().map(|event| &event.labels[index].ty);
            let Some(first) = types.next().cloned() else { continue };
            let Some(ty) = types.try_fold(first, |joined, ty| common(&joined, ty)) else {
                self.error(
                    label.name.span.clone(),
                    format!(
                        "the label `{}` is a text at one event and a number at another",
                        label.name.value
                    ),
                    "make it the same",
                );
                continue;
            };
            let is_text = matches!(ty, Type::Text { .. });
            let decoder = match &label.decoder {
                Some(decoder) => {
                    if is_text != (decoder.value == Decoder::Text) {
                        let (found, hint) = if is_text {
                            ("a text", "leave `as` out, or use `string`")
                        } else {
                            ("a number", "read a text with str(pointer)")
                        };
                        self.error(decoder.span.clone(), format!("this decoder does not take {found}"), hint);
                    }
                    self.known_rows(&decoder.value)
                }
                None => match ty {
                    Type::Text { .. } => Decoder::Text,
                    Type::Pointer { .. } => Decoder::Hex,
                    Type::Int { signed: true, .. } => Decoder::Signed,
                    Type::Int { signed: false, .. } => Decoder::Unsigned,
                },
            };
            labels.push(TypedLabel { name: label.name.value.clone(), decoder, ty });
        }
        labels
    }

    /// A table with the numbers of its enumerators on this kernel.
    fn known_rows(&self, decoder: &Decoder) -> Decoder {
        let Decoder::Table { rows, named, default } = decoder else { return decoder.clone() };
        let mut rows = rows.clone();
        for (name, text) in named {
            if let Some(number) = self.target.btf.and_then(|btf| btf.enumerator(name)) {
                rows.insert(number, text.clone());
            }
        }
        Decoder::Table { rows, named: Vec::new(), default: default.clone() }
    }

    fn metrics(&mut self, ends: &[&TypedEvent]) -> Vec<TypedMetric> {
        let mut metrics = Vec::new();
        for (index, metric) in self.probe.metrics.iter().enumerate() {
            let values: Vec<&Typed> = ends.iter().map(|event| &event.metrics[index].value).collect();
            let is_time = values.iter().any(|value| value.is_time);
            let signed = values
                .iter()
                .any(|value| value.ty.is_signed() && !matches!(value.kind, crate::typed::Node::Constant(1)));
            let unit = metric
                .unit
                .as_ref()
                .map_or(if is_time { Unit::Nanoseconds } else { Unit::One }, |unit| unit.value);
            self.check_unit(metric, unit);
            let Some(kind) = self.metric_kind(metric, unit) else { continue };
            metrics.push(TypedMetric {
                name: format!("tapster_{}", metric.name.value),
                help: metric.help.clone(),
                kind,
                unit,
                signed,
            });
        }
        metrics
    }

    /// A name that promises seconds must get a time, and one that promises bytes must not.
    fn check_unit(&mut self, metric: &Metric, unit: Unit) {
        let name = metric.name.value.trim_end_matches("_total");
        let mut wrong = |message: &str, hint: &str| {
            self.error(metric.name.span.clone(), format!("`{}` promises {message}", metric.name.value), hint);
        };
        // What `unit` says was compared with the name when it was read.
        if metric.unit.is_some() {
        } else if name.ends_with("_seconds") && metric.value.is_none() {
            wrong("seconds, but counts events", "add `value: duration`, or call it by what it counts");
        } else if name.ends_with("_seconds") && !unit.is_time() {
            wrong(
                "seconds, but its value has no unit",
                "say what one of the value is: unit: ns, us, ms or s",
            );
        } else if name.ends_with("_bytes") && unit.is_time() {
            wrong(
                "bytes, but its value is a time",
                "times are exposed in seconds: end the name in `_seconds`",
            );
        }
    }

    fn metric_kind(&mut self, metric: &Metric, unit: Unit) -> Option<TypedMetricKind> {
        Some(match &metric.kind {
            MetricKind::Counter => TypedMetricKind::Counter,
            MetricKind::Gauge => TypedMetricKind::Gauge,
            MetricKind::Max { window_ns } => TypedMetricKind::Max { window_ns: *window_ns },
            MetricKind::Histogram { buckets } => {
                let buckets = match buckets {
                    Some(node) => match declaration::buckets(self.file(), node, unit) {
                        Ok(buckets) => buckets,
                        Err(diagnostics) => {
                            self.diagnostics.extend(diagnostics);
                            return None;
                        }
                    },
                    None => {
                        let (min, max) = declaration::default_range(unit);
                        Buckets::Exponential { schema: 3, min, max, classic_step: 1 }
                    }
                };
                let exponential = match buckets {
                    Buckets::Exponential { schema, min, max, .. } => {
                        Some(Exponential::new(schema, min, max, unit.per_base())?)
                    }
                    _ => None,
                };
                TypedMetricKind::Histogram(Scheme { buckets, exponential })
            }
        })
    }
}

/// The scope's `let` values by number; one that has no meaning here is never used, so any value will do.
fn placeholder_lets(scope: &Scope<'_>) -> Vec<Typed> {
    scope
        .lets
        .iter()
        .map(|(_, typed)| typed.as_ref().map_or_else(|_| Typed::constant(0), Clone::clone))
        .collect()
}

/// Attach points of a kernel with their arguments, for `tapster list`.
pub fn describe(at: &AttachPoint, target: &Target<'_>) -> Option<Vec<(String, String)>> {
    let resolved = attach::resolve(at, target).ok()?;
    Some(resolved.arguments.into_iter().map(|argument| (argument.name, argument.ctype)).collect())
}

/// Whether a kernel's BTF describes a raw tracepoint.
pub fn has_prototype(name: &str, target: &Target<'_>) -> bool {
    target.btf.is_some_and(|btf| btf.find(&format!("__traceiter_{name}"), Kind::Func).is_some())
}
