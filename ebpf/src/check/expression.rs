//! Syntax tree × scope → typed tree.

use super::scope::{Operand, Place, Problems, Scope};
use crate::{
    btf::{Access, Btf, Kind, TypeId, direct_access},
    diagnostic::nearest,
    expr::{Binary, Expr, ExprKind, Field, TypeKind, TypeName, Unary},
    probe::Expression,
    typed::{AccessMode, Node, Type, Typed},
};
use std::ops::Range;

/// Bytes of a text where nothing else is said, and at the most.
const TEXT_CAPACITY: u32 = 64;
const MAX_TEXT: u32 = 256;

/// Built-in integer types: name, bits, signed.
const INTEGERS: [(&str, u8, bool); 40] = [
    ("u8", 8, false),
    ("u16", 16, false),
    ("u32", 32, false),
    ("u64", 64, false),
    ("s8", 8, true),
    ("s16", 16, true),
    ("s32", 32, true),
    ("s64", 64, true),
    ("__u8", 8, false),
    ("__u16", 16, false),
    ("__u32", 32, false),
    ("__u64", 64, false),
    ("__s8", 8, true),
    ("__s16", 16, true),
    ("__s32", 32, true),
    ("__s64", 64, true),
    ("uint8_t", 8, false),
    ("uint16_t", 16, false),
    ("uint32_t", 32, false),
    ("uint64_t", 64, false),
    ("int8_t", 8, true),
    ("int16_t", 16, true),
    ("int32_t", 32, true),
    ("int64_t", 64, true),
    ("char", 8, true),
    ("signed char", 8, true),
    ("unsigned char", 8, false),
    ("short", 16, true),
    ("short int", 16, true),
    ("unsigned short", 16, false),
    ("int", 32, true),
    ("signed", 32, true),
    ("signed int", 32, true),
    ("unsigned", 32, false),
    ("unsigned int", 32, false),
    ("long", 64, true),
    ("long int", 64, true),
    ("unsigned long", 64, false),
    ("long long", 64, true),
    ("unsigned long long", 64, false),
];

/// The type of a place on the way through memory.
fn join(left: Result<Typed, Problems>, right: Result<Typed, Problems>) -> Result<(Typed, Typed), Problems> {
    match (left, right) {
        (Ok(left), Ok(right)) => Ok((left, right)),
        (Err(mut left), Err(right)) => {
            left.extend(right);
            Err(left)
        }
        (Err(problems), _) | (_, Err(problems)) => Err(problems),
    }
}

/// A pointer as a number: what the verifier tracks cannot be computed with.
fn number(typed: Typed) -> Typed {
    match typed.ty {
        Type::Pointer { access: AccessMode::Direct, .. } => {
            Typed::new(Node::Number(Box::new(typed)), Type::U64)
        }
        Type::Pointer { .. } => Typed { ty: Type::U64, ..typed },
        _ => typed,
    }
}

