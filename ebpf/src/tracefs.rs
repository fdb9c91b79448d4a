//! Parser of a tracepoint's format file, which lists the fields of its context.
//!
//! Source: `Documentation/trace/events.rst`, and `kernel/trace/trace_events.c` for the exact form.

use crate::{glob::Glob, missing::Missing};
use std::collections::BTreeSet;

/// Questions of the compiler about the tracepoints of a kernel.
pub trait Tracepoints {
    /// The format file of a tracepoint, if it exists and can be read.
    fn format(&self, category: &str, name: &str) -> Option<String>;
    /// Whether a tracepoint exists, whatever is known of its fields.
    fn exists(&self, category: &str, name: &str) -> bool {
        self.format(category, name).is_some()
    }
    /// Why it is not known whether there is a tracepoint, or which fields it has; `None` if that is known, or if there is no such
    /// tracepoint. The category is empty where none is given.
    fn unreadable(&self, _category: &str, _name: &str) -> Option<Missing> {
        None
    }
    /// All tracepoints as `(category, name)`.
    fn all(&self) -> Vec<(String, String)>;
    /// The tracepoints that a pattern of categories and one of names match, each once and in order; an error if they are not known.
    fn matching(&self, category: &str, name: &str) -> Result<BTreeSet<(String, String)>, Missing> {
        let (categories, names) = (Glob::new(category), Glob::new(name));
        let all = self.all().into_iter();
        Ok(all.filter(|(category, name)| categories.matches(category) && names.matches(name)).collect())
    }
}

/// A field of a tracepoint's context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type as C writes it, without array length.
    pub ctype: String,
    /// Byte offset in the context.
    pub offset: u32,
    /// Size, bytes.
    pub size: u32,
    /// Whether an integer is signed.
    pub signed: bool,
    /// Number of elements of an array; `None` for other fields.
    pub elements: Option<u32>,
}

impl Field {
    /// Whether the field contains the place of its data (`__data_loc`, `__rel_loc`) instead of the data.
    pub fn located(&self) -> Option<bool> {
        if self.ctype.starts_with("__data_loc ") {
            Some(false)
        } else if self.ctype.starts_with("__rel_loc ") {
            Some(true)
        } else {
            None
        }
    }
}

/// Parses a format file; lines that are not fields are ignored.
pub fn fields(format: &str) -> Vec<Field> {
    format.lines().filter_map(field).collect()
}

fn field(line: &str) -> Option<Field> {
    let mut parts = line.trim().strip_prefix("field:")?.split(';').map(str::trim);
    let declaration = parts.next()?;
    let mut offset = None;
    let mut size = None;
    let mut signed = false;
    for part in parts {
        match part.split_once(':') {
            Some(("offset", value)) => offset = value.parse().ok(),
            Some(("size", value)) => size = value.parse().ok(),
            Some(("signed", value)) => signed = value == "1",
            _ => {}
        }
    }
    let size = size?;
    let (declaration, elements) = match declaration.strip_suffix(']').and_then(|rest| rest.rsplit_once('[')) {
        // `char comm[TASK_COMM_LEN]` in old kernels: the length is not a number there. One byte each.
        Some((rest, count)) => (rest, Some(count.parse().unwrap_or(size))),
        None => (declaration, None),
    };
    let split = declaration.rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_')? + 1;
    let (ctype, name) = declaration.split_at(split);
    Some(Field {
        name: name.to_owned(),
        ctype: ctype.trim().to_owned(),
        offset: offset?,
        size,
        signed,
        elements,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_form_of_field() {
        let format = "name: x\nID: 1\nformat:\n\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n\
            \tfield:char comm[16];\toffset:8;\tsize:16;\tsigned:0;\n\
            \tfield:__data_loc char[] name;\toffset:24;\tsize:4;\tsigned:0;\n\
            \tfield:const void * ptr;\toffset:32;\tsize:8;\tsigned:0;\n\
            \tfield:unsigned long args[6];\toffset:40;\tsize:48;\tsigned:0;\n\
            \tfield:char comm2[TASK_COMM_LEN];\toffset:88;\tsize:16;\tsigned:0;\n\
            \tfield:pid_t pid;\toffset:104;\tsize:4;\tsigned:1;\n\nprint fmt: \"\"\n";
        let found = fields(format);
        let shown: Vec<_> = found
            .iter()
            .map(|f| (f.name.as_str(), f.ctype.as_str(), f.offset, f.size, f.signed, f.elements))
            .collect();
        assert_eq!(
            shown,
            [
                ("common_type", "unsigned short", 0, 2, false, None),
                ("comm", "char", 8, 16, false, Some(16)),
                ("name", "__data_loc char[]", 24, 4, false, None),
                ("ptr", "const void *", 32, 8, false, None),
                ("args", "unsigned long", 40, 48, false, Some(6)),
                ("comm2", "char", 88, 16, false, Some(16)),
                ("pid", "pid_t", 104, 4, true, None),
            ]
        );
        assert_eq!(found[2].located(), Some(false));
    }
}
