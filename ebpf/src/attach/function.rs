//! `fentry:FUNCTION`: the entry of a function of the kernel, with its arguments as BTF declares them.
//!
//! Linux 5.5 on x86-64, 6.0 on arm64, built with `CONFIG_FUNCTION_TRACER` and BTF. Functions that the compiler
//! put into their callers cannot be attached to; of those that BTF knows the kernel refuses such at loading.

use super::{Missing, Resolved, Target, prototype};
use crate::{btf::Kind, diagnostic::near, typed::Mechanism};

pub(super) fn resolve(name: &str, target: &Target<'_>) -> Result<Resolved, Missing> {
    let Some(btf) = target.btf else {
        return Err(Missing {
            message: format!("`fentry:{name}` needs the kernel's BTF"),
            hint: Some("it is in kernels built with CONFIG_DEBUG_INFO_BTF=y".into()),
        });
    };
    let Some(function) = btf.find(name, Kind::Func) else {
        let nearest: Vec<String> =
            near(name, btf.names(Kind::Func), 3).into_iter().map(|near| format!("`fentry:{near}`")).collect();
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
    let parameters = btf.parameters(btf.target(function));
    let arguments = prototype::arguments(btf, &parameters, true);
    Ok(Resolved { mechanism: Mechanism::Fentry, arguments, untyped: false })
}
