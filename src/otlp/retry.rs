//! When a request is sent again: after the time that the receiver requests, else after a growing time. Both are varied at random
//! a little, so that the hosts of a fleet do not come back at the same moment.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(5);
/// The longest pause that a receiver can request: a mistake in its answer must not end pushes.
pub(super) const LONGEST_ASKED: Duration = Duration::from_mins(10);

/// Waiting times of one request.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { next: FIRST }
    }

    /// The next time to wait; `asked` is the receiver's request.
    pub(super) fn wait(&mut self, asked: Option<Duration>) -> Duration {
        let wait = self.next;
        self.next = (self.next * 3 / 2).min(LONGEST);
        match asked {
            // A little later than requested, because all hosts got the same request. "Now" is no time to wait: it would only
            // spin.
            Some(asked) if !asked.is_zero() => asked.min(LONGEST_ASKED).mul_f64(1.0 + fraction() / 10.0),
            Some(_) | None => wait.mul_f64(0.5 + fraction()),
        }
    }
}

/// A random number from 0 to 1. The hasher of the standard library has random keys, which is enough here.
pub(super) fn fraction() -> f64 {
    let random = RandomState::new().hash_one(0_u8);
    f64::from(u32::try_from(random >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_within_their_bounds() {
        let mut backoff = Backoff::new();
        for expected in [1.0, 1.5, 2.25, 3.375, 5.0, 5.0] {
            let wait = backoff.wait(None).as_secs_f64();
            assert!((expected * 0.5..=expected * 1.5).contains(&wait), "{wait}, not around {expected}");
        }
        for (asked, least, most) in [(7, 7.0, 7.7), (1 << 40, 600.0, 660.0), (0, 2.5, 7.5)] {
            let wait = backoff.wait(Some(Duration::from_secs(asked))).as_secs_f64();
            assert!((least..=most).contains(&wait), "{wait}, asked for {asked}");
        }
    }

    #[test]
    fn hosts_do_not_wait_alike() {
        let waits: Vec<f64> = (0..100).map(|_| fraction()).collect();
        assert!(waits.iter().all(|wait| (0.0..=1.0).contains(wait)));
        assert!(waits.iter().any(|wait| *wait < 0.3) && waits.iter().any(|wait| *wait > 0.7), "{waits:?}");
    }
}
