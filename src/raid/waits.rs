//! I/O that members have not completed: a member that does not answer has no latency.
//!
//! The probe knows the age of I/O that was submitted while it watched. It does not see I/O that hung before; the kernel's own
//! count of the device includes that, without its age. A suspended device of the device mapper holds back I/O that is not in
//! that count, but reports that it is suspended.

use super::verdict::Rule;
use crate::{
    family::{MetricFamily, SampleValue},
    topology::{Array, ArrayMember},
};
use serde_json::json;
use std::{collections::HashMap, fs, path::Path};

/// The kernel's counts of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stat {
    completed: u64,
    in_flight: u64,
    /// Whether the device mapper was told to hold its I/O back.
    suspended: bool,
}

/// A device at the beginning and at the end of the watching.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct StatPair {
    pub(super) before: Stat,
    pub(super) after: Stat,
}

/// I/O that a member has not completed, over all operations.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct MemberWaits {
    /// I/Os that the array submitted while it was watched.
    pub(super) in_flight: f64,
    /// The age of the oldest of these.
    pub(super) oldest_seconds: f64,
    /// I/Os of the device from before, if none was completed meanwhile.
    pub(super) stands: Option<u64>,
    /// Whether it was suspended all the time.
    pub(super) suspended: bool,
}

impl Stat {
    /// Reads a device's counts from sysfs.
    pub(super) fn read(sysfs: &Path, device: &str) -> Option<Self> {
        let directory = sysfs.join("class/block").join(device.replace('/', "!"));
        let stat = Self::parse(&fs::read_to_string(directory.join("stat")).ok()?)?;
        // Only devices of the device mapper have it.
        let suspended =
            fs::read_to_string(directory.join("dm/suspended")).is_ok_and(|text| text.trim() == "1");
        Some(Self { suspended, ..stat })
    }

    /// Fields of `stat`: Documentation/block/stat.rst of Linux; flushes came with 5.5.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let fields: Vec<u64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        let of = |places: &[usize]| places.iter().filter_map(|place| fields.get(*place)).sum();
        (fields.len() > 8).then(|| Self {
            completed: of(&[0, 4, 11, 15]),
            in_flight: of(&[8]),
            suspended: false,
        })
    }
}

/// The counts of the members of arrays, by name.
pub(super) fn stats(sysfs: &Path, arrays: &[&Array]) -> HashMap<String, Stat> {
    let members = arrays.iter().flat_map(|array| &array.members);
    members.filter_map(|member| Some((member.name.clone(), Stat::read(sysfs, &member.name)?))).collect()
}

/// The devices that existed at both ends.
pub(super) fn spans(
    before: &HashMap<String, Stat>,
    after: &HashMap<String, Stat>,
) -> HashMap<String, StatPair> {
    let both = after.iter().filter_map(|(name, after)| {
        Some((name.clone(), StatPair { before: *before.get(name)?, after: *after }))
    });
    both.collect()
}

impl MemberWaits {
    /// The waiting I/O of each member of an array, by index.
    pub(super) fn of(
        array: &Array,
        families: &[MetricFamily],
        spans: &HashMap<String, StatPair>,
    ) -> Vec<Self> {
        let of_kernel = |member: &ArrayMember| {
            let Some(StatPair { before, after }) = spans.get(&member.name) else { return Self::default() };
            let is_still = before.completed == after.completed && before.in_flight > 0;
            Self {
                stands: (is_still && after.in_flight > 0).then_some(after.in_flight),
                suspended: before.suspended && after.suspended,
                ..Self::default()
            }
        };
        let mut all: Vec<Self> = array.members.iter().map(of_kernel).collect();
        let mut each = |name: &str, take: &dyn Fn(&mut Self, f64)| {
            let families = families.iter().filter(|family| *family.name == *name);
            for sample in families.flat_map(|family| &family.samples) {
                let ([of, _, member, ..], SampleValue::Number(number)) =
                    (sample.labels.as_ref(), &sample.value)
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

    /// Why the member counts as not answering, if it does. `watched_seconds` is how long its device was observed.
    pub(super) fn stuck(self, rule: &Rule, watched_seconds: f64) -> Option<String> {
        let held = self.held(rule, watched_seconds);
        let suspended = self.suspended.then(|| "it is suspended, which `dmsetup resume` ends".to_owned());
        let why: Vec<String> = held.into_iter().chain(suspended).collect();
        (!why.is_empty()).then(|| why.join("; "))
    }

    /// What the member holds and for how long, if that is too long.
    fn held(self, rule: &Rule, watched_seconds: f64) -> Option<String> {
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
            "suspended": self.suspended,
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
        let stat = |completed, in_flight| Some(Stat { completed, in_flight, suspended: false });
        assert_eq!(Stat::parse(new), stat(10 + 20 + 40 + 50, 3));
        assert_eq!(
            Stat::parse("10 0 80 5 20 0 160 7 1 9 9"),
            stat(30, 1),
            "before 4.18 nothing was discarded"
        );
        for text in ["", "10 0 80", "a b c d e f g h i"] {
            assert_eq!(Stat::parse(text), None, "{text}");
        }
        let sysfs = tempfile::tempdir().unwrap();
        let device = sysfs.path().join("class/block/dm-0");
        fs::create_dir_all(device.join("dm")).unwrap();
        fs::write(device.join("stat"), new).unwrap();
        for (text, suspended) in [("0\n", false), ("1\n", true)] {
            fs::write(device.join("dm/suspended"), text).unwrap();
            let known = stat(10 + 20 + 40 + 50, 3).map(|stat| Stat { suspended, ..stat });
            assert_eq!(Stat::read(sysfs.path(), "dm-0"), known);
        }
        fs::remove_dir_all(device.join("dm")).unwrap();
        assert_eq!(Stat::read(sysfs.path(), "dm-0"), stat(10 + 20 + 40 + 50, 3), "not the device mapper's");
    }

    #[test]
    fn a_member_that_is_suspended_holds_what_the_kernel_does_not_count() {
        let waits =
            |in_flight, suspended| MemberWaits { in_flight, oldest_seconds: 3.0, stands: None, suspended };
        let rule = Rule::default();
        assert_eq!(waits(0.0, false).stuck(&rule, 9.0), None);
        assert_eq!(
            waits(0.0, true).stuck(&rule, 9.0).as_deref(),
            Some("it is suspended, which `dmsetup resume` ends")
        );
        assert_eq!(
            waits(2.0, true).stuck(&rule, 9.0).as_deref(),
            Some("2 I/Os in flight, the oldest for 3.0 s; it is suspended, which `dmsetup resume` ends")
        );
    }
}
