//! Where programs attach: the forms of attach points.

use crate::glob::is_pattern;
use std::fmt;

/// A point of the kernel that a program attaches to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AttachPoint {
    /// `tracepoint:CATEGORY:NAME`: fields as in its format file.
    Tracepoint {
        /// Directory under `events`.
        category: String,
        /// Directory under the category.
        name: String,
    },
    /// `rawtracepoint:CATEGORY:NAME`: the arguments as the kernel passes them.
    RawTracepoint {
        /// Directory under `events`; may be left out, `rawtracepoint:NAME`.
        category: Option<String>,
        /// Directory under the category.
        name: String,
    },
    /// `fentry:FUNCTION`, `fexit:FUNCTION`, `kprobe:FUNCTION`, `kretprobe:FUNCTION`: a function of the kernel, or with
    /// the latter two all that a pattern matches.
    Function {
        /// How, and whether at its entry or its return.
        mechanism: FunctionMechanism,
        /// Its name.
        function: String,
    },
    /// `uprobe:BINARY:FUNCTION`, `uretprobe:BINARY:FUNCTION`: functions of a program or library.
    User {
        /// Where the binary is looked for.
        root: Root,
        /// Path, or name of a library or program.
        binary: String,
        /// Its symbol, its name as the source has it, a pattern of either, or `0x…`, its address as `nm` shows it.
        function: String,
        /// Whether at its return.
        at_return: bool,
    },
    /// `usdt:BINARY:PROVIDER:NAME`: a probe that a program or library brings along.
    Usdt {
        /// Where the binary is looked for.
        root: Root,
        /// Path, or name of a library or program.
        binary: String,
        /// Who defines it; may be left out, `usdt:BINARY:NAME`.
        provider: Option<String>,
        /// Its name.
        name: String,
    },
    /// `profile:`, `interval:`, `software:`, `hardware:`.
    Perf(PerfEvent),
}

/// Whose files a binary is looked for among.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Root {
    /// Those that this exporter sees.
    #[default]
    Host,
    /// Those that a process sees, by its number.
    Process(u32),
    /// Those of a container, by the beginning of its id, or its name.
    Container(String),
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("this host"),
            Self::Process(pid) => write!(f, "process {pid}"),
            Self::Container(name) => write!(f, "container `{name}`"),
        }
    }
}

/// A timer or counter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PerfEvent {
    /// What kind.
    pub kind: PerfKind,
    /// The unit of a timer (`hz`, `s`, `ms`, `us`), or the name of an event.
    pub name: &'static str,
    /// How many of the unit, or after how many events.
    pub amount: u64,
}

/// Kinds of timers and counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PerfKind {
    /// `profile:hz:99`: a timer on each CPU.
    Profile,
    /// `interval:s:1`: a timer on one CPU.
    Interval,
    /// `software:page-faults:1`: events that the kernel counts.
    Software,
    /// `hardware:cache-misses:10000`: events that the CPU counts.
    Hardware,
}

impl PerfKind {
    /// The attach kind.
    pub fn name(self) -> &'static str {
        match self {
            Self::Profile => "profile",
            Self::Interval => "interval",
            Self::Software => "software",
            Self::Hardware => "hardware",
        }
    }

    /// Names that may stand behind it, each with bpftrace's short form where that differs.
    pub fn names(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Profile => &[("hz", "hz"), ("s", "s"), ("ms", "ms"), ("us", "us")],
            Self::Interval => &[("s", "s"), ("ms", "ms"), ("us", "us"), ("hz", "hz")],
            Self::Software => &SOFTWARE_EVENTS,
            Self::Hardware => &HARDWARE_EVENTS,
        }
    }
}

/// Events that the kernel counts (`enum perf_sw_ids`).
pub const SOFTWARE_EVENTS: [(&str, &str); 9] = [
    ("cpu-clock", "cpu"),
    ("task-clock", "task-clock"),
    ("page-faults", "faults"),
    ("context-switches", "cs"),
    ("cpu-migrations", "cpu-migrations"),
    ("minor-faults", "minor-faults"),
    ("major-faults", "major-faults"),
    ("alignment-faults", "alignment-faults"),
    ("emulation-faults", "emulation-faults"),
];

/// Events that CPUs count (`enum perf_hw_id`).
pub const HARDWARE_EVENTS: [(&str, &str); 10] = [
    ("cpu-cycles", "cycles"),
    ("instructions", "instructions"),
    ("cache-references", "cache-references"),
    ("cache-misses", "cache-misses"),
    ("branch-instructions", "branches"),
    ("branch-misses", "branch-misses"),
    ("bus-cycles", "bus-cycles"),
    ("frontend-stalls", "frontend-stalls"),
    ("backend-stalls", "backend-stalls"),
    ("ref-cycles", "ref-cycles"),
];

