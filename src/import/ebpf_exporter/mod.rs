//! The declarations of `ebpf_exporter` → skeletons of probes.
//!
//! Its YAML declares names, labels, decoders and buckets; which events count, and what labels and values are, is said by C
//! code, which is not translated. So each metric becomes a probe that is off, with `0` where the C code computes something.

mod bucket;
mod label;
mod regexp;
mod section;

use super::{
    ImportedPieces,
    remark::Remark,
    sheet::{SheetItem, YamlValue},
};
use std::{collections::BTreeSet, sync::Arc};
use tapster_ebpf::{
    diagnostic::{Diagnostic, SourceFile, Span},
    yaml::{self, Data, Node},
};

/// Most metrics of one file.
const MAX_METRICS: usize = 500;
/// Sections of their files.
const SECTIONS: [&str; 5] = ["metrics", "tracing", "programs", "kaddrs", "cgroup_id_map"];
/// The event of a skeleton whose own is not known: it is off, so nothing is attached.
const NO_EVENT: &str = "interval:s:1";

/// Whether a key is a section of their files.
pub(super) fn is_section(key: &Node) -> bool {
    text(key).is_some_and(|key| SECTIONS.contains(&key))
}

/// The text of a scalar.
fn text(node: &Node) -> Option<&str> {
    match &node.data {
        Data::Scalar { text, .. } => Some(text),
        _ => None,
    }
}

/// The entries of a mapping; none of anything else.
fn entries(node: &Node) -> &[(Node, Node)] {
    match &node.data {
        Data::Mapping(entries) => entries,
        _ => &[],
    }
}

/// The items of a list; none of anything else.
fn items(node: &Node) -> &[Node] {
    match &node.data {
        Data::Sequence(items) => items,
        _ => &[],
    }
}

/// The value of a key.
fn get<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    entries(node).iter().find(|(name, _)| text(name) == Some(key)).map(|(_, value)| value)
}

/// The number that a key has.
fn number(node: &Node, key: &str) -> Option<f64> {
    get(node, key).and_then(text)?.parse().ok().filter(|number: &f64| number.is_finite())
}

/// Translates a file; `code` is the C code beside it.
pub(super) fn translate(file: &Arc<SourceFile>, code: Option<&str>) -> Result<ImportedPieces, Diagnostic> {
    let hint = "it has `metrics:` with `counters:` and `histograms:`";
    let Some(root) = yaml::parse(file)? else {
        return Err(Diagnostic::error(file, 0..0, "the file is empty").hint(hint));
    };
    if !entries(&root).iter().any(|(key, _)| is_section(key)) {
        return Err(
            Diagnostic::error(file, root.span.clone(), "this is no file of `ebpf_exporter`").hint(hint)
        );
    }
    let mut skeletons = Skeletons {
        pieces: ImportedPieces::default(),
        names: BTreeSet::new(),
        events: section::events(code),
    };
    for (key, value) in entries(&root) {
        let span = key.span.clone();
        match text(key).unwrap_or_default() {
            "metrics" => skeletons.metrics(value),
            "tracing" => {
                let said = "spans are traces: probes give metrics alone";
                skeletons.loss(span, said);
            }
            "kaddrs" => {
                let names: Vec<String> = items(value)
                    .iter()
                    .filter_map(text)
                    .take(8)
                    .map(|name| format!("`kaddr({name})`"))
                    .collect();
                let said = "the addresses of variables are for the C code, and what it reads of them is not carried over: an expression reads";
                let names = if names.is_empty() { "`kaddr(NAME)`".to_owned() } else { names.join(", ") };
                skeletons.loss(span, &format!("{said} {names}"));
            }
            "cgroup_id_map" => {
                skeletons.loss(
                    span,
                    "a choice of cgroups, which the C code reads from a map, is not carried over: write `where: cgroup_matches(\"/system.slice/*\")`, with patterns of paths",
                );
            }
            "programs" => {
                for program in items(value) {
                    // An older form has the metrics below each program.
                    if let Some(metrics) = get(program, "metrics") {
                        skeletons.metrics(metrics);
                    }
                }
            }
            other => skeletons.loss(span, &format!("`{other}` is no section that is known")),
        }
    }
    Ok(skeletons.pieces)
}

/// What is being made of a file.
struct Skeletons {
    pieces: ImportedPieces,
    names: BTreeSet<String>,
    events: section::CodeEvents,
}

impl Skeletons {
    fn loss(&mut self, span: Span, said: &str) {
        self.pieces.remarks.push(Remark::loss(span, said));
    }

    fn note(&mut self, span: Span, said: &str) {
        self.pieces.remarks.push(Remark::note(span, said));
    }

