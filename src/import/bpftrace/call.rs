//! Calls of a script's functions → expressions of a probe.

use super::{
    said::{Kept, MAX_TEXT, SAME, SaidTerm, SayingScope, Unsaid, literal},
    script::{Term, TermKind, flat_keys},
};

/// Where a host has its cgroups of version 2: alone, or beside those of version 1.
const CGROUP_MOUNTS: [&str; 2] = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
/// Registers of the first arguments of a function, on x86-64 and arm64.
const ARGUMENT_REGISTERS: [[&str; 6]; 2] =
    [["di", "si", "dx", "cx", "r8", "r9"], ["r0", "r1", "r2", "r3", "r4", "r5"]];

impl SayingScope<'_> {
    /// `strncmp(a, b, n)`, compared with 0.
    pub(super) fn prefix(&mut self, term: &Term, sign: &str) -> Result<Option<SaidTerm>, Unsaid> {
        let Some((function @ ("strncmp" | "strcmp"), [a, b, rest @ ..])) = term.as_call() else {
            return Ok(None);
        };
        let length = rest.first().and_then(Term::as_number);
        let cut = |said: SaidTerm, term: &Term| match (length, &term.kind) {
            (Some(length), TermKind::Text(text)) => {
                let length = usize::try_from(length).unwrap_or(MAX_TEXT);
                literal(&text.chars().take(length).collect::<String>())
            }
            (Some(length), _) => format!("str({}, {})", said.text, (length + 1).clamp(2, 256)),
            (None, _) => said.within(6),
        };
        if function == "strncmp" && length.is_none() {
            let text = "the length of `strncmp` must be a number".to_owned();
            return Err(Unsaid { span: term.span.clone(), text });
        }
        let (first, second) = (self.value(a)?, self.value(b)?);
        let (first, second) = (cut(first, a), cut(second, b));
        Ok(Some(SaidTerm::new(7, format!("{first} {sign} {second}"))))
    }

    pub(super) fn call(&mut self, name: &str, arguments: &[Term], term: &Term) -> Result<SaidTerm, Unsaid> {
        let unsaid = |text: String| Err(Unsaid { span: term.span.clone(), text });
        match (name, arguments) {
            // Newer spellings of builtins.
            (name, []) if SAME.contains(&name) || matches!(name, "ppid" | "pcomm" | "probe") => {
                self.word(name, term)
            }
            ("nsecs", _) => Ok(SaidTerm::new(1, "nsecs")),
            ("pid" | "tid" | "ppid", [_]) => self.word(name, term),
            ("str", [text]) => {
                let text = self.value(text)?.text;
                Ok(SaidTerm::new(1, format!("str({text})")))
            }
            ("str", [text, length]) => {
                let Some(length) = length.as_number() else {
                    return unsaid("the length of a text must be a number".into());
                };
                let text = self.value(text)?.text;
                Ok(SaidTerm::new(1, format!("str({text}, {})", length.clamp(2, 256))))
            }
            ("kstack" | "ustack", _) => {
                let frames = arguments.iter().find_map(Term::as_number).map(|frames| frames.clamp(1, 127));
                Ok(SaidTerm::new(
                    1,
                    frames.map_or_else(|| name.to_owned(), |frames| format!("{name}({frames})")),
                ))
            }
            ("kptr" | "uptr", [pointer]) => self.value(pointer),
            ("min" | "max", [a, b]) => {
                let (a, b) = (self.value(a)?.text, self.value(b)?.text);
                Ok(SaidTerm::new(1, format!("{name}({a}, {b})")))
            }
            ("strncmp" | "strcmp", _) => match self.prefix(term, "!=")? {
                Some(said) => Ok(said),
                None => unsaid(format!("`{name}` compares two texts")),
            },
            ("bswap", [number]) => match width(number) {
                Some(function) => {
                    let number = self.value(number)?.text;
                    Ok(SaidTerm::new(1, format!("{function}({number})")))
                }
                None => unsaid("how wide the number of `bswap` is, the script does not tell".into()),
            },
            ("strcontains", [text, part]) => match &part.kind {
                TermKind::Text(part) => {
                    let text = self.value(text)?.text;
                    Ok(SaidTerm::new(1, format!("contains({text}, {})", literal(part))))
                }
                _ => unsaid("what `strcontains` looks for must be a text in quotes".into()),
            },
            ("join", [words, ..]) => {
                let words = self.value(words)?.text;
                Ok(SaidTerm::new(1, format!("argv({words}, 128)")))
            }
            ("reg", [register]) => {
                let place = match &register.kind {
                    TermKind::Text(name) => {
                        ARGUMENT_REGISTERS.iter().find_map(|all| all.iter().position(|one| one == name))
                    }
                    _ => None,
                };
                // At the return they hold other things.
                let is_entry = self.point.is_some_and(|point| {
                    ["kprobe:", "uprobe:"].iter().any(|kind| point.at.starts_with(kind))
                });
                match place.filter(|_| is_entry) {
                    Some(place) => Ok(SaidTerm::new(1, format!("arg{place}"))),
                    None => unsaid(
                        "registers other than those of arguments at the entry of a function are not read"
                            .into(),
                    ),
                }
            }
            ("has_key", [map, keys @ ..]) if map.as_map().is_some() => {
                let (name, own) = map.as_map().unwrap_or_default();
                // An end has its start, whatever that kept.
                if matches!(self.kept.get(name), Some(Kept::Time | Kept::Value { .. })) {
                    return Ok(SaidTerm::new(1, "1"));
                }
                let (is_text, may_be_nothing) = match self.kept.get(name) {
                    Some(Kept::State(state)) => (state.is_text, state.may_be_nothing),
                    _ => (false, false),
                };
                if may_be_nothing {
                    return unsaid(format!(
                        "whether `@{name}` has a key is not told from a value of 0: compare the value"
                    ));
                }
                let said = self.map(name, &flat_keys(&[own, keys].concat()), term)?;
                Ok(if is_text { SaidTerm::new(7, format!("{} != \"\"", said.text)) } else { said })
            }
            ("kaddr", [variable]) => self.variable("kaddr", variable, None),
            ("percpu_kaddr", [variable]) => self.variable("percpu", variable, None),
            ("percpu_kaddr", [variable, cpu]) => self.variable("percpu", variable, Some(cpu)),
            ("uaddr", _) => unsaid("`uaddr`: variables of programs have no counterpart".into()),
            _ => unsaid(format!("`{name}()` has no counterpart")),
        }
    }

    /// `kaddr("x")`, `percpu_kaddr("x", cpu)`.
    fn variable(&mut self, function: &str, name: &Term, cpu: Option<&Term>) -> Result<SaidTerm, Unsaid> {
        let TermKind::Text(symbol) = &name.kind else {
            let text = "the name of a variable must be a text in quotes".to_owned();
            return Err(Unsaid { span: name.span.clone(), text });
        };
        let is_word = symbol.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let symbol = if is_word { symbol.clone() } else { literal(symbol) };
        let cpu = match cpu {
            Some(cpu) => format!(", {}", self.value(cpu)?.text),
            None => String::new(),
        };
        Ok(SaidTerm::new(1, format!("{function}({symbol}{cpu})")))
    }
}

