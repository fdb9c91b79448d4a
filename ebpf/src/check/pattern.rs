//! Warnings about texts in comparisons that look like patterns. Comparisons are of whole texts, so such a condition is accepted
//! and never true.

use crate::{
    diagnostic::{Diagnostic, Span},
    expr::{BinaryOperator, Expr, ExprKind},
    glob::alternatives,
    probe::{Event, Expression, Probe},
};

/// Most comparisons that a hint writes out.
const MOST_WRITTEN: usize = 4;

/// Warnings about all expressions of a probe.
pub(super) fn patterns(probe: &Probe) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for expression in expressions(probe) {
        let mut waiting = vec![&expression.ast];
        while let Some(expr) = waiting.pop() {
            found.extend(comparison(probe, expression, expr));
            waiting.extend(expr.children());
        }
    }
    found
}

fn expressions(probe: &Probe) -> impl Iterator<Item = &Expression> {
    let events = probe.events().flat_map(Event::expressions);
    let labels = probe.labels.iter().filter_map(|label| label.value.as_ref());
    let metrics = probe.metrics.iter().flat_map(|metric| metric.value.iter().chain(&metric.filter));
    probe.lets.iter().map(|(_, value)| value).chain(events).chain(labels).chain(metrics)
}

/// The warning about one comparison. A `*` at the beginning or end of a text is an error, which the checker reports.
fn comparison(probe: &Probe, expression: &Expression, expr: &Expr) -> Option<Diagnostic> {
    let ExprKind::Binary(operator @ (BinaryOperator::Eq | BinaryOperator::Ne), left, right) = &expr.kind
    else {
        return None;
    };
    let (written, other) = match (literal(probe, expression, left), literal(probe, expression, right)) {
        (Some(_), Some(_)) | (None, None) => return None,
        (None, Some(written)) => (written, left),
        (Some(written), None) => (written, right),
    };
    let LiteralText { text, raw, place } = written;
    // Names of functions and tracepoints are compared with what there is.
    let is_name =
        matches!(&other.kind, ExprKind::Name(name) if matches!(name.as_str(), "func" | "tracepoint"));
    if is_name || text.starts_with('*') || text.ends_with('*') {
        return None;
    }
    let sign = sign(raw)?;
    let (equals, join) = match operator {
        BinaryOperator::Eq => ("==", " || "),
        _ => ("!=", " && "),
    };
    let each = alternatives(text);
    let instead = if sign == '{' && each.len() <= MOST_WRITTEN {
        let each: Vec<String> = each.iter().map(|text| format!("{other} {equals} \"{text}\"")).collect();
        each.join(join)
    } else {
        format!("prefix({other}, …) or contains({other}, …)")
    };
    let message = format!("`{sign}` is no pattern here: texts are compared as they are");
    let hint = format!("write {instead}, for the character itself `\\{sign}`");
    Some(Diagnostic::warning(&probe.file, place, message).hint(hint))
}

/// A text in quotes.
struct LiteralText<'p> {
    text: &'p str,
    /// As it stands in the expression.
    raw: &'p str,
    /// Where it is compared.
    place: Span,
}

/// The text that an expression is, or that a `let` of this name is.
fn literal<'p>(probe: &'p Probe, expression: &'p Expression, expr: &'p Expr) -> Option<LiteralText<'p>> {
    let place = expression.place(&probe.file, expr.span.clone());
    let (expression, expr) = match &expr.kind {
        ExprKind::Name(name) => {
            let (_, value) = probe.lets.iter().rfind(|(known, _)| known.value == *name)?;
            (value, &value.ast)
        }
        _ => (expression, expr),
    };
    let ExprKind::Text(text) = &expr.kind else { return None };
    Some(LiteralText { text, raw: expression.text().get(expr.span.clone())?, place })
}

/// The character that makes a pattern of a text, as it stands in the expression, unless it is escaped.
fn sign(raw: &str) -> Option<char> {
    let mut plain = String::new();
    let mut characters = raw.chars();
    while let Some(c) = characters.next() {
        // What is escaped is nothing that a pattern has.
        let c = if c == '\\' { characters.next().map(|_| '_')? } else { c };
        plain.push(c);
    }
    let has_set = plain.find('[').is_some_and(|at| plain[at + 1..].find(']').is_some_and(|end| end > 0));
    let has_braces = alternatives(&plain).len() > 1;
    plain.chars().find(|c| match c {
        '*' | '?' => true,
        '[' => has_set,
        '{' => has_braces,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_pattern() {
        for (raw, expected) in [
            (r#""kworker/0:1""#, None),
            (r#""a?b""#, Some('?')),
            (r#""a\?b""#, None),
            (r#""a*b""#, Some('*')),
            (r#""ext[34]""#, Some('[')),
            (r#""a[]""#, None),
            (r#""a[""#, None),
            (r#""{a,b}x""#, Some('{')),
            (r#""{a}x""#, None),
            (r#""\{a,b}x""#, None),
            (r#""\\?""#, Some('?')),
        ] {
            assert_eq!(sign(raw), expected, "{raw}");
        }
    }
}
