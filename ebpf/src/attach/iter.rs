//! `iter:OBJECTS`: what there is of a kind of object, visited by the kernel at each scrape (5.8): `iter:task`, `iter:tcp`.
//!
//! Arguments are those of the function `bpf_iter_OBJECTS` in BTF, whose first is the walk's own and whose second is the object. After
//! the last object the kernel calls the program once more, with none.

use super::{
    ArgumentValue, Description, Missing, Resolved, Target, names, never_untracked,
    prototype::{Tracking, Words, arguments},
};
use crate::{
    btf::BtfKind,
    diagnostic::near,
    expr::BinaryOperator,
    point::{AttachKind, AttachPoint, FunctionCount, LinkKind, Mechanism, ProgramSection, Subject, Tracing},
    typed::{Type, Typed, TypedKind},
};

/// What the names of walks begin with in BTF.
const PREFIX: &str = "bpf_iter_";
/// The part of a walk's names that is no kind of object: functions that programs of other kinds call.
const FUNCTIONS: [&str; 3] = ["_new", "_next", "_destroy"];

/// `BPF_PROG_TYPE_TRACING`, `BPF_TRACE_ITER`
const TRACE_ITER: Tracing =
    Tracing { program_type: 26, attach_type: 28, prefix: PREFIX, kind: BtfKind::Func };

const MECHANISM: Mechanism =
    Mechanism::new("iter", ProgramSection::Named("iter"), LinkKind::Walk(TRACE_ITER));

pub(super) static ITER: Description = Description {
    kind: AttachKind {
        name: "iter",
        short: "it",
        form: "iter:OBJECTS",
        subject: Subject::Objects,
        several: FunctionCount::Never,
        mechanisms: &[MECHANISM],
    },
    parse: |text| names(text, &[1]),
    resolve: |at, _, target| resolve(at, target).map(|resolved| vec![resolved]),
    untracked: never_untracked,
};

/// The kinds of objects that a kernel walks over, by its types.
pub fn objects<'a>(target: &Target<'a>) -> Vec<&'a str> {
    let Some(btf) = target.btf else { return Vec::new() };
    let is_walk = |name: &&str| !FUNCTIONS.iter().any(|end| name.ends_with(end));
    let mut found: Vec<&str> = btf
        .names(BtfKind::Func)
        .filter_map(|name| name.strip_prefix(PREFIX))
        .filter(is_walk)
        .filter(|name| btf.find(&format!("{PREFIX}_{name}"), BtfKind::Struct).is_some())
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// The attach point of the objects of this name.
pub fn point(name: &str) -> AttachPoint {
    AttachPoint::new(&ITER.kind, vec![name.to_owned()])
}

fn resolve(at: &AttachPoint, target: &Target<'_>) -> Result<Resolved, Missing> {
    let name = at.name();
    let Some(btf) = target.btf else {
        return Err(Missing {
            message: format!("`iter:{name}` needs the kernel's BTF"),
            hint: Some("it is in kernels built with CONFIG_DEBUG_INFO_BTF=y".into()),
        });
    };
    let known = objects(target);
    let function =
        known.contains(&name).then(|| btf.find(&format!("{PREFIX}{name}"), BtfKind::Func)).flatten();
    let Some(function) = function else {
        let nearest: Vec<String> =
            near(name, known.iter().copied(), 2).into_iter().map(|near| format!("`iter:{near}`")).collect();
        let hint = if known.is_empty() {
            "walks over objects are in Linux 5.8 and later".to_owned()
        } else if nearest.is_empty() {
            format!("it has {}", known.join(", "))
        } else {
            format!("did you mean {}?", nearest.join(" or "))
        };
        return Err(Missing { message: format!("this kernel has no `iter:{name}`"), hint: Some(hint) });
    };
    let mut arguments = arguments(
        btf,
        &btf.parameters(btf.target(function)),
        Words::Context { tracked: Some(Tracking { kernel: target.kernel, has_alternative: false }) },
    );
    let object = arguments.get(1).and_then(|argument| match &argument.value {
        Ok(ArgumentValue::Value(typed)) => Some(typed.clone()),
        Ok(ArgumentValue::Array { .. }) | Err(_) => None,
    });
    let Some(object) = object else {
        let message = format!("what `iter:{name}` walks over cannot be read");
        return Err(Missing { message, hint: None });
    };
    // The walk's own: its number, and where its text goes.
    arguments.remove(0);
    let none = Typed::new(TypedKind::Constant(0), Type::S64);
    let is_one =
        Typed::new(TypedKind::Binary(BinaryOperator::Ne, Box::new(object), Box::new(none)), Type::S64);
    Ok(Resolved { condition: Some(is_one), ..Resolved::event(MECHANISM, arguments) })
}
