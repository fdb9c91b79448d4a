//! A probe as declared: what stands in the YAML, checked for form but not yet against a kernel.

pub use crate::point::{AttachPoint, Root};

use crate::{
    diagnostic::{Diagnostic, SourceFile, Span, Spanned},
    expr::{Expr, ParseError},
    names::Kind as Family,
    side::Side,
    waiting,
    yaml::{Data, Node},
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
    /// Whether it runs with its file or the library as a whole, and not only when it is named.
    pub enabled: bool,
}

impl Probe {
    /// Whether it measures the time between two events.
    pub fn is_pair(&self) -> bool {
        !self.starts.is_empty()
    }

    /// All attach points that its events name, alternatives too.
    pub fn attach_points(&self) -> impl Iterator<Item = &Spanned<AttachPoint>> {
        self.starts.iter().chain(&self.ends).flat_map(|event| &event.at)
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
    /// The text that spans of the tree are of.
    pub fn text(&self) -> &str {
        if let Data::Scalar { text, .. } = &self.node.data { text } else { "" }
    }

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
    /// Alternatives: the first that the kernel has and takes is used.
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
    /// `major << 20 | minor` → name of the disk; of a hidden path, of the disk that it leads to.
    BlockDevice,
    /// `major << 20 | minor` → name of a hidden path to a disk; empty for what is none.
    BlockPath,
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
pub const DECODERS: [(&str, Decoder); 20] = [
    ("unsigned", Decoder::Unsigned),
    ("signed", Decoder::Signed),
    ("hex", Decoder::Hex),
    ("string", Decoder::Text),
    ("comm", Decoder::Text),
    ("block_device", Decoder::BlockDevice),
    ("block_path", Decoder::BlockPath),
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
                range.least = range.least.max(Some(KernelVersion::parse(version)?));
            } else {
                let version = KernelVersion::parse(part.strip_prefix('<')?)?;
                range.below = Some(range.below.map_or(version, |below| below.min(version)));
            }
        }
        Some(range)
    }

    /// Whether no kernel is in the range.
    pub fn is_empty(&self) -> bool {
        self.least.zip(self.below).is_some_and(|(least, below)| least >= below)
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
            (">=5.10, >=6.2", "6.1.0", false),
            ("<6.2, <5.10", "6.1.0", false),
        ] {
            assert_eq!(
                KernelRange::parse(range).unwrap().contains(version(kernel)),
                inside,
                "{range} {kernel}"
            );
        }
        assert!(KernelRange::parse(">=6.2, <6.1").unwrap().is_empty());
        assert!(!KernelRange::parse(">=6.1, <6.2").unwrap().is_empty());
        for text in ["", "5.18", ">5", "=6.1", ">=x"] {
            assert!(KernelRange::parse(text).is_none(), "{text}");
        }
    }
}
