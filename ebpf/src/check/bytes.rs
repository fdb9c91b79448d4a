//! `bytes`: values that are neither numbers nor texts, such as an IPv6 address or a UUID.

use super::{
    lvalue::helper_access,
    scope::{Operand, Problems, Scope},
};
use crate::{
    btf::BtfKind,
    expr::Expr,
    probe::Expression,
    typed::{AccessMode, Type, Typed, TypedKind},
};

/// Most bytes of a value.
const MAX_BYTES: u32 = 64;

impl Scope<'_> {
    /// `bytes(FIELD)` is a whole array or struct; `bytes(FIELD, SIZE)` its beginning; `bytes(POINTER, SIZE)` the bytes at an
    /// address.
    pub(super) fn bytes_of(
        &self,
        expression: &Expression,
        call: &Expr,
        from: &Expr,
        size: Option<&Expr>,
    ) -> Result<Typed, Problems> {
        let problem = |message: String, hint: Option<&str>| {
            self.problem(expression, call.span.clone(), message, hint.map(str::to_owned))
        };
        let size = size.map(|size| self.bytes_size(expression, size)).transpose()?;
        let (base, offset, access, whole) = match self.operand(expression, from)? {
            Operand::Array { offset, element_size, count, .. } => {
                let context = Typed::new(TypedKind::Context, Type::U64);
                (context, i64::from(offset), AccessMode::Kernel, element_size.checked_mul(count))
            }
            Operand::Lvalue(place) if self.is_whole(place.type_id) => {
                let whole = self.target.btf.and_then(|btf| btf.size(place.type_id));
                let access = helper_access(&place.base.ty);
                (place.base, place.offset, access, whole)
            }
            Operand::Lvalue(place) => (self.load(expression, from, &place)?, 0, AccessMode::Auto, None),
            Operand::Value(value) => (value, 0, AccessMode::Auto, None),
        };
        // A number that was loaded or computed is the address.
        let (access, whole) = match (whole, &base) {
            (Some(whole), _) => (access, Some(whole).filter(|whole| *whole > 0)),
            (None, Typed { ty: ty @ Type::Pointer { .. }, .. }) => (helper_access(ty), None),
            (None, _) => {
                let message = "`bytes` takes an array or a struct, or a pointer and a size".to_owned();
                return Err(problem(message, Some("bytes(args.field), bytes(pointer, 16)")));
            }
        };
        let size = match (size, whole) {
            (Some(size), Some(whole)) if size > whole => {
                return Err(problem(format!("there are only {whole} bytes"), None));
            }
            (Some(size), _) => size,
            (None, Some(whole)) if whole <= MAX_BYTES => whole,
            (None, Some(whole)) => {
                let hint = format!("write how many of them, at most {MAX_BYTES}");
                return Err(problem(format!("there are {whole} bytes"), Some(&hint)));
            }
            (None, None) => {
                return Err(problem("how many bytes is not known".into(), Some("bytes(pointer, 16)")));
            }
        };
        let Ok(offset) = i32::try_from(offset) else {
            return Err(problem("the offset is too large".into(), None));
        };
        Ok(Typed::new(
            TypedKind::BytesAt { base: Box::new(base), offset, access, size },
            Type::Bytes { size },
        ))
    }

    /// Whether a field of this type is taken as a whole, and not as the address of the bytes.
    fn is_whole(&self, type_id: crate::btf::TypeId) -> bool {
        let Some(btf) = self.target.btf else { return false };
        let kind = btf.kind(btf.strip(type_id));
        kind == BtfKind::Array || kind.is_composite()
    }

    fn bytes_size(&self, expression: &Expression, size: &Expr) -> Result<u32, Problems> {
        let constant = match self.value(expression, size)?.kind {
            TypedKind::Constant(value) => u32::try_from(value).ok(),
            _ => None,
        };
        constant.filter(|size| (1..=MAX_BYTES).contains(size)).ok_or_else(|| {
            let message = format!("the number of bytes must be a constant from 1 to {MAX_BYTES}");
            self.problem(expression, size.span.clone(), message, None)
        })
    }
}
