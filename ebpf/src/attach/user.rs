//! `uprobe:BINARY:FUNCTION` and `uretprobe:BINARY:FUNCTION`: functions of programs and libraries. Their types are unknown, so
//! arguments and results are numbers, and arguments are found by their position.
//!
//! A return is probed at the instructions that return, if these are known: there the stack is as the program expects it
//! (docs/adr/0012). Otherwise the kernel's return probe is used, but never in programs built by Go.

use super::{
    Argument, ArgumentValue, Description, Missing, Parsed, Resolved, SiteRequest, Sites, Target,
    never_untracked,
    prototype::{MAX_ARGUMENTS, Words},
};
use crate::{
    expr::BinaryOperator,
    point::{AttachKind, AttachPoint, FunctionCount, LinkKind, Mechanism, ProgramSection, Subject},
    typed::{AccessMode, Type, Typed, TypedKind},
};

/// Section names without the place: loaders read more out of longer names, and the place is passed with the attachment.
const fn mechanism(name: &'static str, section: &'static str, at_return: bool) -> Mechanism {
    Mechanism {
        untried: Some(UNTRIED),
        ..Mechanism::new(name, ProgramSection::Plain(section), LinkKind::UserProbe { at_return })
    }
}

pub(super) const UNTRIED: &str = "uprobes";

const ENTRY: Mechanism = mechanism("uprobe", "uprobe", false);
/// The mechanism of a probe at the instructions that return.
const RETURN: Mechanism = mechanism("uprobe_ret", "uprobe", false);
/// The mechanism of the kernel's return probe.
const RETURN_PROBE: Mechanism = mechanism("uretprobe", "uretprobe", true);

pub(super) static UPROBE: Description = Description {
    kind: AttachKind {
        name: "uprobe",
        short: "u",
        form: "uprobe:BINARY:FUNCTION",
        subject: Subject::UserFunction { at_return: false },
        several: FunctionCount::Always,
        mechanisms: &[ENTRY],
    },
    parse,
    resolve: |at, request, target| resolve(at, &request.wanted(at.name(), false), target),
    untracked: never_untracked,
};

pub(super) static URETPROBE: Description = Description {
    kind: AttachKind {
        name: "uretprobe",
        short: "ur",
        form: "uretprobe:BINARY:FUNCTION",
        subject: Subject::UserFunction { at_return: true },
        several: FunctionCount::Always,
        mechanisms: &[RETURN, RETURN_PROBE],
    },
    parse,
    resolve: |at, request, target| resolve(at, &request.wanted(at.name(), true), target),
    untracked: never_untracked,
};

/// Parses the binary and the function: its symbol, its name in the source, a pattern of either, or `0x…`, its address as `nm`
/// shows it. Names of C++ and Rust contain pairs of colons.
fn parse(text: &str) -> Parsed {
    let (binary, function) = text.split_once(':')?;
    let whole = !function.replace("::", "").contains(':');
    (whole && !binary.is_empty() && !function.is_empty()).then(|| Ok(vec![binary.into(), function.into()]))
}

/// Offset of `g.stack.hi`: the second word of the struct that the goroutine's register points to.
const GOROUTINE_STACK_END: i32 = 8;

fn resolve(
    at: &AttachPoint,
    wanted: &SiteRequest<'_>,
    target: &Target<'_>,
) -> Result<Vec<Resolved>, Missing> {
    let (root, binary) = at.binary().expect("a function of a program is in a binary");
    let mut found = target.functions.user(root, binary, wanted)?;
    let words = if found.go { Words::Go(target.arch) } else { Words::Registers(target.arch) };
    let at_return = wanted.at_return;
    let groups =
        [(if at_return { RETURN } else { ENTRY }, found.sites), (RETURN_PROBE, found.by_return_probe)];
    let mut programs = Vec::new();
    for (mechanism, list) in groups.into_iter().filter(|(_, list)| !list.is_empty()) {
        let left_out = std::mem::take(&mut found.left_out);
        let sites = Sites { file: Some(found.file.clone()), id: Some(found.id), list, left_out };
        programs.push(Resolved { sites, ..registers(mechanism, at_return, words) });
    }
    Ok(programs)
}

/// The registers at the entry of a function or at its return, without types.
pub(super) fn registers(mechanism: Mechanism, at_return: bool, words: Words) -> Resolved {
    let register = |offset| Typed::new(TypedKind::Field { offset, size: 8 }, Type::U64);
    let argument = |index| {
        Some(Argument {
            name: format!("arg{index}"),
            ctype: "u64".into(),
            value: Ok(ArgumentValue::Value(Typed::new(words.argument(index)?, Type::U64))),
        })
    };
    let minus = |a: Typed, b: Typed| {
        Typed::new(TypedKind::Binary(BinaryOperator::Sub, Box::new(a), Box::new(b)), Type::U64)
    };
    let (arch, is_go) = match words {
        Words::Registers(arch) => (arch, false),
        Words::Go(arch) => (arch, true),
        Words::Context { .. } => unreachable!("functions have registers: this is a bug in tapster"),
    };
    let stack = register(arch.stack_pointer());
    let goroutine = is_go.then(|| register(arch.goroutine()));
    // Where the stack was when the function began, so that one call has the same frame at both ends.
    let frame = match &goroutine {
        // Stacks of goroutines are moved when they grow: what stays is the distance from the end.
        Some(goroutine) => {
            let end = TypedKind::Load {
                base: Box::new(goroutine.clone()),
                offset: GOROUTINE_STACK_END,
                size: 8,
                access: AccessMode::Auto,
                bits: None,
            };
            minus(Typed::new(end, Type::U64), stack)
        }
        // After the return; at the instruction that returns it is as at the entry.
        None if mechanism.link.is_after_return() && arch.popped() > 0 => {
            minus(stack, Typed::constant(arch.popped().into()))
        }
        None => stack,
    };
    Resolved {
        result: at_return.then(|| Ok(register(words.result()))),
        is_return: at_return,
        frame: Some(frame),
        untyped: true,
        goroutine,
        ..Resolved::event(
            mechanism,
            if at_return { Vec::new() } else { (0..MAX_ARGUMENTS).map_while(argument).collect() },
        )
    }
}
