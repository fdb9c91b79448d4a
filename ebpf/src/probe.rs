//! A probe as declared: the contents of the YAML, checked for form but not yet against a kernel.

mod decoder;
mod device_group;
mod kernel;
mod overrides;
mod reason;
mod state;
mod waiting;

pub use crate::metric::MetricKind;
pub use crate::point::{AttachPoint, Root};
pub use crate::unit::{UNITS, Unit};
pub use decoder::*;
pub use device_group::*;
pub use kernel::*;
pub use overrides::*;
pub use reason::*;
pub use state::*;
pub use waiting::*;

use crate::{
    diagnostic::{Diagnostic, SourceFile, Span, Spanned},
    expr::{Expr, ParseError},
    missing::AbsentEvent,
    names::FamilyKind,
    yaml::{Data, Node},
};
use std::sync::Arc;

/// A file of probes.
#[derive(Clone, Debug, Default)]
pub struct ProbeFile {
    /// The shipped probes that run besides those of this file.
    pub library: Library,
    /// The probes that were read without errors.
    pub probes: Vec<Probe>,
    /// The reasons that were read without errors, in the order written.
    pub reasons: Vec<Reason>,
    /// The groups of devices that were read without errors, in the order written.
    pub device_groups: Vec<DeviceGroup>,
    /// The destinations of metrics.
    pub otlp: Option<Otlp>,
    /// What is changed of shipped probes.
    pub overrides: Vec<Override>,
}

/// `exporters:` and `otlp:` of a file: texts as they were written. The exporter parses them.
#[derive(Clone, Debug)]
pub struct Otlp {
    /// The file.
    pub file: Arc<SourceFile>,
    /// Their place in the file.
    pub span: Span,
    /// Keys that have one text.
    pub settings: Vec<(&'static str, Spanned<String>)>,
    /// Names and values of headers.
    pub headers: Vec<(Spanned<String>, Spanned<String>)>,
    /// Attributes of the resource.
    pub resource: Vec<(Spanned<String>, Spanned<String>)>,
}

impl Otlp {
    /// Whether another file has the same contents.
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

/// The value of `library:`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Library {
    /// No shipped probes: only the file's own probes run.
    #[default]
    None,
    /// Every shipped probe that is on by default.
    All,
    /// The shipped probes with these names.
    Named(Vec<Spanned<String>>),
}

/// One probe.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The file of its declaration, which all spans refer to.
    pub file: Arc<SourceFile>,
    /// Its name, unique but for variants limited by `kernel`.
    pub name: Spanned<String>,
    /// The contents of its declaration, without comments and layout, as [`crate::yaml::Node::meaning`] gives them.
    pub meaning: String,
    /// Its help text.
    pub help: String,
    /// The kernels that this variant is for.
    pub kernel: Option<KernelRange>,
    /// Named expressions, in the order written.
    pub lets: Vec<(Spanned<String>, Expression)>,
    /// The start events; empty for a probe of single events.
    pub starts: Vec<Event>,
    /// The end events, or the single events, or those between which times are measured.
    pub ends: Vec<Event>,
    /// Whether each event ends what the one before began: the time between events.
    pub between: bool,
    /// Optional events that the kernel has but refused, so that they are no longer among the events.
    pub left_out: Vec<AbsentEvent>,
    /// Events that count nothing and only change the state.
    pub notes: Vec<Event>,
    /// Values that events leave for others, in the order written.
    pub states: Vec<DeclaredState>,
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
    /// Nanoseconds after which a start without an end is given up, if declared.
    pub inflight_timeout_ns: Option<u64>,
    /// Most functions that a pattern may match.
    pub max_functions: u32,
    /// Whether rows are kept per CPU; if not declared, their size decides.
    pub per_cpu: Option<bool>,
    /// Whether it runs with its whole file or library, and not only if it is named.
    pub enabled: bool,
    /// What it shows of its counts.
    pub shown: Shown,
}

impl Probe {
    /// Whether it measures the time between two events.
    pub fn is_pair(&self) -> bool {
        !self.keepers().is_empty()
    }

    /// The events that keep a start.
    pub fn keepers(&self) -> &[Event] {
        if self.between { &self.ends } else { &self.starts }
    }

    /// All attach points of its events, including alternatives.
    pub fn attach_points(&self) -> impl Iterator<Item = &Spanned<AttachPoint>> {
        self.events().flat_map(|event| &event.at)
    }

    /// All its events: those that count, those that they need, and those that only change the state.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.starts.iter().chain(&self.ends).chain(&self.notes)
    }

    /// Whether it takes stacks of programs.
    pub fn takes_user_stacks(&self) -> bool {
        let lets = self.lets.iter().map(|(_, value)| value);
        let saves = self.keepers().iter().flat_map(|start| &start.saves).map(|(_, value)| value);
        let labels = self.labels.iter().filter_map(|label| label.value.as_ref());
        let own = self.ends.iter().flat_map(|event| event.own.lets.iter().chain(&event.own.labels));
        let own = own.map(|(_, value)| value);
        lets.chain(saves).chain(labels).chain(own).any(|value| value.ast.mentions("ustack"))
    }

    /// Its metrics of both kinds: names without the prefix `tapster_`, and the kinds of their families.
    pub fn families(&self) -> impl Iterator<Item = (&Spanned<String>, FamilyKind)> {
        let waiting = self.waiting.iter().map(|metric| (&metric.name, FamilyKind::Gauge));
        self.metrics.iter().map(|metric| (&metric.name, metric.kind.family())).chain(waiting)
    }
}

