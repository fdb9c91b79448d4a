//! Parses tokens to [`Expr`], by precedence climbing.

use super::{
    BinaryOperator, Expr, ExprKind, FieldName, ParseError, TypeKind, TypeName, UnaryOperator,
    lexer::{Token, tokens},
};
use std::ops::Range;

/// Deepest nesting; far above what anybody writes, far below what the thread's stack holds.
const MAX_DEPTH: usize = 64;
/// Longest expression, bytes.
const MAX_LENGTH: usize = 4096;

/// Words that form an integer type; any combination of them is one type.
const INTEGER_WORDS: [&str; 6] = ["unsigned", "signed", "char", "short", "int", "long"];
/// Other names that are types even if no operand follows.
const TYPE_NAMES: [&str; 24] = [
    "u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64", "__u8", "__u16", "__u32", "__u64", "__s8", "__s16",
    "__s32", "__s64", "uint8_t", "uint16_t", "uint32_t", "uint64_t", "int8_t", "int16_t", "int32_t",
    "int64_t",
];

/// Parses a whole text as one expression.
pub fn parse(text: &str) -> Result<Expr, ParseError> {
    if text.len() > MAX_LENGTH {
        return Err(ParseError {
            message: format!("the expression is longer than {MAX_LENGTH} bytes"),
            span: 0..text.len(),
            hint: Some("name parts of it with `let`".into()),
        });
    }
    let mut parser = Parser { tokens: tokens(text)?, at: 0, end: text.len(), depth: 0 };
    let expr = parser.conditional()?;
    match parser.tokens.get(parser.at) {
        None => Ok(expr),
        Some((Token::Symbol("="), span)) => Err(ParseError {
            message: "an expression cannot assign".into(),
            span: span.clone(),
            hint: Some("did you mean `==`?".into()),
        }),
        Some((found, span)) => {
            let before = parser.at.checked_sub(1).map(|at| &parser.tokens[at].0);
            let mut wrong = error(span.clone(), "expected an operator or the end of the expression");
            wrong.hint = advice(before, found);
            Err(wrong)
        }
    }
}

/// The hint for two values side by side.
fn advice(before: Option<&Token>, found: &Token) -> Option<String> {
    const UNITS: [&str; 6] = ["ns", "us", "ms", "s", "m", "h"];
    match (before, found) {
        (_, Token::Name(name)) if name == "and" => Some("write `&&`".into()),
        (_, Token::Name(name)) if name == "or" => Some("write `||`".into()),
        (Some(Token::Name(name)), _) if name == "not" => Some("write `!`".into()),
        (Some(Token::Integer(_)), Token::Name(unit)) if UNITS.contains(&unit.as_str()) => {
            Some("write the duration without a space".into())
        }
        (_, Token::Symbol(")" | "]")) => Some("nothing is open that it could close".into()),
        _ => None,
    }
}

fn error(span: Range<usize>, message: impl Into<String>) -> ParseError {
    ParseError { message: message.into(), span, hint: None }
}