/// `cgroup == cgroupid("/sys/fs/cgroup/x")`: this cgroup, without those below it.
pub(super) fn cgroup(sign: &str, a: &Term, b: &Term) -> Result<SaidTerm, Unsaid> {
    let unsaid = |text: &str| Err(Unsaid { span: a.span.clone(), text: text.to_owned() });
    let (path, other) = match (cgroup_id(a), cgroup_id(b)) {
        (Some(path), None) => (path, b),
        (None, Some(path)) => (path, a),
        _ => return unsaid("two cgroups of the script are compared, and no cgroup of an event"),
    };
    if !other.is_name("cgroup") {
        return unsaid("`cgroupid` is compared with `cgroup` alone");
    }
    let inner = CGROUP_MOUNTS.iter().find_map(|mount| path.strip_prefix(mount));
    let inner = inner.map(|path| path.trim_end_matches('/')).filter(|path| path.starts_with('/'));
    let Some(inner) = inner.filter(|path| !path.contains(['*', '?', '[', '{', '"', '\\'])) else {
        return unsaid("a cgroup is named by its path below /sys/fs/cgroup");
    };
    let this =
        format!("cgroup_matches({}) && !cgroup_matches({})", literal(inner), literal(&format!("{inner}/*")));
    Ok(if sign == "==" { SaidTerm::new(11, this) } else { SaidTerm::new(2, format!("!({this})")) })
}

/// The path of `cgroupid("PATH")`.
pub(super) fn cgroup_id(term: &Term) -> Option<&str> {
    match term.as_call()? {
        ("cgroupid" | "cgroup_id", [Term { kind: TermKind::Text(path), .. }]) => Some(path),
        _ => None,
    }
}

/// Whether a term is the address of a variable that no cast gives a type, or a place behind it.
pub(super) fn is_untyped_address(term: &Term) -> bool {
    match &term.kind {
        TermKind::Call { name, .. } => name == "kaddr",
        TermKind::Binary("+" | "-", a, b) => is_untyped_address(a) || is_untyped_address(b),
        TermKind::Let(named) => is_untyped_address(&named.term),
        _ => false,
    }
}

/// The function that turns a number of this width around; what is a port by its name has 16 bits.
fn width(term: &Term) -> Option<&'static str> {
    match &term.kind {
        TermKind::Let(named) if named.name.contains("port") => Some("ntohs"),
        TermKind::Let(named) => width(&named.term),
        TermKind::Field(_, name) if name.contains("port") => Some("ntohs"),
        TermKind::Cast(to, inner) => match () {
            () if to.contains("16") => Some("ntohs"),
            () if to.contains("32") => Some("ntohl"),
            () if to.contains("64") => width(inner).or(Some("bswap64")),
            () => width(inner),
        },
        _ => None,
    }
}
