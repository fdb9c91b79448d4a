//! Bucket schemes: the bucket of a raw value, and the bounds of a bucket.
//!
//! A value equal to a bound belongs to the bucket below it. Raw values are integers (nanoseconds, for example), bounds are
//! exposed in the base unit (seconds). The exponential bounds are powers of 2^(1/2^schema) *of the base unit*, those of
//! Prometheus' native histograms and of OpenTelemetry's exponential ones. 10⁹ is not a power of two, so this module computes
//! the thresholds within each power of two of the raw value, rounded down to an integer of 63 bits. That loses nothing,
//! because raw values are integers.

/// How values are grouped into buckets.
#[derive(Clone, Debug, PartialEq)]
pub enum Buckets {
    /// Powers of 2^(1/2^schema) of the base unit, between two powers of two.
    Exponential {
        /// The thresholds for this raw unit.
        thresholds: Exponential,
        /// Exponent of the bound of the lowest bucket: values up to 2^min are in it.
        min: i16,
        /// Exponent of the highest bound: values above 2^max are in `+Inf`.
        max: i16,
        /// Powers of two between two classic bounds, at least 1: classic buckets are coarser.
        classic_step: u8,
    },
    /// Given bounds in raw units, ascending, and the bounds in base units that they stand for.
    Explicit {
        /// Largest raw value of each bucket.
        raw: Vec<i64>,
        /// Bounds in the base unit, in the same order.
        bounds: Vec<f64>,
    },
    /// `count` buckets of one width. Raw values up to `start` are in the first.
    Linear {
        /// Upper bound of the first bucket, raw.
        start: i64,
        /// Width of the others, raw.
        width: u64,
        /// Number of bounds.
        count: u16,
    },
}

impl Buckets {
    /// Number of counters in a row: one for each finite bucket, and one for `+Inf`.
    pub fn slots(&self) -> u32 {
        match self {
            Self::Exponential { thresholds, .. } => thresholds.count + 2,
            Self::Explicit { raw, .. } => number(raw) + 1,
            Self::Linear { count, .. } => u32::from(*count) + 1,
        }
    }
}

fn number(bounds: &[i64]) -> u32 {
    u32::try_from(bounds.len()).expect("a histogram has at most 512 bounds")
}

/// 2^(j/16) × 2^126 for j in 0..16, rounded down. A test computes them again with big integers.
const SIXTEENTHS: [u128; 16] = sixteenths();

/// Integer square root of a 256-bit number given as (high, low), which must be below 2^254.
const fn square_root(high: u128, low: u128) -> u128 {
    let mut root: u128 = 0;
    let mut bit = 127;
    loop {
        let candidate = root | 1 << bit;
        let (square_high, square_low) = square(candidate);
        if square_high < high || square_high == high && square_low <= low {
            root = candidate;
        }
        if bit == 0 {
            return root;
        }
        bit -= 1;
    }
}

/// a² as (high, low).
const fn square(a: u128) -> (u128, u128) {
    wide_mul(a, a)
}

/// a × b as (high, low).
const fn wide_mul(a: u128, b: u128) -> (u128, u128) {
    const MASK: u128 = u64::MAX as u128;
    let (a1, a0) = (a >> 64, a & MASK);
    let (b1, b0) = (b >> 64, b & MASK);
    let low = a0 * b0;
    let (middle, carry) = (a0 * b1).overflowing_add(a1 * b0);
    let (result, carry_low) = low.overflowing_add(middle << 64);
    let high = a1 * b1 + (middle >> 64) + ((carry as u128) << 64) + carry_low as u128;
    (high, result)
}

/// Computes roots of two: 2^(1/16) is the square root of 2^(1/8), and so on up to 2; the others are products.
const fn sixteenths() -> [u128; 16] {
    // In fixed point with 126 fraction bits √x is isqrt(x << 126), and x << 126 has high part x >> 2.
    let two: u128 = 1 << 127;
    let half = square_root(two >> 2, two << 126);
    let quarter = square_root(half >> 2, half << 126);
    let eighth = square_root(quarter >> 2, quarter << 126);
    let sixteenth = square_root(eighth >> 2, eighth << 126);
    let roots = [sixteenth, eighth, quarter, half];
    let mut table = [1 << 126; 16];
    let mut j = 0;
    while j < 16 {
        let mut bit = 0;
        while bit < 4 {
            if j >> bit & 1 == 1 {
                let (high, low) = wide_mul(table[j], roots[bit]);
                table[j] = high << 2 | low >> 126;
            }
            bit += 1;
        }
        j += 1;
    }
    table
}

