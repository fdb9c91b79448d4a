//! I/O that members have not completed: of a member that does not answer there is no latency.
//!
//! The probe knows how old an I/O is that was handed over while it watched. What was before hangs unseen by it; the
//! kernel's own count of the device has it, without its age.

use super::verdict::Rule;
use crate::{
    family::{MetricFamily, Value},
    topology::Array,
};
use serde_json::json;
use std::{collections::HashMap, fs, path::Path};

/// What the kernel counts for a device: `/sys/class/block/NAME/stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stat {
    completed: u64,
    in_flight: u64,
}

/// A device when the watching began and when it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) before: Stat,
    pub(super) after: Stat,
}

/// What a member has not completed, all operations together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Waits {
    /// That the array handed over while it was watched.
    pub(super) in_flight: f64,
    /// How long the oldest of these has waited.
    pub(super) oldest_seconds: f64,
    /// Of the device since before the watching, if nothing was completed in it.
    pub(super) stands: Option<u64>,
}

impl Stat {
    /// Reads what sysfs says of a device. Fields: Documentation/block/stat.rst of Linux; flushes came with 5.5.
    pub(super) fn read(sysfs: &Path, device: &str) -> Option<Self> {
        let path = sysfs.join("class/block").join(device.replace('/', "!")).join("stat");
        Self::parse(&fs::read_to_string(path).ok()?)
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let fields: Vec<u64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        let of = |places: &[usize]| places.iter().filter_map(|place| fields.get(*place)).sum();
        (fields.len() > 8).then(|| Self { completed: of(&[0, 4, 11, 15]), in_flight: of(&[8]) })
    }
}

/// What the kernel counts for the members of arrays.
pub(super) fn stats(sysfs: &Path, arrays: &[&Array]) -> HashMap<String, Stat> {
    let members = arrays.iter().flat_map(|array| &array.members);
    members.filter_map(|member| Some((member.name.clone(), Stat::read(sysfs, &member.name)?))).collect()
}

/// Of those that were there at both ends.
pub(super) fn spans(before: &HashMap<String, Stat>, after: &HashMap<String, Stat>) -> HashMap<String, Span> {
    let both = after
        .iter()
        .filter_map(|(name, after)| Some((name.clone(), Span { before: *before.get(name)?, after: *after })));
    both.collect()
}

impl Waits {
    /// Of each member of an array, by its place.
    pub(super) fn of(array: &Array, families: &[MetricFamily], spans: &HashMap<String, Span>) -> Vec<Self> {
        let stands = |name: &str| {
            let Span { before, after } = spans.get(name)?;
            let is_still = before.completed == after.completed && before.in_flight > 0;
            (is_still && after.in_flight > 0).then_some(after.in_flight)
        };
        let members = array.members.iter();
        let mut all: Vec<Self> =
            members.map(|member| Self { stands: stands(&member.name), ..Self::default() }).collect();
        let mut each = |name: &str, take: &dyn Fn(&mut Self, f64)| {
            let families = families.iter().filter(|family| *family.name == *name);
            for sample in families.flat_map(|family| &family.samples) {
                let ([of, _, member, ..], Value::Number(number)) = (sample.labels.as_ref(), &sample.value)
                else {
                    continue;
                };
                let place = array.members.iter().position(|known| known.name == *member);
                if let Some(waits) = place.filter(|_| *of == array.name).and_then(|place| all.get_mut(place))
                {
                    take(waits, *number);
                }
            }
        };
        each("tapster_raid_member_in_flight", &|waits, number| waits.in_flight += number);
        each("tapster_raid_member_oldest_seconds", &|waits, age| {
            waits.oldest_seconds = waits.oldest_seconds.max(age);
        });
        all
    }

    /// Why it is said that the member does not answer, if it does not: what it holds, and for how long. `watched_seconds` is
    /// how long its device was looked at.
    pub(super) fn stuck(self, rule: &Rule, watched_seconds: f64) -> Option<String> {
        if self.in_flight > 0.0 && self.oldest_seconds >= rule.stuck_seconds {
            let age = self.oldest_seconds;
            return Some(format!("{} in flight, the oldest for {age:.1} s", ios(self.in_flight)));
        }
        let number = self.stands.filter(|_| watched_seconds >= rule.stuck_seconds)?;
        Some(format!(
            "{number} {} in flight since before, and none completed in the {watched_seconds:.1} s that it was watched",
            if number == 1 { "I/O" } else { "I/Os" }
        ))
    }

    pub(super) fn json(self, rule: &Rule, watched_seconds: f64) -> serde_json::Value {
        json!({
            "in_flight": self.in_flight,
            "oldest_seconds": self.oldest_seconds,
            "in_flight_since_before": self.stands,
            "stuck": self.stuck(rule, watched_seconds).is_some(),
        })
    }
}

/// `1 I/O`, `32 I/Os`
fn ios(number: f64) -> String {
    format!("{number} I/O{}", if number > 1.0 { "s" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_of_devices() {
        let new = "  10 0 80 5  20 0 160 7  3 9 9  40 0 1 2  50 6\n";
        let stat = |completed, in_flight| Some(Stat { completed, in_flight });
        assert_eq!(Stat::parse(new), stat(10 + 20 + 40 + 50, 3));
        assert_eq!(
            Stat::parse("10 0 80 5 20 0 160 7 1 9 9"),
            stat(30, 1),
            "before 4.18 nothing was discarded"
        );
        for text in ["", "10 0 80", "a b c d e f g h i"] {
            assert_eq!(Stat::parse(text), None, "{text}");
        }
    }
}
