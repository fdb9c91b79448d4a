//! A probe as declared: what stands in the YAML, checked for form but not yet against a kernel.

use crate::{
    diagnostic::{Diagnostic, SourceFile, Span, Spanned},
    expr::{Expr, ParseError},
    names::Kind as Family,
    typed::Side,
    waiting,
    yaml::Node,
};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// A file of probes.
#[derive(Clone, Debug, Default)]
pub struct ProbeFile {
    /// Which probes of the shipped library run besides those of this file.
    pub library: Library,
    /// The probes that could be read.
    pub probes: Vec<Probe>,
    /// The reasons that could be read, in their order.
    pub reasons: Vec<Reason>,
    /// Where metrics go.
    pub otlp: Option<Otlp>,
}

/// `exporters:` and `otlp:` of a file: texts as they were written. What they mean is for the exporter.
#[derive(Clone, Debug)]
pub struct Otlp {
    /// The file.
    pub file: Arc<SourceFile>,
    /// Where they stand in it.
    pub span: Span,
    /// Keys with one text.
    pub settings: Vec<(&'static str, Spanned<String>)>,
    /// Names and values of headers.
    pub headers: Vec<(Spanned<String>, Spanned<String>)>,
    /// Attributes of the resource.
    pub resource: Vec<(Spanned<String>, Spanned<String>)>,
}

impl Otlp {
    /// Whether another file says the same.
    pub fn means(&self, other: &Self) -> bool {
        type Pair = (Spanned<String>, Spanned<String>);
        let texts = |pairs: &[Pair]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, text)| (name.value.clone(), text.value.clone())).collect()
        };
        let settings = |otlp: &Self| -> Vec<(&'static str, String)> {
            otlp.settings.iter().map(|(key, text)| (*key, text.value.clone())).collect()
        };
        settings(self) == settings(other)
            && texts(&self.headers) == texts(&other.headers)
            && texts(&self.resource) == texts(&other.resource)
    }
}

/// Priority of a reason that has none.
pub const DEFAULT_PRIORITY: u32 = 50;

/// What sleeps in certain functions of the kernel wait for. One reason may have several.
#[derive(Clone, Debug, PartialEq)]
pub struct Reason {
    /// The label's value.
    pub reason: Spanned<String>,
    /// The same in a sentence.
    pub text: Option<Spanned<String>>,
    /// 1 to 100; the highest counts.
    pub priority: u32,
    /// The functions.
    pub patterns: Vec<ReasonPattern>,
    /// Where it stands.
    pub file: Arc<SourceFile>,
}

/// Functions of a reason.
#[derive(Clone, Debug, PartialEq)]
pub struct ReasonPattern {
    /// A name, or a pattern of [`crate::glob`]; behind `;`, as stacks are written, where only a certain caller's counts.
    pub pattern: Spanned<String>,
    /// Whether they count only if it is they who sleep.
    pub innermost: bool,
}

impl Reason {
    /// Whether another entry says the same, wherever the two stand.
    pub fn means(&self, other: &Self) -> bool {
        let text = |reason: &Self| reason.text.as_ref().map(|text| text.value.clone());
        let patterns = |reason: &Self| -> Vec<(String, bool)> {
            reason.patterns.iter().map(|pattern| (pattern.pattern.value.clone(), pattern.innermost)).collect()
        };
        self.reason.value == other.reason.value
            && self.priority == other.priority
            && text(self) == text(other)
            && patterns(self) == patterns(other)
    }
}

impl ReasonPattern {
    /// The functions.
    pub fn function(&self) -> &str {
        self.pattern.value.split_once(';').map_or(&self.pattern.value, |(_, function)| function)
    }

    /// Who must have called them, if that matters.
    pub fn caller(&self) -> Option<&str> {
        self.pattern.value.split_once(';').map(|(caller, _)| caller)
    }
}

/// What `library:` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Library {
    /// Nothing: only the file's own probes run.
    #[default]
    None,
    /// Every shipped probe that is on by default.
    All,
    /// Those named.
    Named(Vec<Spanned<String>>),
}

