//! `tapster list fentry:PATTERN`, `kprobe:PATTERN`, `uprobe:BINARY:PATTERN` and their returns: functions of the kernel and of
//! programs, with what can be read at them.

use super::wanted::NameFilter;
use crate::{
    elf::{self, Binary, Name, Pattern},
    kernel::{Kernel, Missing},
};
use std::{collections::BTreeSet, fmt::Write, path::Path};
use tapster_ebpf::{
    attach::{self, Functions, Signature, left_out, signature},
    btf,
    diagnostic::near,
    glob::is_pattern,
    point::{AttachKind, Subject},
    probe::Root,
};

/// Above this number of functions, only names are shown: descriptions would hide them.
const MOST_DESCRIBED: usize = 500;

/// The functions of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FunctionQuery<'p> {
    /// Functions of the kernel: attach kind, and a pattern of names.
    Kernel(&'static AttachKind, &'p str),
    /// Functions of a program or library: attach kind, the binary, and a pattern of names.
    Program(&'static AttachKind, &'p str, &'p str),
}

/// The list, and notes about it.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) text: String,
    pub(super) notes: Vec<String>,
}

/// The request in a pattern, if it is about functions.
pub(super) fn asked(pattern: &str) -> Option<FunctionQuery<'_>> {
    let (kind, rest) = pattern.split_once(':').unwrap_or((pattern, "*"));
    let found = attach::kind(kind)?;
    Some(match found.subject {
        Subject::Function { .. } => FunctionQuery::Kernel(found, rest),
        Subject::UserFunction { .. } if pattern.contains(':') => {
            let (binary, wanted) = rest.split_once(':').unwrap_or((rest, "*"));
            FunctionQuery::Program(found, binary, wanted)
        }
        _ => return None,
    })
    // A letter alone is text to search for.
    .filter(|_| pattern.contains(':') || kind.len() > 2)
}

/// Lists functions of the kernel.
pub(super) fn of_kernel(
    kernel: &Kernel,
    kind: &'static AttachKind,
    wanted: &str,
) -> Result<Listing, Missing> {
    let is_traced = matches!(kind.subject, Subject::Function { traced: true, .. });
    let at_return = matches!(kind.subject, Subject::Function { at_return: true, .. });
    let kind = kind.name;
    let btf = kernel.btf.as_ref();
    let names: BTreeSet<&str> = if is_traced {
        let btf = btf.map_err(Clone::clone)?;
        btf.names(btf::BtfKind::Func).filter(|name| kernel.may_trace(name)).collect()
    } else {
        let names = kernel.function_names().ok_or_else(|| Missing {
            message: "the functions of this kernel are not known: `kallsyms` cannot be read".into(),
            hint: Some("procfs of the host must be mounted".into()),
        })?;
        // A function derived by the compiler may have other arguments.
        names.into_iter().filter(|name| !name.contains('.')).collect()
    };
    let pattern = NameFilter::new(wanted);
    let chosen: Vec<&str> = if names.contains(wanted) {
        vec![wanted]
    } else {
        names.iter().copied().filter(|name| pattern.means(name)).collect()
    };
    // A probe can only name such a function itself; patterns leave it out.
    let (chosen, untraced): (Vec<&str>, Vec<&str>) =
        chosen.into_iter().partition(|name| !pattern.is_pattern() || kernel.may_trace(name));
    let untraced = left_out("that cannot be traced", &untraced)
        .map(|left_out| format!("a pattern leaves out {left_out}, which a probe may name one by one"));
    if chosen.is_empty() {
        let nearest = || {
            let near = near(wanted, names.iter().copied(), 3);
            let near: Vec<String> = near.iter().map(|near| format!("`{kind}:{near}`")).collect();
            (!near.is_empty()).then(|| format!("did you mean {}?", near.join(" or ")))
        };
        return Err(Missing {
            message: format!("no function of this kernel that `{kind}` can take matches `{wanted}`"),
            hint: untraced.or_else(nearest),
        });
    }
    let mut listed = Listing::default();
    let is_described = chosen.len() <= MOST_DESCRIBED;
    for name in &chosen {
        let _ = writeln!(listed.text, "{kind}:{name}");
        if is_described {
            let known = btf.ok().and_then(|btf| signature(btf, name));
            describe(known.as_ref(), is_traced || !at_return, at_return, &mut listed.text);
        }
    }
    if !is_described {
        listed.notes.push(few(chosen.len()));
    }
    listed.notes.extend(untraced);
    // Functions are listed even if they cannot be attached to, and a note says why.
    let can = if is_traced { kernel.traced() } else { kernel.probing() };
    if let Err(Missing { message, hint }) = can {
        let hint = hint.map(|hint| format!(": {hint}")).unwrap_or_default();
        listed.notes.push(format!("probes at these do not come up here, as {message}{hint}"));
    }
    Ok(listed)
}

fn few(number: usize) -> String {
    format!(
        "{number} functions are shown without their arguments: a pattern of at most {MOST_DESCRIBED} shows them"
    )
}