impl Scope<'_> {
    /// The value of a whole expression.
    pub(super) fn check(&self, expression: &Expression) -> Result<Typed, Problems> {
        self.value(expression, &expression.ast)
    }

    /// The same, which must be a number or pointer.
    pub(super) fn check_number(&self, expression: &Expression, what: &str) -> Result<Typed, Problems> {
        let typed = self.check(expression)?;
        self.no_text(expression, &expression.ast, typed, what)
    }

    /// The same as a plain number, which can be computed with: no pointer that the verifier tracks.
    pub(super) fn check_amount(&self, expression: &Expression, what: &str) -> Result<Typed, Problems> {
        self.check_number(expression, what).map(number)
    }

    /// A value that is needed before the start of the pair is looked up.
    pub(super) fn before_start(&self, expression: &Expression, typed: Typed) -> Result<Typed, Problems> {
        if typed.needs_start(&super::placeholder_lets(self)) {
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

    fn no_text(
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
        Ok(typed)
    }

    fn value(&self, expression: &Expression, expr: &Expr) -> Result<Typed, Problems> {
        match self.operand(expression, expr)? {
            Operand::Value(typed) => Ok(typed),
            Operand::Place(place) => self.load(expression, expr, &place),
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

    fn operand(&self, expression: &Expression, expr: &Expr) -> Result<Operand, Problems> {
        let value = match &expr.kind {
            ExprKind::Integer(value) => Typed::constant(*value),
            ExprKind::Text(text) => {
                let bytes = text.as_bytes().to_vec();
                let needed = u32::try_from(bytes.len()).unwrap_or(u32::MAX).saturating_add(1);
                if needed > MAX_TEXT {
                    return Err(self.problem(
                        expression,
                        expr.span.clone(),
                        format!("a text has at most {} bytes", MAX_TEXT - 1),
                        None,
                    ));
                }
                Typed::new(Node::Text(bytes), Type::Text { capacity: needed.next_multiple_of(8) })
            }
            ExprKind::Name(name) => return self.name(expression, expr, name),
            ExprKind::Member(base, field) => return self.member(expression, base, field),
            ExprKind::Index(base, index) => return self.index(expression, expr, base, index),
            ExprKind::Unary(Unary::Deref, inner) => {
                let base = self.value(expression, inner)?;
                return self.pointed(expression, inner, base, 0).map(Operand::Place);
            }
            ExprKind::Unary(operator, inner) => self.unary(expression, *operator, inner)?,
            ExprKind::Binary(operator, left, right) => self.binary(expression, *operator, left, right)?,
            ExprKind::Conditional(condition, then, otherwise) => {
                self.conditional(expression, expr, condition, then, otherwise)?
            }
            ExprKind::Coalesce(left, right) => {
                return match self.operand(expression, left) {
                    Err(problems) if problems.iter().all(|problem| problem.missing) => self
                        .operand(expression, right)
                        .map_err(|more| problems.into_iter().chain(more).collect()),
                    found => found,
                };
            }
            ExprKind::Cast(name, inner) => self.cast(expression, expr, name, inner)?,
            ExprKind::Call(name, arguments) => self.call(expression, expr, name, arguments)?,
        };
        Ok(Operand::Value(value))
    }

    fn member(&self, expression: &Expression, base: &Expr, field: &Field) -> Result<Operand, Problems> {
        if let ExprKind::Name(name) = &base.kind {
            match name.as_str() {
                "args" => return self.argument(expression, field.span.clone(), &field.name),
                "start" => return self.saved(expression, field.span.clone(), &field.name),
                _ => {}
            }
        }
        let mut operand = self.operand(expression, base)?;
        let btf = self.btf(expression, base.span.clone())?;
        // `.` goes through a pointer as it does into a struct.
        if let Operand::Place(place) = &operand
            && btf.kind(btf.strip(place.type_id)) == Kind::Ptr
        {
            operand = Operand::Value(self.load(expression, base, place)?);
        }
        let place = match operand {
            Operand::Place(place) => place,
            Operand::Value(value) => self.pointed(expression, base, value, 0)?,
            Operand::Array { .. } => {
                return Err(self.problem(
                    expression,
                    base.span.clone(),
                    "an array has no fields",
                    Some("index it".into()),
                ));
            }
        };
        let id = btf.strip(place.type_id);
        if !btf.kind(id).is_composite() {
            let shown = btf.display(place.type_id);
            let (message, hint) = match btf.kind(id) {
                Kind::Fwd => (format!("this kernel's BTF does not define `{shown}`"), None),
                _ => (
                    format!("a `{shown}` has no fields"),
                    Some("cast it to a struct, or read what it points to with `*`".into()),
                ),
            };
            return Err(self.missing(expression, base.span.clone(), message, hint));
        }
        let Some(found) = btf.member(id, &field.name) else {
            let hint =
                nearest(&field.name, btf.member_names(id)).map(|near| format!("did you mean `{near}`?"));
            let message = format!("`{}` has no field `{}`", btf.display(id), field.name);
            return Err(self.missing(expression, field.span.clone(), message, hint));
        };
        let bit_offset = i64::from(found.bit_offset) + place.offset * 8;
        let bits = found.bitfield_bits.and_then(|width| Some((u32::try_from(bit_offset).ok()?, width)));
        let offset = place.offset + i64::from(found.bit_offset / 8);
        Ok(Operand::Place(Place { base: place.base, offset, type_id: found.type_id, bits }))
    }

    /// The memory that a pointer points to, `index` elements further.
    fn pointed(
        &self,
        expression: &Expression,
        expr: &Expr,
        base: Typed,
        index: i64,
    ) -> Result<Place, Problems> {
        let Type::Pointer { to, .. } = base.ty else {
            let what = match base.ty {
                Type::Text { .. } => "a text",
                _ => "a number",
            };
            let message = format!("{what} has no fields and points nowhere");
            return Err(self.problem(
                expression,
                expr.span.clone(),
                message,
                Some("cast it: ((struct NAME *)value).field".into()),
            ));
        };
        let btf = self.btf(expression, expr.span.clone())?;
        let size = btf.size(to);
        if to == 0 || size.is_none() && !(btf.kind(to) == Kind::Fwd) {
            let message = format!("a `{} *` points to nothing that can be read", btf.display(to));
            return Err(self.problem(
                expression,
                expr.span.clone(),
                message,
                Some("cast it: (struct NAME *)value, or str(value) for a text".into()),
            ));
        }
        Ok(Place { base, offset: index * i64::from(size.unwrap_or(0)), type_id: to, bits: None })
    }

    fn index(
        &self,
        expression: &Expression,
        expr: &Expr,
        base: &Expr,
        index: &Expr,
    ) -> Result<Operand, Problems> {
        let index_value = self
            .value(expression, index)
            .and_then(|typed| self.no_text(expression, index, typed, "an index"))?;
        let constant = match index_value.kind {
            Node::Constant(value) => i64::try_from(value).ok(),
            _ => None,
        };
        let operand = self.operand(expression, base)?;
        if let Operand::Array { offset, element_size, element, count } = operand {
            let Some(constant) =
                constant.and_then(|value| u32::try_from(value).ok()).filter(|value| *value < count)
            else {
                let message = format!("the index must be a constant from 0 to {}", count.saturating_sub(1));
                return Err(self.problem(expression, index.span.clone(), message, None));
            };
            let node = Node::Field { offset: offset + constant * element_size, size: element_size };
            return Ok(Operand::Value(Typed::new(node, element)));
        }
        let btf = self.btf(expression, expr.span.clone())?;
        let place = match operand {
            Operand::Place(place) if btf.kind(btf.strip(place.type_id)) == Kind::Array => {
                let (element, count) = btf.array(btf.strip(place.type_id));
                if let Some(value) = constant
                    && count > 0
                    && !(0..i64::from(count)).contains(&value)
                {
                    let message = format!("index {value} is outside of `{}`", btf.display(place.type_id));
                    let hint = Some(format!("indices are 0 to {}", count - 1));
                    return Err(self.problem(expression, index.span.clone(), message, hint));
                }
                Place { type_id: element, bits: None, ..place }
            }
            Operand::Place(place) => {
                let pointer = self.load(expression, base, &place)?;
                self.pointed(expression, base, pointer, 0)?
            }
            Operand::Value(value) => self.pointed(expression, base, value, 0)?,
            Operand::Array { .. } => {
                return Err(self.problem(expression, expr.span.clone(), "not an array", None));
            }
        };
        let size = i64::from(btf.size(place.type_id).unwrap_or(0));
        let Some(constant) = constant else {
            // The verifier allows no variable offset from a typed pointer, so the address becomes a number.
            let to = btf.strip(place.type_id);
            let access = if matches!(place.base.ty, Type::Pointer { access: AccessMode::Auto, .. }) {
                AccessMode::Auto
            } else {
                AccessMode::Kernel
            };
            let start = Typed::new(
                Node::Binary(
                    Binary::Add,
                    Box::new(number(place.base)),
                    Box::new(Typed::new(Node::Constant(place.offset.cast_unsigned()), Type::S64)),
                ),
                Type::U64,
            );
            let distance = Typed::new(
                Node::Binary(
                    Binary::Mul,
                    Box::new(number(index_value)),
                    Box::new(Typed::new(Node::Constant(size.cast_unsigned()), Type::S64)),
                ),
                Type::S64,
            );
            let sum = Typed::new(
                Node::Binary(Binary::Add, Box::new(start), Box::new(distance)),
                Type::Pointer { to, access },
            );
            return Ok(Operand::Place(Place { base: sum, offset: 0, type_id: place.type_id, bits: None }));
        };
        let offset = constant.checked_mul(size).and_then(|distance| distance.checked_add(place.offset));
        match offset.filter(|offset| i32::try_from(*offset).is_ok()) {
            Some(offset) => Ok(Operand::Place(Place { offset, ..place })),
            None => Err(self.problem(expression, index.span.clone(), "the index is too large", None)),
        }
    }

    /// Reads a place.
    fn load(&self, expression: &Expression, expr: &Expr, place: &Place) -> Result<Typed, Problems> {
        let btf = self.btf(expression, expr.span.clone())?;
        let id = btf.strip(place.type_id);
        let refuse = |message: String, hint: &str| {
            Err(self.problem(expression, expr.span.clone(), message, Some(hint.into())))
        };
        let shown = || btf.display(place.type_id);
        match btf.kind(id) {
            Kind::Int | Kind::Enum | Kind::Enum64 => {}
            Kind::Ptr => return Ok(load_pointer(btf, place, id)),
            Kind::Array => {
                let (element, count) = btf.array(id);
                let element = btf.strip(element);
                if btf.kind(element) == Kind::Int && btf.size(element) == Some(1) {
                    return Ok(text_array(place, count));
                }
                return refuse(format!("`{}` is an array, not a value", shown()), "index it");
            }
            Kind::Struct | Kind::Union => {
                return refuse(format!("`{}` is not a value", shown()), "name one of its fields");
            }
            _ => {
                return refuse(
                    format!("a `{}` cannot be read", shown()),
                    "only integers, pointers and texts can",
                );
            }
        }
        let size = btf.size(id).unwrap_or(0);
        let signed = btf.is_signed(id);
        let Some(ty) = Type::integer(size, signed) else {
            return refuse(
                format!("a `{}` has {size} bytes", shown()),
                "only integers of up to 64 bits can be read",
            );
        };
        let (offset, size, bits) = match place.bits {
            None => (place.offset, size, None),
            Some((bit_offset, width)) => {
                let (offset, size, shift) = storage(bit_offset, width, size);
                (offset, size, Some((shift, width)))
            }
        };
        let access = load_access(btf, &place.base, offset, size);
        let Ok(offset) = i32::try_from(offset) else { return refuse("the offset is too large".into(), "") };
        let node = Node::Load { base: Box::new(place.base.clone()), offset, size, access, bits };
        Ok(Typed::new(node, ty))
    }

    fn unary(&self, expression: &Expression, operator: Unary, inner: &Expr) -> Result<Typed, Problems> {
        let operand = self.value(expression, inner).and_then(|typed| {
            self.no_text(expression, inner, typed, &format!("the operand of `{}`", operator.symbol()))
        })?;
        if operator == Unary::Not {
            return Ok(Typed::new(Node::Unary(operator, Box::new(operand)), Type::S64));
        }
        let operand = number(operand);
        if let Node::Constant(value) = operand.kind {
            let folded = if operator == Unary::Neg { value.wrapping_neg() } else { !value };
            // A negated constant is negative, whatever its bits.
            let ty = if operator == Unary::Neg || operand.ty.is_signed() { Type::S64 } else { Type::U64 };
            return Ok(Typed::new(Node::Constant(folded), ty));
        }
        let ty = if operand.ty.is_unsigned() { Type::U64 } else { Type::S64 };
        let is_time = operand.is_time;
        Ok(Typed { is_time, ..Typed::new(Node::Unary(operator, Box::new(operand)), ty) })
    }

    fn binary(
        &self,
        expression: &Expression,
        operator: Binary,
        left_expr: &Expr,
        right_expr: &Expr,
    ) -> Result<Typed, Problems> {
        let (left, right) = join(self.value(expression, left_expr), self.value(expression, right_expr))?;
        let texts = (matches!(left.ty, Type::Text { .. }), matches!(right.ty, Type::Text { .. }));
        if texts == (true, true) && matches!(operator, Binary::Eq | Binary::Ne) {
            return Ok(Typed::new(Node::Binary(operator, Box::new(left), Box::new(right)), Type::S64));
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
        if matches!(operator, Binary::And | Binary::Or) {
            return Ok(Typed::new(Node::Binary(operator, Box::new(left), Box::new(right)), Type::S64));
        }
        // A typed pointer may be compared with 0 as it is.
        let against_zero =
            matches!(operator, Binary::Eq | Binary::Ne) && matches!(right.kind, Node::Constant(0));
        let (left, right) = if against_zero { (left, right) } else { (number(left), number(right)) };
        self.never_true(expression, operator, &left, &right, right_expr)?;
        let shifts = matches!(operator, Binary::Shl | Binary::Shr);
        let unsigned = left.ty.is_unsigned() || !shifts && right.ty.is_unsigned();
        let ty = if operator.compares() || !unsigned { Type::S64 } else { Type::U64 };
        let is_time = match operator {
            Binary::Add | Binary::Sub => left.is_time || right.is_time,
            Binary::Mul => left.is_time != right.is_time,
            Binary::Div | Binary::Mod => left.is_time && !right.is_time,
            _ => false,
        };
        if let (Node::Constant(a), Node::Constant(b)) = (&left.kind, &right.kind) {
            let folded = crate::eval::binary(operator, unsigned_operation(operator, &left, &right), *a, *b);
            return Ok(Typed { is_time, ..Typed::new(Node::Constant(folded), ty) });
        }
        Ok(Typed { is_time, ..Typed::new(Node::Binary(operator, Box::new(left), Box::new(right)), ty) })
    }

    /// `unsigned < 0` and `u8 == 300` can be written, but never meant.
    fn never_true(
        &self,
        expression: &Expression,
        operator: Binary,
        left: &Typed,
        right: &Typed,
        at: &Expr,
    ) -> Result<(), Problems> {
        let Node::Constant(value) = right.kind else { return Ok(()) };
        if !operator.compares() || matches!(left.kind, Node::Constant(_)) {
            return Ok(());
        }
        let Type::Int { bits, signed } = left.ty else { return Ok(()) };
        // `u64 == -1` asks for all ones, as in C.
        if bits == 64 && matches!(operator, Binary::Eq | Binary::Ne) {
            return Ok(());
        }
        let value = if right.ty.is_signed() { i128::from(value.cast_signed()) } else { i128::from(value) };
        let most = if signed { (1_i128 << (bits - 1)) - 1 } else { (1_i128 << bits) - 1 };
        let least = if signed { -(1_i128 << (bits - 1)) } else { 0 };
        let outside = value < least || value > most || value == least && operator == Binary::Lt;
        if !outside {
            return Ok(());
        }
        let kind = if signed { "signed" } else { "unsigned" };
        let message = format!("comparing {kind} {bits} bits with {value} gives always the same");
        let asks_for_bits = !signed && value < 0 && matches!(operator, Binary::Eq | Binary::Ne);
        let in_bits = if asks_for_bits {
            format!("; {value} in {bits} bits is {:#x}", value & most)
        } else {
            String::new()
        };
        let hint = format!("the value lies between {least} and {most}{in_bits}");
        Err(self.problem(expression, at.span.clone(), message, Some(hint)))
    }

    fn conditional(
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
            (Err(mut problems), Err(more)) => {
                problems.extend(more);
                return Err(problems);
            }
            (Err(problems), _) | (_, Err(problems)) => return Err(problems),
        };
        let is_time = a.is_time || b.is_time;
        let (a, b, ty) = match (&a.ty, &b.ty) {
            (Type::Text { capacity: x }, Type::Text { capacity: y }) => {
                let capacity = *x.max(y);
                (a, b, Type::Text { capacity })
            }
            (Type::Text { .. }, _) | (_, Type::Text { .. }) => {
                return Err(self.problem(
                    expression,
                    expr.span.clone(),
                    "one side of `? :` is a text, the other a number",
                    None,
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
        let node = Node::Conditional(Box::new(condition), Box::new(a), Box::new(b));
        Ok(Typed { is_time, ..Typed::new(node, ty) })
    }

    fn cast(
        &self,
        expression: &Expression,
        expr: &Expr,
        name: &TypeName,
        inner: &Expr,
    ) -> Result<Typed, Problems> {
        let operand = self
            .value(expression, inner)
            .and_then(|typed| self.no_text(expression, inner, typed, "what is cast"))?;
        let ty = self.type_named(expression, expr.span.clone(), name)?;
        match ty {
            Type::Pointer { to, .. } => {
                let access = match &operand.ty {
                    Type::Pointer { to: same, access } if *same == to => *access,
                    Type::Pointer { access: AccessMode::Direct | AccessMode::Kernel, .. } => {
                        AccessMode::Kernel
                    }
                    _ => AccessMode::Auto,
                };
                let ty = Type::Pointer { to, access };
                // A node's type says how its value is cut: that of a number stays below the cast.
                if matches!(operand.ty, Type::Int { .. }) {
                    return Ok(Typed::new(Node::Cast(Box::new(operand)), ty));
                }
                // The verifier knows the old type: only helpers may read what the new one says.
                Ok(Typed { ty, ..operand })
            }
            ty => {
                let operand = number(operand);
                let is_time = operand.is_time;
                Ok(Typed { is_time, ..Typed::new(Node::Cast(Box::new(operand)), ty) })
            }
        }
    }

    fn type_named(
        &self,
        expression: &Expression,
        span: Range<usize>,
        name: &TypeName,
    ) -> Result<Type, Problems> {
        let builtin = (name.kind == TypeKind::Plain)
            .then(|| INTEGERS.iter().find(|(known, _, _)| *known == name.name))
            .flatten();
        if let Some((_, bits, signed)) = builtin
            && name.pointers == 0
        {
            return Ok(Type::Int { bits: *bits, signed: *signed });
        }
        if name.kind == TypeKind::Plain && name.name == "void" && name.pointers > 0 {
            return Ok(Type::Pointer { to: 0, access: AccessMode::Auto });
        }
        let btf = self.btf(expression, span.clone())?;
        let found = match (name.kind, builtin) {
            (TypeKind::Struct, _) => btf.find(&name.name, Kind::Struct),
            (TypeKind::Union, _) => btf.find(&name.name, Kind::Union),
            (TypeKind::Enum, _) => {
                btf.find(&name.name, Kind::Enum).or_else(|| btf.find(&name.name, Kind::Enum64))
            }
            // Any integer type of that width and sign will do as what a pointer points to.
            (TypeKind::Plain, Some((_, bits, signed))) => btf.ids().find(|id| {
                btf.kind(*id) == Kind::Int
                    && btf.size(*id) == Some(u32::from(*bits) / 8)
                    && btf.is_signed(*id) == *signed
                    && btf.int_bits(*id) == u32::from(*bits)
            }),
            (TypeKind::Plain, None) => {
                btf.find(&name.name, Kind::Typedef).or_else(|| btf.find(&name.name, Kind::Int))
            }
        };
        let Some(id) = found.map(|id| btf.strip(id)) else {
            let kind = match name.kind {
                TypeKind::Struct => Kind::Struct,
                TypeKind::Union => Kind::Union,
                TypeKind::Enum => Kind::Enum,
                TypeKind::Plain => Kind::Typedef,
            };
            let hint = nearest(&name.name, btf.names(kind)).map(|near| {
                format!("did you mean `{}`?", TypeName { name: near.to_owned(), pointers: 0, ..name.clone() })
            });
            return Err(self.missing(
                expression,
                span,
                format!("this kernel has no type `{}`", TypeName { pointers: 0, ..name.clone() }),
                hint,
            ));
        };
        match name.pointers {
            0 => match (btf.kind(id), btf.size(id)) {
                (Kind::Int | Kind::Enum | Kind::Enum64, Some(size @ (1 | 2 | 4 | 8))) => {
                    Ok(Type::integer(size, btf.is_signed(id)).unwrap_or(Type::U64))
                }
                (Kind::Ptr, _) => {
                    Ok(Type::Pointer { to: btf.strip(btf.target(id)), access: AccessMode::Auto })
                }
                _ => Err(self.problem(
                    expression,
                    span,
                    format!("`{name}` is neither an integer nor a pointer"),
                    Some(format!("did you mean `({name} *)`?")),
                )),
            },
            1 => Ok(Type::Pointer { to: id, access: AccessMode::Auto }),
            // A pointer to a pointer: BTF may not have it as a type, and 8 bytes are all that is needed.
            _ => match btf
                .ids()
                .find(|pointer| btf.kind(*pointer) == Kind::Ptr && btf.strip(btf.target(*pointer)) == id)
            {
                Some(pointer) if name.pointers == 2 => {
                    Ok(Type::Pointer { to: pointer, access: AccessMode::Auto })
                }
                _ => Err(self.missing(expression, span, format!("this kernel has no type `{name}`"), None)),
            },
        }
    }

    fn call(
        &self,
        expression: &Expression,
        expr: &Expr,
        name: &str,
        arguments: &[Expr],
    ) -> Result<Typed, Problems> {
        const FUNCTIONS: [&str; 5] = ["str", "major", "minor", "min", "max"];
        let wrong = |message: String, hint: &str| {
            Err(self.problem(expression, expr.span.clone(), message, Some(hint.into())))
        };
        match (name, arguments) {
            ("str", [pointer, rest @ ..]) if rest.len() < 2 => {
                let capacity = match rest {
                    [] => TEXT_CAPACITY,
                    [size, ..] => match self.value(expression, size)?.kind {
                        Node::Constant(value) if (2..=u64::from(MAX_TEXT)).contains(&value) => {
                            u32::try_from(value).unwrap_or(MAX_TEXT)
                        }
                        _ => {
                            return Err(self.problem(
                                expression,
                                size.span.clone(),
                                format!("the size of a text must be a constant from 2 to {MAX_TEXT}"),
                                None,
                            ));
                        }
                    },
                };
                let base = self.value(expression, pointer)?;
                let access = match base.ty {
                    Type::Text { .. } => return Ok(base),
                    Type::Pointer { access: AccessMode::Direct | AccessMode::Kernel, .. } => {
                        AccessMode::Kernel
                    }
                    _ => AccessMode::Auto,
                };
                let node = Node::TextAt { base: Box::new(base), offset: 0, access, limit: capacity };
                Ok(Typed::new(node, Type::Text { capacity: capacity.next_multiple_of(8) }))
            }
            ("str", _) => wrong(
                "`str` takes a pointer and optionally a size".into(),
                "write str(pointer) or str(pointer, 32)",
            ),
            ("major" | "minor", [device]) => {
                let device = self
                    .value(expression, device)
                    .and_then(|typed| self.no_text(expression, device, typed, "a device number"))?;
                // dev_t inside the kernel: 12 bits of major, 20 of minor.
                let (operator, operand) =
                    if name == "major" { (Binary::Shr, 20) } else { (Binary::BitAnd, 0xf_ffff) };
                Ok(Typed::new(
                    Node::Binary(operator, Box::new(number(device)), Box::new(Typed::constant(operand))),
                    Type::U64,
                ))
            }
            ("min" | "max", [a, b]) => {
                let operator = if name == "min" { Binary::Le } else { Binary::Ge };
                let condition = self.binary(expression, operator, a, b)?;
                let (a, b) = join(self.value(expression, a), self.value(expression, b))?;
                let (a, b) = (number(a), number(b));
                let ty = if a.ty.is_unsigned() || b.ty.is_unsigned() { Type::U64 } else { Type::S64 };
                let is_time = a.is_time || b.is_time;
                Ok(Typed {
                    is_time,
                    ..Typed::new(Node::Conditional(Box::new(condition), Box::new(a), Box::new(b)), ty)
                })
            }
            ("major" | "minor" | "min" | "max", _) => wrong(
                format!("`{name}` does not take {} arguments", arguments.len()),
                "major(dev), minor(dev), min(a, b), max(a, b)",
            ),
            _ => {
                let hint = nearest(name, FUNCTIONS).map_or_else(
                    || format!("functions are {}", FUNCTIONS.join(", ")),
                    |near| format!("did you mean `{near}`?"),
                );
                wrong(format!("there is no function `{name}`"), &hint)
            }
        }
    }
}

/// Whether an operation works on unsigned numbers.
pub(crate) fn unsigned_operation(operator: Binary, left: &Typed, right: &Typed) -> bool {
    let shifts = matches!(operator, Binary::Shl | Binary::Shr);
    left.ty.is_unsigned() || !shifts && right.ty.is_unsigned()
}

/// What the verifier takes a load through a pointer that it tracks for; `None` where it does not track
/// it or refuses the load.
fn tracked_access(btf: &Btf, base: &Type, offset: i64, size: u32) -> Option<Access> {
    let Type::Pointer { to, access: AccessMode::Direct } = *base else { return None };
    let offset = u32::try_from(offset).ok().filter(|offset| i16::try_from(*offset).is_ok())?;
    direct_access(btf, to, offset, size)
}

/// How memory behind a pointer is read where no load instruction may.
fn helper_access(base: &Type) -> AccessMode {
    match base {
        Type::Pointer { access: AccessMode::Direct | AccessMode::Kernel, .. } => AccessMode::Kernel,
        Type::Pointer { access: AccessMode::Auto, .. } | Type::Int { .. } | Type::Text { .. } => {
            AccessMode::Auto
        }
    }
}

/// The access that loads a number of `size` bytes at `offset` of what `base` points to. A number that
/// shares its place with a pointer (a union) would come as that, and could not be computed with.
fn load_access(btf: &Btf, base: &Typed, offset: i64, size: u32) -> AccessMode {
    match tracked_access(btf, &base.ty, offset, size) {
        Some(Access::Scalar) => AccessMode::Direct,
        Some(Access::Pointer(_)) | None => helper_access(&base.ty),
    }
}

fn load_pointer(btf: &Btf, place: &Place, id: TypeId) -> Typed {
    let declared = btf.target(id);
    let to = btf.strip(declared);
    // What the verifier sees there must be what was named, else its loads would be of another type; and
    // it tracks pointers to numbers too (6.17), of which a helper makes plain ones.
    let tracked = btf.kind(to).is_composite()
        && tracked_access(btf, &place.base.ty, place.offset, 8) == Some(Access::Pointer(to));
    let access = if tracked { AccessMode::Direct } else { helper_access(&place.base.ty) };
    let behind = if tracked {
        AccessMode::Direct
    } else if btf.kind(to).is_composite() && !btf.has_tag(declared, "user") {
        access
    } else {
        AccessMode::Auto
    };
    let offset = i32::try_from(place.offset).unwrap_or(0);
    let node = Node::Load { base: Box::new(place.base.clone()), offset, size: 8, access, bits: None };
    Typed::new(node, Type::Pointer { to, access: behind })
}

fn text_array(place: &Place, count: u32) -> Typed {
    let limit = if count == 0 { TEXT_CAPACITY } else { count.min(MAX_TEXT) };
    let access = helper_access(&place.base.ty);
    let offset = i32::try_from(place.offset).unwrap_or(0);
    let node = Node::TextAt { base: Box::new(place.base.clone()), offset, access, limit };
    Typed::new(node, Type::Text { capacity: limit.max(2).next_multiple_of(8) })
}

/// The aligned word that holds a bitfield: byte offset, size, and shift from the right.
fn storage(bit_offset: u32, width: u32, type_size: u32) -> (i64, u32, u32) {
    for size in [type_size, 1, 2, 4, 8] {
        let unit = size * 8;
        if bit_offset / unit == (bit_offset + width - 1) / unit {
            return (i64::from(bit_offset / unit * size), size, bit_offset % unit);
        }
    }
    // Packed across words: eight bytes from the first that holds a bit of it.
    (i64::from(bit_offset / 8), 8, bit_offset % 8)
}
