//! YAML tree → [`Probe`]: this module checks forms and names, [`crate::check`] the meaning on a kernel.
//!
//! It reports as many mistakes as possible at once, each with its place.

mod decoder;
mod device_group;
mod effect;
mod event;
mod event_keys;
mod keys;
mod label;
mod metric;
mod otlp;
mod overrides;
mod point;
mod reason;
mod regexp;
mod single;
mod state;

pub(crate) use keys::{INFLIGHT_TIMEOUT, MAX_FUNCTIONS};
pub use keys::{schema, tables};
pub use metric::OWN_NAMES;
pub use overrides::parse_overrides;

use crate::{
    diagnostic::{Diagnostic, SourceFile},
    expr,
    probe::{Event, Expression, KernelRange, Library, Probe, ProbeFile, Root, Shown, parse_error},
    reader::{Fields, Reader},
    yaml::{self, Data, Node},
};
use std::sync::Arc;

/// Most probes in one file.
const MAX_PROBES: usize = 1000;
/// The keys that determine what a probe attaches to.
const FORMS: [&str; 6] = ["at", "events", "start", "end", "function", "between"];
/// Most attach points behind one `at`.
const MAX_ALTERNATIVES: usize = 16;

/// Parses a file of probes. Returns the probes without mistakes, and messages about the others.
pub fn parse(file: &Arc<SourceFile>) -> (ProbeFile, Vec<Diagnostic>) {
    let mut reader = Reader::new(file);
    let mut result = ProbeFile::default();
    let parsed = yaml::parse(file);
    if let Ok(Some(root)) = &parsed {
        reader.file = veiled(file, root);
    }
    match parsed {
        Err(mut diagnostic) => {
            // The tree is not known, so neither is where headers are.
            if file.text.contains("headers:") {
                diagnostic.file = SourceFile::new(file.name.clone(), yaml::keys_only(&file.text));
            }
            reader.diagnostics.push(diagnostic);
        }
        Ok(None) => {}
        Ok(Some(root)) => {
            if let Some(fields) = reader.fields(&root, keys::FILE, "the file") {
                result.library = fields.get("library").map_or(Library::None, |node| reader.library(node));
                result.reasons = fields.get("reasons").map(|node| reader.reasons(node)).unwrap_or_default();
                result.overrides =
                    fields.get("overrides").map(|node| reader.overrides(node)).unwrap_or_default();
                result.device_groups =
                    fields.get("device_groups").map(|node| reader.device_groups(node)).unwrap_or_default();
                result.otlp = reader.otlp(fields.get("exporters"), fields.get("otlp"));
                for node in fields.get("probes").map(|node| reader.list(node, "probes")).unwrap_or_default() {
                    if result.probes.len() == MAX_PROBES {
                        reader.error(node.span.clone(), format!("more than {MAX_PROBES} probes in one file"));
                        break;
                    }
                    result.probes.extend(reader.probe(node));
                }
            }
        }
    }
    (result, reader.diagnostics)
}

/// The file with the secrets of `otlp` blanked, because messages show lines of it.
fn veiled(file: &Arc<SourceFile>, root: &Node) -> Arc<SourceFile> {
    let entry = |node: &Node, name: &str| match &node.data {
        Data::Mapping(entries) => entries
            .iter()
            .find(|(key, _)| matches!(&key.data, Data::Scalar { text, .. } if text == name))
            .map(|(_, value)| value.clone()),
        _ => None,
    };
    let Some(otlp) = entry(root, "otlp") else { return file.clone() };
    let spans =
        ["headers", "endpoint", "metrics_endpoint"].map(|name| entry(&otlp, name).map(|node| node.span));
    let mut shown = file.text.clone();
    for span in spans.into_iter().flatten() {
        yaml::veil(&mut shown, span);
    }
    if shown == file.text { file.clone() } else { SourceFile::new(file.name.clone(), shown) }
}

impl Reader {
    fn kernel(&mut self, node: &Node) -> Option<KernelRange> {
        let text = self.text(node, "kernel")?;
        let range = KernelRange::parse(&text);
        if range.is_none() {
            self.error_hint(
                node.span.clone(),
                format!("`{text}` is not a range of kernels"),
                "write `>=5.18`, `<6.1` or `>=5.10, <6.2`",
            );
        }
        if range.as_ref().is_some_and(KernelRange::is_empty) {
            self.error_hint(
                node.span.clone(),
                format!("no kernel is in `{text}`"),
                "all parts must hold; write a variant for each range",
            );
        }
        range
    }