/// One probe.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The file it stands in, which all spans refer to.
    pub file: Arc<SourceFile>,
    /// Its name, unique but for variants limited by `kernel`.
    pub name: Spanned<String>,
    /// What its declaration says, without comments and layout: as [`crate::yaml::Node::meaning`] gives it.
    pub meaning: String,
    /// What it measures.
    pub help: String,
    /// The kernels that this variant is for.
    pub kernel: Option<KernelRange>,
    /// Named expressions, in the order written.
    pub lets: Vec<(Spanned<String>, Expression)>,
    /// Where the time begins; empty for a probe of single events.
    pub starts: Vec<Event>,
    /// Where it ends, or the single event.
    pub ends: Vec<Event>,
    /// Labels, in the order written.
    pub labels: Vec<Label>,
    /// Metrics of events, in the order written.
    pub metrics: Vec<Metric>,
    /// Metrics of starts that wait for their end, in the order written.
    pub waiting: Vec<waiting::Declared>,
    /// Most label sets.
    pub max_series: u32,
    /// Most starts that wait for their end.
    pub max_inflight: u32,
    /// After how many nanoseconds a start without an end is given up, where it was said.
    pub inflight_timeout_ns: Option<u64>,
    /// Most functions of a pattern.
    pub max_functions: u32,
    /// Whether rows are kept per CPU; decided by size where it is not said.
    pub per_cpu: Option<bool>,
    /// Whether it runs when the library is asked for as a whole.
    pub enabled: bool,
}

impl Probe {
    /// Whether it measures the time between two events.
    pub fn is_pair(&self) -> bool {
        !self.starts.is_empty()
    }

    /// Whether stacks of programs are asked for.
    pub fn takes_user_stacks(&self) -> bool {
        let lets = self.lets.iter().map(|(_, value)| value);
        let saves = self.starts.iter().flat_map(|start| &start.saves).map(|(_, value)| value);
        let labels = self.labels.iter().map(|label| &label.value);
        lets.chain(saves).chain(labels).any(|value| value.ast.mentions("ustack"))
    }

    /// Its metrics of either kind: names without the prefix `tapster_`, and what families they become.
    pub fn families(&self) -> impl Iterator<Item = (&Spanned<String>, Family)> {
        let waiting = self.waiting.iter().map(|metric| (&metric.name, Family::Gauge));
        self.metrics.iter().map(|metric| (&metric.name, Family::from(&metric.kind))).chain(waiting)
    }
}

/// Most functions that a pattern may match where `max_functions` does not say.
pub const DEFAULT_MAX_FUNCTIONS: u32 = 1000;

/// An expression, its text's tree, and its place in the YAML.
#[derive(Clone, Debug)]
pub struct Expression {
    /// The syntax tree.
    pub ast: Expr,
    /// The scalar that holds the text.
    pub node: Node,
}

impl Expression {
    /// Place in the file of a byte range of the expression's text.
    pub fn place(&self, file: &SourceFile, part: Span) -> Span {
        self.node.part(file, part)
    }
}

/// Turns a parse error into a message about the YAML.
pub(crate) fn parse_error(file: &Arc<SourceFile>, node: &Node, error: ParseError) -> Diagnostic {
    let mut diagnostic = Diagnostic::error(file, node.part(file, error.span), error.message);
    diagnostic.hint = error.hint;
    diagnostic
}

/// One event that a probe attaches to.
#[derive(Clone, Debug)]
pub struct Event {
    /// Alternatives: the first that the kernel has is used.
    pub at: Vec<Spanned<AttachPoint>>,
    /// The kernels that this event is for.
    pub kernel: Option<KernelRange>,
    /// What joins a start to its end.
    pub key: Vec<Expression>,
    /// The events that count.
    pub filter: Option<Expression>,
    /// Values kept from the start, read as `start.NAME`.
    pub saves: Vec<(Spanned<String>, Expression)>,
    /// A list to run the action over.
    pub each: Option<Each>,
    /// Whether it is one end of `function`: the entry or the return of whole calls.
    pub whole: bool,
    /// Place of the whole event.
    pub span: Span,
}

