//! One row of the map, with its copies joined.

use tapster_ebpf::{
    layout::{Layout, Slot},
    typed::TypedMetric,
};

/// A row as 64-bit words, its copies joined. The kind of a metric defines the meaning of its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RowWords(Vec<u64>);

/// A size or number of a layout.
fn size(number: u32) -> usize {
    usize::try_from(number).expect("layouts are of 64-bit kernels, whose addresses have room for it")
}

fn words(slot: Slot) -> std::ops::Range<usize> {
    let [start, count] = [slot.offset, slot.size].map(|bytes| size(bytes) / 8);
    start..start + count
}

impl RowWords {
    /// Reads a map value that has one copy, one for each CPU, or one for each few CPUs.
    pub(super) fn read(
        value: &[u8],
        layout: &Layout,
        metrics: &[TypedMetric],
        cpus: usize,
        now_ns: u64,
    ) -> Self {
        let [length, stride, shared] = [layout.row_size, layout.copies.stride, layout.copies.count].map(size);
        let copies = if layout.per_cpu { cpus } else { shared };
        let mut joined: Option<Self> = None;
        for copy in value.chunks_exact(stride.max(1)).take(copies) {
            let mut row = Self(
                copy[..length.min(copy.len())]
                    .chunks_exact(8)
                    .map(|chunk| chunk.try_into().map_or(0, u64::from_le_bytes))
                    .collect(),
            );
            for (metric, slot) in metrics.iter().zip(&layout.metrics) {
                metric.kind.settle(&mut row.0[words(*slot)], now_ns, metric.signed);
            }
            match &mut joined {
                Some(joined) => joined.join(&row, metrics, layout),
                None => joined = Some(row),
            }
        }
        joined.unwrap_or_else(|| Self(vec![0; length / 8]))
    }

    /// Adds another row with the same labels.
    pub(super) fn join(&mut self, other: &Self, metrics: &[TypedMetric], layout: &Layout) {
        for (metric, slot) in metrics.iter().zip(&layout.metrics) {
            let range = words(*slot);
            metric.kind.join(&mut self.0[range.clone()], &other.0[range], metric.signed);
        }
    }

    /// Subtracts the counts of another row, which are part of this one.
    pub(super) fn without(mut self, other: &Self, metrics: &[TypedMetric], layout: &Layout) -> Self {
        for (metric, slot) in metrics.iter().zip(&layout.metrics) {
            if !metric.kind.has_time() {
                let range = words(*slot);
                for (mine, theirs) in self.0[range.clone()].iter_mut().zip(&other.0[range]) {
                    *mine = mine.wrapping_sub(*theirs);
                }
            }
        }
        self
    }

    /// Keeps only the counts: the last and the largest value of what is gone are not served.
    pub(super) fn counts(mut self, metrics: &[TypedMetric], layout: &Layout) -> Self {
        for (metric, slot) in metrics.iter().zip(&layout.metrics) {
            if metric.kind.has_time() {
                self.0[words(*slot)].fill(0);
            }
        }
        self
    }

    /// The words of a metric.
    pub(super) fn words(&self, slot: Slot) -> &[u64] {
        &self.0[words(slot)]
    }

    /// The raw number of a metric that has one; `None` if no value was kept yet.
    #[expect(
        clippy::cast_precision_loss,
        clippy::as_conversions,
        reason = "samples are f64, as Prometheus keeps them"
    )]
    pub(super) fn number(&self, slot: Slot, metric: &TypedMetric) -> Option<f64> {
        metric.kind.number(self.words(slot), metric.signed).map(|number| number as f64)
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
    use tapster_ebpf::{
        layout::{CgroupLayout, Copies, StateLayout},
        metric::{Counter, Gauge, Max},
        probe::Unit,
        typed::TypedMetricKind,
    };

    pub(in crate::collector) fn metric(kind: impl Into<TypedMetricKind>, signed: bool) -> TypedMetric {
        TypedMetric { name: "m".into(), help: String::new(), kind: kind.into(), unit: Unit::One, signed }
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
            chosen: Vec::new(),
            state: StateLayout::default(),
            cgroups: CgroupLayout::default(),
            paths: false,
        }
    }

    pub(in crate::collector) fn bytes(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn cpus_are_joined_by_kind() {
        let window_ns = 300;
        let metrics = [metric(Counter, false), metric(Gauge, true), metric(Max { window_ns }, true)];
        let layout = layout(&[8, 16, 64], true);
        let first = [5, 1000, 7, 8, 50, 9, 20, 10, 3, 3, 900];
        let second = [6, 2000, (-3_i64).cast_unsigned(), 0, 0, 9, 30, 0, 0, 7, 99];
        // Now is epoch 10 of 100 ns each: epochs 8, 9 and 10 are inside, 3 and 7 are not.
        let row = RowWords::read(&bytes(&[first, second].concat()), &layout, &metrics, 2, 1050);
        let number = |index: usize| row.number(layout.metrics[index], &metrics[index]);
        assert_eq!(number(0), Some(11.0));
        assert_eq!(number(1), Some(-3.0), "the later gauge wins, and is signed");
        assert_eq!(number(2), Some(50.0));
        let later = RowWords::read(&bytes(&[first, second].concat()), &layout, &metrics, 2, 5000);
        assert_eq!(later.number(layout.metrics[2], &metrics[2]), None, "the window has passed");
    }

    #[test]
    fn copies_that_cpus_share_are_added() {
        let metrics = [metric(Counter, false)];
        let copies = Copies { count: 4, stride: 24, shift: 5 };
        let layout = Layout { copies, ..layout(&[8], false) };
        let value = bytes(&[1, 100, 100, 20, 100, 100, 300, 100, 100, 4000, 100, 100]);
        let row = RowWords::read(&value, &layout, &metrics, 128, 1);
        assert_eq!(row.number(layout.metrics[0], &metrics[0]), Some(4321.0), "and nothing between them");
    }

    #[test]
    fn a_gauge_never_set_is_not_shown() {
        let metrics = [metric(Gauge, false)];
        let layout = layout(&[16], true);
        let row = RowWords::read(&bytes(&[0; 4]), &layout, &metrics, 2, 1);
        assert_eq!(row.number(layout.metrics[0], &metrics[0]), None);
    }
}
