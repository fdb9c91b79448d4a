//! Arguments and results by a prototype in BTF: how the kernel passes them to raw tracepoints and to functions.

use super::{Arch, Argument, ArgumentValue};
use crate::{
    btf::{Btf, BtfKind, TypeId},
    probe::KernelVersion,
    typed::{AccessMode, Type, Typed, TypedKind},
};

/// Most arguments that the kernel passes: to a raw tracepoint (`bpf_trace_run12`) and to a traced function
/// (`MAX_BPF_FUNC_ARGS`).
pub(super) const MAX_ARGUMENTS: u32 = 12;

/// The places of the 64-bit words of a call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Words {
    /// The words follow each other in the context.
    Context {
        /// Where the verifier knows the types of pointers among them, and allows loads through them.
        tracked: Option<Tracking>,
    },
    /// The words are in the registers that the context contains.
    Registers(Arch),
    /// The words are in the registers of Go's calling convention (1.17 and later).
    Go(Arch),
}

/// A verifier that knows types.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tracking {
    pub(super) kernel: KernelVersion,
    /// Whether a program without types can take the place of one to which the verifier may not pass a pointer.
    pub(super) has_alternative: bool,
}

impl Words {
    /// The word of an argument; `None` if it cannot be read.
    pub(super) fn argument(self, index: u32) -> Option<TypedKind> {
        match self {
            Self::Context { .. } => (index < MAX_ARGUMENTS).then_some(TypedKind::Argument(index * 8)),
            Self::Registers(arch) => arch.argument(index).map(|offset| TypedKind::Field { offset, size: 8 }),
            Self::Go(arch) => arch.go_argument(index).map(|offset| TypedKind::Field { offset, size: 8 }),
        }
    }

    /// Offset of the register of the result.
    pub(super) fn result(self) -> u32 {
        match self {
            Self::Registers(arch) => arch.result(),
            Self::Go(arch) => arch.go_argument(0).unwrap_or(arch.result()),
            Self::Context { .. } => unreachable!("a context has no registers: this is a bug in tapster"),
        }
    }

    fn tracked(self) -> Option<Tracking> {
        match self {
            Self::Context { tracked } => tracked,
            Self::Registers(_) | Self::Go(_) => None,
        }
    }
}

/// Number of words of a parameter: a struct by value has one for every eight bytes.
fn words(btf: &Btf, declared: TypeId) -> u32 {
    btf.size(btf.strip(declared)).unwrap_or(8).div_ceil(8).max(1)
}

/// The arguments of a function with these parameters.
pub(super) fn arguments(btf: &Btf, parameters: &[(&str, TypeId)], from: Words) -> Vec<Argument> {
    let mut word = 0;
    parameters
        .iter()
        .zip(0..MAX_ARGUMENTS)
        .map(|((name, declared), index)| {
            let value = match from.argument(word) {
                Some(node) => value(btf, *declared, node, from.tracked()).map(ArgumentValue::Value),
                None => Err("it is on the stack, where it is not looked for".into()),
            };
            word += words(btf, *declared);
            Argument {
                name: if name.is_empty() { format!("arg{index}") } else { (*name).to_owned() },
                ctype: btf.display(*declared),
                value,
            }
        })
        .collect()
}

/// The result of a function: in the word after its arguments, or in a register; `None` for `void`.
pub(super) fn result(btf: &Btf, prototype: TypeId, from: Words) -> Option<Result<Typed, String>> {
    let declared = btf.target(prototype);
    if btf.kind(btf.strip(declared)) == BtfKind::Void {
        return None;
    }
    let node = match from {
        Words::Context { .. } => TypedKind::Argument(
            btf.parameters(prototype).iter().map(|(_, ty)| words(btf, *ty)).sum::<u32>() * 8,
        ),
        Words::Registers(_) | Words::Go(_) => TypedKind::Field { offset: from.result(), size: 8 },
    };
    Some(value(btf, declared, node, from.tracked()))
}

/// Whether the verifier passes a pointer to this type, which is no struct, as a number, so that helpers can read through it
/// (`btf_ctx_access` in `kernel/bpf/btf.c`).
fn is_passed(btf: &Btf, to: TypeId, tracking: Tracking) -> bool {
    let Tracking { kernel, has_alternative } = tracking;
    let is_plain = |id: TypeId| !btf.kind(id).is_modifier();
    let is_const = btf.kind(to) == BtfKind::Const && is_plain(btf.target(to));
    match btf.kind(btf.strip(to)) {
        BtfKind::Void => is_plain(to) || kernel >= KernelVersion(6, 16, 0),
        // Those to characters were passed before (`is_string_ptr`).
        BtfKind::Int if is_plain(to) || is_const => {
            kernel >= KernelVersion(5, 17, 0) || btf.size(btf.strip(to)) == Some(1)
        }
        // Until 6.4 a `u32`, which is a typedef, was none; 6.1.28 has that too, and does not say which 6.1 it is.
        BtfKind::Int if has_alternative => kernel >= KernelVersion(6, 4, 0),
        BtfKind::Int => kernel >= KernelVersion(6, 1, 0),
        _ => false,
    }
}

/// A word with the type of its declaration.
fn value(btf: &Btf, declared: TypeId, node: TypedKind, tracked: Option<Tracking>) -> Result<Typed, String> {
    let id = btf.strip(declared);
    match btf.kind(id) {
        BtfKind::Int | BtfKind::Enum | BtfKind::Enum64 => {
            let Some(ty) = btf.size(id).and_then(|size| Type::integer(size, btf.is_signed(id))) else {
                return Err(format!("a `{}` is wider than 64 bits", btf.display(declared)));
            };
            // What is above the type's own bits is whatever was there.
            let value = if matches!(ty, Type::Int { bits: 64, .. }) {
                Typed::new(node, ty)
            } else {
                Typed::new(TypedKind::Cast(Box::new(Typed::new(node, Type::U64))), ty)
            };
            Ok(Typed { enumeration: btf.is_enumeration(id).then_some(id), ..value })
        }
        BtfKind::Ptr => {
            let to = btf.strip(btf.target(id));
            let access = match btf.kind(to) {
                BtfKind::Struct | BtfKind::Union if tracked.is_some() => AccessMode::Direct,
                _ if tracked.is_none_or(|tracking| is_passed(btf, btf.target(id), tracking)) => {
                    AccessMode::Auto
                }
                _ => {
                    return Err(format!(
                        "this kernel's verifier does not pass a `{}` to a BTF-typed program",
                        btf.display(declared)
                    ));
                }
            };
            Ok(Typed::new(node, Type::Pointer { to, access }))
        }
        _ => Err(format!("a `{}` passed by value cannot be read", btf.display(declared))),
    }
}