    fn metrics(&mut self, node: &Node) {
        for (kind, list) in entries(node) {
            let kind_name = text(kind).unwrap_or_default();
            for metric in items(list) {
                self.pieces.groups.push(metric.span.clone());
                match kind_name {
                    _ if self.pieces.items.len() >= MAX_METRICS => {
                        let said = format!("more than {MAX_METRICS} metrics of one file");
                        return self.loss(metric.span.clone(), &said);
                    }
                    "counters" | "histograms" => self.metric(metric, kind_name == "histograms"),
                    other => self
                        .loss(metric.span.clone(), &format!("`{other}` is no kind of metrics that is known")),
                }
            }
        }
    }

    fn metric(&mut self, node: &Node, is_histogram: bool) {
        let span = node.span.clone();
        let Some(declared) = get(node, "name").and_then(text) else {
            return self.loss(span, "a metric without a name");
        };
        let name = self.name(declared, is_histogram, &span);
        let help = get(node, "help").and_then(text).unwrap_or_default();
        let (mut labels, mut taken) = (Vec::new(), BTreeSet::new());
        for one in get(node, "labels").map(items).unwrap_or_default() {
            let Some(declared) = get(one, "name").and_then(text) else { continue };
            // The last label of a histogram is its bucket.
            if is_histogram && declared == "bucket" {
                continue;
            }
            let mut notes = Vec::new();
            let made = label::label(declared, one, &mut taken, &mut notes);
            for said in notes {
                self.note(one.span.clone(), &said);
            }
            match made {
                Ok((label, value)) => labels.push((label, value)),
                Err(said) => self.loss(one.span.clone(), &format!("the label `{declared}`: {said}")),
            }
        }
        let mut metric =
            vec![(if is_histogram { "histogram" } else { "counter" }.to_owned(), YamlValue::text(&name))];
        if !help.is_empty() {
            metric.push(("help".into(), YamlValue::text(help)));
        }
        if is_histogram {
            metric.push(("value".into(), YamlValue::text("0")));
            match bucket::buckets(node) {
                Ok(found) => {
                    metric.push(("unit".into(), YamlValue::text(found.unit)));
                    metric.push(("buckets".into(), found.buckets));
                }
                Err(said) => return self.loss(span, &said),
            }
        }
        self.explain(&span, !labels.is_empty(), is_histogram);
        let mut keys = vec![
            ("name".to_owned(), YamlValue::text(name.trim_end_matches("_total"))),
            ("enabled".to_owned(), YamlValue::Bare("false".into())),
            ("at".to_owned(), YamlValue::text(self.events.only().unwrap_or(NO_EVENT))),
        ];
        if !labels.is_empty() {
            keys.push(("labels".into(), YamlValue::Map(labels)));
        }
        keys.push(("metrics".into(), YamlValue::List(vec![YamlValue::Map(metric)])));
        self.pieces.items.push((node.span.clone(), SheetItem::Probe(keys)));
    }

    /// A name that a metric may have: theirs, with the end that its kind has.
    fn name(&mut self, declared: &str, is_histogram: bool, span: &Span) -> String {
        let mut name: String = declared
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' })
            .take(150)
            .collect();
        if name.starts_with(|c: char| c.is_ascii_digit()) {
            name.insert(0, '_');
        }
        if is_histogram {
            name = name.trim_end_matches("_total").to_owned();
        } else if !name.ends_with("_total") {
            name = format!("{}_total", name.trim_end_matches("_count").trim_end_matches("_sum"));
        }
        let mut free = name.clone();
        let mut number = 2;
        while !self.names.insert(free.trim_end_matches("_total").to_owned()) {
            let (stem, end) =
                name.strip_suffix("_total").map_or((name.as_str(), ""), |stem| (stem, "_total"));
            free = format!("{stem}_{number}{end}");
            number += 1;
        }
        if free != declared {
            let mut said = format!("`{declared}` is called `{free}`");
            if !is_histogram {
                said.push_str(", since a counter ends so; a value that goes down is a `gauge`");
            }
            self.note(span.clone(), &said);
        }
        free
    }

    /// What is left to be written of a skeleton.
    fn explain(&mut self, span: &Span, has_labels: bool, is_histogram: bool) {
        let mut wanting = Vec::new();
        if self.events.only().is_none() {
            wanting.push("the event, for which `interval:s:1` stands".to_owned());
        }
        match (has_labels, is_histogram) {
            (true, true) => {
                wanting.push("what labels and the value are, for which `0` and the like stand".into());
            }
            (true, false) => wanting.push("what labels are, for which `0` and the like stand".into()),
            (false, true) => {
                wanting
                    .push("what the value is, for which `0` stands: `duration` of a pair is a time".into());
            }
            (false, false) => wanting.push("which events count, as `where`".into()),
        }
        let mut said =
            format!("the C code says {}; put it in and remove `enabled: false`", wanting.join(" and "));
        let events = self.events.told();
        if !events.is_empty() {
            said = format!("{said}. Its programs are at {events}");
        }
        self.pieces.remarks.push(Remark::loss(span.clone(), said));
    }
}
