//! `cgroup(TASK)`: the cgroup of any task; `cgroup_matches`: whether it is one that a pattern names.

use super::{
    expression::number,
    scope::{NamedExpression, Problems, Scope},
};
use crate::{
    btf::{Btf, BtfKind},
    expr::{self, Expr, ExprKind},
    glob::PathGlob,
    probe::Expression,
    typed::{CgroupOffsets, CgroupTest, Type, Typed, TypedKind},
};
use std::ops::Range;

/// The id of a task's cgroup of version 2.
const UNIFIED: &str = "task.cgroups.dfl_cgrp.kn.id";

/// The cgroup of a task in the hierarchy of version 1 that has the CPU controller.
const OLD: &str = "task.cgroups.subsys[cpu_cgrp_id].cgroup";
/// Whether that is the cgroup of a task, and not the one of version 2.
fn is_old() -> String {
    format!("{OLD}.level > 0 && {OLD}.root.hierarchy_id > 0")
}

/// The expression for the id of a task's cgroup: of the CPU controller, if that is in a hierarchy of version 1 and the task in a
/// cgroup of it, because containers have one there; otherwise of version 2. The number of the hierarchy is in the upper 16
/// bits; it is 0 for version 2.
fn key() -> String {
    format!("({} ? {OLD}.root.hierarchy_id << 48 | {OLD}.kn.id : {UNIFIED}) ?? {UNIFIED}", is_old())
}

/// The expression for the address of that cgroup.
fn address() -> String {
    format!("({} ? (u64){OLD} : (u64)task.cgroups.dfl_cgrp) ?? (u64)task.cgroups.dfl_cgrp", is_old())
}

/// The expression for the id of a cgroup, in the same form.
const OF_CGROUP: &str = "task.root.hierarchy_id << 48 | task.kn.id";

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

    /// `cgroup_matches("PATTERN")` of the current task, `cgroup_matches(TASK, "PATTERN")`, `cgroup_matches(CGROUP, "PATTERN")`
    pub(super) fn cgroup_matches(
        &self,
        expression: &Expression,
        call: &Expr,
        arguments: &[Expr],
    ) -> Result<Typed, Problems> {
        const HINT: &str = "cgroup_matches(\"/kubepods/*\"), cgroup_matches(args.p, \"/system.slice/*\")";
        let wrong = |span: &Range<usize>, message: &str, hint: &str| {
            self.problem(expression, span.clone(), message, Some(hint.into()))
        };
        let current = Expr { kind: ExprKind::Name("curtask".into()), span: call.span.clone() };
        let (of, written) = match arguments {
            [written] => (&current, written),
            [of, written] => (of, written),
            _ => return Err(wrong(&call.span, "`cgroup_matches` takes a pattern of paths", HINT)),
        };
        let TypedKind::Text(text) = self.value(expression, written)?.kind else {
            return Err(wrong(&written.span, "the pattern of cgroups must be a text in quotes", HINT));
        };
        let pattern = PathGlob::new(&String::from_utf8_lossy(&text)).map_err(|error| {
            let message = format!("this is no pattern of cgroups: {error}");
            self.problem(expression, written.span.clone(), message, error.hint().map(str::to_owned))
        })?;
        let btf = self.btf(expression, call.span.clone())?;
        let subject = self.value(expression, of)?;
        let (key, address) = match subject.ty {
            Type::Pointer { to, .. } if btf.name(to) == "task_struct" => (key(), address()),
            Type::Pointer { to, .. } if btf.name(to) == "cgroup" => (OF_CGROUP.into(), "(u64)task".into()),
            _ => {
                let message = "`cgroup_matches` takes a `struct task_struct *` or a `struct cgroup *`";
                return Err(wrong(&of.span, message, HINT));
            }
        };
        if self.item.is_some() && self.comes_later(&subject) {
            let message = "the cgroup that is compared must be known before the walk";
            return Err(wrong(&of.span, message, "compare that of the event's task, or the current one's"));
        }
        let Some(offsets) = offsets(btf) else {
            let message = "this kernel's types do not tell the path of a cgroup";
            return Err(self.missing(expression, call.span.clone(), message, None));
        };
        let part = |text: &str| {
            let parsed = expr::parse(text).map_err(|error| wrong(&call.span, &error.message, HINT))?;
            self.value(expression, &filled(parsed, of, &call.span)).map(number)
        };
        let test = CgroupTest { key: part(&key)?, cgroup: part(&address)?, offsets, pattern };
        Ok(Typed::new(TypedKind::CgroupMatches(Box::new(test)), Type::S64))
    }

    /// Whether a value is known only in a round of a walk, or when the start of a pair was found.
    fn comes_later(&self, typed: &Typed) -> bool {
        typed.any(&|part| match &part.kind {
            TypedKind::Item | TypedKind::Saved(_) | TypedKind::Duration => true,
            TypedKind::Let(index) => match self.lets.get(*index) {
                Some(NamedExpression { value: Ok(value), .. }) => self.comes_later(value),
                _ => false,
            },
            _ => false,
        })
    }
}

/// Where a kernel has what leads to the path of a cgroup.
fn offsets(btf: &Btf) -> Option<CgroupOffsets> {
    let [cgroup, state, node] =
        ["cgroup", "cgroup_subsys_state", "kernfs_node"].map(|name| btf.find(name, BtfKind::Struct));
    let (cgroup, state, node) = (cgroup?, state?, node?);
    let bytes = |of, name| btf.member(of, name).map(|found| found.bit_offset / 8);
    Some(CgroupOffsets {
        level: bytes(cgroup, "level")?,
        parent: bytes(cgroup, "self")? + bytes(state, "parent")?,
        cgroup: bytes(state, "cgroup")?,
        node: bytes(cgroup, "kn")?,
        name: bytes(node, "name")?,
        ancestors: bytes(cgroup, "ancestors"),
    })
}

/// Replaces the name by the task in the expression, and gives all of it the span of the call.
pub(super) fn filled(expr: Expr, task: &Expr, span: &Range<usize>) -> Expr {
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
