//! Syntax tree × scope → typed tree.

use super::{
    scope::{Operand, Problems, Scope, both},
    text::MAX_TEXT,
};
use crate::{
    diagnostic::nearest,
    expr::{BinaryOperator, Expr, ExprKind, UnaryOperator},
    probe::Expression,
    typed::{AccessMode, NO_STACK, Type, Typed, TypedKind, unsigned_operation},
};

/// Both results, or the mistakes in both.
pub(super) fn join(
    left: Result<Typed, Problems>,
    right: Result<Typed, Problems>,
) -> Result<(Typed, Typed), Problems> {
    match (left, right) {
        (Ok(left), Ok(right)) => Ok((left, right)),
        (Err(left), Err(right)) => Err(both(left, right)),
        (Err(problems), _) | (_, Err(problems)) => Err(problems),
    }
}

/// A pointer as a number: the verifier allows no arithmetic with pointers that it tracks.
pub(super) fn number(typed: Typed) -> Typed {
    match typed.ty {
        Type::Pointer { access: AccessMode::Direct, .. } => {
            Typed::new(TypedKind::Number(Box::new(typed)), Type::U64)
        }
        Type::Pointer { .. } => Typed { ty: Type::U64, ..typed },
        _ => typed,
    }
}

impl Scope<'_> {
    /// Checks a whole expression.
    pub(super) fn check(&self, expression: &Expression) -> Result<Typed, Problems> {
        self.value(expression, &expression.ast)
    }

    /// Checks a whole expression that must be a number or pointer.
    pub(super) fn check_number(&self, expression: &Expression, what: &str) -> Result<Typed, Problems> {
        let typed = self.check(expression)?;
        self.no_text(expression, &expression.ast, typed, what)
    }

    /// Checks a whole expression as a plain number, for arithmetic: it is no pointer that the verifier tracks.
    pub(super) fn check_amount(&self, expression: &Expression, what: &str) -> Result<Typed, Problems> {
        self.check_number(expression, what).map(number)
    }

    /// Checks an expression whose value is needed before the start of the pair is looked up.
    pub(super) fn before_start(&self, expression: &Expression, typed: Typed) -> Result<Typed, Problems> {
        if typed.needs_start(&super::event::placeholder_lets(self)) {
            let span = expression.ast.span.clone();
            let hint = Some("use `where`, labels or metrics for what depends on the start".into());
            return Err(self.problem(
                expression,
                span,
                "`duration` and `start` are not known yet where this is needed",
                hint,
            ));
        }
        Ok(typed)
    }

    pub(super) fn no_text(
        &self,
        expression: &Expression,
        expr: &Expr,
        typed: Typed,
        what: &str,
    ) -> Result<Typed, Problems> {
        if let Type::Text { .. } = typed.ty {
            let message = format!("{what} must be a number, found a text");
            return Err(self.problem(
                expression,
                expr.span.clone(),
                message,
                Some("compare it with == or !=".into()),
            ));
        }
        if let Type::Bytes { .. } = typed.ty {
            let message = format!("{what} must be a number, found bytes");
            let hint = "bytes are a label, a part of a key, or kept from a start".into();
            return Err(self.problem(expression, expr.span.clone(), message, Some(hint)));
        }
        if let Type::Stack { side, .. } = typed.ty {
            let message = format!("{what} must be a number, found a stack");
            let hint = format!("a stack is only shown: make it a label, `stack: {}`", side.name());
            return Err(self.problem(expression, expr.span.clone(), message, Some(hint)));
        }
        Ok(typed)
    }

    pub(super) fn value(&self, expression: &Expression, expr: &Expr) -> Result<Typed, Problems> {
        match self.operand(expression, expr)? {
            Operand::Value(typed) => Ok(typed),
            Operand::Lvalue(place) => self.load(expression, expr, &place),
            Operand::Array { count, .. } => {
                let message = "an array is not a value";
                Err(self.problem(
                    expression,
                    expr.span.clone(),
                    message,
                    Some(format!("index it, 0 to {}", count.saturating_sub(1))),
                ))
            }
        }
    }

    pub(super) fn operand(&self, expression: &Expression, expr: &Expr) -> Result<Operand, Problems> {
        let value = match &expr.kind {
            ExprKind::Integer(value) => Typed::constant(*value),
            ExprKind::Text(text) => {
                let bytes = text.as_bytes().to_vec();
                let needed = u32::try_from(bytes.len()).expect("an expression has at most 4096 bytes") + 1;
                if needed > MAX_TEXT {
                    return Err(self.problem(
                        expression,
                        expr.span.clone(),
                        format!("a text has at most {} bytes", MAX_TEXT - 1),
                        None,
                    ));
                }
                Typed::new(TypedKind::Text(bytes), Type::text(needed))
            }
            ExprKind::Name(name) => return self.name(expression, expr, name),
            ExprKind::Member(base, field) => return self.member(expression, base, field),
            ExprKind::Index(base, index) => return self.index(expression, expr, base, index),
            ExprKind::Unary(UnaryOperator::Deref, inner) => {
                let base = self.value(expression, inner)?;
                return self.pointed(expression, inner, base).map(Operand::Lvalue);
            }
            ExprKind::Unary(operator, inner) => self.unary(expression, *operator, inner)?,
            ExprKind::Binary(operator, left, right) => self.binary(expression, *operator, left, right)?,
            ExprKind::Conditional(condition, then, otherwise) => {
                self.conditional(expression, expr, condition, then, otherwise)?
            }
            ExprKind::Coalesce(left, right) => {
                return match self.operand(expression, left) {
                    Err(problems) if problems.iter().all(|problem| problem.missing) => {
                        self.operand(expression, right).map_err(|more| both(problems, more))
                    }
                    found => found,
                };
            }
            ExprKind::Cast(name, inner) => self.cast(expression, expr, name, inner)?,
            ExprKind::Call(name, arguments) => self.call(expression, expr, name, arguments)?,
        };
        Ok(Operand::Value(value))
    }

    pub(super) fn unary(
        &self,
        expression: &Expression,
        operator: UnaryOperator,
        inner: &Expr,
    ) -> Result<Typed, Problems> {
        let operand = self.value(expression, inner).and_then(|typed| {
            self.no_text(expression, inner, typed, &format!("the operand of `{}`", operator.symbol()))
        })?;
        if operator == UnaryOperator::Not {
            return Ok(Typed::new(TypedKind::Unary(operator, Box::new(operand)), Type::S64));
        }
        let operand = number(operand);
        if let TypedKind::Constant(value) = operand.kind {
            let folded = if operator == UnaryOperator::Neg { value.wrapping_neg() } else { !value };
            // A negated constant is negative, whatever its bits.
            let ty =
                if operator == UnaryOperator::Neg || operand.ty.is_signed() { Type::S64 } else { Type::U64 };
            return Ok(Typed::new(TypedKind::Constant(folded), ty));
        }
        let ty = if operand.ty.is_unsigned() { Type::U64 } else { Type::S64 };
        let is_time = operand.is_time;
        Ok(Typed { is_time, ..Typed::new(TypedKind::Unary(operator, Box::new(operand)), ty) })
    }

    /// `func == "NAME"`: compares the number with those of the functions of this name; C++ may have several.
    fn is_function(
        &self,
        expression: &Expression,
        operator: BinaryOperator,
        function: &Typed,
        name_expr: &Expr,
        name: &[u8],
    ) -> Result<Typed, Problems> {
        let name = String::from_utf8_lossy(name);
        let named = &self.resolved.named;
        let compare = |number: u32| {
            let number = Typed::new(TypedKind::Constant(number.into()), Type::U64);
            Typed::new(TypedKind::Binary(operator, Box::new(function.clone()), Box::new(number)), Type::S64)
        };
        let join = if operator == BinaryOperator::Eq { BinaryOperator::Or } else { BinaryOperator::And };
        named
            .iter()
            .filter(|(known, _)| *known == name)
            .map(|(_, number)| compare(*number))
            .reduce(|all, one| Typed::new(TypedKind::Binary(join, Box::new(all), Box::new(one)), Type::S64))
            .ok_or_else(|| {
                let near = nearest(&name, named.iter().map(|(known, _)| known.as_str()));
                let hint = near.map(|near| format!("did you mean `{near}`?"));
                let message = format!("no function of `{}` is called `{name}`", self.at);
                self.problem(expression, name_expr.span.clone(), message, hint)
            })
    }

    pub(super) fn binary(
        &self,
        expression: &Expression,
        operator: BinaryOperator,
        left: &Expr,
        right: &Expr,
    ) -> Result<Typed, Problems> {
        let operands = join(self.value(expression, left), self.value(expression, right))?;
        self.operation(expression, operator, (left, right), operands)
    }

    /// Makes a comparison of operands that are already checked.
    pub(super) fn operation(
        &self,
        expression: &Expression,
        operator: BinaryOperator,
        (left_expr, right_expr): (&Expr, &Expr),
        (left, right): (Typed, Typed),
    ) -> Result<Typed, Problems> {
        let texts = (matches!(left.ty, Type::Text { .. }), matches!(right.ty, Type::Text { .. }));
        if texts == (true, true) && matches!(operator, BinaryOperator::Eq | BinaryOperator::Ne) {
            self.can_be_equal(expression, (left_expr, right_expr), (&left, &right))?;
            return Ok(Typed::new(TypedKind::Binary(operator, Box::new(left), Box::new(right)), Type::S64));
        }
        if let (true, TypedKind::Function(_), TypedKind::Text(name)) =
            (matches!(operator, BinaryOperator::Eq | BinaryOperator::Ne), &left.kind, &right.kind)
        {
            return self.is_function(expression, operator, &left, right_expr, name);
        }
        let what = format!("an operand of `{}`", operator.symbol());
        if texts.0 != texts.1 && operator.compares() {
            let (expr, hint) = if texts.0 {
                (right_expr, "compare a text with a text")
            } else {
                (left_expr, "read a text behind a pointer with str(pointer)")
            };
            return Err(self.problem(
                expression,
                expr.span.clone(),
                "a text is compared with a number",
                Some(hint.into()),
            ));
        }
        let left = self.no_text(expression, left_expr, left, &what)?;
        let right = self.no_text(expression, right_expr, right, &what)?;
        if matches!(operator, BinaryOperator::And | BinaryOperator::Or) {
            return Ok(Typed::new(TypedKind::Binary(operator, Box::new(left), Box::new(right)), Type::S64));
        }
        // A typed pointer may be compared with 0 as it is.
        let against_zero = matches!(operator, BinaryOperator::Eq | BinaryOperator::Ne)
            && matches!(right.kind, TypedKind::Constant(0));
        let (left, right) = if against_zero { (left, right) } else { (number(left), number(right)) };
        self.never_true(expression, operator, (&left, left_expr), (&right, right_expr))?;
        let shifts = matches!(operator, BinaryOperator::Shl | BinaryOperator::Shr);
        let unsigned = left.ty.is_unsigned() || !shifts && right.ty.is_unsigned();
        let ty = if operator.compares() || !unsigned { Type::S64 } else { Type::U64 };
        let is_time = match operator {
            BinaryOperator::Add | BinaryOperator::Sub => left.is_time || right.is_time,
            BinaryOperator::Mul => left.is_time != right.is_time,
            BinaryOperator::Div | BinaryOperator::Mod => left.is_time && !right.is_time,
            _ => false,
        };
        if let (TypedKind::Constant(a), TypedKind::Constant(b)) = (&left.kind, &right.kind) {
            let folded = crate::eval::binary(operator, unsigned_operation(operator, &left, &right), *a, *b);
            return Ok(Typed { is_time, ..Typed::new(TypedKind::Constant(folded), ty) });
        }
        Ok(Typed { is_time, ..Typed::new(TypedKind::Binary(operator, Box::new(left), Box::new(right)), ty) })
    }

    /// Refuses comparisons such as `unsigned < 0` and `u8 == 300`, which have one result always. The constant may stand on
    /// either side.
    pub(super) fn never_true(
        &self,
        expression: &Expression,
        operator: BinaryOperator,
        (left, left_expr): (&Typed, &Expr),
        (right, right_expr): (&Typed, &Expr),
    ) -> Result<(), Problems> {
        let (value, constant, at, operator) = match (&left.kind, &right.kind) {
            (TypedKind::Constant(_), TypedKind::Constant(_)) => return Ok(()),
            (_, TypedKind::Constant(value)) => (left, (*value, &right.ty), right_expr, operator),
            (TypedKind::Constant(value), _) => (right, (*value, &left.ty), left_expr, mirrored(operator)),
            _ => return Ok(()),
        };
        let (Some((bits, signed)), true) = (width(value), operator.compares()) else { return Ok(()) };
        let equals = matches!(operator, BinaryOperator::Eq | BinaryOperator::Ne);
        // `u64 == -1` asks for all ones, as in C.
        if bits == 64 && equals {
            return Ok(());
        }
        let (constant, ty) = constant;
        let constant = if ty.is_signed() { i128::from(constant.cast_signed()) } else { i128::from(constant) };
        let most = if signed { (1_i128 << (bits - 1)) - 1 } else { (1_i128 << bits) - 1 };
        let least = if signed { -(1_i128 << (bits - 1)) } else { 0 };
        let outside = constant < least || constant > most;
        // What is known only here, such as `tracing`, may come to such a bound and be meant all the same.
        let bound = match operator {
            BinaryOperator::Lt => constant == least,
            BinaryOperator::Ge => constant == least && is_written(at),
            BinaryOperator::Gt | BinaryOperator::Le => constant == most && is_written(at),
            _ => false,
        };
        if !outside && !bound {
            return Ok(());
        }
        let kind = if signed { "signed" } else { "unsigned" };
        let message = format!("comparing {kind} {bits} bits with {constant} gives always the same");
        let in_bits = if !signed && constant < 0 && equals {
            format!("; {constant} in {bits} bits is {:#x}", constant & most)
        } else if bits == 64 && !signed && constant <= 0 {
            "; where it may be negative, say so: (s64)value".to_owned()
        } else {
            String::new()
        };
        let hint = format!("the value lies between {least} and {most}{in_bits}");
        Err(self.problem(expression, at.span.clone(), message, Some(hint)))
    }

    pub(super) fn conditional(
        &self,
        expression: &Expression,
        expr: &Expr,
        condition: &Expr,
        then: &Expr,
        otherwise: &Expr,
    ) -> Result<Typed, Problems> {
        let branches = join(self.value(expression, then), self.value(expression, otherwise));
        let condition_value = self
            .value(expression, condition)
            .and_then(|typed| self.no_text(expression, condition, typed, "a condition"));
        let (condition, (a, b)) = match (condition_value, branches) {
            (Ok(condition), Ok(branches)) => (condition, branches),
            (Err(problems), Err(more)) => return Err(both(problems, more)),
            (Err(problems), _) | (_, Err(problems)) => return Err(problems),
        };
        let is_time = a.is_time || b.is_time;
        let enumeration = a.enumeration.filter(|of| b.enumeration == Some(*of));
        let (a, b, ty) = match (&a.ty, &b.ty) {
            (Type::Text { capacity: x }, Type::Text { capacity: y }) => {
                let capacity = *x.max(y);
                (a, b, Type::Text { capacity })
            }
            (Type::Bytes { .. }, _) | (_, Type::Bytes { .. }) => {
                if a.ty != b.ty {
                    let message = "the sides of `? :` are not both bytes, and as many";
                    return Err(self.problem(expression, expr.span.clone(), message, None));
                }
                let ty = a.ty.clone();
                (a, b, ty)
            }
            (Type::Text { .. }, _) | (_, Type::Text { .. }) => {
                return Err(self.problem(
                    expression,
                    expr.span.clone(),
                    "one side of `? :` is a text, the other a number",
                    None,
                ));
            }
            (Type::Stack { .. }, Type::Stack { .. }) if let Some(ty) = a.ty.longer_stack(&b.ty) => (a, b, ty),
            // No stack.
            (Type::Stack { .. }, _) if matches!(b.kind, TypedKind::Constant(NO_STACK)) => {
                let ty = a.ty.clone();
                (a, b, ty)
            }
            (_, Type::Stack { .. }) if matches!(a.kind, TypedKind::Constant(NO_STACK)) => {
                let ty = b.ty.clone();
                (a, b, ty)
            }
            (Type::Stack { .. }, _) | (_, Type::Stack { .. }) => {
                return Err(self.problem(
                    expression,
                    expr.span.clone(),
                    "one side of `? :` is a stack, the other is none of that kind",
                    Some("0 stands for no stack".into()),
                ));
            }
            (Type::Pointer { .. }, Type::Pointer { .. }) if a.ty == b.ty => {
                let ty = a.ty.clone();
                (a, b, ty)
            }
            _ => {
                let (a, b) = (number(a), number(b));
                let ty = if a.ty.is_unsigned() || b.ty.is_unsigned() { Type::U64 } else { Type::S64 };
                (a, b, ty)
            }
        };
        // What is known is a constant, so that a comparison with it is one instruction.
        if let (TypedKind::Constant(truth), Type::Int { .. }) = (&condition.kind, &ty) {
            let taken = if *truth != 0 { &a } else { &b };
            if let TypedKind::Constant(value) = taken.kind {
                return Ok(Typed { is_time, ..Typed::new(TypedKind::Constant(value), ty) });
            }
        }
        let node = TypedKind::Conditional(Box::new(condition), Box::new(a), Box::new(b));
        Ok(Typed { is_time, enumeration, ..Typed::new(node, ty) })
    }
}

/// The equivalent comparison with its sides exchanged.
pub(super) fn mirrored(operator: BinaryOperator) -> BinaryOperator {
    match operator {
        BinaryOperator::Lt => BinaryOperator::Gt,
        BinaryOperator::Le => BinaryOperator::Ge,
        BinaryOperator::Gt => BinaryOperator::Lt,
        BinaryOperator::Ge => BinaryOperator::Le,
        other => other,
    }
}

/// Number of bits of a value, and whether one is the sign: a bitfield has fewer than its type.
fn width(typed: &Typed) -> Option<(u32, bool)> {
    let Type::Int { bits, signed } = typed.ty else { return None };
    match typed.kind {
        TypedKind::Load { bits: Some((_, width)), .. } => Some((width, signed)),
        _ => Some((bits.into(), signed)),
    }
}

/// Whether the expression is a numeric constant.
fn is_written(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Integer(_) => true,
        ExprKind::Unary(UnaryOperator::Neg, inner) => is_written(inner),
        _ => false,
    }
}