impl PerfEvent {
    /// Reads what stands behind the kind; an error is a message and a hint.
    fn parse(kind: PerfKind, name: &str, amount: &str) -> Result<Self, (String, String)> {
        let names = kind.names();
        let Some((full, _)) = names.iter().find(|(full, short)| *full == name || *short == name) else {
            let near = crate::diagnostic::nearest(name, names.iter().map(|(full, _)| *full));
            let all: Vec<&str> = names.iter().map(|(full, _)| *full).collect();
            let hint = near.map_or_else(
                || format!("it has {}", all.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            return Err((format!("`{}` has no `{name}`", kind.name()), hint));
        };
        let amount = amount.parse().ok().filter(|amount| (1..=1_000_000_000_000_u64).contains(amount));
        let event = amount.map(|amount| Self { kind, name: full, amount });
        let too_often = |event: &Self| event.period_ns().is_some_and(|period| period < 100_000);
        match event {
            Some(event) if too_often(&event) => Err((
                format!("`{event}` is more often than 10 000 times a second"),
                "take longer between two".into(),
            )),
            Some(event) => Ok(event),
            None => Err((
                format!("`{}:{full}` needs a whole number behind it", kind.name()),
                format!("for example {}:{full}:{}", kind.name(), if *full == "hz" { 99 } else { 1 }),
            )),
        }
    }

    /// Time between two, for a timer.
    pub fn period_ns(&self) -> Option<u64> {
        match self.kind {
            PerfKind::Profile | PerfKind::Interval => Some(match self.name {
                "hz" => 1_000_000_000 / self.amount.max(1),
                "s" => self.amount.saturating_mul(1_000_000_000),
                "ms" => self.amount.saturating_mul(1_000_000),
                _ => self.amount.saturating_mul(1_000),
            }),
            PerfKind::Software | PerfKind::Hardware => None,
        }
    }
}

impl fmt::Display for PerfEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.kind.name(), self.name, self.amount)
    }
}

/// The ways to stop at a function of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FunctionMechanism {
    /// At its entry, with types.
    Fentry,
    /// At its return, with types and arguments.
    Fexit,
    /// At its entry, from registers.
    Kprobe,
    /// At its return, from registers.
    Kretprobe,
}

impl FunctionMechanism {
    /// The attach kind.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fentry => "fentry",
            Self::Fexit => "fexit",
            Self::Kprobe => "kprobe",
            Self::Kretprobe => "kretprobe",
        }
    }
}

/// The attach kinds, with bpftrace's short names and their forms, for messages.
const ATTACH_FORMS: [(&str, &str, &str); 13] = [
    ("tracepoint", "t", "tracepoint:CATEGORY:NAME"),
    ("rawtracepoint", "rt", "rawtracepoint:CATEGORY:NAME"),
    ("fentry", "f", "fentry:FUNCTION"),
    ("fexit", "fr", "fexit:FUNCTION"),
    ("kprobe", "k", "kprobe:FUNCTION"),
    ("kretprobe", "kr", "kretprobe:FUNCTION"),
    ("uprobe", "u", "uprobe:BINARY:FUNCTION"),
    ("uretprobe", "ur", "uretprobe:BINARY:FUNCTION"),
    ("usdt", "U", "usdt:BINARY:PROVIDER:NAME"),
    ("profile", "p", "profile:hz:COUNT"),
    ("interval", "i", "interval:s:COUNT"),
    ("software", "s", "software:EVENT:COUNT"),
    ("hardware", "h", "hardware:EVENT:COUNT"),
];

/// The attach kinds of timers and counters.
const PERF_KINDS: [(&str, PerfKind); 4] = [
    ("profile", PerfKind::Profile),
    ("interval", PerfKind::Interval),
    ("software", PerfKind::Software),
    ("hardware", PerfKind::Hardware),
];

/// What patterns of names have besides letters.
const PATTERN: [char; 6] = ['*', '?', '[', ']', '!', '^'];

/// The attach kinds of kernel functions.
const FUNCTION_KINDS: [(&str, FunctionMechanism); 4] = [
    ("fentry", FunctionMechanism::Fentry),
    ("fexit", FunctionMechanism::Fexit),
    ("kprobe", FunctionMechanism::Kprobe),
    ("kretprobe", FunctionMechanism::Kretprobe),
];

