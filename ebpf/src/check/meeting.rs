//! Finds events of one probe that are the same event of the kernel. The order of their programs depends on how they are
//! attached, so the result must not depend on the order: such events need different keys, or conditions that exclude each
//! other.

use super::Checker;
use crate::{
    expr::ExprKind,
    point::{AttachPoint, Subject},
    probe::{Event, Expression},
    site::Place,
    typed::{BinaryOperator, Role, Type, Typed, TypedEvent, TypedKind, UnaryOperator, unsigned_operation},
};
use std::collections::{BTreeSet, HashSet};

/// Most steps in which two conditions are compared. Conditions that are not known to exclude each other by then count as
/// meeting.
const MOST_STEPS: u32 = 20_000;

/// A checked event and its declaration.
pub(super) type Checked<'p> = (&'p Event, TypedEvent);

impl Checker<'_> {
    /// Refuses events that meet.
    pub(super) fn meetings(&mut self, events: &[Checked<'_>]) {
        for (index, (event, later)) in events.iter().enumerate() {
            let met = events[..index].iter().find(|(other, earlier)| {
                !std::ptr::eq(*other, *event) && same_key(earlier, later) && meet(earlier, later)
            });
            let Some((_, earlier)) = met else { continue };
            let (first, at) = (&earlier.at, &later.at);
            let place = if first == at { format!("`{at}`") } else { format!("`{first}` and `{at}`") };
            let (what, why) = match (earlier.role, later.role) {
                (Role::Start, Role::End) => (
                    "a start and an end with the same key meet in one event",
                    "which start the end counts would depend on which program runs first",
                ),
                (Role::Start, _) => {
                    ("two starts with the same key meet in one event", "one would replace the other")
                }
                (Role::Between, _) => (
                    "two events of `between` with the same key meet in one event",
                    "the time between the two would be counted",
                ),
                _ => ("two ends with the same key meet in one event", "only one would find the start"),
            };
            let hint = format!(
                "{why}: give them conditions of which only one can hold (`where: A` and `where: \"!(A)\"`), or other keys{}",
                match (earlier.role, at.kind.subject) {
                    (Role::Start, Subject::Function { .. } | Subject::UserFunction { .. }) => {
                        "; `function: NAME` measures calls, `between` the time from one event to the next"
                    }
                    (Role::Start, _) => "; `between` measures the time from one event to the next",
                    _ => "",
                }
            );
            self.error(at_place(event, at), format!("{what}: {place}"), hint);
        }
    }

    /// Refuses pairs whose frames never are equal: `frame` of a function that the kernel traces is another number than at a
    /// probe on it.
    pub(super) fn frames(&mut self, events: &[Checked<'_>]) {
        let framed = |(event, typed): &&Checked<'_>| {
            let has_frame =
                |part: &Expression| matches!(&part.ast.kind, ExprKind::Name(name) if name == "frame");
            is_of_kernel(typed) && event.key.iter().any(has_frame)
        };
        let is_traced =
            |typed: &TypedEvent| matches!(typed.at.kind.subject, Subject::Function { traced: true, .. });
        let (starts, ends): (Vec<_>, Vec<_>) =
            events.iter().filter(framed).partition(|(_, typed)| typed.role == Role::Start);
        for (event, start) in starts {
            if let Some((_, end)) = ends.first()
                && !ends.iter().any(|(_, end)| is_traced(end) == is_traced(start))
            {
                let message =
                    format!("no end has the `frame` of `{}`: `{}` has other numbers", start.at, end.at);
                let hint = "attach to both in the same way: fentry and fexit, or kprobe and kretprobe";
                self.error(at_place(event, &start.at), message, hint);
            }
        }
    }
}

fn is_of_kernel(event: &TypedEvent) -> bool {
    matches!(event.at.kind.subject, Subject::Function { .. })
}

/// The place of an alternative.
fn at_place(event: &Event, at: &AttachPoint) -> crate::diagnostic::Span {
    event.at.iter().find(|one| one.value == *at).map_or_else(|| event.span.clone(), |one| one.span.clone())
}