/// A walk over a linked list.
#[derive(Clone, Debug)]
pub struct Each {
    /// Name of the element inside expressions.
    pub name: Spanned<String>,
    /// The first element, a pointer.
    pub from: Expression,
    /// The element after.
    pub next: Expression,
    /// Most elements visited; the rest is counted as dropped.
    pub limit: u32,
    /// What an element takes of `within`.
    pub size: Option<Expression>,
    /// Elements are visited while their sizes fit into this.
    pub within: Option<Expression>,
}

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
    fn names(self) -> &'static [(&'static str, &'static str)] {
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

/// The attach kinds and their forms, for messages.
pub const ATTACH_FORMS: [(&str, &str); 13] = [
    ("tracepoint", "tracepoint:CATEGORY:NAME"),
    ("rawtracepoint", "rawtracepoint:CATEGORY:NAME"),
    ("fentry", "fentry:FUNCTION"),
    ("fexit", "fexit:FUNCTION"),
    ("kprobe", "kprobe:FUNCTION"),
    ("kretprobe", "kretprobe:FUNCTION"),
    ("uprobe", "uprobe:BINARY:FUNCTION"),
    ("uretprobe", "uretprobe:BINARY:FUNCTION"),
    ("usdt", "usdt:BINARY:PROVIDER:NAME"),
    ("profile", "profile:hz:COUNT"),
    ("interval", "interval:s:COUNT"),
    ("software", "software:EVENT:COUNT"),
    ("hardware", "hardware:EVENT:COUNT"),
];

/// The attach kinds of timers and counters, with bpftrace's short names.
const PERF_KINDS: [(&str, PerfKind); 8] = [
    ("profile", PerfKind::Profile),
    ("p", PerfKind::Profile),
    ("interval", PerfKind::Interval),
    ("i", PerfKind::Interval),
    ("software", PerfKind::Software),
    ("s", PerfKind::Software),
    ("hardware", PerfKind::Hardware),
    ("h", PerfKind::Hardware),
];

/// What patterns of names have besides letters.
const PATTERN: [char; 6] = ['*', '?', '[', ']', '!', '^'];

/// The attach kinds of kernel functions, with bpftrace's short names.
const FUNCTION_KINDS: [(&str, FunctionMechanism); 8] = [
    ("fentry", FunctionMechanism::Fentry),
    ("f", FunctionMechanism::Fentry),
    ("fexit", FunctionMechanism::Fexit),
    ("fr", FunctionMechanism::Fexit),
    ("kprobe", FunctionMechanism::Kprobe),
    ("k", FunctionMechanism::Kprobe),
    ("kretprobe", FunctionMechanism::Kretprobe),
    ("kr", FunctionMechanism::Kretprobe),
];

