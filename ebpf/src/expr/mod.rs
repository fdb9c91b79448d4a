//! The expression language: text → tokens → [`Expr`], and back.
//!
//! The language resembles C, with deliberate differences: `.` also goes through pointers, `??` takes the first side that
//! exists on this kernel, and durations may be written as `10ms`.

mod lexer;
mod parser;
mod printer;

pub use parser::parse;

use std::ops::Range;

/// An expression and its byte range in the text it was parsed from.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    /// Its kind.
    pub kind: ExprKind,
    /// Its place in the text.
    pub span: Range<usize>,
}

/// The kind of an expression.
#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    /// `42`, `0x2a`, `10ms` (nanoseconds).
    Integer(u64),
    /// `"text"`
    Text(String),
    /// `pid`, a `let` name, …
    Name(String),
    /// `base.field`
    Member(Box<Expr>, FieldName),
    /// `base[index]`
    Index(Box<Expr>, Box<Expr>),
    /// `-a`
    Unary(UnaryOperator, Box<Expr>),
    /// `a + b`
    Binary(BinaryOperator, Box<Expr>, Box<Expr>),
    /// `c ? a : b`
    Conditional(Box<Expr>, Box<Expr>, Box<Expr>),
    /// `a ?? b`
    Coalesce(Box<Expr>, Box<Expr>),
    /// `(struct request *)a`
    Cast(TypeName, Box<Expr>),
    /// `str(a, 32)`
    Call(String, Vec<Expr>),
}

impl Expr {
    /// Makes a name, for expressions that the compiler makes itself and that are in no text.
    pub(crate) fn name(name: &str) -> Self {
        Self::made(ExprKind::Name(name.to_owned()))
    }

    /// `self.field`
    pub(crate) fn member(self, field: &str) -> Self {
        Self::made(ExprKind::Member(Box::new(self), FieldName { name: field.to_owned(), span: 0..0 }))
    }

    /// `self == number`
    pub(crate) fn equals(self, number: u64) -> Self {
        let number = Self::made(ExprKind::Integer(number));
        Self::made(ExprKind::Binary(BinaryOperator::Eq, Box::new(self), Box::new(number)))
    }

    fn made(kind: ExprKind) -> Self {
        Self { kind, span: 0..0 }
    }

    /// Whether `found` is true of it or of any part of it.
    pub fn any(&self, found: &impl Fn(&Self) -> bool) -> bool {
        found(self) || self.children().into_iter().any(|part| part.any(found))
    }

    /// The operands, in the order written.
    pub fn children(&self) -> Vec<&Self> {
        match &self.kind {
            ExprKind::Integer(_) | ExprKind::Text(_) | ExprKind::Name(_) => Vec::new(),
            ExprKind::Member(inner, _) | ExprKind::Unary(_, inner) | ExprKind::Cast(_, inner) => vec![inner],
            ExprKind::Index(left, right)
            | ExprKind::Binary(_, left, right)
            | ExprKind::Coalesce(left, right) => vec![left, right],
            ExprKind::Conditional(condition, yes, no) => vec![condition, yes, no],
            ExprKind::Call(_, arguments) => arguments.iter().collect(),
        }
    }

    /// Whether it contains this name, or a call of it.
    pub fn mentions(&self, wanted: &str) -> bool {
        let is_wanted =
            matches!(&self.kind, ExprKind::Name(name) | ExprKind::Call(name, _) if name == wanted);
        is_wanted || self.children().into_iter().any(|part| part.mentions(wanted))
    }
}

/// The name of a field, and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldName {
    /// The name.
    pub name: String,
    /// Its place.
    pub span: Range<usize>,
}

/// The type in a cast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeName {
    /// The keyword before the name.
    pub kind: TypeKind,
    /// `request`, `u32`, `unsigned long`.
    pub name: String,
    /// Number of `*` after the name.
    pub pointers: u8,
}

/// The keyword before a type's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypeKind {
    /// No keyword: a built-in integer or a typedef.
    Plain,
    /// `struct`
    Struct,
    /// `union`
    Union,
    /// `enum`
    Enum,
}

/// A prefix operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnaryOperator {
    /// `-`
    Neg,
    /// `!`
    Not,
    /// `~`
    BitNot,
    /// `*`
    Deref,
}

/// An infix operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOperator {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Mod,
    /// `<<`
    Shl,
    /// `>>`
    Shr,
    /// `&`
    BitAnd,
    /// `|`
    BitOr,
    /// `^`
    BitXor,
    /// `==`
    Eq,
    /// `!=`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
    /// `&&`
    And,
    /// `||`
    Or,
}

impl BinaryOperator {
    /// All operators, for tests that must not miss one.
    pub const ALL: [Self; 18] = [
        Self::Add,
        Self::Sub,
        Self::Mul,
        Self::Div,
        Self::Mod,
        Self::Shl,
        Self::Shr,
        Self::BitAnd,
        Self::BitOr,
        Self::BitXor,
        Self::Eq,
        Self::Ne,
        Self::Lt,
        Self::Le,
        Self::Gt,
        Self::Ge,
        Self::And,
        Self::Or,
    ];

    /// Precedence as in C; larger binds tighter. `??` is 1 and `?:` is 0.
    pub fn precedence(self) -> u8 {
        match self {
            Self::Or => 2,
            Self::And => 3,
            Self::BitOr => 4,
            Self::BitXor => 5,
            Self::BitAnd => 6,
            Self::Eq | Self::Ne => 7,
            Self::Lt | Self::Le | Self::Gt | Self::Ge => 8,
            Self::Shl | Self::Shr => 9,
            Self::Add | Self::Sub => 10,
            Self::Mul | Self::Div | Self::Mod => 11,
        }
    }

    /// The operator as written.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Shl => "<<",
            Self::Shr => ">>",
            Self::BitAnd => "&",
            Self::BitOr => "|",
            Self::BitXor => "^",
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
            Self::And => "&&",
            Self::Or => "||",
        }
    }

    /// Whether it is a comparison.
    pub fn compares(self) -> bool {
        matches!(self, Self::Eq | Self::Ne | Self::Lt | Self::Le | Self::Gt | Self::Ge)
    }
}

impl UnaryOperator {
    /// The operator as written.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Neg => "-",
            Self::Not => "!",
            Self::BitNot => "~",
            Self::Deref => "*",
        }
    }
}

/// The reason why a text is not an expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    /// The mistake.
    pub message: String,
    /// Its place in the text.
    pub span: Range<usize>,
    /// The remedy.
    pub hint: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Equal texts have equal trees, except for the places.
    #[test]
    fn what_the_compiler_makes_is_what_a_person_would_write() {
        let made = Expr::name("a").member("b").member("c").equals(u64::MAX);
        let text = "a.b.c == 18446744073709551615";
        assert_eq!(made.to_string(), text);
        assert_eq!(parse(text).expect("it is an expression").to_string(), text);
    }
}
