//! `usdt:BINARY:PROVIDER:NAME`: probes that programs contain. Their notes have the place and size of each argument. The
//! compiler of the program chose these for each place of the probe, so places with other operands are events of their own.

use super::{
    Argument, ArgumentValue, Description, Missing, Parsed, Resolved, Target, never_untracked, user::UNTRIED,
};
use crate::{
    expr::BinaryOperator,
    point::{AttachKind, AttachPoint, FunctionCount, LinkKind, Mechanism, ProgramSection, Subject},
    typed::{AccessMode, Type, Typed, TypedKind},
    usdt::{self, Extend, Index, Location, UsdtOperand, UsdtProbe, UsdtSites},
};

/// With a semaphore since 4.20.
pub(crate) const USDT: Mechanism = Mechanism {
    untried: Some(UNTRIED),
    ..Mechanism::new("usdt", ProgramSection::Plain("uprobe"), LinkKind::UserProbe { at_return: false })
};

pub(super) static DESCRIPTION: Description = Description {
    kind: AttachKind {
        name: "usdt",
        short: "U",
        form: "usdt:BINARY:PROVIDER:NAME",
        subject: Subject::UserProbe,
        several: FunctionCount::Never,
        mechanisms: &[USDT],
    },
    parse,
    resolve: |at, _, target| programs(&find(at, target)?, target),
    untracked: never_untracked,
};

/// Parses the binary, the provider of the probe, which may be left out, and its name.
fn parse(text: &str) -> Parsed {
    let parts: Vec<String> = text.split(':').map(str::to_owned).collect();
    (matches!(parts.len(), 2 | 3) && parts.iter().all(|part| !part.is_empty())).then_some(Ok(parts))
}

fn find(at: &AttachPoint, target: &Target<'_>) -> Result<UsdtProbe, Missing> {
    let (root, binary) = at.binary().expect("a probe of a program is in a binary");
    let provider = (at.parts().len() == 3).then(|| at.parts()[1].as_str());
    target.functions.usdt(root, binary, provider, at.name())
}

/// Most programs of one probe.
const MOST_FORMS: usize = 64;

fn programs(found: &UsdtProbe, target: &Target<'_>) -> Result<Vec<Resolved>, Missing> {
    let mut forms: Vec<(&Location, UsdtSites)> = Vec::new();
    for location in &found.locations {
        if let Some((_, sites)) = forms.iter_mut().find(|(first, _)| first.arguments == location.arguments) {
            sites.list.push(location.site);
        } else {
            forms.push((location, UsdtSites { file: found.file, list: vec![location.site] }));
        }
    }
    if forms.len() > MOST_FORMS {
        return Err(Missing {
            message: format!("`{}:{}` has its arguments in {} ways", found.provider, found.name, forms.len()),
            hint: Some(format!("each needs a program of its own, and {MOST_FORMS} are the most")),
        });
    }
    let resolved = forms.into_iter().map(|(location, sites)| Resolved {
        usdt: Some(sites),
        ..Resolved::event(USDT, arguments(location, target))
    });
    Ok(resolved.collect())
}

fn arguments(location: &Location, target: &Target<'_>) -> Vec<Argument> {
    location
        .arguments
        .iter()
        .enumerate()
        .map(|(index, argument)| {
            let value = argument.as_ref().map_err(Clone::clone).and_then(|argument| value(argument, target));
            Argument {
                name: format!("arg{index}"),
                ctype: argument.as_ref().map_or_else(|_| "?".into(), usdt::UsdtArgument::ctype),
                value: value.map(ArgumentValue::Value),
            }
        })
        .collect()
}

fn value(argument: &usdt::UsdtArgument, target: &Target<'_>) -> Result<Typed, String> {
    let ty = Type::integer(argument.size, argument.signed)
        .ok_or_else(|| format!("{} bytes are no size of a number", argument.size))?;
    let register = |offset| Typed::new(TypedKind::Field { offset, size: 8 }, Type::U64);
    let binary = |operator, left, right| {
        Typed::new(TypedKind::Binary(operator, Box::new(left), Box::new(right)), Type::U64)
    };
    let memory = |base: Typed, displacement| {
        let node = TypedKind::Load {
            base: Box::new(base),
            offset: displacement,
            size: argument.size,
            access: AccessMode::Auto,
            bits: None,
        };
        Typed::new(node, ty.clone())
    };
    let cut = |value: Typed| Typed::new(TypedKind::Cast(Box::new(value)), ty.clone());
    let constant = |value: i64| Typed::new(TypedKind::Constant(value.cast_unsigned()), Type::U64);
    Ok(match &argument.operand {
        UsdtOperand::Constant(value) => cut(constant(*value)),
        UsdtOperand::Register { offset, shift: 0 } => cut(register(*offset)),
        UsdtOperand::Register { offset, shift } => {
            cut(binary(BinaryOperator::Shr, register(*offset), Typed::constant(u64::from(*shift))))
        }
        UsdtOperand::Memory { base, index, displacement } => {
            let index = index.map(|Index { offset, shift, extend }| {
                let whole = register(offset);
                let index = match extend {
                    Extend::Whole => whole,
                    Extend::Unsigned => Typed::new(TypedKind::Cast(Box::new(whole)), Type::U32),
                    Extend::Signed => {
                        Typed::new(TypedKind::Cast(Box::new(whole)), Type::Int { bits: 32, signed: true })
                    }
                };
                if shift == 0 {
                    index
                } else {
                    binary(BinaryOperator::Shl, index, Typed::constant(u64::from(shift)))
                }
            });
            match (base.map(register), index) {
                (Some(base), Some(index)) => memory(binary(BinaryOperator::Add, base, index), *displacement),
                (Some(address), None) | (None, Some(address)) => memory(address, *displacement),
                (None, None) => return Err("it is at no address".into()),
            }
        }
        // What the program stopped at is known, and so is how far that is from the symbol, wherever the file was mapped.
        UsdtOperand::Relative { distance } => {
            let here = register(target.arch.instruction_pointer());
            memory(binary(BinaryOperator::Add, here, constant(*distance)), 0)
        }
        UsdtOperand::Symbol { name, .. } => return Err(format!("the file has no symbol `{name}`")),
    })
}
