//! `kstack` and `ustack`: values that are stacks.

use super::scope::{Problems, Scope};
use crate::{
    expr::{Expr, ExprKind},
    probe::Expression,
    typed::{AccessMode, Side, Type, Typed, TypedKind},
};

/// Most frames of a stack, and the default; the kernel gives no more unless `kernel.perf_event_max_stack` was raised.
const MAX_FRAMES: u32 = 127;

impl Scope<'_> {
    /// `kstack`, `kstack(FRAMES)`, `kstack(TASK)`, `kstack(TASK, FRAMES)`; likewise `ustack`, without a task.
    pub(super) fn stack(
        &self,
        expression: &Expression,
        expr: &Expr,
        name: &str,
        arguments: &[Expr],
    ) -> Result<Typed, Problems> {
        let side = if name == Side::User.name() { Side::User } else { Side::Kernel };
        let (task, frames) = match arguments {
            [] => (None, None),
            [one] if matches!(one.kind, ExprKind::Integer(_)) => (None, Some(one)),
            [task] => (Some(task), None),
            [task, frames] => (Some(task), Some(frames)),
            _ => {
                let message = format!("`{name}` does not take {} arguments", arguments.len());
                let hint = "kstack, kstack(FRAMES), kstack(TASK), kstack(TASK, FRAMES)".to_owned();
                return Err(self.problem(expression, expr.span.clone(), message, Some(hint)));
            }
        };
        let frames = match frames {
            None => MAX_FRAMES,
            Some(frames) => match self.value(expression, frames)?.kind {
                TypedKind::Constant(count) if (1..=u64::from(MAX_FRAMES)).contains(&count) => {
                    u32::try_from(count).expect("it is no more than the most frames")
                }
                _ => {
                    let message = format!("the frames of a stack must be a constant from 1 to {MAX_FRAMES}");
                    return Err(self.problem(expression, frames.span.clone(), message, None));
                }
            },
        };
        let task = match task {
            None => None,
            Some(task) => Some(Box::new(self.task(expression, task, side)?)),
        };
        Ok(Typed::new(TypedKind::Stack { side, frames, task }, Type::Stack { side, frames }))
    }

    /// Refuses a stack where a number or text is required.
    pub(super) fn no_stack(
        &self,
        expression: &Expression,
        typed: Typed,
        what: &str,
    ) -> Result<Typed, Problems> {
        if matches!(typed.ty, Type::Stack { .. }) {
            return self.no_text(expression, &expression.ast, typed, what);
        }
        Ok(typed)
    }

    /// Refuses a stack that would be taken for each element of a list: the stack belongs to the event, and is taken once. A
    /// stack in a `let` is taken once if the `let` needs neither the element nor the start. So are words of a program, which the
    /// verifier would follow in each round.
    pub(super) fn outside_of_walk(&self, expression: &Expression, typed: Typed) -> Result<Typed, Problems> {
        let lets = super::event::placeholder_lets(self);
        let within = |is_taken: &dyn Fn(&Typed) -> bool| {
            self.item.is_some()
                && typed.any(&|part| match part.kind {
                    TypedKind::Let(index) => {
                        let value = &lets[index];
                        value.any(&is_taken) && (value.needs_item(&lets) || value.needs_start(&lets))
                    }
                    _ => is_taken(part),
                })
        };
        let is_words =
            |typed: &Typed| matches!(typed.kind, TypedKind::WordsOf { .. } | TypedKind::WordsBetween { .. });
        if within(&is_words) {
            let message = "words are read once for each event, and this is computed for each element";
            let hint = "name them with `let`: { words: argv(curtask) }, and use that".to_owned();
            return Err(self.problem(expression, expression.ast.span.clone(), message, Some(hint)));
        }
        if within(&|typed| matches!(typed.kind, TypedKind::Stack { .. })) {
            let message = "a stack is taken once for each event, and this is computed for each element";
            let hint = "name it with `let`: { stack: kstack }, and use that".to_owned();
            return Err(self.problem(expression, expression.ast.span.clone(), message, Some(hint)));
        }
        Ok(typed)
    }

    /// A task whose stack the kernel can walk.
    fn task(&self, expression: &Expression, task: &Expr, side: Side) -> Result<Typed, Problems> {
        let problem = |message: String, hint: &str| {
            Err(self.problem(expression, task.span.clone(), message, Some(hint.into())))
        };
        if side == Side::User {
            let hint = "write `ustack` for that of the current task; `kstack` takes a task";
            return problem("only the current task's own stack can be walked in user memory".into(), hint);
        }
        let value = self.value(expression, task)?;
        let is_task = |to| self.target.btf.is_some_and(|btf| btf.name(to) == "task_struct");
        let tracing = self.resolved.mechanism.link.is_typed();
        let lets = super::event::placeholder_lets(self);
        let loaded = |typed: &Typed| matches!(typed.kind, TypedKind::Load { .. } | TypedKind::Item);
        let as_passed = !value.any(&|typed| match typed.kind {
            TypedKind::Let(index) => lets[index].any(&loaded),
            _ => loaded(typed),
        });
        match value.ty {
            Type::Pointer { to, access: AccessMode::Direct } if is_task(to) && tracing && as_passed => {
                Ok(value)
            }
            Type::Pointer { to, .. } if is_task(to) => problem(
                format!("the kernel does not walk the stack of this task at `{}`", self.at),
                "it takes an argument of a raw tracepoint, fentry or fexit as it is: kstack(args.p)",
            ),
            _ => problem(
                "`kstack` takes a number of frames, or a `struct task_struct *`".into(),
                "kstack(5), kstack(args.p)",
            ),
        }
    }
}