/// Writes the arguments and the result that can be read at a function.
fn describe(known: Option<&Signature>, arguments: bool, result: bool, text: &mut String) {
    let Some(Signature { parameters, result: ctype }) = known else {
        if arguments {
            let _ = writeln!(text, "    u64 arg0 to arg5: the kernel's BTF does not know this function");
        }
        if result {
            let _ = writeln!(text, "    u64 retval");
        }
        return;
    };
    for (name, ctype) in parameters.iter().filter(|_| arguments) {
        let _ = writeln!(text, "    {ctype} args.{name}");
    }
    if let Some(ctype) = ctype.as_ref().filter(|_| result) {
        let _ = writeln!(text, "    {ctype} retval");
    }
}

/// Lists functions of a program or library. If a symbol differs from the name in the source, both are shown.
pub(super) fn of_program(
    proc: &Path,
    root: &Root,
    (kind, binary, wanted): (&'static AttachKind, &str, &str),
) -> Result<Listing, Missing> {
    let file = elf::read(Binary::open(proc, root, binary)?)?;
    if file.list.is_empty() {
        return Err(Missing {
            message: format!("`{}` has no symbols of functions", file.path.display()),
            hint: Some("install its debug symbols, or build it without `strip`".into()),
        });
    }
    // The names of each function, of which some may match.
    let named = |symbol: &String| (symbol.clone(), Name::new(symbol));
    let functions: Vec<Vec<(String, Name)>> = file
        .list
        .iter()
        .map(|function| [&function.name].into_iter().chain(&function.aliases).map(named).collect())
        .collect();
    let pattern = Pattern::new(wanted);
    let at_start: Vec<&str> =
        file.chosen.iter().filter(|name| Name::new(name).matches(&pattern)).map(String::as_str).collect();
    let exact = functions.iter().flatten().any(|(_, name)| name.matches(&pattern));
    let is_meant = |(_, name): &&(String, Name)| {
        if exact { name.matches(&pattern) } else { !is_pattern(wanted) && name.shown.contains(wanted) }
    };
    let mut found: Vec<&(String, Name)> =
        functions.iter().filter_map(|names| names.iter().find(is_meant)).collect();
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut listed = Listing::default();
    for (symbol, name) in found {
        let _ = writeln!(listed.text, "{}:{binary}:{symbol}", kind.name);
        if name.shown != *symbol {
            let _ = writeln!(listed.text, "    {}", name.shown);
        }
    }
    let at_start = chosen_at_start(&at_start, &file.path);
    if listed.text.is_empty() {
        if let Some(message) = at_start {
            return Err(Missing { message, hint: None });
        }
        let names = functions.iter().flatten().map(|(_, name)| name.shown.as_str());
        let near = near(wanted, names, 3);
        let near: Vec<String> = near.iter().map(|near| format!("`{near}`")).collect();
        return Err(Missing {
            message: format!("no function of `{}` matches `{wanted}`", file.path.display()),
            hint: (!near.is_empty()).then(|| format!("did you mean {}?", near.join(" or "))),
        });
    }
    listed.notes.extend(at_start);
    listed.notes.push(
        if kind.subject == (Subject::UserFunction { at_return: false }) {
            "`arg0` to `arg5` are arguments of these, numbers of 64 bits: programs do not tell their types"
        } else {
            "`retval` is the result of these, a number of 64 bits: programs do not tell its type"
        }
        .into(),
    );
    Ok(listed)
}

/// A note about names that stand for one of several functions: probes cannot use them.
fn chosen_at_start(names: &[&str], path: &Path) -> Option<String> {
    let (first, others) = names.split_first()?;
    let (more, are) = match others.len() {
        0 => (String::new(), "is"),
        1 => (" and another".to_owned(), "are"),
        number => (format!(" and {number} others"), "are"),
    };
    Some(format!(
        "`{first}`{more} of `{}` {are} chosen among several functions when a program starts: name the one that is chosen, \
         for example that of the widest registers",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_ask_for_functions() {
        let kind = |name| attach::kind(name).unwrap();
        for (pattern, expected) in [
            ("fentry:vfs_read", Some(FunctionQuery::Kernel(kind("fentry"), "vfs_read"))),
            ("fr:vfs_*", Some(FunctionQuery::Kernel(kind("fexit"), "vfs_*"))),
            ("kprobe", Some(FunctionQuery::Kernel(kind("kprobe"), "*"))),
            ("u:libc:malloc", Some(FunctionQuery::Program(kind("uprobe"), "libc", "malloc"))),
            ("uretprobe:/bin/x:a::b", Some(FunctionQuery::Program(kind("uretprobe"), "/bin/x", "a::b"))),
            ("uprobe:libc", Some(FunctionQuery::Program(kind("uprobe"), "libc", "*"))),
            ("uprobe", None),
            ("f", None),
            ("kr", None),
            ("vfs_read", None),
            ("tracepoint:sched:*", None),
        ] {
            assert_eq!(asked(pattern), expected, "{pattern}");
        }
    }

    #[test]
    fn names_that_are_chosen_at_the_start() {
        let path = Path::new("/lib/libc.so.6");
        assert_eq!(chosen_at_start(&[], path), None);
        for (names, beginning) in [
            (&["memcpy"][..], "`memcpy` of `/lib/libc.so.6` is chosen among"),
            (&["memchr", "memcpy"], "`memchr` and another of `/lib/libc.so.6` are chosen among"),
            (&["memchr", "memcmp", "memcpy"], "`memchr` and 2 others of `/lib/libc.so.6` are chosen among"),
        ] {
            let said = chosen_at_start(names, path).unwrap();
            assert!(said.starts_with(beginning), "{said}");
        }
    }
}
