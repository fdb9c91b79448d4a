//! Expressions of a script → expressions of a probe.

use super::{
    call::{cgroup, cgroup_id, is_untyped_address},
    maps::{ConstantValue, MapRole, Roles},
    points::CarriedPoint,
    script::{NamedTerm, Term, TermKind},
    state::ScriptState,
};
use std::collections::BTreeMap;
use tapster_ebpf::diagnostic::Span;

/// Longest text in an expression.
pub(super) const MAX_TEXT: usize = 255;

/// Why an expression cannot be said, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unsaid {
    pub(super) span: Span,
    pub(super) text: String,
}

/// An expression of a probe, and how tightly its outermost operator binds: less is tighter.
#[derive(Clone, Debug)]
pub(super) struct SaidTerm {
    pub(super) text: String,
    level: u8,
}

impl SaidTerm {
    pub(super) fn new(level: u8, text: impl Into<String>) -> Self {
        Self { text: text.into(), level }
    }

    /// As a part of an operator of this level.
    pub(super) fn within(self, level: u8) -> String {
        if self.level > level { format!("({})", self.text) } else { self.text }
    }
}

/// What another event kept for this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// The time of the start.
    Time,
    /// A value that the start saved, by its name; what makes a text of it, if the script called that at the start; whether it
    /// is a text; whether it may be what a script reads where there was no start.
    Value { name: String, decoder: Option<String>, is_text: bool, may_be_nothing: bool },
    /// State.
    State(ScriptState),
}

/// Where an expression is said: at which event, with what from its start.
pub(super) struct SayingScope<'s> {
    pub(super) roles: &'s Roles,
    /// Maps of the start, which are none at a start and at a single event, and maps that are state.
    pub(super) kept: BTreeMap<String, Kept>,
    /// The event, where it is one.
    pub(super) point: Option<&'s CarriedPoint>,
    /// `let`s that are used, in the order in which they are needed.
    pub(super) lets: Vec<(String, String)>,
    /// Whether all events are of functions, so that `func` tells them apart.
    pub(super) has_func: bool,
    /// Whether all are tracepoints of one category, so that `tracepoint` does.
    pub(super) has_tracepoint: bool,
}

/// Names that mean the same in a script and in a probe.
pub(super) const SAME: [&str; 13] = [
    "pid", "tid", "uid", "gid", "comm", "cpu", "nsecs", "curtask", "cgroup", "func", "retval", "kstack",
    "ustack",
];
/// Constants that the kernel only defines, which no type information has: their numbers are part of its interface.
const DEFINED: [(&str, u64); 15] = [
    ("AF_UNSPEC", 0),
    ("AF_UNIX", 1),
    ("AF_INET", 2),
    ("AF_INET6", 10),
    ("AF_NETLINK", 16),
    ("AF_PACKET", 17),
    ("ETH_P_IP", 0x0800),
    ("ETH_P_ARP", 0x0806),
    ("ETH_P_IPV6", 0x86dd),
    ("TASK_RUNNING", 0),
    ("TASK_INTERRUPTIBLE", 1),
    ("TASK_UNINTERRUPTIBLE", 2),
    ("PF_KTHREAD", 0x0020_0000),
    ("O_CREAT", 0o100),
    ("EPERM", 1),
];

