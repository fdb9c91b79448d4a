//! The meaning of names in an expression: arguments, built-ins, `let` names, saved values.

use super::state::KnownStates;
use crate::{
    attach::{ArgumentValue, Resolved},
    btf::{Btf, BtfKind, TypeId},
    diagnostic::{Diagnostic, SourceFile, Spanned, nearest},
    expr::Expr,
    point::{LinkKind, PacketHook},
    probe::Expression,
    target::Target,
    typed::{AccessMode, Builtin, Type, Typed, TypedKind},
};
use std::{collections::HashSet, ops::Range, sync::Arc};

/// A mistake in an expression. `missing` distinguishes "not on this kernel", which `??` handles, from mistakes on every
/// kernel.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) diagnostic: Diagnostic,
    pub(super) missing: bool,
}

/// Several mistakes: both sides of an operator may be wrong.
pub(super) type Problems = Vec<Problem>;

/// Joins the mistakes of two parts. A named expression that both use is reported once; otherwise names that are made of such
/// names would double it each time.
pub(super) fn both(mut problems: Problems, more: Problems) -> Problems {
    for problem in more {
        let is_same = |Problem { diagnostic, .. }: &Problem| {
            diagnostic.span == problem.diagnostic.span && diagnostic.message == problem.diagnostic.message
        };
        if !problems.iter().any(is_same) {
            problems.push(problem);
        }
    }
    problems
}

/// Names that need no scope.
const NAMES: [&str; 21] = [
    "pid",
    "tid",
    "uid",
    "gid",
    "cpu",
    "nsecs",
    "comm",
    "cgroup",
    "curtask",
    "duration",
    "args",
    "start",
    "true",
    "retval",
    "frame",
    "func",
    "tracepoint",
    "kstack",
    "ustack",
    "traced",
    "tracing",
];

/// Names of what belongs to the task that runs.
const OF_TASK: [&str; 10] =
    ["pid", "tid", "uid", "gid", "comm", "cgroup", "curtask", "kstack", "ustack", "traced"];

/// An operand of an expression, before it is loaded.
#[derive(Clone, Debug)]
pub(super) enum Operand {
    /// A value that is computed or loaded.
    Value(Typed),
    /// Memory behind a pointer, not loaded yet.
    Lvalue(Lvalue),
    /// An array inside the context.
    Array { offset: u32, element_size: u32, element: Type, count: u32 },
}

/// Memory behind a pointer.
#[derive(Clone, Debug)]
pub(super) struct Lvalue {
    /// The pointer; its type is the type that the verifier knows.
    pub(super) base: Typed,
    pub(super) offset: i64,
    /// The type of the value in memory.
    pub(super) type_id: TypeId,
    /// Bit offset from the pointer, and width, for a bitfield.
    pub(super) bits: Option<(u32, u32)>,
}

/// A value that all starts save.
#[derive(Clone, Debug)]
pub(super) struct SavedValue {
    pub(super) name: String,
    pub(super) ty: Type,
    pub(super) is_time: bool,
    /// The enumeration that it is of at every start.
    pub(super) enumeration: Option<TypeId>,
    /// Most bytes of a text, without its NUL.
    pub(super) longest: u32,
}

/// A named expression at an event.
#[derive(Clone, Debug)]
pub(super) struct NamedExpression {
    pub(super) name: String,
    /// Its value; of a place the pointer to it.
    pub(super) value: Result<Typed, Problems>,
    /// What it names, if that is no value: a struct, or an array.
    place: Option<Operand>,
}

impl NamedExpression {
    /// What arguments of an event are computed from, by a name that nobody can write.
    pub(super) fn of_event((name, value): &(String, Typed)) -> Self {
        Self { name: name.clone(), value: Ok(value.clone()), place: None }
    }

    /// Whether it has a meaning at the event.
    pub(super) fn is_known(&self) -> bool {
        self.value.is_ok() || self.place.is_some()
    }
}

