//! One row of the map: what the CPUs hold, brought together.

use tapster_ebpf::{
    layout::{Layout, MAX_SLOTS, Slot, WINDOW_SLOTS},
    typed::{TypedMetric, TypedMetricKind},
};

/// A row as 64-bit words, the CPUs joined: sums for counters and histograms, time and value for a gauge,
/// "is set" and value in the first two words of a `max`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row(Vec<u64>);

fn words(slot: Slot) -> std::ops::Range<usize> {
    let start = usize::try_from(slot.offset / 8).unwrap_or(0);
    start..start + usize::try_from(slot.size / 8).unwrap_or(0)
}

fn is_larger(a: u64, b: u64, signed: bool) -> bool {
    if signed { a.cast_signed() > b.cast_signed() } else { a > b }
}

impl Row {
    /// Reads a map value of one copy, of one for each CPU, or of one for each few CPUs.
    pub(super) fn read(
        value: &[u8],
        layout: &Layout,
        metrics: &[TypedMetric],
        cpus: usize,
        now_ns: u64,
    ) -> Self {
        let size = usize::try_from(layout.row_size).unwrap_or(0);
        let stride = usize::try_from(layout.copies.stride).unwrap_or(size);
        let shared = usize::try_from(layout.copies.count).unwrap_or(1);
        let copies = if layout.per_cpu { cpus } else { shared };
        let mut joined: Option<Self> = None;
        for copy in value.chunks_exact(stride.max(1)).take(copies) {
            let mut row = Self(
                copy[..size.min(copy.len())]
                    .chunks_exact(8)
                    .map(|chunk| chunk.try_into().map_or(0, u64::from_le_bytes))
                    .collect(),
            );
            for (metric, slot) in metrics.iter().zip(&layout.metrics) {
                if let TypedMetricKind::Max { window_ns } = metric.kind {
                    row.settle_max(words(*slot), window_ns, now_ns, metric.signed);
                }
            }
            match &mut joined {
                Some(joined) => joined.join(&row, metrics, layout),
                None => joined = Some(row),
            }
        }
        joined.unwrap_or_else(|| Self(vec![0; size / 8]))
    }

    /// The largest value of the window from the ring of slots, into the first two words.
    fn settle_max(&mut self, range: std::ops::Range<usize>, window_ns: u64, now_ns: u64, signed: bool) {
        let epoch = now_ns / (window_ns / WINDOW_SLOTS).max(1);
        let slots = &mut self.0[range];
        let mut largest: Option<u64> = None;
        for pair in slots.chunks_exact(2).take(usize::try_from(MAX_SLOTS).unwrap_or(4)) {
            let (slot_epoch, value) = (pair[0], pair[1]);
            let inside = slot_epoch != 0 && slot_epoch.saturating_add(WINDOW_SLOTS) > epoch;
            if inside && largest.is_none_or(|largest| is_larger(value, largest, signed)) {
                largest = Some(value);
            }
        }
        slots[0] = u64::from(largest.is_some());
        slots[1] = largest.unwrap_or(0);
    }

    /// Adds another row of the same labels to this.
    pub(super) fn join(&mut self, other: &Self, metrics: &[TypedMetric], layout: &Layout) {
        for (metric, slot) in metrics.iter().zip(&layout.metrics) {
            let range = words(*slot);
            let (mine, theirs) = (&mut self.0[range.clone()], &other.0[range]);
            let replace = match metric.kind {
                TypedMetricKind::Counter | TypedMetricKind::Histogram(_) => {
                    for (mine, theirs) in mine.iter_mut().zip(theirs) {
                        *mine = mine.wrapping_add(*theirs);
                    }
                    false
                }
                TypedMetricKind::Gauge => theirs[0] > mine[0],
                TypedMetricKind::Max { .. } => {
                    theirs[0] != 0 && (mine[0] == 0 || is_larger(theirs[1], mine[1], metric.signed))
                }
            };
            if replace {
                mine.copy_from_slice(theirs);
            }
        }
    }

    /// This without the counts of another, which are part of it.
    pub(super) fn without(mut self, other: &Self, metrics: &[TypedMetric], layout: &Layout) -> Self {
        for (metric, slot) in metrics.iter().zip(&layout.metrics) {
            if matches!(metric.kind, TypedMetricKind::Counter | TypedMetricKind::Histogram(_)) {
                let range = words(*slot);
                for (mine, theirs) in self.0[range.clone()].iter_mut().zip(&other.0[range]) {
                    *mine = mine.wrapping_sub(*theirs);
                }
            }
        }
        self
    }

