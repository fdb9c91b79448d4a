//! The rate limit of requests: a bucket of tokens, of which each request takes one.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The bucket.
#[derive(Debug)]
pub(super) struct Rate {
    /// How long a token takes to come.
    interval: Duration,
    /// Most tokens.
    burst: u32,
    state: Mutex<(f64, Instant)>,
}

impl Rate {
    /// A full bucket.
    pub(super) fn new(interval: Duration, burst: u32, now: Instant) -> Self {
        Self { interval, burst, state: Mutex::new((f64::from(burst), now)) }
    }

    /// Takes a token, if there is one.
    pub(super) fn allows(&self, now: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (tokens, then) = *state;
        let came = now.saturating_duration_since(then).as_secs_f64() / self.interval.as_secs_f64();
        let tokens = (tokens + came).min(f64::from(self.burst));
        let is_allowed = tokens >= 1.0;
        *state = (if is_allowed { tokens - 1.0 } else { tokens }, now);
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_one_for_each_interval() {
        let begin = Instant::now();
        let rate = Rate::new(Duration::from_secs(1), 2, begin);
        let at = |ms| rate.allows(begin + Duration::from_millis(ms));
        assert_eq!([at(0), at(0), at(0)], [true, true, false]);
        assert_eq!([at(999), at(1000), at(1001)], [false, true, false]);
        assert_eq!([at(9000), at(9000), at(9000)], [true, true, false], "no more than the burst is kept");
        let none = Rate::new(Duration::from_secs(1), 0, begin);
        assert!(!none.allows(begin + Duration::from_mins(1)), "a bucket of no tokens");
    }
}
