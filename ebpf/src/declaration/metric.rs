//! Metrics and their buckets.

use super::{Fields, MAX_PARTS, Reader, keys};
use crate::{
    diagnostic::{Diagnostic, SourceFile, Spanned},
    expr,
    histogram::{Buckets, Exponential},
    metric::{self, Description},
    names::FamilyKind,
    probe::{Metric, MetricKind},
    unit::{UNITS, Unit},
    waiting::{self, DeclaredWaiting, WaitingKind},
    yaml::{Data, Node},
};
use std::sync::Arc;

/// Most bounds of a histogram.
const MAX_BOUNDS: usize = 512;
/// How names of families begin that the exporter has about itself, its web server, its pushes, arrays and other sources; without
/// `_` at the end a whole name.
const OWN: [&str; 16] = [
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
    "raid_member_info",
    "online_cpus",
    "ready",
];

/// A metric of either kind.
enum AnyMetric {
    Event(Box<Metric>),
    Waiting(DeclaredWaiting),
}

/// Reads `buckets:` for values of `unit`; bounds become exact only once the unit is known, and that
/// may follow from the value's type.
pub(crate) fn buckets(file: &Arc<SourceFile>, node: &Node, unit: Unit) -> Result<Buckets, Vec<Diagnostic>> {
    let mut reader = Reader { file: file.clone(), diagnostics: Vec::new() };
    let read = match &node.data {
        Data::Sequence(items) => reader.bounds(node, items, unit),
        _ => reader.scheme(node, unit),
    };
    read.filter(|_| reader.errors() == 0).ok_or(reader.diagnostics)
}