/// Whether both can be the same event of the kernel while the conditions of both hold.
pub(super) fn meet(a: &TypedEvent, b: &TypedEvent) -> bool {
    let together = |function: Option<u32>| {
        let facts = [a, b].into_iter().flat_map(|event| {
            event.filters.iter().map(move |filter| Fact { holds: true, value: filter, event })
        });
        !Proof { function, steps: MOST_STEPS }.contradicts(facts.collect(), Vec::new())
    };
    let numbers =
        |event: &TypedEvent| event.sites.list.iter().map(|site| site.number).collect::<HashSet<_>>();
    match (a.at.kind.subject, b.at.kind.subject) {
        (Subject::Tracepoint, Subject::Tracepoint) => {
            let both = tracepoints(b);
            tracepoints(a).into_iter().any(|(one, number)| {
                let mut met = both.iter().filter(|(other, _)| is_one_tracepoint(one, *other));
                met.any(|(_, other)| together(number.filter(|number| Some(*number) == *other)))
            })
        }
        (Subject::Timer, Subject::Timer) | (Subject::Own, Subject::Own) => a.at == b.at && together(None),
        // However often each is sampled.
        (Subject::Counter, Subject::Counter) => {
            a.at.kind == b.at.kind && a.at.category() == b.at.category() && together(None)
        }
        (Subject::Function { at_return: one, .. }, Subject::Function { at_return: other, .. })
        | (Subject::UserFunction { at_return: one }, Subject::UserFunction { at_return: other }) => {
            one == other && numbers(a).intersection(&numbers(b)).any(|number| together(Some(*number)))
        }
        (
            Subject::UserFunction { .. } | Subject::UserProbe,
            Subject::UserFunction { .. } | Subject::UserProbe,
        ) => is_one_file(a, b) && !offsets(a).is_disjoint(&offsets(b)) && together(None),
        (
            Subject::Tracepoint
            | Subject::Function { .. }
            | Subject::UserFunction { .. }
            | Subject::UserProbe
            | Subject::Timer
            | Subject::Counter
            | Subject::Objects
            | Subject::Own,
            _,
        ) => false,
    }
}

/// A category, where one is given, and a name.
type TracepointName<'e> = (Option<&'e str>, &'e str);

/// The tracepoints of an event, with their numbers if it has any.
fn tracepoints(event: &TypedEvent) -> Vec<(TracepointName<'_>, Option<u32>)> {
    let mut found = Vec::new();
    for site in &event.sites.list {
        if let Place::Tracepoint { category, name } = &site.place {
            found.push(((Some(category.as_str()), name.as_str()), Some(site.number)));
        }
    }
    if found.is_empty() { vec![((event.at.category(), event.at.name()), None)] } else { found }
}

fn is_one_tracepoint(
    (category, name): TracepointName<'_>,
    (other_category, other): TracepointName<'_>,
) -> bool {
    if name == other {
        return category.zip(other_category).is_none_or(|(category, other)| category == other);
    }
    // Events of one system call are told from that of all.
    let is_part = |whole: &str, part: &str, category: Option<&str>| {
        category == Some("syscalls")
            && matches!(whole, "sys_enter" | "sys_exit")
            && part.strip_prefix(whole).is_some_and(|rest| rest.starts_with('_'))
    };
    is_part(name, other, other_category) || is_part(other, name, category)
}

fn is_one_file(a: &TypedEvent, b: &TypedEvent) -> bool {
    let file = |event: &TypedEvent| event.usdt.as_ref().map(|sites| sites.file).or(event.sites.id);
    file(a).zip(file(b)).is_some_and(|(one, other)| one.is_one_file(&other))
}

/// The places in a file where the event stops programs, except for those of return probes, which are at no instruction.
fn offsets(event: &TypedEvent) -> BTreeSet<u64> {
    let sites = event.sites.list.iter().filter(|_| !event.mechanism.link.is_after_return());
    let of_functions = sites.flat_map(|site| match &site.place {
        Place::File { at, .. } => at.as_slice(),
        Place::Kernel { .. } | Place::Tracepoint { .. } => &[],
    });
    let of_probes = event.usdt.iter().flat_map(|sites| &sites.list).map(|site| &site.offset);
    of_functions.chain(of_probes).copied().collect()
}

