//! `tracepoint:CATEGORY:NAME`: the record that the tracepoint writes, fields as in its format file.

use super::{Argument, ArgumentValue, Missing, Resolved, Target, no_tracepoint};
use crate::{
    btf::{Btf, Kind},
    tracefs::{Field, fields},
    typed::{AccessMode, Mechanism, Node, Type, Typed},
};

/// Bytes kept of a text whose length is not fixed.
const TEXT_CAPACITY: u32 = 64;
/// Fields that every tracepoint has; the words before offset 8 are not readable by programs.
const COMMON: &str = "common_";

pub(super) fn resolve(category: &str, name: &str, target: &Target<'_>) -> Result<Resolved, Missing> {
    let Some(format) = target.tracepoints.format(category, name) else {
        return Err(no_tracepoint("tracepoint", Some(category), name, target));
    };
    let arguments = fields(&format)
        .into_iter()
        .filter(|field| !field.name.starts_with(COMMON))
        .map(|field| Argument { value: value(&field, target.btf), ctype: ctype(&field), name: field.name })
        .collect();
    Ok(Resolved { mechanism: Mechanism::Tracepoint, arguments, untyped: false })
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
        if !field.ctype.contains("char") {
            return Err(format!("`{}` is a `{}`, and only texts can be read so", field.name, field.ctype));
        }
        let node = Node::TextLocated { offset, relative };
        return Ok(ArgumentValue::Value(Typed::new(node, Type::Text { capacity: TEXT_CAPACITY })));
    }
    let is_char = field.ctype.ends_with("char");
    if let Some(count) = field.elements {
        let element_size = size.checked_div(count).unwrap_or(0);
        if is_char && element_size == 1 {
            let capacity = size.min(256).next_multiple_of(8);
            return Ok(ArgumentValue::Value(Typed::new(
                Node::TextField { offset, size },
                Type::Text { capacity },
            )));
        }
        let element = integer(element_size, field.signed)
            .ok_or_else(|| format!("`{}` is an array of elements of {element_size} bytes", field.name))?;
        return Ok(ArgumentValue::Array { offset, element_size, element, count });
    }
    let ty = if field.ctype.ends_with('*') && size == 8 {
        Type::Pointer { to: pointee(&field.ctype, btf), access: AccessMode::Auto }
    } else {
        integer(size, field.signed)
            .ok_or_else(|| format!("`{}` is a `{}` of {size} bytes", field.name, field.ctype))?
    };
    if offset % size != 0 {
        return Err(format!(
            "`{}` stands at offset {offset}, which is not a multiple of its size",
            field.name
        ));
    }
    Ok(ArgumentValue::Value(Typed::new(Node::Field { offset, size }, ty)))
}

fn integer(size: u32, signed: bool) -> Option<Type> {
    let bits = u8::try_from(size * 8).ok()?;
    matches!(size, 1 | 2 | 4 | 8).then_some(Type::Int { bits, signed })
}

/// The type behind `const struct foo *`; 0 where it is not known.
fn pointee(ctype: &str, btf: Option<&Btf>) -> u32 {
    let Some(btf) = btf else { return 0 };
    let inner = ctype.trim_end_matches('*').replace("const ", "");
    let inner = inner.trim();
    if ctype.matches('*').count() > 1 {
        return 0;
    }
    if let Some(name) = inner.strip_prefix("struct ") {
        return btf.find(name.trim(), Kind::Struct).unwrap_or(0);
    }
    btf.find(inner, Kind::Int).or_else(|| btf.find(inner, Kind::Typedef)).unwrap_or(0)
}