/// An expression: its syntax tree, and its place in the YAML.
#[derive(Clone, Debug)]
pub struct Expression {
    /// The syntax tree.
    pub ast: Expr,
    /// The scalar that holds the text.
    pub node: Node,
}

impl Expression {
    /// The text that the spans of the tree refer to.
    pub fn text(&self) -> &str {
        if let Data::Scalar { text, .. } = &self.node.data { text } else { "" }
    }

    /// The place in the file of a byte range of the expression's text.
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
    /// Attach points, as alternatives: the first that the kernel has and accepts is used.
    pub at: Vec<Spanned<AttachPoint>>,
    /// The kernels that this event is for.
    pub kernel: Option<KernelRange>,
    /// The key that joins a start to its end.
    pub key: Vec<Expression>,
    /// The filter: a condition for events that are counted.
    pub filter: Option<Expression>,
    /// Values that a start saves, read as `start.NAME`.
    pub saves: Vec<(Spanned<String>, Expression)>,
    /// The walk over a list, for each element of which the event counts.
    pub each: Option<Each>,
    /// What becomes of the state after it.
    pub changes: Vec<DeclaredChange>,
    /// Whether it is one end of `function`: the entry or the return of whole calls.
    pub whole: bool,
    /// Whether the probe runs without it where it does not exist.
    pub optional: bool,
    /// Whether a start that waits is kept when another of its key comes; otherwise the later one replaces it.
    pub first: bool,
    /// What holds for this event of several alone.
    pub own: OwnValues,
    /// The place of the whole event.
    pub span: Span,
}

impl Event {
    /// All expressions that stand in it.
    pub fn expressions(&self) -> impl Iterator<Item = &Expression> {
        let each = self
            .each
            .iter()
            .flat_map(|each| [&each.from, &each.next].into_iter().chain(&each.size).chain(&each.within));
        let changes = self.changes.iter().flat_map(|change| change.key.iter().chain(change.effect.value()));
        let saves = self.saves.iter().map(|(_, value)| value);
        let own = self.own.expressions();
        self.key.iter().chain(&self.filter).chain(saves).chain(each).chain(changes).chain(own)
    }

    /// An event at one of these attach points, with nothing else written.
    pub fn new(at: Vec<Spanned<AttachPoint>>, span: Span) -> Self {
        Self {
            at,
            kernel: None,
            key: Vec::new(),
            filter: None,
            saves: Vec::new(),
            each: None,
            changes: Vec::new(),
            whole: false,
            optional: false,
            first: false,
            own: OwnValues::default(),
            span,
        }
    }

    /// Whether it feeds the metric with this name, without `tapster_`.
    pub fn feeds(&self, metric: &str) -> bool {
        self.own.metrics.is_none() || self.own_value(metric).is_some()
    }

    /// Its own value for a metric.
    pub fn own_value(&self, metric: &str) -> Option<&Expression> {
        named(self.own.metrics.as_deref().unwrap_or_default(), metric)
    }

    /// Its own value for a label.
    pub fn own_label(&self, label: &str) -> Option<&Expression> {
        named(&self.own.labels, label)
    }
}

fn named<'e>(values: &'e [(Spanned<String>, Expression)], wanted: &str) -> Option<&'e Expression> {
    values.iter().find(|(name, _)| name.value == wanted).map(|(_, value)| value)
}

/// What an event of `events` has of its own.
#[derive(Clone, Debug, Default)]
pub struct OwnValues {
    /// Named expressions, in the order written; they come before those of the probe.
    pub lets: Vec<(Spanned<String>, Expression)>,
    /// Values of labels, in place of those of the probe.
    pub labels: Vec<(Spanned<String>, Expression)>,
    /// Values of the metrics that the event feeds; `None` if it feeds all, with the values that they have.
    pub metrics: Option<Vec<(Spanned<String>, Expression)>>,
}

impl OwnValues {
    /// All of its expressions.
    pub fn expressions(&self) -> impl Iterator<Item = &Expression> {
        let metrics = self.metrics.iter().flatten();
        self.lets.iter().chain(&self.labels).chain(metrics).map(|(_, value)| value)
    }
}

/// A walk over a linked list.
#[derive(Clone, Debug)]
pub struct Each {
    /// Name of the element inside expressions.
    pub name: Spanned<String>,
    /// The pointer to the first element.
    pub from: Expression,
    /// The pointer to the next element.
    pub next: Expression,
    /// Most elements that are visited; a longer list is counted as dropped.
    pub limit: u32,
    /// The size of an element, in the unit of `within`.
    pub size: Option<Expression>,
    /// The walk ends when the sizes of the elements exceed this.
    pub within: Option<Expression>,
}

/// A label.
#[derive(Clone, Debug)]
pub struct Label {
    /// Its name.
    pub name: Spanned<String>,
    /// Its value at events that have none of their own; `None` if every event has one.
    pub value: Option<Expression>,
    /// Its decoder; if not declared, its type decides.
    pub decoder: Option<Spanned<Decoder>>,
}

/// A metric.
#[derive(Clone, Debug)]
pub struct Metric {
    /// Its name without the prefix `tapster_`.
    pub name: Spanned<String>,
    /// Its help text.
    pub help: String,
    /// Its kind.
    pub kind: MetricKind,
    /// The value that is added or kept; a counter without a value adds 1.
    pub value: Option<Expression>,
    /// A filter for events of this metric, among those that the probe counts.
    pub filter: Option<Expression>,
    /// The unit of the value; for a duration the default is nanoseconds.
    pub unit: Option<Spanned<Unit>>,
}
