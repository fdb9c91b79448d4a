//! Counts that moved to another series: those of something that is gone move to `~gone`, and a cgroup may get another name.
//!
//! A scrape shows where counts are now. A push of differences must not send a count twice, first under the labels that it was
//! counted with and then under those that it moved to. So the ledger keeps what left each series and what came into each: a
//! series' own counts are its present counts, plus what left it, minus what came into it. They never decrease.

use super::row::RowWords;
use crate::family::LabelTexts;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::SystemTime,
};
use tapster_ebpf::{layout::Layout, typed::TypedMetric};

/// The counts that left a series, and those that came into it.
#[derive(Debug, Default)]
struct CountMoves {
    left: Option<RowWords>,
    came: Option<RowWords>,
    /// A number that increases with each move and identifies the oldest.
    order: u64,
}

/// Moves of counts between the series of a probe.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Texts that the last scrape showed for each row of the map. Counts of other rows were never served.
    shown: HashMap<Vec<u8>, LabelTexts>,
    moved: HashMap<LabelTexts, CountMoves>,
    /// For each series, when counts left it last: its present counts began then. Shared with the families that were collected.
    restarted: Arc<HashMap<LabelTexts, SystemTime>>,
    moves: u64,
    limit: usize,
}

impl Ledger {
    /// Makes the ledger of a probe with this many rows. Beyond twice as many, it forgets series that ended, the oldest first.
    pub(super) fn new(max_rows: u32) -> Self {
        Self {
            shown: HashMap::new(),
            moved: HashMap::new(),
            restarted: Arc::default(),
            moves: 0,
            limit: usize::try_from(max_rows).unwrap_or(usize::MAX).saturating_mul(2),
        }
    }

    /// When each series began to count again.
    pub(super) fn restarted(&self) -> Arc<HashMap<LabelTexts, SystemTime>> {
        Arc::clone(&self.restarted)
    }

    /// Notes the texts that a scrape shows for a row of the map.
    pub(super) fn show(
        &mut self,
        key: &[u8],
        texts: &LabelTexts,
        row: &RowWords,
        at: SystemTime,
        metrics: &[TypedMetric],
        layout: &Layout,
    ) {
        match self.shown.get_mut(key) {
            Some(before) if before == texts => {}
            Some(before) => {
                let before = std::mem::replace(before, Arc::clone(texts));
                self.count_moved(&before, texts, row, at, metrics, layout);
            }
            None => {
                self.shown.insert(key.to_vec(), Arc::clone(texts));
            }
        }
    }

    /// Notes that a row was removed from the map. Returns the texts that it was shown with, if it was shown.
    pub(super) fn take_out(&mut self, key: &[u8]) -> Option<LabelTexts> {
        self.shown.remove(key)
    }

    /// Notes that counts of one series, which were shown, are now in another.
    pub(super) fn count_moved(
        &mut self,
        from: &LabelTexts,
        to: &LabelTexts,
        row: &RowWords,
        at: SystemTime,
        metrics: &[TypedMetric],
        layout: &Layout,
    ) {
        if from == to {
            return;
        }
        self.moves += 1;
        let row = row.clone().counts(metrics, layout);
        let add = |sum: &mut Option<RowWords>| match sum {
            Some(sum) => sum.join(&row, metrics, layout),
            None => *sum = Some(row.clone()),
        };
        let source = self.moved.entry(Arc::clone(from)).or_default();
        source.order = self.moves;
        add(&mut source.left);
        add(&mut self.moved.entry(Arc::clone(to)).or_default().came);
        Arc::make_mut(&mut self.restarted).insert(Arc::clone(from), at);
    }

    /// Whether there is something to forget, if the map has this many rows.
    pub(super) fn has_too_much(&self, rows: usize) -> bool {
        self.shown.len() > rows || self.moved.len() > self.limit
    }

    /// Forgets rows that are no longer in the map and, if there are too many, the oldest series that ended.
    pub(super) fn forget(&mut self, keys: &HashSet<&[u8]>, present: &HashMap<LabelTexts, usize>) {
        self.shown.retain(|key, _| keys.contains(key.as_slice()));
        if self.moved.len() <= self.limit {
            return;
        }
        let is_over =
            |texts: &LabelTexts, moved: &CountMoves| moved.came.is_none() && !present.contains_key(texts);
        let mut over: Vec<(u64, LabelTexts)> = self
            .moved
            .iter()
            .filter(|(texts, moved)| is_over(texts, moved))
            .map(|(texts, moved)| (moved.order, Arc::clone(texts)))
            .collect();
        over.sort_unstable_by_key(|(order, _)| *order);
        let restarted = Arc::make_mut(&mut self.restarted);
        for (_, texts) in over.into_iter().take(self.moved.len() - self.limit) {
            self.moved.remove(&texts);
            restarted.remove(&texts);
        }
    }