fn same_key(a: &TypedEvent, b: &TypedEvent) -> bool {
    let same_element = match (&a.each, &b.each) {
        (Some(one), Some(other)) => one == other,
        _ => true,
    };
    let same = |(one, other): (&Typed, &Typed)| {
        let (one, other) = (plain(one, a), plain(other, b));
        // Of the function in which they meet both are the number.
        let are_functions = [one, other].iter().all(|part| matches!(part.kind, TypedKind::Function(_)));
        are_functions || is_same((one, a), (other, b))
    };
    same_element && a.key.len() == b.key.len() && a.key.iter().zip(&b.key).all(same)
}

/// Removes the name of an expression, and operations that do not change the number.
fn plain<'t>(mut typed: &'t Typed, event: &'t TypedEvent) -> &'t Typed {
    loop {
        typed = match &typed.kind {
            TypedKind::Let(index) => match event.lets.get(*index) {
                Some(value) => value,
                None => return typed,
            },
            TypedKind::Number(inner) => inner,
            TypedKind::Cast(inner)
                if matches!(typed.ty, Type::Int { bits: 64, .. } | Type::Pointer { .. }) =>
            {
                inner
            }
            _ => return typed,
        };
    }
}

/// Whether two expressions are equal, including the named ones in them.
fn is_same((one, a): (&Typed, &TypedEvent), (other, b): (&Typed, &TypedEvent)) -> bool {
    if one.kind != other.kind {
        return false;
    }
    let mut seen = BTreeSet::new();
    let mut waiting: Vec<usize> = one.names().into_iter().collect();
    while let Some(index) = waiting.pop() {
        if !seen.insert(index) {
            continue;
        }
        let (Some(value), Some(twin)) = (a.lets.get(index), b.lets.get(index)) else { return false };
        if value != twin {
            return false;
        }
        waiting.extend(value.names());
    }
    true
}

/// A condition of an event, and whether it is true or false.
#[derive(Clone, Copy)]
struct Fact<'e> {
    holds: bool,
    value: &'e Typed,
    event: &'e TypedEvent,
}

/// The constraint that a fact puts on a value, if it compares the value with a constant.
enum Constraint<'e> {
    /// The number is in this range, or in a range of one number it is not that number. For equality, signedness makes no
    /// difference.
    Number { least: i128, most: i128, outside: bool, unsigned: Option<bool> },
    /// The text is equal to this one, or is not.
    Text { text: &'e [u8], is: bool },
}

/// A search for a contradiction between facts.
struct Proof {
    /// The function for which both events are compared.
    function: Option<u32>,
    steps: u32,
}

