//! Numbers with their units for people: three digits, and the unit that fits.

use tapster_ebpf::typed::TypedMetric;

/// The base unit of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BaseUnit {
    Seconds,
    Bytes,
    /// A number of things, or whatever the metric's name says.
    None,
}

const SECONDS: [(&str, f64); 4] = [("ns", 1e-9), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0)];
const BYTES: [(&str, f64); 6] = [
    ("B", 1.0),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("TiB", 1_099_511_627_776.0),
    ("PiB", 1_125_899_906_842_624.0),
];

impl BaseUnit {
    pub(super) fn of(metric: &TypedMetric) -> Self {
        use tapster_ebpf::probe::Unit as Raw;
        let stem = metric.name.strip_suffix("_total").unwrap_or(&metric.name);
        match metric.unit {
            Raw::Nanoseconds
            | Raw::Microseconds
            | Raw::Milliseconds
            | Raw::Fraction { of_second: true, .. } => Self::Seconds,
            Raw::Sectors | Raw::Kibibytes => Self::Bytes,
            // `s` and `bytes` are base units themselves; the name must say which.
            Raw::One if stem.ends_with("_seconds") => Self::Seconds,
            Raw::One if stem.ends_with("_bytes") => Self::Bytes,
            Raw::One | Raw::Fraction { of_second: false, .. } => Self::None,
        }
    }

    /// The unit of a metric of waiting starts.
    pub(super) fn of_waiting(kind: tapster_ebpf::waiting::WaitingKind) -> Self {
        use tapster_ebpf::waiting::WaitingKind;
        match kind {
            WaitingKind::InFlight => Self::None,
            WaitingKind::Oldest => Self::Seconds,
        }
    }

    /// Its name in the JSON.
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            Self::Seconds => Some("seconds"),
            Self::Bytes => Some("bytes"),
            Self::None => None,
        }
    }

    /// A value: `8.70 µs`, `64 MiB`, `16384`.
    pub(super) fn text(self, value: f64) -> String {
        match self {
            Self::Seconds => scaled(value, &SECONDS, 1000.0),
            Self::Bytes => scaled(value, &BYTES, 1024.0),
            Self::None => number(value),
        }
    }

    /// A value per second.
    pub(super) fn rate(self, per_second: f64) -> String {
        match self {
            Self::Seconds | Self::Bytes => format!("{}/s", self.text(per_second)),
            Self::None => format!("{}/s", digits(per_second)),
        }
    }
}

/// A value in the unit in which it has one to three digits before the point; `step` is the factor between units.
fn scaled(value: f64, units: &[(&str, f64)], step: f64) -> String {
    if !value.is_finite() {
        return number(value);
    }
    // Rounding may lead to the next unit: 999.6 µs are a millisecond.
    let fits = |(_, scale): &&(&str, f64)| (value.abs() / scale).round() < step;
    let Some((name, scale)) = units.iter().find(fits).or(units.last()) else { return number(value) };
    let scaled = value / scale;
    if scaled == 0.0 {
        return "0".into();
    }
    // Bytes have no fractions, and fractions of a nanosecond are not measured.
    let is_smallest = units.first().is_some_and(|(first, _)| first == name);
    if is_smallest && scaled.fract() == 0.0 {
        format!("{scaled:.0} {name}")
    } else {
        format!("{} {name}", digits(scaled))
    }
}

/// Three digits, more only before the point.
fn digits(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.005 => format!("{value:.2}"),
        _ => format!("{value:.1e}"),
    }
}

/// A number of things: whole numbers in full.
fn number(value: f64) -> String {
    // Above 2^53, an f64 cannot represent every integer.
    if value.fract() == 0.0 && value.abs() < 9e15 { format!("{value:.0}") } else { digits(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_a_unit() {
        for (value, expected) in [
            (0.0, "0"),
            (1e-9, "1 ns"),
            (4.26e-7, "426 ns"),
            (9.994e-7, "999 ns"),
            (9.996e-7, "1.00 µs"),
            (8.696e-6, "8.70 µs"),
            (99.94e-6, "99.9 µs"),
            (99.96e-6, "100 µs"),
            (999.4e-6, "999 µs"),
            (999.6e-6, "1.00 ms"),
            (0.049_627, "49.6 ms"),
            (1.0, "1.00 s"),
            (48.337_401, "48.3 s"),
            (48_337.4, "48337 s"),
            (-0.002, "-2.00 ms"),
            (f64::INFINITY, "inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(BaseUnit::Seconds.text(value), expected, "{value}");
        }
        for (value, expected) in [
            (0.0, "0"),
            (1.0, "1 B"),
            (1023.0, "1023 B"),
            (1024.0, "1.00 KiB"),
            (1_048_575.0, "1.00 MiB"),
            (67_108_864.0, "64.0 MiB"),
            (5e18, "4441 PiB"),
        ] {
            assert_eq!(BaseUnit::Bytes.text(value), expected, "{value}");
        }
        for (value, expected) in [
            (0.0, "0"),
            (16_384.0, "16384"),
            (-3.0, "-3"),
            (0.5, "0.50"),
            (1234.5, "1234"),
            (1e-4, "1.0e-4"),
            (1e16, "10000000000000000"),
        ] {
            assert_eq!(BaseUnit::None.text(value), expected, "{value}");
        }
        assert_eq!(BaseUnit::None.rate(1638.4), "1638/s");
        assert_eq!(BaseUnit::None.rate(0.25), "0.25/s");
        assert_eq!(BaseUnit::Bytes.rate(6_710_886.4), "6.40 MiB/s");
        assert_eq!(BaseUnit::Seconds.rate(0.5), "500 ms/s");
    }
}
