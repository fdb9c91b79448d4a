//! Their forms of buckets → bounds.

use super::{get, items, number, text};
use crate::import::sheet::YamlValue;
use tapster_ebpf::yaml::Node;

/// Most bounds of a histogram.
const MAX_BOUNDS: usize = 512;
/// Largest exponent of a bound.
const MAX_EXPONENT: i32 = 60;

/// Bounds, and the unit of the raw value.
#[derive(Debug)]
pub(super) struct SkeletonBuckets {
    pub(super) unit: &'static str,
    pub(super) buckets: YamlValue,
}

/// The buckets of a histogram.
pub(super) fn buckets(metric: &Node) -> Result<SkeletonBuckets, String> {
    let kind = get(metric, "bucket_type").and_then(text).unwrap_or_default();
    let multiplier = number(metric, "bucket_multiplier").filter(|number| *number > 0.0).unwrap_or(1.0);
    let name = get(metric, "name").and_then(text).unwrap_or_default();
    let unit = match name {
        name if name.ends_with("_seconds") => "ns",
        name if name.ends_with("_bytes") => "bytes",
        _ => "none",
    };
    let whole = |key: &str| number(metric, key).filter(|number| number.fract() == 0.0 && number.abs() < 1e9);
    let range = || match (whole("bucket_min"), whole("bucket_max")) {
        (Some(min), Some(max)) if min >= 0.0 && max > min => Ok((min, max)),
        (None, Some(max)) if max > 0.0 => Ok((0.0, max)),
        _ => Err("`bucket_min` and `bucket_max` are two whole numbers, the second larger".to_owned()),
    };
    let bounds: Vec<f64> = match kind {
        "exp2" | "exp2zero" => {
            let (min, max) = range()?;
            if max > f64::from(MAX_EXPONENT) {
                return Err(format!("`bucket_max` is above 2^{MAX_EXPONENT}"));
            }
            let zero = (kind == "exp2zero").then_some(0.0);
            let mut powers = Vec::new();
            let mut power = min;
            while power <= max {
                powers.push(power.exp2() * multiplier);
                power += 1.0;
            }
            zero.into_iter().chain(powers).collect()
        }
        "linear" => {
            let (min, max) = range()?;
            let mut bounds = Vec::new();
            let mut at = min;
            while at <= max && bounds.len() <= MAX_BOUNDS {
                bounds.push(at * multiplier);
                at += 1.0;
            }
            bounds
        }
        "fixed" => {
            let keys = get(metric, "bucket_keys").map(items).unwrap_or_default();
            keys.iter().filter_map(|key| text(key)?.parse::<f64>().ok()).map(|key| key * multiplier).collect()
        }
        "" => return Err("a histogram without `bucket_type`".into()),
        other => return Err(format!("`{other}` is no form of buckets that is known")),
    };
    if bounds.is_empty() || bounds.len() > MAX_BOUNDS {
        return Err(format!("a histogram has 1 to {MAX_BOUNDS} bounds, and this one {}", bounds.len()));
    }
    let bounds = bounds.into_iter().map(|bound| YamlValue::Bare(decimal(bound))).collect();
    Ok(SkeletonBuckets { unit, buckets: YamlValue::List(bounds) })
}

/// A number as YAML has it: what a multiplication of decimals left behind the twelfth digit is rounded away.
fn decimal(number: f64) -> String {
    let rounded: f64 = format!("{number:.11e}").parse().unwrap_or(number);
    let text = format!("{rounded:.15}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text.is_empty() { "0".into() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_no_tails() {
        for (number, text) in
            [(0.000_001 * 8.0, "0.000008"), (0.0, "0"), (1.0, "1"), (50.0 * 3.0, "150"), (0.1 * 3.0, "0.3")]
        {
            assert_eq!(decimal(number), text);
        }
    }
}
