//! `rawtracepoint:CATEGORY:NAME`: the arguments as the kernel passes them to a tracepoint.
//!
//! Names and types of arguments come from `__traceiter_NAME` in BTF. If BTF also has `btf_trace_NAME`, the program is a
//! BTF-typed one (`tp_btf`, 5.5), which loads through pointers directly; otherwise it is a plain one (`raw_tp`, 4.17), which
//! reads with helpers.

use super::{
    Argument, ArgumentValue, Description, Missing, Parsed, Resolved, Target, is_name_or_pattern, names,
    no_tracepoint,
    prototype::{MAX_ARGUMENTS, Tracking, Words, arguments},
};
use crate::{
    btf::{self, Btf, TypeId},
    glob::is_pattern,
    point::{AttachKind, AttachPoint, FunctionCount, LinkKind, Mechanism, ProgramSection, Subject, Tracing},
    typed::{Type, Typed, TypedKind},
};

const RAW_TP: Mechanism = Mechanism::new("raw_tp", ProgramSection::Named("raw_tp"), LinkKind::RawTracepoint);
const TP_BTF: Mechanism =
    Mechanism::new("tp_btf", ProgramSection::Named("tp_btf"), LinkKind::Tracing(TRACE_RAW_TP));

/// `BPF_PROG_TYPE_TRACING`, `BPF_TRACE_RAW_TP`
const TRACE_RAW_TP: Tracing =
    Tracing { program_type: 26, attach_type: 23, prefix: "btf_trace_", kind: btf::BtfKind::Typedef };

pub(super) static RAW_TRACEPOINT: Description = Description {
    kind: AttachKind {
        name: "rawtracepoint",
        short: "rt",
        form: "rawtracepoint:CATEGORY:NAME",
        subject: Subject::Tracepoint,
        several: FunctionCount::Never,
        mechanisms: &[TP_BTF, RAW_TP],
    },
    parse,
    resolve: |at, _, target| resolve(at, target).map(|resolved| vec![resolved]),
    untracked: resolve_untracked,
};

/// Each raw tracepoint has a prototype of its own, which a program names when it is loaded.
fn parse(text: &str) -> Parsed {
    let parts: Vec<&str> = text.split(':').collect();
    if parts.len() <= 2 && parts.iter().all(|part| is_name_or_pattern(part)) && is_pattern(text) {
        let message = format!("`rawtracepoint:{text}` is a pattern, and a rawtracepoint takes one name");
        return Some(Err((message, format!("write tracepoint:{text}"))));
    }
    names(text, &[1, 2])
}

/// The attach point of a tracepoint that the kernel lists, with its category or without.
pub fn point(category: Option<&str>, name: &str) -> AttachPoint {
    AttachPoint::new(&RAW_TRACEPOINT.kind, category.into_iter().chain([name]).map(str::to_owned).collect())
}

/// Whether a list of all attach points shows it: raw tracepoints whose arguments have numbers only are left out.
pub fn is_listed(at: &AttachPoint, target: &Target<'_>) -> bool {
    let has_prototype = || target.btf.is_some_and(|btf| prototype(btf, at.name()).is_some());
    at.kind != &RAW_TRACEPOINT.kind || has_prototype()
}

fn exists(category: Option<&str>, name: &str, target: &Target<'_>) -> bool {
    match category {
        Some(category) => target.tracepoints.exists(category, name),
        None => target.tracepoints.all().iter().any(|(_, known)| known == name),
    }
}

/// The parameters of the prototype, without the first, which is the tracepoint's own.
fn prototype<'a>(btf: &'a Btf, name: &str) -> Option<Vec<(&'a str, TypeId)>> {
    let function = btf.find(&format!("__traceiter_{name}"), btf::BtfKind::Func)?;
    Some(btf.parameters(btf.target(function)).into_iter().skip(1).collect())
}

fn resolve(at: &AttachPoint, target: &Target<'_>) -> Result<Resolved, Missing> {
    let (category, name) = (at.category(), at.name());
    let prototype = target.btf.and_then(|btf| Some((btf, prototype(btf, name)?)));
    // A raw tracepoint without an event of its own (`DECLARE_TRACE`) is in BTF but not in tracefs.
    let declared_only = category.is_none() && prototype.is_some();
    if !declared_only && !exists(category, name, target) {
        return Err(no_tracepoint("rawtracepoint", category, name, target));
    }
    let Some((btf, parameters)) = prototype else {
        return Ok(Resolved { untyped: true, ..Resolved::event(RAW_TP, numbered()) });
    };
    let tracked = btf.find(&format!("btf_trace_{name}"), btf::BtfKind::Typedef).is_some();
    let tracking = Tracking { kernel: target.kernel, has_alternative: true };
    let (mechanism, tracked) = if tracked { (TP_BTF, Some(tracking)) } else { (RAW_TP, None) };
    Ok(Resolved::event(mechanism, arguments(btf, &parameters, Words::Context { tracked })))
}

fn resolve_untracked(at: &AttachPoint, target: &Target<'_>) -> Option<Resolved> {
    let resolved = resolve(at, target).ok()?;
    if resolved.mechanism == RAW_TP {
        return Some(resolved);
    }
    let btf = target.btf?;
    let arguments = arguments(btf, &prototype(btf, at.name())?, Words::Context { tracked: None });
    Some(Resolved::event(RAW_TP, arguments))
}

fn numbered() -> Vec<Argument> {
    (0..MAX_ARGUMENTS)
        .map(|index| Argument {
            name: format!("arg{index}"),
            ctype: "u64".into(),
            value: Ok(ArgumentValue::Value(Typed::new(TypedKind::Argument(index * 8), Type::U64))),
        })
        .collect()
}