    /// Only what was counted: the last and the largest value of what is no more say nothing.
    pub(super) fn counts(mut self, metrics: &[TypedMetric], layout: &Layout) -> Self {
        for (metric, slot) in metrics.iter().zip(&layout.metrics) {
            match metric.kind {
                TypedMetricKind::Counter | TypedMetricKind::Histogram(_) => {}
                TypedMetricKind::Gauge | TypedMetricKind::Max { .. } => self.0[words(*slot)].fill(0),
            }
        }
        self
    }

    /// A metric's words.
    pub(super) fn words(&self, slot: Slot) -> &[u64] {
        &self.0[words(slot)]
    }

    /// The raw number of a counter, gauge or max; `None` where nothing was kept yet.
    pub(super) fn number(&self, slot: Slot, metric: &TypedMetric) -> Option<f64> {
        let words = self.words(slot);
        let value = match metric.kind {
            TypedMetricKind::Counter => return Some(to_f64(words[0], false)),
            TypedMetricKind::Histogram(_) => return None,
            TypedMetricKind::Gauge | TypedMetricKind::Max { .. } => (words[0] != 0).then(|| words[1])?,
        };
        Some(to_f64(value, metric.signed))
    }
}

/// A raw word as a number.
#[expect(clippy::cast_precision_loss, reason = "samples are f64, as Prometheus keeps them")]
pub(super) fn to_f64(word: u64, signed: bool) -> f64 {
    if signed { word.cast_signed() as f64 } else { word as f64 }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use tapster_ebpf::{layout::Copies, probe::Unit};

    pub(in crate::collector) fn metric(kind: TypedMetricKind, signed: bool) -> TypedMetric {
        TypedMetric { name: "m".into(), help: String::new(), kind, unit: Unit::One, signed }
    }

    pub(in crate::collector) fn layout(sizes: &[u32], per_cpu: bool) -> Layout {
        let mut offset = 0;
        let metrics = sizes
            .iter()
            .map(|size| {
                let slot = Slot { offset, size: *size };
                offset += size;
                slot
            })
            .collect();
        Layout {
            labels: Vec::new(),
            key_size: 4,
            metrics,
            row_size: offset,
            per_cpu,
            copies: Copies { count: 1, stride: offset, shift: 0 },
            max_rows: 1,
            start: None,
            stacks: Vec::new(),
            traced: false,
        }
    }

    pub(in crate::collector) fn bytes(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn cpus_are_joined_by_kind() {
        let window_ns = 300;
        let metrics = [
            metric(TypedMetricKind::Counter, false),
            metric(TypedMetricKind::Gauge, true),
            metric(TypedMetricKind::Max { window_ns }, true),
        ];
        let layout = layout(&[8, 16, 64], true);
        let first = [5, 1000, 7, 8, 50, 9, 20, 10, 3, 3, 900];
        let second = [6, 2000, (-3_i64).cast_unsigned(), 0, 0, 9, 30, 0, 0, 7, 99];
        // Now is epoch 10 of 100 ns each: epochs 8, 9 and 10 are inside, 3 and 7 are not.
        let row = Row::read(&bytes(&[first, second].concat()), &layout, &metrics, 2, 1050);
        let number = |index: usize| row.number(layout.metrics[index], &metrics[index]);
        assert_eq!(number(0), Some(11.0));
        assert_eq!(number(1), Some(-3.0), "the later gauge wins, and is signed");
        assert_eq!(number(2), Some(50.0));
        let later = Row::read(&bytes(&[first, second].concat()), &layout, &metrics, 2, 5000);
        assert_eq!(later.number(layout.metrics[2], &metrics[2]), None, "the window has passed");
    }

    #[test]
    fn copies_that_cpus_share_are_added() {
        let metrics = [metric(TypedMetricKind::Counter, false)];
        let copies = Copies { count: 4, stride: 24, shift: 5 };
        let layout = Layout { copies, ..layout(&[8], false) };
        let value = bytes(&[1, 100, 100, 20, 100, 100, 300, 100, 100, 4000, 100, 100]);
        let row = Row::read(&value, &layout, &metrics, 128, 1);
        assert_eq!(row.number(layout.metrics[0], &metrics[0]), Some(4321.0), "and nothing between them");
    }

    #[test]
    fn a_gauge_never_set_is_not_shown() {
        let metrics = [metric(TypedMetricKind::Gauge, false)];
        let layout = layout(&[16], true);
        let row = Row::read(&bytes(&[0; 4]), &layout, &metrics, 2, 1);
        assert_eq!(row.number(layout.metrics[0], &metrics[0]), None);
    }
}
