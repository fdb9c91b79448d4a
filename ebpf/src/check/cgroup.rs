//! `cgroup(TASK)`: the cgroup of any task.

use super::scope::{Problems, Scope};
use crate::{
    expr::{self, Expr, ExprKind},
    probe::Expression,
    typed::{Type, Typed},
};
use std::ops::Range;

/// The id of a task's cgroup of version 2.
const UNIFIED: &str = "task.cgroups.dfl_cgrp.kn.id";

/// The expression for the id of a task's cgroup: of the CPU controller, if that is in a hierarchy of version 1 and the task in a
/// cgroup of it, because containers have one there; otherwise of version 2. The number of the hierarchy is in the upper 16
/// bits; it is 0 for version 2.
fn key() -> String {
    const OLD: &str = "task.cgroups.subsys[cpu_cgrp_id].cgroup";
    format!(
        "({OLD}.level > 0 && {OLD}.root.hierarchy_id > 0 \
           ? {OLD}.root.hierarchy_id << 48 | {OLD}.kn.id : {UNIFIED}) ?? {UNIFIED}"
    )
}

impl Scope<'_> {
    /// `cgroup(TASK)`
    pub(super) fn cgroup(
        &self,
        expression: &Expression,
        call: &Expr,
        arguments: &[Expr],
    ) -> Result<Typed, Problems> {
        let wrong = |message: &str| {
            let hint = "cgroup(args.p), cgroup(curtask); `cgroup` alone is the current task's in version 2";
            self.problem(expression, call.span.clone(), message, Some(hint.into()))
        };
        let [task] = arguments else { return Err(wrong("`cgroup` takes one task")) };
        let is_task = |to| self.target.btf.is_some_and(|btf| btf.name(to) == "task_struct");
        match self.value(expression, task)?.ty {
            Type::Pointer { to, .. } if is_task(to) => {}
            _ => return Err(wrong("`cgroup` takes a `struct task_struct *`")),
        }
        let key = expr::parse(&key()).map_err(|error| wrong(&error.message))?;
        self.value(expression, &filled(key, task, &call.span))
    }
}

/// Replaces the name by the task in the expression, and gives all of it the span of the call.
fn filled(expr: Expr, task: &Expr, span: &Range<usize>) -> Expr {
    let fill = |inner: Box<Expr>| Box::new(filled(*inner, task, span));
    let kind = match expr.kind {
        ExprKind::Name(name) if name == "task" => return task.clone(),
        ExprKind::Member(base, field) => {
            ExprKind::Member(fill(base), expr::FieldName { span: span.clone(), ..field })
        }
        ExprKind::Index(base, index) => ExprKind::Index(fill(base), fill(index)),
        ExprKind::Unary(operator, operand) => ExprKind::Unary(operator, fill(operand)),
        ExprKind::Binary(operator, left, right) => ExprKind::Binary(operator, fill(left), fill(right)),
        ExprKind::Conditional(condition, yes, no) => {
            ExprKind::Conditional(fill(condition), fill(yes), fill(no))
        }
        ExprKind::Coalesce(first, second) => ExprKind::Coalesce(fill(first), fill(second)),
        ExprKind::Cast(name, operand) => ExprKind::Cast(name, fill(operand)),
        kind @ (ExprKind::Integer(_) | ExprKind::Text(_) | ExprKind::Name(_) | ExprKind::Call(..)) => kind,
    };
    Expr { kind, span: span.clone() }
}