impl SayingScope<'_> {
    /// The value of a term.
    pub(super) fn value(&mut self, term: &Term) -> Result<SaidTerm, Unsaid> {
        let unsaid = |text: String| Err(Unsaid { span: term.span.clone(), text });
        match &term.kind {
            TermKind::Number(number) => Ok(SaidTerm::new(1, number.to_string())),
            TermKind::Text(text) if text.chars().count() > MAX_TEXT => {
                unsaid(format!("a text has at most {MAX_TEXT} characters"))
            }
            TermKind::Text(text) => Ok(SaidTerm::new(1, literal(text))),
            TermKind::Name(name) => self.word(name, term),
            TermKind::Variable(name) | TermKind::Parameter(name) => {
                unsaid(format!("`${name}` has no value here"))
            }
            TermKind::Let(named) => self.named(named),
            TermKind::Map { name, keys } => self.map(name, keys, term),
            TermKind::Field(of, member) => {
                if of.is_name("args") {
                    return Ok(SaidTerm::new(1, format!("args.{member}")));
                }
                if member.starts_with(|c: char| c.is_ascii_digit()) {
                    return unsaid("a part of a tuple has no counterpart".into());
                }
                // `(*p).x` is `p.x`.
                let of = match &of.kind {
                    TermKind::Unary("*", inner) => inner,
                    _ => of,
                };
                let of = self.value(of)?.within(1);
                Ok(SaidTerm::new(1, format!("{of}.{member}")))
            }
            TermKind::Index(of, at) => {
                let (of, at) = (self.value(of)?.within(1), self.value(at)?.text);
                Ok(SaidTerm::new(1, format!("{of}[{at}]")))
            }
            TermKind::Call { name, arguments } => self.call(name, arguments, term),
            // What no type tells is 64 bits, as in a script.
            TermKind::Unary("*", inner) if is_untyped_address(inner) => {
                let address = self.value(inner)?.within(2);
                Ok(SaidTerm::new(2, format!("*(u64 *){address}")))
            }
            TermKind::Unary("&", _) => unsaid("the address of a value has no counterpart".into()),
            TermKind::Unary(sign, inner) => {
                if let (&"!", Some(compared)) = (sign, self.prefix(inner, "==")?) {
                    return Ok(compared);
                }
                let inner = self.value(inner)?.within(2);
                // `--x` would be something else.
                let blank = if inner.starts_with(sign) { " " } else { "" };
                Ok(SaidTerm::new(2, format!("{sign}{blank}{inner}")))
            }
            TermKind::Binary(sign @ ("==" | "!="), a, b)
                if cgroup_id(a).or_else(|| cgroup_id(b)).is_some() =>
            {
                cgroup(sign, a, b)
            }
            TermKind::Binary(sign, a, b) => self.binary(sign, a, b),
            TermKind::Choice(condition, yes, no) => {
                let condition = self.truth(condition)?.within(12);
                let (yes, no) = (self.value(yes)?.within(12), self.value(no)?.within(14));
                Ok(SaidTerm::new(14, format!("{condition} ? {yes} : {no}")))
            }
            TermKind::Cast(to, inner) => {
                let Some(to) = type_name(to) else {
                    return unsaid(format!("`{to}` is no type to cast to: a pointer or an integer is"));
                };
                let inner = self.value(inner)?.within(2);
                Ok(SaidTerm::new(2, format!("({to}){inner}")))
            }
            TermKind::Tuple(_) => unsaid("a tuple is several values".into()),
        }
    }

    /// The conditions that are left to say, joined; `None` if that is none. Those that only ask whether there was a start
    /// are left out: an end without one is not counted.
    pub(super) fn condition(&mut self, terms: &[Term]) -> Result<Option<String>, Unsaid> {
        let mut parts = Vec::new();
        for term in terms {
            if self.asks_for_start(term) {
                continue;
            }
            let said = self.truth(term)?.within(11);
            if !parts.contains(&said) {
                parts.push(said);
            }
        }
        Ok((!parts.is_empty()).then(|| parts.join(" && ")))
    }

    /// A term as a condition: a probe compares a text, which to a script is true unless it is empty.
    fn truth(&mut self, term: &Term) -> Result<SaidTerm, Unsaid> {
        let (text, sign) = match &term.kind {
            TermKind::Unary("!", inner) => (&**inner, "=="),
            _ => (term, "!="),
        };
        let kept = text.as_map().and_then(|(map, _)| self.kept.get(map));
        let is_text = match kept {
            Some(Kept::Value { is_text, .. }) => *is_text,
            Some(Kept::State(state)) => state.is_text,
            Some(Kept::Time) | None => false,
        };
        if !is_text {
            return self.value(term);
        }
        let text = self.value(text)?.within(6);
        Ok(SaidTerm::new(7, format!("{text} {sign} \"\"")))
    }

    /// Whether a condition is true of each end that has a start.
    pub(super) fn asks_for_start(&self, term: &Term) -> bool {
        let kept = |term: &Term| term.as_map().and_then(|(map, _)| self.kept.get(map));
        let is_something =
            |term: &Term| matches!(kept(term), Some(Kept::Time | Kept::Value { may_be_nothing: false, .. }));
        match &term.kind {
            TermKind::Map { .. } => is_something(term),
            TermKind::Binary("!=" | ">", a, b) => is_something(a) && b.as_number() == Some(0),
            TermKind::Call { name, arguments } if name == "has_key" => {
                matches!(arguments.first().and_then(kept), Some(Kept::Time | Kept::Value { .. }))
            }
            _ => false,
        }
    }

    pub(super) fn word(&self, name: &str, term: &Term) -> Result<SaidTerm, Unsaid> {
        if SAME.contains(&name) || is_argument(name) {
            return Ok(SaidTerm::new(1, name));
        }
        if let Some((_, number)) = DEFINED.iter().find(|(known, _)| *known == name) {
            return Ok(SaidTerm::new(1, number.to_string()));
        }
        match name {
            "true" => return Ok(SaidTerm::new(1, "1")),
            "false" => return Ok(SaidTerm::new(1, "0")),
            "ppid" => return Ok(SaidTerm::new(1, "curtask.real_parent.tgid")),
            "pcomm" => return Ok(SaidTerm::new(1, "curtask.real_parent.comm")),
            "jiffies" => return Ok(SaidTerm::new(2, "*(u64 *)kaddr(jiffies)")),
            "probe" => {
                if let Some(point) = self.point.filter(|point| !point.is_pattern()) {
                    return Ok(SaidTerm::new(1, literal(&point.written)));
                }
            }
            _ => {}
        }
        let is_enumerator = name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        if is_enumerator {
            return Ok(SaidTerm::new(1, name));
        }
        let text = match name {
            "args" => "`args` is all arguments: name one".to_owned(),
            "probe" => "`probe` is one of several events here, which have one text".to_owned(),
            _ => format!("`{name}` has no counterpart"),
        };
        Err(Unsaid { span: term.span.clone(), text })
    }

    fn named(&mut self, named: &NamedTerm) -> Result<SaidTerm, Unsaid> {
        if !self.lets.iter().any(|(known, _)| *known == named.name) {
            let said = self.value(&named.term)?.text;
            self.lets.push((named.name.clone(), said));
        }
        Ok(SaidTerm::new(1, named.name.clone()))
    }

    pub(super) fn map(&mut self, name: &str, keys: &[Term], term: &Term) -> Result<SaidTerm, Unsaid> {
        match self.kept.get(name).cloned() {
            Some(Kept::State(state)) => {
                let place = self.place(&state, keys)?;
                return Ok(SaidTerm::new(1, format!("state.{place}")));
            }
            Some(Kept::Time) => return Ok(SaidTerm::new(4, "nsecs - duration")),
            Some(Kept::Value { name, .. }) => return Ok(SaidTerm::new(1, format!("start.{name}"))),
            None => {}
        }
        let text = match self.roles.of(name) {
            MapRole::Constant(ConstantValue::Number(number)) if keys.is_empty() => {
                return Ok(SaidTerm::new(1, number.to_string()));
            }
            MapRole::Constant(ConstantValue::Text(text)) if keys.is_empty() => {
                return Ok(SaidTerm::new(1, literal(text)));
            }
            MapRole::Unwritten => format!("nothing in the script writes `@{name}`"),
            MapRole::Table(_) | MapRole::Constant(_) => {
                format!("the texts of `@{name}` are known outside of the kernel: they can be a label alone")
            }
            MapRole::State { .. } => {
                format!("`@{name}` is no value that another event left for this one")
            }
            MapRole::Metric | MapRole::LastValue => format!("programs do not read the metric `@{name}`"),
        };
        Err(Unsaid { span: term.span.clone(), text })
    }

    fn binary(&mut self, sign: &str, a: &Term, b: &Term) -> Result<SaidTerm, Unsaid> {
        if sign == "-" && a.is_name("nsecs") && self.is_start_time(b) {
            return Ok(SaidTerm::new(1, "duration"));
        }
        if let ("==" | "!=", Some(0)) = (sign, b.as_number())
            && let Some(compared) = self.prefix(a, sign)?
        {
            return Ok(compared);
        }
        let level = match sign {
            "*" | "/" | "%" => 3,
            "+" | "-" => 4,
            "<<" | ">>" => 5,
            "<" | ">" | "<=" | ">=" => 6,
            "==" | "!=" => 7,
            "&" => 8,
            "^" => 9,
            "|" => 10,
            "&&" => 11,
            _ => 12,
        };
        // C's precedences of these surprise people, so they get brackets that C does not need.
        let is_bitwise = matches!(sign, "&" | "^" | "|" | "<<" | ">>");
        let inner = if is_bitwise { 2 } else { level };
        let (a, b) = if matches!(sign, "&&" | "||") {
            (self.truth(a)?.within(level), self.truth(b)?.within(level))
        } else {
            (self.value(a)?.within(inner), self.value(b)?.within(inner.min(level - 1)))
        };
        Ok(SaidTerm::new(level, format!("{a} {sign} {b}")))
    }

    /// Whether a term is the time of another event.
    pub(super) fn is_time(&self, term: &Term) -> bool {
        let kept = term.as_map().and_then(|(map, _)| Some((map, self.kept.get(map)?)));
        kept.is_some_and(|(map, kept)| self.roles.is_time(map) && matches!(kept, Kept::Time | Kept::State(_)))
    }

    /// Whether a term is the time of this end's start.
    pub(super) fn is_start_time(&self, term: &Term) -> bool {
        term.as_map().is_some_and(|(map, _)| self.kept.get(map) == Some(&Kept::Time))
    }
}

