//! Memory that an expression names: members, elements, targets of pointers; and how programs read it.

use super::{
    expression::number,
    scope::{Lvalue, Operand, Problems, Scope},
    text::{BYTES, MAX_TEXT, NO_TEXT, TEXT_CAPACITY},
};
use crate::{
    btf::{Access, Btf, BtfKind, TypeId, direct_access},
    diagnostic::nearest,
    expr::{BinaryOperator, Expr, ExprKind, FieldName},
    probe::Expression,
    typed::{AccessMode, Type, Typed, TypedKind},
};

impl Scope<'_> {
    pub(super) fn member(
        &self,
        expression: &Expression,
        base: &Expr,
        field: &FieldName,
    ) -> Result<Operand, Problems> {
        if let ExprKind::Name(name) = &base.kind {
            match name.as_str() {
                "args" => return self.argument(expression, field.span.clone(), &field.name),
                "start" => return self.saved(expression, field.span.clone(), &field.name),
                "state" if !self.states.declared.is_empty() => {
                    return self.state(expression, field.span.clone(), &field.name, &[]);
                }
                _ => {}
            }
        }
        let mut operand = self.operand(expression, base)?;
        let btf = self.btf(expression, base.span.clone())?;
        // `.` goes through a pointer as it does into a struct.
        if let Operand::Lvalue(place) = &operand
            && btf.kind(btf.strip(place.type_id)) == BtfKind::Ptr
        {
            operand = Operand::Value(self.load(expression, base, place)?);
        }
        let place = match operand {
            Operand::Lvalue(place) => place,
            Operand::Value(value) => self.pointed(expression, base, value)?,
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
                BtfKind::Fwd => (format!("this kernel's BTF does not define `{shown}`"), None),
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
        Ok(Operand::Lvalue(Lvalue { base: place.base, offset, type_id: found.type_id, bits }))
    }

    /// The memory that a pointer points to.
    pub(super) fn pointed(
        &self,
        expression: &Expression,
        expr: &Expr,
        base: Typed,
    ) -> Result<Lvalue, Problems> {
        let Type::Pointer { to, .. } = base.ty else {
            let what = match base.ty {
                Type::Text { .. } => "a text",
                Type::Bytes { .. } => "what `bytes` gives",
                Type::Stack { .. } => "a stack",
                _ => "a number",
            };
            let message = format!("{what} has no fields and points nowhere");
            let hint = match &expr.kind {
                ExprKind::Binary(BinaryOperator::Add, pointer, index)
                    if self.is_pointer(expression, pointer) =>
                {
                    format!("an address plus a number is a number: write ({pointer})[{index}]")
                }
                _ => "cast it: ((struct NAME *)value).field".into(),
            };
            return Err(self.problem(expression, expr.span.clone(), message, Some(hint)));
        };
        let btf = self.btf(expression, expr.span.clone())?;
        let size = btf.size(to);
        if to == 0 || size.is_none() && !(btf.kind(to) == BtfKind::Fwd) {
            let message = format!("a `{} *` points to nothing that can be read", btf.display(to));
            return Err(self.problem(
                expression,
                expr.span.clone(),
                message,
                Some("cast it: (struct NAME *)value, or str(value) for a text".into()),
            ));
        }
        Ok(Lvalue { base, offset: 0, type_id: to, bits: None })
    }

    fn is_pointer(&self, expression: &Expression, expr: &Expr) -> bool {
        self.value(expression, expr).is_ok_and(|value| matches!(value.ty, Type::Pointer { .. }))
    }

    pub(super) fn index(
        &self,
        expression: &Expression,
        expr: &Expr,
        base: &Expr,
        index: &Expr,
    ) -> Result<Operand, Problems> {
        if let Some(state) = self.indexed_state(expression, expr) {
            return state;
        }
        let index_value = self
            .value(expression, index)
            .and_then(|typed| self.no_text(expression, index, typed, "an index"))?;
        let constant = match index_value.kind {
            TypedKind::Constant(value) => i64::try_from(value).ok(),
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
            let node = TypedKind::Field { offset: offset + constant * element_size, size: element_size };
            return Ok(Operand::Value(Typed::new(node, element)));
        }
        let btf = self.btf(expression, expr.span.clone())?;
        let place = match operand {
            Operand::Lvalue(place) if btf.kind(btf.strip(place.type_id)) == BtfKind::Array => {
                let (element, count) = btf.array(btf.strip(place.type_id));
                if let Some(value) = constant
                    && count > 0
                    && !(0..i64::from(count)).contains(&value)
                {
                    let message = format!("index {value} is outside of `{}`", btf.display(place.type_id));
                    let hint = Some(format!("indices are 0 to {}", count - 1));
                    return Err(self.problem(expression, index.span.clone(), message, hint));
                }
                Lvalue { type_id: element, bits: None, ..place }
            }
            Operand::Lvalue(place) => {
                let pointer = self.load(expression, base, &place)?;
                self.pointed(expression, base, pointer)?
            }
            Operand::Value(value) => self.pointed(expression, base, value)?,
            Operand::Array { .. } => {
                return Err(self.problem(expression, expr.span.clone(), "not an array", None));
            }
        };
        let Some(size) = btf.size(place.type_id).map(i64::from) else {
            let message = format!("the size of a `{}` is not known here", btf.display(place.type_id));
            let hint = Some("cast it to a pointer to what is there, and index that".into());
            return Err(self.problem(expression, expr.span.clone(), message, hint));
        };
        let Some(constant) = constant else {
            // The verifier allows no variable offset from a typed pointer, so the address becomes a number.
            let to = btf.strip(place.type_id);
            let access = helper_access(&place.base.ty);
            let start = Typed::new(
                TypedKind::Binary(
                    BinaryOperator::Add,
                    Box::new(number(place.base)),
                    Box::new(Typed::new(TypedKind::Constant(place.offset.cast_unsigned()), Type::S64)),
                ),
                Type::U64,
            );
            let distance = Typed::new(
                TypedKind::Binary(
                    BinaryOperator::Mul,
                    Box::new(number(index_value)),
                    Box::new(Typed::new(TypedKind::Constant(size.cast_unsigned()), Type::S64)),
                ),
                Type::S64,
            );
            let sum = Typed::new(
                TypedKind::Binary(BinaryOperator::Add, Box::new(start), Box::new(distance)),
                Type::Pointer { to, access },
            );
            return Ok(Operand::Lvalue(Lvalue { base: sum, offset: 0, type_id: place.type_id, bits: None }));
        };
        let offset = constant.checked_mul(size).and_then(|distance| distance.checked_add(place.offset));
        match offset.filter(|offset| i32::try_from(*offset).is_ok()) {
            Some(offset) => Ok(Operand::Lvalue(Lvalue { offset, ..place })),
            None => Err(self.problem(expression, index.span.clone(), "the index is too large", None)),
        }
    }

    /// An array of bytes as a text; the user has to request that.
    pub(super) fn bytes(&self, place: &Lvalue) -> Option<Typed> {
        let btf = self.target.btf?;
        let id = btf.strip(place.type_id);
        if btf.kind(id) != BtfKind::Array {
            return None;
        }
        let (element, count) = btf.array(id);
        let element = btf.strip(element);
        let is_bytes = btf.kind(element) == BtfKind::Int && btf.size(element) == Some(1);
        let offset = i32::try_from(place.offset).ok()?;
        is_bytes.then(|| text_array(place, offset, count))
    }

    /// Reads the memory at a place.
    pub(super) fn load(
        &self,
        expression: &Expression,
        expr: &Expr,
        place: &Lvalue,
    ) -> Result<Typed, Problems> {
        let btf = self.btf(expression, expr.span.clone())?;
        let id = btf.strip(place.type_id);
        let refuse = |message: String, hint: &str| {
            Err(self.problem(expression, expr.span.clone(), message, Some(hint.into())))
        };
        let shown = || btf.display(place.type_id);
        let too_far = || {
            let message = format!("`{expr}` is more than 2 GiB from where its pointer leads");
            refuse(message, "cast the address of something nearer")
        };
        let Ok(offset) = i32::try_from(place.offset) else { return too_far() };
        match btf.kind(id) {
            BtfKind::Int | BtfKind::Enum | BtfKind::Enum64 => {}
            BtfKind::Ptr => return Ok(load_pointer(btf, place, offset, id)),
            BtfKind::Array => {
                let (element, count) = btf.array(id);
                let element = btf.strip(element);
                if btf.kind(element) == BtfKind::Int && btf.size(element) == Some(1) {
                    // The compiler's name: `u8` is another one's, of bytes that may be anything.
                    if btf.name(element) == "char" {
                        if helper_access(&place.base.ty) == AccessMode::Packet {
                            return refuse(NO_TEXT.into(), BYTES);
                        }
                        return Ok(text_array(place, offset, count));
                    }
                    let hint = format!("index it, or write str({expr}) if it is a text that ends with a NUL");
                    return refuse(format!("`{}` are bytes, and no text", shown()), &hint);
                }
                return refuse(format!("`{}` is an array, not a value", shown()), "index it");
            }
            BtfKind::Struct | BtfKind::Union => {
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
        let Ok(offset) = i32::try_from(offset) else { return too_far() };
        let node = TypedKind::Load { base: Box::new(place.base.clone()), offset, size, access, bits };
        Ok(Typed { enumeration: btf.is_enumeration(id).then_some(id), ..Typed::new(node, ty) })
    }
}

/// The verifier's type for a load through a pointer that it tracks; `None` if it does not track the pointer or refuses the
/// load.
fn tracked_access(btf: &Btf, base: &Type, offset: i64, size: u32) -> Option<Access> {
    let Type::Pointer { to, access: AccessMode::Direct } = *base else { return None };
    let offset = u32::try_from(offset).ok().filter(|offset| i16::try_from(*offset).is_ok())?;
    direct_access(btf, to, offset, size)
}

/// The helper access for memory behind a pointer that no load instruction may read.
pub(super) fn helper_access(base: &Type) -> AccessMode {
    match base {
        Type::Pointer { access: AccessMode::Direct | AccessMode::Kernel, .. } => AccessMode::Kernel,
        Type::Pointer { access: AccessMode::Packet, .. } => AccessMode::Packet,
        Type::Pointer { access: AccessMode::Auto, .. }
        | Type::Int { .. }
        | Type::Text { .. }
        | Type::Bytes { .. }
        | Type::Stack { .. } => AccessMode::Auto,
    }
}

/// The access that loads a number of `size` bytes at `offset` of the target of `base`. A number that shares its place with a
/// pointer (a union) would be loaded as a pointer, and allow no arithmetic.
fn load_access(btf: &Btf, base: &Typed, offset: i64, size: u32) -> AccessMode {
    match tracked_access(btf, &base.ty, offset, size) {
        Some(Access::Scalar) => AccessMode::Direct,
        Some(Access::Pointer(_)) | None => helper_access(&base.ty),
    }
}

fn load_pointer(btf: &Btf, place: &Lvalue, offset: i32, id: TypeId) -> Typed {
    let declared = btf.target(id);
    let to = btf.strip(declared);
    // What the verifier sees there must be what was named, else its loads would be of another type; and
    // it tracks pointers to numbers too (6.17), of which a helper makes plain ones.
    let tracked = btf.kind(to).is_composite()
        && tracked_access(btf, &place.base.ty, place.offset, 8) == Some(Access::Pointer(to));
    let access = if tracked { AccessMode::Direct } else { helper_access(&place.base.ty) };
    let behind = if tracked {
        AccessMode::Direct
    } else if access == AccessMode::Packet || btf.kind(to).is_composite() && !btf.has_tag(declared, "user") {
        access
    } else {
        AccessMode::Auto
    };
    let node = TypedKind::Load { base: Box::new(place.base.clone()), offset, size: 8, access, bits: None };
    Typed::new(node, Type::Pointer { to, access: behind })
}

fn text_array(place: &Lvalue, offset: i32, count: u32) -> Typed {
    let limit = if count == 0 { TEXT_CAPACITY } else { count.min(MAX_TEXT) };
    let access = helper_access(&place.base.ty);
    let node = TypedKind::TextAt { base: Box::new(place.base.clone()), offset, access, limit };
    Typed::new(node, Type::text(limit))
}

/// The aligned word that contains a bitfield: byte offset, size, and shift from the low end.
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
