//! Texts: `str`, their greatest length, and their comparisons.

use super::scope::{NamedExpression, Operand, Problems, Scope};
use crate::{
    expr::{Expr, ExprKind},
    probe::Expression,
    typed::{AccessMode, Type, Typed, TypedKind},
};

/// Default and greatest size of a text, bytes; its NUL is one of them.
pub(super) const TEXT_CAPACITY: u32 = 64;
pub(super) const MAX_TEXT: u32 = 256;
/// Most bytes of the name of a task, without the NUL.
const COMM: u32 = 15;
/// What is said of texts in packets: nothing there says where they end.
pub(super) const NO_TEXT: &str = "a packet has bytes, and no texts that end with a NUL";
pub(super) const BYTES: &str = "so many bytes are `bytes(POINTER, 16)`, one of them `*(u8 *)POINTER`";
/// Most parts of an expression that are visited to find its greatest length.
const MOST_PARTS: u32 = 1000;

impl Scope<'_> {
    /// `str(POINTER)`, `str(TEXT)`; both accept the greatest size in bytes, the NUL included.
    pub(super) fn str(
        &self,
        expression: &Expression,
        from: &Expr,
        size: Option<&Expr>,
    ) -> Result<Typed, Problems> {
        let size = size.map(|size| self.text_size(expression, size)).transpose()?;
        let base = match self.operand(expression, from)? {
            Operand::Value(typed) => typed,
            Operand::Lvalue(place) => match self.bytes(&place) {
                Some(text) => text,
                None => self.load(expression, from, &place)?,
            },
            Operand::Array { offset, element_size: 1, count, .. } => {
                Typed::new(TypedKind::TextField { offset, size: count }, Type::text(count.min(MAX_TEXT)))
            }
            Operand::Array { .. } => self.value(expression, from)?,
        };
        let is_packet = match (&base.kind, &base.ty) {
            (TypedKind::TextAt { access, .. }, _) | (_, Type::Pointer { access, .. }) => {
                *access == AccessMode::Packet
            }
            (_, Type::Int { .. }) => self.memory() == AccessMode::Packet,
            _ => false,
        };
        if is_packet {
            return Err(self.problem(expression, from.span.clone(), NO_TEXT, Some(BYTES.into())));
        }
        let access = match base.ty {
            Type::Text { .. } => {
                return Ok(match size {
                    Some(size) => self.cut(base, size),
                    None => base,
                });
            }
            Type::Stack { .. } | Type::Bytes { .. } => {
                return self.no_text(expression, from, base, "an address");
            }
            Type::Pointer { access: AccessMode::Direct | AccessMode::Kernel, .. } => AccessMode::Kernel,
            _ => AccessMode::Auto,
        };
        let limit = size.unwrap_or(TEXT_CAPACITY);
        let node = TypedKind::TextAt { base: Box::new(base), offset: 0, access, limit };
        Ok(Typed::new(node, Type::text(limit)))
    }

    fn text_size(&self, expression: &Expression, size: &Expr) -> Result<u32, Problems> {
        self.text_size_up_to(expression, size, MAX_TEXT)
    }

    /// A constant number of bytes, of which a NUL is one.
    pub(super) fn text_size_up_to(
        &self,
        expression: &Expression,
        size: &Expr,
        most: u32,
    ) -> Result<u32, Problems> {
        let constant = match self.value(expression, size)?.kind {
            TypedKind::Constant(value) => u32::try_from(value).ok(),
            _ => None,
        };
        constant.filter(|size| (2..=most).contains(size)).ok_or_else(|| {
            let message = format!("the size of a text must be a constant from 2 to {most}");
            self.problem(expression, size.span.clone(), message, None)
        })
    }

    /// Truncates a text to `size` bytes, the NUL included.
    pub(super) fn cut(&self, text: Typed, size: u32) -> Typed {
        if self.longest(&text) < size {
            return text;
        }
        let ty = Type::text(size);
        match text.kind {
            // Less is read in the first place.
            TypedKind::TextAt { base, offset, access, .. } => {
                Typed::new(TypedKind::TextAt { base, offset, access, limit: size }, ty)
            }
            TypedKind::WordsBetween { start, end, .. } => {
                Typed::new(TypedKind::WordsBetween { start, end, limit: size }, ty)
            }
            TypedKind::WordsOf { list, access, .. } => {
                Typed::new(TypedKind::WordsOf { list, access, limit: size }, ty)
            }
            TypedKind::TextField { offset, .. } => Typed::new(TypedKind::TextField { offset, size }, ty),
            _ => Typed::new(TypedKind::Cut { text: Box::new(text), most: size - 1 }, ty),
        }
    }

    /// Greatest length of a text, bytes, without its NUL.
    pub(super) fn longest(&self, text: &Typed) -> u32 {
        let mut parts = MOST_PARTS;
        self.longest_within(text, &mut parts)
    }

    /// Whether a text begins or ends with a `*` that was not escaped as `\\*`, in the expression or in the `let` that names
    /// it.
    fn is_pattern(&self, text: &str, expression: &Expression, written: &Expr) -> bool {
        let named = if let ExprKind::Name(name) = &written.kind {
            self.declared.iter().rfind(|(known, _)| known.value == *name)
        } else {
            None
        };
        let is_meant = || match named {
            Some((_, value)) => value.text().contains("\\*"),
            None => expression.text().get(written.span.clone()).is_some_and(|text| text.contains("\\*")),
        };
        (text.starts_with('*') || text.ends_with('*')) && !is_meant()
    }

    fn longest_within(&self, text: &Typed, parts: &mut u32) -> u32 {
        let room = if let Type::Text { capacity } = text.ty { capacity.saturating_sub(1) } else { 0 };
        if *parts == 0 {
            return room;
        }
        *parts -= 1;
        match &text.kind {
            TypedKind::Text(bytes) => {
                u32::try_from(bytes.len()).expect("an expression has at most 4096 bytes")
            }
            TypedKind::Comm => COMM,
            TypedKind::TextAt { limit: size, .. }
            | TypedKind::WordsBetween { limit: size, .. }
            | TypedKind::WordsOf { limit: size, .. }
            | TypedKind::TextField { size, .. } => (*size).min(MAX_TEXT).saturating_sub(1),
            TypedKind::Cut { text, most } => self.longest_within(text, parts).min(*most),
            TypedKind::Conditional(_, then, otherwise) => {
                self.longest_within(then, parts).max(self.longest_within(otherwise, parts))
            }
            TypedKind::Let(index) => match self.lets.get(*index) {
                Some(NamedExpression { value: Ok(value), .. }) => self.longest_within(value, parts),
                _ => room,
            },
            TypedKind::Saved(index) => {
                self.saved.and_then(|saved| saved.get(*index)).map_or(room, |kept| kept.longest)
            }
            _ => room,
        }
    }

    /// Refuses a text with a `*` at its beginning or end, which is compared as it is. `instead` makes of what is left of it
    /// the expression that was probably meant.
    pub(super) fn no_pattern(
        &self,
        expression: &Expression,
        (written, bytes): (&Expr, &[u8]),
        instead: impl Fn(&str) -> String,
    ) -> Result<(), Problems> {
        let text = String::from_utf8_lossy(bytes);
        if !self.is_pattern(&text, expression, written) {
            return Ok(());
        }
        let plain = text.trim_matches('*');
        let hint = if plain.is_empty() || plain.contains('*') {
            "for the character itself write `\\*`".to_owned()
        } else {
            format!("write {}, for the character itself `\\*`", instead(plain))
        };
        let message = "`*` is no pattern here: texts are compared as they are";
        Err(self.problem(expression, written.span.clone(), message, Some(hint)))
    }

    /// Refuses a comparison of texts, for equality or not, that has one result always.
    pub(super) fn can_be_equal(
        &self,
        expression: &Expression,
        is_equal: bool,
        (left_expr, right_expr): (&Expr, &Expr),
        (left, right): (&Typed, &Typed),
    ) -> Result<(), Problems> {
        for (written, written_expr, other, other_expr) in
            [(left, left_expr, right, right_expr), (right, right_expr, left, left_expr)]
        {
            let (TypedKind::Text(bytes), false) = (&written.kind, matches!(other.kind, TypedKind::Text(_)))
            else {
                continue;
            };
            let text = String::from_utf8_lossy(bytes);
            let problem = |message: String, hint: String| {
                Err(self.problem(expression, written_expr.span.clone(), message, Some(hint)))
            };
            let function = if text.starts_with('*') { "contains" } else { "prefix" };
            let not = if is_equal { "" } else { "!" };
            self.no_pattern(expression, (written_expr, bytes), |plain| {
                format!("{not}{function}({other_expr}, \"{plain}\")")
            })?;
            let longest = self.longest(other);
            let length = u32::try_from(bytes.len()).expect("an expression has at most 4096 bytes");
            if length > longest {
                let hint = match &other_expr.kind {
                    ExprKind::Call(name, _) if name == "str" && length < MAX_TEXT => {
                        format!(
                            "read as much of it as is compared: str({}, {})",
                            argument(other_expr),
                            length + 1
                        )
                    }
                    _ => {
                        let kept = usize::try_from(longest).expect("texts have at most 256 bytes");
                        let kept = String::from_utf8_lossy(&bytes[..kept.min(bytes.len())]);
                        format!("what is longer is cut there, to \"{kept}\"")
                    }
                };
                return problem(
                    format!(
                        "a text of at most {longest} bytes is compared with one of {length}, which gives always the same"
                    ),
                    hint,
                );
            }
        }
        Ok(())
    }
}

/// The argument of `str`, or the expression itself.
pub(super) fn argument(expr: &Expr) -> &Expr {
    match &expr.kind {
        ExprKind::Call(name, arguments) if name == "str" => arguments.first().unwrap_or(expr),
        _ => expr,
    }
}
