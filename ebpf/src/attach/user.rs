//! `uprobe:BINARY:FUNCTION` and `uretprobe:BINARY:FUNCTION`: functions of programs and libraries. Nothing is known of
//! their types, so arguments are numbers by their position, and so is the result.

use super::{
    Argument, ArgumentValue, Resolved, Target,
    prototype::{MAX_ARGUMENTS, Words},
};
use crate::{
    expr::Binary,
    typed::{Mechanism, Node, Type, Typed},
};

pub(super) fn resolve(at_return: bool, target: &Target<'_>) -> Resolved {
    let mechanism = if at_return { Mechanism::Uretprobe } else { Mechanism::Uprobe };
    registers(mechanism, at_return, target)
}

/// What registers hold at the entry of a function or at its return, where no types are known.
pub(super) fn registers(mechanism: Mechanism, at_return: bool, target: &Target<'_>) -> Resolved {
    let arch = target.arch;
    let register = |offset| Typed::new(Node::Field { offset, size: 8 }, Type::U64);
    let argument = |index| {
        let node = Words::Registers(arch).argument(index)?;
        Some(Argument {
            name: format!("arg{index}"),
            ctype: "u64".into(),
            value: Ok(ArgumentValue::Value(Typed::new(node, Type::U64))),
        })
    };
    let stack = register(arch.stack_pointer());
    // Where the stack was when the function began, so that one call has the same frame at both ends.
    let frame = if at_return && arch.popped() > 0 {
        let popped = Typed::constant(arch.popped().into());
        Typed::new(Node::Binary(Binary::Sub, Box::new(stack), Box::new(popped)), Type::U64)
    } else {
        stack
    };
    Resolved {
        mechanism,
        arguments: if at_return { Vec::new() } else { (0..MAX_ARGUMENTS).map_while(argument).collect() },
        result: at_return.then(|| Ok(register(arch.result()))),
        is_return: at_return,
        frame: Some(frame),
        untyped: true,
        usdt: None,
    }
}
