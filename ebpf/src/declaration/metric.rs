//! Metrics. Each kind of metric reads its own keys, in [`crate::metric`].

use super::keys;
use crate::{
    diagnostic::Spanned,
    metric::{self, MetricDescription},
    names::FamilyKind,
    probe::{DeclaredWaiting, Metric, MetricKind, WAITING_KEYS, WaitingKind},
    reader::{Fields, MAX_PARTS, Reader},
    unit::{MOST_PARTS, UNITS, Unit},
    yaml::{Data, Node},
};

/// Prefixes of names of the exporter's own families: about itself, its web server, its pushes, arrays and other sources. An
/// entry without a final `_` is a whole name.
pub const OWN_NAMES: [&str; 18] = [
    "probe_",
    "scrape_",
    "config_",
    "build_",
    "program_",
    "otlp_",
    "web_",
    "log_",
    "source_",
    "symbols_",
    "raid_array_",
    "block_unseen_",
    "block_device_info",
    "block_device_backing_info",
    "raid_member_info",
    "online_cpus",
    "host_context_switches_total",
    "ready",
];

/// A metric of events, or of waiting starts.
enum AnyMetric {
    Event(Box<Metric>),
    Waiting(DeclaredWaiting),
}

impl Reader {
    /// Reads metrics of both kinds. With `events` a value may be given by each event.
    pub(super) fn metrics(&mut self, node: &Node, has_events: bool) -> (Vec<Metric>, Vec<DeclaredWaiting>) {
        let items = self.list(node, "metrics");
        if matches!(&node.data, Data::Sequence(items) if items.is_empty()) {
            self.error_hint(
                node.span.clone(),
                "the probe has no metric",
                "write for example [{ counter: things_total }]",
            );
        }
        if items.len() > MAX_PARTS {
            self.error(node.span.clone(), format!("more than {MAX_PARTS} metrics in one probe"));
            return (Vec::new(), Vec::new());
        }
        let (mut metrics, mut waiting) = (Vec::new(), Vec::new());
        for item in items {
            match self.metric(item, has_events) {
                Some(AnyMetric::Event(metric)) => metrics.push(*metric),
                Some(AnyMetric::Waiting(metric)) => waiting.push(metric),
                None => {}
            }
        }
        (metrics, waiting)
    }

    fn metric(&mut self, node: &Node, has_events: bool) -> Option<AnyMetric> {
        let fields = self.fields(node, keys::METRIC, "the metric")?;
        let all = || metric::KEYS.iter().chain(WAITING_KEYS).map(|key| key.name);
        let kinds: Vec<&str> = all().filter(|kind| fields.get(kind).is_some()).collect();
        let [kind] = kinds.as_slice() else {
            if kinds.is_empty() && all().any(|kind| !fields.lacks(kind)) {
                return None;
            }
            self.error_hint(
                fields.span.clone(),
                format!("a metric is one of {}", listed(&all().collect::<Vec<_>>())),
                "write for example `counter: things_total`",
            );
            return None;
        };
        let kind = *kind;
        let name = self.name(fields.get(kind)?, kind)?;
        self.check_metric_name(kind, &name);
        if let Some(waiting) = WaitingKind::ALL.into_iter().find(|waiting| waiting.name() == kind) {
            return self.waiting(waiting, name, &fields).map(AnyMetric::Waiting);
        }
        let counts_events = !description(kind).is_some_and(|kind| kind.needs_value);
        let unit = fields.get("unit").and_then(|node| self.unit(node, &name.value));
        let value = fields.get("value").and_then(|node| self.expression(node, "value"));
        if !counts_events && fields.lacks("value") && !has_events {
            self.error_hint(
                name.span.clone(),
                format!("a {kind} needs `value`"),
                "give an expression such as `duration`",
            );
        }
        if let (Some(node), true) =
            (fields.get("unit"), counts_events && fields.lacks("value") && !has_events)
            && matches!(&node.data, Data::Scalar { text, .. } if text != "none")
        {
            let message = format!("`{}` counts events, which have no unit", name.value);
            self.error_hint(node.span.clone(), message, "leave `unit` out, or give a `value`");
        }
        for MetricDescription { key: of, options, .. } in
            metric::KINDS.iter().filter(|other| other.key != kind)
        {
            for option in *options {
                if let Some(node) = fields.get(option.name) {
                    let message = format!("`{}` belongs to a {of}, not to a {kind}", option.name);
                    self.error(node.span.clone(), message);
                }
            }
        }
        let kind = MetricKind::declare(kind, self, &fields);
        Some(AnyMetric::Event(Box::new(Metric {
            help: fields.get("help").and_then(|node| self.text(node, "help")).unwrap_or_default(),
            filter: fields.get("where").and_then(|node| self.expression(node, "where")),
            name,
            kind,
            value,
            unit,
        })))
    }

