//! Values that are read and shown each so often → gauges.

use super::{
    flow::{Act, Deed},
    label,
    maps::Roles,
    measure::{Gauged, ScriptMeasure, ShownValue, common, states, texts},
    script::{Term, TermKind},
};
use std::collections::BTreeSet;

/// What is shown at a tick, beside maps and constants.
pub(super) fn shown(deeds: &[Deed], roles: &Roles) -> Option<ScriptMeasure> {
    let lines: Vec<(&Deed, &[Term])> = deeds
        .iter()
        .filter_map(|deed| match &deed.act {
            Act::Show { arguments } => Some((deed, &arguments[..])),
            _ => None,
        })
        .collect();
    let (first, last) = (lines.first()?.0, lines.last()?.0);
    let conditions = common(lines.iter().map(|(deed, _)| &deed.conditions[..]));
    let (mut gauged, mut unlabelled) = (Vec::<Gauged>::new(), BTreeSet::new());
    for (deed, arguments) in &lines {
        let mut whole = None;
        // `print(x)` has no format that says what it is.
        let has_format = matches!(arguments.first(), Some(Term { kind: TermKind::Text(_), .. }));
        for value in texts(arguments) {
            let value = match value {
                ShownValue::Number(value) => value,
                ShownValue::Text(value) if !has_format => value,
                ShownValue::Text(text) => {
                    unlabelled.insert(label::name_of(&text));
                    continue;
                }
            };
            if value.parts().is_empty() && !matches!(value.kind, TermKind::Name(_) | TermKind::Let(_))
                || value.as_map().is_some()
            {
                continue;
            }
            // `x >> 11` and what is behind the point of it are one number.
            let parts = whole.take().filter(|(number, bits)| is_fraction(&value, number, *bits));
            if let (Some((number, bits)), Some(last)) = (parts, gauged.last_mut()) {
                last.arguments = vec![number, Term::new(TermKind::Number(1 << bits), value.span.clone())];
                continue;
            }
            if let TermKind::Binary(">>", number, bits) = &value.kind {
                whole = bits
                    .as_number()
                    .filter(|bits| (1..30).contains(bits))
                    .map(|bits| ((**number).clone(), bits));
            }
            let map = label::name_of(&value);
            let span = deed.span.clone();
            gauged.push(Gauged { map, function: "last".into(), arguments: vec![value], span });
        }
    }
    let read: Vec<&Term> =
        conditions.iter().chain(gauged.iter().flat_map(|gauged| &gauged.arguments)).collect();
    let states = states(roles, read);
    let span = first.span.start..last.span.end;
    let measure = ScriptMeasure {
        conditions,
        keys: Vec::new(),
        gauged,
        states,
        is_shown: true,
        is_tick: true,
        unlabelled,
        span,
    };
    (!measure.gauged.is_empty()).then_some(measure)
}

/// Whether a value is the decimals of `number >> bits`: `((number & ((1 << bits) - 1)) * 1000) >> bits`.
fn is_fraction(value: &Term, number: &Term, bits: u64) -> bool {
    let TermKind::Binary(">>", scaled, by) = &value.kind else { return false };
    let TermKind::Binary("*", masked, scale) = &scaled.kind else { return false };
    let TermKind::Binary("&", of, mask) = &masked.kind else { return false };
    by.as_number() == Some(bits)
        && scale.as_number().is_some()
        && number_of(mask) == Some((1 << bits) - 1)
        && of.spelling() == number.spelling()
}

/// The number of an expression of constants.
fn number_of(term: &Term) -> Option<u64> {
    match &term.kind {
        TermKind::Binary("-", a, b) => number_of(a)?.checked_sub(number_of(b)?),
        TermKind::Binary("<<", a, b) => number_of(a)?.checked_shl(u32::try_from(number_of(b)?).ok()?),
        _ => term.as_number(),
    }
}
