//! `buckets:` of a histogram: its keys and its reader.

use crate::{
    diagnostic::{Diagnostic, SourceFile},
    expr,
    histogram::{Buckets, Exponential},
    key::{Fallback, Form, Key},
    reader::{Fields, Reader},
    unit::Unit,
    yaml::{Data, Node},
};
use std::sync::Arc;

/// Most bounds of a histogram.
const MAX_BOUNDS: usize = 512;

/// Keys of `buckets`.
pub(crate) const BUCKETS: &[Key] = &[
    Key::new(
        "exponential",
        Form::Mapping(EXPONENTIAL),
        "Powers of two and their roots; also exposed as a native histogram.",
    ),
    Key::new("linear", Form::Mapping(LINEAR), "Buckets of one width."),
];

/// Keys of `exponential`.
pub(crate) const EXPONENTIAL: &[Key] = &[
    Key::new(
        "schema",
        Form::Integer(0, 4),
        "2^schema buckets for each power of two, so neighbouring bounds differ by 100 %, 41 %, 19 %, 9 %, 4.4 %.",
    )
    .or(Fallback::Integer(3)),
    Key::new(
        "min",
        Form::Integer(-40, 60),
        "The lowest bound is 2^min base units. Values at or below it, also 0 and negative ones, are in the lowest bucket.",
    )
    .or(Fallback::Told("by the unit")),
    Key::new(
        "max",
        Form::Integer(-40, 61),
        "The highest bound is 2^max base units; values above it are in `+Inf`.",
    )
    .or(Fallback::Told("by the unit")),
    Key::new(
        "classic_step",
        Form::Integer(1, 16),
        "Powers of two between two classic bounds. Native buckets are not touched by it.",
    )
    .or(Fallback::Integer(1)),
];

/// Keys of `linear`.
pub(crate) const LINEAR: &[Key] = &[
    Key::required("start", Form::Number, "Upper bound of the first bucket."),
    Key::required("width", Form::Number, "Width of the others."),
    Key::required("count", Form::Integer(1, 512), "Number of bounds."),
];

/// Reads `buckets:` for values of `unit`. Bounds become exact once the unit is known, which may follow from the value's type.
pub(super) fn read(file: &Arc<SourceFile>, node: &Node, unit: Unit) -> Result<Buckets, Vec<Diagnostic>> {
    let mut reader = Reader::new(file);
    let read = match &node.data {
        Data::Sequence(items) => reader.bounds(node, items, unit),
        _ => reader.scheme(node, unit),
    };
    read.filter(|_| reader.errors() == 0).ok_or(reader.diagnostics)
}

impl Reader {
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
            Data::Mapping(_) => self.fields(node, BUCKETS, "`buckets`")?,
            Data::Scalar { .. } | Data::Sequence(_) => Fields::nothing(node, BUCKETS),
        };
        match (fields.get("exponential"), fields.get("linear")) {
            (Some(node), None) => {
                let fields = self.fields(node, EXPONENTIAL, "`exponential`")?;
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
                let fields = self.fields(node, LINEAR, "`linear`")?;
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

    /// Reads a decimal number in base units; returns it with the largest raw integer at or below it.
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

/// The noun that a bound counts, for messages.
fn base(unit: Unit) -> &'static str {
    match unit {
        unit if unit.is_time() => "seconds",
        Unit::Sectors | Unit::Kibibytes => "bytes",
        _ => "what the value counts",
    }
}

#[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "only shown")]
fn float(value: u64) -> f64 {
    value as f64
}

/// Default buckets of a histogram.
pub(super) fn by_unit(unit: Unit) -> Buckets {
    let (min, max) = default_range(unit);
    let [schema, classic_step]: [u8; 2] = ["schema", "classic_step"].map(|name| {
        let key = EXPONENTIAL.iter().find(|key| key.name == name).expect("the table has both");
        key.default_number()
    });
    let thresholds = Exponential::new(schema, min, max, unit.per_base());
    let thresholds = thresholds.expect("default ranges are within 62 bits of their unit");
    Buckets::Exponential { thresholds, min, max, classic_step }
}

/// Exponents of two of the lowest and highest default bound: 0.95 µs to 128 s, or 1 to 2^40. Parts begin where one of them is, or
/// just above.
fn default_range(unit: Unit) -> (i16, i16) {
    match unit {
        Unit::Nanoseconds => (-20, 7),
        Unit::Microseconds => (-19, 10),
        Unit::Milliseconds => (-9, 14),
        Unit::Sectors | Unit::Kibibytes => (10, 40),
        Unit::One => (0, 40),
        Unit::Fraction { divisor, of_second } => {
            let parts = i16::try_from(divisor.ilog2()).expect("a number of 32 bits has at most 31");
            (-parts, if of_second { 14 } else { 40 - parts })
        }
    }
}

/// floor(decimal × numerator / denominator) without intermediate rounding.
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
    use crate::unit::UNITS;

    #[test]
    fn every_unit_has_buckets_without_being_told() {
        for (name, unit) in UNITS {
            let Buckets::Exponential { thresholds, min, max, .. } = by_unit(unit) else { panic!("{name}") };
            assert_eq!((thresholds.schema, (min, max)), (3, default_range(unit)), "{name}");
        }
        // Each number of parts, too.
        for divisor in [2, 3, 100, 250, 1000, 2047, 2048, 2049, 999_999_937, crate::unit::MOST_PARTS] {
            for of_second in [false, true] {
                by_unit(Unit::Fraction { divisor, of_second });
            }
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
