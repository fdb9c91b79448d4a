//! Rows that were removed from the map, because a cgroup, a disk or a process in their labels is gone.
//!
//! Their counts stay in their series for a while, those of a process for good. A series of a cgroup stays as long as something else in it lives, so that it
//! does not decrease (another cgroup of the container, another container of the namespace); a series of a disk stays until
//! another disk has its name. Then the series ends, and its counts move to `~gone`. So the sum over all series is always the
//! number of events.

use super::row::RowWords;
use crate::cgroup::GONE;
use std::{collections::HashMap, sync::Arc};
use tapster_ebpf::{layout::Layout, typed::TypedMetric};

/// Label texts, and the indexes of the labels whose cgroup or disk is gone.
type RetiredKey = (Arc<[String]>, Vec<usize>);

/// Counts that moved from one series to another.
#[derive(Debug)]
pub(super) struct Move {
    pub(super) from: Arc<[String]>,
    pub(super) to: Arc<[String]>,
    pub(super) row: RowWords,
}

/// Counts of what is gone, by their label texts.
#[derive(Debug)]
pub(super) struct Retired {
    /// The row, and whether a scrape has shown counts of these texts.
    rows: HashMap<RetiredKey, (RowWords, bool)>,
    /// Most entries of `rows`.
    limit: usize,
}

impl Retired {
    /// Keeps at most as many rows as the map has.
    pub(super) fn new(max_rows: u32) -> Self {
        Self { rows: HashMap::new(), limit: usize::try_from(max_rows).unwrap_or(usize::MAX) }
    }

    /// Adds a row and returns its texts. If there is no room for another label set, all its labels get the texts of what is
    /// gone.
    pub(super) fn add(
        &mut self,
        texts: Arc<[String]>,
        gone: Vec<usize>,
        (row, is_shown): (RowWords, bool),
        metrics: &[TypedMetric],
        layout: &Layout,
    ) -> Arc<[String]> {
        let mut key = (texts, gone);
        if self.rows.len() >= self.limit && !self.rows.contains_key(&key) {
            key.0 = key.0.iter().map(|_| GONE.to_owned()).collect();
        }
        let texts = Arc::clone(&key.0);
        match self.rows.get_mut(&key) {
            Some((known, was_shown)) => {
                known.join(&row, metrics, layout);
                *was_shown |= is_shown;
            }
            None => {
                self.rows.insert(key, (row, is_shown));
            }
        }
        texts
    }

