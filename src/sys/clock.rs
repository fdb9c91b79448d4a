//! The clock that `bpf_ktime_get_ns` reads, and what it means in calendar time.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds of `CLOCK_MONOTONIC`, the same clock as `bpf_ktime_get_ns`.
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is valid for the write. The call cannot fail: the clock exists since Linux 2.6.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    let part = |number: i64| u64::try_from(number).unwrap_or(0);
    part(now.tv_sec) * 1_000_000_000 + part(now.tv_nsec)
}

/// Unix time in nanoseconds of the moment when [`monotonic_ns`] was zero: add it to a kernel time stamp.
///
/// It moves when the wall clock is set and by the time the machine was suspended, so ask again for each use.
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
    fn the_clock_runs_and_agrees_with_the_wall_clock() {
        let first = monotonic_ns();
        let now = boot_unix_ns() + monotonic_ns();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        assert!(monotonic_ns() > first);
        assert!(wall.abs_diff(u128::from(now)) < 1_000_000_000, "{wall} {now}");
    }
}
