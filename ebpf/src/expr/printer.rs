//! Prints an [`Expr`] with no more brackets than necessary.

use super::{BinaryOperator, Expr, ExprKind, TypeKind, TypeName};
use std::fmt;

impl fmt::Display for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            TypeKind::Plain => "",
            TypeKind::Struct => "struct ",
            TypeKind::Union => "union ",
            TypeKind::Enum => "enum ",
        })?;
        f.write_str(&self.name)?;
        if self.pointers > 0 {
            write!(f, " {}", "*".repeat(self.pointers.into()))?;
        }
        Ok(())
    }
}

const CONDITIONAL: u8 = 0;
const COALESCE: u8 = 1;
const UNARY: u8 = 12;
const POSTFIX: u8 = 13;

fn precedence(expr: &Expr) -> u8 {
    match &expr.kind {
        ExprKind::Conditional(..) => CONDITIONAL,
        ExprKind::Coalesce(..) => COALESCE,
        ExprKind::Binary(operator, ..) => operator.precedence(),
        ExprKind::Unary(..) | ExprKind::Cast(..) => UNARY,
        _ => POSTFIX,
    }
}

struct WithPrecedence<'a>(&'a Expr, u8);

impl fmt::Display for WithPrecedence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(expr, least) = self;
        if precedence(expr) < *least { write!(f, "({expr})") } else { write!(f, "{expr}") }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Integer(value) => write!(f, "{value}"),
            ExprKind::Text(text) => {
                let escaped =
                    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('\t', "\\t");
                write!(f, "\"{escaped}\"")
            }
            ExprKind::Name(name) => f.write_str(name),
            ExprKind::Member(base, field) => write!(f, "{}.{}", WithPrecedence(base, POSTFIX), field.name),
            ExprKind::Index(base, index) => write!(f, "{}[{index}]", WithPrecedence(base, POSTFIX)),
            ExprKind::Unary(operator, operand) => {
                write!(f, "{}{}", operator.symbol(), WithPrecedence(operand, UNARY))
            }
            ExprKind::Binary(operator, left, right) => {
                let own = BinaryOperator::precedence(*operator);
                write!(
                    f,
                    "{} {} {}",
                    WithPrecedence(left, own),
                    operator.symbol(),
                    WithPrecedence(right, own + 1)
                )
            }
            ExprKind::Conditional(condition, then, otherwise) => {
                write!(f, "{} ? {then} : {otherwise}", WithPrecedence(condition, COALESCE))
            }
            ExprKind::Coalesce(left, right) => {
                write!(f, "{} ?? {}", WithPrecedence(left, COALESCE + 1), WithPrecedence(right, COALESCE))
            }
            ExprKind::Cast(name, operand) => write!(f, "({name}){}", WithPrecedence(operand, UNARY)),
            ExprKind::Call(name, arguments) => {
                write!(f, "{name}(")?;
                for (index, argument) in arguments.iter().enumerate() {
                    write!(f, "{}{argument}", if index > 0 { ", " } else { "" })?;
                }
                f.write_str(")")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::expr::parse;

    #[test]
    fn prints_what_it_read() {
        for text in [
            "a + b * c",
            "(a + b) * c",
            "a - (b - c)",
            "a << 20 | b & 255",
            "(a ? b : c) ? d : e",
            "a ? b : c ? d : e",
            "(a ?? b) + 1",
            "-(a + b)",
            "(struct request *)arg0",
            "((struct request *)arg0).q.disk",
            "*p[3].x",
            "(*p).x",
            "str(a, 16) == \"x\\n\\\"\\\\\"",
            "!(a && b) || ~c != 0",
        ] {
            let once = parse(text).unwrap().to_string();
            assert_eq!(once, text);
            assert_eq!(parse(&once).unwrap().to_string(), once);
        }
    }
}