impl Reader {
    /// Metrics of events, and of starts that wait.
    pub(super) fn metrics(&mut self, node: &Node) -> (Vec<Metric>, Vec<DeclaredWaiting>) {
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
            match self.metric(item) {
                Some(AnyMetric::Event(metric)) => metrics.push(*metric),
                Some(AnyMetric::Waiting(metric)) => waiting.push(metric),
                None => {}
            }
        }
        (metrics, waiting)
    }

    fn metric(&mut self, node: &Node) -> Option<AnyMetric> {
        let fields = self.fields(node, keys::METRIC, "the metric")?;
        let all = || metric::KEYS.iter().chain(waiting::KEYS).map(|key| key.name);
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
        if !counts_events && fields.lacks("value") {
            self.error_hint(
                name.span.clone(),
                format!("a {kind} needs `value`"),
                "give an expression such as `duration`",
            );
        }
        if let (Some(node), true) = (fields.get("unit"), counts_events && fields.lacks("value"))
            && matches!(&node.data, Data::Scalar { text, .. } if text != "none")
        {
            let message = format!("`{}` counts events, which have no unit", name.value);
            self.error_hint(node.span.clone(), message, "leave `unit` out, or give a `value`");
        }
        for Description { key: of, options, .. } in metric::KINDS.iter().filter(|other| other.key != kind) {
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

    /// A metric of starts that wait: there is no event of which it could take a value.
    fn waiting(
        &mut self,
        kind: WaitingKind,
        name: Spanned<String>,
        fields: &Fields<'_>,
    ) -> Option<DeclaredWaiting> {
        let kinds = || metric::KEYS.iter().chain(waiting::KEYS);
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

    /// A probe without starts has a metric of such that wait.
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
        if let Some(own) = OWN.iter().find(is_own) {
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
        let Some((_, unit)) = UNITS.iter().find(|(name, _)| *name == text) else {
            let names: Vec<&str> = UNITS.iter().map(|(name, _)| *name).collect();
            self.error_hint(
                node.span.clone(),
                format!("there is no unit `{text}`"),
                format!("units are {}", names.join(", ")),
            );
            return None;
        };
        let promised = ["seconds", "bytes"]
            .into_iter()
            .find(|base| metric.trim_end_matches("_total").ends_with(&format!("_{base}")));
        let given = match text.as_str() {
            "ns" | "us" | "ms" | "s" => Some("seconds"),
            "bytes" | "sectors" | "kib" => Some("bytes"),
            _ => None,
        };
        if let Some(promised) = promised
            && given != Some(promised)
        {
            let hint = match given {
                Some(given) => format!("it is exposed in {given}: end the name in `_{given}`"),
                None if promised == "seconds" => "say ns, us, ms or s".into(),
                None => "say bytes, sectors or kib".into(),
            };
            self.error_hint(
                node.span.clone(),
                format!("`{metric}` promises {promised}, but its unit is `{text}`"),
                hint,
            );
            return None;
        }
        Some(Spanned::new(*unit, node.span.clone()))
    }

    fn bounds(&mut self, node: &Node, items: &[Node], unit: Unit) -> Option<Buckets> {
        if items.is_empty() || items.len() > MAX_BOUNDS {
            self.error(
                node.span.clone(),
                format!("a histogram has 1 to {MAX_BOUNDS} bounds, found {}", items.len()),
            );
            return None;
        }
        let mut raw = Vec::new();
        let mut bounds: Vec<f64> = Vec::new();
        for item in items {
            let (bound, scaled) = self.scaled(item, unit, "buckets")?;
            if bounds.last().is_some_and(|last| *last >= bound) {
                self.error_hint(
                    item.span.clone(),
                    "bounds must ascend",
                    "sort them and leave out what stands twice",
                );
                return None;
            }
            if raw.last() == Some(&scaled) {
                let hint = "values are whole numbers, and bounds are in the base unit: seconds, bytes, or the value itself without `unit`";
                self.error_hint(
                    item.span.clone(),
                    "no value lies between this bound and the one before",
                    hint,
                );
                return None;
            }
            bounds.push(bound);
            raw.push(scaled);
        }
        Some(Buckets::Explicit { raw, bounds })
    }

    fn scheme(&mut self, node: &Node, unit: Unit) -> Option<Buckets> {
        let before = self.errors();
        let fields = match &node.data {
            Data::Mapping(_) => self.fields(node, keys::BUCKETS, "`buckets`")?,
            Data::Scalar { .. } | Data::Sequence(_) => Fields::nothing(node, keys::BUCKETS),
        };
        match (fields.get("exponential"), fields.get("linear")) {
            (Some(node), None) => {
                let fields = self.fields(node, keys::EXPONENTIAL, "`exponential`")?;
                let (least, most) = default_range(unit);
                let schema = self.number(&fields, "schema");
                let min = self.written(&fields, "min").unwrap_or(least);
                let max = self.written(&fields, "max").unwrap_or(most);
                let classic_step = self.number(&fields, "classic_step");
                let made = |min: i16, max: i16| Exponential::new(schema, min, max, unit.per_base());
                let Some(thresholds) = made(min, max) else {
                    let low_fits = made(min, min + 1).is_some();
                    let message = if min >= max {
                        format!("`min` must be less than `max`, found {min} and {max}")
                    } else if low_fits {
                        format!("2^{max} base units are more than 62 bits of the value's unit")
                    } else {
                        format!("2^{min} base units are less than one of the value's unit")
                    };
                    let place = fields
                        .get(if low_fits { "max" } else { "min" })
                        .map_or(node.span.clone(), |node| node.span.clone());
                    self.error_hint(place, message, format!("the default is min: {least}, max: {most}"));
                    return None;
                };
                Some(Buckets::Exponential { thresholds, min, max, classic_step })
            }
            (None, Some(node)) => {
                let fields = self.fields(node, keys::LINEAR, "`linear`")?;
                let (_, start) = self.scaled(fields.get("start")?, unit, "start")?;
                let (_, width) = self.scaled(fields.get("width")?, unit, "width")?;
                let count = self.written(&fields, "count")?;
                let Some(width) = u64::try_from(width).ok().filter(|width| *width > 0 && *width < 1 << 50)
                else {
                    self.error(
                        fields.get("width")?.span.clone(),
                        "`width` must be at least one of the value's unit",
                    );
                    return None;
                };
                Some(Buckets::Linear { start, width, count })
            }
            // An unknown key was told already.
            _ if self.errors() > before => None,
            _ => {
                self.error_hint(
                    node.span.clone(),
                    "`buckets` is a list of bounds, or one of exponential and linear",
                    "write for example [0.001, 0.01, 0.1]",
                );
                None
            }
        }
    }

    /// A decimal number in base units, and the largest raw integer at or below it.
    fn scaled(&mut self, node: &Node, unit: Unit, what: &str) -> Option<(f64, i64)> {
        let Data::Scalar { text, .. } = &node.data else {
            self.error(node.span.clone(), format!("`{what}` takes numbers, found {}", node.kind()));
            return None;
        };
        let shown: String = text.chars().take(40).collect();
        let Some(number) = text.parse::<f64>().ok().filter(|number| number.is_finite()) else {
            let message = format!("`{shown}` is not a finite number");
            let hint = match text.to_lowercase().trim_start_matches(['+', '.']) {
                "inf" | "infinity" => "leave it out: `+Inf` is always there".into(),
                _ => match expr::parse(text).map(|expr| expr.kind) {
                    Ok(expr::ExprKind::Integer(ns)) if unit.is_time() => {
                        format!("bounds are in seconds: {}", Unit::Nanoseconds.to_base(float(ns)))
                    }
                    _ => format!("bounds are plain numbers of {}", base(unit)),
                },
            };
            self.error_hint(node.span.clone(), message, hint);
            return None;
        };
        let Some(raw) = decimal_floor(text, unit.per_base()) else {
            let message = format!("`{shown}` is more than 62 bits of the value's unit");
            self.error_hint(
                node.span.clone(),
                message,
                format!("bounds are plain numbers of {}", base(unit)),
            );
            return None;
        };
        Some((number, raw))
    }
}

/// What there is to say of a kind of metrics of events.
fn description(kind: &str) -> Option<&'static Description> {
    metric::KINDS.iter().find(|known| known.key == kind)
}

/// `a, b and c`
fn listed(names: &[&str]) -> String {
    match names {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        names => names.join(""),
    }
}

/// What a bound counts, in words.
fn base(unit: Unit) -> &'static str {
    match unit {
        Unit::Nanoseconds | Unit::Microseconds | Unit::Milliseconds => "seconds",
        Unit::Sectors | Unit::Kibibytes => "bytes",
        Unit::One => "what the value counts",
    }
}