    /// Ends series. `ending` gets the texts of each and the indexes of what is gone, and returns the indexes of labels that
    /// become `~gone`. Returns the moves of counts that a scrape has shown.
    pub(super) fn settle(
        &mut self,
        mut ending: impl FnMut(&[String], &[usize]) -> Vec<usize>,
        metrics: &[TypedMetric],
        layout: &Layout,
    ) -> Vec<Move> {
        let ended = |key: &RetiredKey| {
            let places = ending(&key.0, &key.1);
            (!places.is_empty()).then(|| (key.clone(), places))
        };
        let ended: Vec<(RetiredKey, Vec<usize>)> = self.rows.keys().filter_map(ended).collect();
        let mut moves = Vec::new();
        for (key, places) in ended {
            let Some((row, is_shown)) = self.rows.remove(&key) else { continue };
            let (texts, gone) = key;
            let text = |(index, text): (usize, &String)| {
                if places.contains(&index) { GONE.to_owned() } else { text.clone() }
            };
            let into = texts.iter().enumerate().map(text).collect();
            let into = self.add(into, gone, (row.clone(), is_shown), metrics, layout);
            if is_shown {
                moves.push(Move { from: texts, to: into, row });
            }
        }
        moves
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Texts and counts of all rows.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&Arc<[String]>, &RowWords)> {
        self.rows.iter().map(|((texts, _), (row, _))| (texts, row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::is_endless;
    use crate::collector::row::tests::{bytes, layout, metric};
    use tapster_ebpf::metric::{Counter, Gauge};

    struct Rows {
        retired: Retired,
        metrics: [TypedMetric; 2],
        layout: Layout,
        /// The texts before and after each move.
        moves: Vec<(String, String)>,
    }

    impl Rows {
        fn new(limit: u32) -> Self {
            Self {
                retired: Retired::new(limit),
                metrics: [metric(Counter, false), metric(Gauge, false)],
                layout: layout(&[8, 16], true),
                moves: Vec::new(),
            }
        }

        fn add(&mut self, texts: &[&str], gone: &[usize], count: u64) {
            let row = RowWords::read(&bytes(&[count, 5, 7]), &self.layout, &self.metrics, 1, 1);
            let row = row.counts(&self.metrics, &self.layout);
            let texts = texts.iter().map(|text| (*text).to_owned()).collect();
            self.retired.add(texts, gone.to_vec(), (row, true), &self.metrics, &self.layout);
        }

        fn settle(&mut self, living: &[&[&str]]) {
            let ending = |texts: &[String], gone: &[usize]| {
                let own: Vec<&str> = gone.iter().map(|index| texts[*index].as_str()).collect();
                let is_over = own.iter().all(|text| is_endless(text));
                if is_over || living.contains(&own.as_slice()) { Vec::new() } else { gone.to_vec() }
            };
            let moves = self.retired.settle(ending, &self.metrics, &self.layout);
            self.moves.extend(moves.iter().map(|Move { from, to, .. }| (from.join("/"), to.join("/"))));
        }

        /// Texts and counters, sorted.
        fn all(&self) -> Vec<(String, f64)> {
            let number =
                |row: &RowWords, index: usize| row.number(self.layout.metrics[index], &self.metrics[index]);
            let mut all: Vec<_> = self
                .retired
                .rows()
                .map(|(texts, row)| {
                    assert_eq!(number(row, 1), None, "a gauge of what is gone says nothing");
                    (texts.join("/"), number(row, 0).unwrap())
                })
                .collect();
            all.sort_by(|a, b| a.0.cmp(&b.0));
            all
        }
    }

    fn expected(rows: &[(&str, f64)]) -> Vec<(String, f64)> {
        rows.iter().map(|(texts, count)| ((*texts).to_owned(), *count)).collect()
    }

    #[test]
    fn a_series_ends_with_the_last_that_lives() {
        let mut rows = Rows::new(10);
        rows.add(&["shop", "web", "read"], &[0, 1], 3);
        rows.add(&["shop", "web", "read"], &[0, 1], 4);
        rows.add(&["shop", "db", "read"], &[0, 1], 10);
        rows.add(&["~none", "~none", "read"], &[0, 1], 100);
        rows.add(&["~gone", "~gone", "write"], &[0, 1], 1000);
        rows.settle(&[&["shop", "web"]]);
        let (kept, none) = (("shop/web/read", 7.0), ("~none/~none/read", 100.0));
        let before = ("~gone/~gone/write", 1000.0);
        assert_eq!(rows.all(), expected(&[kept, ("~gone/~gone/read", 10.0), before, none]));
        rows.settle(&[]);
        assert_eq!(rows.all(), expected(&[("~gone/~gone/read", 17.0), before, none]));
        let moved = |from: &str| (from.to_owned(), "~gone/~gone/read".to_owned());
        assert_eq!(rows.moves, [moved("shop/db/read"), moved("shop/web/read")]);
    }

    #[test]
    fn two_cgroups_in_one_row() {
        let mut rows = Rows::new(10);
        rows.add(&["waker", "sleeper"], &[1], 3);
        rows.settle(&[&["waker"]]);
        assert_eq!(rows.all(), expected(&[("waker/~gone", 3.0)]));
    }

    #[test]
    fn nothing_is_lost_where_there_is_no_room() {
        let mut rows = Rows::new(3);
        for n in 0..100_u64 {
            rows.add(&["~gone", &format!("comm-{n}")], &[0], 1);
            rows.settle(&[]);
        }
        let kept = |n| (format!("~gone/comm-{n}"), 1.0);
        assert_eq!(rows.all(), [kept(0), kept(1), kept(2), ("~gone/~gone".to_owned(), 97.0)]);
    }
}