/// The thresholds of an exponential scheme for a raw unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exponential {
    /// The schema, 0 to 4.
    pub schema: u8,
    /// Largest raw value of the lowest bucket.
    pub lowest: u64,
    /// Largest raw value of the highest finite bucket.
    pub highest: u64,
    /// The 2^schema thresholds within one power of two, as raw values scaled to `[2^62, 2^63)`, ascending.
    pub thresholds: Vec<u64>,
    /// Native index of the first threshold at or above raw 2^0, so that octave `e` starts at
    /// `first + (e << schema)`.
    pub first: i32,
    /// Native index of the bound `lowest`.
    pub min_index: i32,
    /// Number of finite buckets above the lowest one.
    pub count: u32,
}

impl Exponential {
    /// Computes the thresholds for raw values of which `per_base.0 / per_base.1` make one base unit; `None` if the range does
    /// not fit into raw integers of 62 bits.
    pub fn new(schema: u8, min: i16, max: i16, per_base: (u64, u64)) -> Option<Self> {
        if schema > 4 || min >= max || !per_base.1.is_power_of_two() {
            return None;
        }
        // A denominator that is a power of two only shifts the octaves.
        let shift = i32::try_from(per_base.1.trailing_zeros()).ok()?;
        let scale = per_base.0;
        let steps = 1_u32 << schema;
        let mut found: Vec<(u64, i32)> = Vec::new();
        for step in 0..steps {
            let root = SIXTEENTHS[usize::try_from(step << (4 - schema)).ok()?];
            // scale × 2^(step/steps), scaled to [2^62, 2^63).
            let (high, low) = wide_mul(u128::from(scale), root);
            // The product has its point 126 bits from the right.
            let top = 256 - if high > 0 { high.leading_zeros() } else { 128 + low.leading_zeros() };
            let drop = top - 63;
            let mantissa =
                if drop >= 128 { high >> (drop - 128) } else { high << (128 - drop) | low >> drop };
            let octave = i32::try_from(top).ok()? - 1 - 126;
            // This bound is in raw octave `octave`; moved to octave 0 its index is lower by that many powers.
            let index = i32::try_from(step).ok()? - octave * i32::try_from(steps).ok()?;
            found.push((u64::try_from(mantissa).ok()?, index));
        }
        found.sort_unstable();
        let first = found[0].1;
        let shifted = |power: i16| i32::from(power) - shift;
        let lowest = raw_bound(scale, shifted(min))?;
        let highest = raw_bound(scale, shifted(max))?;
        if highest >= 1 << 62 || lowest == 0 {
            return None;
        }
        let steps = i32::try_from(steps).ok()?;
        Some(Self {
            schema,
            lowest,
            highest,
            thresholds: found.into_iter().map(|(mantissa, _)| mantissa).collect(),
            first: first + shift * steps,
            min_index: i32::from(min) * steps,
            count: u32::try_from((i32::from(max) - i32::from(min)) * steps).ok()?,
        })
    }

    #[expect(clippy::missing_panics_doc, reason = "that would be a bug here")]
    /// Index of the bucket of a raw value: 0 for the lowest bucket, `count + 1` above the highest bound.
    pub fn position(&self, raw: u64) -> u32 {
        if raw <= self.lowest {
            return 0;
        }
        if raw > self.highest {
            return self.count + 1;
        }
        let octave = raw.ilog2();
        let mantissa = raw << (62 - octave);
        let above: i32 = self.thresholds.iter().map(|threshold| i32::from(mantissa > *threshold)).sum();
        let index = self.first + (octave.cast_signed() << self.schema) + above;
        u32::try_from(index - self.min_index)
            .expect("a value above the lowest bound is in a bucket above the lowest")
    }
}

/// A number beside the bounds of a scheme.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Nearby {
    /// It is this bound, but for rounding.
    At(f64),
    /// It lies between these two.
    Between(f64, f64),
    /// It is below all bounds or above them.
    Outside,
}

impl Exponential {
    /// The lowest and the highest bound, in base units.
    pub fn range(&self) -> (f64, f64) {
        let highest = self.min_index + self.count.cast_signed();
        (native_bound(self.schema, self.min_index), native_bound(self.schema, highest))
    }

    /// The bounds next to a number in base units.
    pub fn nearby(&self, number: f64) -> Nearby {
        /// A bound that was printed with seven digits is meant.
        const ROUNDING: f64 = 1e-6;
        let (lowest, highest) = self.range();
        if number < lowest * (1.0 - ROUNDING) || number > highest * (1.0 + ROUNDING) {
            return Nearby::Outside;
        }
        let nearest = native_bound(self.schema, self.index_of(number));
        if (number / nearest - 1.0).abs() <= ROUNDING {
            return Nearby::At(nearest);
        }
        let index = self.index_of(number);
        let lower = if nearest < number { index } else { index - 1 };
        Nearby::Between(native_bound(self.schema, lower), native_bound(self.schema, lower + 1))
    }

