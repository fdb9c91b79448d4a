//! Parses durations as people type them: `10s`, `1.5ms`, `2m`.

use std::time::Duration;

/// Longest, in seconds: the parser needs a limit.
const LONGEST: f64 = 1e6;

/// Parses a number and its unit. The error says what was expected.
pub fn parse(text: &str) -> Result<Duration, String> {
    let split = text.find(|character: char| !character.is_ascii_digit() && character != '.');
    let (number, unit) = text.split_at(split.unwrap_or(text.len()));
    let scale = match unit.trim() {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "" if !number.is_empty() => return Err(format!("`{number}` has no unit: did you mean `{number}s`?")),
        _ => return Err("expected a number and a unit: `10s`, `1ms`, `2m`".into()),
    };
    let seconds = number.parse::<f64>().map_err(|_| format!("`{number}` is not a number"))? * scale;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| duration.as_secs_f64() <= LONGEST)
        .ok_or_else(|| "that is too long".into())
}

/// Like [`parse`], but a number alone means seconds, as for `sleep` and `timeout`.
pub fn or_seconds(text: &str) -> Result<Duration, String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_number { parse(&format!("{text}s")) } else { parse(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_unit() {
        for (text, expected) in [
            ("10s", 10.0),
            ("1ms", 0.001),
            ("0.5 ms", 0.0005),
            ("2m", 120.0),
            ("1h", 3600.0),
            ("7us", 0.000_007),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs_f64(expected)), "{text}");
        }
        for text in ["", "10", "s", "1.2.3s", "-1s", "1e3s", "1d", "99999999h", "1\u{df}", "inf s"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(parse("10"), Err("`10` has no unit: did you mean `10s`?".into()));
        assert_eq!(or_seconds("10"), parse("10s"));
        assert_eq!(or_seconds("0.5"), parse("500ms"));
        assert_eq!(or_seconds("2m"), parse("2m"));
        for text in ["", ".", "1.2.3", "-1", "x", "1e3"] {
            assert!(or_seconds(text).is_err(), "{text}");
        }
    }
}
