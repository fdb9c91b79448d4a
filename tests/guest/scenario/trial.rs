//! What every trial of `lib.sh` must show: for each member and operation our count is the kernel's trace's, the slow
//! member is slow by what was injected, its peers are not, and `tapster raid` names it.

use crate::{machine::Results, trace};
use std::collections::HashMap;

const FAMILY: &str = "tapster_raid_member_duration_seconds";

/// A trial and what was built for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trial<'a> {
    pub(crate) name: &'a str,
    /// Kernel name.
    pub(crate) array: &'a str,
    pub(crate) level: &'a str,
    /// In the order of their slots.
    pub(crate) members: &'a [&'a str],
    /// The slow one of them, and its delay in seconds.
    pub(crate) slow: Option<(&'a str, f64)>,
    /// The operation that is judged.
    pub(crate) operation: &'a str,
    /// Whether the array's driver announces what it hands to members.
    pub(crate) remaps: bool,
}

/// A device as the trace writes it, and for a partition its disk.
struct Device<'a> {
    numbers: String,
    disk: Option<&'a str>,
}

/// `/sys/block/NAME/dev:MAJOR:MINOR`, `/sys/block/DISK/NAME/dev:MAJOR:MINOR` → devices by name.
fn devices(listing: &str) -> HashMap<&str, Device<'_>> {
    listing
        .lines()
        .filter_map(|line| {
            let (path, numbers) = line.strip_prefix("/sys/block/")?.split_once("/dev:")?;
            let (disk, name) = path.split_once('/').map_or((None, path), |(disk, name)| (Some(disk), name));
            Some((name, Device { numbers: numbers.replace(':', ","), disk }))
        })
        .collect()
}

impl Trial<'_> {
    /// Checks it; its figures.
    pub(crate) fn check(&self, results: &Results) -> String {
        let Self { name, array, level, .. } = *self;
        let before = results.metrics(&format!("{name}-before.prom"));
        let after = results.metrics(&format!("{name}-after.prom"));
        let text = results.text(&format!("{name}.trace"));
        let devices = devices(results.text(&format!("{name}-devices")));
        let (remaps, queued) = (trace::remaps(text), trace::queued(text));
        let missed = after.since(&before, "tapster_probe_missed_total", &[]);
        let (mut total, mut slow_mean) = (0, 0.0);
        for (slot, member) in self.members.iter().enumerate() {
            let slot = slot.to_string();
            let place = [("array", array), ("level", level), ("member", *member), ("slot", slot.as_str())];
            assert_eq!(
                after.find("tapster_raid_member_info", &place).map(f64::to_bits),
                Some(1.0_f64.to_bits()),
                "{name}: {place:?}"
            );
            for (operation, letter) in [("read", 'R'), ("write", 'W')] {
                let labels = [&place[..], &[("operation", operation)]].concat();
                let ours = after.histogram_since(&before, FAMILY, &labels);
                let Device { numbers, disk } = &devices[member];
                let theirs = match (self.remaps, disk) {
                    (false, _) => queued.get(&(numbers.clone(), letter)),
                    (true, None) => remaps.get(&(devices[array].numbers.clone(), numbers.clone(), letter)),
                    // The array's event names the disk; the partition is in the one that follows.
                    (true, Some(disk)) => {
                        remaps.get(&(numbers.clone(), devices[*disk].numbers.clone(), letter))
                    }
                };
                // A run that the kernel leaves out is counted; nothing else may be lost.
                let theirs = theirs.copied().unwrap_or(0);
                assert!(
                    (theirs.saturating_sub(missed)..=theirs).contains(&ours.count()),
                    "{name}: {operation} of {member}: ours {}, the kernel's trace's {theirs}; {missed} runs left out",
                    ours.count()
                );
                total += ours.count();
                if operation != self.operation {
                    continue;
                }
                assert!(ours.count() > 0, "{name}: no {operation} of {member}");
                let (lower, upper) = ours.bucket_of_rank(ours.count().div_ceil(2));
                let Some((slow, delay)) = self.slow else { continue };
                if slow == *member {
                    assert!(
                        lower < delay && delay <= upper,
                        "time: {name}: half of {member} within ({lower}, {upper}]"
                    );
                    #[expect(clippy::cast_precision_loss, reason = "a small count")]
                    {
                        slow_mean = ours.sum / ours.count() as f64;
                    }
                } else {
                    assert!(upper < delay / 2.0, "time: {name}: half of {member} within ({lower}, {upper}]");
                }
            }
        }
        if let Some((slow, _)) = self.slow {
            let command = results.text(&format!("{name}-raid.txt"));
            let sentence = |line: &&str| line.contains("slow") && line.contains(slow) && line.contains(array);
            assert!(
                command.lines().any(|line| sentence(&line)),
                "time: {name}: `tapster raid` says:\n{command}"
            );
            let blamed = |line: &&str| line.contains("is slow");
            assert_eq!(
                command.lines().filter(blamed).count(),
                1,
                "time: {name}: `tapster raid` says:\n{command}"
            );
            format!("{name} {total}, {slow} {:.1} ms", slow_mean * 1e3)
        } else {
            format!("{name} {total}")
        }
    }
}