impl Proof {
    /// Splits the facts in `open` into `atoms`, which cannot be split further.
    fn contradicts<'e>(&mut self, mut open: Vec<Fact<'e>>, mut atoms: Vec<Fact<'e>>) -> bool {
        while let Some(fact) = open.pop() {
            if self.steps == 0 {
                return false;
            }
            self.steps -= 1;
            let Fact { holds, value, event } = fact;
            match &value.kind {
                TypedKind::Let(index) => match event.lets.get(*index) {
                    Some(value) => open.push(Fact { value, ..fact }),
                    None => return false,
                },
                TypedKind::Unary(UnaryOperator::Not, inner) => {
                    open.push(Fact { holds: !holds, value: inner, event });
                }
                TypedKind::Binary(operator @ (BinaryOperator::And | BinaryOperator::Or), left, right) => {
                    let parts = [left, right].map(|value| Fact { holds, value, event });
                    if holds == (*operator == BinaryOperator::And) {
                        open.extend(parts);
                        continue;
                    }
                    // Either of the two.
                    return parts.into_iter().all(|part| {
                        let open = open.iter().copied().chain([part]).collect();
                        self.contradicts(open, atoms.clone())
                    });
                }
                _ => match self.truth(value) {
                    Some(truth) if truth != holds => return true,
                    Some(_) => {}
                    None => {
                        if atoms.iter().any(|atom| self.exclude(*atom, fact)) {
                            return true;
                        }
                        atoms.push(fact);
                    }
                },
            }
        }
        false
    }

    /// The value of an expression if it is a known number, including the number of the function.
    fn constant(&self, value: &Typed) -> Option<u64> {
        match value.kind {
            TypedKind::Constant(value) => Some(value),
            TypedKind::Function(number) => number.or(self.function).map(u64::from),
            _ => None,
        }
    }

    fn truth(&self, value: &Typed) -> Option<bool> {
        if let TypedKind::Binary(operator, left, right) = &value.kind
            && operator.compares()
        {
            let (a, b) = (self.constant(left)?, self.constant(right)?);
            return Some(
                crate::eval::binary(*operator, unsigned_operation(*operator, left, right), a, b) != 0,
            );
        }
        self.constant(value).map(|value| value != 0)
    }

    /// Whether two facts exclude each other.
    fn exclude(&mut self, one: Fact<'_>, other: Fact<'_>) -> bool {
        self.steps = self.steps.saturating_sub(1);
        if one.holds != other.holds && is_same((one.value, one.event), (other.value, other.event)) {
            return true;
        }
        let ((of, says), (of_other, says_other)) = (self.says(one), self.says(other));
        if !is_same((of, one.event), (of_other, other.event)) {
            return false;
        }
        match (says, says_other) {
            (Constraint::Text { text, is }, Constraint::Text { text: other, is: is_other }) => {
                match (is, is_other) {
                    (true, true) => text != other,
                    (false, false) => false,
                    _ => text == other,
                }
            }
            (
                Constraint::Number { least, most, outside, unsigned },
                Constraint::Number {
                    least: low,
                    most: high,
                    outside: other_outside,
                    unsigned: other_unsigned,
                },
            ) => {
                // As unsigned, what is negative is another number.
                let is_negative = |bound: i128| bound < 0 && bound != i128::MIN;
                let is_one_order = match (unsigned, other_unsigned) {
                    (Some(true), None) | (None, Some(true)) => {
                        ![least, most, low, high].into_iter().any(is_negative)
                    }
                    (Some(one), Some(other)) => one == other,
                    _ => true,
                };
                is_one_order
                    && match (outside, other_outside) {
                        (false, false) => most < low || high < least,
                        (true, true) => false,
                        _ => (least, most) == (low, high),
                    }
            }
            _ => false,
        }
    }

    /// The value that a fact is about, and the constraint on it.
    fn says<'e>(&self, fact: Fact<'e>) -> (&'e Typed, Constraint<'e>) {
        // That it holds is that it is not 0.
        let bare = |value: &'e Typed| {
            let says = Constraint::Number { least: 0, most: 0, outside: fact.holds, unsigned: None };
            (plain(value, fact.event), says)
        };
        let TypedKind::Binary(operator, left, right) = &fact.value.kind else { return bare(fact.value) };
        if !operator.compares() {
            return bare(fact.value);
        }
        let is = (*operator == BinaryOperator::Eq) == fact.holds;
        match (&left.kind, &right.kind) {
            (_, TypedKind::Text(text)) => return (left, Constraint::Text { text, is }),
            (TypedKind::Text(text), _) => return (right, Constraint::Text { text, is }),
            _ => {}
        }
        let (of, number, operator) = match (self.constant(left), self.constant(right)) {
            (None, Some(number)) => (left, number, *operator),
            (Some(number), None) => (right, number, super::expression::mirrored(*operator)),
            _ => return bare(fact.value),
        };
        let unsigned = unsigned_operation(operator, left, right);
        let number = if unsigned { i128::from(number) } else { i128::from(number.cast_signed()) };
        let operator = if fact.holds { operator } else { opposite(operator) };
        let (least, most) = match operator {
            BinaryOperator::Lt => (i128::MIN, number - 1),
            BinaryOperator::Le => (i128::MIN, number),
            BinaryOperator::Gt => (number + 1, i128::MAX),
            BinaryOperator::Ge => (number, i128::MAX),
            _ => (number, number),
        };
        let equals = matches!(operator, BinaryOperator::Eq | BinaryOperator::Ne);
        let unsigned = (!equals).then_some(unsigned);
        let says = Constraint::Number { least, most, outside: operator == BinaryOperator::Ne, unsigned };
        (plain(of, fact.event), says)
    }
}

/// The comparison that is true if this one is false.
fn opposite(operator: BinaryOperator) -> BinaryOperator {
    match operator {
        BinaryOperator::Eq => BinaryOperator::Ne,
        BinaryOperator::Ne => BinaryOperator::Eq,
        BinaryOperator::Lt => BinaryOperator::Ge,
        BinaryOperator::Le => BinaryOperator::Gt,
        BinaryOperator::Gt => BinaryOperator::Le,
        BinaryOperator::Ge => BinaryOperator::Lt,
        other => other,
    }
}
