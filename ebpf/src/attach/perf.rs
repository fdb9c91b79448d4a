//! Timers and counters of the CPU and the kernel, through perf events (4.9): `profile:`, `interval:`, `software:` and
//! `hardware:`. The current task is the one that was interrupted, or that caused the event.
//!
//! Source: `include/uapi/linux/bpf_perf_event.h`, whose registers are followed by two words.

use super::{Arch, Argument, ArgumentValue, Missing, Resolved, Target};
use crate::{
    probe::PerfEvent,
    typed::{Mechanism, Node, Type, Typed},
};

/// Size of the registers in the context.
fn registers(arch: Arch) -> u32 {
    match arch {
        // `struct pt_regs`
        Arch::X86_64 => 21 * 8,
        // `struct user_pt_regs`: x0 to x30, sp, pc, pstate
        Arch::Aarch64 => 34 * 8,
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as the other kinds, of which some are not there")]
pub(super) fn resolve(_: &PerfEvent, target: &Target<'_>) -> Result<Resolved, Missing> {
    let word = |name: &str, index: u32| {
        let node = Node::Field { offset: registers(target.arch) + index * 8, size: 8 };
        Argument {
            name: name.into(),
            ctype: "u64".into(),
            value: Ok(ArgumentValue::Value(Typed::new(node, Type::U64))),
        }
    };
    // The address of a fault is there since 4.18.
    Ok(Resolved::event(Mechanism::PerfEvent, vec![word("sample_period", 0), word("addr", 1)]))
}