impl AttachPoint {
    /// Reads `kind:…`; an error is a message and a hint.
    pub fn parse(text: &str) -> Result<Self, (String, String)> {
        let parts: Vec<&str> = text.split(':').collect();
        let name = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
                // Names become names of files.
                && !part.starts_with('.')
        };
        let forms = || {
            let named = |wanted: &str| {
                ATTACH_FORMS.iter().find(|(kind, _)| *kind == wanted).map_or("", |(_, form)| form)
            };
            let kinds: Vec<&str> = ATTACH_FORMS.iter().map(|(kind, _)| *kind).collect();
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
            let at_return = match kind {
                "uprobe" | "u" => false,
                "uretprobe" | "ur" => true,
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
            ["tracepoint" | "t", category, name] if well_formed => {
                Ok(Self::Tracepoint { category: (*category).into(), name: (*name).into() })
            }
            ["rawtracepoint" | "rt", category, name] if well_formed => {
                Ok(Self::RawTracepoint { category: Some((*category).into()), name: (*name).into() })
            }
            ["rawtracepoint" | "rt", name] if well_formed => {
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
            ["usdt" | "U", binary, rest @ .., name]
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
            [kind, ..] if ATTACH_FORMS.iter().any(|(known, _)| known == kind) => {
                let form = ATTACH_FORMS.iter().find(|(known, _)| known == kind).map_or("", |(_, form)| form);
                Err((format!("`{text}` is not a {kind}"), format!("write {form}")))
            }
            [_] => Err((format!("`{text}` is not an attach point"), forms())),
            [kind, ..] => {
                let near = crate::diagnostic::nearest(kind, ATTACH_FORMS.iter().map(|(known, _)| *known));
                let hint = near.map_or_else(forms, |near| format!("did you mean `{near}`?"));
                Err((format!("`{kind}` is not an attach kind"), hint))
            }
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

/// A label.
#[derive(Clone, Debug)]
pub struct Label {
    /// Its name.
    pub name: Spanned<String>,
    /// Its value.
    pub value: Expression,
    /// How the value becomes text; by its type where it is not said.
    pub decoder: Option<Spanned<Decoder>>,
}

/// How a label's value becomes text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoder {
    /// Decimal, not negative.
    Unsigned,
    /// Decimal.
    Signed,
    /// `0x…`
    Hex,
    /// Bytes up to the first NUL.
    Text,
    /// A text for each number, and one for all others (their decimal number where there is none).
    Table {
        /// Number → text.
        rows: BTreeMap<i64, String>,
        /// Enumerator → text; its number is looked up on the kernel at hand, and left out where it has none.
        named: Vec<(String, String)>,
        /// For every other number.
        default: Option<String>,
    },
    /// `major << 20 | minor` → name of the disk.
    BlockDevice,
    /// Error number → `ENOENT`.
    Errno,
    /// Number of a system call → `openat`.
    Syscall,
    /// Address → function of the kernel.
    Ksym,
    /// A stack → its functions, outermost first.
    Stack(Side),
    /// A stack of the kernel of a task that slept → what it waited for.
    Reason,
    /// Cgroup id → its path, or whose it is.
    Cgroup(CgroupPart),
    /// `major << 20 | minor` → name of the array; rows of what is no array are left out.
    RaidArray,
    /// `major << 20 | minor` of an array → its level; rows of what is no array are left out.
    RaidLevel,
    /// `array << 32 | member` → the member's slot; rows of what is no member are left out.
    RaidSlot,
}

/// What of a cgroup is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupPart {
    /// Its path.
    Path,
    /// The namespace of its pod.
    Namespace,
    /// Its pod.
    Pod,
    /// Its container.
    Container,
}

/// Names of the decoders that take no table.
pub const DECODERS: [(&str, Decoder); 19] = [
    ("unsigned", Decoder::Unsigned),
    ("signed", Decoder::Signed),
    ("hex", Decoder::Hex),
    ("string", Decoder::Text),
    ("comm", Decoder::Text),
    ("block_device", Decoder::BlockDevice),
    ("errno", Decoder::Errno),
    ("syscall", Decoder::Syscall),
    ("ksym", Decoder::Ksym),
    ("kstack", Decoder::Stack(Side::Kernel)),
    ("ustack", Decoder::Stack(Side::User)),
    ("reason", Decoder::Reason),
    ("cgroup", Decoder::Cgroup(CgroupPart::Path)),
    ("namespace", Decoder::Cgroup(CgroupPart::Namespace)),
    ("pod", Decoder::Cgroup(CgroupPart::Pod)),
    ("container", Decoder::Cgroup(CgroupPart::Container)),
    ("raid_array", Decoder::RaidArray),
    ("raid_level", Decoder::RaidLevel),
    ("raid_slot", Decoder::RaidSlot),
];

/// A metric.
#[derive(Clone, Debug)]
pub struct Metric {
    /// Its name without the prefix `tapster_`.
    pub name: Spanned<String>,
    /// What it counts.
    pub help: String,
    /// What is kept.
    pub kind: MetricKind,
    /// What is added or kept; 1 for a counter without it.
    pub value: Option<Expression>,
    /// The events that this metric takes, of those that the probe takes.
    pub filter: Option<Expression>,
    /// What one of the value is; nanoseconds for a duration where it is not said.
    pub unit: Option<Spanned<Unit>>,
}

/// What a metric keeps.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricKind {
    /// A sum.
    Counter,
    /// The last value.
    Gauge,
    /// The largest value of the last while.
    Max {
        /// How long, nanoseconds.
        window_ns: u64,
    },
    /// A distribution.
    Histogram {
        /// Its `buckets:`; by the unit where they are not said. Read once the unit is known.
        buckets: Option<Node>,
    },
}

/// What one of a metric's raw value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// The base unit itself: bytes, pages, things.
    One,
    /// A nanosecond; exposed in seconds.
    Nanoseconds,
    /// A microsecond; exposed in seconds.
    Microseconds,
    /// A millisecond; exposed in seconds.
    Milliseconds,
    /// A sector of 512 bytes; exposed in bytes.
    Sectors,
    /// 1024 bytes; exposed in bytes.
    Kibibytes,
}

