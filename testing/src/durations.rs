//! Changes the durations in a file of rules: a test that waits as long as the shipped rules do would take hours. The rest of
//! the text is unchanged.

use std::time::Duration;

/// The use of a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `[5m]`
    Window,
    /// `[10m:1m]`: the second
    Step,
    /// `offset 1d`
    Offset,
    /// `for: 10m`
    For,
    /// `interval: 1m` of a group
    Every,
}

/// Parses `5m`; `None` if it is malformed.
pub fn parse(text: &str) -> Option<Duration> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        "w" => 7 * 86400,
        _ => return None,
    };
    Some(Duration::from_secs(number * seconds))
}

/// A duration in the form of Prometheus.
pub fn written(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

/// Replaces every duration by the result of `change`; an unchanged one keeps its form.
pub fn replace(text: &str, change: impl Fn(Place, Duration) -> Duration) -> String {
    let mut result = String::new();
    let mut rest = text;
    // Names of recorded series contain a colon too, but no duration follows it.
    let places = [
        ("[", Place::Window),
        (":", Place::Step),
        ("offset ", Place::Offset),
        ("for: ", Place::For),
        ("interval: ", Place::Every),
    ];
    while let Some((at, begin, place)) = places
        .iter()
        .filter_map(|(begin, place)| Some((rest.find(begin)?, *begin, *place)))
        .min_by_key(|found| found.0)
    {
        let (before, after) = rest.split_at(at + begin.len());
        result.push_str(before);
        let end = after.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(after.len());
        let (word, behind) = after.split_at(end);
        match parse(word) {
            Some(old) if change(place, old) != old => result.push_str(&written(change(place, old))),
            _ => result.push_str(word),
        }
        rest = behind;
    }
    result + rest
}

/// Replaces steps of a minute by steps of a second, and intervals of groups likewise: otherwise minutes would pass before there is an
/// answer.
pub fn step_of_a_second(text: &str) -> String {
    let is_asked = |place| matches!(place, Place::Step | Place::Every);
    replace(text, |place, duration| if is_asked(place) { duration / 60 } else { duration })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_replaced_where_they_count() {
        let tenth = |text: &str| replace(text, |_, duration| duration / 10);
        for (text, expected) in [
            ("increase(x[5m]) / y offset 1d", "increase(x[30000ms]) / y offset 8640000ms"),
            ("        for: 10m\n", "        for: 60000ms\n"),
            ("    interval: 1m\n", "    interval: 6000ms\n"),
            ("a:mean5m # for ten minutes, 5m", "a:mean5m # for ten minutes, 5m"),
            ("see [alerts.md](alerts.md), offset by", "see [alerts.md](alerts.md), offset by"),
            ("[1w]", "[60480000ms]"),
            ("a:mean2m[10m:1m]", "a:mean2m[60000ms:6000ms]"),
        ] {
            assert_eq!(tenth(text), expected);
        }
        let windows =
            replace("x[5m] offset 5m", |place, old| if place == Place::Window { old * 2 } else { old });
        assert_eq!(windows, "x[600000ms] offset 5m");
    }
}
