//! `fentry:FUNCTION` and `fexit:FUNCTION`: functions of the kernel, by BTF-typed programs (5.5 on x86-64, 6.0 on arm64, with
//! `CONFIG_FUNCTION_TRACER`).

use super::{
    Description, Missing, Parsed, Resolved, Site, SiteRequest, Sites, Target, is_name_or_pattern,
    never_untracked,
    prototype::{self, Tracking, Words},
};
use crate::{
    btf::{self, Btf, TypeId},
    diagnostic::near,
    glob::is_pattern,
    point::{AttachKind, FunctionCount, LinkKind, Mechanism, ProgramSection, Subject, Tracing},
    typed::{Type, Typed, TypedKind},
};

/// `BPF_PROG_TYPE_TRACING`
const TRACING: u32 = 26;
/// `BPF_TRACE_FENTRY`, `BPF_TRACE_FEXIT`
const TRACE_FENTRY: u32 = 24;
const TRACE_FEXIT: u32 = 25;

const fn mechanism(name: &'static str, attach_type: u32) -> Mechanism {
    let link = Tracing { program_type: TRACING, attach_type, prefix: "", kind: btf::BtfKind::Func };
    Mechanism {
        untried: Some("fentry and fexit"),
        ..Mechanism::new(name, ProgramSection::Named(name), LinkKind::Tracing(link))
    }
}

pub(super) static FENTRY: Description = Description {
    kind: AttachKind {
        name: "fentry",
        short: "f",
        form: "fentry:FUNCTION",
        subject: Subject::Function { at_return: false, traced: true },
        several: FunctionCount::Pattern,
        mechanisms: &[mechanism("fentry", TRACE_FENTRY)],
    },
    parse: function_name,
    resolve: |at, request, target| traced(&request.wanted(at.name(), false), target),
    untracked: never_untracked,
};

pub(super) static FEXIT: Description = Description {
    kind: AttachKind {
        name: "fexit",
        short: "fr",
        form: "fexit:FUNCTION",
        subject: Subject::Function { at_return: true, traced: true },
        several: FunctionCount::Pattern,
        mechanisms: &[mechanism("fexit", TRACE_FEXIT)],
    },
    parse: function_name,
    resolve: |at, request, target| traced(&request.wanted(at.name(), true), target),
    untracked: never_untracked,
};

/// Parses the name of a kernel function, or a pattern.
pub(super) fn function_name(text: &str) -> Parsed {
    is_name_or_pattern(text).then(|| Ok(vec![text.into()]))
}

/// Finds a function's prototype in the kernel's BTF.
pub(super) fn prototype<'a>(name: &str, target: &Target<'a>) -> Option<(&'a Btf, TypeId)> {
    let btf = target.btf?;
    Some((btf, btf.target(btf.find(name, btf::BtfKind::Func)?)))
}

/// The declaration of a kernel function, as C writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Names and types of the parameters.
    pub parameters: Vec<(String, String)>,
    /// Type of the result; `None` for `void`.
    pub result: Option<String>,
}

/// Finds a function in the kernel's BTF.
pub fn signature(btf: &Btf, name: &str) -> Option<Signature> {
    let prototype = btf.target(btf.find(name, btf::BtfKind::Func)?);
    let words = Words::Context { tracked: None };
    let arguments = prototype::arguments(btf, &btf.parameters(prototype), words);
    Some(Signature {
        parameters: arguments.into_iter().map(|argument| (argument.name, argument.ctype)).collect(),
        result: prototype::result(btf, prototype, words).map(|_| btf.display(btf.target(prototype))),
    })
}

fn traced(wanted: &SiteRequest<'_>, target: &Target<'_>) -> Result<Vec<Resolved>, Missing> {
    let SiteRequest { function: name, at_return, .. } = *wanted;
    let kind = if at_return { &FEXIT.kind } else { &FENTRY.kind };
    let [mechanism] = *kind.mechanisms else {
        unreachable!("each has one mechanism: this is a bug in tapster")
    };
    let kind = kind.name;
    if is_pattern(name) {
        let by_register = if at_return { "kretprobe" } else { "kprobe" };
        return Err(Missing {
            message: format!("`{kind}` takes one function, and `{name}` is a pattern"),
            hint: Some(format!(
                "write {by_register}:{name}, or `function: {name}` for both ends of each call"
            )),
        });
    }
    let Some(btf) = target.btf else {
        return Err(Missing {
            message: format!("`{kind}:{name}` needs the kernel's BTF"),
            hint: Some("it is in kernels built with CONFIG_DEBUG_INFO_BTF=y".into()),
        });
    };
    let Some((_, prototype)) = prototype(name, target) else {
        // Of both ends of a call one thing is said.
        let shown = |near: &str| if wanted.whole { format!("`{near}`") } else { format!("`{kind}:{near}`") };
        let nearest: Vec<String> =
            near(name, btf.names(btf::BtfKind::Func), 3).into_iter().map(shown).collect();
        let hint = if nearest.is_empty() {
            "it may be in a module, which is not looked at, or part of its callers".into()
        } else {
            format!("did you mean {}?", nearest.join(" or "))
        };
        return Err(Missing {
            message: format!("this kernel's BTF has no function `{name}`"),
            hint: Some(hint),
        });
    };
    target.functions.traced()?;
    let words = Words::Context { tracked: Some(Tracking { kernel: target.kernel, has_alternative: false }) };
    let context = Typed::new(TypedKind::Context, Type::U64);
    let arguments = prototype::arguments(btf, &btf.parameters(prototype), words);
    Ok(vec![Resolved {
        result: at_return.then(|| prototype::result(btf, prototype, words)).flatten(),
        is_return: at_return,
        // The kernel calls both from one frame, in which the arguments are that the context points to.
        frame: Some(Typed::new(TypedKind::Number(Box::new(context)), Type::U64)),
        sites: Sites { list: vec![Site::kernel(name)], ..Sites::default() },
        ..Resolved::event(mechanism, arguments)
    }])
}
