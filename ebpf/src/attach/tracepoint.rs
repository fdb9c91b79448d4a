//! `tracepoint:CATEGORY:NAME`: the record that the tracepoint writes, with the fields of its format file.

use super::{
    Argument, ArgumentValue, Description, Missing, Resolved, Target, names, never_untracked, no_tracepoint,
};
use crate::{
    btf::{self, Btf, TypeId},
    point::{AttachKind, AttachPoint, FunctionCount, LinkKind, Mechanism, ProgramSection, Subject},
    tracefs::{Field, fields},
    typed::{AccessMode, Type, Typed, TypedKind},
};

/// Bytes that are kept of a text without a fixed length.
const TEXT_CAPACITY: u32 = 64;
/// Fields that every tracepoint has; programs cannot read the words before offset 8.
const COMMON: &str = "common_";

const MECHANISM: Mechanism =
    Mechanism::new("tracepoint", ProgramSection::Full("tracepoint"), LinkKind::Tracepoint);

pub(super) static TRACEPOINT: Description = Description {
    kind: AttachKind {
        name: "tracepoint",
        short: "t",
        form: "tracepoint:CATEGORY:NAME",
        subject: Subject::Tracepoint,
        several: FunctionCount::Never,
        mechanisms: &[MECHANISM],
    },
    parse: |text| names(text, &[2]),
    resolve: |at, _, target| resolve(at, target).map(|resolved| vec![resolved]),
    untracked: never_untracked,
};

/// The attach point of a tracepoint that the kernel lists.
pub fn point(category: &str, name: &str) -> AttachPoint {
    AttachPoint::new(&TRACEPOINT.kind, vec![category.into(), name.into()])
}

fn resolve(at: &AttachPoint, target: &Target<'_>) -> Result<Resolved, Missing> {
    let (category, name) = (at.category().expect("a tracepoint has a category"), at.name());
    let Some(format) = target.tracepoints.format(category, name) else {
        return Err(no_tracepoint("tracepoint", Some(category), name, target));
    };
    let arguments = fields(&format)
        .into_iter()
        .filter(|field| !field.name.starts_with(COMMON))
        .map(|field| Argument { value: value(&field, target.btf), ctype: ctype(&field), name: field.name })
        .collect();
    Ok(Resolved::event(MECHANISM, arguments))
}

fn ctype(field: &Field) -> String {
    match field.elements {
        Some(count) => format!("{}[{count}]", field.ctype),
        None => field.ctype.clone(),
    }
}

fn value(field: &Field, btf: Option<&Btf>) -> Result<ArgumentValue, String> {
    let Field { offset, size, .. } = *field;
    if let Some(relative) = field.located() {
        if !is_char(&field.ctype) {
            return Err(format!("it is a `{}`, and only texts (`char[]`) can be read so", field.ctype));
        }
        let node = TypedKind::TextLocated { offset, relative };
        return Ok(ArgumentValue::Value(Typed::new(node, Type::Text { capacity: TEXT_CAPACITY })));
    }
    if let Some(count) = field.elements {
        let element_size = size.checked_div(count).unwrap_or(0);
        if is_char(&field.ctype) && element_size == 1 {
            let ty = Type::text(size.min(256));
            return Ok(ArgumentValue::Value(Typed::new(TypedKind::TextField { offset, size }, ty)));
        }
        let element = Type::integer(element_size, field.signed)
            .ok_or_else(|| format!("`{}` is an array of elements of {element_size} bytes", field.name))?;
        return Ok(ArgumentValue::Array { offset, element_size, element, count });
    }
    let ty = if field.ctype.ends_with('*') && size == 8 {
        Type::Pointer { to: pointee(&field.ctype, btf), access: AccessMode::Auto }
    } else {
        Type::integer(size, field.signed)
            .ok_or_else(|| format!("`{}` is a `{}` of {size} bytes", field.name, field.ctype))?
    };
    if offset % size != 0 {
        return Err(format!(
            "`{}` stands at offset {offset}, which is not a multiple of its size",
            field.name
        ));
    }
    let field_value = Typed::new(TypedKind::Field { offset, size }, ty);
    // Records of system calls keep every argument in a word, whose upper half may hold anything.
    let value = match declared(&field.ctype, btf) {
        Some((bytes, signed)) if bytes < size => {
            let ty = Type::integer(bytes, signed).unwrap_or(Type::U64);
            Typed::new(TypedKind::Cast(Box::new(field_value)), ty)
        }
        _ => field_value,
    };
    let enumeration = btf.and_then(|btf| enumeration(&field.ctype, btf));
    Ok(ArgumentValue::Value(Typed { enumeration, ..value }))
}

