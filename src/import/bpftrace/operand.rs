//! Lexemes → expressions, by the precedences of C.

use super::{
    cursor::Lexeme,
    parser::ScriptParser,
    script::{Term, TermKind},
};
use std::rc::Rc;
use tapster_ebpf::diagnostic::Diagnostic;

/// Binary operators, those that bind least first.
const BINARY: [&[&str]; 10] = [
    &["||"],
    &["&&"],
    &["|"],
    &["^"],
    &["&"],
    &["==", "!="],
    &["<", ">", "<=", ">="],
    &["<<", ">>"],
    &["+", "-"],
    &["*", "/", "%"],
];
/// Names of types that are no structs, and so can be cast to by one word.
const INTEGERS: [&str; 22] = [
    "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "u8", "u16", "u32", "u64",
    "s8", "s16", "s32", "s64", "bool", "char", "int", "size_t", "short", "long",
];

impl ScriptParser<'_> {
    /// An expression.
    pub(super) fn term(&mut self) -> Result<Term, Diagnostic> {
        self.deeper(Self::choice)
    }

    fn choice(&mut self) -> Result<Term, Diagnostic> {
        let condition = self.binary(0)?;
        if !self.takes("?")? {
            return Ok(condition);
        }
        let yes = self.term()?;
        self.expects(":", "the first side of `? :`")?;
        let no = self.term()?;
        let span = condition.span.start..no.span.end;
        Ok(Term::new(TermKind::Choice(Rc::new(condition), Rc::new(yes), Rc::new(no)), span))
    }

    fn binary(&mut self, level: usize) -> Result<Term, Diagnostic> {
        let Some(signs) = BINARY.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        let mut chain = 0;
        loop {
            let (lexeme, span) = self.cursor.peek()?;
            let Lexeme::Sign(sign) = lexeme else { return Ok(left) };
            let Some(sign) = signs.iter().find(|known| **known == sign) else { return Ok(left) };
            if self.is_filter && *sign == "/" && self.ends_filter()? {
                return Ok(left);
            }
            chain += 1;
            if chain > 64 {
                return Err(self
                    .cursor
                    .error(span, "more than 64 operators in one chain")
                    .hint("use a `$variable`"));
            }
            self.cursor.take()?;
            let right = self.deeper(|parser| parser.binary(level + 1))?;
            let span = left.span.start..right.span.end;
            left = Term::new(TermKind::Binary(sign, Rc::new(left), Rc::new(right)), span);
        }
    }

    /// Whether the `/` that is next ends a filter: the action follows.
    fn ends_filter(&self) -> Result<bool, Diagnostic> {
        let mut ahead = self.cursor.clone();
        ahead.take()?;
        Ok(matches!(ahead.take()?.0, Lexeme::Sign("{")))
    }

    fn unary(&mut self) -> Result<Term, Diagnostic> {
        let (lexeme, span) = self.cursor.peek()?;
        if let Lexeme::Sign(sign @ ("-" | "!" | "~" | "*" | "&")) = lexeme {
            self.cursor.take()?;
            let inner = self.deeper(Self::unary)?;
            let span = span.start..inner.span.end;
            return Ok(Term::new(TermKind::Unary(sign, Rc::new(inner)), span));
        }
        if let Some(to) = self.cast()? {
            let inner = self.deeper(Self::unary)?;
            let span = span.start..inner.span.end;
            return Ok(Term::new(TermKind::Cast(to, Rc::new(inner)), span));
        }
        self.operand()
    }

    /// Reads the type of a cast, with its brackets, if one is next.
    fn cast(&mut self) -> Result<Option<String>, Diagnostic> {
        let mut ahead = self.cursor.clone();
        if ahead.take()?.0 != Lexeme::Sign("(") {
            return Ok(None);
        }
        let Lexeme::Name(first) = ahead.take()?.0 else { return Ok(None) };
        let mut to = first.clone();
        let is_tagged = matches!(first.as_str(), "struct" | "union" | "enum");
        if is_tagged || matches!(first.as_str(), "unsigned" | "signed" | "long") {
            while let Lexeme::Name(more) = ahead.peek()?.0 {
                to = format!("{to} {more}");
                ahead.take()?;
            }
        }
        let mut stars = 0;
        while ahead.peek()?.0 == Lexeme::Sign("*") && stars < 4 {
            ahead.take()?;
            to.push_str(if stars == 0 { " *" } else { "*" });
            stars += 1;
        }
        let is_type = is_tagged || stars > 0 || to.contains(' ') || INTEGERS.contains(&first.as_str());
        if !is_type || ahead.take()?.0 != Lexeme::Sign(")") {
            return Ok(None);
        }
        self.cursor = ahead;
        Ok(Some(to))
    }

    /// What binds tightest: a name, a number, a call, members.
    pub(super) fn operand(&mut self) -> Result<Term, Diagnostic> {
        let (lexeme, span) = self.cursor.take()?;
        let kind = match lexeme {
            Lexeme::Number(number) => TermKind::Number(number),
            Lexeme::Text(text) => TermKind::Text(text),
            Lexeme::Variable(name) => TermKind::Variable(name),
            Lexeme::Parameter(name) => TermKind::Parameter(name),
            Lexeme::Map(name) => {
                let keys = if self.takes("[")? { self.list("]")? } else { Vec::new() };
                TermKind::Map { name, keys }
            }
            Lexeme::Name(name) if matches!(name.as_str(), "struct" | "union" | "enum") => {
                self.type_name(name)?
            }
            Lexeme::Name(name) if self.takes("(")? => {
                TermKind::Call { name, arguments: self.deeper(|parser| parser.list(")"))? }
            }
            Lexeme::Name(name) => TermKind::Name(name),
            Lexeme::Sign("(") => {
                let mut parts = self.deeper(|parser| parser.list(")"))?;
                match (parts.len(), parts.pop()) {
                    (1, Some(only)) => only.kind,
                    (_, Some(last)) => {
                        parts.push(last);
                        TermKind::Tuple(parts)
                    }
                    (_, None) => TermKind::Tuple(parts),
                }
            }
            other => return Err(self.unexpected(&other, span, "a value")),
        };
        let begin = span.start;
        let mut term = Term::new(kind, begin..self.cursor.at);
        let mut members = 0;
        loop {
            let kind = if self.takes(".")? || self.takes("->")? {
                match self.cursor.take()? {
                    (Lexeme::Name(name), _) => TermKind::Field(Rc::new(term), name),
                    (Lexeme::Number(number), _) => TermKind::Field(Rc::new(term), number.to_string()),
                    (other, span) => return Err(self.unexpected(&other, span, "the name of a member")),
                }
            } else if self.takes("[")? {
                let index = self.term()?;
                self.expects("]", "an index")?;
                TermKind::Index(Rc::new(term), Rc::new(index))
            } else {
                return Ok(term);
            };
            members += 1;
            if members > 64 {
                let message = "more than 64 members in one path";
                return Err(self.cursor.error(begin..self.cursor.at, message).hint("use a `$variable`"));
            }
            term = Term::new(kind, begin..self.cursor.at);
        }
    }

    /// `struct sock *`, where a type is an argument.
    fn type_name(&mut self, tag: String) -> Result<TermKind, Diagnostic> {
        let mut name = tag;
        if let (Lexeme::Name(more), _) = self.cursor.peek()? {
            self.cursor.take()?;
            name = format!("{name} {more}");
        }
        while self.takes("*")? {
            name.push_str(" *");
            if name.len() > 200 {
                break;
            }
        }
        Ok(TermKind::Name(name))
    }

    /// Expressions separated by commas, up to `end`.
    fn list(&mut self, end: &str) -> Result<Vec<Term>, Diagnostic> {
        let was_filter = std::mem::replace(&mut self.is_filter, false);
        let mut terms = Vec::new();
        while !self.takes(end)? {
            terms.push(self.term()?);
            if !self.takes(",")? {
                self.expects(end, "a value")?;
                break;
            }
        }
        self.is_filter = was_filter;
        Ok(terms)
    }
}
