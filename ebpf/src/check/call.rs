//! Functions of the expression language.

use super::{
    expression::{join, number},
    scope::{Problems, Scope},
};
use crate::{
    diagnostic::nearest,
    expr::{BinaryOperator, Expr, ExprKind, FieldName},
    probe::Expression,
    typed::{Builtin, Type, Typed, TypedKind},
};

impl Scope<'_> {
    pub(super) fn call(
        &self,
        expression: &Expression,
        expr: &Expr,
        name: &str,
        arguments: &[Expr],
    ) -> Result<Typed, Problems> {
        const FUNCTIONS: [&str; 20] = [
            "str",
            "prefix",
            "contains",
            "argv",
            "bytes",
            "major",
            "minor",
            "min",
            "max",
            "kstack",
            "ustack",
            "traced",
            "cgroup",
            "cgroup_matches",
            "kaddr",
            "percpu",
            "path",
            "ntohs",
            "ntohl",
            "bswap64",
        ];
        let wrong = |message: String, hint: &str| {
            Err(self.problem(expression, expr.span.clone(), message, Some(hint.into())))
        };
        if matches!(name, "kstack" | "ustack" | "traced") && self.resolved.mechanism.link.packets().is_some()
        {
            return Err(self.of_task(expression, expr.span.clone(), name));
        }
        match (name, arguments) {
            ("cgroup", _) => self.cgroup(expression, expr, arguments),
            ("path", _) => self.path(expression, expr, arguments),
            ("cgroup_matches", _) => self.cgroup_matches(expression, expr, arguments),
            ("kstack" | "ustack", _) => self.stack(expression, expr, name, arguments),
            ("traced", _) => self.traced(expression, expr, arguments),
            ("kaddr", _) => self.kaddr(expression, expr, arguments),
            ("percpu", _) => self.percpu(expression, expr, arguments),
            ("argv", _) => self.argv(expression, expr, arguments),
            ("prefix" | "contains", _) => self.part(expression, expr, name, arguments),
            ("str", [pointer, rest @ ..]) if rest.len() < 2 => self.str(expression, pointer, rest.first()),
            ("bytes", [from, rest @ ..]) if rest.len() < 2 => {
                self.bytes_of(expression, expr, from, rest.first())
            }
            ("bytes", _) => wrong(
                "`bytes` takes an array or a struct, or a pointer and a size".into(),
                "bytes(args.field), bytes(pointer, 16)",
            ),
            ("str", _) => wrong(
                "`str` takes a pointer and optionally a size".into(),
                "write str(pointer) or str(pointer, 32)",
            ),
            ("major" | "minor", [device]) => {
                let device = self
                    .value(expression, device)
                    .and_then(|typed| self.no_text(expression, device, typed, "a device number"))?;
                // dev_t inside the kernel: 12 bits of major, 20 of minor.
                let (operator, operand) = if name == "major" {
                    (BinaryOperator::Shr, 20)
                } else {
                    (BinaryOperator::BitAnd, 0xf_ffff)
                };
                Ok(Typed::new(
                    TypedKind::Binary(operator, Box::new(number(device)), Box::new(Typed::constant(operand))),
                    Type::U64,
                ))
            }
            ("min" | "max", [a, b]) => {
                let operator = if name == "min" { BinaryOperator::Le } else { BinaryOperator::Ge };
                let operands = join(self.value(expression, a), self.value(expression, b))?;
                // What may not be compared has no smaller one either.
                let compared = self.operation(expression, operator, (a, b), operands.clone())?;
                let (a, b) = (number(operands.0), number(operands.1));
                let ty = if a.ty.is_unsigned() || b.ty.is_unsigned() { Type::U64 } else { Type::S64 };
                let is_time = a.is_time || b.is_time;
                let node = match compared.kind {
                    TypedKind::Constant(0) => b.kind,
                    TypedKind::Constant(_) => a.kind,
                    _ => TypedKind::Extreme(operator, Box::new(a), Box::new(b)),
                };
                Ok(Typed { is_time, ..Typed::new(node, ty) })
            }
            ("ntohs" | "ntohl" | "bswap64", [number]) => self.swap(expression, name, number),
            ("ntohs" | "ntohl" | "bswap64", _) => wrong(
                format!("`{name}` takes one number, and not {} arguments", arguments.len()),
                "ntohs(port), ntohl(address), bswap64(word)",
            ),
            ("major" | "minor" | "min" | "max", _) => wrong(
                format!("`{name}` does not take {} arguments", arguments.len()),
                "major(dev), minor(dev), min(a, b), max(a, b)",
            ),
            _ => {
                let near = match name {
                    // bpftrace's names for them.
                    "strcontains" => Some("contains"),
                    "join" => Some("argv"),
                    _ => nearest(name, FUNCTIONS),
                };
                let hint = near.map_or_else(
                    || format!("functions are {}", FUNCTIONS.join(", ")),
                    |near| format!("did you mean `{near}`?"),
                );
                wrong(format!("there is no function `{name}`"), &hint)
            }
        }
    }

    /// `ntohs`, `ntohl`, `bswap64`: the low 2, 4 or 8 bytes of a number in the opposite order.
    fn swap(&self, expression: &Expression, name: &str, operand: &Expr) -> Result<Typed, Problems> {
        let (ty, bits) = match name {
            "ntohs" => (Type::Int { bits: 16, signed: false }, 16),
            "ntohl" => (Type::U32, 32),
            _ => (Type::U64, 64),
        };
        let what = format!("what `{name}` takes");
        let value = self.value(expression, operand);
        let value = number(value.and_then(|typed| self.no_text(expression, operand, typed, &what))?);
        if let TypedKind::Constant(constant) = value.kind {
            if bits < 64 && constant >> bits != 0 {
                let message = format!("`{name}` takes a number of {bits} bits, and {constant:#x} has more");
                return Err(self.problem(expression, operand.span.clone(), message, None));
            }
            let swapped = crate::eval::swapped(constant, &ty);
            return Ok(Typed::new(TypedKind::Constant(swapped), ty));
        }
        Ok(Typed::new(TypedKind::Swap(Box::new(value)), ty))
    }

    /// `traced` and `traced(TASK)`: whether the current process, or the process of a task, belongs to the command. Without a
    /// command it is always true.
    pub(super) fn traced(
        &self,
        expression: &Expression,
        expr: &Expr,
        arguments: &[Expr],
    ) -> Result<Typed, Problems> {
        let process = match arguments {
            [] => Typed::new(TypedKind::Builtin(Builtin::Pid), Type::U32),
            [task] => self.process(expression, task)?,
            _ => {
                let message = format!("`traced` does not take {} arguments", arguments.len());
                let hint = Some("traced, traced(args.p)".into());
                return Err(self.problem(expression, expr.span.clone(), message, hint));
            }
        };
        if !self.target.command {
            return Ok(Typed::constant(1));
        }
        Ok(Typed::new(TypedKind::Traced(Box::new(process)), Type::S64))
    }

    /// The number of a task's process.
    fn process(&self, expression: &Expression, task: &Expr) -> Result<Typed, Problems> {
        let is_task = |to| self.target.btf.is_some_and(|btf| btf.name(to) == "task_struct");
        match self.value(expression, task)?.ty {
            Type::Pointer { to, .. } if is_task(to) => {
                let field = FieldName { name: "tgid".into(), span: task.span.clone() };
                let member = ExprKind::Member(Box::new(task.clone()), field);
                self.value(expression, &Expr { kind: member, span: task.span.clone() })
            }
            _ => {
                let message = "`traced` takes a `struct task_struct *`, or nothing for the current task";
                let hint = Some("traced, traced(args.p)".into());
                Err(self.problem(expression, task.span.clone(), message, hint))
            }
        }
    }
}