fn is_argument(name: &str) -> bool {
    name.strip_prefix("arg").is_some_and(|rest| rest.parse::<u8>().is_ok())
}

/// The type of a cast as a probe has it.
fn type_name(to: &str) -> Option<String> {
    let (name, stars) = to.split_once(" *").map_or((to, ""), |_| {
        let stars = to.find('*').unwrap_or(to.len());
        to.split_at(stars)
    });
    let name = name.trim();
    if stars.is_empty() && (name.starts_with("struct ") || name.starts_with("union ")) {
        return None;
    }
    let name = match name {
        "uint8" => "u8",
        "uint16" => "u16",
        "uint32" => "u32",
        "uint64" | "size_t" => "u64",
        "int8" => "s8",
        "int16" => "s16",
        "int32" | "int" => "s32",
        "int64" | "long" => "s64",
        other => other,
    };
    Some(if stars.is_empty() { name.to_owned() } else { format!("{name} {stars}") })
}

/// A text as an expression has it.
pub(super) fn literal(text: &str) -> String {
    let mut literal = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => literal.extend(['\\', c]),
            '\n' => literal.push_str("\\n"),
            '\t' => literal.push_str("\\t"),
            c if c.is_control() => literal.push(' '),
            c => literal.push(c),
        }
    }
    literal.push('"');
    literal
}
