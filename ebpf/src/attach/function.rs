//! Functions of the kernel. `fentry:` and `fexit:` are BTF-typed programs (5.5 on x86-64, 6.0 on arm64, with
//! `CONFIG_FUNCTION_TRACER`); `kprobe:` and `kretprobe:` read registers, and work on functions that BTF does not know, of
//! modules for instance, with numbered arguments only.

use super::{
    Argument, ArgumentValue, Missing, Resolved, Site, Sites, Target, Wanted,
    prototype::{self, Words},
    user,
};
use crate::{
    btf::{Btf, Kind, TypeId},
    diagnostic::near,
    glob::is_pattern,
    typed::{Mechanism, Node, Type, Typed},
};

/// A function's prototype in the kernel's BTF.
fn prototype<'a>(name: &str, target: &Target<'a>) -> Option<(&'a Btf, TypeId)> {
    let btf = target.btf?;
    Some((btf, btf.target(btf.find(name, Kind::Func)?)))
}

/// A kernel function as C declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Names and types of its parameters.
    pub parameters: Vec<(String, String)>,
    /// The type of its result; `None` for `void`.
    pub result: Option<String>,
}

/// A function that the kernel's BTF knows.
pub fn signature(btf: &Btf, name: &str) -> Option<Signature> {
    let prototype = btf.target(btf.find(name, Kind::Func)?);
    let words = Words::Context { tracked: true };
    let arguments = prototype::arguments(btf, &btf.parameters(prototype), words);
    Some(Signature {
        parameters: arguments.into_iter().map(|argument| (argument.name, argument.ctype)).collect(),
        result: prototype::result(btf, prototype, words).map(|_| btf.display(btf.target(prototype))),
    })
}

/// `fentry:NAME`, `fexit:NAME`
pub(super) fn traced(wanted: &Wanted<'_>, target: &Target<'_>) -> Result<Resolved, Missing> {
    let Wanted { function: name, at_return, .. } = *wanted;
    let kind = if at_return { "fexit" } else { "fentry" };
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
        let nearest: Vec<String> = near(name, btf.names(Kind::Func), 3).into_iter().map(shown).collect();
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
    let words = Words::Context { tracked: true };
    let context = Typed::new(Node::Context, Type::U64);
    let arguments = prototype::arguments(btf, &btf.parameters(prototype), words);
    let mechanism = if at_return { Mechanism::Fexit } else { Mechanism::Fentry };
    Ok(Resolved {
        result: at_return.then(|| prototype::result(btf, prototype, words)).flatten(),
        is_return: at_return,
        // The kernel calls both from one frame, in which the arguments are that the context points to.
        frame: Some(Typed::new(Node::Number(Box::new(context)), Type::U64)),
        sites: Sites { list: vec![Site::kernel(name)], ..Sites::default() },
        ..Resolved::event(mechanism, arguments)
    })
}

/// `kprobe:NAME`, `kretprobe:NAME`
pub(super) fn probed(wanted: &Wanted<'_>, target: &Target<'_>) -> Result<Resolved, Missing> {
    let sites = target.functions.probed(wanted)?;
    let at_return = wanted.at_return;
    let mechanism = if at_return { Mechanism::Kretprobe } else { Mechanism::Kprobe };
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
    Ok(resolved)
}

/// Of several functions, the type of the result if it is one; else what is in the register.
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

/// Of several functions, those arguments by name that all have in one place with one type; and why others are none of
/// all. By number there is what is in the registers, with a type where all agree.
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

/// The register itself.
fn strip_cast(typed: &Typed) -> &Typed {
    if let Node::Cast(inner) = &typed.kind { inner } else { typed }
}
