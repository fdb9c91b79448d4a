//! `kaddr` and `percpu`: addresses of variables of the kernel.
//!
//! What a variable is called and where it is, the kernel's symbols tell; what it is, BTF, as far as it has variables. An address is
//! a constant of the program: it holds as long as the kernel runs.

use super::{
    expression::number,
    scope::{Problems, Scope},
};
use crate::{
    btf::{BtfKind, KernelVariable, TypeId},
    diagnostic::nearest,
    expr::{BinaryOperator, Expr, ExprKind},
    probe::Expression,
    typed::{AccessMode, Builtin, Type, Typed, TypedKind},
};

/// The kernel's array of how far the variables of each CPU are from those that symbols mean.
const OFFSETS: &str = "__per_cpu_offset";

/// A symbol as an argument: a name, or a text for names that are none of the language.
fn symbol(argument: &Expr) -> Option<&str> {
    match &argument.kind {
        ExprKind::Name(name) | ExprKind::Text(name) if !name.is_empty() => Some(name),
        _ => None,
    }
}

fn computed(operator: BinaryOperator, left: Typed, right: Typed, ty: Type) -> Typed {
    Typed::new(TypedKind::Binary(operator, Box::new(left), Box::new(right)), ty)
}

/// The address of the variable of a CPU: `place + offsets[cpu]`.
fn in_cpu(place: u64, offsets: u64, cpu: Typed, ty: Type) -> Typed {
    let symbol = |address| Typed::new(TypedKind::Symbol(address), Type::U64);
    let word = Typed::new(TypedKind::Constant(8), Type::S64);
    let behind = computed(BinaryOperator::Mul, cpu, word, Type::U64);
    let base = Box::new(computed(BinaryOperator::Add, symbol(offsets), behind, Type::U64));
    let node = TypedKind::Load { base, offset: 0, size: 8, access: AccessMode::Kernel, bits: None };
    computed(BinaryOperator::Add, symbol(place), Typed::new(node, Type::U64), ty)
}

impl Scope<'_> {
    /// `kaddr(SYMBOL)`
    pub(super) fn kaddr(
        &self,
        expression: &Expression,
        call: &Expr,
        arguments: &[Expr],
    ) -> Result<Typed, Problems> {
        let ([argument], Some(name)) = (arguments, arguments.first().and_then(symbol)) else {
            let message = "`kaddr` takes the name of a symbol of the kernel";
            let hint = "*(unsigned long *)kaddr(jiffies), kaddr(\"name.0\") for one with a point";
            return Err(self.problem(expression, call.span.clone(), message, Some(hint.into())));
        };
        let known = self.target.btf.and_then(|btf| btf.variable(name));
        if known.is_some_and(|variable| variable.is_per_cpu) {
            let message = format!("each CPU has a `{name}` of its own");
            let hint = format!("write percpu({name}), of another CPU percpu({name}, CPU)");
            return Err(self.problem(expression, argument.span.clone(), message, Some(hint)));
        }
        let address = self.address(expression, argument, name)?;
        Ok(Typed::new(TypedKind::Symbol(address), self.pointer_to(known)))
    }

    /// `percpu(SYMBOL)`, `percpu(SYMBOL, CPU)`
    pub(super) fn percpu(
        &self,
        expression: &Expression,
        call: &Expr,
        arguments: &[Expr],
    ) -> Result<Typed, Problems> {
        let (argument, cpu) = match arguments {
            [argument] => (argument, None),
            [argument, cpu] => (argument, Some(cpu)),
            _ => return Err(self.no_variable(expression, call)),
        };
        let Some(name) = symbol(argument) else { return Err(self.no_variable(expression, call)) };
        let btf = self.btf(expression, argument.span.clone())?;
        let known = match btf.variable(name) {
            Some(variable) if variable.is_per_cpu => variable,
            Some(_) => {
                let message = format!("there is one `{name}`, and not one for each CPU");
                let hint = Some(format!("write kaddr({name})"));
                return Err(self.problem(expression, argument.span.clone(), message, hint));
            }
            None => {
                let near = nearest(name, btf.names(BtfKind::Var));
                let hint = near.map(|near| format!("did you mean `{near}`?"));
                let message = format!("this kernel's BTF has no variable `{name}` of each CPU");
                return Err(self.missing(expression, argument.span.clone(), message, hint));
            }
        };
        let cpus = u64::from(self.target.possible_cpus);
        let cpu_value = match cpu {
            None => Typed::new(TypedKind::Builtin(Builtin::Cpu), Type::U32),
            Some(cpu) => {
                let value = self.value(expression, cpu);
                number(value.and_then(|typed| self.no_text(expression, cpu, typed, "a CPU"))?)
            }
        };
        if let (Some(cpu), TypedKind::Constant(number)) = (cpu, &cpu_value.kind)
            && *number >= cpus
        {
            let message = format!("this host has no CPU {}", number.cast_signed());
            let hint = Some(format!("they are 0 to {}", cpus.saturating_sub(1)));
            return Err(self.problem(expression, cpu.span.clone(), message, hint));
        }
        let place = self.address(expression, argument, name)?;
        let offsets = self.address(expression, argument, OFFSETS)?;
        let ty = self.pointer_to(Some(known));
        let exists = cpu.is_none() || matches!(cpu_value.kind, TypedKind::Constant(_));
        let address = in_cpu(place, offsets, cpu_value.clone(), ty.clone());
        if exists {
            return Ok(address);
        }
        // What stands behind the end of the array is anything; of a CPU that there cannot be, everything is 0.
        let most = Typed::new(TypedKind::Constant(cpus), Type::U64);
        let exists = computed(BinaryOperator::Lt, cpu_value, most, Type::S64);
        let nowhere = Typed::new(TypedKind::Constant(0), ty.clone());
        let node = TypedKind::Conditional(Box::new(exists), Box::new(address), Box::new(nowhere));
        Ok(Typed::new(node, ty))
    }

    fn no_variable(&self, expression: &Expression, call: &Expr) -> Problems {
        let message = "`percpu` takes the name of a variable of the kernel, and optionally a CPU";
        let hint = "percpu(runqueues).nr_running, percpu(runqueues, 3).nr_running";
        self.problem(expression, call.span.clone(), message, Some(hint.into()))
    }

    /// The address of a symbol, or why it is not known.
    fn address(&self, expression: &Expression, argument: &Expr, name: &str) -> Result<u64, Problems> {
        self.target.functions.symbol(name).map_err(|unknown| {
            let mut problems =
                self.problem(expression, argument.span.clone(), unknown.why.message, unknown.why.hint);
            problems[0].missing = unknown.is_absent;
            problems
        })
    }

    /// The type of a pointer to a variable: of an array to its first element, as in C; to `void` where BTF does not have it.
    fn pointer_to(&self, variable: Option<KernelVariable>) -> Type {
        let to = self.target.btf.zip(variable).map_or(0, |(btf, variable)| {
            let mut to: TypeId = btf.strip(variable.type_id);
            if btf.kind(to) == BtfKind::Array {
                to = btf.strip(btf.array(to).0);
            }
            to
        });
        Type::Pointer { to, access: AccessMode::Kernel }
    }
}
