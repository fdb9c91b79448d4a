//! A stack as its functions, outermost first, joined by `;`: the input of flame graphs.
//!
//! A stack keeps its first text as long as its probe runs. A function that has a name now may have none later, and a series
//! whose labels changed would begin again at 0 beside one that stopped. The one exception is a text that was made before the
//! symbols were read: the right text replaces it, and the counts move with it.

use super::{Decode, DecoderSources, LabelError, number::unsigned};
use crate::{
    symbol::{Frame, LOST, StackNames, Symbols, frames},
    topology::Topology,
};
use std::{collections::HashMap, io, sync::Arc};
use tapster_ebpf::{
    layout::STACK_HEADER,
    typed::{LOST_STACK, NO_STACK, Side, Type},
};

/// Longest text, in bytes: what stores for series of Prometheus commonly accept. Frames beyond it are left out, outermost
/// first.
const LONGEST: usize = 2048;
/// Stands for frames that were left out.
const CUT: &str = "~cut";
/// Prefixes of functions through which the kernel reaches a program: they are innermost and say nothing about the event.
const WAY: [&str; 9] = [
    "bpf_prog_",
    "bpf_trampoline_",
    "bpf_trace_run",
    "__bpf_trace_",
    "__traceiter_",
    "bpf_get_stack",
    "bpf_get_task_stack",
    "__bpf_prog_",
    "bpf_dispatcher_",
];

/// Returns a kept stack by its number: its header and its frames.
pub(crate) type StackLookup = Box<dyn Fn(u64) -> io::Result<Option<Vec<u8>>> + Send>;

/// Texts of stacks by the stack's number.
pub(super) struct StackDecoder {
    side: Side,
    /// Most frames that are shown.
    frames: usize,
    kept: StackLookup,
    symbols: Arc<Symbols>,
    /// At most as many as the kernel keeps, because numbers are never reused.
    texts: HashMap<u64, String>,
}

impl StackDecoder {
    /// Makes the decoder for a label of this type. Fails if the stacks cannot be opened or the kernel's symbols are hidden.
    pub(super) fn of(side: Side, ty: &Type, from: &DecoderSources<'_>) -> Result<Self, LabelError> {
        let Type::Stack { frames, .. } = ty else {
            unreachable!("the checker gives this decoder stacks only")
        };
        match side {
            Side::Kernel => from.symbols.want_kernel()?,
            Side::User => from.symbols.want_files(),
        }
        let kept = (from.stacks)(side).map_err(LabelError::Stacks)?;
        Ok(Self::new(side, *frames, kept, from.symbols.clone()))
    }

    pub(super) fn new(side: Side, frames: u32, kept: StackLookup, symbols: Arc<Symbols>) -> Self {
        let frames = usize::try_from(frames).expect("a stack has some hundred frames at the most");
        Self { side, frames, kept, symbols, texts: HashMap::new() }
    }

    /// The functions of a kept stack, innermost first; `None` if it is no longer available.
    pub(super) fn functions(&self, number: u64) -> Option<StackNames> {
        self.names((self.kept)(number).ok().flatten()?.as_slice())
    }

    /// The functions in the value of a stack.
    fn names(&self, value: &[u8]) -> Option<StackNames> {
        let (header, rest) = value.split_at_checked(usize::try_from(STACK_HEADER).ok()?)?;
        let header = unsigned(header);
        let process = u32::try_from(header & u64::from(u32::MAX)).ok()?;
        let length = usize::try_from(header >> 32).ok()?;
        let frames: Vec<Frame> = frames(self.side, rest.get(..length)?);
        let mut names = self.symbols.names(&frames, process);
        let is_way = |name: &&String| WAY.iter().any(|begin| name.starts_with(begin));
        let way = names.list.iter().take_while(is_way).count();
        names.list.drain(..way);
        names.list.truncate(self.frames);
        Some(names)
    }
}

/// Names, given innermost first, as one text that begins with the outermost.
fn joined<'n>(names: impl Iterator<Item = &'n String>) -> String {
    let mut left = LONGEST - CUT.len() - 1;
    let mut parts: Vec<&str> = Vec::new();
    for name in names {
        let Some(rest) = left.checked_sub(name.len() + 1) else {
            parts.push(CUT);
            break;
        };
        left = rest;
        parts.push(name);
    }
    parts.reverse();
    parts.join(";")
}

impl Decode for StackDecoder {
    fn decode(&mut self, raw: &[u8]) -> Option<String> {
        let number = unsigned(raw);
        match number {
            NO_STACK => return Some(String::new()),
            LOST_STACK => return Some(LOST.into()),
            _ => {}
        }
        if let Some(text) = self.texts.get(&number) {
            return Some(text.clone());
        }
        let Some(functions) = self.functions(number) else { return Some(LOST.into()) };
        let text = joined(functions.list.iter());
        if functions.are_final {
            self.texts.insert(number, text.clone());
        }
        Some(text)
    }

    fn refresh(&mut self, _: &Arc<Topology>) {
        self.symbols.refresh();
    }
}
