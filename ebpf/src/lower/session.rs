//! Sessions: one program for the entries and the returns of many functions. It passes eight bytes from an entry to the
//! return, in which the entry leaves the stack pointer: it identifies the call, and since 6.14 the registers at the return no
//! longer contain it. A return whose entry was not seen is not counted.
//!
//! Linux 6.10; source: `kprobe_multi_link_prog_run` in `kernel/trace/bpf_trace.c`.

use super::{CONTEXT, LowerError, Lowering, immediate, offset, uses_frame};
use crate::{
    asm::Assembled,
    host::{HostFacts, Session},
    insn::{Alu, Cond, Insn, KernelFunction, R0, R1, Size, Src},
    layout::Layout,
    point::LinkKind,
    typed::{TypedEvent, TypedProbe},
};

/// Whether a probe is suitable for a session.
pub fn joins_ends(probe: &TypedProbe) -> bool {
    ends(probe).is_some()
}

/// The two events, if they are entry and return of the same functions of the kernel, more than one, and the return needs the
/// frame of its call.
fn ends(probe: &TypedProbe) -> Option<[&TypedEvent; 2]> {
    let [start, end] = probe.events.as_slice() else { return None };
    let are_ends = (start.mechanism.link, end.mechanism.link)
        == (LinkKind::KernelProbe { at_return: false }, LinkKind::KernelProbe { at_return: true });
    let same = start.sites.list.len() > 1 && start.sites.list == end.sites.list;
    (are_ends && same && uses_frame(end)).then_some([start, end])
}

/// Writes the program, if the kernel has sessions and the probe is suitable.
pub(super) fn joined(
    probe: &TypedProbe,
    layout: &Layout,
    host: HostFacts,
) -> Result<Option<Assembled>, LowerError> {
    let (Some(session), Some([start, end])) = (host.session, ends(probe)) else { return Ok(None) };
    let part = |event: &TypedEvent, at_return| {
        let mut lowering = Lowering::new(probe, event, layout, host);
        lowering.end_of_session = Some((session, at_return));
        lowering.assembled()
    };
    let (start, end) = (part(start, false)?, part(end, true)?);
    let distance: usize = start.insns.iter().map(Insn::slots).sum();
    let distance = i16::try_from(distance).map_err(|_| LowerError::Session(distance))?;
    let mut both = Assembled::default();
    both.comments.push((0, "at the return?".into()));
    both.insns.extend([
        Insn::Alu64(Alu::Mov, CONTEXT, Src::Reg(R1)),
        Insn::CallKernel(KernelFunction::SessionIsReturn, session.is_return),
        Insn::Alu64(Alu::Mov, R1, Src::Reg(CONTEXT)),
        // Of a `bool` the rest of the register says nothing.
        Insn::Alu64(Alu::And, R0, Src::Imm(1)),
        Insn::JumpIf(Cond::Ne, R0, Src::Imm(0), distance),
    ]);
    // Jumps are from where they are, so each part stays as it is.
    for part in [start, end] {
        let before = both.insns.len();
        both.comments.extend(part.comments.into_iter().map(|(at, text)| (before + at, text)));
        both.insns.extend(part.insns);
    }
    Ok(Some(both))
}

impl Lowering<'_> {
    /// At the entry, leaves the stack pointer for the return; at the return, stores what was left. The context is in `r1`.
    pub(super) fn carry(&mut self, session: Session, at_return: bool) {
        let stack = offset(self.host.arch.stack_pointer());
        self.asm.comment("what the return has from its entry: where the stack was");
        self.asm.push(Insn::CallKernel(KernelFunction::SessionCookie, session.cookie));
        if at_return {
            let slot = self.stack.take(8);
            self.asm.push(Insn::Load(Size::DW, R1, R0, 0));
            self.store_slot(slot, R1);
            self.entered = Some(slot);
        } else {
            self.asm.push(Insn::Load(Size::DW, R1, CONTEXT, stack));
            // As it will be at the return, which takes that off again.
            let popped = self.host.arch.popped();
            if popped > 0 {
                self.alu(Alu::Add, R1, immediate(popped));
            }
            self.asm.push(Insn::Store(Size::DW, R0, 0, R1));
        }
    }
}