    fn expression(&mut self, node: &Node, what: &str) -> Option<Expression> {
        let Data::Scalar { text, .. } = &node.data else {
            let message = format!("`{what}` takes an expression, found {}", node.kind());
            self.error_hint(node.span.clone(), message, "write for example `pid`, or `args.NAME`");
            return None;
        };
        if text.trim().is_empty() {
            self.error_hint(
                node.span.clone(),
                "the expression is empty",
                "write for example `pid`, or `args.NAME`",
            );
            return None;
        }
        match expr::parse(text) {
            Ok(ast) => Some(Expression { ast, node: node.clone() }),
            Err(error) => {
                self.diagnostics.push(parse_error(&self.file, node, error));
                None
            }
        }
    }

    fn expressions(&mut self, node: &Node, what: &str) -> Vec<Expression> {
        match &node.data {
            Data::Sequence(items) if items.len() > 8 => {
                self.error(node.span.clone(), format!("`{what}` has more than 8 parts"));
                Vec::new()
            }
            Data::Sequence(items) if items.is_empty() => {
                let hint = "an expression that is the same at start and end, such as `tid`";
                self.error_hint(node.span.clone(), format!("`{what}` has no part"), hint);
                Vec::new()
            }
            Data::Sequence(items) => items.iter().filter_map(|item| self.expression(item, what)).collect(),
            _ => self.expression(node, what).into_iter().collect(),
        }
    }

    fn library(&mut self, node: &Node) -> Library {
        if let Data::Sequence(items) = &node.data {
            let names = items.iter().filter_map(|item| self.name(item, "library"));
            return Library::Named(names.collect());
        }
        match &node.data {
            Data::Scalar { text, .. } if text == "true" => return Library::All,
            Data::Scalar { text, .. } if text == "false" => {}
            _ => self.error_hint(
                node.span.clone(),
                "`library` is true, false or a list of names",
                "`tapster list --library` shows the names",
            ),
        }
        Library::None
    }

