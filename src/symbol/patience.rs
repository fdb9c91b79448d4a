//! How long scrapes wait for symbols that are not read yet.

use std::time::{Duration, Instant};

/// The longest that scrapes wait one after the other, and how much slower than real time this allowance refills. So a scrape
/// waits little longer than this, however many files are slow.
const MOST: Duration = Duration::from_secs(1);
const SLOWER: u32 = 5;

/// The rest of the allowance.
#[derive(Debug)]
pub(super) struct Patience {
    left: Duration,
    at: Instant,
}

impl Default for Patience {
    fn default() -> Self {
        Self { left: MOST, at: Instant::now() }
    }
}

impl Patience {
    /// How long a scrape may wait now.
    pub(super) fn left(&mut self, now: Instant) -> Duration {
        let back = now.saturating_duration_since(self.at) / SLOWER;
        self.left = self.left.saturating_add(back).min(MOST);
        self.at = now;
        self.left
    }

    /// Accounts for time waited.
    pub(super) fn spend(&mut self, waited: Duration) {
        self.left = self.left.saturating_sub(waited);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_bounded_and_comes_back() {
        let begun = Instant::now();
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        let mut patience = Patience { left: MOST, at: begun };
        assert_eq!(patience.left(at(0)), MOST);
        patience.spend(Duration::from_millis(400));
        assert_eq!(patience.left(at(0)), Duration::from_millis(600));
        patience.spend(Duration::from_secs(9));
        assert_eq!(patience.left(at(0)), Duration::ZERO);
        assert_eq!(patience.left(at(1)), Duration::from_millis(200));
        assert_eq!(patience.left(at(60)), MOST, "and no more");
    }
}
