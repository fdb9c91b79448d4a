//! `argv`: the words that a program was started with, as one text.

use super::{
    expression::number,
    lvalue::helper_access,
    scope::{Problems, Scope},
    text::{MAX_TEXT, TEXT_CAPACITY},
};
use crate::{
    expr::{Expr, ExprKind, FieldName},
    probe::Expression,
    typed::{Builtin, Type, Typed, TypedKind},
};

/// Most bytes of a text that is made of words at several addresses, with its NUL: they are put together on the stack.
const MOST_OF_LIST: u32 = 128;

impl Scope<'_> {
    /// `argv(curtask)` are the words that the current program was started with; `argv(POINTER)` those to which an array of
    /// pointers leads, as `execve` has it. Both accept the greatest size in bytes, the NUL included.
    pub(super) fn argv(
        &self,
        expression: &Expression,
        call: &Expr,
        arguments: &[Expr],
    ) -> Result<Typed, Problems> {
        let problem = |place: &Expr, message: &str, hint: &str| {
            self.problem(expression, place.span.clone(), message, Some(hint.into()))
        };
        let (from, size) = match arguments {
            [from] => (from, None),
            [from, size] => (from, Some(size)),
            _ => {
                let message = "`argv` takes the current task or an array of pointers, and optionally a size";
                return Err(problem(call, message, "argv(curtask), argv(args.argv, 128)"));
            }
        };
        let value = self
            .value(expression, from)
            .and_then(|typed| self.no_text(expression, from, typed, "what `argv` takes"))?;
        let is_task = |to| self.target.btf.is_some_and(|btf| btf.name(to) == "task_struct");
        let is_current = self.is_current(&value);
        match value.ty {
            _ if is_current => {}
            Type::Pointer { to, .. } if is_task(to) => {
                let message =
                    "the words of a program are in its own memory, which only its own tasks can read";
                let hint = "argv(curtask): at `sched_process_exec` the task is the current one";
                return Err(problem(from, message, hint));
            }
            _ if matches!(value.kind, TypedKind::Constant(_)) => {
                let message = "`argv` takes the current task or an array of pointers, and not a constant";
                return Err(problem(from, message, "argv(curtask), argv(args.argv, 128)"));
            }
            _ => {
                let limit = self.words_size(expression, size, MOST_OF_LIST)?;
                let access = helper_access(&value.ty);
                let node = TypedKind::WordsOf { list: Box::new(number(value)), access, limit };
                return Ok(Typed::new(node, Type::text(limit)));
            }
        }
        let limit = self.words_size(expression, size, MAX_TEXT)?;
        let mut ends = Vec::new();
        for name in ["arg_start", "arg_end"] {
            let mm = member(from.clone(), "mm", call);
            ends.push(number(self.value(expression, &member(mm, name, call))?));
        }
        let [start, end] = ends.try_into().expect("there are two");
        let node = TypedKind::WordsBetween { start: Box::new(start), end: Box::new(end), limit };
        Ok(Typed::new(node, Type::text(limit)))
    }

    /// Whether a value is the current task, by whatever name.
    fn is_current(&self, value: &Typed) -> bool {
        match value.kind {
            TypedKind::Builtin(Builtin::Task) => true,
            TypedKind::Let(index) => self
                .lets
                .get(index)
                .and_then(|named| named.value.as_ref().ok())
                .is_some_and(|named| self.is_current(named)),
            _ => false,
        }
    }

    fn words_size(&self, expression: &Expression, size: Option<&Expr>, most: u32) -> Result<u32, Problems> {
        size.map_or(Ok(TEXT_CAPACITY), |size| self.text_size_up_to(expression, size, most))
    }
}

/// `base.name`, at the place of the call.
fn member(base: Expr, name: &str, call: &Expr) -> Expr {
    let field = FieldName { name: name.to_owned(), span: call.span.clone() };
    Expr { kind: ExprKind::Member(Box::new(base), field), span: call.span.clone() }
}