/// The attach kind that a word is the name of, or bpftrace's short name.
pub fn attach_kind(word: &str) -> Option<&'static str> {
    ATTACH_FORMS.iter().find(|(kind, short, _)| *kind == word || *short == word).map(|(kind, ..)| *kind)
}

impl AttachPoint {
    /// Reads `kind:…`; an error is a message and a hint.
    pub fn parse(text: &str) -> Result<Self, (String, String)> {
        let mut parts: Vec<&str> = text.split(':').collect();
        if let [first, _, ..] = parts.as_mut_slice() {
            *first = attach_kind(first).unwrap_or(first);
        }
        let name = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
                // Names become names of files.
                && !part.starts_with('.')
        };
        let forms = || {
            let named = |wanted: &str| {
                ATTACH_FORMS.iter().find(|(kind, ..)| *kind == wanted).map_or("", |(.., form)| form)
            };
            let kinds: Vec<&str> = ATTACH_FORMS.iter().map(|(kind, ..)| *kind).collect();
            format!(
                "write for example {} or {}; kinds are {}",
                named("tracepoint"),
                named("fentry"),
                kinds.join(", ")
            )
        };
        let well_formed = parts.len() > 1 && parts[1..].iter().all(name);
        // Names of C++ and Rust have pairs of colons within them.
        let user = text.split_once(':').and_then(|(kind, rest)| {
            let at_return = match attach_kind(kind)? {
                "uprobe" => false,
                "uretprobe" => true,
                _ => return None,
            };
            let (binary, function) = rest.split_once(':')?;
            let whole = !function.replace("::", "").contains(':');
            (whole && !binary.is_empty() && !function.is_empty()).then_some((binary, function, at_return))
        });
        if let Some((binary, function, at_return)) = user {
            return Ok(Self::User {
                root: Root::Host,
                binary: binary.into(),
                function: function.into(),
                at_return,
            });
        }
        match parts.as_slice() {
            ["tracepoint", category, name] if well_formed => {
                Ok(Self::Tracepoint { category: (*category).into(), name: (*name).into() })
            }
            ["rawtracepoint", category, name] if well_formed => {
                Ok(Self::RawTracepoint { category: Some((*category).into()), name: (*name).into() })
            }
            ["rawtracepoint", name] if well_formed => {
                Ok(Self::RawTracepoint { category: None, name: (*name).into() })
            }
            [kind, function]
                if name(&function.replace(PATTERN, "x").as_str())
                    && FUNCTION_KINDS.iter().any(|(name, _)| name == kind) =>
            {
                let mechanism =
                    FUNCTION_KINDS.iter().find(|(name, _)| name == kind).map(|(_, mechanism)| *mechanism);
                let mechanism = mechanism.unwrap_or(FunctionMechanism::Fentry);
                Ok(Self::Function { mechanism, function: (*function).into() })
            }
            [kind, name, amount] if PERF_KINDS.iter().any(|(known, _)| known == kind) => {
                let kind = PERF_KINDS
                    .iter()
                    .find(|(known, _)| known == kind)
                    .map_or(PerfKind::Profile, |(_, kind)| *kind);
                PerfEvent::parse(kind, name, amount).map(Self::Perf)
            }
            ["usdt", binary, rest @ .., name]
                if !binary.is_empty()
                    && !name.is_empty()
                    && rest.len() < 2
                    && rest.iter().all(|part| !part.is_empty()) =>
            {
                Ok(Self::Usdt {
                    root: Root::Host,
                    binary: (*binary).into(),
                    provider: rest.first().map(|provider| (*provider).into()),
                    name: (*name).into(),
                })
            }
            [] | [""] => Err(("the attach point is empty".into(), forms())),
            [kind, ..] if ATTACH_FORMS.iter().any(|(known, ..)| known == kind) => {
                let form =
                    ATTACH_FORMS.iter().find(|(known, ..)| known == kind).map_or("", |(.., form)| form);
                Err((format!("`{text}` is not a {kind}"), format!("write {form}")))
            }
            [_] => Err((format!("`{text}` is not an attach point"), forms())),
            [kind, ..] => {
                let near = crate::diagnostic::nearest(kind, ATTACH_FORMS.iter().map(|(known, ..)| *known));
                let hint = near.map_or_else(forms, |near| format!("did you mean `{near}`?"));
                Err((format!("`{kind}` is not an attach kind"), hint))
            }
        }
    }

    /// Whether it may be several functions: a pattern, or a name that a program has more than once.
    pub fn may_be_several(&self) -> bool {
        match self {
            Self::User { .. } => true,
            Self::Function { function, .. } => is_pattern(function),
            Self::Tracepoint { .. } | Self::RawTracepoint { .. } | Self::Usdt { .. } | Self::Perf(_) => false,
        }
    }

    /// Where its binary is looked for, and the binary, if it is in one.
    pub fn binary(&self) -> Option<(&Root, &str)> {
        match self {
            Self::User { root, binary, .. } | Self::Usdt { root, binary, .. } => Some((root, binary)),
            Self::Tracepoint { .. } | Self::RawTracepoint { .. } | Self::Function { .. } | Self::Perf(_) => {
                None
            }
        }
    }

    /// The same with its binary looked for elsewhere.
    #[must_use]
    pub fn within(mut self, wanted: &Root) -> Self {
        if let Self::User { root, .. } | Self::Usdt { root, .. } = &mut self {
            root.clone_from(wanted);
        }
        self
    }

    /// Category, if there is one, and name of the tracepoint or function.
    pub fn names(&self) -> (Option<&str>, &str) {
        match self {
            Self::Function { function, .. } => (None, function),
            Self::User { binary, function, .. } => (Some(binary), function),
            Self::Usdt { binary, name, .. } => (Some(binary), name),
            Self::Perf(event) => (Some(event.kind.name()), event.name),
            Self::Tracepoint { category, name } => (Some(category), name),
            Self::RawTracepoint { category, name } => (category.as_deref(), name),
        }
    }
}

