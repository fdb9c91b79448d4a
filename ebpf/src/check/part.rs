//! `prefix` and `contains`: what a text begins with, and what it has in it.

use super::{
    scope::{Problems, Scope},
    text::MAX_TEXT,
};
use crate::{
    expr::Expr,
    probe::Expression,
    typed::{BinaryOperator, Type, Typed, TypedKind},
};

/// Longest text that is searched for, bytes. Each place of the searched text is compared with all of them.
const MOST_SOUGHT: usize = 32;

impl Scope<'_> {
    /// `prefix(TEXT, "beginning")` and `contains(TEXT, "part")`.
    pub(super) fn part(
        &self,
        expression: &Expression,
        call: &Expr,
        name: &str,
        arguments: &[Expr],
    ) -> Result<Typed, Problems> {
        let wrong = |place: &Expr, message: String, hint: Option<String>| {
            Err(self.problem(expression, place.span.clone(), message, hint))
        };
        let [from, sought] = arguments else {
            let message = format!("`{name}` takes a text, and what is looked for in it");
            return wrong(call, message, Some(format!("{name}(comm, \"kworker\")")));
        };
        let text = self.value(expression, from)?;
        if !matches!(text.ty, Type::Text { .. }) {
            let message = format!("`{name}` looks in a text, and this is none");
            return wrong(from, message, Some("read a text behind a pointer with str(pointer)".into()));
        }
        let TypedKind::Text(bytes) = self.value(expression, sought)?.kind else {
            let message = format!("what `{name}` looks for must be a text in quotes");
            return wrong(sought, message, Some(format!("{name}(comm, \"kworker\")")));
        };
        if bytes.is_empty() {
            return wrong(sought, "an empty text is in every text".into(), None);
        }
        self.no_pattern(expression, (sought, &bytes), |plain| format!("{name}({from}, \"{plain}\")"))?;
        let longest = self.longest(&text);
        let length = u32::try_from(bytes.len()).expect("an expression has at most 4096 bytes");
        if length > longest {
            let message = format!(
                "a text of at most {longest} bytes is searched for one of {length}, which gives always the same"
            );
            return wrong(sought, message, Some("read more of it with str(pointer, SIZE)".into()));
        }
        if name == "prefix" {
            debug_assert!(length < MAX_TEXT, "no text is longer");
            let begin = self.cut(text, length + 1);
            let sought = Typed::new(TypedKind::Text(bytes), Type::text(length + 1));
            let node = TypedKind::Binary(BinaryOperator::Eq, Box::new(begin), Box::new(sought));
            return Ok(Typed::new(node, Type::S64));
        }
        if bytes.len() > MOST_SOUGHT {
            let message = format!("`contains` looks for at most {MOST_SOUGHT} bytes, and these are {length}");
            return wrong(sought, message, Some("look for a part of them".into()));
        }
        let node = TypedKind::Contains { text: Box::new(text), sought: bytes };
        Ok(Typed::new(node, Type::S64))
    }
}
