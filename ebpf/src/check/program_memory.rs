//! Warnings about texts and bytes of a program's memory that are read at the entry of a call. Memory that the program has not
//! touched yet is not there, and a program at that place cannot wait for it: such a text is empty. By the return of the call the
//! callee has read it.

use crate::{
    diagnostic::Diagnostic,
    expr::{Expr, ExprKind},
    point::{AttachPoint, Subject},
    probe::{Event, Expression, Probe},
    typed::{AccessMode, Role, Typed, TypedEvent, TypedKind},
};

/// Whether an attach point is the entry of a function of a program, or of a system call.
fn is_entry(at: &AttachPoint) -> bool {
    match at.kind.subject {
        Subject::UserFunction { at_return } => !at_return,
        Subject::Tracepoint => {
            let is_call =
                at.category().is_none_or(|category| matches!(category, "syscalls" | "raw_syscalls"));
            is_call && at.name().starts_with("sys_enter")
        }
        _ => false,
    }
}

/// Whether a value reads a text or bytes that may be in a program's memory, by a pointer that the event itself has.
fn reads_memory(typed: &Typed) -> bool {
    let by_pointer = |base: &Typed| {
        !base.any(&|part| {
            matches!(part.kind, TypedKind::Saved(_) | TypedKind::Context | TypedKind::Builtin(_))
        })
    };
    typed.any(&|part| match &part.kind {
        TypedKind::TextAt { base, access: AccessMode::Auto, .. }
        | TypedKind::WordsOf { list: base, access: AccessMode::Auto, .. }
        | TypedKind::BytesAt { base, access: AccessMode::Auto, .. } => by_pointer(base),
        _ => false,
    })
}

/// The first call of `str`, `argv` or `bytes` in an expression: the call, and the pointer.
fn reading(expr: &Expr) -> Option<(&Expr, &Expr)> {
    match &expr.kind {
        ExprKind::Call(name, arguments) if matches!(name.as_str(), "str" | "argv" | "bytes") => {
            // Of a text, `str` is a part: what reads may be below it.
            let from = arguments.first()?;
            Some(reading(from).unwrap_or((expr, from)))
        }
        _ => expr.children().into_iter().find_map(reading),
    }
}

/// The warning about an event, if it reads such memory.
pub(super) fn at_entry(probe: &Probe, event: &Event, typed: &TypedEvent) -> Option<Diagnostic> {
    if !is_entry(&typed.at) || !typed.values().into_iter().any(reads_memory) {
        return None;
    }
    let counted = probe
        .labels
        .iter()
        .filter_map(|label| label.value.as_ref())
        .chain(probe.metrics.iter().flat_map(|metric| metric.value.iter().chain(&metric.filter)));
    let counted: Vec<&Expression> = if typed.role == Role::Start { Vec::new() } else { counted.collect() };
    let lets = probe.lets.iter().map(|(_, value)| value);
    let place =
        event.expressions().chain(counted).chain(lets).find_map(|value| Some((value, reading(&value.ast)?)));
    let (span, call, pointer) = match place {
        Some((value, (call, pointer))) => {
            (value.place(&probe.file, call.span.clone()), call.to_string(), pointer.to_string())
        }
        None => (event.span.clone(), "what is read".to_owned(), "args.NAME".to_owned()),
    };
    let read = call.replace(&pointer, "start.p");
    let hint = if typed.role == Role::Start {
        format!("keep the pointer, and read it at the end: save: {{ p: {pointer} }}, then {read}")
    } else {
        format!("make this the start, with save: {{ p: {pointer} }}, and read it at the return as {read}")
    };
    let message = format!(
        "`{call}` may be empty: at the entry of a call, memory that the program has not touched yet cannot be read"
    );
    Some(Diagnostic::warning(&probe.file, span, message).hint(hint))
}