struct Parser {
    tokens: Vec<(Token, Range<usize>)>,
    at: usize,
    end: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(token, _)| token)
    }

    fn peek_at(&self, ahead: usize) -> Option<&Token> {
        self.tokens.get(self.at + ahead).map(|(token, _)| token)
    }

    fn is(&self, symbol: &str) -> bool {
        matches!(self.peek(), Some(Token::Symbol(found)) if *found == symbol)
    }

    fn span(&self) -> Range<usize> {
        self.tokens.get(self.at).map_or(self.end..self.end, |(_, span)| span.clone())
    }

    fn last_end(&self) -> usize {
        self.tokens[..self.at].last().map_or(0, |(_, span)| span.end)
    }

    fn take(&mut self, symbol: &str) -> bool {
        let found = self.is(symbol);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: &str, opened: usize) -> Result<(), ParseError> {
        if self.take(symbol) {
            return Ok(());
        }
        match self.peek() {
            Some(_) => Err(error(self.span(), format!("expected `{symbol}` here"))),
            None => Err(error(opened..self.end, format!("missing `{symbol}`"))),
        }
    }

    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, ParseError>) -> Result<T, ParseError> {
        if self.depth == MAX_DEPTH {
            return Err(error(self.span(), format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    /// Parses `a ?? b ? c : d`.
    fn conditional(&mut self) -> Result<Expr, ParseError> {
        self.deeper(|parser| {
            let condition = parser.coalesce()?;
            if !parser.take("?") {
                return Ok(condition);
            }
            let opened = condition.span.start;
            let then = parser.conditional()?;
            parser.expect(":", opened)?;
            let otherwise = parser.conditional()?;
            let span = opened..otherwise.span.end;
            Ok(Expr { kind: ExprKind::Conditional(condition.into(), then.into(), otherwise.into()), span })
        })
    }

    fn coalesce(&mut self) -> Result<Expr, ParseError> {
        let left = self.binary(0)?;
        if !self.take("??") {
            return Ok(left);
        }
        let right = self.deeper(Self::coalesce)?;
        let span = left.span.start..right.span.end;
        Ok(Expr { kind: ExprKind::Coalesce(left.into(), right.into()), span })
    }

    fn operator(&self) -> Option<BinaryOperator> {
        match self.peek() {
            Some(Token::Symbol(symbol)) => {
                BinaryOperator::ALL.into_iter().find(|operator| operator.symbol() == *symbol)
            }
            _ => None,
        }
    }

    fn binary(&mut self, least: u8) -> Result<Expr, ParseError> {
        let mut left = self.unary()?;
        let mut height = 0;
        while let Some(operator) = self.operator().filter(|operator| operator.precedence() >= least) {
            // A long chain leans left and is as deep as it is long; those who walk it recurse.
            height += 1;
            if height > MAX_DEPTH {
                return Err(error(self.span(), format!("more than {MAX_DEPTH} operators in one chain")));
            }
            self.at += 1;
            let right = self.deeper(|parser| parser.binary(operator.precedence() + 1))?;
            let span = left.span.start..right.span.end;
            left = Expr { kind: ExprKind::Binary(operator, left.into(), right.into()), span };
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Expr, ParseError> {
        let start = self.span().start;
        let operator = match self.peek() {
            Some(Token::Symbol("-")) => Some(UnaryOperator::Neg),
            Some(Token::Symbol("!")) => Some(UnaryOperator::Not),
            Some(Token::Symbol("~")) => Some(UnaryOperator::BitNot),
            Some(Token::Symbol("*")) => Some(UnaryOperator::Deref),
            _ => None,
        };
        if let Some(operator) = operator {
            self.at += 1;
            let operand = self.deeper(Self::unary)?;
            let span = start..operand.span.end;
            return Ok(Expr { kind: ExprKind::Unary(operator, operand.into()), span });
        }
        if self.is("(")
            && let Some(name) = self.cast()
        {
            let operand = self.deeper(Self::unary)?;
            let span = start..operand.span.end;
            return Ok(Expr { kind: ExprKind::Cast(name, operand.into()), span });
        }
        self.postfix()
    }

    /// Parses the type of a cast, if the parenthesis ahead contains one; otherwise consumes nothing.
    fn cast(&mut self) -> Option<TypeName> {
        let before = self.at;
        self.at += 1;
        let found = self.type_name().filter(|(_, certain)| {
            let closed = self.take(")");
            // `(x) - 1` is arithmetic, `(sector_t) x` cannot be.
            let operand_follows =
                matches!(self.peek(), Some(Token::Integer(_) | Token::Name(_) | Token::Text(_)))
                    || self.is("(");
            closed && (*certain || operand_follows)
        });
        if found.is_none() {
            self.at = before;
        }
        found.map(|(name, _)| name)
    }

    /// Parses a type's name; the flag says whether it can only be a type.
    fn type_name(&mut self) -> Option<(TypeName, bool)> {
        let word = |token: Option<&Token>| match token {
            Some(Token::Name(name)) => Some(name.clone()),
            _ => None,
        };
        let first = word(self.peek())?;
        let kind = match first.as_str() {
            "struct" => TypeKind::Struct,
            "union" => TypeKind::Union,
            "enum" => TypeKind::Enum,
            _ => TypeKind::Plain,
        };
        let mut certain = kind != TypeKind::Plain;
        let name = if certain {
            let name = word(self.peek_at(1))?;
            self.at += 2;
            name
        } else if INTEGER_WORDS.contains(&first.as_str()) {
            certain = true;
            let mut words = Vec::new();
            while let Some(next) = word(self.peek()).filter(|next| INTEGER_WORDS.contains(&next.as_str())) {
                words.push(next);
                self.at += 1;
            }
            words.join(" ")
        } else {
            certain = TYPE_NAMES.contains(&first.as_str());
            self.at += 1;
            first
        };
        let mut pointers = 0;
        while pointers < 4 && self.take("*") {
            pointers += 1;
        }
        Some((TypeName { kind, name, pointers }, certain || pointers > 0 && self.is(")")))
    }

    fn postfix(&mut self) -> Result<Expr, ParseError> {
        let mut base = self.primary()?;
        let mut height = 0;
        loop {
            height += 1;
            if height > MAX_DEPTH {
                return Err(error(self.span(), format!("more than {MAX_DEPTH} members in one path")));
            }
            let start = base.span.start;
            if self.take(".") || self.take("->") {
                let span = self.span();
                let Some(Token::Name(name)) = self.peek().cloned() else {
                    if let (ExprKind::Integer(_), Some(Token::Integer(_))) = (&base.kind, self.peek()) {
                        return Err(ParseError {
                            message: "numbers are whole".into(),
                            span: start..span.end,
                            hint: Some(
                                "write a fraction as a multiplication and a division: a * 3 / 2".into(),
                            ),
                        });
                    }
                    return Err(error(span, "expected a field's name after `.`"));
                };
                self.at += 1;
                let whole = start..span.end;
                base = Expr { kind: ExprKind::Member(base.into(), FieldName { name, span }), span: whole };
            } else if self.take("[") {
                let index = self.conditional()?;
                self.expect("]", start)?;
                base =
                    Expr { kind: ExprKind::Index(base.into(), index.into()), span: start..self.last_end() };
            } else {
                return Ok(base);
            }
        }
    }

    fn primary(&mut self) -> Result<Expr, ParseError> {
        let span = self.span();
        let Some(token) = self.peek().cloned() else {
            return Err(error(span, "expected a value here"));
        };
        let kind = match token {
            Token::Integer(value) => ExprKind::Integer(value),
            Token::Text(text) => ExprKind::Text(text),
            Token::Name(name) if self.peek_at(1) == Some(&Token::Symbol("(")) => {
                self.at += 2;
                let arguments = self.arguments(span.start)?;
                return Ok(Expr { kind: ExprKind::Call(name, arguments), span: span.start..self.last_end() });
            }
            Token::Name(name) => ExprKind::Name(name),
            Token::Symbol("(") => {
                self.at += 1;
                let inner = self.conditional()?;
                self.expect(")", span.start)?;
                return Ok(Expr { kind: inner.kind, span: span.start..self.last_end() });
            }
            Token::Symbol(symbol) => return Err(error(span, format!("expected a value, found `{symbol}`"))),
        };
        self.at += 1;
        Ok(Expr { kind, span })
    }

    fn arguments(&mut self, opened: usize) -> Result<Vec<Expr>, ParseError> {
        let mut arguments = Vec::new();
        if self.take(")") {
            return Ok(arguments);
        }
        loop {
            arguments.push(self.conditional()?);
            if !self.take(",") {
                self.expect(")", opened)?;
                return Ok(arguments);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prints with all brackets, so that tests see the tree.
    fn shape(text: &str) -> String {
        fn show(expr: &Expr) -> String {
            match &expr.kind {
                ExprKind::Binary(operator, a, b) => {
                    format!("({} {} {})", show(a), operator.symbol(), show(b))
                }
                ExprKind::Conditional(c, a, b) => format!("({} ? {} : {})", show(c), show(a), show(b)),
                ExprKind::Coalesce(a, b) => format!("({} ?? {})", show(a), show(b)),
                ExprKind::Unary(operator, a) => format!("({}{})", operator.symbol(), show(a)),
                ExprKind::Cast(name, a) => format!("(<{name}>{})", show(a)),
                ExprKind::Member(base, field) => format!("{}.{}", show(base), field.name),
                ExprKind::Index(base, index) => format!("{}[{}]", show(base), show(index)),
                ExprKind::Call(name, arguments) => {
                    format!("{name}({})", arguments.iter().map(show).collect::<Vec<_>>().join(", "))
                }
                ExprKind::Integer(value) => value.to_string(),
                ExprKind::Text(text) => format!("{text:?}"),
                ExprKind::Name(name) => name.clone(),
            }
        }
        parse(text).map_or_else(|error| format!("error: {error}"), |expr| show(&expr))
    }

    #[test]
    fn c_precedence() {
        for (text, expected) in [
            ("a + b * c", "(a + (b * c))"),
            ("a - b - c", "((a - b) - c)"),
            ("a << 20 | b", "((a << 20) | b)"),
            ("a & 0xff == 1", "(a & (255 == 1))"),
            ("a || b && c", "(a || (b && c))"),
            ("a | b ^ c & d", "(a | (b ^ (c & d)))"),
            ("a < b == c", "((a < b) == c)"),
            ("-a.b[1].c", "(-a.b[1].c)"),
            ("!a && ~b", "((!a) && (~b))"),
            ("a ? b : c ? d : e", "(a ? b : (c ? d : e))"),
            ("a.b ?? c.d ?? 0", "(a.b ?? (c.d ?? 0))"),
            ("a ?? b ? c : d", "((a ?? b) ? c : d)"),
            ("a->b.c", "a.b.c"),
            ("*p + 1", "((*p) + 1)"),
            ("(struct request *)arg0", "(<struct request *>arg0)"),
            ("(struct request *)arg0.x", "(<struct request *>arg0.x)"),
            ("((struct request *)arg0).x", "(<struct request *>arg0).x"),
            ("(u32)a + 1", "((<u32>a) + 1)"),
            ("(unsigned long)-a", "(<unsigned long>(-a))"),
            ("(sector_t)a", "(<sector_t>a)"),
            ("(a) - 1", "(a - 1)"),
            ("(a)", "a"),
            ("(foo *)a", "(<foo *>a)"),
            ("(a * b)", "(a * b)"),
            ("str(a.b, 32) == \"x\"", "(str(a.b, 32) == \"x\")"),
            ("f()", "f()"),
        ] {
            assert_eq!(shape(text), expected, "{text}");
        }
    }

    #[test]
    fn errors_say_where() {
        for (text, at) in [
            ("a +", 3..3),
            ("a b", 2..3),
            ("a = 1", 2..3),
            ("a.", 2..2),
            ("f(a", 0..3),
            (")", 0..1),
            ("", 0..0),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.span, at, "{text}: {error}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        for text in [
            "(".repeat(2000),
            "-".repeat(2000) + "a",
            "a+".repeat(2000) + "a",
            "a".to_owned() + &".a".repeat(2000),
        ] {
            assert!(parse(&text).is_err());
        }
        assert!(parse(&"x".repeat(5000)).is_err());
    }
}