    fn probe(&mut self, node: &Node) -> Option<Probe> {
        let before = self.errors();
        let fields = self.fields(node, keys::PROBE, "the probe")?;
        let name = fields.get("name").and_then(|node| self.name(node, "name"));
        let help = fields.get("help").and_then(|node| self.text(node, "help")).unwrap_or_default();
        let kernel = fields.get("kernel").and_then(|node| self.kernel(node));
        let lets = fields.get("let").map(|node| self.named_expressions(node, "let")).unwrap_or_default();
        let mut starts = self.events(fields.get("start"), "start");
        let mut ends = self.events(fields.get("end"), "end");
        let filter = fields.get("where").and_then(|node| self.expression(node, "where"));
        let each = fields.get("each").and_then(|node| self.each(node));
        let states = fields.get("state").map(|node| self.states(node)).unwrap_or_default();
        let mut notes = fields.get("note").map(|node| self.notes(node)).unwrap_or_default();
        let saves = fields.get("save").map(|node| self.named_expressions(node, "save")).unwrap_or_default();
        if let (Some(save), None) = (fields.get("save"), fields.get("function")) {
            self.error_hint(save.span.clone(), "`save` belongs to `start`", "or beside `function`");
        }
        let is_between = fields.get("between").is_some();
        match (fields.get("at"), fields.get("start"), fields.get("end")) {
            _ if fields.get("events").is_some() || is_between => {
                if self.is_only_form(&fields) {
                    ends = match fields.get("events") {
                        Some(events) => self.single_events(events),
                        None => self.events(fields.get("between"), "between"),
                    };
                }
            }
            (None, None, None) if fields.get("function").is_some() => {
                if let Some(each) = &each {
                    self.error_hint(
                        each.name.span.clone(),
                        "`each` does not go with `function`",
                        "use `start` and `end`",
                    );
                }
                if let Some(pair) = fields.get("function").and_then(|node| self.function(node, saves, filter))
                {
                    starts = vec![pair.0];
                    ends = vec![pair.1];
                }
            }
            (at, start, end) if fields.get("function").is_some() => {
                let other =
                    at.or(start).or(end).map_or_else(|| fields.span.clone(), |node| node.span.clone());
                self.error_hint(
                    other,
                    "`function` stands for a start and an end",
                    "leave out `at`, `start` and `end`, or `function`",
                );
            }
            (Some(at), None, None) => {
                let changes = self.changes(&fields);
                for points in self.attach_points(at) {
                    let event = Event::new(points, at.span.clone());
                    ends.push(Event {
                        filter: filter.clone(),
                        each: each.clone(),
                        changes: changes.clone(),
                        ..event
                    });
                }
            }
            (None, Some(_), Some(_)) => {
                if let Some(filter) = filter {
                    self.error_hint(
                        filter.node.span,
                        "`where` of a pair belongs to `start` or `end`",
                        "move it there",
                    );
                }
                if let Some(each) = fields.get("each") {
                    self.error_hint(each.span.clone(), "`each` of a pair belongs to `end`", "move it there");
                }
            }
            (None, None, None) if FORMS.iter().any(|key| !fields.lacks(key)) => {}
            (None, None, None) => self.error_hint(
                fields.span.clone(),
                "the probe attaches to nothing",
                "give `at`, `events`, `function`, `between`, or `start` and `end`",
            ),
            (Some(at), _, _) => {
                let message = "`at` cannot stand beside `start` or `end`";
                self.error_hint(
                    at.span.clone(),
                    message,
                    "give `at` for single events, the others for a time between two",
                );
            }
            (None, Some(start), None) if fields.lacks("end") => {
                self.error_hint(
                    start.span.clone(),
                    "a probe with `start` needs `end`",
                    "where the measured time ends",
                );
            }
            (None, None, Some(end)) if fields.lacks("start") => {
                let hint = "where the measured time begins; a single event stands behind `at`";
                self.error_hint(end.span.clone(), "a probe with `end` needs `start`", hint);
            }
            (None, _, _) => {}
        }
        if fields.lacks("at")
            && let Some((word, node)) =
                ["set", "add", "clear"].iter().find_map(|word| Some((word, fields.get(word)?)))
        {
            let message = format!("`{word}` stands beside `at` or in an event");
            self.error_hint(node.span.clone(), message, "move it to `start`, `end` or `note`");
        }
        self.root(&fields, [&mut starts, &mut ends, &mut notes]);
        let has_events = fields.get("events").is_some();
        let mut labels = fields.get("labels").map(|node| self.labels(node, has_events)).unwrap_or_default();
        let (metrics, waiting) =
            fields.get("metrics").map(|node| self.metrics(node, has_events)).unwrap_or_default();
        // Where some are wrong, others would seem to be fed by nobody.
        if has_events && self.errors() == before {
            self.own_lets(&ends, &lets);
            self.own_values(&ends, &mut labels, &metrics);
        }
        if let (Some(metric), true) = (waiting.first(), fields.lacks("start") && fields.lacks("function")) {
            self.starts_wanted(metric);
        }
        let max_series = self.number(&fields, "max_series");
        let max_inflight = self.number(&fields, "max_inflight");
        let max_functions = self.number(&fields, "max_functions");
        let inflight_timeout_ns =
            fields.get("inflight_timeout").and_then(|node| self.duration(node, "inflight_timeout"));
        let per_cpu = fields.get("rows").and_then(|node| match self.text(node, "rows")?.as_str() {
            "per_cpu" => Some(true),
            "shared" => Some(false),
            "auto" => None,
            other => {
                self.error_hint(
                    node.span.clone(),
                    format!("`rows` cannot be `{other}`"),
                    "use auto, per_cpu or shared",
                );
                None
            }
        });
        let enabled = fields.get("enabled").and_then(|node| self.boolean(node, "enabled"));
        let enabled = enabled.unwrap_or_else(|| fields.key("enabled").default_truth());
        self.without_effect(&fields, &starts, &ends, &notes, &metrics);
        let events: Vec<&Event> = notes.iter().chain(&starts).chain(&ends).collect();
        self.state_is_used(&states, &events, &lets, (&labels, &metrics), before);
        let probe = Probe {
            file: self.file.clone(),
            name: name?,
            meaning: node.meaning(),
            help,
            kernel,
            lets,
            starts,
            ends,
            between: is_between,
            left_out: Vec::new(),
            notes,
            states,
            labels,
            metrics,
            waiting,
            max_series,
            max_inflight,
            inflight_timeout_ns,
            max_functions,
            per_cpu,
            enabled,
            shown: Shown::default(),
        };
        (self.errors() == before).then_some(probe)
    }

    /// Reads `pid` and `container`: the root under which the binaries of all attach points are.
    fn root(&mut self, fields: &Fields<'_>, events: [&mut Vec<Event>; 3]) {
        let root = match (fields.get("pid"), fields.get("container")) {
            (None, None) => return,
            (Some(_), Some(container)) => {
                self.error_hint(
                    container.span.clone(),
                    "`container` cannot stand beside `pid`",
                    "a process of the container says the same",
                );
                return;
            }
            (Some(pid), None) => self.written(fields, "pid").map(|number| (pid, Root::Process(number))),
            (None, Some(container)) => match self.text(container, "container") {
                Some(text) if text.is_empty() || text.contains(['/', ' ']) => {
                    self.error_hint(
                        container.span.clone(),
                        format!("`{text}` is not a container"),
                        "give the beginning of its id, or its name",
                    );
                    None
                }
                text => text.map(|text| (container, Root::Container(text))),
            },
        };
        let Some((node, root)) = root else { return };
        let mut points: Vec<_> = events.into_iter().flatten().flat_map(|event| &mut event.at).collect();
        if !points.is_empty() && points.iter().all(|point| point.value.binary().is_none()) {
            self.error_hint(
                node.span.clone(),
                "no attach point of the probe is in a program or library",
                "to count a process only, write where: pid == NUMBER",
            );
        }
        for point in &mut points {
            point.value = point.value.clone().within(&root);
        }
    }
}
