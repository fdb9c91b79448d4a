//! Arguments from a prototype in BTF: how the kernel hands them to raw tracepoints and functions alike,
//! one 64-bit word each in the context.

use super::{Argument, ArgumentValue};
use crate::{
    btf::{Btf, Kind, TypeId},
    typed::{AccessMode, Node, Type, Typed},
};

/// Most arguments that the kernel passes: to a raw tracepoint (`bpf_trace_run12`) and to a traced function
/// (`MAX_BPF_FUNC_ARGS`).
pub(super) const MAX_ARGUMENTS: u32 = 12;

/// The arguments of a program with these parameters; `tracked` says whether the verifier checks their types
/// and loads through them.
pub(super) fn arguments(btf: &Btf, parameters: &[(&str, TypeId)], tracked: bool) -> Vec<Argument> {
    parameters
        .iter()
        .zip(0..MAX_ARGUMENTS)
        .map(|((name, declared), index)| Argument {
            name: if name.is_empty() { format!("arg{index}") } else { (*name).to_owned() },
            ctype: btf.display(*declared),
            value: value(btf, *declared, index * 8, tracked).map(ArgumentValue::Value),
        })
        .collect()
}

fn value(btf: &Btf, declared: TypeId, offset: u32, tracked: bool) -> Result<Typed, String> {
    let id = btf.strip(declared);
    let word = |ty| Typed::new(Node::Argument(offset), ty);
    match btf.kind(id) {
        Kind::Int | Kind::Enum | Kind::Enum64 => {
            let Some(ty) = btf.size(id).and_then(|size| Type::integer(size, btf.is_signed(id))) else {
                return Err(format!("a `{}` is wider than 64 bits", btf.display(declared)));
            };
            // The kernel fills the word with zeros, whatever the sign.
            Ok(if matches!(ty, Type::Int { bits: 64, .. }) {
                word(ty)
            } else {
                Typed::new(Node::Cast(Box::new(word(Type::U64))), ty)
            })
        }
        Kind::Ptr => {
            let to = btf.strip(btf.target(id));
            let access = match btf.kind(to) {
                Kind::Struct | Kind::Union if tracked => AccessMode::Direct,
                // The verifier passes pointers to `void` and integers as numbers, and refuses others (`is_void_or_int_ptr`).
                Kind::Void | Kind::Int | Kind::Struct | Kind::Union => AccessMode::Auto,
                _ if !tracked => AccessMode::Auto,
                _ => {
                    return Err(format!(
                        "the verifier does not pass a `{}` to a BTF-typed program",
                        btf.display(declared)
                    ));
                }
            };
            Ok(word(Type::Pointer { to, access }))
        }
        _ => Err(format!("a `{}` passed by value cannot be read", btf.display(declared))),
    }
}
