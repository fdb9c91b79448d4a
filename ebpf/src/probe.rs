//! A probe as declared: what stands in the YAML, checked for form but not yet against a kernel.

mod decoder;
mod device_group;
mod kernel;
mod reason;
mod waiting;

pub use crate::metric::MetricKind;
pub use crate::point::{AttachPoint, Root};
pub use crate::unit::{UNITS, Unit};
pub use decoder::*;
pub use device_group::*;
pub use kernel::*;
pub use reason::*;
pub use waiting::*;

use crate::{
    diagnostic::{Diagnostic, SourceFile, Span, Spanned},
    expr::{Expr, ParseError},
    names::FamilyKind,
    yaml::{Data, Node},
};
use std::sync::Arc;

/// A file of probes.
#[derive(Clone, Debug, Default)]
pub struct ProbeFile {
    /// Which probes of the shipped library run besides those of this file.
    pub library: Library,
    /// The probes that could be read.
    pub probes: Vec<Probe>,
    /// The reasons that could be read, in their order.
    pub reasons: Vec<Reason>,
    /// The groups of devices that could be read, in their order.
    pub device_groups: Vec<DeviceGroup>,
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
    pub waiting: Vec<DeclaredWaiting>,
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
    pub fn families(&self) -> impl Iterator<Item = (&Spanned<String>, FamilyKind)> {
        let waiting = self.waiting.iter().map(|metric| (&metric.name, FamilyKind::Gauge));
        self.metrics.iter().map(|metric| (&metric.name, metric.kind.family())).chain(waiting)
    }
}

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
