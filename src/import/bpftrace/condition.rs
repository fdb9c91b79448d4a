//! Conditions of an action: their parts, their opposites, and which of them exclude each other.

use super::script::{Term, TermKind};
use std::rc::Rc;

/// Numbers that the kernel gives names to which scripts compare, beside those that [`super::said`] puts in: only their order
/// matters here.
const STATES: [(&str, u64); 12] = [
    ("TCP_ESTABLISHED", 1),
    ("TCP_SYN_SENT", 2),
    ("TCP_SYN_RECV", 3),
    ("TCP_FIN_WAIT1", 4),
    ("TCP_FIN_WAIT2", 5),
    ("TCP_TIME_WAIT", 6),
    ("TCP_CLOSE", 7),
    ("TCP_CLOSE_WAIT", 8),
    ("TCP_LAST_ACK", 9),
    ("TCP_LISTEN", 10),
    ("TCP_CLOSING", 11),
    ("TCP_NEW_SYN_RECV", 12),
];

/// The parts of a condition that all must hold.
pub(super) fn conjuncts(condition: &Term) -> Vec<Term> {
    match &condition.kind {
        TermKind::Binary("&&", a, b) => [conjuncts(a), conjuncts(b)].concat(),
        _ => vec![condition.clone()],
    }
}

/// The opposite of a condition.
pub(super) fn opposite(condition: &Term) -> Term {
    match &condition.kind {
        TermKind::Unary("!", inner) => (**inner).clone(),
        TermKind::Binary(sign, a, b) if negated(sign).is_some() => {
            let sign = negated(sign).unwrap_or("==");
            Term::new(TermKind::Binary(sign, a.clone(), b.clone()), condition.span.clone())
        }
        _ => Term::new(TermKind::Unary("!", Rc::new(condition.clone())), condition.span.clone()),
    }
}

fn negated(sign: &str) -> Option<&'static str> {
    let signs = [("==", "!="), ("<", ">="), (">", "<=")];
    signs.iter().find_map(|(one, other)| match sign {
        _ if sign == *one => Some(*other),
        _ if sign == *other => Some(*one),
        _ => None,
    })
}

/// The conditions as one term; `None` of none.
pub(super) fn all(conditions: &[Term]) -> Option<Term> {
    let mut terms = conditions.iter().cloned();
    let first = terms.next()?;
    Some(terms.fold(first, |joined, term| {
        let span = joined.span.clone();
        Term::new(TermKind::Binary("&&", Rc::new(joined), Rc::new(term)), span)
    }))
}

/// The terms as they are spelt.
pub(super) fn spelt(terms: &[Term]) -> Vec<String> {
    terms.iter().map(Term::spelling).collect()
}

/// Whether all of `needed` are among `given`.
pub(super) fn are_among(needed: &[Term], given: &[Term]) -> bool {
    let given = spelt(given);
    needed.iter().all(|term| given.contains(&term.spelling()))
}

/// Those of `terms` that are not among `others`.
pub(super) fn without(terms: &[Term], others: &[Term]) -> Vec<Term> {
    let others = spelt(others);
    terms.iter().filter(|term| !others.contains(&term.spelling())).cloned().collect()
}

/// Whether both cannot hold at once, as far as constants tell.
pub(super) fn exclude(some: &[Term], others: &[Term]) -> bool {
    some.iter().any(|one| others.iter().any(|other| exclude_each_other(one, other)))
}

fn exclude_each_other(one: &Term, other: &Term) -> bool {
    match (&one.kind, &other.kind) {
        (TermKind::Binary("||", a, b), _) => exclude_each_other(a, other) && exclude_each_other(b, other),
        (_, TermKind::Binary("||", a, b)) => exclude_each_other(one, a) && exclude_each_other(one, b),
        (TermKind::Binary("&&", a, b), _) => exclude_each_other(a, other) || exclude_each_other(b, other),
        (_, TermKind::Binary("&&", a, b)) => exclude_each_other(one, a) || exclude_each_other(one, b),
        (TermKind::Binary("==", a, b), TermKind::Binary("==", c, d)) if matches!((&b.kind, &d.kind), (TermKind::Text(x), TermKind::Text(y)) if x != y) => {
            a.spelling() == c.spelling()
        }
        _ if opposite(one).spelling() == other.spelling() => true,
        _ => match (range(one), range(other)) {
            (Some((of, least, most)), Some((of_other, least_other, most_other))) => {
                (least > most_other || least_other > most) && of.spelling() == of_other.spelling()
            }
            _ => false,
        },
    }
}

/// The numbers that a comparison with a constant leaves: what is compared, the least and the most.
fn range(condition: &Term) -> Option<(&Term, i128, i128)> {
    const MOST: i128 = u64::MAX as i128;
    let TermKind::Binary(sign, a, b) = &condition.kind else { return None };
    let named = match &b.kind {
        TermKind::Name(name) => STATES.iter().find(|(known, _)| known == name).map(|(_, number)| *number),
        _ => None,
    };
    let number = i128::from(b.as_number().or(named)?);
    let (least, most) = match *sign {
        "==" => (number, number),
        "<" => (-MOST, number - 1),
        "<=" => (-MOST, number),
        ">" => (number + 1, MOST),
        ">=" => (number, MOST),
        _ => return None,
    };
    Some((a, least, most))
}

/// The value of a condition that is always the same.
pub(super) fn constant(term: &Term) -> Option<u64> {
    match &term.kind {
        TermKind::Unary("!", inner) => constant(inner).map(|number| u64::from(number == 0)),
        TermKind::Binary(sign, a, b) => {
            let (a, b) = (constant(a)?, constant(b)?);
            match *sign {
                "==" => Some(u64::from(a == b)),
                "!=" => Some(u64::from(a != b)),
                "&&" => Some(u64::from(a != 0 && b != 0)),
                "||" => Some(u64::from(a != 0 || b != 0)),
                ">" => Some(u64::from(a > b)),
                "<" => Some(u64::from(a < b)),
                _ => None,
            }
        }
        _ => term.as_number(),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::parser, *};
    use tapster_ebpf::diagnostic::SourceFile;

    #[test]
    fn conditions_exclude_each_other_by_constants() {
        let file = SourceFile::new("a.bt", "");
        let conditions = |text: &str| conjuncts(&parser::parse_term(&file, text).unwrap());
        for (one, other, wanted) in [
            ("x == 1", "x == 2", true),
            ("x == 1", "y == 2", false),
            ("x == 1", "x != 1", true),
            ("x < TCP_FIN_WAIT1", "x == TCP_CLOSE", true),
            ("x <= 4", "x >= 4", false),
            ("x == 1 || x == 9", "x == 7", true),
            ("x == 1 || x == 7", "x == 7", false),
            ("a && x == 1", "b && x > 1", true),
            ("f(x)", "!f(x)", true),
            ("comm == \"a\"", "comm == \"b\"", true),
            ("comm == \"a\"", "comm == \"a\"", false),
        ] {
            assert_eq!(exclude(&conditions(one), &conditions(other)), wanted, "{one}, {other}");
            assert_eq!(exclude(&conditions(other), &conditions(one)), wanted, "{other}, {one}");
        }
        assert!(are_among(&conditions("b"), &conditions("a && b")));
        assert!(!are_among(&conditions("a && b"), &conditions("b")));
        assert_eq!(spelt(&without(&conditions("a && b"), &conditions("b"))), ["a"]);
        assert_eq!(all(&[]).map(|term| term.spelling()), None);
    }
}
