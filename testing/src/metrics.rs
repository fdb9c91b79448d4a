//! Parses a scrape in the text format.

use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Sample {
    fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(key, value)| self.labels.get(*key).is_some_and(|found| found == value))
    }
}

/// All samples of a scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(pub Vec<Sample>);

/// A histogram: inclusive upper bounds, `+Inf` last, and observations in each bucket, not cumulative.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    pub buckets: Vec<(f64, u64)>,
    pub sum: f64,
}

impl Histogram {
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }

    /// Bounds of the bucket that contains the observation of this rank, counted from 1.
    pub fn bucket_of_rank(&self, rank: u64) -> (f64, f64) {
        let (mut lower, mut seen) = (0.0, 0);
        for (upper, count) in &self.buckets {
            seen += count;
            if seen >= rank {
                return (lower, *upper);
            }
            lower = *upper;
        }
        (lower, f64::INFINITY)
    }
}

impl Metrics {
    /// Parses the text format; fails for a line that is neither a sample nor a comment.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(lines.map(|line| sample(line).unwrap_or_else(|| panic!("not a sample: `{line}`"))).collect())
    }

    fn matching<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        self.0.iter().filter(move |sample| sample.name == name && sample.has(labels))
    }

    /// The sum of the samples with these labels; `None` if there are none.
    pub fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.matching(name, labels).map(|sample| sample.value).reduce(|sum, value| sum + value)
    }

    /// Like [`Self::find`]; 0 for a series that does not exist yet.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).unwrap_or(0.0)
    }

    /// Values of a label among the samples of a name.
    pub fn values(&self, name: &str, labels: &[(&str, &str)], label: &str) -> Vec<String> {
        self.matching(name, labels).filter_map(|sample| sample.labels.get(label).cloned()).collect()
    }

    /// A histogram: the sum of those with these labels.
    pub fn histogram(&self, name: &str, labels: &[(&str, &str)]) -> Histogram {
        let mut cumulative: Vec<(f64, u64)> = Vec::new();
        for sample in self.matching(&format!("{name}_bucket"), labels) {
            let bound: f64 = sample.labels["le"].parse().unwrap();
            let count = whole(sample.value);
            match cumulative.iter_mut().find(|(known, _)| known.total_cmp(&bound).is_eq()) {
                Some((_, sum)) => *sum += count,
                None => cumulative.push((bound, count)),
            }
        }
        cumulative.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let mut before = 0;
        let buckets = cumulative
            .into_iter()
            .map(|(bound, count)| {
                let own = count.checked_sub(before).expect("buckets are cumulative");
                before = count;
                (bound, own)
            })
            .collect();
        let histogram = Histogram { buckets, sum: self.sum(&format!("{name}_sum"), labels) };
        assert_eq!(
            histogram.count(),
            whole(self.sum(&format!("{name}_count"), labels)),
            "`{name}`: _count is not its +Inf bucket"
        );
        histogram
    }

    /// The observations of a histogram between two scrapes.
    pub fn histogram_since(&self, before: &Self, name: &str, labels: &[(&str, &str)]) -> Histogram {
        let (mut now, then) = (self.histogram(name, labels), before.histogram(name, labels));
        for (bound, count) in &mut now.buckets {
            let old = then
                .buckets
                .iter()
                .find(|(known, _)| known.total_cmp(bound).is_eq())
                .map_or(0, |(_, count)| *count);
            let grown = count.checked_sub(old);
            *count = grown.unwrap_or_else(|| {
                panic!(
                    "`{name}` {labels:?}: {old} up to {bound} before, and {count} after: buckets only grow"
                )
            });
        }
        now.sum -= then.sum;
        now
    }

    /// Growth of a counter between two scrapes.
    pub fn since(&self, before: &Self, name: &str, labels: &[(&str, &str)]) -> u64 {
        whole(self.sum(name, labels) - before.sum(name, labels))
    }
}

/// A sample as the count that it was.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
pub fn whole(value: f64) -> u64 {
    assert!(value >= 0.0 && value.fract() == 0.0 && value < 9e15, "{value} is not a count");
    value as u64
}

/// Parses `name{key="value",…} number`.
fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let value = value.replace("+Inf", "inf").parse().ok()?;
    let (name, mut rest) = match series.split_once('{') {
        Some((name, rest)) => (name, rest.strip_suffix('}')?),
        None => (series, ""),
    };
    let mut labels = BTreeMap::new();
    while !rest.is_empty() {
        let (key, after) = rest.split_once("=\"")?;
        let mut text = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next()? {
                (end, '"') => break end,
                (_, '\\') => match characters.next()?.1 {
                    'n' => text.push('\n'),
                    other => text.push(other),
                },
                (_, other) => text.push(other),
            }
        };
        labels.insert(key.to_owned(), text);
        rest = after[end + 1..].strip_prefix(',').unwrap_or(&after[end + 1..]);
    }
    Some(Sample { name: name.to_owned(), labels, value })
}
