//! Finds slow members: each is compared with the others, never with a mean that includes itself.
//!
//! The rules for Prometheus (`config/rules/raid.yaml`) judge in the same way with the same thresholds, but over longer times,
//! in which a single I/O has less weight.

/// When a member is slow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// Its mean is more than this many times that of the others …
    pub ratio: f64,
    /// … and at least this many seconds above it.
    pub floor_seconds: f64,
    /// Above this ratio it is urgent.
    pub critical_ratio: f64,
    /// Members with fewer I/Os are not compared.
    pub min_count: u64,
    /// A member that has not completed an I/O for this long does not answer.
    pub stuck_seconds: f64,
}

impl Default for Rule {
    fn default() -> Self {
        Self { ratio: 1.8, floor_seconds: 0.000_8, critical_ratio: 5.0, min_count: 20, stuck_seconds: 2.0 }
    }
}

/// I/Os of one operation on one member.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct OperationMean {
    pub(super) count: u64,
    pub(super) mean_seconds: f64,
}

/// The comparison of a member with the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Comparison {
    /// The mean of the others' means.
    pub(super) peers_seconds: f64,
    /// The member's mean divided by that.
    pub(super) ratio: f64,
    pub(super) is_slow: bool,
}

impl Rule {
    /// Compares the members of an array for one operation; `None` is a member that cannot be compared, or had no I/O. The
    /// result has the same order.
    pub(super) fn compare(&self, members: &[Option<OperationMean>]) -> Vec<Option<Comparison>> {
        let counts = |measured: &OperationMean| measured.count >= self.min_count;
        let means: Vec<Option<f64>> = members
            .iter()
            .map(|member| member.filter(counts).map(|measured| measured.mean_seconds))
            .collect();
        means
            .iter()
            .enumerate()
            .map(|(place, mean)| {
                let mean = (*mean)?;
                let others = means.iter().enumerate().filter(|(other, _)| *other != place);
                let (sum, number) = others
                    .filter_map(|(_, mean)| *mean)
                    .fold((0.0, 0.0), |(sum, number), mean| (sum + mean, number + 1.0));
                // No I/O takes less than a nanosecond, so there is no division by zero.
                let peers_seconds = (number > 0.0).then(|| (sum / number).max(1e-9))?;
                let ratio = mean / peers_seconds;
                let is_slow = ratio > self.ratio && mean - peers_seconds >= self.floor_seconds;
                Some(Comparison { peers_seconds, ratio, is_slow })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Indexes of the slow ones among members with 20 I/Os that take this many milliseconds each.
    fn slow(means_ms: &[f64]) -> Vec<usize> {
        let members: Vec<_> =
            means_ms.iter().map(|mean| Some(OperationMean { count: 20, mean_seconds: mean / 1e3 })).collect();
        places(&Rule::default().compare(&members))
    }

    fn places(compared: &[Option<Comparison>]) -> Vec<usize> {
        let is_slow = |compared: &Option<Comparison>| compared.is_some_and(|compared| compared.is_slow);
        compared
            .iter()
            .enumerate()
            .filter(|(_, compared)| is_slow(compared))
            .map(|(place, _)| place)
            .collect()
    }

    #[test]
    fn one_of_two_three_and_eight() {
        for (means_ms, expected) in [
            (&[0.1, 50.0][..], &[1][..]),
            (&[50.0, 0.1], &[0]),
            (&[0.1, 50.0, 0.1], &[1]),
            (&[0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 50.0], &[7]),
            // Two of eight: each is compared with seven others, of which one is slow.
            (&[0.1, 50.0, 0.1, 0.1, 0.1, 0.1, 0.1, 50.0], &[1, 7]),
            // All or none, whatever the latency.
            (&[50.0, 50.0, 50.0], &[]),
            (&[0.1, 0.1, 0.1], &[]),
            (&[50.0], &[]),
            (&[], &[]),
        ] {
            assert_eq!(slow(means_ms), expected, "{means_ms:?}");
        }
    }

    #[test]
    fn thresholds_at_their_edges() {
        assert_eq!(slow(&[4.0, 7.199]), [0; 0]);
        assert_eq!(slow(&[4.0, 7.201]), [1]);
        // Eight times as slow, but too little in absolute terms.
        assert_eq!(slow(&[0.111, 0.9109]), [0; 0]);
        assert_eq!(slow(&[0.111, 0.9111]), [1]);
        // More than the ratio, not equal to it.
        let rule = Rule { ratio: 2.0, ..Rule::default() };
        let measured = |mean_ms: f64| Some(OperationMean { count: 20, mean_seconds: mean_ms / 1e3 });
        assert_eq!(places(&rule.compare(&[measured(4.0), measured(8.0)])), [0; 0]);
    }

    #[test]
    fn members_with_little_to_compare() {
        let measured = |count, mean_ms: f64| Some(OperationMean { count, mean_seconds: mean_ms / 1e3 });
        let rule = Rule::default();
        // Too few I/Os on the slow one, on the only other one, on one of two others.
        let few = [measured(20, 0.1), measured(19, 50.0), measured(20, 0.1)];
        assert_eq!(places(&rule.compare(&few)), [0; 0]);
        assert!(rule.compare(&few)[1].is_none());
        assert_eq!(rule.compare(&[measured(19, 0.1), measured(20, 50.0)]), [None, None]);
        let one = rule.compare(&[measured(19, 40.0), measured(20, 50.0), measured(20, 0.1)]);
        assert_eq!(places(&one), [1]);
        assert!((one[1].expect("compared").ratio - 500.0).abs() < 1e-6);
        // A member that cannot be compared is no peer either.
        assert_eq!(places(&rule.compare(&[None, measured(99, 50.0), measured(99, 49.0)])), [0; 0]);
        assert_eq!(rule.compare(&[None, measured(99, 50.0)]), [None, None]);
        assert!(
            rule.compare(&[measured(20, 0.0), measured(20, 5.0)])[1].expect("compared").ratio.is_finite()
        );
    }
}
