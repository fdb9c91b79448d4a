//! A metric's value into its row; `r7` points to the row.

use super::{Lowering, offset};
use crate::{
    insn::{Alu, Cond, Insn, R1, R2, R3, R4, R7, Size},
    layout::WINDOW_SLOTS,
    typed::{TypedMetric, TypedMetricKind, TypedValue},
};

impl Lowering<'_> {
    pub(super) fn metric(&mut self, index: usize) {
        let metric = &self.probe.metrics[index];
        let value = &self.event.metrics[index];
        let offset = offset(self.layout.metrics[index].offset);
        self.prepare(value.filter.iter().chain([&value.value]));
        self.asm.comment(metric.name.clone());
        self.tidied(|this| this.update(metric, value, offset));
    }

    fn update(&mut self, metric: &TypedMetric, value: &TypedValue, offset: i16) {
        let done = self.asm.label();
        if let Some(filter) = &value.filter {
            self.branch(filter, false, done, 0);
        }
        self.eval(&value.value, 0);
        match &metric.kind {
            TypedMetricKind::Counter => {
                if metric.signed {
                    // A counter never falls.
                    self.asm.jump_if(Cond::Slt, R1, 0, done);
                }
                self.add(R7, offset, R1);
            }
            TypedMetricKind::Gauge => {
                let now = self.time();
                self.load_slot(R2, now);
                self.asm.push(Insn::Store(Size::DW, R7, offset, R2));
                self.asm.push(Insn::Store(Size::DW, R7, offset + 8, R1));
            }
            TypedMetricKind::Max { window_ns } => self.max(offset, *window_ns, metric.signed, done),
            TypedMetricKind::Histogram(scheme) => {
                self.add(R7, offset, R1);
                self.bucket(scheme, offset + 8, metric.signed, done);
            }
        }
        self.asm.place(done);
    }

    /// Keeps the largest value of each third of the window, in a ring of four slots.
    fn max(&mut self, offset: i16, window_ns: u64, signed: bool, done: crate::asm::Label) {
        let now = self.time();
        self.load_slot(R2, now);
        self.constant(R3, (window_ns / WINDOW_SLOTS).max(1));
        self.alu(Alu::Div, R2, R3);
        self.mov(R3, R2);
        self.alu(Alu::And, R3, 3);
        self.alu(Alu::Lsh, R3, 4);
        self.mov(R4, R7);
        self.alu(Alu::Add, R4, R3);
        let (same, store) = (self.asm.label(), self.asm.label());
        self.asm.push(Insn::Load(Size::DW, R3, R4, offset));
        self.asm.jump_if(Cond::Eq, R3, R2, same);
        self.asm.push(Insn::Store(Size::DW, R4, offset, R2));
        self.asm.jump(store);
        self.asm.place(same);
        self.asm.push(Insn::Load(Size::DW, R3, R4, offset + 8));
        self.asm.jump_if(if signed { Cond::Sle } else { Cond::Le }, R1, R3, done);
        self.asm.place(store);
        self.asm.push(Insn::Store(Size::DW, R4, offset + 8, R1));
    }
}
