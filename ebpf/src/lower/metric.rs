//! Writes a metric's value into its row; `r7` points to the row. The metric's kind has the instructions.

use super::{Lowering, offset};
use crate::{metric::Cell, row::RowWriter};

impl Lowering<'_> {
    pub(super) fn metric(&mut self, index: usize) {
        let metric = &self.probe.metrics[index];
        let Some(value) = &self.event.metrics[index] else { return };
        let offset = offset(self.layout.metrics[index].offset);
        self.prepare(value.filter.iter().chain([&value.value]));
        self.asm.comment(metric.name.clone());
        self.tidied(|this| {
            let done = this.asm.label();
            if let Some(filter) = &value.filter {
                this.branch(filter, false, done, 0);
            }
            this.eval(&value.value, 0);
            let mut row = RowWriter { is_alone: this.is_alone(), now: this.now, asm: &mut this.asm };
            metric.kind.update(&mut row, Cell { offset, signed: metric.signed, done });
            this.asm.place(done);
        });
    }
}
