//! `tracepoint:CATEGORY:NAME`: the record that the tracepoint writes, with the fields of its format file; one tracepoint, or all
//! that a pattern matches.

use super::{
    Argument, ArgumentValue, Description, Missing, Parsed, Place, ResolveOptions, Resolved, Site, Sites,
    Target, is_name_or_pattern, left_out, never_untracked, no_tracepoint,
};
use crate::{
    btf::{Btf, BtfKind, TypeId},
    glob::is_pattern,
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
        several: FunctionCount::Pattern,
        mechanisms: &[MECHANISM],
    },
    parse,
    resolve,
    untracked: never_untracked,
};

/// The attach point of a tracepoint that the kernel lists.
pub fn point(category: &str, name: &str) -> AttachPoint {
    AttachPoint::new(&TRACEPOINT.kind, vec![category.into(), name.into()])
}

/// Parses a category and a name, or patterns of them.
fn parse(text: &str) -> Parsed {
    let parts: Vec<&str> = text.split(':').collect();
    (parts.len() == 2 && parts.iter().all(|part| is_name_or_pattern(part)))
        .then(|| Ok(parts.into_iter().map(str::to_owned).collect()))
}

fn resolve(at: &AttachPoint, options: ResolveOptions, target: &Target<'_>) -> Result<Vec<Resolved>, Missing> {
    let (category, name) = (at.category().expect("a tracepoint has a category"), at.name());
    if !at.may_be_several() {
        return Ok(vec![one(category, name, name.to_owned(), target)?]);
    }
    let matching = target.tracepoints.matching(category, name)?;
    if matching.is_empty() {
        let hint = if target.tracepoints.all().is_empty() {
            "tracefs cannot be read: run as root, or mount it: mount -t tracefs tracefs /sys/kernel/tracing"
                .into()
        } else {
            format!("`tapster list '{at}'` shows what a pattern matches, `tapster list` what there is")
        };
        return Err(Missing {
            message: format!("this kernel has no tracepoint that `{at}` matches"),
            hint: Some(hint),
        });
    }
    let most = options.most;
    if u32::try_from(matching.len()).map_or(true, |count| count > most) {
        let count = matching.len();
        return Err(Missing {
            message: format!("{count} tracepoints match `{at}`, and {most} are taken at most"),
            hint: Some(format!(
                "narrow the pattern, or set `max_functions: {count}` beside the probe's name"
            )),
        });
    }
    let (mut programs, mut unreadable) = (Vec::new(), Vec::new());
    for (found, name) in &matching {
        // Of several categories a name may be that of two.
        let shown = if is_pattern(category) { format!("{found}:{name}") } else { name.clone() };
        match one(found, name, shown, target) {
            Ok(resolved) => programs.push(resolved),
            Err(missing) => unreadable.push((name.as_str(), missing)),
        }
    }
    let Some(first) = programs.first_mut() else {
        return Err(unreadable.swap_remove(0).1);
    };
    let names: Vec<&str> = unreadable.iter().map(|(name, _)| *name).collect();
    first.sites.left_out.extend(left_out("whose format cannot be read", &names));
    Ok(programs)
}

fn one(category: &str, name: &str, shown: String, target: &Target<'_>) -> Result<Resolved, Missing> {
    let Some(format) = target.tracepoints.format(category, name) else {
        return Err(no_tracepoint("tracepoint", Some(category), name, target));
    };
    let arguments = fields(&format)
        .into_iter()
        .filter(|field| !field.name.starts_with(COMMON))
        .map(|field| Argument { value: value(&field, target.btf), ctype: ctype(&field), name: field.name })
        .collect();
    let place = Place::Tracepoint { category: category.to_owned(), name: name.to_owned() };
    let sites = Sites { list: vec![Site::new(shown, place)], ..Sites::default() };
    Ok(Resolved { sites, ..Resolved::event(MECHANISM, arguments) })
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
    let ty = if field.ctype.contains('*') && size == 8 {
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
    btf.enumeration(name.strip_prefix("enum ").unwrap_or(name))
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
        Some(name) => btf.find(name, BtfKind::Enum)?,
        None => btf.strip(btf.find(name, BtfKind::Typedef).or_else(|| btf.find(name, BtfKind::Int))?),
    };
    if !matches!(btf.kind(id), BtfKind::Int | BtfKind::Enum) {
        return None;
    }
    let bytes = btf.size(id).filter(|bytes| matches!(bytes, 1 | 2 | 4))?;
    Some((bytes, btf.is_signed(id)))
}

/// Integers by their names in C, of which BTF has other spellings: size in bytes and sign.
const INTEGERS: [(&str, u32, bool); 8] = [
    ("unsigned", 4, false),
    ("unsigned int", 4, false),
    ("int", 4, true),
    ("unsigned long", 8, false),
    ("long", 8, true),
    ("unsigned short", 2, false),
    ("short", 2, true),
    ("unsigned char", 1, false),
];
/// Words that qualify a type without changing what is read.
const QUALIFIERS: [&str; 8] =
    ["const", "volatile", "restrict", "__user", "__rcu", "__iomem", "__percpu", "__seg_gs"];

/// The type that `const struct foo *` or `const char *const *` points to; 0 if it is unknown.
fn pointee(ctype: &str, btf: Option<&Btf>) -> TypeId {
    let Some(btf) = btf else { return 0 };
    let pointers = u32::try_from(ctype.matches('*').count()).unwrap_or(u32::MAX);
    let inner = ctype.replace('*', " ");
    let words: Vec<&str> = inner.split_whitespace().filter(|word| !QUALIFIERS.contains(word)).collect();
    let id = match words.as_slice() {
        ["struct", name] => btf.find(name, BtfKind::Struct),
        ["union", name] => btf.find(name, BtfKind::Union),
        ["enum", name] => btf.find(name, BtfKind::Enum).or_else(|| btf.find(name, BtfKind::Enum64)),
        ["void"] => Some(0),
        words => {
            let name = words.join(" ");
            let by_size = |(_, size, signed): &(&str, u32, bool)| {
                btf.ids().find(|id| {
                    btf.kind(*id) == BtfKind::Int
                        && btf.size(*id) == Some(*size)
                        && btf.is_signed(*id) == *signed
                })
            };
            let known = || INTEGERS.iter().find(|(known, ..)| *known == name).and_then(by_size);
            btf.find(&name, BtfKind::Int).or_else(known).or_else(|| btf.find(&name, BtfKind::Typedef))
        }
    };
    match (id, pointers) {
        (Some(id), 1) => id,
        (Some(id), _) => btf.pointer(id, pointers - 1).unwrap_or(0),
        (None, _) => 0,
    }
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
