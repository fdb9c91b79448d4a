//! The clock that `bpf_ktime_get_ns` reads, and its relation to calendar time.

use std::{
    fs,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

/// The clock of the kernel's time stamps, as this process reads it: in a time namespace (5.6), `CLOCK_MONOTONIC` differs from
/// it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelClock {
    /// How far this process's `CLOCK_MONOTONIC` is ahead.
    ahead_ns: i128,
}

impl KernelClock {
    /// The clock of this process. `proc` is where procfs is mounted.
    pub fn of_process(proc: &Path) -> Self {
        let text = fs::read_to_string(proc.join("self/timens_offsets")).unwrap_or_default();
        Self { ahead_ns: monotonic_offset(&text).unwrap_or_default() }
    }

    /// The present result of `bpf_ktime_get_ns`.
    pub fn now_ns(self) -> u64 {
        u64::try_from(i128::from(monotonic_ns()) - self.ahead_ns).unwrap_or_default()
    }
}

/// Parses `monotonic SECONDS NANOSECONDS`, and a line for another clock.
fn monotonic_offset(text: &str) -> Option<i128> {
    let mut words = text.lines().find_map(|line| line.strip_prefix("monotonic"))?.split_whitespace();
    let mut number = || words.next()?.parse::<i64>().ok().map(i128::from);
    Some(number()? * 1_000_000_000 + number()?)
}

/// Nanoseconds of `CLOCK_MONOTONIC`: the same clock as `bpf_ktime_get_ns`, unless this process is in a time namespace.
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is valid for the write. The call cannot fail: the clock exists since Linux 2.6.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    let part = |number: i64| u64::try_from(number).expect("it counts from the start of the kernel");
    part(now.tv_sec) * 1_000_000_000 + part(now.tv_nsec)
}

/// Unix time in nanoseconds of the moment when [`monotonic_ns`] was zero: add it to a kernel time stamp.
///
/// It changes when the wall clock is set, and by the time for which the machine was suspended, so call this again for each use.
pub fn boot_unix_ns() -> u64 {
    let before = monotonic_ns();
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let middle = before.midpoint(monotonic_ns());
    u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX).saturating_sub(middle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_of_a_namespace() {
        let text = "monotonic      100000         5\nboottime            0         0\n";
        assert_eq!(monotonic_offset(text), Some(100_000_000_000_005));
        assert_eq!(monotonic_offset("monotonic          -7 500000000\n"), Some(-6_500_000_000));
        for other in ["", "boottime 1 2\n", "monotonic\n", "monotonic x 0\n"] {
            assert_eq!(monotonic_offset(other), None, "{other}");
        }
        let ahead = KernelClock { ahead_ns: i128::from(monotonic_ns()) + 1_000_000_000 };
        assert_eq!(ahead.now_ns(), 0, "no time is before the kernel's beginning");
    }

    #[test]
    fn the_clock_runs_and_agrees_with_the_wall_clock() {
        let first = monotonic_ns();
        let now = boot_unix_ns() + monotonic_ns();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        assert!(monotonic_ns() > first);
        assert!(wall.abs_diff(u128::from(now)) < 1_000_000_000, "{wall} {now}");
    }
}