    /// Reads a metric of waiting starts, which takes no value of an event.
    fn waiting(
        &mut self,
        kind: WaitingKind,
        name: Spanned<String>,
        fields: &Fields<'_>,
    ) -> Option<DeclaredWaiting> {
        let kinds = || metric::KEYS.iter().chain(WAITING_KEYS);
        let others = keys::METRIC.iter().map(|key| key.name);
        for key in others.filter(|key| *key != "help" && kinds().all(|kind| kind.name != *key)) {
            if let Some(node) = fields.get(key) {
                self.error_hint(
                    node.span.clone(),
                    format!("`{}` has no `{key}`: it is told of starts, and not by an event", kind.name()),
                    "leave it out",
                );
                return None;
            }
        }
        if kind == WaitingKind::Oldest && !name.value.ends_with("_seconds") {
            self.error_hint(
                name.span,
                format!("`{}` is an age in seconds, and its name does not say so", name.value),
                format!("call it `{}_seconds`", name.value),
            );
            return None;
        }
        let help = fields.get("help").and_then(|node| self.text(node, "help")).unwrap_or_default();
        Some(DeclaredWaiting { name, help, kind })
    }

    /// Reports a metric of waiting starts in a probe without starts.
    pub(super) fn starts_wanted(&mut self, metric: &DeclaredWaiting) {
        self.error_hint(
            metric.name.span.clone(),
            format!(
                "`{}` is about starts that wait for their end, and the probe has no start",
                metric.kind.name()
            ),
            "give the probe `start` and `end`, or `function`",
        );
    }

    fn check_metric_name(&mut self, kind: &str, name: &Spanned<String>) {
        let text = name.value.as_str();
        let family = description(kind).map_or(FamilyKind::Gauge, |kind| kind.family);
        let is_counter = family == FamilyKind::Counter;
        if is_counter && !text.ends_with("_total") {
            self.error_hint(
                name.span.clone(),
                format!("the {kind} `{text}` does not end in `_total`"),
                format!("call it `{text}_total`"),
            );
        }
        let reserved = ["_total", "_bucket", "_sum", "_count", "_created", "_info"];
        if let Some(suffix) = reserved.iter().find(|suffix| text.ends_with(**suffix))
            && !(is_counter && *suffix == "_total")
        {
            self.error_hint(
                name.span.clone(),
                format!("the name of a {kind} cannot end in `{suffix}`"),
                "Prometheus gives that ending a meaning of its own",
            );
        }
        if let Some(short) = text.strip_prefix("tapster_") {
            self.error_hint(
                name.span.clone(),
                "`tapster_` is put before every metric",
                format!("call it `{short}`"),
            );
        }
        // `ready_total` is, to OpenMetrics, the family `ready`.
        let base = family.base(text);
        let is_own = |own: &&&str| if own.ends_with('_') { text.starts_with(**own) } else { base == **own };
        if let Some(own) = OWN_NAMES.iter().find(is_own) {
            let message = if own.ends_with('_') {
                format!("names that begin with `{own}` are the exporter's own")
            } else {
                format!("the name `{own}` is the exporter's own")
            };
            self.error_hint(name.span.clone(), message, "choose another name");
        }
    }

    fn unit(&mut self, node: &Node, metric: &str) -> Option<Spanned<Unit>> {
        let text = self.text(node, "unit")?;
        let Some(unit) = Unit::parse(&text) else {
            let names: Vec<&str> = UNITS.iter().map(|(name, _)| *name).collect();
            let hint = if text.contains('/') {
                format!("a part is `1/N`, of a second `1/N s`, with N from 2 to {MOST_PARTS}")
            } else {
                format!("units are {}, and parts such as 1/2048 and 1/250 s", names.join(", "))
            };
            self.error_hint(node.span.clone(), format!("there is no unit `{text}`"), hint);
            return None;
        };
        let promised = ["seconds", "bytes"]
            .into_iter()
            .find(|base| metric.trim_end_matches("_total").ends_with(&format!("_{base}")));
        let given = match text.as_str() {
            "ns" | "us" | "ms" | "s" => Some("seconds"),
            "bytes" | "sectors" | "kib" => Some("bytes"),
            _ if unit.is_time() => Some("seconds"),
            _ => None,
        };
        if let Some(promised) = promised
            && given != Some(promised)
        {
            let hint = match given {
                Some(given) => format!("it is exposed in {given}: end the name in `_{given}`"),
                None if promised == "seconds" => match unit {
                    Unit::Fraction { divisor, .. } => format!("say 1/{divisor} s"),
                    _ => "say ns, us, ms or s".into(),
                },
                None => "say bytes, sectors or kib".into(),
            };
            self.error_hint(
                node.span.clone(),
                format!("`{metric}` promises {promised}, but its unit is `{text}`"),
                hint,
            );
            return None;
        }
        Some(Spanned::new(unit, node.span.clone()))
    }
}

/// Describes a kind of metric of events, for a hint.
fn description(kind: &str) -> Option<&'static MetricDescription> {
    metric::KINDS.iter().find(|known| known.key == kind)
}

/// Formats a list: `a, b and c`
fn listed(names: &[&str]) -> String {
    match names {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        names => names.join(""),
    }
}