    /// The number of buckets at or below a bound in base units; `None` if it is outside of them.
    pub fn buckets_up_to(&self, bound: f64) -> Option<usize> {
        let Nearby::At(_) = self.nearby(bound) else { return None };
        usize::try_from(self.index_of(bound) - self.min_index + 1).ok()
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::as_conversions,
        reason = "the logarithm of a number is a few thousand at most"
    )]
    fn index_of(&self, number: f64) -> i32 {
        (number.log2() * f64::from(1_i32 << self.schema)).round() as i32
    }
}

/// scale × 2^power, rounded down.
fn raw_bound(scale: u64, power: i32) -> Option<u64> {
    if power >= 0 {
        u64::try_from(u128::from(scale).checked_shl(power.unsigned_abs()).filter(|_| power < 64)?).ok()
    } else {
        Some(
            u128::from(scale)
                .checked_shr(power.unsigned_abs())
                .and_then(|bound| u64::try_from(bound).ok())
                .unwrap_or(0),
        )
    }
}

/// Upper bound of native bucket `index`: 2^(index/2^schema), exact where it is a power of two.
pub fn native_bound(schema: u8, index: i32) -> f64 {
    let steps = 1_i32 << schema;
    let power = index.div_euclid(steps);
    let fraction = f64::from(index.rem_euclid(steps)) / f64::from(steps);
    f64::powi(2.0, power) * f64::exp2(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::BigUint;

    /// The definition, with integers of any size: raw <= scale·2^(index/steps), both sides raised to the power steps.
    fn at_most(raw: u64, scale: u64, index: i32, steps: u32, shift: u32) -> bool {
        let mut left = (BigUint::from(raw) << shift).pow(steps);
        let mut right = BigUint::from(scale).pow(steps);
        if index >= 0 {
            right <<= index.unsigned_abs();
        } else {
            left <<= index.unsigned_abs();
        }
        left <= right
    }

    #[test]
    fn positions_are_exact_at_every_bound() {
        for per_base in [
            (1_000_000_000, 1),
            (1_000_000, 1),
            (1_000, 1),
            (1, 1),
            (1, 512),
            (1, 1024),
            (2048, 1),
            (100_000, 1),
            (1_000_000_007, 1),
        ] {
            for schema in 0..=4_u8 {
                let (min, max) = if per_base.0 == 1 { (10, 40) } else { (-8, 7) };
                let scheme = Exponential::new(schema, min, max, per_base).unwrap();
                let steps = 1_u32 << schema;
                let shift = per_base.1.trailing_zeros();
                for position in 0..=scheme.count {
                    let index = scheme.min_index + i32::try_from(position).unwrap();
                    // The largest raw value at or below the bound, found by halving with the definition.
                    let (mut low, mut high) = (0_u64, 1 << 62);
                    while low + 1 < high {
                        let middle = low.midpoint(high);
                        if at_most(middle, per_base.0, index, steps, shift) {
                            low = middle;
                        } else {
                            high = middle;
                        }
                    }
                    // Together, for all bounds: `v` is at or below position `p` exactly if `v` <= bound `p`.
                    assert!(scheme.position(low) <= position, "{per_base:?} schema {schema} at {low}");
                    assert!(scheme.position(low + 1) > position, "{per_base:?} schema {schema} at {low}+1");
                }
                assert_eq!(scheme.position(0), 0);
                assert_eq!(scheme.position(u64::MAX), scheme.count + 1);
            }
        }
    }

    #[test]
    fn refuses_ranges_that_do_not_fit() {
        assert!(Exponential::new(5, 0, 1, (1, 1)).is_none());
        assert!(Exponential::new(3, 1, 1, (1, 1)).is_none());
        assert!(Exponential::new(3, -40, 7, (1_000_000_000, 1)).is_none(), "below one nanosecond");
        assert!(Exponential::new(3, 0, 40, (1_000_000_000, 1)).is_none(), "above 62 bits");
    }

    #[test]
    fn native_bounds() {
        assert_eq!(native_bound(0, 3).to_bits(), 8.0_f64.to_bits());
        assert_eq!(native_bound(3, -8).to_bits(), 0.5_f64.to_bits());
        assert!((native_bound(3, 1) - 1.090_507_732_665_257_7).abs() < 1e-15);
    }
}
