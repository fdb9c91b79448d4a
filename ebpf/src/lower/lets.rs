//! Named expressions: each is computed once, where it is first needed, and kept on the stack as long as it is needed.

use super::Lowering;
use crate::typed::{Typed, TypedEvent};
use std::collections::BTreeSet;

/// Size of a number, bytes.
const WORD: u32 = 8;

/// The places of the values of named expressions.
#[derive(Debug)]
pub(super) struct LetSlots {
    /// The slot of each value, from its computation until it is needed no more.
    pub(super) slots: Vec<Option<i16>>,
    /// Number of other expressions that use each and are not computed yet; `None` for values that are kept to the end.
    waiting: Vec<Option<usize>>,
    /// Free slots of numbers that are needed no more.
    free: Vec<i16>,
}

impl LetSlots {
    pub(super) fn new(event: &TypedEvent) -> Self {
        let mut waiting = vec![Some(0_usize); event.lets.len()];
        let mut reached: BTreeSet<usize> = event.expressions().flat_map(Typed::names).collect();
        for index in &reached {
            waiting[*index] = None;
        }
        let mut following: Vec<usize> = reached.iter().copied().collect();
        while let Some(index) = following.pop() {
            for needed in event.lets[index].names() {
                waiting[needed] = waiting[needed].map(|count| count + 1);
                if reached.insert(needed) {
                    following.push(needed);
                }
            }
        }
        // What a loop computes from, it needs again in the next round.
        if event.each.is_some() {
            waiting.fill(None);
        }
        Self { slots: vec![None; event.lets.len()], waiting, free: Vec::new() }
    }

    /// The slot of a value that was computed.
    pub(super) fn slot(&self, index: usize) -> i16 {
        self.slots[index].expect("a named expression is computed before what uses it")
    }

    /// Notes that an expression was computed that uses these.
    fn release(&mut self, lets: &[Typed], needed: BTreeSet<usize>) {
        for index in needed {
            let Some(waiting) = &mut self.waiting[index] else { continue };
            *waiting = waiting.saturating_sub(1);
            if *waiting == 0
                && let Some(slot) = self.slots[index].take()
                && lets[index].ty.room() == WORD
            {
                self.free.push(slot);
            }
        }
    }
}

impl Lowering<'_> {
    /// Computes the `let` values that these expressions need and that are not computed yet. It must be called only where all
    /// paths of the program pass, so that the values exist for all that follows.
    pub(super) fn prepare<'t>(&mut self, expressions: impl IntoIterator<Item = &'t Typed>) {
        let lets = &self.event.lets;
        for index in expressions.into_iter().flat_map(Typed::names) {
            if self.lets.slots[index].is_some() {
                continue;
            }
            let value = &lets[index];
            self.prepare([value]);
            let size = value.ty.room();
            let free = if size == WORD { self.lets.free.pop() } else { None };
            let slot = free.unwrap_or_else(|| self.stack.take(size));
            self.tidied(|this| this.store_value(value, slot));
            self.lets.slots[index] = Some(slot);
            self.lets.release(lets, value.names());
        }
    }
}
