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
    /// Raw units per base unit, as a fraction (numerator, denominator).
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

    /// Whether the unit is one of time.
    pub fn is_time(self) -> bool {
        matches!(self, Self::Nanoseconds | Self::Microseconds | Self::Milliseconds)
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
        }
    }
}