#[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "only shown")]
fn float(value: u64) -> f64 {
    value as f64
}

/// Buckets of a histogram whose file does not say them.
pub(crate) fn default_buckets(unit: Unit) -> Buckets {
    let (min, max) = default_range(unit);
    let [schema, classic_step]: [u8; 2] = ["schema", "classic_step"].map(|name| {
        let key = keys::EXPONENTIAL.iter().find(|key| key.name == name).expect("the table has both");
        key.default_number()
    });
    let thresholds = Exponential::new(schema, min, max, unit.per_base());
    let thresholds = thresholds.expect("default ranges are within 62 bits of their unit");
    Buckets::Exponential { thresholds, min, max, classic_step }
}

/// Exponents of two of the lowest and highest default bound: 0.95 µs to 128 s, or 1 to 2^40.
fn default_range(unit: Unit) -> (i16, i16) {
    match unit {
        Unit::Nanoseconds => (-20, 7),
        Unit::Microseconds => (-19, 10),
        Unit::Milliseconds => (-9, 14),
        Unit::Sectors | Unit::Kibibytes => (10, 40),
        Unit::One => (0, 40),
    }
}

/// floor(decimal × numerator / denominator) without rounding on the way.
fn decimal_floor(text: &str, (numerator, denominator): (u64, u64)) -> Option<i64> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let number: i128 = format!("{whole}{fraction}").parse().ok()?;
    let mut value = number.checked_mul(i128::from(numerator))?;
    let mut divisor = i128::from(denominator);
    let power = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let ten = 10_i128.checked_pow(power.unsigned_abs())?;
    if power >= 0 {
        value = value.checked_mul(ten)?;
    } else {
        divisor = divisor.checked_mul(ten)?;
    }
    if negative {
        value = -value;
    }
    i64::try_from(value.div_euclid(divisor)).ok().filter(|raw| raw.unsigned_abs() < 1 << 62)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_has_buckets_without_being_told() {
        for (name, unit) in UNITS {
            let Buckets::Exponential { thresholds, min, max, .. } = default_buckets(unit) else {
                panic!("{name}")
            };
            assert_eq!((thresholds.schema, (min, max)), (3, default_range(unit)), "{name}");
        }
    }

    #[test]
    fn decimals_are_exact() {
        let ns = Unit::Nanoseconds.per_base();
        for (text, unit, expected) in [
            ("0.005", ns, Some(5_000_000)),
            ("0.0000000015", ns, Some(1)),
            ("1e-3", ns, Some(1_000_000)),
            ("2.5", ns, Some(2_500_000_000)),
            ("-1", ns, Some(-1_000_000_000)),
            ("4096", (1, 1), Some(4096)),
            ("4096", (1, 512), Some(8)),
            ("0.3", (1, 1), Some(0)),
            ("-0.3", (1, 1), Some(-1)),
            ("1e30", ns, None),
            ("x", ns, None),
            ("", ns, None),
            ("1e999999999", ns, None),
        ] {
            assert_eq!(decimal_floor(text, unit), expected, "{text}");
        }
    }
}