    /// The own counts of each series, from rows as a scrape shows them. Series that ended are included.
    pub(super) fn own(
        &self,
        mut rows: Vec<(LabelTexts, RowWords)>,
        places: &HashMap<LabelTexts, usize>,
        metrics: &[TypedMetric],
        layout: &Layout,
    ) -> Vec<(LabelTexts, RowWords)> {
        for (texts, CountMoves { left, came, .. }) in &self.moved {
            let place = places.get(texts).copied().or_else(|| {
                let left = left.as_ref()?;
                rows.push((Arc::clone(texts), left.clone().without(left, metrics, layout)));
                Some(rows.len() - 1)
            });
            let Some((_, row)) = place.and_then(|place| rows.get_mut(place)) else { continue };
            if let Some(left) = left {
                row.join(left, metrics, layout);
            }
            if let Some(came) = came {
                *row = row.clone().without(came, metrics, layout);
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collector::row::tests::{bytes, layout, metric};
    use std::time::Duration;
    use tapster_ebpf::metric::{Counter, Gauge};

    struct Series {
        ledger: Ledger,
        metrics: [TypedMetric; 2],
        layout: Layout,
        seconds: u64,
    }

    fn texts(text: &str) -> LabelTexts {
        text.split('/').map(str::to_owned).collect()
    }

    impl Series {
        fn new(limit: u32) -> Self {
            Self {
                ledger: Ledger::new(limit),
                metrics: [metric(Counter, false), metric(Gauge, false)],
                layout: layout(&[8, 16], true),
                seconds: 0,
            }
        }

        fn row(&self, count: u64) -> RowWords {
            RowWords::read(&bytes(&[count, 5, 7]), &self.layout, &self.metrics, 1, 1)
        }

        fn at(&mut self) -> SystemTime {
            self.seconds += 1;
            SystemTime::UNIX_EPOCH + Duration::from_secs(self.seconds)
        }

        fn show(&mut self, key: u8, text: &str, count: u64) {
            let (row, at) = (self.row(count), self.at());
            self.ledger.show(&[key], &texts(text), &row, at, &self.metrics, &self.layout);
        }

        fn moved(&mut self, from: &str, to: &str, count: u64) {
            let (row, at) = (self.row(count), self.at());
            self.ledger.count_moved(&texts(from), &texts(to), &row, at, &self.metrics, &self.layout);
        }

        /// The own counts of all series, given the counts that a scrape shows now.
        fn own(&self, now: &[(&str, u64)]) -> Vec<(String, f64)> {
            let rows: Vec<(LabelTexts, RowWords)> =
                now.iter().map(|(text, count)| (texts(text), self.row(*count))).collect();
            let places = rows.iter().enumerate().map(|(place, (texts, _))| (Arc::clone(texts), place));
            let places = places.collect();
            let number = |row: &RowWords| row.number(self.layout.metrics[0], &self.metrics[0]).unwrap();
            let own = self.ledger.own(rows, &places, &self.metrics, &self.layout);
            let mut all: Vec<_> = own.iter().map(|(texts, row)| (texts.join("/"), number(row))).collect();
            all.sort_by(|a, b| a.0.cmp(&b.0));
            all
        }

        fn restarted(&self) -> Vec<(String, u64)> {
            let since = |at: &SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
            let restarted = self.ledger.restarted();
            let mut all: Vec<_> = restarted.iter().map(|(texts, at)| (texts.join("/"), since(at))).collect();
            all.sort();
            all
        }
    }

    fn all(series: &[(&str, f64)]) -> Vec<(String, f64)> {
        series.iter().map(|(text, count)| ((*text).to_owned(), *count)).collect()
    }

    #[test]
    fn what_moved_counts_where_it_was_counted() {
        let mut series = Series::new(10);
        series.show(1, "web", 5);
        series.show(2, "db", 3);
        assert_eq!(series.own(&[("web", 5), ("db", 3)]), all(&[("db", 3.0), ("web", 5.0)]));
        // `db` counted two more, then its container went.
        series.show(1, "~gone", 7);
        assert_eq!(series.own(&[("~gone", 7), ("db", 4)]), all(&[("db", 4.0), ("web", 7.0), ("~gone", 0.0)]));
        // Something that was never shown went, and is counted there; a container named `web` is back.
        assert_eq!(
            series.own(&[("~gone", 9), ("db", 4), ("web", 1)]),
            all(&[("db", 4.0), ("web", 8.0), ("~gone", 2.0)])
        );
        assert_eq!(series.restarted(), [("web".to_owned(), 3)]);
        // It goes again; what moved on from there still belongs to `web`.
        series.moved("web", "~gone", 1);
        series.moved("~gone", "~gone/~gone", 10);
        assert_eq!(
            series.own(&[("~gone/~gone", 10), ("db", 4)]),
            all(&[("db", 4.0), ("web", 8.0), ("~gone", 2.0), ("~gone/~gone", 0.0)])
        );
        series.moved("db", "db", 4);
        assert_eq!(series.restarted(), [("web".to_owned(), 4), ("~gone".to_owned(), 5)]);
    }

    #[test]
    fn a_row_that_gets_a_name_leaves_the_others() {
        let mut series = Series::new(10);
        series.show(1, "", 5);
        series.show(2, "", 3);
        series.show(1, "web", 6);
        assert_eq!(series.own(&[("", 4), ("web", 7)]), all(&[("", 10.0), ("web", 1.0)]));
    }

    #[test]
    fn what_ended_is_forgotten_beyond_the_limit() {
        let mut series = Series::new(2);
        for number in 0..10 {
            series.moved(&format!("pod-{number}"), "~gone", 1);
        }
        let present = HashMap::from([(texts("pod-0"), 0)]);
        series.show(1, "pod-0", 1);
        series.show(2, "left", 1);
        let key: &[u8] = &[1];
        series.ledger.forget(&HashSet::from([key]), &present);
        // Series that are present, and series into which counts moved, are kept.
        let own = series.own(&[("~gone", 10), ("pod-0", 1)]);
        assert_eq!(own, all(&[("pod-0", 2.0), ("pod-8", 1.0), ("pod-9", 1.0), ("~gone", 0.0)]));
        assert_eq!(series.restarted().len(), 3);
        assert_eq!(series.ledger.take_out(&[2]), None, "its row is not in the map");
        assert_eq!(series.ledger.take_out(&[1]), Some(texts("pod-0")));
    }
}