/// The enumeration that a field is declared as.
fn enumeration(ctype: &str, btf: &Btf) -> Option<TypeId> {
    let name = ctype.trim_start_matches("const ").trim();
    let found = match name.strip_prefix("enum ") {
        Some(name) => btf.find(name, btf::BtfKind::Enum).or_else(|| btf.find(name, btf::BtfKind::Enum64)),
        None => btf.find(name, btf::BtfKind::Typedef).map(|id| btf.strip(id)),
    };
    found.filter(|id| btf.is_enumeration(*id))
}

/// Whether the elements of an array are characters of a text. Elements of `unsigned char` or `u8` may be any bytes.
fn is_char(ctype: &str) -> bool {
    let element = ctype.trim_start_matches("__data_loc ").trim_start_matches("__rel_loc ");
    element.trim_end_matches("[]").trim_start_matches("const ").trim() == "char"
}

/// Size in bytes and sign of an integer type narrower than a word, by its name.
fn declared(ctype: &str, btf: Option<&Btf>) -> Option<(u32, bool)> {
    let name = ctype.trim_start_matches("const ").trim();
    match name {
        "int" => return Some((4, true)),
        "unsigned" | "unsigned int" => return Some((4, false)),
        _ => {}
    }
    let btf = btf?;
    let id = match name.strip_prefix("enum ") {
        Some(name) => btf.find(name, btf::BtfKind::Enum)?,
        None => {
            btf.strip(btf.find(name, btf::BtfKind::Typedef).or_else(|| btf.find(name, btf::BtfKind::Int))?)
        }
    };
    if !matches!(btf.kind(id), btf::BtfKind::Int | btf::BtfKind::Enum) {
        return None;
    }
    let bytes = btf.size(id).filter(|bytes| matches!(bytes, 1 | 2 | 4))?;
    Some((bytes, btf.is_signed(id)))
}

/// The type that `const struct foo *` points to; 0 if it is unknown.
fn pointee(ctype: &str, btf: Option<&Btf>) -> u32 {
    let Some(btf) = btf else { return 0 };
    let inner = ctype.trim_end_matches('*').replace("const ", "");
    let inner = inner.trim();
    if ctype.matches('*').count() > 1 {
        return 0;
    }
    if let Some(name) = inner.strip_prefix("struct ") {
        return btf.find(name.trim(), btf::BtfKind::Struct).unwrap_or(0);
    }
    btf.find(inner, btf::BtfKind::Int).or_else(|| btf.find(inner, btf::BtfKind::Typedef)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_of_char() {
        for text in ["char", "const char", "__data_loc char[]", "__rel_loc char[]", "__data_loc const char[]"]
        {
            assert!(is_char(text), "{text}");
        }
        for bytes in
            ["u8", "__u8", "unsigned char", "signed char", "__data_loc u8[]", "__data_loc unsigned char[]"]
        {
            assert!(!is_char(bytes), "{bytes}");
        }
    }

    #[test]
    fn arguments_of_system_calls_are_as_wide_as_declared() {
        let field = |ctype: &str, size| Field {
            name: "x".into(),
            ctype: ctype.into(),
            offset: 16,
            size,
            signed: false,
            elements: None,
        };
        for (ctype, size, bits, signed) in [
            ("int", 8, 32, true),
            ("const int", 8, 32, true),
            ("unsigned int", 8, 32, false),
            ("unsigned", 8, 32, false),
            ("size_t", 8, 64, false),
            ("int", 4, 32, false),
        ] {
            let Ok(ArgumentValue::Value(typed)) = value(&field(ctype, size), None) else { panic!("{ctype}") };
            assert_eq!(typed.ty, Type::Int { bits, signed }, "{ctype} of {size} bytes");
            assert_eq!(
                matches!(typed.kind, TypedKind::Cast(_)),
                bits < 64 && size == 8,
                "{ctype} of {size} bytes"
            );
        }
    }
}