impl fmt::Display for AttachPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tracepoint { category, name } => write!(f, "tracepoint:{category}:{name}"),
            Self::RawTracepoint { category: Some(category), name } => {
                write!(f, "rawtracepoint:{category}:{name}")
            }
            Self::RawTracepoint { category: None, name } => write!(f, "rawtracepoint:{name}"),
            Self::Function { mechanism, function } => write!(f, "{}:{function}", mechanism.name()),
            Self::Perf(event) => event.fmt(f),
            Self::User { binary, function, at_return, .. } => {
                write!(f, "{}:{binary}:{function}", if *at_return { "uretprobe" } else { "uprobe" })
            }
            Self::Usdt { binary, provider: Some(provider), name, .. } => {
                write!(f, "usdt:{binary}:{provider}:{name}")
            }
            Self::Usdt { binary, provider: None, name, .. } => write!(f, "usdt:{binary}:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attach_points() {
        for text in [
            "tracepoint:sched:sched_switch",
            "rawtracepoint:block:block_rq_issue",
            "rawtracepoint:sys_enter",
            "fentry:bio_endio",
            "kretprobe:vfs_read",
            "uprobe:/usr/bin/psql:main",
            "uretprobe:libc.so.6:malloc",
            "usdt:/usr/bin/python3:python:gc__start",
            "usdt:libc:setjmp",
            "uprobe:/bin/story:story::hasher::*(char const*)",
            "kprobe:ext[34]_*",
            "profile:hz:99",
            "interval:ms:500",
            "software:page-faults:1",
        ] {
            assert_eq!(AttachPoint::parse(text).unwrap().to_string(), text);
        }
        for (text, message, hint) in [
            ("tracepont:a:b", "`tracepont` is not an attach kind", "did you mean `tracepoint`?"),
            ("software:page-fault:1", "`software` has no `page-fault`", "did you mean `page-faults`?"),
            (
                "profile:hz:20000",
                "`profile:hz:20000` is more often than 10 000 times a second",
                "take longer between two",
            ),
            ("interval:s:x", "`interval:s` needs a whole number behind it", "for example interval:s:1"),
            ("usdt:a:b:c:d", "`usdt:a:b:c:d` is not a usdt", "write usdt:BINARY:PROVIDER:NAME"),
            ("usdt:a::c", "`usdt:a::c` is not a usdt", "write usdt:BINARY:PROVIDER:NAME"),
            ("usdt:a", "`usdt:a` is not a usdt", "write usdt:BINARY:PROVIDER:NAME"),
            ("uprobe:/bin/a:b:c", "`uprobe:/bin/a:b:c` is not a uprobe", "write uprobe:BINARY:FUNCTION"),
            ("kprobe:../*", "`kprobe:../*` is not a kprobe", "write kprobe:FUNCTION"),
            ("tracepoint:a", "`tracepoint:a` is not a tracepoint", "write tracepoint:CATEGORY:NAME"),
            (
                "tracepoint:a:../x",
                "`tracepoint:a:../x` is not a tracepoint",
                "write tracepoint:CATEGORY:NAME",
            ),
        ] {
            assert_eq!(AttachPoint::parse(text).unwrap_err(), (message.to_owned(), hint.to_owned()));
        }
    }
}
