//! Functions of the kernel. `fentry:` and `fexit:` are BTF-typed programs (5.5 on x86-64, 6.0 on arm64, with
//! `CONFIG_FUNCTION_TRACER`); `kprobe:` and `kretprobe:` read registers, and work on functions that BTF does not know, of
//! modules for instance, with numbered arguments only.

use super::{
    Missing, Resolved, Target,
    prototype::{self, Words},
    user,
};
use crate::{
    btf::{Btf, Kind, TypeId},
    diagnostic::near,
    typed::{Mechanism, Node, Type, Typed},
};

/// A function's prototype in the kernel's BTF.
fn prototype<'a>(name: &str, target: &Target<'a>) -> Option<(&'a Btf, TypeId)> {
    let btf = target.btf?;
    Some((btf, btf.target(btf.find(name, Kind::Func)?)))
}

/// `fentry:NAME`, `fexit:NAME`
pub(super) fn traced(name: &str, at_return: bool, target: &Target<'_>) -> Result<Resolved, Missing> {
    let kind = if at_return { "fexit" } else { "fentry" };
    let Some(btf) = target.btf else {
        return Err(Missing {
            message: format!("`{kind}:{name}` needs the kernel's BTF"),
            hint: Some("it is in kernels built with CONFIG_DEBUG_INFO_BTF=y".into()),
        });
    };
    let Some((_, prototype)) = prototype(name, target) else {
        let nearest: Vec<String> =
            near(name, btf.names(Kind::Func), 3).into_iter().map(|near| format!("`{kind}:{near}`")).collect();
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
    Ok(Resolved {
        mechanism: if at_return { Mechanism::Fexit } else { Mechanism::Fentry },
        arguments: prototype::arguments(btf, &btf.parameters(prototype), words),
        result: at_return.then(|| prototype::result(btf, prototype, words)).flatten(),
        is_return: at_return,
        // The kernel calls both from one frame, in which the arguments are that the context points to.
        frame: Some(Typed::new(Node::Number(Box::new(context)), Type::U64)),
        untyped: false,
        usdt: None,
    })
}

/// `kprobe:NAME`, `kretprobe:NAME`
pub(super) fn probed(name: &str, at_return: bool, target: &Target<'_>) -> Result<Resolved, Missing> {
    target.functions.probed(name)?;
    let mechanism = if at_return { Mechanism::Kretprobe } else { Mechanism::Kprobe };
    let mut resolved = user::registers(mechanism, at_return, target);
    let Some((btf, prototype)) = prototype(name, target) else { return Ok(resolved) };
    let words = Words::Registers(target.arch);
    resolved.untyped = false;
    if at_return {
        // Registers no longer hold the arguments.
        resolved.result = prototype::result(btf, prototype, words);
    } else {
        resolved.arguments = prototype::arguments(btf, &btf.parameters(prototype), words);
    }
    Ok(resolved)
}
