//! `kprobe:FUNCTION` and `kretprobe:FUNCTION`: functions of the kernel by registers; one function, or all that a pattern
//! matches. They also work on functions that BTF does not have, such as those of modules; then arguments have numbers only.

use super::{
    Argument, ArgumentValue, Description, Missing, Resolved, Site, SiteRequest, Sites, Target,
    function::{function_name, prototype},
    never_untracked,
    prototype::{self, Words},
    user,
};
use crate::{
    btf::{Btf, TypeId},
    point::{AttachKind, FunctionCount, LinkKind, Mechanism, ProgramSection, Subject},
    typed::{Typed, TypedKind},
};

const fn mechanism(name: &'static str, at_return: bool) -> Mechanism {
    Mechanism {
        untried: Some("kprobes"),
        ..Mechanism::new(name, ProgramSection::Named(name), LinkKind::KernelProbe { at_return })
    }
}

const ENTRY: Mechanism = mechanism("kprobe", false);
const RETURN: Mechanism = mechanism("kretprobe", true);

pub(super) static KPROBE: Description = Description {
    kind: AttachKind {
        name: "kprobe",
        short: "k",
        form: "kprobe:FUNCTION",
        subject: Subject::Function { at_return: false, traced: false },
        several: FunctionCount::Pattern,
        mechanisms: &[ENTRY],
    },
    parse: function_name,
    resolve: |at, request, target| probed(&request.wanted(at.name(), false), target),
    untracked: never_untracked,
};

pub(super) static KRETPROBE: Description = Description {
    kind: AttachKind {
        name: "kretprobe",
        short: "kr",
        form: "kretprobe:FUNCTION",
        subject: Subject::Function { at_return: true, traced: false },
        several: FunctionCount::Pattern,
        mechanisms: &[RETURN],
    },
    parse: function_name,
    resolve: |at, request, target| probed(&request.wanted(at.name(), true), target),
    untracked: never_untracked,
};

fn probed(wanted: &SiteRequest<'_>, target: &Target<'_>) -> Result<Vec<Resolved>, Missing> {
    let sites = target.functions.probed(wanted)?;
    let at_return = wanted.at_return;
    let mechanism = if at_return { RETURN } else { ENTRY };
    let words = Words::Registers(target.arch);
    let mut resolved = user::registers(mechanism, at_return, words);
    if let [site] = sites.list.as_slice() {
        if let Some((btf, prototype)) = prototype(&site.name, target) {
            resolved.untyped = false;
            if at_return {
                // Registers no longer hold the arguments.
                resolved.result = prototype::result(btf, prototype, words);
            } else {
                resolved.arguments = prototype::arguments(btf, &btf.parameters(prototype), words);
            }
        }
    } else if at_return {
        common_result(&mut resolved, &sites, words, target);
    } else {
        common_arguments(&mut resolved, &sites, words, target);
    }
    resolved.sites = sites;
    Ok(vec![resolved])
}

/// The result of several functions: with its type if all have the same, otherwise as a plain register.
fn common_result(resolved: &mut Resolved, sites: &Sites, words: Words, target: &Target<'_>) {
    let mut results = sites.list.iter().map(|site| {
        let (btf, prototype) = prototype(&site.name, target)?;
        prototype::result(btf, prototype, words)?.ok()
    });
    let first = results.next().flatten();
    if let Some(result) = first
        && results.all(|other| other.as_ref() == Some(&result))
    {
        resolved.result = Some(Ok(result));
    }
}

/// The arguments of several functions: by name those that all functions have in one place with one type, and the reasons why
/// other names are none of all. By number the registers, with a type if all functions agree.
fn common_arguments(resolved: &mut Resolved, sites: &Sites, words: Words, target: &Target<'_>) {
    let prototypes: Vec<(&Site, Vec<Argument>)> = sites
        .list
        .iter()
        .map(|site| {
            let of = |(btf, prototype): (&Btf, TypeId)| {
                prototype::arguments(btf, &btf.parameters(prototype), words)
            };
            (site, prototype(&site.name, target).map(of).unwrap_or_default())
        })
        .collect();
    let value = |argument: &Argument| match &argument.value {
        Ok(ArgumentValue::Value(typed)) => Some(typed.clone()),
        Ok(ArgumentValue::Array { .. }) | Err(_) => None,
    };
    let mut names: Vec<&Argument> = Vec::new();
    for argument in prototypes.iter().flat_map(|(_, arguments)| arguments) {
        if !names.iter().any(|known| known.name == argument.name) {
            names.push(argument);
        }
    }
    for wanted in names {
        let other = prototypes.iter().find_map(|(site, arguments)| {
            let found = arguments.iter().position(|argument| argument.name == wanted.name);
            let Some(index) = found else { return Some(format!("`{}` has none of that name", site.name)) };
            let same = value(&arguments[index]).is_some() && value(&arguments[index]) == value(wanted);
            (!same).then(|| {
                format!(
                    "it is argument {index} of `{}`, a `{}`, and not of one place and type in all",
                    site.name, arguments[index].ctype
                )
            })
        });
        match other {
            Some(why) => resolved.unshared.push((wanted.name.clone(), why)),
            None => {
                let place = value(wanted).map(|typed| strip_cast(&typed).kind.clone());
                let slot = resolved.arguments.iter_mut().find(|argument| {
                    value(argument).is_some_and(|typed| Some(&typed.kind) == place.as_ref())
                });
                if let Some(slot) = slot {
                    *slot = wanted.clone();
                }
            }
        }
    }
    resolved.untyped = prototypes.iter().all(|(_, arguments)| arguments.is_empty());
}

/// The register below a cast.
fn strip_cast(typed: &Typed) -> &Typed {
    if let TypedKind::Cast(inner) = &typed.kind { inner } else { typed }
}