/// Names of the units.
pub const UNITS: [(&str, Unit); 8] = [
    ("none", Unit::One),
    ("ns", Unit::Nanoseconds),
    ("us", Unit::Microseconds),
    ("ms", Unit::Milliseconds),
    ("s", Unit::One),
    ("bytes", Unit::One),
    ("sectors", Unit::Sectors),
    ("kib", Unit::Kibibytes),
];

impl Unit {
    /// How many of the raw value make one base unit, as a fraction (numerator, denominator).
    pub fn per_base(self) -> (u64, u64) {
        match self {
            Self::One => (1, 1),
            Self::Nanoseconds => (1_000_000_000, 1),
            Self::Microseconds => (1_000_000, 1),
            Self::Milliseconds => (1_000, 1),
            Self::Sectors => (1, 512),
            Self::Kibibytes => (1, 1024),
        }
    }

    /// Whether it is a time.
    pub fn is_time(self) -> bool {
        matches!(self, Self::Nanoseconds | Self::Microseconds | Self::Milliseconds)
    }

    /// A raw value in the base unit.
    #[expect(
        clippy::cast_precision_loss,
        clippy::as_conversions,
        reason = "samples are f64, as Prometheus keeps them"
    )]
    pub fn to_base(self, raw: f64) -> f64 {
        let (numerator, denominator) = self.per_base();
        raw * denominator as f64 / numerator as f64
    }
}

/// A kernel version, the first two or three numbers of `uname -r`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct KernelVersion(pub u16, pub u16, pub u16);

impl KernelVersion {
    /// Reads `6.1`, `5.10.3` or a release such as `6.18.44-fc`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().splitn(3, '.');
        let mut number = |required: bool| {
            let part = parts.next();
            let digits: String = part.unwrap_or("").chars().take_while(char::is_ascii_digit).collect();
            if digits.is_empty() && !required { Some(0) } else { digits.parse().ok() }
        };
        Some(Self(number(true)?, number(true)?, number(false)?))
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(major, minor, patch) = self;
        write!(f, "{major}.{minor}")?;
        if *patch > 0 { write!(f, ".{patch}") } else { Ok(()) }
    }
}

/// `>=5.18`, `<6.1`, or several joined by commas, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelRange {
    /// Comparisons as written.
    pub text: String,
    least: Option<KernelVersion>,
    below: Option<KernelVersion>,
}

impl KernelRange {
    /// Reads a range; `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut range = Self { text: text.to_owned(), ..Self::default() };
        for part in text.split(',') {
            let part = part.trim();
            if let Some(version) = part.strip_prefix(">=") {
                range.least = Some(KernelVersion::parse(version)?);
            } else {
                range.below = Some(KernelVersion::parse(part.strip_prefix('<')?)?);
            }
        }
        Some(range)
    }

    /// Whether a kernel is in the range.
    pub fn contains(&self, version: KernelVersion) -> bool {
        self.least.is_none_or(|least| version >= least) && self.below.is_none_or(|below| version < below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_ranges() {
        let version = |text| KernelVersion::parse(text).unwrap();
        for (range, kernel, inside) in [
            (">=5.18", "5.18.0-1-amd64", true),
            (">=5.18", "5.17.99", false),
            ("<6.1", "6.0.12", true),
            ("<6.1", "6.1.0", false),
            (">=5.10, <6.2", "6.1.44", true),
            (">=6.18", "6.18.44-fc-v669", true),
            (">=6.9", "6.10", true),
        ] {
            assert_eq!(
                KernelRange::parse(range).unwrap().contains(version(kernel)),
                inside,
                "{range} {kernel}"
            );
        }
        for text in ["", "5.18", ">5", "=6.1", ">=x"] {
            assert!(KernelRange::parse(text).is_none(), "{text}");
        }
    }

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
