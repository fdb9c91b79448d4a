//! `rawtracepoint:CATEGORY:NAME`: the arguments as the kernel passes them to a tracepoint.
//!
//! Their names and types come from `__traceiter_NAME` in BTF. With `btf_trace_NAME` there as well the
//! program is a BTF-typed one (`tp_btf`, 5.5), which loads through pointers directly; else a plain one
//! (`raw_tp`, 4.17), which reads with helpers.

use super::{
    Argument, ArgumentValue, Missing, Resolved, Target, no_tracepoint,
    prototype::{MAX_ARGUMENTS, Words, arguments},
};
use crate::{
    btf::{Btf, Kind, TypeId},
    typed::{Mechanism, Node, Type, Typed},
};

fn exists(category: Option<&str>, name: &str, target: &Target<'_>) -> bool {
    match category {
        Some(category) => target.tracepoints.format(category, name).is_some(),
        None => target.tracepoints.all().iter().any(|(_, known)| known == name),
    }
}

/// The prototype's parameters without the first, which is the tracepoint's own.
fn prototype<'a>(btf: &'a Btf, name: &str) -> Option<Vec<(&'a str, TypeId)>> {
    let function = btf.find(&format!("__traceiter_{name}"), Kind::Func)?;
    Some(btf.parameters(btf.target(function)).into_iter().skip(1).collect())
}

pub(super) fn resolve(category: Option<&str>, name: &str, target: &Target<'_>) -> Result<Resolved, Missing> {
    let prototype = target.btf.and_then(|btf| Some((btf, prototype(btf, name)?)));
    // A raw tracepoint without an event of its own (`DECLARE_TRACE`) is in BTF but not in tracefs.
    let declared_only = category.is_none() && prototype.is_some();
    if !declared_only && !exists(category, name, target) {
        return Err(no_tracepoint("rawtracepoint", category, name, target));
    }
    let Some((btf, parameters)) = prototype else {
        return Ok(Resolved { untyped: true, ..Resolved::event(Mechanism::RawTp, numbered()) });
    };
    let tracked = btf.find(&format!("btf_trace_{name}"), Kind::Typedef).is_some();
    let mechanism = if tracked { Mechanism::TpBtf } else { Mechanism::RawTp };
    Ok(Resolved::event(mechanism, arguments(btf, &parameters, Words::Context { tracked })))
}

pub(super) fn resolve_untracked(category: Option<&str>, name: &str, target: &Target<'_>) -> Option<Resolved> {
    let resolved = resolve(category, name, target).ok()?;
    if resolved.mechanism == Mechanism::RawTp {
        return Some(resolved);
    }
    let btf = target.btf?;
    let arguments = arguments(btf, &prototype(btf, name)?, Words::Context { tracked: false });
    Some(Resolved::event(Mechanism::RawTp, arguments))
}

fn numbered() -> Vec<Argument> {
    (0..MAX_ARGUMENTS)
        .map(|index| Argument {
            name: format!("arg{index}"),
            ctype: "u64".into(),
            value: Ok(ArgumentValue::Value(Typed::new(Node::Argument(index * 8), Type::U64))),
        })
        .collect()
}
