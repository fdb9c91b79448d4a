//! Casts, and names of types.

use super::{
    expression::number,
    scope::{Problems, Scope},
};
use crate::{
    btf::{BtfKind, TypeId},
    diagnostic::nearest,
    expr::{Expr, TypeKind, TypeName},
    probe::Expression,
    typed::{AccessMode, Type, Typed, TypedKind},
};
use std::ops::Range;

/// Built-in integer types: name, bits, whether signed.
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

impl Scope<'_> {
    pub(super) fn cast(
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
                    _ => self.memory(),
                };
                let ty = Type::Pointer { to, access };
                // A node's type says how its value is cut: that of a number stays below the cast.
                if matches!(operand.ty, Type::Int { .. }) {
                    return Ok(Typed::new(TypedKind::Cast(Box::new(operand)), ty));
                }
                // The verifier knows the old type: only helpers may read what the new one says.
                Ok(Typed { ty, ..operand })
            }
            ty => {
                let operand = number(operand);
                let is_time = operand.is_time;
                let enumeration = self.enumeration_named(name);
                Ok(Typed { is_time, enumeration, ..Typed::new(TypedKind::Cast(Box::new(operand)), ty) })
            }
        }
    }

    /// The enumeration that a type's name means.
    fn enumeration_named(&self, name: &TypeName) -> Option<TypeId> {
        let may_be = name.pointers == 0 && matches!(name.kind, TypeKind::Enum | TypeKind::Plain);
        self.target.btf.filter(|_| may_be)?.enumeration(&name.name)
    }

    pub(super) fn type_named(
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
        let is_void = name.kind == TypeKind::Plain && name.name == "void" && name.pointers > 0;
        if is_void && name.pointers == 1 {
            return Ok(Type::Pointer { to: 0, access: AccessMode::Auto });
        }
        let btf = self.btf(expression, span.clone())?;
        let found = match (name.kind, builtin) {
            _ if is_void => Some(0),
            (TypeKind::Struct, _) => btf.find(&name.name, BtfKind::Struct),
            (TypeKind::Union, _) => btf.find(&name.name, BtfKind::Union),
            (TypeKind::Enum, _) => {
                btf.find(&name.name, BtfKind::Enum).or_else(|| btf.find(&name.name, BtfKind::Enum64))
            }
            // Any integer type of that width and sign will do as what a pointer points to.
            (TypeKind::Plain, Some((_, bits, signed))) => btf.ids().find(|id| {
                btf.kind(*id) == BtfKind::Int
                    && btf.size(*id) == Some(u32::from(*bits) / 8)
                    && btf.is_signed(*id) == *signed
                    && btf.int_bits(*id) == u32::from(*bits)
            }),
            (TypeKind::Plain, None) => {
                btf.find(&name.name, BtfKind::Typedef).or_else(|| btf.find(&name.name, BtfKind::Int))
            }
        };
        let Some(id) = found.map(|id| btf.strip(id)) else {
            let kind = match name.kind {
                TypeKind::Struct => BtfKind::Struct,
                TypeKind::Union => BtfKind::Union,
                TypeKind::Enum => BtfKind::Enum,
                TypeKind::Plain => BtfKind::Typedef,
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
                (BtfKind::Int | BtfKind::Enum | BtfKind::Enum64, Some(size @ (1 | 2 | 4 | 8))) => {
                    Ok(Type::integer(size, btf.is_signed(id)).unwrap_or(Type::U64))
                }
                (BtfKind::Ptr, _) => {
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
            // A pointer to a pointer.
            pointers => match btf.pointer(id, u32::from(pointers) - 1) {
                Some(to) => Ok(Type::Pointer { to, access: AccessMode::Auto }),
                None => {
                    let last = TypeName { pointers: pointers - 1, ..name.clone() };
                    let hint = format!("go through one pointer at a time: ({last})*(u64 *)value");
                    let message = format!("this kernel has no type `{name}`");
                    Err(self.missing(expression, span, message, Some(hint)))
                }
            },
        }
    }
}
