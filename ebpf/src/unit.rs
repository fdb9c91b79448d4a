//! Units of metric values, and their ratio to the base unit.

/// The unit of a metric's raw value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// The base unit itself: bytes, pages, items.
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
    /// A part of one, or of a second: a 2048th of the load average, a tick of a clock.
    Fraction {
        /// How many of them make one, 2 to [`MOST_PARTS`].
        divisor: u32,
        /// Whether they are parts of a second; exposed in seconds.
        of_second: bool,
    },
}

/// Most parts of one.
pub const MOST_PARTS: u32 = 1_000_000_000;

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
    /// The unit that is written so: one of [`UNITS`], or a part such as `1/2048` or `1/250 s`.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some((_, unit)) = UNITS.iter().find(|(name, _)| *name == text) {
            return Some(*unit);
        }
        let parts = text.strip_prefix("1/")?;
        let (digits, of_second) = parts.strip_suffix(" s").map_or((parts, false), |digits| (digits, true));
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        let divisor =
            digits.parse().ok().filter(|divisor| is_number && (2..=MOST_PARTS).contains(divisor))?;
        Some(Self::Fraction { divisor, of_second })
    }

    /// Raw units per base unit, as a fraction (numerator, denominator).
    pub fn per_base(self) -> (u64, u64) {
        match self {
            Self::One => (1, 1),
            Self::Nanoseconds => (1_000_000_000, 1),
            Self::Microseconds => (1_000_000, 1),
            Self::Milliseconds => (1_000, 1),
            Self::Sectors => (1, 512),
            Self::Kibibytes => (1, 1024),
            Self::Fraction { divisor, .. } => (divisor.into(), 1),
        }
    }

    /// Whether the unit is one of time.
    pub fn is_time(self) -> bool {
        matches!(
            self,
            Self::Nanoseconds
                | Self::Microseconds
                | Self::Milliseconds
                | Self::Fraction { of_second: true, .. }
        )
    }

    /// Converts a raw value to the base unit.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_values_in_base_units() {
        let expected = [
            ("none", 1.0),
            ("ns", 1e-9),
            ("us", 1e-6),
            ("ms", 1e-3),
            ("s", 1.0),
            ("bytes", 1.0),
            ("sectors", 512.0),
            ("kib", 1024.0),
        ];
        for ((name, unit), (expected_name, one)) in UNITS.into_iter().zip(expected) {
            assert_eq!(name, expected_name);
            assert!((unit.to_base(1.0) / one - 1.0).abs() < 1e-12, "{name}: {}", unit.to_base(1.0));
            assert_eq!(Unit::parse(name), Some(unit));
        }
    }

    /// A quotient of two whole numbers is as exact as a sample can be.
    #[test]
    fn parts_of_one() {
        let part = |text| Unit::parse(text).expect("it is a unit");
        for (text, raw, expected) in [
            ("1/2048", 2048.0, 1.0),
            ("1/2048", 1843.0, 1843.0 / 2048.0),
            ("1/100", 29.0, 0.29),
            ("1/100", 10_001.0, 100.01),
            ("1/3", 2.0, 2.0 / 3.0),
            ("1/250 s", 1.0, 0.004),
            ("1/1000000000 s", 1.0, 1e-9),
        ] {
            assert_eq!(part(text).to_base(raw).to_bits(), f64::to_bits(expected), "{raw} of {text}");
            assert_eq!(part(text).is_time(), text.ends_with('s'), "{text}");
        }
        for text in [
            "1/",
            "1/0",
            "1/1",
            "1/+2",
            "1/-2",
            "1/2.5",
            "1/1000000001",
            "2/3",
            "1/ 2",
            "1/2s",
            "1/2 ms",
            "/2",
            "1",
        ] {
            assert_eq!(Unit::parse(text), None, "{text}");
        }
    }
}