/// The scope of an expression: the names that it can use.
pub(super) struct Scope<'a> {
    pub(super) target: &'a Target<'a>,
    pub(super) file: &'a Arc<SourceFile>,
    pub(super) resolved: &'a Resolved,
    /// The attach point as written, for messages.
    pub(super) at: String,
    pub(super) lets: Vec<NamedExpression>,
    /// Named expressions as written.
    pub(super) declared: &'a [(Spanned<String>, Expression)],
    pub(super) item: Option<(String, Type)>,
    /// Saved values; `None` unless the event is the end of a pair.
    pub(super) saved: Option<&'a [SavedValue]>,
    /// Names of saved values whose mistakes were already reported at the starts.
    pub(super) unsaved: &'a HashSet<String>,
    /// The state.
    pub(super) states: &'a KnownStates<'a>,
}

impl<'a> Scope<'a> {
    /// The kernel's BTF, or the message that there is none.
    pub(super) fn btf(&self, expression: &Expression, span: Range<usize>) -> Result<&'a Btf, Problems> {
        self.target.btf.ok_or_else(|| {
            let mut problems = self.problem(
                expression,
                span,
                "types cannot be looked up: this kernel has no BTF",
                Some("its configuration lacks CONFIG_DEBUG_INFO_BTF".into()),
            );
            problems[0].diagnostic.lacks_types = true;
            problems
        })
    }

    /// How memory is read behind an address that is only a number.
    pub(super) fn memory(&self) -> AccessMode {
        // Of a packet there is nothing else.
        if self.resolved.mechanism.link.packets().is_some() { AccessMode::Packet } else { AccessMode::Auto }
    }

    pub(super) fn problem(
        &self,
        expression: &Expression,
        span: Range<usize>,
        message: impl Into<String>,
        hint: Option<String>,
    ) -> Problems {
        let mut diagnostic = Diagnostic::error(self.file, expression.place(self.file, span), message);
        diagnostic.hint = hint;
        vec![Problem { diagnostic, missing: false }]
    }

    pub(super) fn missing(
        &self,
        expression: &Expression,
        span: Range<usize>,
        message: impl Into<String>,
        hint: Option<String>,
    ) -> Problems {
        let mut problems = self.problem(expression, span, message, hint);
        problems[0].missing = true;
        problems
    }

    /// Resolves a name that stands alone.
    pub(super) fn name(&self, expression: &Expression, expr: &Expr, name: &str) -> Result<Operand, Problems> {
        if let Some((item, ty)) = &self.item
            && item == name
        {
            return Ok(Operand::Value(Typed::new(TypedKind::Item, ty.clone())));
        }
        if let Some(index) = self.lets.iter().rposition(|known| known.name == name) {
            let NamedExpression { value, place, .. } = &self.lets[index];
            if let Some(place) = place {
                return Ok(place.clone());
            }
            let typed = value.as_ref().map_err(Clone::clone)?;
            // A constant is what it is by any name, so that what is asked of constants is asked of it.
            if matches!(typed.kind, TypedKind::Constant(_) | TypedKind::Text(_)) {
                return Ok(Operand::Value(typed.clone()));
            }
            return Ok(Operand::Value(Typed { kind: TypedKind::Let(index), ..typed.clone() }));
        }
        if self.resolved.mechanism.link.packets().is_some() && OF_TASK.contains(&name) {
            return Err(self.of_task(expression, expr.span.clone(), name));
        }
        let value = match name {
            "pid" => Typed::new(TypedKind::Builtin(Builtin::Pid), Type::U32),
            "tid" => Typed::new(TypedKind::Builtin(Builtin::Tid), Type::U32),
            "uid" => Typed::new(TypedKind::Builtin(Builtin::Uid), Type::U32),
            "gid" => Typed::new(TypedKind::Builtin(Builtin::Gid), Type::U32),
            "cpu" => Typed::new(TypedKind::Builtin(Builtin::Cpu), Type::U32),
            "nsecs" => Typed { is_time: true, ..Typed::new(TypedKind::Builtin(Builtin::Nsecs), Type::U64) },
            "cgroup" => Typed::new(TypedKind::Builtin(Builtin::Cgroup), Type::U64),
            "comm" => Typed::new(TypedKind::Comm, Type::Text { capacity: 16 }),
            "curtask" => {
                let to =
                    self.target.btf.and_then(|btf| btf.find("task_struct", BtfKind::Struct)).unwrap_or(0);
                Typed::new(
                    TypedKind::Builtin(Builtin::Task),
                    Type::Pointer { to, access: AccessMode::Kernel },
                )
            }
            "kstack" | "ustack" => return self.stack(expression, expr, name, &[]).map(Operand::Value),
            "traced" => return self.traced(expression, expr, &[]).map(Operand::Value),
            "tracing" => Typed::constant(u64::from(self.target.command)),
            "true" => Typed::constant(1),
            "false" => Typed::constant(0),
            "duration" if self.saved.is_some() => {
                Typed { is_time: true, ..Typed::new(TypedKind::Duration, Type::U64) }
            }
            "duration" => {
                let hint = Some("give the probe `start` and `end`".into());
                return Err(self.problem(
                    expression,
                    expr.span.clone(),
                    "`duration` is known only at the end of a pair",
                    hint,
                ));
            }
            "retval" => return self.result(expression, expr),
            "frame" => match &self.resolved.frame {
                Some(frame) => frame.clone(),
                None => {
                    let message = format!("`frame` is that of a function's call, and `{}` is none", self.at);
                    return Err(self.problem(expression, expr.span.clone(), message, None));
                }
            },
            "func" | "tracepoint" => return self.site(expression, expr, name),
            "state" if self.states.declared.is_empty() => return self.other_name(expression, expr, name),
            "args" | "start" | "state" => {
                let message = format!("`{name}` needs a field behind it");
                return Err(self.problem(
                    expression,
                    expr.span.clone(),
                    message,
                    Some(format!("write `{name}.NAME`")),
                ));
            }
            _ => return self.other_name(expression, expr, name),
        };
        Ok(Operand::Value(value))
    }

    /// The error for what belongs to the task that runs, at an event that is of no task.
    pub(super) fn of_task(&self, expression: &Expression, span: Range<usize>, name: &str) -> Problems {
        let message = format!("`{name}` is of the task that runs, and a packet at `{}` is of none", self.at);
        let hint = match (name, self.resolved.mechanism.link.packets()) {
            ("cgroup", Some(PacketHook::Xdp)) | (_, None) => None,
            ("cgroup", Some(_)) => Some("the cgroup of its socket is `args.cgroup`".to_owned()),
            (_, Some(PacketHook::CgroupIngress | PacketHook::CgroupEgress)) => Some(
                "the cgroup of its socket is `args.cgroup`, of which the decoder `pod` makes a pod"
                    .to_owned(),
            ),
            (_, Some(_)) => {
                Some("whom it is of shows at `cgroup_skb:/:ingress` and `cgroup_skb:/:egress`".to_owned())
            }
        };
        self.problem(expression, span, message, hint)
    }

    /// `func`, `tracepoint`
    fn site(&self, expression: &Expression, expr: &Expr, name: &str) -> Result<Operand, Problems> {
        let is_tracepoint = self.resolved.mechanism.link == LinkKind::Tracepoint;
        let wants_tracepoint = name == "tracepoint";
        if let Some(number) = self.resolved.function().filter(|_| is_tracepoint == wants_tracepoint) {
            return Ok(Operand::Value(number));
        }
        let of = if wants_tracepoint { "tracepoint" } else { "function" };
        let hint = match (wants_tracepoint, &self.resolved.sites.list.is_empty()) {
            (true, false) => Some("write `func`".into()),
            (false, false) => Some("write `tracepoint`".into()),
            (true, true) if self.resolved.mechanism.link.is_raw_tracepoint() => {
                Some("attach to it as `tracepoint:CATEGORY:NAME`".into())
            }
            _ => None,
        };
        let message = format!("`{name}` is the {of} of an event, and `{}` is of none", self.at);
        Err(self.problem(expression, expr.span.clone(), message, hint))
    }

    /// Checks what a `let` names: a value, or a struct or array, whose fields and elements are read where the name is used.
    pub(super) fn named(&self, name: &str, expression: &Expression) -> NamedExpression {
        let named = |value, place| NamedExpression { name: name.to_owned(), value, place };
        match self.operand(expression, &expression.ast) {
            Ok(Operand::Lvalue(place)) => {
                let is_whole = self.target.btf.is_some_and(|btf| {
                    let kind = btf.kind(btf.strip(place.type_id));
                    kind.is_composite() || kind == BtfKind::Array
                });
                match self.load(expression, &expression.ast, &place) {
                    Err(_) if is_whole => {
                        // The pointer is computed once, as any other value.
                        let pointer = place.base.clone();
                        let base = Typed { kind: TypedKind::Let(self.lets.len()), ..pointer.clone() };
                        named(Ok(pointer), Some(Operand::Lvalue(Lvalue { base, ..place })))
                    }
                    value => named(value, None),
                }
            }
            Ok(array @ Operand::Array { .. }) => named(self.value(expression, &expression.ast), Some(array)),
            Ok(Operand::Value(value)) => named(Ok(value), None),
            Err(problems) => named(Err(problems), None),
        }
    }

    /// `retval`
    fn result(&self, expression: &Expression, expr: &Expr) -> Result<Operand, Problems> {
        match &self.resolved.result {
            Some(Ok(result)) if is_in_reach(result) => Ok(Operand::Value(result.clone())),
            Some(Ok(_)) => {
                let message = "the function's result cannot be read";
                Err(self.problem(expression, expr.span.clone(), message, Some(OUT_OF_REACH.into())))
            }
            Some(Err(why)) => {
                let message = "the function's result cannot be read";
                Err(self.problem(expression, expr.span.clone(), message, Some(why.clone())))
            }
            None if self.resolved.is_return => {
                let message = format!("`{}` returns nothing", self.at);
                Err(self.problem(expression, expr.span.clone(), message, None))
            }
            None => {
                let message = "`retval` is known only at the return of a function";
                let hint =
                    Some("use it at fexit, kretprobe or uretprobe, or at the end of `function`".into());
                Err(self.problem(expression, expr.span.clone(), message, hint))
            }
        }
    }

    fn other_name(&self, expression: &Expression, expr: &Expr, name: &str) -> Result<Operand, Problems> {
        if let Some(number) = name.strip_prefix("arg").and_then(|digits| digits.parse::<usize>().ok()) {
            return match self.resolved.arguments.get(number) {
                Some(argument) => self.argument(expression, expr.span.clone(), &argument.name),
                None => Err(self.missing(
                    expression,
                    expr.span.clone(),
                    format!("`{}` has no argument number {number}", self.at),
                    Some(format!("it has {}, counted from 0", self.resolved.arguments.len())),
                )),
            };
        }
        if let Some(value) = self.target.btf.and_then(|btf| btf.enumerator(name)) {
            let ty = Type::S64;
            return Ok(Operand::Value(Typed::new(TypedKind::Constant(value.cast_unsigned()), ty)));
        }
        let candidates = NAMES.iter().copied().chain(self.lets.iter().map(|known| known.name.as_str()));
        let is_argument = self.resolved.arguments.iter().any(|argument| argument.name == name);
        let hint = if is_argument {
            Some(format!("did you mean `args.{name}`?"))
        } else {
            nearest(name, candidates).map(|near| format!("did you mean `{near}`?"))
        };
        Err(self.missing(expression, expr.span.clone(), format!("nothing is called `{name}` here"), hint))
    }

    /// `args.NAME`
    pub(super) fn argument(
        &self,
        expression: &Expression,
        span: Range<usize>,
        name: &str,
    ) -> Result<Operand, Problems> {
        let arguments = &self.resolved.arguments;
        let Some(argument) = arguments.iter().find(|argument| argument.name == name) else {
            if let Some((_, why)) = self.resolved.unshared.iter().find(|(unshared, _)| unshared == name) {
                let message = format!("not every function of `{}` has the argument `{name}`", self.at);
                let hint = format!("{why}: narrow the pattern, or use arg0, arg1, …");
                return Err(self.missing(expression, span, message, Some(hint)));
            }
            let hint = if self.resolved.untyped {
                "this kernel's BTF has no prototype for it: use arg0, arg1, …".into()
            } else {
                let names: Vec<&str> = arguments.iter().map(|argument| argument.name.as_str()).collect();
                nearest(name, names.iter().copied()).map_or_else(
                    || format!("it has {}", names.join(", ")),
                    |near| format!("did you mean `{near}`?"),
                )
            };
            let message = format!("`{}` has no argument `{name}`", self.at);
            let mut problems = self.missing(expression, span, message, Some(hint));
            // Types of programs are not the kernel's.
            let is_kernels = matches!(
                self.resolved.mechanism.link,
                LinkKind::RawTracepoint | LinkKind::KernelProbe { .. }
            );
            problems[0].diagnostic.lacks_types =
                self.resolved.untyped && is_kernels && self.target.btf.is_none();
            return Err(problems);
        };
        let why = match &argument.value {
            Ok(ArgumentValue::Value(typed)) if is_in_reach(typed) => {
                return Ok(Operand::Value(typed.clone()));
            }
            Ok(ArgumentValue::Array { offset, element_size, element, count })
                if u64::from(*offset) + u64::from(*element_size) * u64::from(*count) <= REACH.into() =>
            {
                return Ok(Operand::Array {
                    offset: *offset,
                    element_size: *element_size,
                    element: element.clone(),
                    count: *count,
                });
            }
            Ok(_) => OUT_OF_REACH,
            Err(why) => why,
        };
        Err(self.problem(
            expression,
            span,
            format!("the argument `{name}` cannot be read"),
            Some(why.to_owned()),
        ))
    }

    /// `start.NAME`
    pub(super) fn saved(
        &self,
        expression: &Expression,
        span: Range<usize>,
        name: &str,
    ) -> Result<Operand, Problems> {
        let Some(saved) = self.saved else {
            let hint = Some("give the probe `start` and `end`".into());
            return Err(self.problem(expression, span, "`start` is known only at the end of a pair", hint));
        };
        match saved.iter().position(|kept| kept.name == name) {
            Some(index) => {
                let SavedValue { ty, is_time, enumeration, .. } = &saved[index];
                let (is_time, enumeration) = (*is_time, *enumeration);
                let value = Typed::new(TypedKind::Saved(index), ty.clone());
                Ok(Operand::Value(Typed { is_time, enumeration, ..value }))
            }
            None if self.unsaved.contains(name) => Err(Vec::new()),
            None => {
                let hint = nearest(name, saved.iter().map(|kept| kept.name.as_str())).map_or_else(
                    || format!("add it to the start's `save`: {{ {name}: … }}"),
                    |near| format!("did you mean `{near}`?"),
                );
                Err(self.problem(
                    expression,
                    span,
                    format!("the start saves nothing called `{name}`"),
                    Some(hint),
                ))
            }
        }
    }
}

/// Bytes of a context that a load instruction can address.
const REACH: u32 = 1 << 15;
const OUT_OF_REACH: &str = "it is more than 32 KiB from the beginning of what the event passes";

/// Whether load instructions can read all parts of the context that a value uses.
fn is_in_reach(typed: &Typed) -> bool {
    !typed.any(&|typed| match typed.kind {
        TypedKind::Argument(offset)
        | TypedKind::Field { offset, .. }
        | TypedKind::TextField { offset, .. }
        | TypedKind::TextLocated { offset, .. } => offset >= REACH - 8,
        _ => false,
    })
}

/// Whether the language reserves a name.
pub(super) fn is_reserved(name: &str) -> bool {
    NAMES.contains(&name)
        || name == "false"
        || name
            .strip_prefix("arg")
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}
