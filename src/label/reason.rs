//! What a task waited for, found by the stack with which it slept.

use super::{Decode, DecoderSources, LabelError, number::unsigned, stack::StackDecoder};
use crate::{
    reason::{Reasons, SHORT, UNKNOWN},
    symbol::LOST,
    topology::Topology,
};
use std::{collections::HashMap, sync::Arc};
use tapster_ebpf::typed::{LOST_STACK, NO_STACK, Side, Type};

/// Reasons of stacks by the stack's number.
pub(super) struct ReasonDecoder {
    stack: StackDecoder,
    reasons: Arc<Reasons>,
    /// At most as many as the kernel keeps stacks, because numbers are never reused. A stack keeps its first reason, because
    /// the counts of a series must not decrease.
    known: HashMap<u64, String>,
}

impl ReasonDecoder {
    pub(super) fn of(ty: &Type, from: &DecoderSources<'_>) -> Result<Self, LabelError> {
        let stack = StackDecoder::of(Side::Kernel, ty, from)?;
        Ok(Self { stack, reasons: from.reasons.reasons().clone(), known: HashMap::new() })
    }
}

impl Decode for ReasonDecoder {
    fn decode(&mut self, raw: &[u8]) -> Option<String> {
        let number = unsigned(raw);
        match number {
            NO_STACK => return Some(SHORT.into()),
            LOST_STACK => return Some(LOST.into()),
            _ => {}
        }
        if let Some(reason) = self.known.get(&number) {
            return Some(reason.clone());
        }
        let Some(functions) = self.stack.functions(number) else { return Some(LOST.into()) };
        let reason = self.reasons.of(functions.list.iter().map(String::as_str)).unwrap_or(UNKNOWN).to_owned();
        tracing::debug!(reason, stack = functions.list.join(" "), "a stack got its reason");
        self.known.insert(number, reason.clone());
        Some(reason)
    }

    fn refresh(&mut self, topology: &Arc<Topology>) {
        self.stack.refresh(topology);
    }
}
